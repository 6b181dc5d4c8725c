"""The decoders of what lies in the blob store: updates, packed and not, models, rules."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from chain.protocol.digest import Digest
from chain.protocol.rules import Rules
from fl_node import making, packing, update, weights
from fl_node.fetch import fetch_rules
from fl_node.gradient import Layout
from fl_node.store import BlobStore
from fl_node.verify import verify_update
from tests.reliability import bombs
from tests.reliability.decoder import VERIFIED, Decode, Decoder, always, of_bytes

ADDRESS = "0x0A0A0a0a0a0a0a0A0a0a0A0a0A0A0A0a0a0a0a0a"
BASE = Digest.of(b"base model")
ROUND = 3
MODEL = {"a.weight": np.zeros((5, 40), np.float32), "a.bias": np.zeros(5, np.float32), "b": np.zeros((), np.float32)}
LAYOUT = Layout.of(MODEL)
LARGE = Layout.of({"a.weight": np.zeros((64, 200), np.float32)})  # enough symbols for sections
LIMIT = 1 << 20
THREADS = 2 << 30  # bytes of address space: the store's threads reserve far more than they use


def _rules(**tables: Any) -> Rules:
    document = {
        "format": "roundledger-federation/1",
        "name": "fuzz",
        "model": {"factory": "mlp"},
        "data": {"classes": ["a", "b"], "features": ["x", "y"], "id": "id"},
        "training": {"rounds": 3},
        "limits": {"update_bytes": LIMIT, "model_bytes": LIMIT},
    }
    return Rules.parse(document | tables, "fuzz")


DENSE = _rules(compression={"bits": 8})
COMMON = _rules(compression={"bits": 4, "block": 7}, selection={"selection": "common"})
SPARSE = _rules(compression={"bits": 2, "entry_rate": Decimal("0.1")})
WAYS = {"dense": DENSE, "common": COMMON, "sparse": SPARSE}
LAYOUTS = {"few": LAYOUT, "sections": LARGE}


def make_update(rules: Rules, layout: Layout = LAYOUT, seed: int = 1) -> update.Update:
    rng = np.random.default_rng(seed)
    gradient = [rng.normal(size=(each.channels, each.width)).astype(np.float32) for each in layout.layers]
    return making.make_update(gradient, layout, rules, ADDRESS, ROUND, BASE)


def blobs(rules: Rules, layout: Layout = LAYOUT) -> list[bytes]:
    return [update.encode(make_update(rules, layout, seed), rules.compression, layout) for seed in (1, 2)]


def _verify(rules: Rules) -> Decode:
    """Every check of an update whose metadata are made to fit, as far as the bytes can be read at all."""

    def decode(data: bytes) -> object:
        found = update.decode(data, LAYOUT, rules, "fuzz")
        assert update.encode(found, rules.compression, LAYOUT) == data  # one spelling for each content
        metadata = making.describe(found, data, LAYOUT, Digest.of(b"data"), Digest.of(b"secret"), 1, bytes(32))
        return verify_update(data, metadata, ADDRESS, ROUND, LAYOUT, rules)

    return decode


def _unpack(rules: Rules, layout: Layout) -> Decode:
    def decode(data: bytes) -> object:
        received = packing.unpack(data, layout, rules, ADDRESS, ROUND, BASE)
        return packing.update_of(received, layout, rules, "fuzz")

    return decode


def _model(data: bytes) -> object:
    assert weights.encode_model(weights.decode_model(data, Digest.of(data), LIMIT)) == data
    return None


def _stored_rules(folder: Path) -> Decode:
    store = BlobStore(folder / "blobs")
    return lambda data: fetch_rules(store, store.put(data))


def decoders() -> list[Decoder]:
    found = []
    for name, rules in WAYS.items():
        seeds = always(*blobs(rules))
        found.append(Decoder(f"update {name}", of_bytes(_verify(rules)), seeds, VERIFIED, bombs.tensor_files))
        for size, layout in LAYOUTS.items():
            packed = always(*(packing.pack(blob, layout, rules) for blob in blobs(rules, layout)))
            unpack = of_bytes(_unpack(rules, layout))
            found.append(Decoder(f"packed {name} {size}", unpack, packed, VERIFIED, bombs.packed))
    model, rules_blobs = weights.encode_model(MODEL), (rules.canonical() for rules in WAYS.values())
    found.append(Decoder("model", of_bytes(_model), always(model), VERIFIED, bombs.tensor_files))
    found.append(Decoder("rules blob", _stored_rules, always(*rules_blobs), VERIFIED, bombs.json_texts, THREADS))
    return found
