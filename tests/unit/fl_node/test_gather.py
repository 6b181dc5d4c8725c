"""Gathering waits out what may still mend, and nothing else."""

from pathlib import Path

import numpy as np

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, Unavailable, VerificationError
from chain.protocol.round import Phase, Round
from chain.protocol.rules import Rules
from fl_node import update
from fl_node.gather import gather, verdicts_of
from fl_node.gradient import Layout
from fl_node.store import BlobStore
from fl_node.verify import VerifiedUpdate

RULES = Rules.parse(
    {
        "format": "roundledger-federation/1",
        "name": "gather",
        "model": {"factory": "mlp"},
        "data": {"classes": ["a", "b"], "shape": [3]},
        "training": {"rounds": 1},
        "selection": {"upload_rate": 1},
    },
    "test",
)
LAYOUT = Layout.of({"a.weight": np.zeros((2, 3), np.float32)})
BASE = Digest.of(b"base")
SEATS = {f"0x{seat:040x}": seat for seat in (1, 2, 3)}


def revealed() -> tuple[Round, dict[str, bytes]]:
    """A round with three honest reveals, and the blob behind each."""
    round_ = Round(1, BASE, SEATS, deadline=10, opened=1, phase=Phase.ATTEST)
    blobs = {}
    for who, seat in SEATS.items():
        gradient = [np.full((2, 3), seat / 8, np.float32)]
        made = update.make_update(gradient, LAYOUT, RULES, who, 1, BASE)
        blobs[who] = update.encode(made, RULES.compression, LAYOUT)
        round_.reveals[who] = update.describe(made, blobs[who], LAYOUT, BASE, BASE, 5, bytes(32))
    return round_, blobs


def test_what_is_missing_or_damaged_is_looked_for_again(tmp_path: Path) -> None:
    round_, blobs = revealed()
    store = BlobStore(tmp_path)
    first, second, third = SEATS
    store.put(blobs[first])
    path = (
        tmp_path
        / "sha256"
        / round_.reveals[second].update_digest.hex()[:2]
        / round_.reveals[second].update_digest.hex()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"garbage")
    looks = []

    def again(missing: list[str]) -> bool:
        looks.append(len(looks))
        if len(looks) == 2:  # its owner comes back and heals it; the third is never published
            store.put(blobs[second])
        return len(looks) < 5

    results = gather(store, round_, LAYOUT, RULES, again=again)
    assert len(looks) == 5
    assert isinstance(results[first], VerifiedUpdate) and isinstance(results[second], VerifiedUpdate)
    assert isinstance(results[third], Unavailable)
    assert verdicts_of(results, round_) == b"\1\1\2"


def test_a_proven_fault_is_not_looked_at_again(tmp_path: Path) -> None:
    round_, blobs = revealed()
    store = BlobStore(tmp_path)
    for blob in blobs.values():
        store.put(blob)
    liar = next(iter(SEATS))
    metadata = round_.reveals[liar]
    round_.reveals[liar] = type(metadata)(
        **{name: getattr(metadata, name) for name in metadata.__slots__} | {"channel_root": BASE}
    )
    looks: list[int] = []
    results = gather(store, round_, LAYOUT, RULES, again=lambda missing: bool(looks.append(1)))
    assert not looks
    assert isinstance(results[liar], VerificationError) and results[liar].code == Code.U4
    assert verdicts_of(results, round_) == b"\5\1\1"
