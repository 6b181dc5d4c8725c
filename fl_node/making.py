"""From gradient matrices to the update and what the ledger is told about it, and to what stays in the residual."""

from collections.abc import Sequence

import numpy as np

from chain.protocol.digest import Digest
from chain.protocol.rules import Rules
from chain.protocol.seal import Metadata
from fl_node.channels import norm_code
from fl_node.gradient import Layer, Layout, Matrix
from fl_node.largest import largest_entries, magnitude_cut
from fl_node.norms import Norms
from fl_node.quantise import Quantised, quantise
from fl_node.selection import chosen, threshold
from fl_node.sparse import Sparse
from fl_node.threads import shared
from fl_node.update import LayerUpdate, Update, entry_budget, rows_of


def make_update(
    gradient: Sequence[Matrix],
    layout: Layout,
    rules: Rules,
    participant: str,
    round_number: int,
    base_model: Digest,
    common: Sequence[int] | None = None,
    threads: int = 1,
) -> Update:
    """largest entries -> quantise -> channel norms -> select by upload rate -> the rows of the selected channels.

    `common` is the set to send if the rules ask for a common selection; None: the first one, everything.
    """
    compression, most = rules.compression, entry_budget(layout, rules.compression)
    with shared(threads) as mapped:
        quantised: Sequence[Quantised | Sparse]
        if compression.bits == 2 and compression.sparse:
            cut, listed = largest_entries(gradient, most, mapped)
            quantised = list(mapped(lambda each: Sparse.signs_of(each, compression, cut), listed))
        else:
            cut = magnitude_cut(gradient, most, mapped)
            quantised = list(mapped(lambda matrix: quantise(matrix, compression, cut), gradient))
        norms = Norms.joined(mapped(lambda each: each.squared_norms(), quantised))
        sent = chosen(norms, layout, rules.selection, round_number, common)

        def part(layer: Layer, found: Quantised | Sparse) -> LayerUpdate:
            values = found.rows(rows := rows_of(layer, sent))
            entries = Sparse.of(values) if compression.sparse and isinstance(values, Quantised) else values
            return LayerUpdate(rows, entries)

        parts = tuple(mapped(lambda each: part(*each), zip(layout.layers, quantised, strict=True)))
    codes = None
    if rules.selection.selection == "common":
        codes = np.array([norm_code(squared) for squared in norms], np.uint8)
    return Update(participant, round_number, base_model, sent, parts, codes)


def describe(
    update: Update,
    blob: bytes,
    layout: Layout,
    data_root: Digest,
    secret_commitment: Digest,
    records: int,
    salt: bytes,
) -> Metadata:
    """What the ledger is told about an update. `salt` is 32 random bytes: they hide everything else in the seal."""
    table = update.table(layout)
    return Metadata(
        base_model=update.base_model,
        update_digest=Digest.of(blob),
        update_bytes=len(blob),
        data_root=data_root,
        secret_commitment=secret_commitment,
        records=records,
        channel_root=table.root,
        channels=table.channels,
        sent=len(table.sent),
        threshold=threshold(table, layout),
        salt=salt,
    )


def take_sent(gradient: Sequence[Matrix], update: Update, threads: int = 1) -> None:
    """Turns the gradient matrices into the residual, in place: what was not sent, the quantisation error included.

    The difference is exact in float32, unless signs (2 bits) stand for magnitudes far from theirs: then it is rounded.
    """

    def take(matrix: Matrix, part: LayerUpdate) -> None:
        part.values.take_from(matrix, part.channels)

    with shared(threads) as mapped:
        list(mapped(lambda each: take(*each), zip(gradient, update.layers, strict=True)))
