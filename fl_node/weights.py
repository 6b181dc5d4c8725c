"""The model as bytes: its float32 tensors by name, nothing else, so that equal weights have equal digests."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from fl_node import tensorfile
from fl_node.kernels import rows as kernels
from fl_node.tensorfile import Tensors

FORMAT = "roundledger-model/1"


def encode_model(tensors: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    return b"".join(model_pieces(tensors))


def model_pieces(tensors: Mapping[str, np.ndarray[Any, Any]]) -> list[bytes | memoryview]:
    """The bytes of the model, piece by piece; they see the tensors, which must stay as they are."""
    return tensorfile.pieces(tensors, {"format": FORMAT})


def model_digest(tensors: Mapping[str, np.ndarray[Any, Any]]) -> Digest:
    return Digest.of(*model_pieces(tensors))


def decode_model(data: bytes, expected: Digest, max_bytes: int) -> Tensors:
    """The tensors of the model blob `expected`.

    Raises VerificationError: U1 when the bytes have another digest, U2 when they are no canonical, finite float32
    model.
    """
    subject = f"model {expected.short}"
    if (found := Digest.of(data)) != expected:
        raise VerificationError(Code.U1, subject, expected, found)
    tensors, metadata = tensorfile.decode(data, subject, max_bytes)
    if metadata != {"format": FORMAT}:
        raise VerificationError(Code.U2, subject, f"format {FORMAT}", metadata)
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise VerificationError(Code.U2, f"{subject} tensor {name}", "float32", tensor.dtype)
        if not tensor.size:
            raise VerificationError(Code.U2, f"{subject} tensor {name}", "at least one entry", tensor.shape)
        if not all_finite(tensor):
            raise VerificationError(Code.U2, f"{subject} tensor {name}", "finite weights", "NaN or infinity")
    return tensors


def all_finite(tensor: np.ndarray[Any, Any]) -> bool:
    """Whether every entry of a float32 tensor is a number: in one pass, and without memory of its own if the tensor
    has its memory in one piece.
    """
    return bool(kernels.all_finite(tensor.ravel(order="K").view(np.int32)))
