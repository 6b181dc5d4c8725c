"""Squared channel norms, exactly: whole numbers below 2**128 in units of 2**-60, many at a time.

Ranking squares ranks the norms. One by one they are Python integers; together they are two columns of 64 bits, which
are compared and written out without making a Python object of each.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fl_node.kernels import rows as kernels

LIMBS = 4  # of 32 bits each, the lowest first, that kernels add norms up in; they may grow beyond for a while
LARGEST = (1 << 128) - 1
_HALF = 64
_LOW = (1 << _HALF) - 1

Halves = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True, slots=True, eq=False)
class Norms:
    """Squared norms: uint64 `[n, 2]`, the upper half first."""

    halves: Halves

    @classmethod
    def of(cls, norms: Iterable[int]) -> "Norms":
        pairs = [(norm >> _HALF, norm & _LOW) for norm in norms]
        return cls(np.array(pairs, np.uint64).reshape(-1, 2))

    @classmethod
    def of_limbs(cls, limbs: np.ndarray[Any, np.dtype[np.int64]]) -> "Norms":
        halves = np.empty((len(limbs), 2), np.uint64)
        kernels.carry(limbs, halves)
        return cls(halves)

    @classmethod
    def joined(cls, parts: Iterable["Norms"]) -> "Norms":
        return cls(np.concatenate([np.empty((0, 2), np.uint64), *(part.halves for part in parts)]))

    def __len__(self) -> int:
        return len(self.halves)

    def __iter__(self) -> Iterator[int]:
        return (high << _HALF | low for high, low in self.halves.tolist())

    def __getitem__(self, at: int) -> int:
        high, low = self.halves[at].tolist()
        return int(high << _HALF | low)

    @property
    def smallest(self) -> int:
        """0 if there are none."""
        if not len(self):
            return 0
        high = self.halves[:, 0].min()
        return int(high) << _HALF | int(self.halves[self.halves[:, 0] == high, 1].min())

    @property
    def zero(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of them are."""
        zero: np.ndarray[Any, np.dtype[np.bool_]] = (self.halves[:, 0] | self.halves[:, 1]) == 0
        return zero

    def ranked(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Their places, the largest norm first; ties stay in ascending order."""
        return np.lexsort((~self.halves[:, 1], ~self.halves[:, 0]))
