"""Sparse ternary compression (Sattler et al., Robust and communication-efficient federated learning, TNNLS 2020)."""

import numpy as np

from . import golomb
from .interface import Array
from .sparse import Sparse, Sparsifier, Weighting


class STC(Sparsifier):
    """The ceil(rate * parameters) largest entries of the whole model, each as its sign times their mean magnitude mu.

    A message is mu as a float32, then positions in Golomb code with a sign bit each. The upstream half of the paper:
    the server keeps no residual and sends a dense model.
    """

    HEADER_BYTES = 4  # mu
    VALUE_BITS = 1

    def __init__(self, rate: float, weighting: Weighting = "all") -> None:
        super().__init__(rate, residual=True, weighting=weighting)

    def represented(self, values: Array) -> Array:
        if values.size == 0:
            return values
        mu = np.abs(values).mean(dtype=np.float64).astype(np.float32)
        signed: Array = np.copysign(mu, values)
        return signed


def encode_ternary(sent: Sparse, b: int) -> bytes:
    """`sent.values` are all mu or -mu."""
    mu = np.abs(sent.values[:1]) if sent.values.size else np.zeros(1, np.float32)
    return mu.astype("<f4").tobytes() + golomb.encode(sent.positions, np.signbit(sent.values), 1, b)


def decode_ternary(message: bytes, b: int) -> Sparse:
    mu = np.frombuffer(message[:4], "<f4").astype(np.float32)
    positions, negative = golomb.decode(message[4:], 1, b)
    return Sparse(positions, np.where(negative, -mu, mu))
