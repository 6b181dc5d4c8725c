"""The aggregate of a round, in integers: the same bits on every machine, in any order, with any number of threads.

Every value is a whole number of 2**-30. A participant's weight is a whole number out of 2**16, so a sum over all
participants stays below 2**56 and int64 never overflows. Every division rounds half to even, in integers; then one
binary64 addition and one rounding to binary32, both exact by IEEE 754, make the new weights.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import isqrt
from typing import Any

import numpy as np

from chain.protocol.rules import AggregationRules
from fl_node.gradient import Layer, Layout, Matrix
from fl_node.kernels import sums as kernels
from fl_node.quantise import EXPONENT_MIN, Integers, Quantised
from fl_node.sparse import Sparse
from fl_node.tensorfile import Tensors
from fl_node.threads import shared
from fl_node.update import LayerUpdate
from fl_node.verify import VerifiedUpdate

WEIGHT_SUM = 1 << 16
ROOT_BITS = 12  # binary places of the square root that a sum is divided by
_AT_ONCE = 1 << 22  # entries, of model and updates, worked on at a time: they stay in the cache of a core


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
    into: Tensors | None = None,
) -> Tensors:
    """The model that follows `base`: every entry moves by the weighted mean of what was sent of it, and by a share of
    its last move, from `before` to `base`, where the rules give the server momentum. Entries nobody sent stay.

    `into`: a model that nobody needs any more, to be overwritten; fresh memory costs more than the sums.
    """
    updates = sorted(updates, key=lambda update: update.participant)
    weights = participant_weights(updates, rules) or [WEIGHT_SUM]
    before = before if before is not None and rules.server_momentum else None
    momentum = Fraction(0 if before is None else rules.server_momentum).as_integer_ratio()
    server, division = (Fraction(rules.server_learning_rate).as_integer_ratio(), momentum), _division(weights, rules)
    following = into or {name: np.empty_like(tensor, order="C") for name, tensor in base.items()}

    def move(piece: tuple[int, int, int]) -> None:
        index, start, stop = piece
        layer, column = layout.layers[index], 0
        parts = [update.layers[index] for update in updates] or [_nothing(layer)]
        if stop - start < layer.channels:
            parts = [_between(part, start, stop) for part in parts]
        if before is not None:  # then every entry moves
            parts = [LayerUpdate(part.channels, _dense(part.values)) for part in parts]
        sparse = any(isinstance(part.values, Sparse) for part in parts)
        sent = (_sparse if sparse else _side_by_side)(parts, weights, stop - start)
        for name, _ in layer.tensors:
            now, after = _rows(base, layer, name, start, stop), _rows(following, layer, name, start, stop)
            width, unit = now.shape[1], 2.0**EXPONENT_MIN
            if sparse:
                room = np.zeros(width, np.int64), np.zeros(width, np.int32), np.empty(width + 1, np.uint32)
                kernels.move_sparse_rows(now, after, sent, column, division, server[0], unit, room)
            else:
                was = now if before is None else _rows(before, layer, name, start, stop)
                scratch = np.empty(width, np.int64), np.empty(0 if rules.weighting == "all" else width, np.int32)
                kernels.move_rows(now, was, after, sent, column, division, server, unit, scratch)
            column += width

    pieces = []
    for index, layer in enumerate(layout.layers):
        load = layer.channels * layer.width + sum(update.layers[index].values.elements.size for update in updates)
        step = max(1, _AT_ONCE * layer.channels // load)
        pieces += [(index, start, min(start + step, layer.channels)) for start in range(0, layer.channels, step)]
    with shared(threads) as mapped:
        list(mapped(move, pieces))
    return following


def _rows(tensors: Tensors, layer: Layer, name: str, start: int, stop: int) -> Matrix:
    """The part of a tensor that belongs to these channels, `[channels, width]`."""
    return tensors[name].reshape(layer.channels, -1)[start:stop]


def _between(part: LayerUpdate, start: int, stop: int) -> LayerUpdate:
    """What was sent of the channels from `start` to `stop` of a layer, counted from `start`."""
    first, last = np.searchsorted(part.channels, (start, stop)).tolist()
    return LayerUpdate(part.channels[first:last] - start, part.values.rows(slice(first, last)))


def _dense(values: Quantised | Sparse) -> Quantised:
    return values.dense() if isinstance(values, Sparse) else values


def _by_row(parts: Sequence[LayerUpdate], weights: Sequence[int], rows: int) -> tuple[Integers, Integers, Any, Any]:
    """Of all rows that were sent, side by side: where those of each channel begin in an order by channel, that order,
    their exponents and weights.
    """
    channels = np.concatenate([part.channels for part in parts])
    order = np.argsort(channels, kind="stable")
    starts = np.searchsorted(channels[order], np.arange(rows + 1))
    exponents = np.concatenate([part.values.exponents for part in parts])
    return starts, order, exponents, np.repeat(np.asarray(weights, np.int32), [len(part.channels) for part in parts])


def _side_by_side(parts: Sequence[LayerUpdate], weights: Sequence[int], rows: int) -> tuple[Any, ...]:
    """As `kernels.move_rows` takes it."""
    starts, order, exponents, shares = _by_row(parts, weights, rows)
    elements = np.concatenate([part.values.elements for part in parts])
    return starts, order, elements, exponents, shares, parts[0].values.block, EXPONENT_MIN


def _sparse(parts: Sequence[LayerUpdate], weights: Sequence[int], rows: int) -> tuple[Any, ...]:
    """As `kernels.move_sparse_rows` takes it."""
    starts, order, exponents, shares = _by_row(parts, weights, rows)
    values = [part.values for part in parts if isinstance(part.values, Sparse)]
    bounds = np.concatenate(
        [np.zeros(1, np.int64), np.cumsum(np.concatenate([v.counts for v in values]), dtype=np.int64)]
    )
    columns, elements = np.concatenate([v.columns for v in values]), np.concatenate([v.elements for v in values])
    return starts, order, bounds, columns, elements, exponents, shares, values[0].block, EXPONENT_MIN


def _nothing(layer: Layer) -> LayerUpdate:
    """Where there are no updates."""
    return LayerUpdate(
        np.empty(0, np.int64), Quantised(np.empty((0, layer.width), np.int8), np.empty((0, 1), np.int8), layer.width)
    )


def _division(weights: Sequence[int], rules: AggregationRules) -> tuple[Integers, Any, int]:
    """What a sum is divided by, for every weight that its senders may have together; what it is multiplied by instead,
    nearly; and how many binary places these divisors have. With one divisor it is that of every sum.
    """
    if rules.weighting == "all":
        return np.array([sum(weights)], np.int64), np.array([1 / sum(weights)]), 0
    return _divisions(sum(weights), rules.weighting == "root")


@lru_cache(maxsize=4)
def _divisions(whole: int, root: bool) -> tuple[Integers, Any, int]:
    """By the weight of the senders, or the root of its product with the weight of all."""
    weights, places = range(whole + 1), ROOT_BITS if root else 0
    divisors = [isqrt(weight * whole << 2 * ROOT_BITS) if root else weight for weight in weights]
    return np.array(divisors, np.int64), 2.0**places / np.maximum(divisors, 1), places
