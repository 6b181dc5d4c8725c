"""Any sequence of preparing, settling, giving up, and dying in between gives what a few lines of Python say."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chain.crash import Point
from chain.outbox import Entry
from chain.protocol.digest import Digest
from chain.protocol.seal import Metadata
from fl_node import journal as module
from fl_node import pace
from fl_node import residual as module_of_residual
from fl_node.gradient import Layout
from fl_node.journal import Journal, Pending
from fl_node.ledger import Checkpoint

LAYOUT = Layout.of({"a.weight": np.zeros((2, 3)), "t": np.zeros(())})


class Died(BaseException):
    """The process was killed."""


def residual(value: int) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    return [np.full((layer.channels, layer.width), value, np.float32) for layer in LAYOUT.layers]


def pending(number: int, content: int) -> Pending:
    blob, nothing = f"{number} {content}".encode(), Digest.of(b"")
    metadata = Metadata(nothing, Digest.of(blob), len(blob), nothing, nothing, 1, nothing, 4, 2, 3, bytes(32))
    return Pending(number, metadata, blob)


ROUND, CONTENT = st.integers(1, 4), st.integers(0, 9)


class JournalMachine(RuleBasedStateMachine):
    """The model: `pending`, with what it leaves `unsent` (None: this process did not prepare it), `residual` and all
    that it `was` before (each with the last round that is in it), `watched`, `checkpoint`, `outbox`.
    """

    @initialize(large=st.booleans())
    def begin(self, large: bool) -> None:
        self.large, self.patch = large, pytest.MonkeyPatch()
        if large:  # written at first, and when the node ends in peace
            self.patch.setattr(pace, "SMALL", 0)
            self.patch.setattr(pace, "SHARE", 1e-9)
        self.folder = Path(tempfile.mkdtemp())
        self.journal = Journal(self.folder / "state")
        self.residual: tuple[int | None, int] | None = None
        self.was: list[tuple[int | None, int] | None] = []
        self.pending: Pending | None = None
        self.unsent: int | None = None
        self.watched: int | None = None
        self.checkpoint: Checkpoint | None = None
        self.outbox: dict[int, Entry] = {}

    def teardown(self) -> None:
        self.journal.close()
        self.patch.undo()
        shutil.rmtree(self.folder)

    def _killed(self) -> None:
        self.journal._database.close()
        self.journal._lock.close()
        self.journal, self.unsent = Journal(self.folder / "state"), None

    def _dying_at(self, point: Point, work: Any) -> None:
        def die(passed: Point) -> None:
            if passed is point:
                raise Died

        def all_of_it() -> None:
            work()
            self.journal.residual.flush()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "crash_point", die)
            patch.setattr(module_of_residual, "crash_point", die)
            with pytest.raises(Died):
                all_of_it()
            self._killed()

    def _found(self) -> tuple[int | None, int] | None:
        """What the journal knows of the residual; None: not since when."""
        if self.journal._database.fact("residual") is None:
            assert self.journal.residual.before(LAYOUT, 7) == (None, 6)
            return None
        found, last = self.journal.residual.before(LAYOUT, 7)
        values = {None} if found is None else {int(value) for matrix in found for value in matrix.ravel()}
        assert len(values) == 1
        return values.pop(), last

    def _now(self, residual: tuple[int | None, int] | None) -> None:
        self.was.append(self.residual)
        self.residual = residual

    # ----------------------------------------------------------- what is done

    @rule(number=ROUND, content=CONTENT)
    def prepare(self, number: int, content: int) -> None:
        self.journal.prepare(pending(number, content), residual(content))
        self._prepared(number, content)
        self.unsent = content

    @rule(number=ROUND, content=CONTENT)
    def die_with_the_blob_alone(self, number: int, content: int) -> None:
        work = pending(number, content), residual(content)
        self._dying_at(Point.BLOB_KEPT, lambda: self.journal.prepare(*work))
        self.pending = None
        self._older()

    @rule(number=ROUND, content=CONTENT)
    def die_when_prepared(self, number: int, content: int) -> None:
        work = pending(number, content), residual(content)
        self._dying_at(Point.PREPARED, lambda: self.journal.prepare(*work))
        self._prepared(number, content)
        self._older()

    def _prepared(self, number: int, content: int) -> None:
        self.pending = pending(number, content)
        if self.residual is None:
            self._now((None, number - 1))

    @precondition(lambda self: self.residual is not None)
    @rule(content=CONTENT, number=ROUND)
    def keep_what_was_made_again(self, content: int, number: int) -> None:
        self.journal.residual.keep(residual(content), number)
        self._now((content, number))

    @rule(number=ROUND, accepted=st.booleans())
    def settle(self, number: int, accepted: bool) -> None:
        self.journal.settle(number, accepted=accepted)
        self.watched = None
        if self.pending is not None and self.pending.round == number:
            self._settled(accepted)

    @precondition(lambda self: self.pending is not None)
    @rule(accepted=st.booleans(), point=st.sampled_from([Point.SWITCHED, Point.RESIDUAL_WRITTEN]))
    def die_while_settling(self, accepted: bool, point: Point) -> None:
        assert self.pending is not None
        number = self.pending.round
        if point is Point.RESIDUAL_WRITTEN and (self.large or not accepted or self.unsent is None):
            return
        self._dying_at(point, lambda: self.journal.settle(number, accepted=accepted))
        self.watched = self.pending = None
        self._older()

    def _settled(self, accepted: bool) -> None:
        if accepted and self.unsent is not None:
            self._now((self.unsent, self.pending.round))  # type: ignore[union-attr]
        self.pending = self.unsent = None

    def _older(self) -> None:
        """After a death the residual is one that was, the newest that was written: a small one always is."""
        found = self._found()
        assert found in ([self.residual] if not self.large else [*self.was, self.residual])
        self.residual = found

    @rule()
    def die_at_rest(self) -> None:
        self.journal.residual.flush()
        self._killed()
        self._older()

    @rule(number=ROUND)
    def watch(self, number: int) -> None:
        self.journal.watch(number)
        self.watched = number

    @rule()
    def give_up(self) -> None:
        assert self.journal.give_up() == self._unfinished()
        self.watched = self.pending = self.unsent = None

    @rule(events=st.integers(0, 2**40))
    def save_checkpoint(self, events: int) -> None:
        self.checkpoint = Checkpoint(events, events.to_bytes(32, "big"))
        self.journal.save_checkpoint(self.checkpoint)

    @rule(nonce=st.integers(0, 3), raw=st.lists(st.binary(max_size=5), min_size=1, max_size=3))
    def put(self, nonce: int, raw: list[bytes]) -> None:
        self.outbox[nonce] = Entry(f"commit {nonce}", nonce, tuple(raw))
        self.journal.outbox.put(self.outbox[nonce])

    @rule(nonce=st.integers(0, 3))
    def remove(self, nonce: int) -> None:
        self.outbox.pop(nonce, None)
        self.journal.outbox.remove(nonce)

    @rule()
    def end_in_peace(self) -> None:
        self.journal.close()
        self.journal, self.unsent = Journal(self.folder / "state"), None

    # ----------------------------------------------------------- what must hold

    def _unfinished(self) -> int | None:
        return self.watched or (self.pending.round if self.pending else None)

    @invariant()
    def holds_what_the_model_says(self) -> None:
        journal = self.journal
        assert journal.checkpoint() == self.checkpoint
        assert journal.unfinished_round() == self._unfinished()
        assert journal.outbox.entries() == [self.outbox[nonce] for nonce in sorted(self.outbox)]
        for number in range(1, 5):
            mine = self.pending is not None and self.pending.round == number
            assert journal.pending(number) == (self.pending if mine else None)
        assert self._found() == self.residual

    @invariant()
    def keeps_no_other_file(self) -> None:
        self.journal.residual.flush()
        files = [path.name for path in (self.folder / "state").iterdir()]
        assert len([name for name in files if "residual-" in name]) <= 1
        assert len([name for name in files if "blob-" in name]) == (self.pending is not None)


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=40, stateful_step_count=20)  # each step waits for the disk
