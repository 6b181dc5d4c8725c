"""The loops over every entry of a model, compiled by numba: one pass over memory where numpy would take ten.

Integers, and float operations that IEEE 754 rounds exactly (no fast-math): the same bits on every machine. They
release the interpreter's lock, so that threads may share the rows. Nothing outside `quantise` and `aggregate` calls
them; what they mean is said there.
"""

# numba compiles these from the types that they are called with
# mypy: disable-error-code="no-untyped-def, misc, untyped-decorator"

import numpy as np
from numba import njit

MAGNITUDE = np.int32(0x7FFFFFFF)  # the bits of a float32 but for the sign are ordered as the magnitudes are
ROUND = np.float32(1.5 * 2**23)  # added and taken away again, rounds a float32 below 2**22 half to even
LIMB = np.int64(0xFFFFFFFF)
LARGEST = 2.0**39  # a value that was sent is smaller, in units of the ring
PIECE = 1 << 16  # entries whose sum of squares, below 2**30, may be shifted by 31 bits in int64

compiled = njit(cache=True, nogil=True)
inlined = njit(cache=True, nogil=True, inline="always")


@compiled
def add_change(residual, after, before):
    """`residual = after - before + residual`, float32, rounded after each of the two."""
    for row in range(residual.shape[0]):
        line, new, old = residual[row], after[row], before[row]
        for entry in range(line.size):
            line[entry] = (new[entry] - old[entry]) + line[entry]


@compiled
def count_magnitudes(bits, shift, prefix, counts):
    """Counts the magnitudes whose bits above `shift + 16` are `prefix` by the 16 bits below those."""
    for entry in range(bits.size):
        magnitude = np.int64(bits[entry] & MAGNITUDE) >> shift
        if magnitude >> 16 == prefix:
            counts[magnitude & 0xFFFF] += 1


@inlined
def _largest(bits):
    largest = np.int32(0)
    for entry in range(bits.size):
        largest = max(largest, bits[entry] & MAGNITUDE)
    return largest


@inlined
def _round(values, inverse, top, elements):
    for entry in range(values.size):
        scaled = values[entry] * inverse
        scaled = scaled if scaled < top else top
        scaled = scaled if scaled > -top else -top
        elements[entry] = np.int8(np.int32((scaled + ROUND) - ROUND))


@inlined
def _drop(bits, cut, elements):
    for entry in range(bits.size):
        if (bits[entry] & MAGNITUDE) < cut:
            elements[entry] = 0


@inlined
def _all_zero(elements):
    found = np.int8(0)
    for entry in range(elements.size):
        found |= elements[entry]
    return found == 0


@compiled
def quantise_rows(values, bits, cut, digits, lowest, inverses, block, elements, exponents):
    """Elements of `digits` bits and a sign; `inverses[i]` is 2**-(lowest + i). Magnitudes below `cut` become zero."""
    rows, width = values.shape
    top = np.float32((1 << digits) - 1)
    for row in range(rows):
        for index in range(exponents.shape[1]):
            start = index * block
            stop = min(start + block, width)
            largest = _largest(bits[row, start:stop])
            at = min(max((largest >> 23) - 126 - digits - lowest, 0), inverses.size - 1)
            if largest < cut:
                elements[row, start:stop] = 0
            else:
                _round(values[row, start:stop], inverses[at], top, elements[row, start:stop])
                if cut > 1:
                    _drop(bits[row, start:stop], cut, elements[row, start:stop])
            # largest zero, or so small that all round to zero: then any scale would do, and the lowest is canonical
            exponents[row, index] = lowest if at == 0 or _all_zero(elements[row, start:stop]) else lowest + at


@compiled
def sign_rows(bits, cut, elements):
    """Elements 1, 0 or -1. Returns the number of magnitudes not below `cut`, and the sum of their bits."""
    count, total = np.int64(0), np.int64(0)
    for row in range(bits.shape[0]):
        line, signs = bits[row], elements[row]
        for entry in range(line.size):
            kept = (line[entry] & MAGNITUDE) >= cut
            signs[entry] = (np.int8(1) if line[entry] >= 0 else np.int8(-1)) if kept else np.int8(0)
            count += kept
            total += np.int64(line[entry] & MAGNITUDE) if kept else np.int64(0)
    return count, total


@compiled
def largest_elements(elements, block, largest):
    """The largest magnitude of each block, int16 `[rows, blocks]`."""
    for row in range(elements.shape[0]):
        for index in range(largest.shape[1]):
            found = np.int16(0)
            for element in elements[row, index * block : (index + 1) * block]:
                found = max(found, np.int16(abs(np.int16(element))))
            largest[row, index] = found


@inlined
def _square(elements):
    total = np.int64(0)
    for entry in range(elements.size):
        total += np.int32(elements[entry]) * np.int32(elements[entry])
    return total


@compiled
def norm_limbs(elements, exponents, block, lowest, limbs):
    """The squared norm of each row into three int64 limbs of 32 bits: `sum(element**2) << 2 * (exponent - lowest)`."""
    for row in range(elements.shape[0]):
        for index in range(exponents.shape[1]):
            shift = 2 * (np.int64(exponents[row, index]) - lowest)
            limb = shift >> 5
            stop = min((index + 1) * block, elements.shape[1])
            for start in range(index * block, stop, PIECE):
                shifted = _square(elements[row, start : min(start + PIECE, stop)]) << (shift & 31)
                limbs[row, limb] += shifted & LIMB
                limbs[row, limb + 1] += shifted >> 32


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
def _weighted(element, weight, exponent, lowest):
    return np.int64(np.int32(element) * weight) << (np.int64(exponent) - lowest)


@inlined
def _part(columns, bounds, at, column, size):
    """Which entries of a row lie in its columns from `column` on."""
    row = columns[bounds[at] : bounds[at + 1]]
    return bounds[at] + np.searchsorted(row, column), bounds[at] + np.searchsorted(row, column + size)


@compiled
def move_sparse_rows(now, after, sent, column, division, rate, unit, scratch):
    """As `move_rows`, of sparse rows and without momentum: only the entries that were sent are looked at.

    `bounds[at] : bounds[at + 1]` are the entries of row `at`; `scratch` is all zeros, before and afterwards.
    """
    starts, order, bounds, columns, elements, exponents, weights, block, lowest = sent
    (divisors, inverses, places), (total, senders) = division, scratch
    for row in range(now.shape[0]):
        before, moved = now[row], after[row]
        moved[:] = before
        for at in order[starts[row] : starts[row + 1]]:
            first, last = _part(columns, bounds, at, column, now.shape[1])
            for entry in range(first, last):
                place = np.int64(columns[entry])
                exponent = exponents[at, 0 if exponents.shape[1] == 1 else place // block]
                total[place - column] += _weighted(elements[entry], weights[at], exponent, lowest)
                senders[place - column] += weights[at]
        for at in order[starts[row] : starts[row + 1]]:
            first, last = _part(columns, bounds, at, column, now.shape[1])
            for entry in range(first, last):
                place = np.int64(columns[entry]) - column
                which = senders[place] if divisors.size > 1 else 0
                if senders[place]:
                    step = _divided(total[place], divisors[which], inverses[which], places)
                    if rate[0] != rate[1]:
                        step = _divided(step * rate[0], rate[1], 1 / rate[1], 0)
                    if step:
                        moved[place] = np.float32(np.float64(before[place]) + np.float64(step) * unit)
                    total[place] = 0
                    senders[place] = 0


@compiled
def subtract_rows(gradient, at, elements, exponents, block, lowest, scales):
    """`gradient[at[i]] -= value`, exactly; `scales[i]` is 2**(lowest + i)."""
    for row in range(elements.shape[0]):
        line, sent = gradient[at[row]], elements[row]
        for index in range(exponents.shape[1]):
            scale = scales[np.int64(exponents[row, index]) - lowest]
            for entry in range(index * block, min((index + 1) * block, sent.size)):
                line[entry] -= np.float32(sent[entry]) * scale


# ------------------------------------------------------------- sparse rows: `bounds[row : row + 2]` bounds the entries


@compiled
def count_entries(elements, counts):
    """How many entries of each row differ from zero."""
    for row in range(elements.shape[0]):
        found = np.uint32(0)
        for element in elements[row]:
            found += np.uint32(element != 0)
        counts[row] = found


@compiled
def list_entries(elements, columns, kept):
    """Column and element of all entries that differ from zero, row after row."""
    at = 0
    for row in range(elements.shape[0]):
        line = elements[row]
        for entry in range(line.size):
            if line[entry]:
                columns[at] = entry
                kept[at] = line[entry]
                at += 1


@compiled
def list_gaps(symbols, step, low, rest, width, counts, columns):
    """Counts and columns of entries from the gaps between them. A symbol `step` goes as far and has no entry; every
    other one is a gap without its `low` lowest bits, which are in `rest`. False where that is no list of entries.
    """
    at, row, stop, place, far = 0, 0, np.int64(width), np.int64(-1), np.int64(0)
    for symbol in symbols:
        far += symbol
        if symbol == step:
            continue
        if at == columns.size:
            return False
        place += 1 + (far << low | np.int64(rest[at]))
        if place >= counts.size * width:
            return False
        while place >= stop:
            row += 1
            stop += width
        counts[row] += 1
        columns[at] = place - stop + width
        at += 1
        far = np.int64(0)
    return at == columns.size and far == 0


@compiled
def largest_sparse(bounds, columns, elements, block, width, largest):
    """As `largest_elements`. False when columns do not ascend or lie outside of the row, or an element is zero."""
    for row in range(bounds.size - 1):
        before = np.int64(-1)
        for entry in range(bounds[row], bounds[row + 1]):
            column, magnitude = np.int64(columns[entry]), np.int16(abs(np.int16(elements[entry])))
            if column <= before or column >= width or magnitude == 0:
                return False
            index = 0 if largest.shape[1] == 1 else column // block
            largest[row, index] = max(largest[row, index], magnitude)
            before = column
    return True


@compiled
def norm_limbs_sparse(bounds, columns, elements, exponents, block, lowest, limbs):
    """As `norm_limbs`."""
    for row in range(bounds.size - 1):
        for entry in range(bounds[row], bounds[row + 1]):
            index = 0 if exponents.shape[1] == 1 else np.int64(columns[entry]) // block
            shift = 2 * (np.int64(exponents[row, index]) - lowest)
            shifted = np.int64(np.int32(elements[entry]) * np.int32(elements[entry])) << (shift & 31)
            limbs[row, shift >> 5] += shifted & LIMB
            limbs[row, (shift >> 5) + 1] += shifted >> 32


@compiled
def subtract_sparse(gradient, at, bounds, columns, elements, exponents, block, lowest, scales):
    """As `subtract_rows`."""
    for row in range(bounds.size - 1):
        line = gradient[at[row]]
        for entry in range(bounds[row], bounds[row + 1]):
            column = np.int64(columns[entry])
            index = 0 if exponents.shape[1] == 1 else column // block
            line[column] -= np.float32(elements[entry]) * scales[np.int64(exponents[row, index]) - lowest]
