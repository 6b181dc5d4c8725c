"""Updates as they lie in the store: entropy coded (see `packed`), without what the receiver knows from the ledger.

The committed digest is that of the canonical bytes (see `update`), never of these: whoever unpacks gets the canonical
bytes and compares.
"""

from dataclasses import dataclass, replace
from math import lgamma, log, log2

import numpy as np
from zstandard import ZstdError

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from chain.protocol.rules import Rules
from fl_node.coder import FEW, WITH_SECTIONS, Reader, Writer
from fl_node.gradient import Layout
from fl_node.packed import code
from fl_node.quantise import EXPONENT_MIN
from fl_node.sparse import Sparse
from fl_node.update import LayerUpdate, Update, canonical, decode, encode

CODED = {FEW, WITH_SECTIONS}  # first bytes; that of canonical bytes is a multiple of 8 (the size of a padded header)


def pack(blob: bytes, layout: Layout, rules: Rules) -> bytes:
    """The canonical bytes of an update, packed. What is no update of this model, or would not be shorter, stays as it
    is: so nobody needs to read more than the size that was committed.
    """
    try:
        update = decode(blob, layout, rules, "packing")
    except VerificationError:
        return blob
    writer, told = Writer(), _told_by_entries(update, layout)
    writer.raw(1, 1, np.array([told]))
    code(writer, layout, rules, _among_all(update, layout) if told else update, told)
    packed = writer.data()
    return packed if len(packed) < len(blob) else blob


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An update beside its canonical bytes. Only `unpack` makes one, of what can be written in these bytes alone; like
    bytes that were just fetched it is compared with nothing yet, nor known to be canonical.
    """

    update: Update
    blob: bytes


Received = Unpacked | bytes


def bytes_of(received: Received) -> bytes:
    """What is hashed."""
    return received.blob if isinstance(received, Unpacked) else received


def update_of(received: Received, layout: Layout, rules: Rules, subject: str) -> Update:
    """What `decode` finds in these bytes, without reading them where that was unpacked. Raises VerificationError (U2)
    where it would.
    """
    if not isinstance(received, Unpacked):
        return decode(received, layout, rules, subject)
    if len(received.blob) > rules.limits.update_bytes:
        raise VerificationError(Code.U2, subject, f"at most {rules.limits.update_bytes} bytes", len(received.blob))
    return canonical(received.update, layout, rules, subject)


def unpack(
    data: bytes, layout: Layout, rules: Rules, participant: str, round_number: int, base_model: Digest
) -> Received:
    """The update that was packed, if it was this participant's for this round and base model; bytes that were never
    packed as they are.

    Raises VerificationError (U1) for bytes that nobody packed.
    """
    subject = f"round {round_number} update of {participant}"
    if data[:1] not in CODED:
        return data
    try:
        reader = Reader(data)
        told = bool(reader.raw(1, 1, None)[0])
        sent, layers, norms = code(reader, layout, rules, None, told)
        reader.end()
    except (ValueError, AssertionError, ZstdError) as error:  # the coders' own words for what they have not written
        raise VerificationError(Code.U1, subject, "a packed update", f"{type(error).__name__}: {error}") from None
    found = Update(participant, round_number, base_model, sent, layers, norms)
    found = _those_with_entries(found, layout) if told else found
    return Unpacked(found, encode(found, rules.compression, layout))


# ------------------------------------------------------------- which channels were sent, told by the entries alone


def _told_by_entries(update: Update, layout: Layout) -> bool:
    """Whether to leave out which channels were sent: every one of them has entries, and to look for these among all
    channels costs no more bits than to name the channels.
    """
    among = 0.0
    for layer, part in zip(layout.layers, update.layers, strict=True):
        if not isinstance(part.values, Sparse) or not part.values.counts.all():
            return False
        among += part.values.entries * log2(layer.channels / max(len(part.channels), 1))
    sent = len(update.sent)
    choices = lgamma(layout.channels + 1) - lgamma(sent + 1) - lgamma(layout.channels - sent + 1)  # as a logarithm
    return among <= choices / log(2)


def _among_all(update: Update, layout: Layout) -> Update:
    """The same entries in rows for all channels, most of them empty."""
    parts = []
    for layer, part in zip(layout.layers, update.layers, strict=True):
        assert isinstance(part.values, Sparse)  # noqa: S101 - told by entries
        counts = np.zeros(layer.channels, np.uint32)
        exponents = np.full((layer.channels, part.values.exponents.shape[1]), EXPONENT_MIN, np.int8)
        counts[part.channels], exponents[part.channels] = part.values.counts, part.values.exponents
        values = replace(part.values, counts=counts, exponents=exponents)
        parts.append(LayerUpdate(np.arange(layer.channels), values))
    return replace(update, sent=np.arange(layout.channels), layers=tuple(parts))


def _those_with_entries(update: Update, layout: Layout) -> Update:
    """The other way."""
    parts, sent = [], []
    for layer, part in zip(layout.layers, update.layers, strict=True):
        assert isinstance(part.values, Sparse)  # noqa: S101 - told by entries
        rows = np.flatnonzero(part.values.counts)
        values = replace(part.values, counts=part.values.counts[rows], exponents=part.values.exponents[rows])
        parts.append(LayerUpdate(rows, values))
        sent.append(rows + layer.first_channel)
    return replace(update, sent=np.concatenate(sent), layers=tuple(parts))
