"""Rows of values of which few differ from zero: those alone, row after row (compressed sparse rows).

The same values as `quantise.Quantised`, with the same methods. What is done with such rows costs time for the entries
that differ from zero, not for all.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from chain.protocol.rules import CompressionRules
from fl_node.gradient import Matrix
from fl_node.kernels import sparse as kernels
from fl_node.largest import Listed, Unsigned
from fl_node.norms import LIMBS, Norms
from fl_node.quantise import (
    EXPONENT_MIN,
    SCALES,
    Elements,
    Exponents,
    Integers,
    Largest,
    Quantised,
    blocks,
    one_magnitude,
    one_of_all,
    scales_are_canonical,
)


@dataclass(frozen=True)
class Sparse:
    """`counts[row]` entries of every row: `columns` ascend within it, and `elements` are not zero. Exponents int8
    `[rows, blocks]`, as in `Quantised`.
    """

    counts: Unsigned
    columns: Unsigned
    elements: Elements
    exponents: Exponents
    block: int
    width: int

    @classmethod
    def of(cls, dense: Quantised) -> "Sparse":
        counts = np.empty(len(dense.elements), np.uint32)
        kernels.count_entries(dense.elements, counts)
        size = int(counts.sum(dtype=np.int64))
        columns, elements = np.empty(size, np.uint32), np.empty(size, np.int8)
        kernels.list_entries(dense.elements, columns, elements)
        return cls(counts, columns, elements, dense.exponents, dense.block, dense.width)

    @classmethod
    def signs_of(cls, listed: Listed, rules: CompressionRules, cut: int) -> "Sparse":
        """What `quantise` with 2 bits makes of the matrix, of which the entries that reach `cut` are listed."""
        rows, width, size = len(listed.counts), listed.width, len(listed.bits)
        counts, columns, elements = np.empty(rows, np.uint32), np.empty(size, np.uint32), np.empty(size, np.int8)
        count, total = kernels.list_signs(
            listed.counts, listed.columns, listed.bits, np.int32(cut), counts, columns, elements
        )
        exponents = np.full((rows, blocks(width, rules.block)), EXPONENT_MIN, np.int8)
        found = cls(counts, columns[:count], elements[:count], exponents, rules.block, width)
        if count:
            magnitude, exponent = one_of_all(count, total)
            exponents[found.filled] = exponent
            found.elements[...] *= np.int8(magnitude)
        return found

    @cached_property
    def bounds(self) -> Integers:
        """Where the entries of each row begin, and where the last ones end, int64 `[rows + 1]`."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts, dtype=np.int64)])

    @property
    def entries(self) -> int:
        """How many differ from zero."""
        return len(self.elements)

    def rows(self, chosen: slice | Integers) -> "Sparse":
        """Those rows: a piece of them, or these numbers, ascending."""
        if isinstance(chosen, slice):
            bounds = self.bounds
            start, stop, _ = chosen.indices(len(self.counts))
            entries: Any = slice(int(bounds[start]), int(bounds[max(start, stop)]))
        else:
            kept = np.zeros(len(self.counts), bool)
            kept[chosen] = True
            entries = np.repeat(kept, self.counts)
        return Sparse(
            self.counts[chosen],
            self.columns[entries],
            self.elements[entries],
            self.exponents[chosen],
            self.block,
            self.width,
        )

    def dense(self) -> Quantised:
        elements = np.zeros((len(self.counts), self.width), np.int8)
        elements[np.repeat(np.arange(len(self.counts)), self.counts), self.columns] = self.elements
        return Quantised(elements, self.exponents, self.block)

    def values(self) -> Matrix:
        """The values as float32 `[rows, width]`, exactly."""
        return self.dense().values()

    def squared_norms(self) -> Norms:
        limbs = np.zeros((len(self.counts), LIMBS), np.int64)
        kernels.norm_limbs(self.bounds, self.columns, self.elements, self.exponents, self.block, EXPONENT_MIN, limbs)
        return Norms.of_limbs(limbs)

    def largest(self) -> Largest:
        """The largest magnitude of each block, int16 `[rows, blocks]`.

        Raises ValueError when these are no rows: columns that do not ascend or lie outside, or a zero element.
        """
        largest = np.zeros((len(self.counts), blocks(self.width, self.block)), np.int16)
        if not kernels.largest_elements(self.bounds, self.columns, self.elements, self.block, self.width, largest):
            raise ValueError("columns that do not ascend, or a zero among the elements")
        return largest

    @property
    def filled(self) -> Any:
        """Which blocks have entries that differ from zero, bool `[rows, blocks]`."""
        return self.counts[:, None] > 0 if self.exponents.shape[1] == 1 else self.largest() > 0

    def is_canonical(self, rules: CompressionRules) -> bool:
        try:
            canonical = scales_are_canonical(self.largest(), self.exponents, rules)
            return canonical and (rules.bits != 2 or self.magnitude() >= 0)
        except ValueError:
            return False

    def magnitude(self) -> int:
        """As `Quantised.magnitude`."""
        return one_magnitude(self.elements)

    def signs(self) -> "Sparse":
        return replace(self, elements=np.sign(self.elements))

    def take_from(self, matrix: Matrix, channels: Integers) -> None:
        """`matrix[channels] -= values`, exactly."""
        kernels.subtract_rows(
            matrix,
            channels,
            self.bounds,
            self.columns,
            self.elements,
            self.exponents,
            self.block,
            EXPONENT_MIN,
            SCALES,
        )
