"""Quantisation against exact rational arithmetic."""

from fractions import Fraction
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chain.protocol.rules import CompressionRules
from fl_node import largest
from fl_node import quantise as q
from fl_node.quantise import EXPONENT_MAX, EXPONENT_MIN, Quantised, element_max

Matrix = np.ndarray[Any, np.dtype[np.float32]]
BLOCK, BYTE = 32, CompressionRules(bits=8)
ELEMENT_MAX = 127
WAYS = [CompressionRules(bits=bits, block=block) for bits in (2, 3, 4, 8) for block in (1, 7, 32, 1000)]
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)


def quantise(matrix: Matrix, rules: CompressionRules = BYTE) -> Quantised:
    return q.quantise(matrix, rules)


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    """float32, up to 511 in magnitude: anything at all, or entries over many powers of two, or ties."""
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 100))
    kind = draw(st.sampled_from(["any", "powers", "ties"]))
    if kind == "any":
        floats = st.floats(-511, 511, width=32)
        return draw(hnp.arrays(np.float32, (rows, width), elements=floats)) + np.float32(0)  # no negative zero
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "powers":
        exponents = random.integers(draw(st.integers(-149, 8)), 9, (rows, width))
        matrix = np.ldexp(random.uniform(-0.99, 0.99, (rows, width)), exponents).astype(np.float32)
    else:
        halves = random.integers(-255, 256, (rows, width)) / 2
        matrix = np.ldexp(halves, draw(st.integers(EXPONENT_MIN - 2, EXPONENT_MAX))).astype(np.float32)
    matrix[random.random((rows, width)) < 0.1] = 0
    return matrix + np.float32(0)


def filled(value: float, width: int = 33) -> Matrix:
    return np.full((2, width), value, np.float32)


def units_of(values: Quantised) -> list[list[Fraction]]:
    """The unit of every entry: the weight of the last bit of its block."""
    width = values.elements.shape[1]
    return [[Fraction(2) ** int(row[entry // BLOCK]) for entry in range(width)] for row in values.exponents]


@settings(max_examples=200)
@given(matrices())
@example(filled(0.0))
@example(filled(SMALLEST))
@example(filled(-SMALLEST))
@example(filled(511.0))
@example(filled(-510.0))
@example(filled(2.0**-31))  # half a unit of the smallest scale: a tie
@example(filled(3 * 2.0**-31))
@example(np.array([[127.5, 64.0, 0.5, 1.5, 2.5, -0.5, -1.5]], np.float32))
def test_sent_and_residual_add_up_bit_for_bit_and_the_error_is_small(matrix: Matrix) -> None:
    quantised = quantise(matrix)
    values = quantised.values()
    assert values.dtype == np.float32 and values.shape == matrix.shape
    assert (values + (matrix - values)).tobytes() == matrix.tobytes()

    for entry, value, element, unit in zip(
        matrix.ravel().tolist(),
        values.ravel().tolist(),
        quantised.elements.ravel().tolist(),
        (unit for row in units_of(quantised) for unit in row),
        strict=True,
    ):
        error = abs(Fraction(entry) - Fraction(value))
        assert error <= (unit if abs(element) == ELEMENT_MAX else unit / 2)
        if error == unit / 2 and abs(element) != ELEMENT_MAX:
            assert element % 2 == 0  # a tie goes to the even element


@given(matrices(), st.sampled_from(WAYS))
def test_values_are_whole_units(matrix: Matrix, rules: CompressionRules) -> None:
    for value in quantise(matrix, rules).values().ravel().tolist():
        units = Fraction(value) / Fraction(2) ** EXPONENT_MIN
        assert units.denominator == 1
        assert abs(units) < 2**39


@given(matrices(), st.sampled_from(WAYS))
def test_squared_norms_are_exact(matrix: Matrix, rules: CompressionRules) -> None:
    quantised = quantise(matrix, rules)
    values = [[Fraction(value) * 2**30 for value in row] for row in quantised.values().tolist()]
    assert list(quantised.squared_norms()) == [sum(value**2 for value in row) for row in values]


def test_squared_norm_of_the_largest_row() -> None:
    width = 300_000
    for block in (32, 100_000, width):
        exponents = np.full((1, q.blocks(width, block)), EXPONENT_MAX, np.int8)
        largest = Quantised(np.full((1, width), -ELEMENT_MAX, np.int8), exponents, block)
        assert list(largest.squared_norms()) == [width * (ELEMENT_MAX << (EXPONENT_MAX - EXPONENT_MIN)) ** 2]


@given(matrices(), st.sampled_from(WAYS))
def test_the_result_is_canonical_and_quantising_it_again_changes_nothing(
    matrix: Matrix, rules: CompressionRules
) -> None:
    quantised = quantise(matrix, rules)
    assert quantised.is_canonical(rules)
    assert (np.abs(quantised.elements.astype(int)) <= element_max(rules.bits)).all()
    again = quantise(quantised.values(), rules)
    assert again.elements.tobytes() == quantised.elements.tobytes()
    assert again.exponents.tobytes() == quantised.exponents.tobytes()


@given(matrices())
def test_equal_values_have_equal_bytes(matrix: Matrix) -> None:
    """Any other spelling of the same values, with a larger scale, is not canonical; and the canonical one is unique."""
    quantised = quantise(matrix)
    doubled = quantised.elements.astype(np.int64) * 2
    smaller = Quantised(doubled.astype(np.int8), (quantised.exponents - 1).astype(np.int8), BLOCK)
    if np.abs(doubled).max(initial=0) <= ELEMENT_MAX:
        assert not smaller.is_canonical(BYTE)  # the exponent leaves the range, or was not that of the block
    if not (quantised.elements % 2).any() and (quantised.exponents < EXPONENT_MAX).all():
        larger = Quantised(quantised.elements // 2, (quantised.exponents + 1).astype(np.int8), BLOCK)
        assert (larger.values() == quantised.values()).all()
        assert not larger.is_canonical(BYTE)
    positive = np.where(matrix == 0, np.float32(0.0), matrix)
    negative = np.where(matrix == 0, np.float32(-0.0), matrix)
    left, right = quantise(positive), quantise(negative)
    assert left.elements.tobytes() == right.elements.tobytes() and left.exponents.tobytes() == right.exponents.tobytes()


@pytest.mark.parametrize(
    ("elements", "exponent"),
    [
        ([63] * 32, EXPONENT_MIN + 1),  # a smaller scale would do
        ([0] * 32, EXPONENT_MIN + 1),
        ([-128] * 32, 0),  # not used
        ([127] * 32, EXPONENT_MAX + 1),
        ([127] * 32, EXPONENT_MIN - 1),
    ],
)
def test_what_is_not_canonical(elements: list[int], exponent: int) -> None:
    made = Quantised(np.array([elements], np.int8), np.array([[exponent]], np.int8), BLOCK)
    assert not made.is_canonical(BYTE)


@given(st.integers(1, 200))
def test_every_block_has_a_scale(width: int) -> None:
    assert q.blocks(width, BLOCK) == len(range(0, width, BLOCK))
    quantised = quantise(np.ones((1, width), np.float32))
    assert quantised.exponents.shape == (1, q.blocks(width, BLOCK))
    assert quantised.elements.shape == (1, width)


# ------------------------------------------------------------- few bits, few entries


@given(matrices(), st.sampled_from(WAYS))
def test_what_is_sent_and_what_stays_add_up_in_every_way(matrix: Matrix, rules: CompressionRules) -> None:
    values = quantise(matrix, rules).values()
    rest = matrix - values
    assert (values + rest).tobytes() == matrix.tobytes() or rules.bits == 2
    # with a sign only, a value may be far from what it stands for; yet no bit of the sum is lost beyond float32's own
    np.testing.assert_allclose(values.astype(float) + rest, matrix, rtol=1e-6, atol=1e-6 * float(np.abs(values).max()))


@given(matrices())
def test_two_bits_are_the_signs_of_what_is_kept_at_one_scale(matrix: Matrix) -> None:
    rules = CompressionRules(bits=2, block=1000)
    quantised = quantise(matrix, rules)
    assert (np.sign(quantised.elements) == np.sign(matrix)).all()
    found, kept = np.abs(quantised.values()), np.abs(matrix[matrix != 0].astype(float))
    if len(kept) and kept.min() > 2.0**-24 and kept.max() < 2:  # not where the scale ends
        mean = 2.0 ** np.log2(kept).mean()
        assert 0.93 * mean < found.max() < 1.1 * mean
    assert len(set(np.abs(quantised.values()[matrix != 0]).tolist())) <= 1


@settings(max_examples=200)
@given(
    st.lists(matrices(), min_size=1, max_size=3),
    st.integers(1, 400),
    st.sampled_from([largest.SAMPLE, 40, 7]),
    st.sampled_from([largest.SPARE, 1, 0]),
)
def test_the_cut_is_that_of_a_sort(layers: list[Matrix], entries: int, sample: int, spare: int) -> None:
    """The largest magnitudes, at most so many; of equals all or none. How large the sample is changes nothing, nor
    whether it tells the truth.
    """
    with patch.multiple(largest, SAMPLE=sample, SPARE=spare):
        cut = largest.magnitude_cut(layers, entries)
        same, listed = largest.largest_entries(layers, entries)
    assert same == cut
    magnitudes = sorted((abs(float(entry)) for layer in layers for entry in layer.ravel()), reverse=True)
    kept = [m for m in magnitudes if np.float32(m).view(np.int32) >= cut]
    if entries >= len(magnitudes):
        assert cut == 1
    else:
        boundary = magnitudes[entries]  # the first that does not fit; its equals must not be kept either
        assert kept == [m for m in magnitudes if m > boundary and m > 0]
    for layer, found in zip(layers, listed, strict=True):
        reaching = np.abs(found.bits.view(np.float32)).view(np.int32) >= cut
        rows, columns = np.repeat(np.arange(len(layer)), found.counts)[reaching], found.columns[reaching]
        expected = np.nonzero(np.abs(layer).view(np.int32) >= cut)
        assert np.array_equal(rows, expected[0]) and np.array_equal(columns, expected[1])
        assert np.array_equal(found.bits[reaching].view(np.float32), layer[expected])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("seen", [1000, 0.001])
def test_a_sample_that_misleads_changes_nothing(layers: int, seen: float) -> None:
    """What lies at the sample's places in the first layer is unlike the rest: then too few entries reach the sample's
    bound, or more than there is room for, be it in one layer alone.
    """
    size, entries = 500_000, 20_000
    matrices = list(np.random.default_rng(3).normal(size=(layers, 1, size)).astype(np.float32))
    matrices[0] += np.sign(matrices[0]) * np.float32(5)
    matrices[0][0, :: -(-layers * size // largest.SAMPLE) | 1] *= np.float32(seen)
    ordered = np.sort(np.abs(np.concatenate(matrices, axis=1)[0]))[::-1]
    assert largest.magnitude_cut(matrices, entries) == int(ordered[entries].view(np.int32)) + 1


@given(matrices(), st.sampled_from(WAYS), st.integers(1, 300))
def test_below_the_cut_everything_is_zero(matrix: Matrix, rules: CompressionRules, entries: int) -> None:
    cut = largest.magnitude_cut([matrix], entries)
    quantised = q.quantise(matrix, rules, cut)
    small = np.abs(matrix).view(np.int32) < cut
    assert not quantised.elements[small].any()
    assert np.count_nonzero(quantised.elements) <= max(entries, 0)
    if rules.bits > 2:
        whole = q.quantise(np.where(small, np.float32(0), matrix), rules)
        assert whole.elements.tobytes() == quantised.elements.tobytes()
        assert whole.exponents.tobytes() == quantised.exponents.tobytes()
