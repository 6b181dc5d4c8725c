"""Attacks in what an update says: the contract cannot see them, every honest node does, each by the same check."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import zstandard

from chain.protocol.digest import Digest
from fl_node import tensorfile, update
from fl_node.gather import fetch_update
from fl_node.quantise import quantise
from fl_node.update import LayerUpdate, Update
from tests.simulator.attack import Attack, Mallory, Prepared
from tests.simulator.world import FOURTH, RULES, address, layout

Forge = Callable[[Mallory, Prepared], Prepared]


def submitting(forge: Forge) -> Callable[[Mallory], None]:
    """She takes part as a node does, with this made of what a node would send."""

    def act(mallory: Mallory) -> None:
        mallory.submit(forge(mallory, mallory.prepare()))

    return act


def _decoded(prepared: Prepared) -> Update:
    return update.decode(prepared.blob, layout(), RULES, "attack")


def _encoded(prepared: Prepared, changed: Update, **values: Any) -> Prepared:
    """With metadata that says what the changed update says, but for `values`."""
    blob = update.encode(changed, RULES.compression, layout())
    before = prepared.metadata
    fitted = update.describe(
        changed, blob, layout(), Digest(before.data_root), Digest(before.secret_commitment), before.records, before.salt
    )
    return Prepared(replace(fitted, base_model=before.base_model, **values), blob, blob)


def _tensors(prepared: Prepared, change: Callable[[dict[str, Any]], None]) -> Prepared:
    """With other tensors in a file that is canonical."""
    tensors, about = tensorfile.decode(prepared.blob, "attack", len(prepared.blob))
    changed = {name: tensor.copy() for name, tensor in tensors.items()}
    change(changed)
    return prepared.with_blob(tensorfile.encode(changed, about))


def _header(prepared: Prepared, change: Callable[[dict[str, Any]], Any]) -> Prepared:
    """With another header over the same tensors."""
    size = int.from_bytes(prepared.blob[:8], "little")
    said = json.loads(prepared.blob[8 : 8 + size])
    head = json.dumps(change(said), separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return prepared.with_blob(len(head).to_bytes(8, "little") + head + prepared.blob[8 + size :])


# --------------------------------------------------------------- what is claimed


def every_channel(mallory: Mallory, prepared: Prepared) -> Prepared:
    """Sends more channels than the upload rate allows: small ones beside its own."""
    mine = _decoded(prepared)
    rest = sorted(set(range(layout().channels)) - set(mine.sent))
    parts, sent = [], sorted([*mine.sent, *rest])
    for layer, part in zip(layout().layers, mine.layers, strict=True):
        dense = np.ones((layer.channels, layer.width), np.float32)
        dense[part.channels] = part.values.values()
        rows = update.rows_of(layer, np.asarray(sent, np.int64))
        parts.append(LayerUpdate(rows, quantise(dense, RULES.compression).rows(rows)))
    return _encoded(prepared, replace(mine, sent=tuple(sent), layers=tuple(parts)))


def forged_norms(mallory: Mallory, prepared: Prepared) -> Prepared:
    """The root of a channel table with other norms than the values have."""
    table = _decoded(prepared).table(layout())
    forged = replace(table, squared_norms=tuple(norm + 1 for norm in table.squared_norms))
    return replace(prepared, metadata=replace(prepared.metadata, channel_root=forged.root))


def claiming(**values: Any) -> Forge:
    """Says something else of the update on the ledger."""
    return lambda _, prepared: replace(prepared, metadata=replace(prepared.metadata, **values))


def more_sent(mallory: Mallory, prepared: Prepared) -> Prepared:
    return claiming(sent=prepared.metadata.sent + 1)(mallory, prepared)


def another_size(mallory: Mallory, prepared: Prepared) -> Prepared:
    return claiming(update_bytes=prepared.metadata.update_bytes + 1)(mallory, prepared)


def anothers_update(mallory: Mallory, prepared: Prepared) -> Prepared:
    """Last round's update of another, as its own. It lies in the store packed, and the reader adds the name."""
    theirs = mallory.session.round(1).reveals[address(1)]
    copied = replace(theirs, base_model=prepared.metadata.base_model, salt=prepared.metadata.salt)
    return Prepared(copied, b"", None)


def anothers_update_unpacked(mallory: Mallory, prepared: Prepared) -> Prepared:
    """The same, with the canonical bytes in the store, name and all."""
    copied = anothers_update(mallory, prepared)
    canonical = fetch_update(mallory.session.store, mallory.session.round(1), address(1), layout(), RULES)
    return replace(copied, stored=canonical)


def anothers_name(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _encoded(prepared, replace(_decoded(prepared), participant="0x" + "11" * 20))


def another_round(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _encoded(prepared, replace(_decoded(prepared), round=7))


def another_base(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _encoded(prepared, replace(_decoded(prepared), base_model=Digest.of(b"another model")))


# ----------------------------------------------------------- what the bytes hold


def nan_scale(mallory: Mallory, prepared: Prepared) -> Prepared:
    """E8M0 knows one value that is no number: 255."""

    def change(tensors: dict[str, Any]) -> None:
        tensors["exponents"][0] = 255

    return _tensors(prepared, change)


def infinite_scale(mallory: Mallory, prepared: Prepared) -> Prepared:
    def change(tensors: dict[str, Any]) -> None:
        tensors["exponents"][:] = 254

    return _tensors(prepared, change)


def floats(value: float) -> Forge:
    """Float entries, which could be anything."""

    def change(tensors: dict[str, Any]) -> None:
        tensors["elements"] = np.full(tensors["elements"].shape, value, np.float32)

    return lambda _, prepared: _tensors(prepared, change)


def extra_tensor(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _tensors(prepared, lambda tensors: tensors.update(extra=np.ones(3, np.uint8)))


def missing_tensor(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _tensors(prepared, lambda tensors: tensors.pop("exponents"))


def non_canonical_block(mallory: Mallory, prepared: Prepared) -> Prepared:
    """The same values with a scale twice as large and elements half as large: another spelling."""

    def change(tensors: dict[str, Any]) -> None:
        tensors["exponents"] += 1
        tensors["elements"] //= 2

    return _tensors(prepared, change)


def overlapping_offsets(mallory: Mallory, prepared: Prepared) -> Prepared:
    def change(said: dict[str, Any]) -> Any:
        said["exponents"]["data_offsets"][0] -= 1
        return said

    return _header(prepared, change)


def reordered_header(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _header(prepared, lambda said: dict(reversed(said.items())))


def spaces_in_the_header(mallory: Mallory, prepared: Prepared) -> Prepared:
    size = int.from_bytes(prepared.blob[:8], "little")
    return prepared.with_blob(
        (size + 8).to_bytes(8, "little") + prepared.blob[8 : 8 + size] + b" " * 8 + prepared.blob[8 + size :]
    )


def bytes_behind_the_end(mallory: Mallory, prepared: Prepared) -> Prepared:
    return prepared.with_blob(prepared.blob + bytes(8))


def pickle(mallory: Mallory, prepared: Prepared) -> Prepared:
    return prepared.with_blob(b"\x80\x04cos\nsystem\n(S'true'\ntR.")


# ----------------------------------------------------------------------- bombs


def header_bomb(mallory: Mallory, prepared: Prepared) -> Prepared:
    """A header of 2^63 bytes, as far as its length says."""
    return prepared.with_blob((2**63 - 1).to_bytes(8, "little") + prepared.blob[8:])


def shape_bomb(mallory: Mallory, prepared: Prepared) -> Prepared:
    """Tensors of 2^94 entries, as far as the header says."""

    def change(said: dict[str, Any]) -> Any:
        said["elements"]["shape"] = [2**47, 2**47]
        return said

    return _header(prepared, change)


def nested_header(mallory: Mallory, prepared: Prepared) -> Prepared:
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    return prepared.with_blob(len(deep).to_bytes(8, "little") + deep)


def zip_bomb(mallory: Mallory, prepared: Prepared) -> Prepared:
    """A packed update whose section unpacks to a gigabyte."""
    frame = zstandard.ZstdCompressor().compress(bytes(1 << 20) * 8)
    words = (0).to_bytes(4, "little")
    return prepared.with_blob(prepared.blob, b"\2" + words + len(frame).to_bytes(4, "little") + frame)


def random_words(mallory: Mallory, prepared: Prepared) -> Prepared:
    """A packed update of words that no coder has written."""
    words = np.random.default_rng(1).bytes(64)
    return prepared.with_blob(prepared.blob, b"\1" + words)


def oversized_claim(mallory: Mallory, prepared: Prepared) -> Prepared:
    return prepared.with_blob(prepared.blob, update_bytes=RULES.limits.update_bytes + 1)


def oversized_blob(mallory: Mallory, prepared: Prepared) -> Prepared:
    """More bytes in the store than the rules allow, and fewer on the ledger."""
    return prepared.with_blob(prepared.blob, bytes(RULES.limits.update_bytes + 1))


def _attack(name: str, does: str, code: str, forge: Forge, round_number: int = 1) -> Attack:
    """The audit notes the exclusion of the fourth participant, by the check that excluded it."""
    finding = ("note", code, round_number, FOURTH)
    return Attack(name, does, code, submitting(forge), round=round_number, finding=finding)


CLAIMS = (
    _attack("wrong channels", "sends more channels than the upload rate allows", "U5", every_channel),
    _attack("forged norms", "commits a channel table with other norms", "U4", forged_norms),
    _attack("forged threshold", "claims another threshold", "U5", claiming(threshold=1)),
    _attack("sent count mismatch", "claims one channel more than it sends", "U3", more_sent),
    _attack("channel count mismatch", "claims another number of channels", "U3", claiming(channels=1)),
    _attack("records over the limit", "claims more records than the rules allow", "U2", claiming(records=1001)),
    _attack("size mismatch", "claims another size of the blob", "U2", another_size),
    _attack("another's update", "reveals the update of another of the round before", "U1", anothers_update, 2),
    _attack("another's update, unpacked", "the same, name and all", "U2", anothers_update_unpacked, 2),
    _attack("another's name", "names another participant in the update", "U2", anothers_name),
    _attack("another round's number", "names another round in the update", "U2", another_round),
    _attack("another base in the blob", "names another base model in the update", "U2", another_base),
)
BYTES = (
    _attack("NaN", "has a scale that is no number", "U2", nan_scale),
    _attack("infinity", "has scales of 2^127", "U2", infinite_scale),
    _attack("NaN entries", "has float entries that are no numbers", "U2", floats(float("nan"))),
    _attack("infinite entries", "has float entries that are infinite", "U2", floats(float("inf"))),
    _attack("extra tensor", "has a tensor that updates do not have", "U2", extra_tensor),
    _attack("missing tensor", "leaves the exponents out", "U2", missing_tensor),
    _attack("non-canonical block", "spells the same values in another way", "U2", non_canonical_block),
    _attack("overlapping offsets", "has two tensors over the same bytes", "U2", overlapping_offsets),
    _attack("reordered header", "has the same header in another order", "U2", reordered_header),
    _attack("spaces in the header", "pads the header further", "U2", spaces_in_the_header),
    _attack("bytes behind the end", "has bytes that belong to no tensor", "U2", bytes_behind_the_end),
    _attack("pickle", "sends a pickle that runs a command", "U2", pickle),
)
BOMBS = (
    _attack("header bomb", "promises a header of 2^63 bytes", "U2", header_bomb),
    _attack("shape bomb", "promises tensors of 2^94 entries", "U2", shape_bomb),
    _attack("nested header", "has a header 500 levels deep", "U2", nested_header),
    _attack("zip bomb", "stores a packed update that unpacks to very much", "U1", zip_bomb),
    _attack("words of no coder", "stores a packed update that nobody packed", "U1", random_words),
    _attack("oversized blob", "claims more bytes than the rules allow", "U2", oversized_claim),
    _attack("oversized file", "stores more bytes than the rules allow", "U1", oversized_blob),
)
