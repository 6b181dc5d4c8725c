"""The format of packed updates, once for both directions.

First which channels were sent, or that those were that have entries. Then per layer: how many entries differ from zero,
the gaps between them, their magnitudes and signs (or all entries as they are, where few of them are zero), and the
scale of every block that has one. Gaps between entries at random are spread geometrically, so that is their model;
`coder` does the rest.

Every count is bounded by the model's layout before it is used: nothing that is read can make the decoder allocate more
than an update of that model needs.
"""

from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np

from chain.protocol.rules import CompressionRules, Rules
from fl_node.channels import Codes
from fl_node.coder import Coder, Counts, Numbers, Symbols
from fl_node.gradient import Layer, Layout
from fl_node.kernels import sparse as kernels
from fl_node.largest import Unsigned
from fl_node.quantise import EXPONENT_MAX, EXPONENT_MIN, Exponents, Integers, Quantised, blocks, element_max
from fl_node.sparse import Sparse
from fl_node.update import LayerUpdate, Update, entry_budget, rows_of

Values = Quantised | Sparse

SPARSE = 4  # entries for every one that differs from zero: with fewer, gaps cost more than the zeros do
STEP = 255  # a symbol that stands for as many places and no entry; smaller ones are gaps
GAP_BITS = 6  # of a mean gap that are modelled; those below are random
CLASSES = 32  # numbers of bits of a whole number
_SCALES = EXPONENT_MAX - EXPONENT_MIN + 1


def code(
    coder: Coder, layout: Layout, rules: Rules, update: Update | None, told: bool
) -> tuple[Integers, tuple[LayerUpdate, ...], Codes | None]:
    if told and not rules.compression.sparse:
        raise ValueError("no channels, under rules that send whole ones")
    mask = np.full(layout.channels, int(told))
    if update is not None:
        mask[update.sent] = 1
    sent = np.flatnonzero(mask if told else coder.modelled(layout.channels, np.full(2, 0.5), mask))
    norms: Codes | None = None
    if rules.selection.selection == "common":
        given = None if update is None or update.norms is None else update.norms.astype(np.int64)
        norms = coder.modelled(layout.channels, np.full(256, 1 / 64), given)
    parts, scales, room = [], _flat(_SCALES), entry_budget(layout, rules.compression)
    for index, layer in enumerate(layout.layers):
        rows = rows_of(layer, sent)
        known = update.layers[index].values if update is not None else None
        values = _code_layer(coder, layer, len(rows), rules, scales, known, room)
        room -= values.entries
        if rules.compression.bits == 2 and values.entries:
            scales = _near(int(values.exponents.max()) - EXPONENT_MIN, _SCALES)  # of layers they are much alike
        parts.append(LayerUpdate(rows, values))
    return sent, tuple(parts), norms


def _code_layer(
    coder: Coder, layer: Layer, rows: int, rules: Rules, scales: Counts, known: Values | None, room: int
) -> Values:
    """The values of the sent rows of one layer. `scales`: what is expected of the first one; `room`: how many entries
    the rules allow that are not read yet.
    """
    compression, size = rules.compression, rows * layer.width
    exponents = np.full((rows, blocks(layer.width, compression.block)), EXPONENT_MIN, np.int8)
    expected = _expected_entries(size, compression.entry_rate)
    count = _code_number(coder, expected, None if known is None else known.entries) if size else 0
    if count > size or (known is None and count > room):  # a few bytes must not become more than an update may have
        raise ValueError(f"{count} values in {size} entries, of which {room} may have some")
    top, code = element_max(compression.bits), _code_all if count * SPARSE > size else _code_few
    if compression.bits == 2:  # one magnitude, and then signs
        magnitude = coder.modelled(1, _MAGNITUDES, None if known is None else np.array([known.magnitude()]))
        values = code(coder, count, exponents, layer.width, 1, compression, known and known.signs())
        values.elements[...] *= magnitude.view(np.int8)
    else:
        values = code(coder, count, exponents, layer.width, top, compression, known)
    if values.entries != count:
        raise ValueError(f"{values.entries} values instead of {count}")
    filled = values.filled
    given = None if known is None else known.exponents[filled].astype(np.int64) - EXPONENT_MIN
    found = _code_scales(coder, int(filled.sum()), compression, scales, given)
    exponents[filled] = found.astype(np.int8) + EXPONENT_MIN  # the values see it: these are their exponents
    return values


def _code_scales(coder: Coder, count: int, rules: CompressionRules, first: Counts, given: Numbers | None) -> Symbols:
    """Of the blocks that have one. With 2 bits all of a layer have the same."""
    if rules.bits != 2 or not count:
        return coder.modelled(count, np.full(_SCALES, 1 / 16), given)
    return np.repeat(coder.modelled(1, first, None if given is None else given[:1]), count)


def _code_all(
    coder: Coder, count: int, exponents: Exponents, width: int, top: int, rules: CompressionRules, known: Values | None
) -> Values:
    """Every entry as it is."""
    given = None if known is None else _dense(known).elements.ravel().view(np.uint8) + np.uint8(top)
    found = coder.modelled(len(exponents) * width, np.full(2 * top + 1, 1 / 16), given)
    dense = Quantised((found - np.uint8(top)).view(np.int8).reshape(-1, width), exponents, rules.block)
    return Sparse.of(dense) if rules.sparse else dense


def _code_few(
    coder: Coder, count: int, exponents: Exponents, width: int, top: int, rules: CompressionRules, known: Values | None
) -> Values:
    """The entries that differ from zero: where they are, their magnitudes and signs."""
    given = None if known is None else _sparse(known)
    counts, columns = _code_places(coder, count, len(exponents), width, given)
    elements = None if given is None else given.elements
    magnitudes = np.ones(count, np.int8)
    if top > 1:
        magnitudes += coder.modelled(count, _flat(top), None if elements is None else np.abs(elements) - 1).view(
            np.int8
        )
    negative = coder.raw(count, 1, None if elements is None else elements < 0).astype(np.int8)
    found = Sparse(counts, columns, magnitudes * (1 - 2 * negative), exponents, rules.block, width)
    return found if rules.sparse else found.dense()


def _dense(values: Values) -> Quantised:
    return values.dense() if isinstance(values, Sparse) else values


def _sparse(values: Values) -> Sparse:
    return values if isinstance(values, Sparse) else Sparse.of(values)


def _code_places(coder: Coder, count: int, rows: int, width: int, known: Sparse | None) -> tuple[Unsigned, Unsigned]:
    """Counts and columns of `count` entries. Low bits of the gaps between them as they are, the rest as symbols."""
    low = max(0, (rows * width // max(count, 1)).bit_length() - GAP_BITS)
    high = rest = symbols = None
    if known is not None:
        places = known.columns.astype(np.int64) + np.repeat(np.arange(rows) * width, known.counts)
        gaps = np.diff(places, prepend=-1) - 1
        high, rest = gaps >> low, gaps & ((1 << low) - 1)
    steps = _code_number(coder, _MOSTLY_ZERO, None if high is None else int((high // STEP).sum()))
    if steps * STEP << low > rows * width:
        raise ValueError(f"a value behind the last of {rows * width} entries")
    if high is not None:
        symbols = np.full(count + steps, STEP, np.uint8)
        symbols[np.cumsum(high // STEP + 1) - 1] = high % STEP
    found = coder.modelled(count + steps, _geometric(count, rows * width, low), symbols, fixed=True)
    rest = coder.raw(count, low, rest)
    counts, columns = np.zeros(rows, np.uint32), np.empty(count, np.uint32)
    if not kernels.list_gaps(found, np.uint8(STEP), low, rest, width, counts, columns):
        raise ValueError(f"gaps that make no {count} of {rows * width} entries")
    return counts, columns


def _code_number(coder: Coder, prior: Counts, given: int | None) -> int:
    """One whole number from 0: the number of bits of n + 1, less one, and then those bits but the first."""
    bits = int(coder.modelled(1, prior, None if given is None else np.array([_bits(given)]))[0])
    rest = coder.raw(1, bits, None if given is None else np.array([given + 1 - (1 << bits)]))
    return (1 << bits) + int(rest[0]) - 1


def _bits(number: int) -> int:
    return (number + 1).bit_length() - 1


@lru_cache
def _flat(alphabet: int) -> Counts:
    return np.full(max(alphabet, 2), 1 / 4)


@lru_cache(maxsize=256)
def _expected_entries(size: int, rate: Decimal) -> Counts:
    """How many of `size` entries differ from zero, nearly, as a number of bits."""
    return _near(_bits(int(size * Fraction(rate))), CLASSES)


@lru_cache
def _near(centre: int, alphabet: int) -> Counts:
    """Half as likely with every step away from the centre."""
    return np.ldexp(1.0, -np.minimum(np.abs(np.arange(alphabet) - centre), 12))


_MOSTLY_ZERO = np.concatenate([[16.0], _flat(CLASSES - 1)])
_MAGNITUDES = np.concatenate([np.full(64, 2.0**-6), np.ones(64)])  # 7 bits of a float32, unless they are at an end


@lru_cache(maxsize=256)
def _geometric(count: int, size: int, low: int) -> Counts:
    """How gaps between `count` of `size` places at random are spread, without their `low` lowest bits. Products alone,
    one after the other: the same bits everywhere.
    """
    stay = (size - count) / max(size, 1)
    for _ in range(low):
        stay *= stay
    counts: Counts = np.multiply.accumulate(np.full(STEP + 1, stay)) / stay if stay else np.zeros(STEP + 1)
    counts[STEP] = counts[STEP] / max(1 - stay, 2.0**-50)
    return np.maximum(counts, 2.0**-24)
