"""Values that are integers times a power of two: blocks of a row with one shared scale.

The idea is that of the OCP Microscaling formats (MX specification 1.0): with 8 bits, elements as in MXINT8 and scales
as in E8M0. A value is `element * 2**exponent`; the exponent is that of the element's last bit, EXPONENT_MIN to
EXPONENT_MAX, so every value is a whole number of the ring's unit 2**EXPONENT_MIN, and sums of values are sums of
integers. With 2 bits an element is a sign or nothing, times one magnitude that all of a layer share, as in sparse
ternary compression (Sattler et al. 2019).
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from chain.protocol.rules import CompressionRules
from fl_node.gradient import Matrix
from fl_node.kernels import rows as kernels
from fl_node.largest import as_bits
from fl_node.norms import LIMBS, Norms

ELEMENT_MAX = 127
EXPONENT_MIN = -30
EXPONENT_MAX = 2
SCALES = np.ldexp(np.float32(1), np.arange(EXPONENT_MIN, EXPONENT_MAX + 1)).astype(np.float32)
_INVERSES = (1 / SCALES).astype(np.float32)  # exact: powers of two

Elements = np.ndarray[Any, np.dtype[np.int8]]
Exponents = np.ndarray[Any, np.dtype[np.int8]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
Largest = np.ndarray[Any, np.dtype[np.int16]]


def element_max(bits: int) -> int:
    """The largest element; symmetric, so the smallest is its negative. With 2 bits it is that of the one magnitude."""
    return ELEMENT_MAX if bits == 2 else int(2 ** (bits - 1)) - 1


def blocks(width: int, block: int) -> int:
    return -(-width // block)


@dataclass(frozen=True, slots=True)
class Quantised:
    """Rows of values: elements int8 `[rows, width]`, exponents int8 `[rows, blocks]` of `block` entries each; the last
    block may be short.
    """

    elements: Elements
    exponents: Exponents
    block: int

    @property
    def width(self) -> int:
        return int(self.elements.shape[1])

    @property
    def entries(self) -> int:
        """How many differ from zero."""
        return int(np.count_nonzero(self.elements))

    def rows(self, chosen: Any) -> "Quantised":
        return Quantised(self.elements[chosen], self.exponents[chosen], self.block)

    def values(self) -> Matrix:
        """The values as float32 `[rows, width]`, exactly."""
        scales = np.repeat(self.exponents, self.block, axis=1)[:, : self.width]
        values: Matrix = np.ldexp(self.elements.astype(np.float32), scales)
        return values

    def squared_norms(self) -> Norms:
        """The squared Euclidean norm of every row, exactly, in units of 2**(2 * EXPONENT_MIN).

        A block contributes `sum(element**2) << 2 * (exponent - EXPONENT_MIN)`.
        """
        limbs = np.zeros((len(self.elements), LIMBS), np.int64)
        kernels.norm_limbs(self.elements, self.exponents, self.block, EXPONENT_MIN, limbs)
        return Norms.of_limbs(limbs)

    def largest(self) -> Largest:
        """The largest magnitude of each block, int16 `[rows, blocks]`."""
        largest = np.zeros((len(self.elements), blocks(self.width, self.block)), np.int16)
        kernels.largest_elements(self.elements, self.block, largest)
        return largest

    @property
    def filled(self) -> Any:
        """Which blocks have entries that differ from zero, bool `[rows, blocks]`."""
        return self.largest() > 0

    def is_canonical(self, rules: CompressionRules) -> bool:
        """In range, every block uses the smallest exponent that its largest element allows; with 2 bits, one magnitude
        for all.
        """
        return scales_are_canonical(self.largest(), self.exponents, rules) and (
            rules.bits != 2 or self.magnitude() >= 0
        )

    def magnitude(self) -> int:
        """What all elements that differ from zero share but for the sign; 0 if there are none, -1 if they differ."""
        return one_magnitude(self.elements[self.elements != 0])

    def signs(self) -> "Quantised":
        return Quantised(np.sign(self.elements), self.exponents, self.block)

    def take_from(self, matrix: Matrix, channels: Integers) -> None:
        """`matrix[channels] -= values`, exactly."""
        kernels.subtract_rows(matrix, channels, self.elements, self.exponents, self.block, EXPONENT_MIN, SCALES)


def one_magnitude(elements: Elements) -> int:
    """Of elements that are not zero: what all are but for the sign. 0 if there are none, -1 if they differ."""
    return int(kernels.one_magnitude(elements))


def scales_are_canonical(largest: Largest, exponents: Exponents, rules: CompressionRules) -> bool:
    """Whether these are the smallest exponents for blocks with these largest elements; with 2 bits, one for all that
    have entries.
    """
    top, one = element_max(rules.bits), rules.bits == 2
    return bool(kernels.scales_hold(largest, exponents, EXPONENT_MIN, EXPONENT_MAX, top, one))


def quantise(matrix: Matrix, rules: CompressionRules, cut: int = 1) -> Quantised:
    """Rounds float32 `[rows, width]` to elements of `rules.bits` bits; magnitudes whose bits are below `cut` to zero.

    A block's exponent gives its largest magnitude all the bits; elements are rounded half to even and saturate. With 2
    bits every kept entry becomes the geometric mean, nearly, of all that are kept of the matrix, with its sign.
    The difference to `values()` stays in the residual: exact in float32, but for the rounding of that subtraction with
    2 bits, where a magnitude may be far below the mean.
    """
    rows, width = matrix.shape
    elements = np.empty((rows, width), np.int8)
    exponents = np.full((rows, blocks(width, rules.block)), EXPONENT_MIN, np.int8)
    if rules.bits == 2:
        count, total = kernels.sign_rows(as_bits(matrix), np.int32(cut), elements)
        if count:
            magnitude, exponent = one_of_all(count, total)
            exponents[Quantised(elements, exponents, rules.block).filled] = exponent
            elements *= np.int8(magnitude)
    else:
        kernels.quantise_rows(
            matrix,
            as_bits(matrix),
            np.int32(cut),
            np.int32(rules.bits - 1),
            np.int32(EXPONENT_MIN),
            _INVERSES,
            rules.block,
            elements,
            exponents,
        )
    return Quantised(elements, exponents, rules.block)


def one_of_all(count: int, total: int) -> tuple[int, int]:
    """Element and exponent that stand for `count` magnitudes with this sum of their float32 bits: seven bits of the
    float32 whose bits are the mean. As bits are 2**23 * (127 + log2), nearly, it is the geometric mean, nearly.
    """
    bits = round(Fraction(int(total), int(count)))
    element, exponent = ((bits & 0x7FFFFF | 0x800000) + (1 << 16)) >> 17, (bits >> 23) - 127 - 6
    if element > ELEMENT_MAX:
        element, exponent = element >> 1, exponent + 1
    if exponent > EXPONENT_MAX:
        return ELEMENT_MAX, EXPONENT_MAX
    return max(element >> max(EXPONENT_MIN - exponent, 0), 1), max(exponent, EXPONENT_MIN)
