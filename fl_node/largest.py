"""The largest entries of the gradient, of all its matrices together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fl_node.gradient import Matrix
from fl_node.kernels import sparse as kernels
from fl_node.kernels.compiled import MAGNITUDE
from fl_node.threads import Mapped

SAMPLE = 1 << 17  # entries, at most
MARGIN, SPARE = 0.25, 200  # more than should reach the bound: a share of them, and in the sample

Bits = np.ndarray[Any, np.dtype[np.int32]]
Unsigned = np.ndarray[Any, np.dtype[np.uint32]]


@dataclass(frozen=True, slots=True)
class Listed:
    """Some entries of float32 `[rows, width]`: how many of each row, their columns, ascending in it, and their bits."""

    counts: Unsigned
    columns: Unsigned
    bits: Bits
    width: int


def magnitude_cut(matrices: Sequence[Matrix], entries: int, mapped: Mapped = map) -> int:
    """The smallest magnitude, as float32 bits, that at most `entries` entries reach; 1 if none needs to be left out.

    An exact order statistic: magnitudes of floats are ordered as their bits.
    """
    return 1 if entries >= sum(matrix.size for matrix in matrices) else largest_entries(matrices, entries, mapped)[0]


def largest_entries(matrices: Sequence[Matrix], entries: int, mapped: Mapped = map) -> tuple[int, list[Listed]]:
    """The magnitude cut, and of every matrix the entries that reach it, perhaps among others.

    Of many entries a sample tells which are surely too small, so that one pass over all leaves few to choose from;
    should it mislead, the choice is among all.
    """
    step = -(-sum(matrix.size for matrix in matrices) // SAMPLE) | 1
    magnitudes = [as_bits(matrix).ravel()[::step] & MAGNITUDE for matrix in matrices]
    if step > 1:
        bound = _cut(magnitudes, (int(entries * (1 + MARGIN)) + SPARE * step) // step)
        rooms = [int(np.count_nonzero(each >= bound) * step * (1 + MARGIN)) + SPARE * step for each in magnitudes]
        listed = _all_reaching(matrices, bound, rooms, mapped)
        if listed is not None and (bound == 1 or sum(len(each.bits) for each in listed) > entries):
            return _cut([each.bits & MAGNITUDE for each in listed], entries), listed
        magnitudes = [as_bits(matrix).ravel() & MAGNITUDE for matrix in matrices]
    cut = _cut(magnitudes, entries)
    listed = _all_reaching(matrices, cut, [entries] * len(matrices), mapped)
    assert listed is not None, "more entries reach the cut than it was made for"  # noqa: S101
    return cut, listed


def _cut(magnitudes: Sequence[Bits], most: int) -> int:
    """The smallest magnitude that at most so many of these reach; never zero."""
    if (place := sum(map(len, magnitudes)) - 1 - most) < 0:
        return 1
    return int(np.partition(np.concatenate(magnitudes), place)[place]) + 1


def _all_reaching(matrices: Sequence[Matrix], bound: int, rooms: Sequence[int], mapped: Mapped) -> list[Listed] | None:
    """Of each matrix the entries that reach `bound`; None if one has more than there is room for."""
    found = mapped(lambda each: _reaching(*each, bound), zip(matrices, rooms, strict=True))
    listed = [each for each in found if each is not None]
    return listed if len(listed) == len(matrices) else None


def _reaching(matrix: Matrix, most: int, bound: int) -> Listed | None:
    rows, width = matrix.shape
    room = min(most + width, matrix.size)  # whether a row fits is asked before it is listed
    counts, columns, bits = np.empty(rows, np.uint32), np.empty(room, np.uint32), np.empty(room, np.int32)
    count = kernels.list_reaching(as_bits(matrix), np.int32(bound), counts, columns, bits)
    return Listed(counts, columns[:count], bits[:count], width) if count >= 0 else None


def as_bits(matrix: Matrix) -> Bits:
    """The same memory, if it is contiguous. Without the sign, the bits of float32s are ordered as their magnitudes."""
    return np.ascontiguousarray(matrix).view(np.int32)
