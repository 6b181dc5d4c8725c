"""Attacks in what an update says: the contract cannot see them, every honest node does, each by the same check."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from chain.protocol.digest import Digest
from fl_node import making, update
from fl_node.gather import fetch_update
from fl_node.norms import Norms
from fl_node.packing import bytes_of
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
    fitted = making.describe(
        changed, blob, layout(), Digest(before.data_root), Digest(before.secret_commitment), before.records, before.salt
    )
    return Prepared(replace(fitted, base_model=before.base_model, **values), blob, blob)


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
    return _encoded(prepared, replace(mine, sent=np.array(sent), layers=tuple(parts)))


def forged_norms(mallory: Mallory, prepared: Prepared) -> Prepared:
    """The root of a channel table with other norms than the values have."""
    table = _decoded(prepared).table(layout())
    forged = replace(table, squared_norms=Norms.of(norm + 1 for norm in table.squared_norms))
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
    theirs = fetch_update(mallory.session.store, mallory.session.round(1), address(1), layout(), RULES)
    return replace(copied, stored=bytes_of(theirs))


def anothers_name(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _encoded(prepared, replace(_decoded(prepared), participant="0x" + "11" * 20))


def another_round(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _encoded(prepared, replace(_decoded(prepared), round=7))


def another_base(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _encoded(prepared, replace(_decoded(prepared), base_model=Digest.of(b"another model")))


def excluded(name: str, does: str, code: str, forge: Forge, round_number: int = 1) -> Attack:
    """The audit notes the exclusion of the fourth participant, by the check that excluded it."""
    finding = ("note", code, round_number, FOURTH)
    return Attack(name, does, code, submitting(forge), round=round_number, finding=finding)


CLAIMS = (
    excluded("wrong channels", "sends more channels than the upload rate allows", "U5", every_channel),
    excluded("forged norms", "commits a channel table with other norms", "U4", forged_norms),
    excluded("forged threshold", "claims another threshold", "U5", claiming(threshold=1)),
    excluded("sent count mismatch", "claims one channel more than it sends", "U3", more_sent),
    excluded("channel count mismatch", "claims another number of channels", "U3", claiming(channels=1)),
    excluded("records over the limit", "claims more records than the rules allow", "U2", claiming(records=1001)),
    excluded("size mismatch", "claims another size of the blob", "U2", another_size),
    excluded("another's update", "reveals the update of another of the round before", "U1", anothers_update, 2),
    excluded("another's update, unpacked", "the same, name and all", "U2", anothers_update_unpacked, 2),
    excluded("another's name", "names another participant in the update", "U2", anothers_name),
    excluded("another round's number", "names another round in the update", "U2", another_round),
    excluded("another base in the blob", "names another base model in the update", "U2", another_base),
)
