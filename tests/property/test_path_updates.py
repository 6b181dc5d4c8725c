"""Updates under path channels, from the gradient to the verified update: what is sent are whole paths, and no more of
them than the upload rate allows.
"""

import dataclasses
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from chain.protocol.rules import Rules
from fl_node import making, packing, update
from fl_node.gradient import Layout
from fl_node.quantise import quantise
from fl_node.selection import PATH_UNIT
from fl_node.sparse import Sparse
from fl_node.update import LayerUpdate, Update, rows_of
from fl_node.verify import VerifiedUpdate, verify_update

WHO, BASE, ROUND = f"0x{1:040x}", Digest.of(b"base"), 2
MODULES = ["first", "norm", "second", "third"]
SHAPES: dict[str, tuple[int, ...]] = {  # a neuron of the first level has two parts of its own
    "first.weight": (4, 3),
    "first.bias": (4,),
    "norm.weight": (4,),
    "norm.bias": (4,),
    "second.weight": (3, 4),
    "third.weight": (2, 3),
    "third.bias": (2,),
}
LAYOUT = Layout.of({name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}, MODULES)
BITS = [{"bits": 8}, {"bits": 3, "block": 2}, {"bits": 2, "entry_rate": Decimal("0.5")}]


def rules(rate: str, compression: dict[str, Any] | None = None, **levers: Any) -> Rules:
    document = {
        "format": "roundledger-federation/1",
        "name": "paths",
        "model": {"factory": "mlp"},
        "data": {"classes": ["a", "b"], "features": ["x"]},
        "training": {"rounds": 3},
        "selection": {"upload_rate": Decimal(rate), "channels": "path", "layers": MODULES, **levers},
        "compression": compression or BITS[0],
    }
    return Rules.parse(document, "test")


def make(seed: int, chosen: Rules) -> Update:
    random = np.random.default_rng(seed)
    gradient = [random.normal(size=(each.channels, each.width)).astype(np.float32) for each in LAYOUT.layers]
    return making.make_update(gradient, LAYOUT, chosen, WHO, ROUND, BASE)


def verify(sent: Update, chosen: Rules) -> VerifiedUpdate:
    """As it comes from the store, with the metadata that fit it."""
    blob = update.encode(sent, chosen.compression, LAYOUT)
    metadata = making.describe(sent, blob, LAYOUT, BASE, BASE, 5, bytes(32))
    received = packing.unpack(packing.pack(blob, LAYOUT, chosen), LAYOUT, chosen, WHO, ROUND, BASE)
    return verify_update(received, metadata, WHO, ROUND, LAYOUT, chosen)


def refused(sent: Update, chosen: Rules) -> str:
    with pytest.raises(VerificationError) as caught:
        verify(sent, chosen)
    assert caught.value.code == Code.U5
    return str(caught.value)


def number(layer: str, row: int) -> int:
    return next(each.first_channel for each in LAYOUT.layers if each.name == layer) + row


def neurons(channel: int) -> list[tuple[int, int]]:
    """The level and number of the neurons that a channel belongs to: its own, or the two ends of an edge."""
    level = {"first": 0, "norm": 0, "second paths": 1, "third": 2, "third paths": 2}
    layer = next(each for each in reversed(LAYOUT.layers) if each.first_channel <= channel)
    row = channel - layer.first_channel
    if not layer.name.endswith(" paths"):
        return [(level[layer.name], row)]
    before = 4 if layer.name.startswith("second") else 3
    return [(level[layer.name], row // before), (level[layer.name] - 1, row % before)]


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(["1", "0.3", "0.05", "0.001"]), st.sampled_from(BITS))
def test_what_an_honest_node_sends_is_accepted(seed: int, rate: str, compression: dict[str, Any]) -> None:
    chosen = rules(rate, compression)
    sent = make(seed, chosen)
    assert verify(sent, chosen).layers
    touched = {neuron for channel in sent.sent.tolist() for neuron in neurons(channel)}
    assert not touched or {level for level, _ in touched} == {0, 1, 2}
    for neuron in range(4):  # all of a neuron, or nothing
        assert (number("first", neuron) in sent.sent) == (number("norm", neuron) in sent.sent)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(["0.3", "0.05", "0.001"]), st.sampled_from(BITS[:2]))
def test_more_paths_than_the_rate_allows_are_refused(seed: int, rate: str, compression: dict[str, Any]) -> None:
    chosen, greedy = rules(rate, compression), make(seed, rules("1", compression))
    # a path has five pieces: two parts of its first neuron, one of its last, two edges
    assert len(greedy.sent) in (0, *range(5, LAYOUT.channels + 1))
    if len(greedy.sent) > len(make(seed, chosen).sent):
        assert "within the upload rate" in refused(greedy, chosen)


def test_the_first_rounds_have_rates_of_their_own() -> None:
    assert verify(make(1, rules("1")), rules("0.05", warm_up=[1, 1]))
    assert "within the upload rate" in refused(make(1, rules("1")), rules("1", warm_up=[1, Decimal("0.05")]))


def with_channels(sent: Update, channels: set[int], chosen: Rules, seed: int) -> Update:
    """The same update, as if these channels had been selected."""
    random = np.random.default_rng(seed)
    gradient = [random.normal(size=(each.channels, each.width)).astype(np.float32) for each in LAYOUT.layers]
    picked = np.array(sorted(channels), np.int64)
    parts = []
    for layer, matrix in zip(LAYOUT.layers, gradient, strict=True):
        values, rows = quantise(matrix, chosen.compression), rows_of(layer, picked)
        assert not chosen.compression.sparse
        parts.append(LayerUpdate(rows, values.rows(rows)))
    return dataclasses.replace(sent, sent=picked, layers=tuple(parts))


@pytest.mark.parametrize("seed", range(8))
def test_a_channel_more_or_less_is_refused(seed: int) -> None:
    """One that lies on no whole path of those sent, above all a part of what belongs to one neuron; and one whose path
    is broken without it.
    """
    chosen = rules("0.05")
    sent = make(seed, chosen)
    same = with_channels(sent, set(sent.sent.tolist()), chosen, seed)
    assert update.encode(same, chosen.compression, LAYOUT) == update.encode(sent, chosen.compression, LAYOUT)
    for channel in set(range(LAYOUT.channels)) ^ set(sent.sent.tolist()):
        refused(with_channels(sent, {*sent.sent.tolist(), channel}, chosen, seed), chosen)
    for layer in ("first", "norm"):
        for row in range(4):
            refused(with_channels(sent, {number(layer, row)}, chosen, seed), chosen)
            refused(with_channels(sent, set(sent.sent.tolist()) ^ {number(layer, row)}, chosen, seed), chosen)


def test_the_threshold_is_that_of_the_weakest_best_path() -> None:
    chosen = rules("0.05")
    sent = make(3, chosen)
    blob = update.encode(sent, chosen.compression, LAYOUT)
    metadata = making.describe(sent, blob, LAYOUT, BASE, BASE, 5, bytes(32))
    assert metadata.threshold > 0 and metadata.threshold % (1 << PATH_UNIT) == 0
    for by in (-1 << PATH_UNIT, 1 << PATH_UNIT):
        other = dataclasses.replace(metadata, threshold=metadata.threshold + by)
        with pytest.raises(VerificationError) as caught:
            verify_update(blob, other, WHO, ROUND, LAYOUT, chosen)
        assert caught.value.code == Code.U5


def test_signs_under_paths_are_listed() -> None:
    sent = make(1, rules("0.3", BITS[2]))
    assert len(sent.sent) and all(isinstance(part.values, Sparse) for part in sent.layers)
