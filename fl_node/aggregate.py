"""The aggregate of a round, in integers: the same bits on every machine, in any order, with any number of threads.

Every value is a whole number of 2**-30. A participant's weight is a whole number out of 2**16, so a sum over all
participants stays below 2**56 and int64 never overflows. Every division rounds half to even, in integers; then one
binary64 addition and one rounding to binary32, both exact by IEEE 754, make the new weights.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import isqrt

import numpy as np

from chain.protocol.rules import AggregationRules
from fl_node import kernels
from fl_node.gradient import Layout, Matrix
from fl_node.quantise import EXPONENT_MIN, Integers
from fl_node.tensorfile import Tensors
from fl_node.update import LayerUpdate
from fl_node.verify import VerifiedUpdate

WEIGHT_SUM = 1 << 16
ROOT_BITS = 12  # binary places of the square root that a sum is divided by


def participant_weights(updates: Sequence[VerifiedUpdate], rules: AggregationRules) -> list[int]:
    """Shares of WEIGHT_SUM by the number of records (or equal ones), rounded down but at least 1; what rounding down
    left over goes to the largest share, of equals the first.
    """
    counts = [1 if rules.weights == "equal" else max(1, update.records) for update in updates]
    total = sum(counts)
    shares = [max(1, count * WEIGHT_SUM // total) for count in counts]
    if shares:
        shares[shares.index(max(shares))] += max(0, WEIGHT_SUM - sum(shares))
    return shares


def aggregate(
    base: Tensors,
    updates: Sequence[VerifiedUpdate],
    layout: Layout,
    rules: AggregationRules,
    before: Tensors | None = None,
) -> Tensors:
    """The model that follows `base`: every entry moves by the weighted mean of what was sent of it, and by a share of
    its last move, from `before` to `base`, where the rules give the server momentum. Rows nobody sent stay.
    """
    updates = sorted(updates, key=lambda update: update.participant)
    weights = participant_weights(updates, rules)
    moved: list[Matrix] = []
    bases = layout.matrices(base)
    earlier = layout.matrices(before) if before is not None and rules.server_momentum else None
    for index, matrix in enumerate(bases):
        parts = [update.layers[index] for update in updates]
        rows = np.unique(np.concatenate([np.zeros(0, np.int64), *(part.channels for part in parts)]))
        if earlier is not None:
            rows = np.arange(len(matrix))
        step = _scaled(_step(parts, weights, rows, matrix.shape[1], rules), Fraction(rules.server_learning_rate))
        if earlier is not None:
            step += _scaled(_units(matrix, earlier[index]), Fraction(rules.server_momentum))
        matrix[rows] = _add(matrix[rows], step)
        moved.append(matrix)
    return layout.tensors(moved)


def _step(
    parts: Sequence[LayerUpdate], weights: Sequence[int], rows: Integers, width: int, rules: AggregationRules
) -> Integers:
    """The mean of these rows of a layer over all updates, int64 `[rows, width]`, in units of 2**EXPONENT_MIN."""
    total = np.zeros((len(rows), width), np.int64)
    senders = np.zeros_like(total) if rules.weighting != "all" else None
    for weight, part in zip(weights, parts, strict=True):
        at, values = np.searchsorted(rows, part.channels), part.values
        kernels.add_rows(total, at, values.elements, values.exponents, values.block, EXPONENT_MIN, weight)
        if senders is not None:
            kernels.add_senders(senders, at, values.elements, weight)
    whole = sum(weights)
    if senders is None:
        return _divide(total, np.int64(max(whole, 1)))
    sent = senders > 0
    if rules.weighting == "senders":
        total[sent] = _divide(total[sent], senders[sent])
    else:
        found, which = np.unique(senders[sent], return_inverse=True)
        roots = np.array([isqrt(weight * whole << 2 * ROOT_BITS) for weight in found.tolist()], np.int64)
        total[sent] = _divide(total[sent], roots[which], ROOT_BITS)
    return total


def _divide(total: Integers, divisor: Integers | np.int64, places: int = 0) -> Integers:
    """`total * 2**places / divisor` to the nearest integer, halves to the even one; divisor above 0."""
    quotient, rest = np.divmod(total, divisor)
    if places:
        more, rest = np.divmod(rest << places, divisor)
        quotient = (quotient << places) + more
    up = (2 * rest > divisor) | ((2 * rest == divisor) & (quotient % 2 == 1))
    rounded: Integers = quotient + up
    return rounded


def _scaled(units: Integers, factor: Fraction) -> Integers:
    """`units * factor`, halves to the even integer."""
    if factor == 1:
        return units
    return _divide(units * factor.numerator, np.int64(factor.denominator))


def _units(after: Matrix, before: Matrix) -> Integers:
    """`after - before` in units of 2**EXPONENT_MIN, to the nearest; at most 2**39, as a value that was sent."""
    change = np.ldexp(after.astype(np.float64) - before.astype(np.float64), -EXPONENT_MIN)
    units: Integers = np.rint(change).clip(-(2.0**39), 2.0**39).astype(np.int64)
    return units


def _add(weights: Matrix, units: Integers) -> Matrix:
    moved = weights.astype(np.float64) + np.ldexp(units.astype(np.float64), EXPONENT_MIN)
    return np.where(units == 0, weights, moved.astype(np.float32))
