"""What a node holds while it runs, and the three things a round needs of it: look at the ledger, wait, send."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch

from chain.client import LedgerClient
from chain.errors import Reverted
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, Pending, RoundledgerError, Unavailable, VerificationError
from chain.protocol.history import History
from chain.protocol.round import Phase, Round
from chain.protocol.rules import Rules
from chain.rpc import RpcError
from chain.sender import Receipt
from fl_node.data import Records
from fl_node.dataroot import DataRoot
from fl_node.finalized import finalized_model
from fl_node.gather import common_set
from fl_node.gradient import Layout
from fl_node.journal import Journal
from fl_node.ledger import Ledger
from fl_node.pace import Pace
from fl_node.selection import summed_norms
from fl_node.store import BlobStore
from fl_node.tensorfile import Tensors
from fl_node.verify import VerifiedUpdate

STAGGER = 0.5  # seconds between participants that would all close a phase at the same moment
SOON, LONGER = 0.02, 2.0  # the first wait, in poll intervals, and by how much every next one is longer
CROWD = 4  # participants from which on all of them wait longer at first: each look costs the others time
CLOCKS, SLOWEST = 2.0, 60.0  # seconds before the next try to close it, which doubles, and how long it grows

T = TypeVar("T")


class Stopped(RoundledgerError):
    """The node was asked to stop."""

    exit_code = 0


class RoundGone(RoundledgerError):
    """Blocks that this node had seen were replaced by others: its round may be another one, or none. Look again."""

    exit_code = 3


class Clock(Protocol):
    """What Python's `time` is to a node: seconds since the epoch, and seconds that nobody sets back."""

    def time(self) -> float: ...

    def monotonic(self) -> float: ...


class Report(Protocol):
    """Receives what the node does: kind of event, round (0: none), values."""

    def __call__(self, kind: str, round_number: int, **values: Any) -> None: ...


def interruptible(stop: threading.Event) -> Callable[[float], None]:
    """Waits for so many seconds. Raises Stopped as soon as the node is asked to stop."""

    def pause(seconds: float) -> None:
        if stop.wait(seconds):
            raise Stopped("stopped on request")

    return pause


def retried(
    look: Callable[[], T], outage: float, pause: Callable[[], None], tell: Callable[[str], None], clock: Clock = time
) -> T:
    """What `look` finds, as soon as it can; `tell` hears why not, whenever that changes. Raises the last Unavailable or
    RpcError when it has taken `outage` seconds, and what `pause` raises.
    """
    since, told = clock.monotonic(), ""
    while True:
        try:
            return look()
        except (Unavailable, RpcError) as error:
            if clock.monotonic() - since > outage:
                raise
            if str(error) != told:
                tell(told := str(error))
            pause()


@dataclass
class Tries:
    """When to do again what the ledger does not show yet. What was sent is kept alive (`chain.flight`), and shows once
    it lies deep enough; a refusal may be one of a server that is a block behind. Seconds of one clock.
    """

    at: float = 0.0
    wait: float = CLOCKS

    def made(self, now: float, sent: bool) -> None:
        """It was tried now, and sent or refused."""
        self.at = now + (SLOWEST if sent else self.wait)
        self.wait = min(SLOWEST, 2 * self.wait)


@dataclass
class Session:
    """One node at work: its rules, identity, views of the ledger and the store, its data, and the newest finalized
    model.
    """

    rules: Rules
    address: str
    domain: bytes  # EIP-712 domain separator of the ledger
    client: LedgerClient
    ledger: Ledger
    store: BlobStore
    journal: Journal
    records: Records
    data_root: DataRoot
    module: torch.nn.Module
    report: Report
    threads: int = 1
    poll: float = 0.1
    outage: float = 120.0  # seconds that a server or store may be away before the node gives up
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Clock = time
    storing: Pace = field(default_factory=Pace)  # models into the store
    model: Tensors = field(default_factory=dict)
    layout: Layout = field(default_factory=lambda: Layout(()))
    model_digest: Digest | None = None
    earlier: Tensors = field(default_factory=dict)  # the model before, where the server has momentum
    earlier_digest: Digest | None = None
    spare: Tensors = field(default_factory=dict)  # memory for the next model: one that nobody needs any more, or none
    _reported: str = ""  # the transaction reported last
    _refused: tuple[str, int, str] = ("", 0, "")  # the refusal reported last

    # ------------------------------------------------------ looking

    def history(self) -> History:
        """The verified history up to the newest block that lies deep enough. What this node has sent is kept alive."""
        told = False
        while True:
            try:
                history = self.patiently(self.ledger.sync)
                break
            except Pending as early:  # the ledger has just been founded, and does not lie deep enough itself
                if not told:
                    self.report("waiting", 0, reason=str(early))
                told = True
                self.pause()
        self.patiently(lambda: self.client.keep_alive(self.ledger.block))
        return history

    def round(self, number: int) -> Round:
        """Raises RoundGone, once, when blocks were replaced: the round's steps start again, and do what is undone."""
        replays = self.ledger.replays
        rounds = self.history().rounds
        if number > len(rounds):
            raise RoundGone(f"round {number} was taken back by a reorganisation of the chain")
        if self.ledger.replays > replays:
            raise RoundGone(f"a reorganisation of the chain replaced blocks: round {number} is looked at again")
        return rounds[number - 1]

    def load_model(self, digest: Digest) -> None:
        """Makes the finalized model `digest` the present one; from the store if this node did not derive it itself."""
        if digest == self.model_digest:
            return
        self.set_model(self.fetched_model(digest), digest)
        self.spare = {}  # what was fetched is no memory to write to
        self.report("caught up", 0, model=str(digest))

    def set_model(self, model: Tensors, digest: Digest) -> None:
        free = self.model
        if self.rules.aggregation.server_momentum:
            free, self.earlier, self.earlier_digest = self.earlier, self.model, self.model_digest
        self.spare = free if all(tensor.flags.writeable for tensor in free.values()) else {}
        self.model, self.model_digest = model, digest
        self.layout = Layout.of(model, self.rules.selection.layers)

    def fetched_model(self, digest: Digest) -> Tensors:
        """A finalized model, by its blob or the updates that made it. A blob that was damaged may be mended, and speaks
        against nobody; updates that do not give it speak against the quorum. Raises VerificationError (A1, A2).
        """

        def look() -> Tensors:
            try:
                return finalized_model(self.store, self.ledger.history, digest, self.rules, self.threads)
            except VerificationError as error:
                if error.code in (Code.A1, Code.A2):
                    raise
                raise Unavailable(error.code, f"model {digest.short}", error) from None

        return self.patiently(look)

    def common_set(self, round_: Round) -> tuple[int, ...] | None:
        """The channels that all send in this round; None if each chooses its own. From what this node has verified
        itself: whoever came later, or lost its state, needs the blobs of the round before.
        """
        history = self.ledger.history  # what is before an open round does not change any more
        last = history.last_finalized(round_.number)
        summed = self.journal.common_norms(last.accepted) if last else None
        return self.patiently(lambda: common_set(self.store, history, round_, self.layout, self.rules, summed))

    def keep_common_norms(self, round_: Round, accepted: Sequence[VerifiedUpdate]) -> None:
        """For the common set of the rounds that follow this one, which is final."""
        tables = [update.norms for update in accepted if update.norms is not None]
        if tables:
            self.journal.keep_common_norms(round_.accepted, summed_norms(tables, self.layout.channels))

    def model_before(self, round_: Round) -> Tensors | None:
        """The model before the base model of this round, if there was one and the rules give the server momentum."""
        last = self.ledger.history.last_finalized(round_.number)
        if last is None or not self.rules.aggregation.server_momentum:
            return None
        return self.earlier if self.earlier_digest == last.base_model else self.fetched_model(last.base_model)

    # ------------------------------------------------------ waiting

    def pause(self, seconds: float | None = None) -> None:
        """One poll interval (or as long as given). Raises Stopped as soon as the node is asked to stop."""
        interruptible(self.stop)(self.poll if seconds is None else seconds)

    def first_wait(self, participants: int) -> float:
        """Seconds until the second look at what that many may change any moment."""
        return SOON * self.poll * max(1.0, participants / CROWD)

    def pause_until(self, deadline: float) -> bool:
        """One poll interval; False once `deadline` (seconds since the epoch) has passed."""
        self.pause()
        return self.clock.time() < deadline

    def phase(self, round_: Round) -> Phase:
        """The phase that this node acts in: once a block that lies deep enough is past the window, nothing can be added
        to a phase any more, and the next one has begun. Its own clock must say so, too: a server can lie about a
        block's time, and a node that opens its update early may be copied.
        """
        now = min(self.ledger.time, self.clock.time())
        return self._next_phase(round_) if now >= round_.deadline else round_.phase

    def _next_phase(self, round_: Round) -> Phase:
        """The phase that begins by itself with the first action behind this one's window.

        None at depth 0: on a chain that mines on demand time stands still until somebody closes the phase.
        """
        return round_.next_phase(self.rules.ledger.min_updates) if self.ledger.depth else round_.phase

    def wait_while(self, number: int, phase: Phase, act: Callable[[Round], bool | None] = lambda _: None) -> Round:
        """Waits until round `number` has left `phase`. Closes one whose window has passed, if nobody's action does.

        `act` is what this node does in it, again as long as the ledger does not show it: it returns whether that was
        sent, or None when there is nothing to do.
        """
        wait, acting, closing = 0.0, Tries(), Tries()
        while self.phase(round_ := self.round(number)) is phase:
            if self.clock.time() >= acting.at and (sent := act(round_)) is not None:
                acting.made(self.clock.time(), sent)
            wait = wait or self.first_wait(len(round_.roster))
            turn = round_.roster.get(self.address, len(round_.roster) + 1)
            patience = STAGGER * (turn - 1) + SLOWEST * (self._next_phase(round_) is not round_.phase)
            if self.clock.time() >= max(closing.at, round_.deadline + patience):
                closing.made(self.clock.time(), self._close_phase(round_))
            self.pause(wait)
            wait = min(self.poll, LONGER * wait)
        return round_

    def _close_phase(self, round_: Round) -> bool:
        return self.send("advance", round_.number, lambda: self.client.advance(round_.number, round_.phase.value))

    def patiently(self, look: Callable[[], T]) -> T:
        """Retries what is unavailable, for as long as an outage may last. Raises the last Unavailable or RpcError."""

        def tell(reason: str) -> None:
            self.report("waiting", 0, reason=reason)

        return retried(look, self.outage, lambda: self.pause(min(1.0, 5 * self.poll)), tell, self.clock)

    # ------------------------------------------------------ sending

    def send(self, action: str, number: int, call: Callable[[], Receipt], **values: Any) -> bool:
        """Sends a transaction; False if the ledger refuses it. That is no error here, nor that nobody mines it yet: it
        is kept alive, and the next looks at the ledger say how things stand.
        """
        try:
            receipt = self.patiently(call)
        except Reverted as refusal:
            if (said := (action, number, str(refusal))) != self._refused:
                self.report("refused", number, action=action, reason=str(refusal))
            self._refused = said
            return False
        except Pending as slow:
            self.report("waiting", number, action=action, reason=str(slow))
            return True
        if receipt.transaction != self._reported:  # asked for again, a transaction that is mined is not sent again
            self._reported = receipt.transaction
            self.report(action, number, gas=receipt.gas_used, **values)
        return True
