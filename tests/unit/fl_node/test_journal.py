"""What a node keeps on its disk, and what it makes of it after a crash at any point."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chain.files
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError
from chain.protocol.seal import Metadata
from fl_node import tensorfile
from fl_node.gradient import Layout
from fl_node.journal import Journal, Pending
from fl_node.ledger import Checkpoint

Matrix = np.ndarray[Any, np.dtype[np.float32]]

UNSENT = "pending/residual.bin"
LAYOUT = Layout.of({"a.weight": np.zeros((3, 4)), "a.bias": np.zeros(3), "t": np.zeros(())})


def residual(value: float) -> list[Matrix]:
    return [np.full((layer.channels, layer.width), value, np.float32) for layer in LAYOUT.layers]


def pending(number: int) -> Pending:
    blob = f"blob of round {number}".encode()
    digest = Digest.of(b"something")
    metadata = Metadata(
        digest, Digest.of(blob), len(blob), digest, digest, 2**64 - 1, digest, 4, 2, 2**128 - 1, b"\x01" * 32
    )
    return Pending(number, metadata, blob)


def value_of(found: list[Matrix] | None) -> float | None:
    """The one value of a residual made by `residual`."""
    if found is None:
        return None
    (value,) = {float(value) for matrix in found for value in matrix.ravel()}
    return value


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state")


# ------------------------------------------------------------- the plain course


def test_a_new_journal_is_empty(journal: Journal) -> None:
    assert journal.checkpoint() is None
    assert journal.residual(LAYOUT) is None
    assert journal.pending(1) is None and journal.prepared_round() is None
    journal.settle(1, accepted=True)
    assert journal.residual(LAYOUT) is None
    assert journal.folder.stat().st_mode & 0o077 == 0


def test_what_was_prepared_comes_back_for_its_round_alone(journal: Journal) -> None:
    journal.prepare(pending(2), residual(0.5), LAYOUT)
    again = Journal(journal.folder)
    assert again.pending(2) == pending(2)
    assert again.pending(1) is None and again.pending(3) is None
    assert again.prepared_round() == 2
    assert journal.residual(LAYOUT) is None, "what it leaves unsent counts only once the round is over"


def test_accepted_the_new_residual_counts_otherwise_the_old_one(journal: Journal) -> None:
    for number, accepted, expected in ((1, True, 1.0), (2, False, 1.0), (3, True, 3.0)):
        journal.prepare(pending(number), residual(number), LAYOUT)
        journal.settle(number, accepted=accepted)
        assert value_of(Journal(journal.folder).residual(LAYOUT)) == expected
        assert journal.pending(number) is None and journal.prepared_round() is None


def test_not_accepted_in_the_first_round_leaves_none(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1), LAYOUT)
    journal.settle(1, accepted=False)
    assert journal.residual(LAYOUT) is None


@pytest.mark.parametrize("accepted", [True, False])
def test_settling_again_changes_nothing(journal: Journal, accepted: bool) -> None:
    journal.prepare(pending(1), residual(1), LAYOUT)
    journal.settle(1, accepted=accepted)
    before = value_of(journal.residual(LAYOUT))
    for verdict in (True, False):
        journal.settle(1, accepted=verdict)
    assert value_of(journal.residual(LAYOUT)) == before


def test_settling_another_round_changes_nothing(journal: Journal) -> None:
    journal.prepare(pending(2), residual(2), LAYOUT)
    for number in (1, 3):
        journal.settle(number, accepted=True)
    assert journal.pending(2) == pending(2) and journal.residual(LAYOUT) is None


def test_preparing_again_takes_the_place_of_what_was_prepared(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1), LAYOUT)
    journal.prepare(pending(2), residual(2), LAYOUT)
    assert journal.pending(1) is None and journal.pending(2) == pending(2)
    journal.settle(2, accepted=True)
    assert value_of(journal.residual(LAYOUT)) == 2


def test_the_salt_is_not_for_others_to_read(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1), LAYOUT)
    assert (journal.folder / "pending" / "seal.json").stat().st_mode & 0o077 == 0


# --------------------------------------------------------------------- crashes


class Crash(BaseException):
    """The power went."""


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ends the process, as it were, at the `step`-th change of a file or folder on the disk (from 0)."""
    counted = {"steps": 0}

    def wrapped(original: Any) -> Any:
        def change(*args: Any, **options: Any) -> Any:
            if counted["steps"] == step:
                raise Crash
            counted["steps"] += 1
            return original(*args, **options)

        return change

    # Path.replace, Path.unlink and shutil.rmtree all end in these.
    for name in ("replace", "unlink", "rmdir", "fsync"):
        monkeypatch.setattr(os, name, wrapped(getattr(os, name)))


def interrupted(monkeypatch: pytest.MonkeyPatch, step: int, work: Any) -> bool:
    """Runs `work` with a crash at `step`; whether there was one."""
    with monkeypatch.context() as patch:
        crash_at(patch, step)
        try:
            work()
        except Crash:
            return True
        return False


@pytest.mark.parametrize("accepted", [True, False])
def test_a_crash_at_any_point_of_settling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepted: bool) -> None:
    """Whenever it happens: settling again after the restart gives what settling once would have given."""
    for step in range(50):
        journal = Journal(tmp_path / str(step))
        journal.prepare(pending(1), residual(1), LAYOUT)
        journal.settle(1, accepted=True)
        journal.prepare(pending(2), residual(2), LAYOUT)
        journal.flush()
        crashed = interrupted(monkeypatch, step, lambda: journal.settle(2, accepted=accepted))  # noqa: B023
        again = Journal(journal.folder)
        assert value_of(again.residual(LAYOUT)) in ((1, 2) if accepted else (1,))
        again.settle(2, accepted=accepted)
        assert value_of(again.residual(LAYOUT)) == (2 if accepted else 1)
        assert again.pending(2) is None and again.prepared_round() is None
        if not crashed:
            assert step >= 3, "settling changes the disk in several steps"
            return
    pytest.fail("settling never ends")


def test_a_crash_at_any_point_of_preparing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it happens: afterwards the whole update is there, or none; and the next one can be prepared."""
    outcomes = set()
    for step in range(50):
        journal = Journal(tmp_path / str(step))
        journal.prepare(pending(1), residual(1), LAYOUT)
        journal.flush()

        def prepare(journal: Journal = journal) -> None:
            journal.prepare(pending(2), residual(2), LAYOUT)
            journal.flush()

        crashed = interrupted(monkeypatch, step, prepare)
        again = Journal(journal.folder)
        assert again.residual(LAYOUT) is None
        found = again.pending(2)
        assert again.lost_unsent(2) == (found is not None and crashed and not (again.folder / UNSENT).exists())
        outcomes.add(found)
        assert found in (None, pending(2))
        assert again.pending(1) in (None, pending(1))
        again.prepare(pending(3), residual(3), LAYOUT)
        again.settle(3, accepted=True)
        assert value_of(again.residual(LAYOUT)) == 3
        if not crashed:
            assert found == pending(2) and len(outcomes) == 2
            return
    pytest.fail("preparing never ends")


def test_leftovers_of_a_crash_between_write_and_rename_do_not_count(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1), LAYOUT)
    journal.settle(1, accepted=True)
    journal.save_checkpoint(Checkpoint(5, b"h" * 32))
    (journal.folder / "pending").mkdir(exist_ok=True)
    for name in (".residual.bin.abc", ".checkpoint.json.abc", "pending/.seal.json.abc", "pending/blob.bin"):
        (journal.folder / name).write_bytes(b"half a fi")
    again = Journal(journal.folder)
    assert value_of(again.residual(LAYOUT)) == 1
    assert again.checkpoint() == Checkpoint(5, b"h" * 32)
    assert again.pending(1) is None and again.prepared_round() is None
    again.prepare(pending(2), residual(2), LAYOUT)
    assert again.pending(2) == pending(2)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    chain.files.write_atomic(path, b"old")
    assert interrupted(monkeypatch, 0, lambda: chain.files.write_atomic(path, b"new"))
    assert path.read_bytes() == b"old"


# ---------------------------------------------------------------------- damage


def damaged(journal: Journal, data: bytes) -> None:
    (journal.folder / "residual.bin").write_bytes(data)
    with pytest.raises(ConfigError, match=r"residual\.bin"):
        Journal(journal.folder).residual(LAYOUT)


def test_a_damaged_residual_is_a_configuration_error(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1), LAYOUT)
    journal.settle(1, accepted=True)
    whole = (journal.folder / "residual.bin").read_bytes()
    about = tensorfile.decode(whole, "test", len(whole))[1]
    for size in range(0, len(whole), 7):
        damaged(journal, whole[:size])
    damaged(journal, whole + b"\0")
    tensors = LAYOUT.tensors(residual(1))
    damaged(journal, tensorfile.encode({name: tensors[name] for name in ("a.weight", "a.bias")}, about))
    damaged(journal, tensorfile.encode(tensors | {"extra": np.zeros(3, np.float32)}, about))
    damaged(journal, tensorfile.encode(tensors | {"a.weight": np.zeros((3, 5), np.float32)}, about))
    damaged(journal, tensorfile.encode(tensors | {"a.weight": np.zeros((4, 3), np.float32)}, about))
    damaged(journal, tensorfile.encode(tensors | {"a.weight": np.zeros((3, 4), np.float64)}, about))
    damaged(journal, tensorfile.encode(tensors, about | {"format": "roundledger-journal/2"}))
    damaged(journal, tensorfile.encode(tensors, {}))
    (journal.folder / "residual.bin").write_bytes(whole)
    assert value_of(journal.residual(LAYOUT)) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "roundledger-journal/1", "round": "x"}', "null"])
def test_a_damaged_seal_is_a_configuration_error(journal: Journal, text: str) -> None:
    journal.prepare(pending(1), residual(1), LAYOUT)
    (journal.folder / "pending" / "seal.json").write_text(text)
    for look in (lambda: journal.pending(1), journal.prepared_round, lambda: journal.settle(1, accepted=True)):
        with pytest.raises(ConfigError, match=r"seal\.json"):
            look()
    assert journal.residual(LAYOUT) is None


@pytest.mark.parametrize("blob", [None, b"", b"another blob"])
def test_a_damaged_blob_is_a_configuration_error(journal: Journal, blob: bytes | None) -> None:
    journal.prepare(pending(1), residual(1), LAYOUT)
    path = journal.folder / "pending" / "blob.bin"
    path.unlink() if blob is None else path.write_bytes(blob)
    with pytest.raises(ConfigError, match=r"blob\.bin"):
        journal.pending(1)


# ------------------------------------------------------------------ checkpoint


def test_checkpoint_round_trip(journal: Journal) -> None:
    for events in (0, 7):
        journal.save_checkpoint(Checkpoint(events, bytes([events]) * 32))
        assert Journal(journal.folder).checkpoint() == Checkpoint(events, bytes([events]) * 32)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": "roundledger-journal/1", "events": 1}',
        '{"format": "roundledger-journal/1", "events": 1, "head": "zz"}',
        '{"format": "roundledger-journal/1", "events": "x", "head": ""}',
        '{"format": "roundledger-journal/2", "events": 1, "head": ""}',
    ],
)
def test_a_damaged_checkpoint_is_a_configuration_error(journal: Journal, text: str) -> None:
    (journal.folder / "checkpoint.json").write_text(text)
    with pytest.raises(ConfigError, match=r"checkpoint\.json"):
        journal.checkpoint()


def test_files_name_their_format(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1), LAYOUT)
    journal.save_checkpoint(Checkpoint(1, bytes(32)))
    for path in (journal.folder / "checkpoint.json", journal.folder / "pending" / "seal.json"):
        assert json.loads(path.read_text())["format"] == "roundledger-journal/1"


# ------------------------------------------------------ one ledger, one unfinished round


def test_a_state_folder_belongs_to_one_ledger(journal: Journal) -> None:
    for _ in range(2):
        journal.bind(31337, "0xabc")
    for chain_id, ledger in ((1, "0xabc"), (31337, "0xdef")):
        with pytest.raises(ConfigError, match="0xabc on chain 31337"):
            Journal(journal.folder).bind(chain_id, ledger)


def test_one_node_at_a_time(journal: Journal) -> None:
    journal.lock()
    with pytest.raises(ConfigError, match="another node"):
        Journal(journal.folder).lock()


def test_a_watched_round_stays_unfinished_until_it_is_settled(journal: Journal) -> None:
    assert journal.unfinished_round() is None
    journal.watch(7)  # no update of its own: it only votes
    assert Journal(journal.folder).unfinished_round() == 7
    journal.settle(7, accepted=False)
    assert journal.unfinished_round() is None


def test_a_prepared_round_is_unfinished(journal: Journal) -> None:
    journal.prepare(pending(3), residual(1), LAYOUT)
    assert journal.unfinished_round() == 3
    journal.settle(3, accepted=True)
    assert journal.unfinished_round() is None
