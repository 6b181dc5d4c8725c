"""Named tensors as bytes: safetensors with one canonical layout, used for updates, models and residuals alike.

The library fixes the order of tensors; all metadata goes under a single key as canonical JSON (RFC 8785), because the
library does not fix the order of several. Decoding re-encodes and compares, so every content has exactly one
spelling. Pure: bytes only.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import rfc8785
import safetensors
import safetensors.numpy
from pydantic_core import from_json

from chain.protocol.errors import Code, VerificationError

METADATA_KEY = "roundledger"
MAX_HEADER = 1 << 20  # bytes of safetensors header; a model of ten thousand tensors needs less

Tensors = dict[str, np.ndarray[Any, Any]]


def encode(tensors: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, Any]) -> bytes:
    """The canonical bytes. Arrays are stored in C order, little endian."""
    # asarray and not ascontiguousarray, which would give a tensor without axes one
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    text = rfc8785.dumps(dict(metadata)).decode()
    return bytes(safetensors.numpy.save(contiguous, {METADATA_KEY: text}))


def decode(data: bytes, subject: str, max_bytes: int) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and metadata of `data`. Raises VerificationError (U2) unless `data` is exactly what `encode` would
    write.
    """
    if len(data) > max_bytes:
        raise VerificationError(Code.U2, subject, f"at most {max_bytes} bytes", len(data))
    header_size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or header_size > min(MAX_HEADER, len(data) - 8):
        raise VerificationError(Code.U2, subject, f"a header of at most {MAX_HEADER} bytes", header_size)
    try:
        # pydantic's reader ends at a depth of 200; json.loads may crash the process once a library raised the
        # recursion limit.
        metadata = from_json(from_json(data[8 : 8 + header_size])["__metadata__"][METADATA_KEY])
        tensors = safetensors.numpy.load(data)
        again = encode(tensors, metadata)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise VerificationError(Code.U2, subject, "a canonical safetensors file", _brief(error)) from None
    except (safetensors.SafetensorError, rfc8785.CanonicalizationError) as error:
        raise VerificationError(Code.U2, subject, "a canonical safetensors file", _brief(error)) from None
    if again != data:
        raise VerificationError(Code.U2, subject, "the canonical byte layout", "another layout of the same content")
    return tensors, metadata


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
