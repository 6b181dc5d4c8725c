"""Values that are integers times a power of two: blocks of 32 with one shared scale.

The idea is that of the OCP Microscaling formats (MX specification 1.0): int8 elements as in MXINT8, scales as in
E8M0. A value is `element * 2**exponent`; the exponent is that of the element's last bit, EXPONENT_MIN to
EXPONENT_MAX, so every value is a whole number of the ring's unit 2**EXPONENT_MIN, and sums of values are sums of
integers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fl_node.gradient import Matrix

BLOCK = 32
ELEMENT_MAX = 127  # symmetric: -128 is not used
EXPONENT_MIN = -30
EXPONENT_MAX = 2
_ELEMENT_BITS = 7

Elements = np.ndarray[Any, np.dtype[np.int8]]
Exponents = np.ndarray[Any, np.dtype[np.int8]]
Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Quantised:
    """Rows of values: elements int8 `[rows, width]`, exponents int8 `[rows, blocks]`; the last block may be short."""

    elements: Elements
    exponents: Exponents

    def rows(self, chosen: Any) -> "Quantised":
        return Quantised(self.elements[chosen], self.exponents[chosen])

    def units(self) -> Integers:
        """The values in units of 2**EXPONENT_MIN, int64 `[rows, width]`, below 2**39 in magnitude."""
        shifts = _per_entry(self.exponents.astype(np.int64) - EXPONENT_MIN, self.elements.shape[1])
        units: Integers = self.elements.astype(np.int64) << shifts
        return units

    def values(self) -> Matrix:
        """The values as float32 `[rows, width]`, exactly."""
        values: Matrix = np.ldexp(self.elements.astype(np.float32), _per_entry(self.exponents, self.elements.shape[1]))
        return values


def blocks(width: int) -> int:
    return -(-width // BLOCK)


def quantise(matrix: Matrix) -> Quantised:
    """Rounds float32 `[rows, width]` to the nearest element (ties to even) of its block's scale; saturates at 508.

    A block's exponent is that of its largest magnitude less six, so the largest element has seven bits. Nothing is
    lost: the difference to `values()` is exact in float32 and stays in the residual.
    """
    width = matrix.shape[1]
    largest = np.abs(_in_blocks(matrix)).max(axis=2)
    _, exponent = np.frexp(largest)  # largest = m * 2**exponent with m in [0.5, 1)
    exponents = np.where(largest > 0, exponent - _ELEMENT_BITS, EXPONENT_MIN).clip(EXPONENT_MIN, EXPONENT_MAX)
    scaled = np.rint(np.ldexp(matrix, -_per_entry(exponents, width)))
    elements = scaled.clip(-ELEMENT_MAX, ELEMENT_MAX).astype(np.int8)
    return Quantised(elements, exponents.astype(np.int8))


def is_canonical(quantised: Quantised) -> bool:
    """In range, and every block uses the smallest exponent that its largest element allows."""
    exponents = quantised.exponents
    if exponents.size and (exponents.min() < EXPONENT_MIN or exponents.max() > EXPONENT_MAX):
        return False
    largest = np.abs(_in_blocks(quantised.elements).astype(np.int16)).max(axis=2, initial=0)
    tight = (largest > ELEMENT_MAX // 2) | (exponents == EXPONENT_MIN)
    return bool((largest <= ELEMENT_MAX).all() and tight.all())


def squared_norms(quantised: Quantised) -> list[int]:
    """The squared Euclidean norm of every row, exactly, in units of 2**(2 * EXPONENT_MIN); a Python integer a row.

    A block contributes `sum(element**2) << 2 * (exponent - EXPONENT_MIN)`, up to 84 bits: three limbs of 32 bits each
    are summed in int64 and put together at the end.
    """
    sums = np.square(_in_blocks(quantised.elements).astype(np.int64)).sum(axis=2)
    shifts = 2 * (quantised.exponents.astype(np.int64) - EXPONENT_MIN)
    limb, rest = np.divmod(shifts, 32)
    shifted = sums << rest
    low, high = shifted & 0xFFFFFFFF, shifted >> 32
    limbs = [np.where(limb == i, low, 0) + np.where(limb == i - 1, high, 0) for i in range(3)]
    totals = [part.sum(axis=1).tolist() for part in limbs]
    return [a + (b << 32) + (c << 64) for a, b, c in zip(*totals, strict=True)]


def _in_blocks(matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """`[rows, width]` as `[rows, blocks, 32]`, the short block filled with zeros."""
    rows, width = matrix.shape
    padded = np.pad(matrix, ((0, 0), (0, blocks(width) * BLOCK - width)))
    return padded.reshape(rows, blocks(width), BLOCK)


def _per_entry(per_block: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    return np.repeat(per_block, BLOCK, axis=1)[:, :width]
