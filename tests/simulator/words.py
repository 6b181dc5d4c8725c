"""Words of the ABI for the model of the contract: what Solidity's `abi.encode` makes of the values that it uses."""

from collections.abc import Sequence
from typing import Any

from eth_utils.crypto import keccak

from chain.protocol import abi


class Array(tuple[bytes, ...]):
    """The last value of an event, of any length: entries that are encoded already."""


def word(value: Any) -> bytes:
    """One static value, or a struct of them: integers and addresses to the right, bytes to the left."""
    if isinstance(value, bytes):
        return value.ljust(32, b"\0")
    if isinstance(value, int | str):
        return abi.word(value)
    return abi.encode(value)


def tail(value: bytes | Array) -> bytes:
    """What stands where the offset of bytes or of an array points to."""
    if isinstance(value, Array):
        return word(len(value)) + b"".join(value)
    return word(len(value)) + value + bytes(-len(value) % 32)


def data(values: Sequence[Any], last: bytes | Array | None) -> bytes:
    """Static values and, if there is one, a last value of any length."""
    static = b"".join(map(word, values))
    return static if last is None else static + word(len(static) + 32) + tail(last)


def struct_hash(kind: str, *values: Any) -> bytes:
    """EIP-712: keccak(type hash || values)."""
    return keccak(keccak(text=kind) + b"".join(map(word, values)))
