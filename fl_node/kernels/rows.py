"""Dense rows of values: elements int8 `[rows, width]`, exponents int8 `[rows, blocks]`."""

# numba compiles these from the types that they are called with
# mypy: disable-error-code="no-untyped-def, misc, untyped-decorator"

import numpy as np

from fl_node.kernels.compiled import LIMB, MAGNITUDE, compiled, inlined

ROUND = np.float32(1.5 * 2**23)  # added and taken away again, rounds a float32 below 2**22 half to even
EXPONENT = np.int32(0x7F800000)  # of a float32's bits
BLOCK = 32  # entries, of the MX formats: with a size that is known here a block is a few vector instructions
PIECE = 1 << 16  # entries whose sum of squares, below 2**30, may be shifted by 31 bits in int64


@compiled
def all_finite(bits):
    """Whether no float32 is infinite or no number: all ones in the exponent. All are looked at: no branch."""
    found = False
    for entry in range(bits.size):
        found |= (bits[entry] & EXPONENT) == EXPONENT
    return not found


@compiled
def add_change(residual, after, before):
    """`residual = after - before + residual`, float32, rounded after each of the two."""
    for row in range(residual.shape[0]):
        line, new, old = residual[row], after[row], before[row]
        for entry in range(line.size):
            line[entry] = (new[entry] - old[entry]) + line[entry]


@compiled
def _largest_of_blocks(bits, block, largest):
    """The largest magnitude of each block of a row."""
    whole, eight = bits.size // BLOCK if block == BLOCK else 0, np.empty(8, np.int32)
    for index in range(whole):
        start = index * BLOCK
        for lane in range(8):
            first, second = bits[start + lane] & MAGNITUDE, bits[start + lane + 8] & MAGNITUDE
            third, fourth = bits[start + lane + 16] & MAGNITUDE, bits[start + lane + 24] & MAGNITUDE
            eight[lane] = max(first, second, third, fourth)
        largest[index] = max(eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7])
    for index in range(whole, largest.size):
        found = np.int32(0)
        for entry in bits[index * block : (index + 1) * block]:
            found = max(found, entry & MAGNITUDE)
        largest[index] = found


@inlined
def _rounded(value, inverse, top):
    scaled = value * inverse
    scaled = scaled if scaled < top else top
    scaled = scaled if scaled > -top else -top
    return np.int8(np.int32((scaled + ROUND) - ROUND))


@compiled
def _round_blocks(values, inverses, block, top, elements):
    """A row times the inverse of each block's scale, to integers."""
    whole = values.size // BLOCK if block == BLOCK else 0
    for index in range(whole):
        inverse = inverses[index]
        for entry in range(BLOCK):
            elements[index * BLOCK + entry] = _rounded(values[index * BLOCK + entry], inverse, top)
    for index in range(whole, inverses.size):
        inverse = inverses[index]
        for entry in range(index * block, min((index + 1) * block, values.size)):
            elements[entry] = _rounded(values[entry], inverse, top)


@inlined
def _drop(bits, cut, elements):
    for entry in range(bits.size):
        if (bits[entry] & MAGNITUDE) < cut:
            elements[entry] = 0


@compiled
def quantise_rows(values, bits, cut, digits, lowest, inverses, block, elements, exponents):
    """Elements of `digits` bits and a sign; `inverses[i]` is 2**-(lowest + i). Magnitudes below `cut` become zero."""
    top = np.float32((1 << digits) - 1)
    largest, scales = np.empty(exponents.shape[1], np.int32), np.empty(exponents.shape[1], np.float32)
    for row in range(values.shape[0]):
        _largest_of_blocks(bits[row], block, largest)
        for index in range(largest.size):
            at = min(max((largest[index] >> 23) - 126 - digits - lowest, 0), inverses.size - 1)
            # of a block without entries any scale would do, and the lowest is canonical
            exponents[row, index] = lowest + at if largest[index] >= cut else lowest
            scales[index] = inverses[at]
        _round_blocks(values[row], scales, block, top, elements[row])
        if cut > 1:
            _drop(bits[row], cut, elements[row])


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


@compiled
def scales_hold(largest, exponents, lowest, highest, top, one):
    """Whether the exponents of blocks with these largest magnitudes are in range and the smallest that will do; `one`:
    and the same for all blocks that are not empty, and no other one above it.
    """
    above, right, half = np.int8(lowest), True, top // 2
    for row in range(exponents.shape[0]):
        for index in range(exponents.shape[1]):
            exponent, most = exponents[row, index], largest[row, index]
            right &= (exponent >= lowest) & (exponent <= highest) & (most <= top)
            right &= (most > half) | (exponent == lowest)
            above = max(above, exponent)
    for row in range(exponents.shape[0] if one else 0):
        for index in range(exponents.shape[1]):
            right &= (largest[row, index] == 0) | (exponents[row, index] == above)
    return right


@compiled
def one_magnitude(elements):
    """What all are but for the sign; 0 if there are none, -1 if they differ, or are zero."""
    if elements.size == 0:
        return 0
    first = abs(np.int16(elements[0]))
    for entry in range(elements.size):
        if abs(np.int16(elements[entry])) != first:
            return -1
    return np.int64(first) if 0 < first <= 127 else -1


@inlined
def square_sum(elements):
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
                shifted = square_sum(elements[row, start : min(start + PIECE, stop)]) << (shift & 31)
                limbs[row, limb] += shifted & LIMB
                limbs[row, limb + 1] += shifted >> 32


@compiled
def carry(limbs, halves):
    """Whole numbers from limbs of 32 bits that have grown beyond: their upper and lower 64 bits."""
    for row in range(limbs.shape[0]):
        second = limbs[row, 1] + (limbs[row, 0] >> 32)
        third = limbs[row, 2] + (second >> 32)
        fourth = limbs[row, 3] + (third >> 32)
        halves[row, 0] = np.uint64(fourth << 32 | third & LIMB)
        halves[row, 1] = np.uint64(second << 32 | limbs[row, 0] & LIMB)


@compiled
def subtract_rows(gradient, at, elements, exponents, block, lowest, scales):
    """`gradient[at[i]] -= value`, exactly; `scales[i]` is 2**(lowest + i)."""
    for row in range(elements.shape[0]):
        line, sent = gradient[at[row]], elements[row]
        for index in range(exponents.shape[1]):
            scale = scales[np.int64(exponents[row, index]) - lowest]
            for entry in range(index * block, min((index + 1) * block, sent.size)):
                line[entry] -= np.float32(sent[entry]) * scale
