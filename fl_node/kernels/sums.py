"""Aggregation: what was sent of every entry, its mean, the step of the server, and the new weight."""

# numba compiles these from the types that they are called with
# mypy: disable-error-code="no-untyped-def, misc, untyped-decorator"

import numpy as np

from fl_node.kernels.compiled import compiled, inlined

LARGEST = 2.0**39  # a value that was sent is smaller, in units of the ring


@inlined
def _add(total, elements, weight, shift):
    for entry in range(elements.size):
        total[entry] += np.int64(np.int32(elements[entry]) * weight) << shift


@inlined
def _count(senders, elements, weight):
    for entry in range(elements.size):
        senders[entry] += weight if elements[entry] else np.int32(0)


@inlined
def _sum_row(row, sent, column, total, senders):
    """What was sent of a row, from its entry `column` on: the weighted sum, and the weight of the senders."""
    starts, order, elements, exponents, weights, block, lowest = sent
    total[:] = 0
    senders[:] = 0
    for at in order[starts[row] : starts[row + 1]]:
        weight, values = weights[at], elements[at]
        for index in range(column // block, -(-(column + total.size) // block)):
            first, last = max(index * block, column), min((index + 1) * block, column + total.size)
            shift = np.int64(exponents[at, index]) - lowest
            _add(total[first - column : last - column], values[first:last], weight, shift)
        if senders.size:
            _count(senders, values[column : column + senders.size], weight)


@inlined
def _shift(total, places):
    """`total / 2**places`, halves to the even integer."""
    below, half = (np.int64(1) << places) - 1, np.int64(1) << (places - 1)
    for entry in range(total.size):
        quotient, rest = total[entry] >> places, total[entry] & below
        total[entry] = quotient + np.int64((rest + (quotient & 1)) > half)


@inlined
def _divided(value, divisor, inverse, places):
    """`value * 2**places / divisor`, halves to the even integer. `inverse` is 2**places / divisor, nearly.

    The quotient is below 2**44, so its estimate is at most one off; what is left is exact, also where the product
    overflows, because it is small.
    """
    quotient = np.int64(np.rint(np.float64(value) * inverse))
    rest = 2 * ((value << places) - quotient * divisor)
    odd = quotient & 1
    return quotient + np.int64(rest + odd > divisor) - np.int64(rest - odd < -divisor)


@inlined
def _mean_row(total, senders, division):
    """The sum over what its senders' weight stands for in the divisors; a single one is that of every sum."""
    divisors, inverses, places = division
    if senders.size:
        for entry in range(total.size):
            if total[entry]:
                weight = senders[entry]
                total[entry] = _divided(total[entry], divisors[weight], inverses[weight], places)
    elif divisors[0] == 1 << 16:
        _shift(total, 16)
    else:
        for entry in range(total.size):
            total[entry] = _divided(total[entry], divisors[0], inverses[0], places)


@inlined
def _step_row(total, now, was, rate, momentum, unit):
    """The server's step: the mean times its learning rate, and a share of the last move from `was` to `now`."""
    for entry in range(total.size):
        step = total[entry]
        if rate[0] != rate[1]:
            step = _divided(step * rate[0], rate[1], 1 / rate[1], 0)
        if momentum[0]:
            move = np.rint((np.float64(now[entry]) - np.float64(was[entry])) / unit)
            step += _divided(np.int64(min(max(move, -LARGEST), LARGEST)) * momentum[0], momentum[1], 1 / momentum[1], 0)
        total[entry] = step


@inlined
def _move_row(now, steps, unit, after):
    """One binary64 addition, one rounding to binary32."""
    for entry in range(now.size):
        to = np.float32(np.float64(now[entry]) + np.float64(steps[entry]) * unit)
        after[entry] = to if steps[entry] else now[entry]  # adding a zero would lose the sign of a negative zero


@compiled
def move_rows(now, was, after, sent, column, division, server, unit, scratch):
    """The rows `after` that follow from the rows `now` of a tensor and what was sent of them.

    `sent`: `order[starts[row] : starts[row + 1]]` says which of `elements` (with `exponents` and `weights`) belong to a
    row; the tensor's entries begin at `column`. `division`, `server`: as in `_mean_row` and `_step_row`.
    """
    starts, (total, senders) = sent[0], scratch
    rate, momentum = server
    stepping = rate[0] != rate[1] or momentum[0] != 0
    for row in range(now.shape[0]):
        if starts[row] == starts[row + 1] and not momentum[0]:
            after[row] = now[row]
            continue
        _sum_row(row, sent, column, total, senders)
        _mean_row(total, senders, division)
        if stepping:
            _step_row(total, now[row], was[row], rate, momentum, unit)
        _move_row(now[row], total, unit, after[row])


@inlined
def _part(columns, bounds, at, column, size):
    """Which entries of a row lie in its columns from `column` on."""
    start, stop = bounds[at], bounds[at + 1]
    first, last = start, stop
    if column and start < stop and columns[start] < column:
        first += np.searchsorted(columns[start:stop], column)
    if first < stop and columns[stop - 1] >= column + size:  # seldom: a tensor is most of its row, or the end of it
        last = start + np.searchsorted(columns[start:stop], column + size)
    return first, last


@compiled
def move_sparse_rows(now, after, sent, column, division, rate, unit, room):
    """As `move_rows`, of sparse rows and without momentum: only the entries that were sent are looked at.

    `bounds[at] : bounds[at + 1]` are the entries of row `at`. Of `room`, `total` and `senders` are all zeros, before
    and afterwards; `places` has room for one entry more than a row.
    """
    starts, order, bounds, columns, elements, exponents, weights, block, lowest = sent
    (divisors, inverses, fraction), (total, senders, places) = division, room
    skipped, block = np.uint32(column), np.uint32(block)  # a place without a sign is not looked at for being negative
    for row in range(now.shape[0]):
        before, moved, moving = now[row], after[row], np.uint32(0)
        moved[:] = before
        for at in order[starts[row] : starts[row + 1]]:
            first, last = _part(columns, bounds, at, column, now.shape[1])
            where, line = columns[first:last], elements[first:last]
            weight = weights[at]
            factor = np.int64(weight) << (np.int64(exponents[at, 0]) - lowest)
            for entry in range(where.size):
                place = where[entry] - skipped
                if exponents.shape[1] > 1:
                    factor = np.int64(weight) << (np.int64(exponents[at, where[entry] // block]) - lowest)
                total[place] += np.int64(line[entry]) * factor
                places[moving] = place  # written in any case, kept if it is the first of its place: no branch
                moving += np.uint32(senders[place] == 0)
                senders[place] += weight
        for place in places[:moving]:
            which = np.uint32(senders[place]) if divisors.size > 1 else np.uint32(0)
            step = _divided(total[place], divisors[which], inverses[which], fraction)
            if rate[0] != rate[1]:
                step = _divided(step * rate[0], rate[1], 1 / rate[1], 0)
            if step:  # adding a zero would lose the sign of a negative zero
                moved[place] = np.float32(np.float64(before[place]) + np.float64(step) * unit)
            total[place] = 0
            senders[place] = 0
