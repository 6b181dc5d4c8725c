"""Sparse rows: `bounds[row] : bounds[row + 1]` are the entries of a row, with their columns and elements."""

# numba compiles these from the types that they are called with
# mypy: disable-error-code="no-untyped-def, misc, untyped-decorator"

import numpy as np

from fl_node.kernels.compiled import LIMB, MAGNITUDE, compiled, inlined
from fl_node.kernels.rows import PIECE, square_sum


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
def list_reaching(bits, bound, counts, columns, kept):
    """Column and bits of all entries whose magnitudes are not below `bound`, row after row. Returns how many there are;
    -1 if they might not fit.
    """
    at = np.int64(0)
    for row in range(bits.shape[0]):
        line, first = bits[row], at
        if at + line.size > kept.size:
            return -1
        for entry in range(line.size):
            if (line[entry] & MAGNITUDE) >= bound:
                columns[at] = entry
                kept[at] = line[entry]
                at += 1
        counts[row] = at - first
    return at


@compiled
def list_signs(listed, places, bits, cut, counts, columns, signs):
    """Column and sign of those of the listed entries, `listed[row]` in a row, whose magnitudes are not below `cut`.
    Returns how many there are, and the sum of their magnitudes' bits.
    """
    at, total, start = np.int64(0), np.int64(0), np.int64(0)
    for row in range(counts.size):
        first, stop = at, start + listed[row]
        for entry in range(start, stop):
            magnitude = bits[entry] & MAGNITUDE
            columns[at] = places[entry]
            signs[at] = np.int8(1) if bits[entry] >= 0 else np.int8(-1)
            if magnitude >= cut:
                total += magnitude
                at += 1
        counts[row], start = at - first, stop
    return at, total


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


@inlined
def _ascend(columns):
    right = True
    for entry in range(columns.size - 1):
        right &= columns[entry] < columns[entry + 1]
    return right


@inlined
def _extremes(elements):
    least, most = np.int16(1), np.int16(0)
    for entry in range(elements.size):
        magnitude = np.int16(abs(np.int16(elements[entry])))
        least, most = min(least, magnitude), max(most, magnitude)
    return least, most


@compiled
def largest_elements(bounds, columns, elements, block, width, largest):
    """The largest magnitude of each block. False when columns do not ascend or lie outside, or an element is zero."""
    for row in range(bounds.size - 1):
        where, line = columns[bounds[row] : bounds[row + 1]], elements[bounds[row] : bounds[row + 1]]
        least, most = _extremes(line)
        if least == 0 or not _ascend(where) or (where.size and where[-1] >= width):
            return False
        if largest.shape[1] == 1:
            largest[row, 0] = most
            continue
        for entry in range(line.size):
            index, magnitude = np.int64(where[entry]) // block, np.int16(abs(np.int16(line[entry])))
            largest[row, index] = max(largest[row, index], magnitude)
    return True


@compiled
def norm_limbs(bounds, columns, elements, exponents, block, lowest, limbs):
    """As `rows.norm_limbs`."""
    for row in range(bounds.size - 1):
        if exponents.shape[1] == 1:
            shift = 2 * (np.int64(exponents[row, 0]) - lowest)
            for start in range(bounds[row], bounds[row + 1], PIECE):
                shifted = square_sum(elements[start : min(start + PIECE, bounds[row + 1])]) << (shift & 31)
                limbs[row, shift >> 5] += shifted & LIMB
                limbs[row, (shift >> 5) + 1] += shifted >> 32
            continue
        for entry in range(bounds[row], bounds[row + 1]):
            shift = 2 * (np.int64(exponents[row, np.int64(columns[entry]) // block]) - lowest)
            shifted = np.int64(np.int32(elements[entry]) * np.int32(elements[entry])) << (shift & 31)
            limbs[row, shift >> 5] += shifted & LIMB
            limbs[row, (shift >> 5) + 1] += shifted >> 32


@compiled
def subtract_rows(gradient, at, bounds, columns, elements, exponents, block, lowest, scales):
    """As `rows.subtract_rows`."""
    for row in range(bounds.size - 1):
        line, scale = gradient[at[row]], scales[np.int64(exponents[row, 0]) - lowest]
        where, sent = columns[bounds[row] : bounds[row + 1]], elements[bounds[row] : bounds[row + 1]]
        if exponents.shape[1] == 1:
            for entry in range(where.size):
                line[where[entry]] -= np.float32(sent[entry]) * scale
            continue
        for entry in range(where.size):
            scale = scales[np.int64(exponents[row, where[entry] // np.uint32(block)]) - lowest]
            line[where[entry]] -= np.float32(sent[entry]) * scale
