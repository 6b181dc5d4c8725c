"""The part of the Ethereum ABI that the ledger uses: static 32-byte words, and at most one value of any length (bytes,
or an array of static values) at the very end.

A struct or event is a frozen dataclass whose fields carry their Solidity type, so its signature, its encoding and its
EIP-712 type come from one place. Reading is strict: a word with bits that its type does not have is an error, as in
Solidity.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any, cast, get_args, get_type_hints

from eth_utils.address import to_checksum_address

from chain.protocol.digest import Digest
from chain.protocol.keccak import keccak

WORD = 32

U8 = Annotated[int, "uint8"]
U16 = Annotated[int, "uint16"]
U32 = Annotated[int, "uint32"]
U64 = Annotated[int, "uint64"]
U128 = Annotated[int, "uint128"]
U256 = Annotated[int, "uint256"]
Address = Annotated[str, "address"]  # EIP-55 spelling
Hash = Annotated[bytes, "bytes32"]  # keccak
Hash28 = Annotated[bytes, "bytes28"]  # keccak, cut to 224 bits: a seal, the head
Sha256 = Annotated[Digest, "bytes32"]
Tail = Annotated[bytes, "bytes"]  # last field only; so is `Annotated[tuple[X, ...], X]`, an array of X
Addresses = Annotated[tuple[str, ...], "address[]"]  # last field only


class AbiError(ValueError):
    """The bytes are not an encoding of the type."""


@functools.lru_cache(maxsize=65_536)
def checksum_address(raw: bytes) -> str:
    return str(to_checksum_address(raw))


@functools.cache
def solidity_fields(cls: Any) -> tuple[tuple[str, Any, str], ...]:
    """(name, Python type, Solidity type) of every field; a nested struct has the Solidity type of a tuple."""
    hints = get_type_hints(cls, include_extras=True)
    found = []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            found.append((field.name, hint, tuple_type(hint)))
        else:
            python, solidity = get_args(hint)
            if dataclasses.is_dataclass(solidity):
                python, solidity = solidity, tuple_type(solidity) + "[]"
            found.append((field.name, python, solidity))
    return tuple(found)


def tuple_type(cls: Any) -> str:
    return "(" + ",".join(kind for _, _, kind in solidity_fields(cls)) + ")"


@functools.cache
def selector(cls: Any) -> bytes:
    """Topic 0 of an event: keccak of `Name(type,...)`."""
    return keccak(f"{cls.__name__}{tuple_type(cls)}".encode())


def camel_case(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def eip712_type(cls: Any) -> str:
    """The EIP-712 `encodeType` of a flat struct, with Solidity's spelling of the names."""
    fields = ",".join(f"{kind} {camel_case(name)}" for name, _, kind in solidity_fields(cls))
    return f"{cls.__name__}({fields})"


def word(value: int | bytes | str) -> bytes:
    """One static value as 32 bytes: an integer or an address to the right, bytes to the left."""
    if isinstance(value, int):
        return value.to_bytes(WORD, "big")
    if isinstance(value, str):
        return bytes.fromhex(value.removeprefix("0x")).rjust(WORD, b"\0")
    return value.ljust(WORD, b"\0")


def encode(value: Any) -> bytes:
    """The words of a struct without a tail, in order."""
    words, cls = [], cast(Any, type(value))
    for name, _, _ in solidity_fields(cls):
        item = getattr(value, name)
        words.append(encode(item) if dataclasses.is_dataclass(item) else word(item))
    return b"".join(words)


def decode(cls: Any, words: bytes) -> Any:
    """The inverse: `words` must hold exactly the fields of `cls`, and after them its tail if it has one. Raises
    AbiError.
    """
    reader, static = _readers(cls)
    position, values = 0, []
    if len(words) < static * WORD:
        raise AbiError(f"{cls.__name__}: {len(words)} bytes, at least {static * WORD} needed")
    for read, size in reader:
        if size:
            values.append(read(words[position : position + size]))
            position += size
        else:
            values.append(read(words[position:]))
            position = len(words)
    if position != len(words):
        raise AbiError(f"{cls.__name__}: {len(words) - position} bytes too many")
    return cls(*values)


def tail_offset(cls: Any, indexed: int) -> int | None:
    """What announces the tail of an event in its data, in bytes from there: it follows the static values and this word
    itself. None without a tail. `indexed` leading fields are topics.
    """
    if all(size for _, size in _readers(cls)[0]):
        return None
    return (_readers(cls)[1] - indexed + 1) * WORD


def _read_bytes(rest: bytes) -> bytes:
    length = int.from_bytes(rest[:WORD], "big")
    if (
        len(rest) < WORD
        or length > len(rest)
        or len(rest) != WORD + -(-length // WORD) * WORD
        or any(rest[WORD + length :])
    ):
        raise AbiError("malformed bytes at the end")
    return rest[WORD : WORD + length]


def _read_array(read: Callable[[bytes], Any], size: int, rest: bytes) -> tuple[Any, ...]:
    count = int.from_bytes(rest[:WORD], "big")
    if len(rest) < WORD or len(rest) != WORD + count * size:
        raise AbiError("a malformed array at the end")
    return tuple(read(rest[start : start + size]) for start in range(WORD, len(rest), size))


@functools.cache
def _readers(cls: Any) -> tuple[tuple[tuple[Callable[[bytes], Any], int], ...], int]:
    """For every field how to read it and its size (0: the tail), and the words of the static part."""
    readers = tuple(_reader(python, kind) for _, python, kind in solidity_fields(cls))
    return readers, sum(size // WORD for _, size in readers)


def _reader(python: Any, kind: str) -> tuple[Callable[[bytes], Any], int]:
    """How to read a value of this type, and its size; 0 if it has any."""
    if kind.endswith("[]"):
        return functools.partial(_read_array, *_reader(python, kind.removesuffix("[]"))), 0
    if dataclasses.is_dataclass(python):
        return functools.partial(decode, python), WORD * len(list(_leaves(python)))
    if kind == "bytes":
        return _read_bytes, 0
    if kind == "bytes32":
        return python, WORD
    if kind in _READERS:
        return _READERS[kind], WORD
    return functools.partial(_read_uint, int(kind.removeprefix("uint"))), WORD


def _leaves(cls: Any) -> Iterator[str]:
    for _, python, kind in solidity_fields(cls):
        if dataclasses.is_dataclass(python):
            yield from _leaves(python)
        else:
            yield kind


def _read_uint(bits: int, value: bytes) -> int:
    number = int.from_bytes(value, "big")
    if number >> bits:
        raise AbiError(f"{number} does not fit uint{bits}")
    return number


def _read_bytes28(value: bytes) -> bytes:
    if any(value[28:]):
        raise AbiError("bytes28 has 28 bytes")
    return value[:28]


def _read_address(value: bytes) -> str:
    if any(value[:12]):
        raise AbiError("an address has 20 bytes")
    return checksum_address(value[12:])


_READERS: dict[str, Callable[[bytes], Any]] = {"address": _read_address, "bytes28": _read_bytes28}
