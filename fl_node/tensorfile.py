"""Named tensors as bytes: safetensors with one canonical layout, used for updates, models and residuals alike.

The layout is that of the library's own writer (safetensors 0.8), with all metadata under a single key as canonical JSON
(RFC 8785). Written and read here, without the library: it copies everything three times, and what it accepts has more
than one spelling. Decoding builds the header again from what it says and compares, so every content has exactly one
spelling, and no offset is ever taken from a file. Pure: bytes only.
"""

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import rfc8785
from pydantic_core import from_json

from chain.protocol.errors import Code, VerificationError

METADATA_KEY = "roundledger"
MAX_AXES, MAX_ENTRIES = 16, 1 << 48  # of a tensor: more is none, and NumPy would refuse it in words of its own
MAX_HEADER = 1 << 20  # bytes of safetensors header; a model of ten thousand tensors needs less
# The library's names, in the order in which it writes them: the last ones first, equal ones by name.
DTYPES = {
    name: np.dtype(kind).newbyteorder("<")
    for name, kind in zip(
        ("U8", "I8", "I16", "U16", "F16", "I32", "U32", "F32", "F64", "I64", "U64"),
        ("u1", "i1", "i2", "u2", "f2", "i4", "u4", "f4", "f8", "i8", "u8"),
        strict=True,
    )
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ORDER = {name: at for at, name in enumerate(reversed(DTYPES))}

Tensors = dict[str, np.ndarray[Any, Any]]
Shapes = dict[str, tuple[str, tuple[int, ...]]]  # name -> (dtype, shape)


def encode(tensors: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, Any]) -> bytes:
    """The canonical bytes. Arrays are stored in C order, little endian. Raises KeyError for another kind of number."""
    return b"".join(pieces(tensors, metadata))


def pieces(tensors: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, Any]) -> list[bytes | memoryview]:
    """The same, piece by piece: where they are written to a file, nobody needs them in one place."""
    # asarray and not ascontiguousarray, which would give a tensor without axes one
    plain = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in tensors.items()}
    shapes = _ordered({name: (_NAMES[array.dtype], array.shape) for name, array in plain.items()})
    head = _header(shapes, rfc8785.dumps(dict(metadata)).decode())
    parts = (plain[name].reshape(-1).view(np.uint8).data for name in shapes)
    return [len(head).to_bytes(8, "little"), head, *parts]


def decode(data: bytes, subject: str, max_bytes: int, max_header: int = MAX_HEADER) -> tuple[Tensors, dict[str, Any]]:
    """Tensors (read-only views of `data`) and metadata. Raises VerificationError (U2) unless `data` is exactly what
    `encode` would write.
    """
    if len(data) > max_bytes:
        raise VerificationError(Code.U2, subject, f"at most {max_bytes} bytes", len(data))
    header_size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or header_size > min(max_header, len(data) - 8):
        raise VerificationError(Code.U2, subject, f"a header of at most {max_header} bytes", header_size)
    head = data[8 : 8 + header_size]
    try:
        # pydantic's reader ends at a depth of 200; json.loads may crash the process once a library raised the
        # recursion limit.
        said = from_json(head)
        metadata = from_json(said.pop("__metadata__")[METADATA_KEY])
        shapes = _ordered({name: (tensor["dtype"], _shape(tensor["shape"])) for name, tensor in said.items()})
        again = _header(shapes, rfc8785.dumps(metadata).decode())
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, rfc8785.CanonicalizationError) as error:
        found = f"{type(error).__name__}: {str(error)[:200]}"
        raise VerificationError(Code.U2, subject, "a canonical safetensors file", found) from None
    size = 8 + header_size + sum(_size(*shape) for shape in shapes.values())
    if again != head or len(data) != size or not isinstance(metadata, dict):
        raise VerificationError(Code.U2, subject, "the canonical byte layout", "another layout of the same content")
    tensors, at = {}, 8 + header_size
    for name, (dtype, shape) in shapes.items():
        tensors[name] = np.frombuffer(data, DTYPES[dtype], prod(shape), at).reshape(shape)
        at += _size(dtype, shape)
    return tensors, metadata


def _ordered(shapes: Shapes) -> Shapes:
    return dict(sorted(shapes.items(), key=lambda item: (_ORDER[item[1][0]], item[0])))


def _header(shapes: Shapes, metadata: str) -> bytes:
    """The safetensors header of tensors in this order, padded with spaces to a multiple of eight bytes."""
    entries: dict[str, Any] = {"__metadata__": {METADATA_KEY: metadata}}
    stop = 0
    for name, (dtype, shape) in shapes.items():
        start, stop = stop, stop + _size(dtype, shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
    head = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    return head + b" " * (-len(head) % 8)


def _shape(said: Any) -> tuple[int, ...]:
    if not isinstance(said, list) or len(said) > MAX_AXES:
        raise ValueError(f"no shape: {str(said)[:50]}")
    if not all(type(side) is int and 0 <= side <= MAX_ENTRIES for side in said):
        raise ValueError(f"no shape: {str(said)[:50]}")
    if prod(max(side, 1) for side in said) > MAX_ENTRIES:  # beside a side of 0, too: NumPy multiplies the others
        raise ValueError(f"a tensor too large: {str(said)[:50]}")
    return tuple(said)


def _size(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor."""
    return DTYPES[dtype].itemsize * prod(shape)
