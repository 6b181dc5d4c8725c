"""Gathering waits out what may still mend, and nothing else."""

import dataclasses
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, Unavailable, VerificationError
from chain.protocol.history import History
from chain.protocol.round import Phase, Round
from chain.protocol.rules import Rules
from fl_node import making, packing, update
from fl_node.gather import common_set, gather, revealed_update, verdicts_of
from fl_node.gradient import Layout
from fl_node.store import BlobStore
from fl_node.verify import VerifiedUpdate

DOCUMENT = {
    "format": "roundledger-federation/1",
    "name": "gather",
    "model": {"factory": "mlp"},
    "data": {"classes": ["a", "b"], "shape": [3]},
    "training": {"rounds": 1},
    "selection": {"upload_rate": 1},
}
RULES = Rules.parse(DOCUMENT, "test")
LAYOUT = Layout.of({"a.weight": np.zeros((2, 3), np.float32)})
BASE = Digest.of(b"base")
SEATS = {f"0x{seat:040x}": seat for seat in (1, 2, 3)}


def revealed() -> tuple[Round, dict[str, bytes]]:
    """A round with three honest reveals, and the blob behind each."""
    round_ = Round(1, BASE, SEATS, deadline=10, opened=1, phase=Phase.ATTEST)
    blobs = {}
    for who, seat in SEATS.items():
        gradient = [np.full((2, 3), seat / 8, np.float32)]
        made = making.make_update(gradient, LAYOUT, RULES, who, 1, BASE)
        blobs[who] = update.encode(made, RULES.compression, LAYOUT)
        round_.reveals[who] = making.describe(made, blobs[who], LAYOUT, BASE, BASE, 5, bytes(32))
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


def test_an_update_of_an_earlier_round_is_read_with_a_cap_and_compared_with_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_, blobs = revealed()
    store, (first, *_) = BlobStore(tmp_path), SEATS
    digest, caps = Digest(round_.reveals[first].update_digest), []
    store.put(blobs[first])
    read = store.read
    monkeypatch.setattr(store, "read", lambda *given: caps.append(given[2]) or read(*given))
    assert revealed_update(store, round_, first, LAYOUT, RULES).participant == first
    assert caps == [round_.reveals[first].update_bytes]
    (tmp_path / "sha256" / digest.hex()[:2] / digest.hex()).write_bytes(blobs[list(SEATS)[1]])
    with pytest.raises(VerificationError) as caught:
        revealed_update(store, round_, first, LAYOUT, RULES)
    assert caught.value.code == Code.U1
    (tmp_path / "sha256" / digest.hex()[:2] / digest.hex()).write_bytes(blobs[first] + bytes(len(blobs[first])))
    with pytest.raises(VerificationError, match=f"a blob of at most {len(blobs[first])} bytes"):
        revealed_update(store, round_, first, LAYOUT, RULES)


# ------------------------------------------------------------- the common set

WIDE = Layout.of({"a.weight": np.zeros((6, 3), np.float32)})
COMMON = Rules.parse(
    DOCUMENT | {"selection": {"upload_rate": Decimal("0.5"), "selection": "common"}, "compression": {"bits": 8}},
    "test",
)


def finalized(
    store: BlobStore, norms: dict[str, list[float]], verdicts: bytes, unsent: list[int] | None = None
) -> History:
    """A history whose last round is finalized: the channel norms that each has, and the codes that all claim instead
    of the channels that they did not send.
    """
    round_ = Round(1, BASE, SEATS, deadline=10, opened=1, phase=Phase.ATTEST)
    for who, sizes in norms.items():
        gradient = [np.outer(np.array(sizes, np.float32), np.ones(3, np.float32))]
        made = making.make_update(gradient, WIDE, COMMON, who, 1, BASE, (0, 1, 2))
        assert made.norms is not None
        if unsent is not None:
            made = dataclasses.replace(made, norms=np.concatenate([made.norms[:3], np.array(unsent, np.uint8)]))
        blob = update.encode(made, COMMON.compression, WIDE)
        store.put(packing.pack(blob, WIDE, COMMON), digest=Digest.of(blob))
        round_.reveals[who] = making.describe(made, blob, WIDE, BASE, BASE, 5, bytes(32))
    results = gather(store, round_, WIDE, COMMON, (0, 1, 2))
    assert {type(result) for result in results.values()} == {VerifiedUpdate}
    round_.outcome, round_.phase = (BASE, verdicts), Phase.FINALIZED
    history = History()
    history.rounds.append(round_)
    return history


def next_set(store: BlobStore, history: History) -> tuple[int, ...] | None:
    return common_set(store, history, Round(2, BASE, SEATS, deadline=20, opened=11), WIDE, COMMON)


def test_the_common_set_follows_from_the_updates_that_were_accepted(tmp_path: Path) -> None:
    first, second, third = SEATS
    norms = {
        first: [0.25, 1, 0.5, 0.125, 0.0625, 0.03125],
        second: [0.25, 1, 0.5, 0.125, 0.0625, 0.03125],
        third: [0.25, 0.25, 0.25, 8, 8, 8],
    }
    store = BlobStore(tmp_path)
    assert next_set(store, finalized(store, norms, b"\1\1\1")) == (3, 4, 5)
    assert next_set(store, finalized(store, norms, b"\1\1\2")) == (0, 1, 2)
    assert next_set(store, finalized(store, norms, b"\2\2\2")) == tuple(range(6))
    assert next_set(store, finalized(store, norms, b"\0\1\2")) == (0, 1, 2)  # a quorum may leave one out: A1
    assert next_set(store, History()) == tuple(range(6))


def test_it_follows_from_the_newest_round_finalized_before(tmp_path: Path) -> None:
    store, quiet, loud = BlobStore(tmp_path), [8.0, 8, 8, 1, 1, 1], [1.0, 1, 1, 8, 8, 8]
    history = finalized(store, dict.fromkeys(SEATS, quiet), b"\1\1\1")
    history.rounds += finalized(store, dict.fromkeys(SEATS, loud), b"\1\1\1").rounds
    history.rounds.append(Round(3, BASE, SEATS, deadline=30, opened=21, phase=Phase.ABORTED))
    for number, expected in ((1, (0, 1, 2, 3, 4, 5)), (2, (0, 1, 2)), (3, (3, 4, 5)), (4, (3, 4, 5))):
        later = Round(number, BASE, SEATS, deadline=40, opened=31)
        assert common_set(store, history, later, WIDE, COMMON) == expected


@pytest.mark.parametrize("damage", [b"garbage", None])
def test_a_blob_that_is_gone_or_damaged_since_is_no_fraud(tmp_path: Path, damage: bytes | None) -> None:
    store = BlobStore(tmp_path)
    history = finalized(store, {who: [1, 1, 1, 1, 1, 1] for who in SEATS}, b"\1\1\1")
    digest = history.rounds[0].reveals[list(SEATS)[1]].update_digest.hex()
    path = tmp_path / "sha256" / digest[:2] / digest
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(Unavailable):
        next_set(store, history)


def test_nobody_can_stop_a_common_selection_with_norms_that_nobody_can_check(tmp_path: Path) -> None:
    """Of channels that were not sent, any norm can be claimed: the largest that there are, by several."""
    norms = {who: [1.0, 0.5, 0.25, 0.125, 0.125, 0.125] for who in SEATS}
    store = BlobStore(tmp_path)
    assert next_set(store, finalized(store, norms, b"\1\1\1")) == (0, 1, 2)
    assert next_set(store, finalized(store, norms, b"\1\1\1", [0, 0, 255])) == (0, 1, 5)
    assert next_set(store, finalized(store, norms, b"\1\1\1", [255, 255, 255])) == (3, 4, 5)
