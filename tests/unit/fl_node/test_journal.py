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
from chain.outbox import Entry
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError
from chain.protocol.seal import Metadata
from fl_node import database, pace, tensorfile
from fl_node import residual as residuals
from fl_node.database import Database, row
from fl_node.gradient import Layout
from fl_node.journal import Journal, Pending
from fl_node.ledger import Checkpoint
from fl_node.norms import Norms

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


def last_of(journal: Journal) -> int:
    """The last round that is in the residual before round 9."""
    return journal.residual.before(LAYOUT, 9)[1]


def value_of(journal: Journal) -> float | None:
    """The one value of a residual made by `residual`."""
    found, _ = journal.residual.before(LAYOUT, 9)
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


def killed(journal: Journal) -> Journal:
    """The next process, after one that was killed when the disk was at rest."""
    journal.residual.flush()
    journal._database.close()
    journal._lock.close()
    return Journal(journal.folder)


def files(journal: Journal, kind: str = "") -> list[Path]:
    """The files of blobs or residuals, half-written ones included."""
    return sorted(path for path in journal.folder.iterdir() if path.suffix != ".db" and kind + "-" in path.name[:10])


FACT = "INSERT OR REPLACE INTO fact VALUES (?, ?, ?)"


def tamper(journal: Journal, statement: str, *values: object) -> None:
    """Changes the database of a closed journal from outside."""
    with closing(sqlite3.connect(journal.folder / "journal.db")) as database, database:
        database.execute(statement, values)


def kept_facts(journal: Journal) -> dict[str, str]:
    with closing(sqlite3.connect(journal.folder / "journal.db")) as database:
        return dict(database.execute("SELECT name, value FROM fact").fetchall())


# ------------------------------------------------------------- the plain course


def test_a_new_journal_is_empty(journal: Journal) -> None:
    assert journal.checkpoint() is None
    assert value_of(journal) is None
    assert journal.pending(1) is None and journal.prepared_round() is None
    journal.settle(1, accepted=True)
    assert value_of(journal) is None
    assert journal.folder.stat().st_mode & 0o077 == 0


def test_what_was_prepared_comes_back_for_its_round_alone(journal: Journal) -> None:
    journal.prepare(pending(2), residual(0.5))
    again = reopened(journal)
    assert again.pending(2) == pending(2)
    assert again.pending(1) is None and again.pending(3) is None
    assert again.prepared_round() == 2
    assert value_of(again) is None, "what it leaves unsent counts only once the round is over"


def test_accepted_the_new_residual_counts_otherwise_the_old_one(journal: Journal) -> None:
    for number, accepted, expected in ((1, True, 1.0), (2, False, 1.0), (3, True, 3.0)):
        journal.prepare(pending(number), residual(number))
        journal.settle(number, accepted=accepted)
        journal = reopened(journal)
        assert value_of(journal) == expected
        assert journal.pending(number) is None and journal.prepared_round() is None
        assert len(files(journal, "residual")) == 1 and files(journal, "blob") == []


def test_not_accepted_in_the_first_round_leaves_none(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1))
    journal.settle(1, accepted=False)
    assert value_of(journal) is None


@pytest.mark.parametrize("accepted", [True, False])
def test_settling_again_changes_nothing(journal: Journal, accepted: bool) -> None:
    journal.prepare(pending(1), residual(1))
    journal.settle(1, accepted=accepted)
    before = value_of(journal)
    for verdict in (True, False):
        journal.settle(1, accepted=verdict)
    assert value_of(journal) == before


def test_settling_another_round_changes_nothing(journal: Journal) -> None:
    journal.prepare(pending(2), residual(2))
    for number in (1, 3):
        journal.settle(number, accepted=True)
    assert journal.pending(2) == pending(2) and value_of(journal) is None


def test_preparing_again_takes_the_place_of_what_was_prepared(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1))
    journal.prepare(pending(2), residual(2))
    assert journal.pending(1) is None and journal.pending(2) == pending(2)
    journal.settle(2, accepted=True)
    assert value_of(journal) == 2


def test_the_salt_is_not_for_others_to_read(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1))
    journal.settle(1, accepted=True)
    journal.prepare(pending(2), residual(2))
    journal.residual.flush()
    kept = [path for path in journal.folder.iterdir() if path.name != "lock"]
    assert len(kept) == 4  # database, its log, blob, residual
    assert [path for path in kept if path.stat().st_mode & 0o077] == []


def test_the_round_can_be_given_up(journal: Journal) -> None:
    assert journal.give_up() is None
    journal.prepare(pending(1), residual(1))
    journal.settle(1, accepted=True)
    journal.prepare(pending(2), residual(2))
    journal.watch(2)
    assert journal.give_up() == 2
    again = reopened(journal)
    assert again.unfinished_round() is None and again.pending(2) is None
    assert value_of(again) == 1


# ----------------------------------------------------------------- the residual


def test_after_which_round_the_residual_is_known(journal: Journal) -> None:
    """From the first update on: what came later than that can be made again, what was before cannot."""
    assert journal.residual.before(LAYOUT, 5) == (None, 4)
    journal = reopened(journal)
    assert journal.residual.before(LAYOUT, 7) == (None, 6)
    journal.prepare(pending(3), residual(3))
    journal = killed(journal)
    assert journal.residual.before(LAYOUT, 9) == (None, 2)
    journal.settle(3, accepted=True)  # by a process that did not prepare it: what it left unsent died with the other
    assert journal.residual.before(LAYOUT, 9) == (None, 2)
    journal.residual.keep(residual(3), 3)
    assert (value_of(journal), last_of(journal)) == (3, 3)
    journal.prepare(pending(4), residual(4))
    journal.settle(4, accepted=False)
    assert (value_of(journal), last_of(journal)) == (3, 3)
    journal = killed(journal)
    assert (value_of(journal), last_of(journal)) == (3, 3)


class Time:
    """A clock that stands still unless it is told, for how long writing takes and how long ago it was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, writing: float) -> None:
        self.now, self.writing = 100.0, writing
        monkeypatch.setattr(pace, "SMALL", 0)
        monkeypatch.setattr(pace.time, "monotonic", lambda: self.now)
        write = residuals.write_state_file

        def slow(path: Path, *parts: Any) -> None:
            self.now += self.writing
            write(path, *parts)

        monkeypatch.setattr(residuals, "write_state_file", slow)


def test_a_large_residual_is_written_when_that_costs_little_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first at once; then only when 2% of the time since pay for it. Killed, the node knows the one written last,
    and which round that was; ended in peace, the last one.
    """
    time, written = Time(monkeypatch, writing=1.0), [1]
    journal = Journal(tmp_path / "state")
    for number in range(1, 120):
        journal.prepare(pending(number), residual(number))
        journal.settle(number, accepted=True)
        journal.residual.flush()
        on_disk = journal._database.fact("residual")[1]
        if on_disk != written[-1]:
            written.append(on_disk)
        assert (value_of(journal), last_of(journal)) == (number, number)
        time.now += 1
    assert written == [1, 51, 101]
    assert len(files(journal, "residual")) == 1
    journal = killed(journal)
    assert (value_of(journal), last_of(journal)) == (101, 101)
    journal.residual.keep(residual(119), 119)
    journal.residual.keep(residual(120), 120)
    journal = reopened(journal)
    assert (value_of(journal), last_of(journal)) == (120, 120)
    assert len(files(journal, "residual")) == 1


def test_what_is_in_memory_alone_is_not_handed_out_to_be_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Time(monkeypatch, writing=1.0)
    journal = Journal(tmp_path / "state")
    journal.residual.keep(residual(1), 1)
    for number, accepted, expected in ((2, True, 2), (3, False, 2), (4, False, 2), (5, True, 5), (6, False, 5)):
        found, _ = journal.residual.before(LAYOUT, number)
        assert found is not None
        for matrix in found:
            matrix.fill(number)  # as `take_sent` does
        journal.prepare(pending(number), found)
        journal.settle(number, accepted=accepted)
        assert value_of(journal) == expected
        assert journal._database.fact("residual")[1] == 1


def test_what_is_on_the_disk_is_handed_out_once_and_read_again(journal: Journal) -> None:
    """What it is handed out for may come to nothing: an aborted round, an update that is excluded."""
    journal.residual.keep(residual(7), 1)
    journal.residual.flush()
    for number in (2, 3, 4):
        found, last = journal.residual.before(LAYOUT, number)
        assert found is not None and last == 1
        assert all((matrix == 7).all() for matrix in found)
        for matrix in found:
            matrix.fill(number)


def test_a_residual_that_cannot_be_written_is_told_at_the_next_settling(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *parts: Any) -> None:
        raise ConfigError(path, "cannot be written: No space left on device", "nothing is lost")

    with monkeypatch.context() as patch:
        patch.setattr(residuals, "write_state_file", full)
        journal.prepare(pending(1), residual(1))
        journal.settle(1, accepted=True)
        journal.prepare(pending(2), residual(2))
        with pytest.raises(ConfigError, match="No space left"):
            journal.settle(2, accepted=True)
        again = killed(journal)  # nothing is lost: round 2 is still to be settled, round 1 can be made again
    assert (value_of(again), last_of(again), again.pending(2)) == (None, 0, pending(2))


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
        journal.prepare(pending(1), residual(1))
        journal.settle(1, accepted=True)
        journal.prepare(pending(2), residual(2))
        journal.residual.flush()

        def settle(journal: Journal = journal) -> None:
            journal.settle(2, accepted=accepted)
            journal.residual.flush()

        crashed = interrupted(monkeypatch, step, settle)
        again = killed(journal)
        assert value_of(again) == last_of(again)
        assert value_of(again) in ((1, 2) if accepted and (not crashed or again.pending(2) is None) else (1,))
        again.settle(2, accepted=accepted)
        if not crashed:
            assert value_of(again) == (2 if accepted else 1)
        assert again.pending(2) is None and again.prepared_round() is None
        if not crashed:
            assert step >= (5 if accepted else 2), "settling changes the disk in several steps"
            return
    pytest.fail("settling never ends")


def test_a_crash_at_any_point_of_preparing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it happens: afterwards the whole update is there, or none; and the next one can be prepared."""
    outcomes = set()
    for step in range(50):
        journal = Journal(tmp_path / str(step))
        journal.prepare(pending(1), residual(1))
        crashed = interrupted(monkeypatch, step, lambda: journal.prepare(pending(2), residual(2)))  # noqa: B023
        again = killed(journal)
        assert again.residual.before(LAYOUT, 9) == (None, 0)
        found = again.pending(2)
        outcomes.add(found)
        assert found in (None, pending(2))
        assert again.pending(1) in (None, pending(1))
        again.prepare(pending(3), residual(3))
        again.settle(3, accepted=True)
        assert value_of(again) == 3
        if not crashed:
            assert found == pending(2) and len(outcomes) == 2
            return
    pytest.fail("preparing never ends")


def test_leftovers_of_a_crash_do_not_count_and_are_removed(journal: Journal) -> None:
    journal.prepare(pending(1), residual(1))
    journal.settle(1, accepted=True)
    journal.residual.flush()
    journal.save_checkpoint(Checkpoint(5, b"h" * 32))
    before = files(journal)
    for name in (".residual-00.bin.abc", "residual-00.bin", ".blob-00.bin.x", "blob-00.bin", ".secret.x"):
        (journal.folder / name).write_bytes(b"half a fi")
    again = reopened(journal)
    assert files(again) == before and list(again.folder.glob(".*")) == []
    assert value_of(again) == 1
    assert again.checkpoint() == Checkpoint(5, b"h" * 32)
    assert again.pending(1) is None and again.prepared_round() is None
    again.prepare(pending(2), residual(2))
    assert again.pending(2) == pending(2)


def test_the_same_residual_twice_is_one_file(journal: Journal) -> None:
    for number in (1, 2):
        journal.prepare(pending(number), residual(7))
        journal.settle(number, accepted=True)
        journal = reopened(journal)
        assert value_of(journal) == 7


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    chain.files.write_atomic(path, b"old")
    assert interrupted(monkeypatch, 0, lambda: chain.files.write_atomic(path, b"new"))
    assert path.read_bytes() == b"old"


# ---------------------------------------------------------------------- damage


@pytest.fixture
def kept(journal: Journal) -> Journal:
    """A closed journal with a residual, and an update prepared for round 2."""
    journal.prepare(pending(1), residual(1))
    journal.settle(1, accepted=True)
    journal.prepare(pending(2), residual(2))
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
    assert "residual-" in refused(kept.folder, value_of)


@pytest.mark.parametrize("damage", [b"", b"half", b"another blob"])
def test_a_damaged_blob_is_a_configuration_error(kept: Journal, damage: bytes) -> None:
    (path,) = files(kept, "blob")
    path.write_bytes(damage)
    assert f"{path}: damaged" in refused(kept.folder, lambda journal: journal.pending(2))
    path.unlink()
    assert f"{path}: cannot be read" in refused(kept.folder, lambda journal: journal.pending(2))


def other_residuals() -> Iterator[bytes]:
    """Whole files that are no residual of this model."""
    tensors: dict[str, Any] = {str(index): matrix for index, matrix in enumerate(residual(1))}
    about = {"format": residuals.FORMAT}
    assert list(tensors) == ["0", "1"] and tensors["1"].shape == (3, 5)
    yield tensorfile.encode({"0": tensors["0"]}, about)
    yield tensorfile.encode({"0": tensors["0"], "2": tensors["1"]}, about)
    yield tensorfile.encode(tensors | {"2": np.zeros((1, 1), np.float32)}, about)
    yield tensorfile.encode(tensors | {"1": np.zeros((3, 4), np.float32)}, about)
    yield tensorfile.encode(tensors | {"1": np.zeros((3, 5), np.float64)}, about)
    yield tensorfile.encode(tensors, {"format": "roundledger-residual/2"})
    yield tensorfile.encode(tensors, {})
    yield b"not a tensor file"


@pytest.mark.parametrize("data", list(other_residuals()))
def test_the_residual_of_another_model_or_version_is_a_configuration_error(kept: Journal, data: bytes) -> None:
    digest = Digest.of(data)
    (kept.folder / f"residual-{digest.hex()}.bin").write_bytes(data)
    tamper(kept, FACT, *row("residual", f'["{digest.hex()}", 1]'))
    assert "not the residual of this node" in refused(kept.folder, value_of)


def test_a_flipped_bit_in_any_fact_is_a_configuration_error(kept: Journal) -> None:
    """Not a ledger that does not extend its checkpoint, nor a forgotten round."""
    whole, facts = (kept.folder / "journal.db").read_bytes(), kept_facts(kept)
    assert {"checkpoint", "residual", "pending"} <= facts.keys()
    for name, value in facts.items():
        start, end = whole.index(f"{name}{value}".encode()), len(f"{name}{value}")
        for at in range(start, start + end):
            flipped = whole[:at] + bytes([whole[at] ^ 1 << at % 7]) + whole[at + 1 :]
            (kept.folder / "journal.db").write_bytes(flipped)
            assert "damaged" in refused(kept.folder)


def test_a_flipped_bit_in_a_transaction_is_a_configuration_error(kept: Journal) -> None:
    journal = Journal(kept.folder)
    journal.outbox.put(Entry("commit 2", 7, (bytes(range(100)), b"the same with a higher fee" * 4)))
    journal.close()
    whole = (kept.folder / "journal.db").read_bytes()
    for part in (b"commit 2" + bytes(range(100)), b"commit 2" + b"the same with a higher fee" * 4):
        start = whole.index(part)
        for at in range(start, start + len(part)):
            flipped = whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
            (kept.folder / "journal.db").write_bytes(flipped)
            assert "damaged" in refused(kept.folder)


@pytest.mark.parametrize("value", ["", "{", "{}", "[]", "[1]", '"zz"', '["x", "y"]', "null"])
@pytest.mark.parametrize("name", ["checkpoint", "residual", "pending", "watched", "ledger"])
def test_a_damaged_fact_is_a_configuration_error(kept: Journal, name: str, value: str) -> None:
    tamper(kept, FACT, *row(name, value))
    looks: dict[str, Callable[[Journal], object]] = {
        "checkpoint": lambda journal: journal.checkpoint(),
        "watched": lambda journal: journal.unfinished_round(),
        "ledger": lambda journal: journal.bind(1, "0xabc", "0xdef"),
    }
    assert f"damaged {name}" in refused(kept.folder, looks.get(name, lambda journal: None))


def test_a_damaged_database_is_a_configuration_error(kept: Journal) -> None:
    path = kept.folder / "journal.db"
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damage in (b"", b"x", whole[:50], whole[:middle], b"\0" * len(whole), whole[:100] + b"\xff" * middle):
        path.write_bytes(damage)
        said = refused(kept.folder, lambda journal: (value_of(journal), journal.pending(2)))
        assert f"{path}: damaged" in said, damage[:10]
        assert path.read_bytes() == damage, "what is damaged is left for whoever mends it"
    path.write_bytes(whole)
    again = Journal(kept.folder)
    assert value_of(again) == 1 and again.pending(2) == pending(2)


def test_a_database_that_somebody_else_reads_is_not_damaged(kept: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup, say."""
    monkeypatch.setattr(database, "WAIT", 0.1)
    kept.close()
    reader = sqlite3.connect(kept.folder / "journal.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM fact").fetchall()
    said = refused(kept.folder)
    assert "cannot be used" in said and "nothing is lost" in said
    reader.close()
    assert value_of(Journal(kept.folder)) == 1


def test_a_database_that_is_gone_is_no_new_beginning(kept: Journal) -> None:
    (kept.folder / "journal.db").unlink()
    assert "journal.db: missing, but" in refused(kept.folder)
    assert not (kept.folder / "journal.db").exists()


def test_versions_before_and_after_are_configuration_errors(kept: Journal, tmp_path: Path) -> None:
    for version in (4, 6):
        tamper(kept, f"PRAGMA user_version = {version}")
        with pytest.raises(ConfigError, match=f"version {version}, this program reads 5"):
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
        journal.bind(31337, "0xabc", "0xdef")
    for chain_id, ledger in ((1, "0xabc"), (31337, "0xdef")):
        with pytest.raises(ConfigError, match="0xabc on chain 31337"):
            journal.bind(chain_id, ledger, "0xdef")
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
    journal.prepare(pending(3), residual(1))
    assert journal.unfinished_round() == 3
    journal.settle(3, accepted=True)
    assert journal.unfinished_round() is None


def test_the_users_own_hidden_files_are_left_alone(journal: Journal) -> None:
    mine = [journal.folder / name for name in (".env", ".password", ".secrets")]
    rest = [
        journal.folder / name for name in (".residual-00.bin.x1", ".blob-00.bin.x2", ".journal.db.x3", ".secret.x4")
    ]
    for path in mine + rest:
        path.write_text("x")
    (journal.folder / ".snapshot").mkdir()
    journal = reopened(journal)
    assert all(path.exists() for path in mine) and not any(path.exists() for path in rest)


def test_another_account_does_not_wait_for_what_the_one_before_has_sent(journal: Journal) -> None:
    journal.bind(31337, "0xabc", "0x1")
    journal.outbox.put(Entry("commit 1", 7, (b"signed",)))
    journal.bind(31337, "0xabc", "0x1")
    assert len(journal.outbox.entries()) == 1
    journal = reopened(journal)
    journal.bind(31337, "0xabc", "0x2")
    assert journal.outbox.entries() == []


def test_common_norms_come_back_for_the_same_updates_alone(journal: Journal) -> None:
    norms = Norms.of([0, 1, 2**64, 2**128 - 1])
    first, second = {"0xA": pending(1).metadata, "0xB": pending(2).metadata}, {"0xA": pending(1).metadata}
    assert journal.common_norms(first) is None
    journal.keep_common_norms(first, norms)
    assert journal.common_norms(first) is None  # not before the round is settled
    journal.settle(1, accepted=True)
    journal = reopened(journal)
    found = journal.common_norms(first)
    assert found is not None and list(found) == list(norms)
    assert journal.common_norms(second) is None and journal.common_norms({}) is None
    for damaged in ("[]", "[1]", "7", '["00", "zz"]', '["00", "00"]', "null"):
        with journal._database.transaction() as database:
            database.execute(FACT, row("common", damaged))
        with pytest.raises(ConfigError):
            journal.common_norms(first)
