"""What a node keeps on its disk, and what it makes of it after a crash at any point."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chain.files
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError
from chain.protocol.seal import Metadata
from fl_node import tensorfile
from fl_node.database import Database
from fl_node.gradient import Layout
from fl_node.journal import Journal, Pending
from fl_node.ledger import Checkpoint

Matrix = np.ndarray[Any, np.dtype[np.float32]]

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


def reopened(journal: Journal) -> Journal:
    """As the next process finds it."""
    journal.close()
    return Journal(journal.folder)


def files(journal: Journal, kind: str = "") -> list[Path]:
    """The files of blobs or residuals, half-written ones included."""
    return sorted(path for path in journal.folder.iterdir() if path.suffix != ".db" and kind + "-" in path.name[:10])


def tamper(journal: Journal, statement: str, *values: object) -> None:
    """Changes the database of a closed journal from outside."""
    with closing(sqlite3.connect(journal.folder / "journal.db")) as database, database:
        database.execute(statement, values)


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
    again = reopened(journal)
    assert again.pending(2) == pending(2)
    assert again.pending(1) is None and again.pending(3) is None
    assert again.prepared_round() == 2
    assert again.residual(LAYOUT) is None, "what it leaves unsent counts only once the round is over"


def test_accepted_the_new_residual_counts_otherwise_the_old_one(journal: Journal) -> None:
    for number, accepted, expected in ((1, True, 1.0), (2, False, 1.0), (3, True, 3.0)):
        journal.prepare(pending(number), residual(number), LAYOUT)
        journal.settle(number, accepted=accepted)
        journal = reopened(journal)
        assert value_of(journal.residual(LAYOUT)) == expected
        assert journal.pending(number) is None and journal.prepared_round() is None
        assert len(files(journal, "residual")) == 1 and files(journal, "blob") == []


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
    journal.flush()
    kept = [path for path in journal.folder.iterdir() if path.name != "lock"]
    assert len(kept) == 4  # database, its log, blob, residual
    assert [path for path in kept if path.stat().st_mode & 0o077] == []


def test_the_round_can_be_given_up(journal: Journal) -> None:
    assert journal.give_up() is None
    journal.prepare(pending(1), residual(1), LAYOUT)
    journal.settle(1, accepted=True)
    journal.prepare(pending(2), residual(2), LAYOUT)
    journal.watch(2)
    assert journal.give_up() == 2
    again = reopened(journal)
    assert again.unfinished_round() is None and again.pending(2) is None
    assert value_of(again.residual(LAYOUT)) == 1


def test_the_unsent_of_an_accepted_update_cannot_be_forgotten(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1), LAYOUT)
    journal.flush()
    journal.close()
    tamper(journal, "DELETE FROM fact WHERE name = 'unsent'")
    again = Journal(journal.folder)
    assert again.lost_unsent(1)
    with pytest.raises(ValueError, match="never kept"):
        again.settle(1, accepted=True)
    assert again.pending(1) == pending(1)
    again.keep_unsent(residual(1), LAYOUT)
    again.settle(1, accepted=True)
    assert value_of(reopened(again).residual(LAYOUT)) == 1


# --------------------------------------------------------------------- crashes


class Crash(BaseException):
    """The power went."""


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ends the process, as it were, at the `step`-th change of a file or of the database (from 0)."""
    counted = {"steps": 0}

    def wrapped(original: Any) -> Any:
        def change(*args: Any, **options: Any) -> Any:
            if counted["steps"] == step:
                raise Crash
            counted["steps"] += 1
            return original(*args, **options)

        return change

    for name in ("replace", "unlink", "fsync"):  # Path.replace and Path.unlink end in these
        monkeypatch.setattr(os, name, wrapped(getattr(os, name)))
    monkeypatch.setattr(Database, "keep", wrapped(Database.keep))


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
        again = reopened(journal)
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
        again = reopened(journal)
        assert again.residual(LAYOUT) is None
        found = again.pending(2)
        assert again.lost_unsent(2) == (found is not None and files(again, "residual") == [])
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


def test_leftovers_of_a_crash_do_not_count_and_are_removed(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1), LAYOUT)
    journal.settle(1, accepted=True)
    journal.save_checkpoint(Checkpoint(5, b"h" * 32))
    before = files(journal)
    for name in (".residual-00.bin.abc", "residual-00.bin", ".blob-00.bin.x", "blob-00.bin", ".secret.x"):
        (journal.folder / name).write_bytes(b"half a fi")
    again = reopened(journal)
    assert files(again) == before and list(again.folder.glob(".*")) == []
    assert value_of(again.residual(LAYOUT)) == 1
    assert again.checkpoint() == Checkpoint(5, b"h" * 32)
    assert again.pending(1) is None and again.prepared_round() is None
    again.prepare(pending(2), residual(2), LAYOUT)
    assert again.pending(2) == pending(2)


def test_the_same_residual_twice_is_one_file(journal: Journal) -> None:
    for number in (1, 2):
        journal.prepare(pending(number), residual(7), LAYOUT)
        journal.settle(number, accepted=True)
        journal = reopened(journal)
        assert value_of(journal.residual(LAYOUT)) == 7


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    chain.files.write_atomic(path, b"old")
    assert interrupted(monkeypatch, 0, lambda: chain.files.write_atomic(path, b"new"))
    assert path.read_bytes() == b"old"


# ---------------------------------------------------------------------- damage


@pytest.fixture
def kept(journal: Journal) -> Journal:
    """A closed journal with a residual, and an update prepared for round 2."""
    journal.prepare(pending(1), residual(1), LAYOUT)
    journal.settle(1, accepted=True)
    journal.prepare(pending(2), residual(2), LAYOUT)
    journal.save_checkpoint(Checkpoint(5, b"h" * 32))
    journal.close()
    return journal


def refused(folder: Path, look: Callable[[Journal], object] = lambda journal: None) -> str:
    """Opens the journal, looks at it, and says why that failed, and what to do."""
    with pytest.raises(ConfigError) as caught:
        again = Journal(folder)
        try:
            look(again)
        finally:
            again.close()
    assert caught.value.hint
    return str(caught.value)


def test_a_damaged_or_missing_residual_is_a_configuration_error(kept: Journal) -> None:
    for path in files(kept, "residual"):
        whole = path.read_bytes()
        for damage in (b"", whole[:-1], whole + b"\0", bytes([whole[0] ^ 1]) + whole[1:]):
            path.write_bytes(damage)
        path.unlink()
    assert "residual-" in refused(kept.folder, lambda journal: journal.residual(LAYOUT))


@pytest.mark.parametrize("damage", [b"", b"half", b"another blob"])
def test_a_damaged_blob_is_a_configuration_error(kept: Journal, damage: bytes) -> None:
    (path,) = files(kept, "blob")
    path.write_bytes(damage)
    assert f"{path}: damaged" in refused(kept.folder, lambda journal: journal.pending(2))
    path.unlink()
    assert f"{path}: cannot be read" in refused(kept.folder, lambda journal: journal.pending(2))


def other_residuals() -> Iterator[bytes]:
    """Whole files that are no residual of this model."""
    tensors, about = LAYOUT.tensors(residual(1)), {"format": "roundledger-journal/2"}
    yield tensorfile.encode({name: tensors[name] for name in ("a.weight", "a.bias")}, about)
    yield tensorfile.encode(tensors | {"extra": np.zeros(3, np.float32)}, about)
    yield tensorfile.encode(tensors | {"a.weight": np.zeros((3, 5), np.float32)}, about)
    yield tensorfile.encode(tensors | {"a.weight": np.zeros((3, 4), np.float64)}, about)
    yield tensorfile.encode(tensors, {"format": "roundledger-journal/3"})
    yield tensorfile.encode(tensors, {})
    yield b"not a tensor file"


@pytest.mark.parametrize("data", list(other_residuals()))
def test_the_residual_of_another_model_or_version_is_a_configuration_error(kept: Journal, data: bytes) -> None:
    digest = Digest.of(data)
    (kept.folder / f"residual-{digest.hex()}.bin").write_bytes(data)
    tamper(kept, "UPDATE fact SET value = ? WHERE name = 'residual'", f'"{digest.hex()}"')
    assert "not the residual of this node" in refused(kept.folder, lambda journal: journal.residual(LAYOUT))


@pytest.mark.parametrize("value", ["", "{", "{}", "[]", "[1]", '"zz"', '["x", "y"]', "null"])
@pytest.mark.parametrize("name", ["checkpoint", "residual", "pending", "unsent", "watched", "ledger"])
def test_a_damaged_fact_is_a_configuration_error(kept: Journal, name: str, value: str) -> None:
    tamper(kept, "INSERT OR REPLACE INTO fact VALUES (?, ?)", name, value)
    looks: dict[str, Callable[[Journal], object]] = {
        "checkpoint": lambda journal: journal.checkpoint(),
        "watched": lambda journal: journal.unfinished_round(),
        "ledger": lambda journal: journal.bind(1, "0xabc"),
    }
    assert f"damaged {name}" in refused(kept.folder, looks.get(name, lambda journal: None))


def test_a_damaged_database_is_a_configuration_error(kept: Journal) -> None:
    path = kept.folder / "journal.db"
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damage in (b"", b"x", whole[:50], whole[:middle], b"\0" * len(whole), whole[:100] + b"\xff" * middle):
        path.write_bytes(damage)
        said = refused(kept.folder, lambda journal: (journal.residual(LAYOUT), journal.pending(2)))
        assert f"{path}: damaged" in said, damage[:10]
        assert path.read_bytes() == damage, "what is damaged is left for whoever mends it"
    path.write_bytes(whole)
    again = Journal(kept.folder)
    assert value_of(again.residual(LAYOUT)) == 1 and again.pending(2) == pending(2)


def test_a_database_that_is_gone_is_no_new_beginning(kept: Journal) -> None:
    (kept.folder / "journal.db").unlink()
    assert "journal.db: missing, but" in refused(kept.folder)
    assert not (kept.folder / "journal.db").exists()


def test_versions_before_and_after_are_configuration_errors(kept: Journal, tmp_path: Path) -> None:
    tamper(kept, "PRAGMA user_version = 3")
    with pytest.raises(ConfigError, match="version 3, this program reads 2"):
        Journal(kept.folder)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "ledger.json").write_text("{}")
    assert "of an earlier version" in refused(tmp_path / "old")


def test_checkpoint_round_trip(journal: Journal) -> None:
    for events in (0, 7):
        journal.save_checkpoint(Checkpoint(events, bytes([events]) * 32))
        journal = reopened(journal)
        assert journal.checkpoint() == Checkpoint(events, bytes([events]) * 32)


# ------------------------------------------------------ one ledger, one unfinished round


def test_a_state_folder_belongs_to_one_ledger(journal: Journal) -> None:
    for _ in range(2):
        journal.bind(31337, "0xabc")
    for chain_id, ledger in ((1, "0xabc"), (31337, "0xdef")):
        with pytest.raises(ConfigError, match="0xabc on chain 31337"):
            journal.bind(chain_id, ledger)
        journal = reopened(journal)


def test_one_node_at_a_time(journal: Journal) -> None:
    with pytest.raises(ConfigError, match="another node"):
        Journal(journal.folder)
    journal.close()
    Journal(journal.folder)


def test_a_watched_round_stays_unfinished_until_it_is_settled(journal: Journal) -> None:
    assert journal.unfinished_round() is None
    journal.watch(7)  # no update of its own: it only votes
    journal = reopened(journal)
    assert journal.unfinished_round() == 7
    journal.settle(7, accepted=False)
    assert journal.unfinished_round() is None


def test_a_prepared_round_is_unfinished(journal: Journal) -> None:
    journal.prepare(pending(3), residual(1), LAYOUT)
    assert journal.unfinished_round() == 3
    journal.settle(3, accepted=True)
    assert journal.unfinished_round() is None
