"""What the sparse methods share: choosing the largest entries, their messages, and the server's sum."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from . import golomb
from .golomb import Positions
from .interface import Array, Arrays, flatten, unflatten

Weighting = Literal["all", "root"]

_SMALLEST = np.finfo(np.float32).smallest_subnormal


class Sparse(NamedTuple):
    """The entries that one participant sends: positions `[kept]` ascending, and their values, float32 `[kept]`."""

    positions: Positions
    values: Array


def kept_count(rate: float, size: int) -> int:
    """ceil(rate * size), where 0.07 of 100 is 7: in floats the product is a little more."""
    return math.ceil(round(rate * size, 6))


def largest(values: Array, count: int) -> Positions:
    """Positions of the `count` largest magnitudes, ascending; of equal ones the first.

    Zeros are never among them, so there may be fewer. What is not a number counts as largest: a run that diverges
    must show it.
    """
    magnitudes = np.abs(values)
    magnitudes[np.isnan(magnitudes)] = np.inf
    threshold = np.partition(magnitudes, values.size - count)[values.size - count]
    kept = np.flatnonzero(magnitudes >= max(threshold, _SMALLEST))
    surplus = kept.size - count
    if surplus > 0:
        ties = np.flatnonzero(magnitudes[kept] == threshold)
        kept = np.delete(kept, ties[-surplus:])
    return kept


def combine(sent: Sequence[Sparse], weights: Sequence[float], size: int, weighting: Weighting) -> Array:
    """The server's change, float32 `[size]`, added up in float64.

    "all" is the weighted mean over all participants: who does not send an entry counts as a zero. "root" divides each
    entry's weighted sum by the square root of the weight of those who sent it, which lies between that mean and the
    mean over the senders alone.
    """
    total, senders = np.zeros(size), np.zeros(size)
    for (positions, values), weight in zip(sent, weights, strict=True):
        total[positions] += weight * values.astype(np.float64)
        senders[positions] += weight
    if weighting == "root":
        np.divide(total, np.sqrt(senders), out=total, where=senders > 0)
    return total.astype(np.float32)


def encode_floats(sent: Sparse, b: int) -> bytes:
    """Positions, each with its float32 value."""
    return golomb.encode(sent.positions, sent.values.view(np.uint32), 32, b)


def decode_floats(message: bytes, b: int) -> Sparse:
    positions, payloads = golomb.decode(message, 32, b)
    return Sparse(positions, payloads.astype(np.uint32).view(np.float32))


class Sparsifier(ABC):
    """The largest entries of change plus residual over the whole model; what is not sent stays in the residual."""

    HEADER_BYTES: ClassVar[int] = 0
    VALUE_BITS: ClassVar[int]

    def __init__(self, rate: float, residual: bool, weighting: Weighting) -> None:
        assert 0 < rate <= 1
        assert weighting in {"all", "root"}
        self.rate = rate
        self.weighting: Weighting = weighting
        self.residual = residual
        self.residuals: list[Array] = []  # float32 `[parameters]` for each participant

    @abstractmethod
    def represented(self, values: Array) -> Array:
        """The kept values as the server reads them, float32 `[kept]`."""

    def round(self, changes: Sequence[Arrays], weights: Sequence[float]) -> tuple[Arrays, int]:
        wanted = [flatten(change) for change in changes]
        size = wanted[0].size
        count = kept_count(self.rate, size)
        b = golomb.rice_parameter(count, size)
        if self.residuals:
            wanted = [change + residual for change, residual in zip(wanted, self.residuals, strict=True)]
        sent, upload = [], 0
        for vector in wanted:
            kept = largest(vector, count)
            values = self.represented(vector[kept])
            vector[kept] -= values
            sent.append(Sparse(kept, values))
            upload += self.HEADER_BYTES + golomb.encoded_length(kept, self.VALUE_BITS, b)
        if self.residual:
            self.residuals = wanted
        return unflatten(combine(sent, weights, size, self.weighting), changes[0]), upload
