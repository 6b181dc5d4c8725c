"""Stores and disks that fail: what can pass is waited for, what is evidence is a finding, the rest is said clearly, and
nothing is lost or half-written.
"""

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chain.outbox import Entry
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, ConfigError, Unavailable, VerificationError
from chain.protocol.round import Phase
from chain.protocol.seal import Metadata
from fl_node import rounds
from fl_node import store as store_module
from fl_node.gradient import Layout
from fl_node.journal import Journal, Pending
from fl_node.ledger import Checkpoint
from fl_node.store import BlobStore
from tests.integration.bucket import Answer, Bucket, bucket, failing_first, filled, read_only, slow, small_disk
from tests.integration.conftest import MAKE
from tests.integration.harness import Federation, invoke
from tests.integration.test_nodes import LONG, accepted, assert_audit_passes, attest_and_update, begin, reach, take_part

BLOB = b"a blob of which half would be found out" * 10
KEY = Digest.of(BLOB)
MAX = 1 << 20


def names(folder: Path) -> list[str]:
    """All files, hidden ones included."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# ------------------------------------------------------------- object stores


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    with bucket(monkeypatch) as made:
        yield made


def answering(status: int = 200, body: bytes = b"", length: int | None = None) -> Any:
    return lambda method, path, found: Answer(status, body, length)


def test_what_a_bucket_takes_comes_back(made: Bucket) -> None:
    store = BlobStore(made.url)
    assert store.put(BLOB) == KEY
    assert store.put(BLOB) == KEY
    assert made.asked["PUT"] == 1
    assert store.get(KEY, "test", MAX) == BLOB
    with pytest.raises(Unavailable, match="no blob"):
        store.get(Digest.of(b""), "test", MAX)


@pytest.mark.parametrize("status", [500, 503, 429, 403])
def test_a_bucket_that_refuses_is_unavailable_and_not_for_minutes(made: Bucket, status: int) -> None:
    store = BlobStore(made.url)
    store.put(BLOB)
    made.fault, made.asked = answering(status, b"<Error/>"), made.asked.__class__()
    with pytest.raises(Unavailable):
        store.get(KEY, "test", MAX)
    with pytest.raises(Unavailable):
        store.put(b"another")
    assert made.asked.total() <= 6, "the library tries again by itself, for minutes, and says nothing"
    assert list(made.objects.values()) == [BLOB]


def test_a_slow_bucket_is_waited_for_and_a_dead_one_is_unavailable(
    made: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    BlobStore(made.url).put(BLOB)
    made.fault = slow(0.5)
    assert BlobStore(made.url).get(KEY, "test", MAX) == BLOB
    monkeypatch.setenv("AWS_TIMEOUT", "0.2s")  # for one request; 30 s if nobody says otherwise
    with pytest.raises(Unavailable):
        BlobStore(made.url).get(KEY, "test", MAX)


@pytest.mark.parametrize("body", [b"", BLOB[:-1], BLOB + b"x", b"x" + BLOB[1:]])
def test_other_bytes_from_a_bucket_are_a_finding(made: Bucket, body: bytes) -> None:
    made.fault = answering(200, body)
    with pytest.raises(VerificationError) as caught:
        BlobStore(made.url).get(KEY, "test", MAX)
    assert caught.value.code == Code.U1


def test_a_large_blob_comes_in_pieces_that_a_slow_link_can_bring(made: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PIECE", 1000)
    data, store = bytes(range(256)) * 20, BlobStore(made.url)
    digest = store.put(data)
    assert store.get(digest, "test", len(data)) == data
    assert made.asked["GET"] == 6
    assert store.put(data) == digest
    assert made.asked["PUT"] == 1


def test_what_a_bucket_says_cannot_write_on_our_terminal(made: Bucket) -> None:
    made.fault = answering(400, b"\x1b[1A\x1b[2K\x1b[32mPASS" + b"x" * 10_000)
    with pytest.raises(Unavailable) as caught:
        BlobStore(made.url).get(KEY, "test", MAX)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_an_answer_that_is_cut_off_is_unavailable(made: Bucket) -> None:
    made.fault = answering(200, BLOB[:50], len(BLOB))
    with pytest.raises(Unavailable):
        BlobStore(made.url).get(KEY, "test", MAX)


def on_bucket(made: Federation, made_bucket: Bucket) -> list[Any]:
    """Two sessions whose blobs are in the bucket."""
    store = BlobStore(made_bucket.url)
    for path in (made.folder / "blobs").rglob("*"):
        if path.is_file():
            store.put(path.read_bytes())
    sessions = [made.session(seat) for seat in (1, 2)]
    for session in sessions:
        session.store, session.outage = store, 20.0
    return sessions


@pytest.mark.parametrize(
    "answer", [Answer(500), Answer(404), Answer(200, b"wrong"), Answer(200, b"short", 5000)], ids=str
)
def test_a_round_over_a_bucket_that_fails_at_first(federation: MAKE, made: Bucket, answer: Answer) -> None:
    """Nobody is excluded: every blob is looked for again, and what is waited for is reported."""
    founded = federation(2, rounds=1, **LONG)
    sessions = on_bucket(founded, made)
    genesis = sessions[0].round
    begin(sessions[0], 1)
    for session in sessions:
        session.load_model(genesis(1).base_model)  # wrong bytes under a model's name would be evidence at once
    made.fault = failing_first(5, answer)
    take_part(sessions, 1)
    (round_,) = founded.history().rounds
    assert all(accepted(round_, session.address) for session in sessions)
    if answer.status == 500:
        waited = [values["reason"] for _, kind, _, values in founded.events if kind == "waiting"]
        assert waited and all("blob" in reason for reason in waited)


def test_a_bucket_that_stays_away_ends_the_node_with_unavailable_and_it_goes_on_later(
    federation: MAKE, made: Bucket
) -> None:
    founded = federation(2, rounds=1, **LONG)
    first, second = sessions = on_bucket(founded, made)
    begin(first, 1)
    take_part(sessions, 1, until=Phase.COMMIT)
    reach(first, 1, Phase.REVEAL)
    made.fault, first.outage = answering(500), 0.5
    with pytest.raises(Unavailable):
        rounds.reveal(first, first.round(1))
    first.journal.close()
    made.fault = lambda method, path, found: None
    again = founded.session(1)
    again.store = second.store
    again.load_model(again.round(1).base_model)
    rounds.reveal(again, again.round(1))
    rounds.reveal(second, second.round(1))
    attest_and_update([again, second], 1)
    assert accepted(founded.history().rounds[0], again.address)


# ---------------------------------------------------------------- blob folders


def test_a_full_blob_folder_is_unavailable_and_has_no_half_of_a_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = BlobStore(disk / "blobs")
        kept, large = store.put(b"small"), bytes(range(256)) * 2000
        with filled(disk, leave=100_000):
            before = names(disk)
            with pytest.raises(Unavailable, match="No space left"):
                store.put(large)
            assert names(disk) == before
            assert store.get(kept, "test", MAX) == b"small"
        assert store.get(store.put(large), "test", MAX) == large


def test_a_read_only_blob_folder_is_unavailable_and_can_be_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = BlobStore(disk / "blobs")
        kept = store.put(b"small")
        with read_only(disk):
            with pytest.raises(Unavailable, match="Read-only"):
                store.put(b"another")
            assert store.get(kept, "test", MAX) == b"small"
            assert store.put(b"small") == kept
            with pytest.raises(ConfigError):
                BlobStore(disk / "new")
        assert names(disk) == [kept.hex()]


def test_a_node_waits_until_its_blob_folder_has_room(federation: MAKE, tmp_path: Path) -> None:
    made = federation(2, rounds=1, **LONG)
    with small_disk(tmp_path / "disk") as disk:
        sessions = [made.session(1), made.session(2)]
        begin(sessions[0], 1)
        take_part(sessions, 1, until=Phase.COMMIT)
        reach(sessions[0], 1, Phase.REVEAL)
        sessions[0].store = BlobStore(disk)
        full = filled(disk)
        full.__enter__()
        room = threading.Timer(1.0, full.__exit__, (None, None, None))
        room.start()
        rounds.reveal(sessions[0], sessions[0].round(1))
        room.join()
        waited = [values["reason"] for _, kind, _, values in made.events if kind == "waiting"]
        assert len(waited) == 1 and "No space left" in waited[0]
        digest = made.history().rounds[0].reveals[made.address(1)].update_digest
        assert names(disk) == [digest.hex()]


# --------------------------------------------------------------- state folders

LAYOUT = Layout.of({"a.weight": np.zeros((20, 1000)), "a.bias": np.zeros(20)})  # a residual of 80 kB


def residual(value: float) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    return [np.full((layer.channels, layer.width), value, np.float32) for layer in LAYOUT.layers]


def pending(number: int) -> Pending:
    blob, nothing = bytes([number]) * 30_000, Digest.of(b"")
    metadata = Metadata(nothing, Digest.of(blob), len(blob), nothing, nothing, 1, nothing, 4, 2, 3, bytes(32))
    return Pending(number, metadata, blob)


def value_of(journal: Journal) -> float:
    found, last = journal.residual.before(LAYOUT, 3)
    assert found is not None
    (value,) = {float(value) for matrix in found for value in matrix.ravel()}
    assert value == last
    return value


def second_round(journal: Journal, entry: Entry) -> None:
    """What a node writes in round 2, as far as it comes; goes on from anywhere."""
    if journal.pending(2) is None and not journal.checkpoint():
        journal.prepare(pending(2), residual(2))
    journal.outbox.put(entry)
    journal.watch(2)
    journal.settle(2, accepted=True)
    journal.save_checkpoint(Checkpoint(9, bytes(32)))
    if value_of(journal) != 2:  # what was left unsent died with an earlier try, and is made again
        journal.residual.keep(residual(2), 2)
    journal.residual.flush()


def test_a_full_disk_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """However much room is left: either it was enough, or the error says what to do; with room again it goes on."""
    entry, failed = Entry("commit 2", 4, (bytes(500),)), 0
    for leave in range(0, 240_000, 8_000):
        with small_disk(tmp_path / str(leave)) as disk:
            journal = Journal(disk / "state")
            journal.prepare(pending(1), residual(1))
            journal.settle(1, accepted=True)
            journal.residual.flush()
            with filled(disk, leave), closing(journal):
                try:
                    second_round(journal, entry)
                except ConfigError as error:
                    failed += 1
                    assert "nothing is lost" in error.hint
                    assert str(disk / "state") in str(error)
            with closing(Journal(disk / "state")) as again:
                assert value_of(again) in (1, 2)
                assert again.pending(2) in (None, pending(2))
                assert again.outbox.entries() in ([], [entry])
                if again.checkpoint() is None or value_of(again) != 2:
                    second_round(again, entry)
            with closing(Journal(disk / "state")) as again:
                assert value_of(again) == 2
                assert again.outbox.entries() == [entry]
                assert again.unfinished_round() is None
                assert len(names(disk)) == 3 + (disk / "state" / "journal.db-wal").exists()
    assert 5 < failed < 28


def test_a_read_only_state_folder_is_a_clear_error(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        journal = Journal(disk / "state")
        journal.save_checkpoint(Checkpoint(1, bytes(32)))
        journal.close()
        with read_only(disk):
            for folder in (disk / "state", disk / "new"):
                with pytest.raises(ConfigError, match="Read-only") as caught:
                    Journal(folder)
                assert caught.value.hint
        with closing(Journal(disk / "state")) as journal:
            assert journal.checkpoint() == Checkpoint(1, bytes(32))


def test_a_node_on_a_full_or_read_only_disk_says_so_and_goes_on_later(federation: MAKE, tmp_path: Path) -> None:
    made = federation(2, rounds=1, **LONG)
    with small_disk(tmp_path / "disk") as disk:
        config = made.config(1)
        config.write_text(config.read_text().replace('state = "state/node-1"', f'state = "{disk}/state"'))
        assert str(disk) in config.read_text()
        with filled(disk):
            refused(config, disk, "No space left")
        with read_only(disk):
            refused(config, disk, "Read-only")
        first, second = made.session(1), made.session(2)
        begin(first, 1)
        take_part([first, second], 1, until=Phase.COMMIT)
        reach(first, 1, Phase.REVEAL)
        with filled(disk):
            with pytest.raises(ConfigError, match=r"journal\.db: cannot be used: database or disk is full"):
                rounds.reveal(first, first.round(1))
            first.journal.close()
        again = made.session(1)
        again.load_model(again.round(1).base_model)
        for session in (again, second):
            rounds.reveal(session, session.round(1))
        attest_and_update([again, second], 1)
        assert accepted(made.history().rounds[0], again.address)
        assert_audit_passes(made)


def refused(config: Path, disk: Path, reason: str) -> None:
    done = invoke("node", "run", "--config", config)
    assert (done.code, "Traceback" in done.err) == (2, False), done.said
    assert reason in done.said and str(disk) in done.said
