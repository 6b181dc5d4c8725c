"""Updates as they lie in the store: entropy coded, without what the receiver knows from the ledger.

The committed digest is that of the canonical bytes (see `update`), never of these: whoever unpacks gets the canonical
bytes and compares. Per layer: how many entries differ from zero, the gaps between them, their magnitudes and signs (or
all entries as they are, where few of them are zero), and the scale of every block that has one. Whole numbers are split
as in Elias' gamma code, into their number of bits (modelled) and the bits themselves (as they are). `coder` does the
rest.

Every count is bounded by the model's layout before it is used: nothing that is read can make the decoder allocate more
than an update of that model needs.
"""

import numpy as np
from zstandard import ZstdError

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from chain.protocol.rules import Rules
from fl_node.channels import Codes
from fl_node.coder import FEW, MANY, WITH_SECTIONS, Coder, Counts, Reader, Symbols, Writer
from fl_node.gradient import Layer, Layout
from fl_node.quantise import EXPONENT_MAX, EXPONENT_MIN, Elements, Quantised, blocks, element_max, largest_elements
from fl_node.update import LayerUpdate, Update, decode, encode, rows_of

CODED = {FEW, WITH_SECTIONS}  # first bytes; that of canonical bytes is a multiple of 8 (the size of a padded header)
CLASSES = 32  # numbers of bits of a whole number
FINER = 3  # bits below the first one
SPARSE = 4  # entries for every one that differs from zero: with fewer, gaps cost more than the zeros do
_GAP_PRIOR = (1, 2, 4, 8, 16, 8, 2)  # how gaps spread over the classes around that of their mean, seven counts up to +1


def pack(blob: bytes, layout: Layout, rules: Rules) -> bytes:
    """The canonical bytes of an update, packed. What is no update of this model stays as it is."""
    try:
        update = decode(blob, layout, rules, "packing")
    except VerificationError:
        return blob
    writer = Writer()
    _code(writer, layout, rules, update)
    return writer.data()


def unpack(data: bytes, layout: Layout, rules: Rules, participant: str, round_number: int, base_model: Digest) -> bytes:
    """The canonical bytes of the update that was packed, if it was this participant's for this round and base model;
    bytes that were never packed as they are.

    Raises VerificationError (U1) for bytes that nobody packed.
    """
    subject = f"round {round_number} update of {participant}"
    if data[:1] not in CODED:
        return data
    try:
        reader = Reader(data)
        sent, layers, norms = _code(reader, layout, rules, None)
        reader.end()
    except (ValueError, AssertionError, ZstdError) as error:  # the coders' own words for what they have not written
        raise VerificationError(Code.U1, subject, "a packed update", f"{type(error).__name__}: {error}") from None
    found = Update(participant, round_number, base_model, sent, layers, norms)
    return encode(found, rules.compression, layout)


# ------------------------------------------------------------- the format, once for both directions


def _code(
    coder: Coder, layout: Layout, rules: Rules, update: Update | None
) -> tuple[tuple[int, ...], tuple[LayerUpdate, ...], Codes | None]:
    mask = np.zeros(layout.channels, np.int64)
    if update is not None:
        mask[list(update.sent)] = 1
    sent = np.flatnonzero(coder.modelled(layout.channels, np.full(2, 0.5), mask))
    norms: Codes | None = None
    if rules.selection.selection == "common":
        given = None if update is None or update.norms is None else update.norms.astype(np.int64)
        norms = coder.modelled(layout.channels, np.full(256, 1 / 64), given).astype(np.uint8)
    parts = []
    for index, layer in enumerate(layout.layers):
        rows = rows_of(layer, sent)
        known = update.layers[index].values if update is not None else None
        parts.append(LayerUpdate(rows, _code_layer(coder, layer, len(rows), rules, known)))
    return tuple(sent.tolist()), tuple(parts), norms


def _code_layer(coder: Coder, layer: Layer, rows: int, rules: Rules, known: Quantised | None) -> Quantised:
    """The values of the sent rows of one layer."""
    block = rules.compression.block
    elements = _code_elements(
        coder,
        rows * layer.width,
        element_max(rules.compression.bits),
        None if known is None else known.elements.ravel(),
    ).reshape(rows, layer.width)
    exponents = np.full((rows, blocks(layer.width, block)), EXPONENT_MIN, np.int8)
    filled = largest_elements(elements, block) > 0
    scales = None if known is None else known.exponents[filled].astype(np.int64) - EXPONENT_MIN
    alphabet = EXPONENT_MAX - EXPONENT_MIN + 1
    exponents[filled] = coder.modelled(int(filled.sum()), np.full(alphabet, 1 / 16), scales) + EXPONENT_MIN
    return Quantised(elements, exponents, block)


def _code_elements(coder: Coder, entries: int, top: int, known: Elements | None) -> Elements:
    elements = np.zeros(entries, np.int8)
    if not entries:
        return elements
    at = None if known is None else np.flatnonzero(known)
    count = int(_numbers(coder, 1, _flat(CLASSES), None if at is None else np.array([len(at)]))[0])
    if count > entries:
        raise ValueError(f"{count} values in {entries} entries")
    if count * SPARSE > entries:
        shifted = None if known is None else known.astype(np.int64) + top
        return (coder.modelled(entries, np.full(2 * top + 1, 1 / 16), shifted) - top).astype(np.int8)
    gaps = _numbers(coder, count, _gap_prior(entries, count), None if at is None else np.diff(at, prepend=-1) - 1)
    at = np.cumsum(gaps + 1) - 1
    if count and at[-1] >= entries:
        raise ValueError(f"a value behind the last of {entries} entries")
    values = None if known is None else known[at].astype(np.int64)
    magnitudes = np.ones(count, np.int64)
    if top > 1:
        magnitudes = _numbers(coder, count, _flat(top.bit_length()), None if values is None else np.abs(values) - 1) + 1
    signs = coder.raw(count, 1, None if values is None else (values < 0).astype(np.int64))
    elements[at] = np.where(signs == 1, -magnitudes, magnitudes)
    return elements


def _numbers(coder: Coder, count: int, prior: Counts, given: Symbols | None) -> Symbols:
    """Whole numbers from 0: the number of bits of n + 1, less one, and then those bits but the first.

    Of many numbers the model learns the next `FINER` bits too: numbers of as many bits are not equally frequent.
    """
    finer = FINER if count >= MANY else 0
    whole = None if given is None else given + 1
    if whole is not None:
        classes = np.frexp(whole.astype(np.float64))[1].astype(np.int64) - 1
        leading = (whole << finer >> classes) - (1 << finer)
        given = classes << finer | leading
    found = coder.modelled(count, np.repeat(prior, 1 << finer), given)
    classes, leading = found >> finer, found & ((1 << finer) - 1)
    found = (leading + (1 << finer)) << classes >> finer
    for bits in range(finer + 1, int(classes.max(initial=0)) + 1):
        which, rest = np.flatnonzero(classes == bits), bits - finer
        found[which] |= coder.raw(len(which), rest, None if whole is None else whole[which] & ((1 << rest) - 1))
    return found - 1


def _flat(alphabet: int) -> Counts:
    return np.full(max(alphabet, 2), 1 / 4)


def _gap_prior(entries: int, count: int) -> Counts:
    """What is expected of the classes of gaps: they spread geometrically around their mean."""
    prior, mean = np.full(CLASSES, 1 / 64), (entries // max(count, 1)).bit_length() - 1
    for at, weight in enumerate(_GAP_PRIOR, start=mean - len(_GAP_PRIOR) + 2):
        if 0 <= at < CLASSES:
            prior[at] += weight / 4
    return prior
