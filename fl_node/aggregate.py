"""The aggregate of a round, in integers: the same bits on every machine, in any order, with any number of threads.

Every value is a whole number of 2**-30. A participant's weight is a whole number out of 2**16, so a sum over all
participants stays below 2**56 and int64 never overflows. Every division rounds half to even, in integers; then one
binary64 addition and one rounding to binary32, both exact by IEEE 754, make the new weights.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import lru_cache
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
_CACHED = 1 << 17  # entries worked on at a time: their sums, 1 MiB, stay in a core's cache


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
    threads: int = 1,
) -> Tensors:
    """The model that follows `base`: every entry moves by the weighted mean of what was sent of it, and by a share of
    its last move, from `before` to `base`, where the rules give the server momentum. Entries nobody sent stay.
    """
    updates = sorted(updates, key=lambda update: update.participant)
    weights = participant_weights(updates, rules)
    moved = layout.matrices(base)
    earlier = layout.matrices(before) if before is not None and rules.server_momentum else None
    pieces = [
        (index, start, min(start + step, len(matrix)))
        for index, matrix in enumerate(moved)
        for step in [max(1, _CACHED // matrix.shape[1])]
        for start in range(0, len(matrix), step)
    ]

    def move(piece: tuple[int, int, int]) -> None:
        index, start, stop = piece
        parts = [_between(update.layers[index], start, stop) for update in updates]
        was = earlier[index][start:stop] if earlier is not None else None
        _move(moved[index][start:stop], parts, weights, rules, was)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(move, pieces))
    return layout.tensors(moved)


def _between(part: LayerUpdate, start: int, stop: int) -> LayerUpdate:
    """What was sent of the channels from `start` to `stop` of a layer, counted from `start`."""
    first, last = np.searchsorted(part.channels, [start, stop])
    return LayerUpdate(part.channels[first:last] - start, part.values.rows(slice(first, last)))


def _move(
    matrix: Matrix,
    parts: Sequence[LayerUpdate],
    weights: Sequence[int],
    rules: AggregationRules,
    before: Matrix | None,
) -> None:
    """Moves the rows of `matrix` in place."""
    if before is None and not any(len(part.channels) for part in parts):
        return
    units = _mean(parts, weights, matrix.shape, rules)
    if rules.server_learning_rate != 1:
        units = _scaled(units, Fraction(rules.server_learning_rate))
    if before is not None:
        units += _scaled(_change(matrix, before), Fraction(rules.server_momentum))
    kernels.move_rows(matrix, units, 2.0**EXPONENT_MIN)


def _mean(
    parts: Sequence[LayerUpdate], weights: Sequence[int], shape: tuple[int, ...], rules: AggregationRules
) -> Integers:
    """The mean over all updates, int64, in units of 2**EXPONENT_MIN."""
    total, whole = np.zeros(shape, np.int64), sum(weights)
    senders = np.zeros(shape, np.int64) if rules.weighting != "all" else None
    for weight, part in zip(weights, parts, strict=True):
        values = part.values
        kernels.add_rows(total, part.channels, values.elements, values.exponents, values.block, EXPONENT_MIN, weight)
        if senders is not None:
            kernels.add_senders(senders, part.channels, values.elements, weight)
    if senders is not None:
        root = rules.weighting == "root"
        kernels.divide_by_senders(total, senders, _divisors(whole, root), ROOT_BITS if root else 0)
    elif whole == WEIGHT_SUM:
        kernels.shift_rows(total, WEIGHT_SUM.bit_length() - 1)
    else:
        kernels.divide_rows(total, whole)
    return total


@lru_cache(maxsize=4)
def _divisors(whole: int, root: bool) -> Integers:
    """What a sum is divided by, for every weight that its senders may have together: that weight, or the root of its
    product with the weight of all, with ROOT_BITS binary places.
    """
    weights = range(whole + 1)
    return np.array([isqrt(weight * whole << 2 * ROOT_BITS) if root else weight for weight in weights], np.int64)


def _scaled(units: Integers, factor: Fraction) -> Integers:
    """`units * factor`, halves to the even integer."""
    scaled = units * factor.numerator
    kernels.divide_rows(scaled, factor.denominator)
    return scaled


def _change(after: Matrix, before: Matrix) -> Integers:
    """`after - before` in units of 2**EXPONENT_MIN, to the nearest; at most 2**39, as a value that was sent."""
    change = np.ldexp(after.astype(np.float64) - before.astype(np.float64), -EXPONENT_MIN)
    units: Integers = np.rint(change).clip(-(2.0**39), 2.0**39).astype(np.int64)
    return units
