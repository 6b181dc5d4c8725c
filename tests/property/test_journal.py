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
    """The model: `residual`, `pending` with `unsent` (None: lost), `watched`, `checkpoint`, `outbox`."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.journal = Journal(self.folder / "state")
        self.residual: int | None = None
        self.pending: Pending | None = None
        self.unsent: int | None = None
        self.watched: int | None = None
        self.checkpoint: Checkpoint | None = None
        self.outbox: dict[int, Entry] = {}

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.folder)

    def _reopen(self) -> None:
        self.journal.close()
        self.journal = Journal(self.folder / "state")

    def _dying_at(self, point: Point, work: Any) -> None:
        def die(passed: Point) -> None:
            if passed is point:
                raise Died

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "crash_point", die)
            with pytest.raises(Died):
                work()
            self._reopen()

    # ----------------------------------------------------------- what is done

    @rule(number=ROUND, content=CONTENT)
    def prepare(self, number: int, content: int) -> None:
        self.journal.prepare(pending(number, content), residual(content), LAYOUT)
        self.pending, self.unsent = pending(number, content), content

    @rule(number=ROUND, content=CONTENT)
    def die_with_the_blob_alone(self, number: int, content: int) -> None:
        work = pending(number, content), residual(content), LAYOUT
        self._dying_at(Point.BLOB_KEPT, lambda: self.journal.prepare(*work))
        self.pending = self.unsent = None

    @rule(number=ROUND, content=CONTENT, point=st.sampled_from([Point.PREPARED, Point.UNSENT_WRITTEN]))
    def die_without_the_unsent(self, number: int, content: int, point: Point) -> None:
        def work() -> None:
            self.journal.prepare(pending(number, content), residual(content), LAYOUT)
            self.journal.flush()

        self._dying_at(point, work)
        self.pending, self.unsent = pending(number, content), None

    @precondition(lambda self: self.pending is not None and self.unsent is None)
    @rule(content=CONTENT)
    def make_the_unsent_again(self, content: int) -> None:
        self.journal.keep_unsent(residual(content), LAYOUT)
        self.unsent = content

    @rule(number=ROUND, accepted=st.booleans())
    def settle(self, number: int, accepted: bool) -> None:
        mine = self.pending is not None and self.pending.round == number
        if mine and accepted and self.unsent is None:
            with pytest.raises(ValueError, match="never kept"):
                self.journal.settle(number, accepted=True)
            return
        self.journal.settle(number, accepted=accepted)
        self._settled(mine, accepted)

    @precondition(lambda self: self.pending is not None and self.unsent is not None)
    @rule(accepted=st.booleans())
    def die_while_settling(self, accepted: bool) -> None:
        assert self.pending is not None
        number = self.pending.round
        self._dying_at(Point.SWITCHED, lambda: self.journal.settle(number, accepted=accepted))
        self._settled(True, accepted)

    def _settled(self, mine: bool, accepted: bool) -> None:
        self.watched = None
        if mine:
            self.residual = self.unsent if accepted else self.residual
            self.pending = self.unsent = None

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
    def reopen(self) -> None:
        self._reopen()

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
            assert journal.lost_unsent(number) == (mine and self.unsent is None)
        found = journal.residual(LAYOUT)
        values = None if found is None else {float(value) for matrix in found for value in matrix.ravel()}
        assert values == (None if self.residual is None else {self.residual})

    @invariant()
    def keeps_no_other_file(self) -> None:
        self.journal.flush()
        files = [path.name for path in (self.folder / "state").iterdir()]
        residuals = {value for value in (self.residual, self.unsent) if value is not None}
        assert len([name for name in files if "residual-" in name]) == len(residuals)
        assert len([name for name in files if "blob-" in name]) == (self.pending is not None)


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=40, stateful_step_count=20)  # each step waits for the disk
