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
PIECE = 1 << 16  # entries whose sum of squares, below 2**30, may be shifted by 31 bits in int64

compiled = njit(cache=True, nogil=True)
inlined = njit(cache=True, nogil=True, inline="always")


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
def _add(total, elements, factor):
    for entry in range(elements.size):
        total[entry] += np.int64(elements[entry]) * factor


@compiled
def add_rows(total, at, elements, exponents, block, lowest, weight):
    """`total[at[i]] += weight * value` for the rows of an update, in units of 2**lowest."""
    for row in range(elements.shape[0]):
        line, sent = total[at[row]], elements[row]
        for index in range(exponents.shape[1]):
            factor = np.int64(weight) << (np.int64(exponents[row, index]) - lowest)
            _add(line[index * block : (index + 1) * block], sent[index * block : (index + 1) * block], factor)


@compiled
def add_senders(senders, at, elements, weight):
    """Adds `weight` to every entry that is sent, that is not zero."""
    for row in range(elements.shape[0]):
        line, sent = senders[at[row]], elements[row]
        for entry in range(sent.size):
            line[entry] += np.int32(weight) if sent[entry] else np.int32(0)


@compiled
def shift_rows(total, places):
    """`total / 2**places`, halves to the even integer, in place."""
    below, half = (np.int64(1) << places) - 1, np.int64(1) << (places - 1)
    for row in range(total.shape[0]):
        line = total[row]
        for entry in range(line.size):
            quotient, rest = line[entry] >> places, line[entry] & below
            line[entry] = quotient + np.int64((rest + (quotient & 1)) > half)


@inlined
def _divide(value, divisor, places):
    quotient = value // divisor
    rest = value - quotient * divisor
    if places:
        more = (rest << places) // divisor
        rest = (rest << places) - more * divisor
        quotient = (quotient << places) + more
    return quotient + np.int64(2 * rest > divisor or (2 * rest == divisor and quotient & 1))


@compiled
def divide_rows(total, divisor):
    """`total / divisor`, halves to the even integer, in place."""
    for row in range(total.shape[0]):
        line = total[row]
        for entry in range(line.size):
            if line[entry]:
                line[entry] = _divide(line[entry], divisor, 0)


@compiled
def divide_by_senders(total, senders, divisors, places):
    """`total * 2**places / divisors[senders]`, halves to the even integer, in place."""
    for row in range(total.shape[0]):
        line, weights = total[row], senders[row]
        for entry in range(line.size):
            if line[entry]:
                line[entry] = _divide(line[entry], divisors[weights[entry]], places)


@compiled
def move_rows(before, units, unit, after):
    """`after = before + units * unit` of float32: one binary64 addition, one rounding. Zero moves nothing."""
    for row in range(before.shape[0]):
        line, moves, moved = before[row], units[row], after[row]
        for entry in range(line.size):
            to = np.float32(np.float64(line[entry]) + np.float64(moves[entry]) * unit)
            moved[entry] = to if moves[entry] else line[entry]  # adding a zero would lose the sign of a negative zero


@compiled
def subtract_rows(gradient, at, elements, exponents, block, lowest, scales):
    """`gradient[at[i]] -= value`, exactly; `scales[i]` is 2**(lowest + i)."""
    for row in range(elements.shape[0]):
        line, sent = gradient[at[row]], elements[row]
        for index in range(exponents.shape[1]):
            scale = scales[np.int64(exponents[row, index]) - lowest]
            for entry in range(index * block, min((index + 1) * block, sent.size)):
                line[entry] -= np.float32(sent[entry]) * scale
