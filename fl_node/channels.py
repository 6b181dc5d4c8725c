"""Channel norms, and the channel table that commits to what was selected."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ldexp, sqrt
from typing import Any

import numpy as np

from chain.protocol import merkle
from chain.protocol.digest import Digest
from fl_node.norms import Norms
from fl_node.quantise import EXPONENT_MIN, Integers, Quantised
from fl_node.sparse import Sparse

LEAF = 64  # channels: hashing them one by one would take longer than hashing a whole sparse update
_ROW = np.dtype([("channel", ">u4"), ("squared norm", ">u8", 2)])

Codes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class ChannelTable:
    """The channels that were sent, of how many, and the squared norm of each. `sent` ascends."""

    channels: int
    sent: Integers
    squared_norms: Norms

    @property
    def root(self) -> Digest:
        """RFC 6962 root over the sent channels in order, LEAF of them a leaf (the last one may hold fewer). Of each
        u32 channel || u128 squared norm, big endian.
        """
        table = np.empty(len(self.sent), _ROW)
        table["channel"], table["squared norm"] = self.sent, self.squared_norms.halves
        leaves, size = table.tobytes(), LEAF * _ROW.itemsize
        return merkle.root(leaves[start : start + size] for start in range(0, len(leaves), size))


def channel_norms(layers: Iterable[Quantised | Sparse]) -> Norms:
    """The squared norms of all channels of these layers, layer after layer."""
    return Norms.joined(layer.squared_norms() for layer in layers)


def norm_code(squared: int) -> int:
    """A squared norm in one byte, for the common selection: its power of two and the bit behind it; 0 for zero."""
    if squared < 2:
        return squared
    bits = squared.bit_length()
    return 2 * bits - 2 + (squared >> (bits - 2) & 1)


def norm_of_code(code: int) -> int:
    """The smallest squared norm with this code."""
    return code if code < 2 else (2 + code % 2) << (code // 2 - 1)


def as_float(squared: int) -> float:
    """The norm that a squared one stands for, for people."""
    return ldexp(sqrt(squared), EXPONENT_MIN)
