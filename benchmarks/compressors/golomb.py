"""Golomb-Rice code of ascending positions (as in Sattler et al. 2020), each with a payload of fixed width.

An entry is written as `gap >> b` ones, a zero, the low `b` bits of the gap, and the payload, highest bits first; the
gap is the number of entries skipped since the last one. The last byte is filled up with ones, which never complete a
code: the message needs no count. With the payloads in between, its length is the same as the paper's, where the values
stand apart from the positions.
"""

import math
from typing import Any

import numpy as np

Positions = np.ndarray[Any, np.dtype[np.int64]]  # `[kept]`, ascending, into the model as one vector
Payloads = np.ndarray[Any, np.dtype[np.uint64]]  # `[kept]`

_GOLDEN = (math.sqrt(5) + 1) / 2


def rice_parameter(count: int, size: int) -> int:
    """The paper's optimal b for `count` of `size` entries at random: 1 + floor(log2(ln(golden - 1) / ln(1 - p))).

    Never below zero, where the formula ends up for p above 0.62.
    """
    share = count / size
    if share >= 1:
        return 0
    return max(0, 1 + math.floor(math.log2(math.log(_GOLDEN - 1) / math.log1p(-share))))


def encoded_length(positions: Positions, payload_bits: int, b: int) -> int:
    """The bytes of `encode` without building them."""
    bits = int((_gaps(positions) >> b).sum()) + positions.size * (1 + b + payload_bits)
    return -(-bits // 8)


def encode(positions: Positions, payloads: Payloads, payload_bits: int, b: int) -> bytes:
    """The message; `payload_bits + b` is at most 64."""
    gaps = _gaps(positions)
    width = b + payload_bits  # of what follows the zero
    low = (gaps & ((1 << b) - 1)).astype(np.uint64) << np.uint64(payload_bits) | payloads.astype(np.uint64)
    ends = np.cumsum((gaps >> b) + 1 + width)
    starts = ends - width
    bits = np.ones(8 * encoded_length(positions, payload_bits, b), np.uint8)
    bits[starts - 1] = 0
    shifts = np.arange(width, dtype=np.uint64)[::-1]
    bits[starts[:, None] + np.arange(width)] = low[:, None] >> shifts & np.uint64(1)
    return np.packbits(bits).tobytes()


def decode(message: bytes, payload_bits: int, b: int) -> tuple[Positions, Payloads]:
    """What `encode` was given. One step at a time, since each code's start is the end of the one before it."""
    bits = (np.unpackbits(np.frombuffer(message, np.uint8)) + ord("0")).tobytes().decode()
    gaps: list[int] = []
    payloads: list[int] = []
    start = 0
    while (zero := bits.find("0", start)) >= 0:
        end = zero + 1 + b + payload_bits
        low = int(bits[zero + 1 : end] or "0", 2)
        gaps.append((zero - start) << b | low >> payload_bits)
        payloads.append(low & ((1 << payload_bits) - 1))
        start = end
    return np.cumsum(np.array(gaps, np.int64) + 1) - 1, np.array(payloads, np.uint64)


def _gaps(positions: Positions) -> Positions:
    """Entries skipped before each position, int64 `[kept]`."""
    return np.diff(positions, prepend=-1) - 1
