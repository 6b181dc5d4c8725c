"""Updates as they lie in the store: entropy coded, without what the receiver knows from the ledger.

The committed digest is that of the canonical bytes (see `update`), never of these: whoever unpacks gets the canonical
bytes and compares. `constriction` does the coding (a range coder); the models are counts of what came before, so
they are exact on both sides. Per layer: how many entries differ from zero, the gaps between them, their magnitudes and
signs, and the scale of every block that has one. Whole numbers are split as in Elias' gamma code, into their number of
bits (modelled) and the bits themselves (as they are).

Every count is bounded by the model's layout before it is used: nothing that is read can make the decoder allocate more
than an update of that model needs.
"""

from typing import Any, Protocol

import numpy as np
from constriction import stream

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from chain.protocol.rules import Rules
from fl_node.channels import Codes
from fl_node.gradient import Layer, Layout
from fl_node.quantise import EXPONENT_MAX, EXPONENT_MIN, Quantised, blocks, element_max, largest_elements
from fl_node.update import LayerUpdate, Update, decode, encode, rows_of

CODED = b"\1"  # the first byte; that of canonical bytes is a multiple of 8 (the size of a padded header)
CLASSES = 32  # numbers of bits of a whole number
_GAP_PRIOR = (1, 2, 4, 8, 16, 8, 2)  # how gaps spread over the classes around that of their mean, seven counts up to +1

Symbols = np.ndarray[Any, np.dtype[np.int32]]
Counts = np.ndarray[Any, np.dtype[np.float64]]


class Coder(Protocol):
    """Both directions of one format: the writer takes the symbols and hands them back, the reader finds them."""

    def symbols(self, count: int, model: Any, given: Symbols | None) -> Symbols: ...


class Writer:
    def __init__(self) -> None:
        self._coder = stream.queue.RangeEncoder()

    def symbols(self, count: int, model: Any, given: Symbols | None) -> Symbols:
        assert given is not None and len(given) == count  # noqa: S101 - a writer is given what it writes
        self._coder.encode(np.ascontiguousarray(given, np.int32), model)
        return given

    def data(self) -> bytes:
        return bytes(self._coder.get_compressed().astype("<u4").tobytes())


class Reader:
    def __init__(self, data: bytes) -> None:
        self._coder = stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))

    def symbols(self, count: int, model: Any, given: Symbols | None) -> Symbols:
        found: Symbols = self._coder.decode(model, count)
        return found


def pack(blob: bytes, layout: Layout, rules: Rules) -> bytes:
    """The canonical bytes of an update, packed. What is no update of this model stays as it is."""
    try:
        update = decode(blob, layout, rules, "packing")
    except VerificationError:
        return blob
    writer = Writer()
    _code(writer, layout, rules, update)
    return CODED + writer.data()


def unpack(data: bytes, layout: Layout, rules: Rules, participant: str, round_number: int, base_model: Digest) -> bytes:
    """The canonical bytes of the update that was packed, if it was this participant's for this round and base model;
    bytes that were never packed as they are.

    Raises VerificationError (U1) for bytes that nobody packed.
    """
    subject = f"round {round_number} update of {participant}"
    if data[:1] != CODED:
        return data
    if len(data) % 4 != 1:
        raise VerificationError(Code.U1, subject, "a packed update", "other bytes")
    try:
        sent, layers, norms = _code(Reader(data[1:]), layout, rules, None)
    except (ValueError, AssertionError) as error:  # the coder's own word for data that its model cannot have written
        raise VerificationError(Code.U1, subject, "a packed update", f"{type(error).__name__}: {error}") from None
    found = Update(participant, round_number, base_model, sent, layers, norms)
    return encode(found, rules.compression, layout)


# ------------------------------------------------------------- the format, once for both directions


def _code(
    coder: Coder, layout: Layout, rules: Rules, update: Update | None
) -> tuple[tuple[int, ...], tuple[LayerUpdate, ...], Codes | None]:
    mask = np.zeros(layout.channels, np.int32)
    if update is not None:
        mask[list(update.sent)] = 1
    mask = _adaptive(coder, layout.channels, np.full(2, 0.5), mask)
    sent = np.flatnonzero(mask)
    norms: Codes | None = None
    if rules.selection.selection == "common":
        given = None if update is None or update.norms is None else update.norms.astype(np.int32)
        norms = _adaptive(coder, layout.channels, np.full(256, 1 / 64), given).astype(np.uint8)
    parts = []
    for index, layer in enumerate(layout.layers):
        rows = rows_of(layer, sent)
        known = update.layers[index].values if update is not None else None
        parts.append(LayerUpdate(rows, _code_layer(coder, layer, len(rows), rules, known)))
    return tuple(sent.tolist()), tuple(parts), norms


def _code_layer(coder: Coder, layer: Layer, rows: int, rules: Rules, known: Quantised | None) -> Quantised:
    """The values of the sent rows of one layer."""
    top, block = element_max(rules.compression.bits), rules.compression.block
    entries, across = rows * layer.width, blocks(layer.width, block)
    flat = known.elements.ravel() if known is not None else np.zeros(entries, np.int8)
    at = np.flatnonzero(flat)
    if entries:
        count = int(_numbers(coder, 1, _flat(CLASSES), np.array([len(at)]))[0])
        if count > entries:
            raise ValueError(f"{count} values in {entries} entries")
        gaps = np.diff(at, prepend=-1) - 1
        at = np.cumsum(_numbers(coder, count, _gap_prior(entries, count), gaps) + 1) - 1
        if count and at[-1] >= entries:
            raise ValueError(f"a value behind the last of {entries} entries")
        values = flat[at] if known is not None else np.zeros(count, np.int8)
        magnitudes = np.ones(count, np.int64)
        if top > 1:
            magnitudes = _numbers(coder, count, _flat(top.bit_length()), np.abs(values.astype(np.int64)) - 1) + 1
        signs = coder.symbols(count, stream.model.Uniform(2), (values < 0).astype(np.int32))
        flat[at] = np.where(signs == 1, -magnitudes, magnitudes)
    elements = flat.reshape(rows, layer.width)
    exponents = np.full((rows, across), EXPONENT_MIN, np.int8)
    filled = largest_elements(elements, block) > 0
    scales = (known.exponents[filled] if known is not None else np.zeros(filled.sum())).astype(np.int32) - EXPONENT_MIN
    alphabet = EXPONENT_MAX - EXPONENT_MIN + 1
    exponents[filled] = _adaptive(coder, len(scales), np.full(alphabet, 1 / 16), scales) + EXPONENT_MIN
    return Quantised(elements, exponents, block)


def _numbers(coder: Coder, count: int, prior: Counts, given: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Whole numbers from 0: the number of bits of n + 1, less one, and then those bits but the first."""
    whole = np.asarray(given, np.int64) + 1 if len(given) == count else np.ones(count, np.int64)
    classes = _adaptive(coder, count, prior, (np.frexp(whole.astype(np.float64))[1] - 1).astype(np.int32))
    found = np.ones(count, np.int64)
    for bits in range(1, int(classes.max(initial=0)) + 1):
        which = np.flatnonzero(classes >= bits)
        # one more bit of each, the first ones first
        shift = classes[which] - bits
        found[which] = found[which] << 1 | coder.symbols(
            len(which), stream.model.Uniform(2), (whole[which] >> shift & 1).astype(np.int32)
        )
    return found - 1


def _adaptive(coder: Coder, count: int, prior: Counts, given: Symbols | None) -> Symbols:
    """Symbols below `len(prior)` under the counts of those before, brought up to date at 1, 2, 4, 8... of them."""
    counts, found, start = prior.copy(), np.zeros(count, np.int32), 0
    while start < count:
        stop = min(count, max(1, 2 * start))
        model = stream.model.Categorical(counts, perfect=False)
        found[start:stop] = coder.symbols(stop - start, model, None if given is None else given[start:stop])
        counts += np.bincount(found[start:stop], minlength=len(counts))
        start = stop
    return found


def _flat(alphabet: int) -> Counts:
    return np.full(max(alphabet, 2), 1 / 4)


def _gap_prior(entries: int, count: int) -> Counts:
    """What is expected of the classes of gaps: they spread geometrically around their mean."""
    prior, mean = np.full(CLASSES, 1 / 64), (entries // max(count, 1)).bit_length() - 1
    for at, weight in enumerate(_GAP_PRIOR, start=mean - len(_GAP_PRIOR) + 2):
        if 0 <= at < CLASSES:
            prior[at] += weight / 4
    return prior
