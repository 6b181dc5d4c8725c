"""The ledger as a node or an auditor sees it: replayed from raw logs, verified, and kept up to date block by block."""

import time
from dataclasses import dataclass
from functools import reduce

from chain.blocks import Block, Depth
from chain.protocol.errors import Code, Pending, RoundledgerError, TrustError, Unavailable, VerificationError
from chain.protocol.events import EMPTY_HEAD, extend_head
from chain.protocol.history import History
from chain.protocol.rules import Rules
from chain.reader import LedgerReader, Reading
from chain.rpc import RpcError
from fl_node.verify import verify_created, verify_head, verify_rules

LOOKS, PAUSE = 3, 0.2  # how often, and seconds between
MOMENT = 0.02  # seconds in which a server is done with a block
RECHECK = 30.0  # seconds after which the server must show again that it is the pinned ledger's, and keeps up
BEHIND = 2  # blocks that a server may be behind another one
LEAP = 1 << 20  # blocks that a chain cannot have grown by between two looks: reading them would never end


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the history was seen before: up to `block`, where after `events` events the head was `head`."""

    events: int
    head: bytes
    block: int = 0


class Ledger:
    """A verified history. After `sync` it satisfies L1 (what was created), L2, L3, L4, C1, U6 and A3 up to `block`, the
    newest block with `depth` others on top ("finalized": that the chain itself calls so).

    Logs and head come from one server; if there are others, their heads must agree. A server alone that lies in the
    logs is found; one that invents a whole history and its head is not, unless the history must extend a `checkpoint`
    or pass through a `known_head` from elsewhere.
    """

    def __init__(
        self,
        reader: LedgerReader,
        rules: Rules | None = None,
        checkpoint: Checkpoint | None = None,
        known_head: bytes | None = None,
        depth: Depth = 0,
    ) -> None:
        self.reader, self.rules, self.depth = reader, rules, depth
        self.checkpoint, self.known_head = checkpoint, known_head
        self.replays = 0  # how often blocks that had been replayed were replaced by others
        self._checked_server, self._checked_at = "", 0.0
        self._grown_at = time.monotonic()  # when there was a new block, or other servers had none either
        self._reset()

    def _reset(self) -> None:
        self.history = History()
        self.at: Block | None = None  # the last block replayed
        self.known_head_at: int | None = None  # the event after which the head was the known one
        self._refuted = False

    @property
    def block(self) -> int:
        """The last block replayed."""
        return self.at.number if self.at else self.reader.deployment.block - 1

    @property
    def time(self) -> int:
        """Of that block, in seconds since the epoch: what comes after it on the chain is not earlier."""
        return self.at.time if self.at else 0

    def sync(self) -> History:
        """Replays what is new. Raises VerificationError, TrustError (L1), ConfigError (another chain, no contract),
        Pending (the ledger itself does not lie deep enough yet), Unavailable.

        What looks wrong is looked at again from the start: blocks may have been reorganised, and behind one address
        there may be servers that do not agree for a moment. Wrong again and again is evidence.
        """
        before, refuted = self.at, False
        try:
            self._check_deployment()
            for look in range(1, LOOKS + 1):
                if self._refuted:
                    refuted = True
                    self._reset()
                try:
                    newest = self.reader.newest(self.depth)
                    self._check_deployment()  # the server before may be away, and another one have answered
                    self._extend(newest)
                    break
                except VerificationError as error:
                    self._refuted = True
                    if look == LOOKS or isinstance(error, TrustError):
                        raise
                time.sleep(PAUSE)
            if self.at is not before:
                self._grown_at = time.monotonic()
            if refuted and before and self.reader.find(before.number) != before:
                self.replays += 1  # that was what was wrong
        except (Unavailable, RpcError):
            self._checked_server = ""  # after an outage it may be another chain that answers
            raise
        return self.history

    def _check_deployment(self, *, again: bool = False) -> None:
        """L1, for every server that is turned to, after an outage, when blocks have changed, and now and then."""
        now = time.monotonic()
        if again or self._checked_server != self.reader.rpc.name or now - self._checked_at > RECHECK:
            self.reader.check_deployment()
            self._checked_server, self._checked_at = self.reader.rpc.name, now

    def _extend(self, newest: Block) -> None:
        first, before = self.reader.deployment.block, self.at
        if newest == before:
            self._look_elsewhere()
            return
        if before and newest.number <= before.number:
            self._check_deployment(again=True)
            if self.reader.find(before.number) in (None, before):
                self.reader.rpc.pass_over()
                return  # the server is behind what another one has shown, and does not contradict it
            before = None
        if before and newest.number - before.number > LEAP:
            reason = f"it says that block {newest.number} follows block {before.number}"
            raise Unavailable(Code.L2, self.reader.rpc.name, reason)
        if newest.number < first:  # nothing was looked at: that must not pass for an empty history
            raise self._too_early(newest, first)
        reading = self._read(before.number + 1 if before else first, newest.number, before)
        if before and reading.before != before.hash:
            self._check_deployment(again=True)
            before, reading = None, self._read(first, newest.number)
        self._check_deployment()
        self.reader.compare(reading, buried=self.depth != 0)
        if self.at and not before:  # blocks that had been replayed are not in the chain any more
            self._reset()
            self.replays += 1
        self._apply(reading)

    def _look_elsewhere(self) -> None:
        """When there was no new block for a while: whether others have one. Raises Unavailable, now and then, if so.

        Which of them is right is for people to say: whoever invents blocks is ahead, too.
        """
        if time.monotonic() - self._grown_at < RECHECK:
            return
        self._grown_at, here = time.monotonic(), self.reader.block_number()
        for name, number in self.reader.block_numbers_elsewhere():
            if number > here + BEHIND:
                reason = f"it ends at block {here}, {name} at {number}: name the one that follows the chain first"
                raise Unavailable(Code.L2, self.reader.rpc.name, reason)

    def _read(self, first: int, last: int, before: Block | None = None) -> Reading:
        """While it adds a block, a server may give the head of that one for the head of the one before (Anvil does). So
        logs and head that do not agree are read again, before they lead to a replay of everything.
        """
        reading = self.reader.read(first, last, before)
        if reduce(extend_head, reading.logs, self.history.head if before else EMPTY_HEAD) != reading.head:
            time.sleep(MOMENT)
            reading = self.reader.read(first, last, before)
        return reading

    def _too_early(self, newest: Block, first: int) -> RoundledgerError:
        if self.depth == 0:
            reason = f"the server ends at block {newest.number}, the ledger begins in block {first}"
            return Unavailable(Code.L2, "ledger", reason)
        return Pending(f"the ledger begins in block {first}, and only block {newest.number} lies deep enough yet")

    def _apply(self, reading: Reading) -> None:
        if self.checkpoint and reading.block.number < self.checkpoint.block:  # this server is behind, and no liar
            behind = f"block {self.checkpoint.block} was seen before, this server shows {reading.block.number}"
            self.reader.rpc.pass_over()
            raise Unavailable(Code.L4, "history", behind)
        # Fetched whole before anything is applied: a connection that dies in between leaves the history as it was.
        for log in reading.logs:
            self.history.apply(log)
            self._compare_checkpoint()
            if self.history.head == self.known_head:
                self.known_head_at = self.history.events
        verify_head(self.history, reading.head)
        if self.checkpoint and self.history.events < self.checkpoint.events:
            found = f"only {self.history.events}"
            raise VerificationError(Code.L4, "history", f"the {self.checkpoint.events} events seen before", found)
        if self.known_head and self.known_head_at is None:
            self._look_above(reading)
            found = f"{self.history.events} events up to block {reading.block.number} that never give it"
            found += " (is it typed right, and not newer than that block?)"
            raise VerificationError(Code.L4, "history", f"to pass through the head 0x{self.known_head.hex()}", found)
        if self.at is None:  # what was said at the creation does not change
            pinned = self.reader.deployment
            verify_created(self.history, pinned.chain_id, pinned.address, pinned.genesis, pinned.rules)
            if self.rules:
                verify_rules(self.history, self.rules)
        self.at = reading.block

    def _look_above(self, reading: Reading) -> None:
        """A known head may be one of blocks that do not lie deep enough yet. Raises Pending if so."""
        head, first, last = self.history.head, reading.block.number + 1, self.reader.block_number()
        for log in self.reader.logs(first, last) if self.depth != 0 else ():
            head = extend_head(head, log)
            if head == self.known_head:
                raise Pending(f"the known head is that of block {log.block}, and only {first - 1} lies deep enough yet")

    def _compare_checkpoint(self) -> None:
        seen, history = self.checkpoint, self.history
        if seen and seen.events == history.events and seen.head != history.head:
            expected = f"head 0x{seen.head.hex()} after {seen.events} events, as seen before"
            raise VerificationError(Code.L4, "history", expected, f"0x{history.head.hex()}")

    def save(self) -> Checkpoint:
        """The checkpoint that the history must extend from now on, in this run and in later ones."""
        self.checkpoint = Checkpoint(self.history.events, self.history.head, self.block)
        return self.checkpoint
