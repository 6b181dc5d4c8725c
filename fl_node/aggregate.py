"""The aggregate of a round, in integers: the same bits on every machine, in any order, with any number of threads.

Every value is a whole number of 2**-30. A participant's weight is a whole number out of about 2**16, so a sum over
all participants stays below 2**56 and int64 never overflows. The one division rounds half to even, in integers; then
one binary64 addition and one rounding to binary32, both exact by IEEE 754, make the new weights.
"""

from collections.abc import Sequence

import numpy as np

from chain.protocol.rules import SelectionRules
from fl_node.gradient import Layout, Matrix
from fl_node.quantise import EXPONENT_MIN, Integers
from fl_node.tensorfile import Tensors
from fl_node.verify import VerifiedUpdate

WEIGHT_SUM = 1 << 16


def participant_weights(updates: Sequence[VerifiedUpdate], rules: SelectionRules) -> list[int]:
    """Shares of WEIGHT_SUM by the number of records (or equal ones), rounded down but at least 1."""
    counts = [1 if rules.weights == "equal" else max(1, update.records) for update in updates]
    total = sum(counts)
    return [max(1, count * WEIGHT_SUM // total) for count in counts]


def aggregate(base: Tensors, updates: Sequence[VerifiedUpdate], rules: SelectionRules) -> Tensors:
    """The model that follows `base`: every channel moves by the weighted mean of what was sent of it; one nobody sent
    stays.
    """
    layout = Layout.of(base)
    weights = participant_weights(updates, rules)
    moved: list[Matrix] = []
    for index, (layer, matrix) in enumerate(zip(layout.layers, layout.matrices(base), strict=True)):
        total = np.zeros((layer.channels, layer.width), np.int64)
        senders = np.zeros((layer.channels, 1), np.int64)
        for weight, update in zip(weights, updates, strict=True):
            part = update.layers[index]
            total[part.channels] += part.values.units() * weight
            senders[part.channels] += weight
        divisor = senders if rules.weighting == "senders" else np.full_like(senders, sum(weights))
        moved.append(_add(matrix, _divide(total, np.maximum(divisor, 1))))
    return layout.tensors(moved)


def _divide(total: Integers, divisor: Integers) -> Integers:
    """`total / divisor` to the nearest integer, halves to the even one. total `[channels, width]`, divisor
    `[channels, 1]` above 0.
    """
    quotient, rest = np.divmod(total, divisor)
    up = (2 * rest > divisor) | ((2 * rest == divisor) & (quotient % 2 == 1))
    rounded: Integers = quotient + up
    return rounded


def _add(weights: Matrix, units: Integers) -> Matrix:
    moved = weights.astype(np.float64) + np.ldexp(units.astype(np.float64), EXPONENT_MIN)
    return np.where(units == 0, weights, moved.astype(np.float32))
