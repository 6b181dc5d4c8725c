"""Damage to bytes: what a careless disk, a broken server or an attacker makes of a valid encoding."""

import random
import re
from collections.abc import Callable, Sequence

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

# Around every limit that a reader of counts, sizes and offsets may have.
NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53, 2**63 - 1, 2**64 - 1)
DEPTHS = (2, 50, 199, 5000, 100_000)
# What may stand where a text has a value.
WORDS = (
    *(b"null", b"true", b"[]", b"{}", b'""', b'"\\u0000"', b'"\\ud800"', b"NaN", b"nan", b"inf", b"-inf", b"-0", b"-1"),
    *(b"0.1", b"1e5", b"1e400", b"1e-400", b"1e999999999", b"1e99999999999999999999", b"0x10", b"1979-05-27", b"'x'"),
    *(str(2**bits).encode() for bits in (31, 32, 53, 63, 64, 127, 1024)),
    b"9" * 5000,
)
TOKEN = re.compile(rb'"[^"]*"|-?\d[\d.eE+-]*|true|false|null')


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the valid encodings with one to four kinds of damage; now and then bytes that never were one."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.choice((0, 1, 8, 64, 500)))
    data = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        data = rng.choice(MUTATIONS)(rng, data, seeds)
    return data


def _flip(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return b"\0"
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _set(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.choice(NUMBERS) & 0xFF]) + data[at + 1 :]


def _truncate(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _extend(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data + rng.choice((b"\0", b" ", b"\n", bytes(32), rng.randbytes(9), data))


def _cut(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    return data[:start] + data[stop:]


def _repeat(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(data) + 1)
    stop = start + rng.choice((1, 8, 32, 64))
    return data[:start] + data[start:stop] * rng.choice((2, 3, 100)) + data[stop:]


def _swap(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    size = rng.choice((1, 4, 8, 32))
    first, second = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    if second < first + size:
        return data
    left, right = data[first : first + size], data[second : second + size]
    return data[:first] + right + data[first + size : second] + left + data[second + size :]


def _splice(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = rng.choice(seeds)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _length(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A count, size or offset that lies: where binary formats have them, and anywhere else."""
    size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
    at = rng.choice((0, 1, 5, rng.randrange(len(data) + 1), rng.randrange(len(data) + 1) // 8 * 8))
    value = rng.choice((*NUMBERS, len(data), len(data) - at)) % 256**size
    return data[:at] + value.to_bytes(size, order) + data[at + size :]  # type: ignore[arg-type]


def _token(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Another value, or a very deep one, where a text has a value."""
    found = list(TOKEN.finditer(data[: 1 << 16]))
    if not found:
        return data
    start, stop = rng.choice(found).span()
    if rng.random() < 0.15:
        depth, (left, right) = rng.choice(DEPTHS), rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"{a=", b"}")))
        return data[:start] + left * depth + b"1" + right * depth + data[stop:]
    return data[:start] + rng.choice(WORDS) + data[stop:]


MUTATIONS: tuple[Mutation, ...] = (
    _flip, _flip, _set, _truncate, _extend, _cut, _repeat, _swap, _splice, _length, _length, _token, _token,
)  # fmt: skip
