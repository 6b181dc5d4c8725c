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
from typing import Any

import numpy as np

from chain.protocol.rules import AggregationRules
from fl_node import kernels
from fl_node.gradient import Layer, Layout, Matrix
from fl_node.quantise import EXPONENT_MIN, Integers
from fl_node.tensorfile import Tensors
from fl_node.update import LayerUpdate
from fl_node.verify import VerifiedUpdate

WEIGHT_SUM = 1 << 16
ROOT_BITS = 12  # binary places of the square root that a sum is divided by
_CACHED = 1 << 16  # entries worked on at a time: their sums, 768 KiB, stay in the cache of a core


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
    before = before if rules.server_momentum else None
    following = {name: np.empty_like(tensor, order="C") for name, tensor in base.items()}
    pieces = [
        (index, start, min(start + step, layer.channels))
        for index, layer in enumerate(layout.layers)
        for step in [max(1, _CACHED // layer.width)]
        for start in range(0, layer.channels, step)
    ]

    def move(part: Sequence[tuple[int, int, int]]) -> None:
        scratch = Scratch(layout)
        for index, start, stop in part:
            layer = layout.layers[index]
            sent = [_between(update.layers[index], start, stop) for update in updates]
            now = [_rows(base, layer, name, start, stop) for name, _ in layer.tensors]
            was = None if before is None else [_rows(before, layer, name, start, stop) for name, _ in layer.tensors]
            units, column = _units(scratch, sent, weights, rules, now, was), 0
            for (name, _), weight in zip(layer.tensors, now, strict=True):
                after = _rows(following, layer, name, start, stop)
                if units is None:
                    after[:] = weight
                else:
                    kernels.move_rows(weight, units[:, column : column + weight.shape[1]], 2.0**EXPONENT_MIN, after)
                column += weight.shape[1]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(move, (pieces[at::threads] for at in range(threads))))
    return following


class Scratch:
    """Memory for the sums of one piece of a layer after the other: fresh memory would cost more than the sums."""

    def __init__(self, layout: Layout) -> None:
        size = max((max(_CACHED, layer.width) for layer in layout.layers), default=0)
        self._total, self._senders = np.empty(size, np.int64), np.empty(size, np.int32)

    def zeros(self, rows: int, width: int) -> tuple[Integers, np.ndarray[Any, np.dtype[np.int32]]]:
        """Sums of values, and of senders' weights, both `[rows, width]`."""
        found = self._total[: rows * width], self._senders[: rows * width]
        for each in found:
            each.fill(0)
        return found[0].reshape(rows, width), found[1].reshape(rows, width)


def _rows(tensors: Tensors, layer: Layer, name: str, start: int, stop: int) -> Matrix:
    """The part of a tensor that belongs to these channels, `[channels, width]`."""
    return tensors[name].reshape(layer.channels, -1)[start:stop]


def _between(part: LayerUpdate, start: int, stop: int) -> LayerUpdate:
    """What was sent of the channels from `start` to `stop` of a layer, counted from `start`."""
    first, last = np.searchsorted(part.channels, [start, stop])
    return LayerUpdate(part.channels[first:last] - start, part.values.rows(slice(first, last)))


def _units(
    scratch: Scratch,
    sent: Sequence[LayerUpdate],
    weights: Sequence[int],
    rules: AggregationRules,
    now: Sequence[Matrix],
    was: Sequence[Matrix] | None,
) -> Integers | None:
    """By how many units the rows of a piece move; None if nothing moves."""
    if was is None and not any(len(part.channels) for part in sent):
        return None
    units = _mean(scratch, sent, weights, (len(now[0]), sum(part.shape[1] for part in now)), rules)
    if rules.server_learning_rate != 1:
        units = _scaled(units, Fraction(rules.server_learning_rate))
    if was is not None:
        change = _change(np.concatenate(now, axis=1), np.concatenate(was, axis=1))
        units += _scaled(change, Fraction(rules.server_momentum))
    return units


def _mean(
    scratch: Scratch,
    parts: Sequence[LayerUpdate],
    weights: Sequence[int],
    shape: tuple[int, int],
    rules: AggregationRules,
) -> Integers:
    """The mean over all updates, int64, in units of 2**EXPONENT_MIN."""
    (total, senders), whole = scratch.zeros(*shape), sum(weights)
    for weight, part in zip(weights, parts, strict=True):
        values = part.values
        kernels.add_rows(total, part.channels, values.elements, values.exponents, values.block, EXPONENT_MIN, weight)
        if rules.weighting != "all":
            kernels.add_senders(senders, part.channels, values.elements, weight)
    if rules.weighting != "all":
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
