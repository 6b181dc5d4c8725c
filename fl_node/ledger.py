"""The ledger as a node or an auditor sees it: replayed from raw logs, verified, and kept up to date block by block."""

import time
from dataclasses import dataclass

from chain.protocol.errors import Code, TrustError, Unavailable, VerificationError
from chain.protocol.history import History
from chain.protocol.rules import Rules
from chain.reader import LedgerReader
from fl_node.verify import verify_created, verify_head, verify_rules

LOOKS, PAUSE = 3, 0.2  # how often, and seconds between


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the history was seen before: after `events` events the head was `head`."""

    events: int
    head: bytes


class Ledger:
    """A verified history. After `sync` it satisfies L1 (what was created), L2, L3, L4, C1, U6 and A3 up to `block`.

    Logs and head come from one server. One that lies in the logs alone is found; one that invents a whole history and
    its head is not, unless the history must extend a `checkpoint` or pass through a `known_head` from elsewhere.
    """

    def __init__(
        self,
        reader: LedgerReader,
        rules: Rules | None = None,
        checkpoint: Checkpoint | None = None,
        known_head: bytes | None = None,
    ) -> None:
        self.reader, self.rules = reader, rules
        self.checkpoint, self.known_head = checkpoint, known_head
        self._reset()

    def _reset(self) -> None:
        self.history, self.block = History(), self.reader.deployment.block - 1
        self._passed_known_head = self._refuted = False

    def sync(self) -> History:
        """Replays what is new. Raises VerificationError, TrustError (L1) or Unavailable.

        What looks wrong is looked at again from the start: blocks may have been reorganised, and behind one address
        there may be servers that do not agree for a moment. Wrong again and again is evidence.
        """
        block, first = self.reader.block_number(), self.reader.deployment.block
        if block < first:  # nothing was looked at: that must not pass for an empty history
            raise Unavailable(
                Code.L2, "ledger", f"the server ends at block {block}, the ledger begins in block {first}"
            )
        if block <= self.block and not self._refuted:
            return self.history
        for look in range(1, LOOKS + 1):
            if self._refuted:
                self._reset()
            try:
                self._extend(block)
                return self.history
            except VerificationError as error:
                self._refuted = True
                if look == LOOKS or isinstance(error, TrustError):
                    raise
            time.sleep(PAUSE)
        return self.history

    def _extend(self, block: int) -> None:
        # Fetched whole before anything is applied: a connection that dies in between leaves the history as it was.
        logs = list(self.reader.logs(self.block + 1, block))
        head = self.reader.head(block)
        for log in logs:
            self.history.apply(log)
            self._compare_checkpoint()
            self._passed_known_head |= self.history.head == self.known_head
        verify_head(self.history, head)
        if self.checkpoint and self.history.events < self.checkpoint.events:
            found = f"only {self.history.events}"
            raise VerificationError(Code.L4, "history", f"the {self.checkpoint.events} events seen before", found)
        if self.known_head and not self._passed_known_head:
            found = f"{self.history.events} events that never give it"
            raise VerificationError(Code.L4, "history", f"to pass through the head 0x{self.known_head.hex()}", found)
        pinned = self.reader.deployment
        verify_created(self.history, pinned.chain_id, pinned.address, pinned.genesis, pinned.rules)
        if self.rules:
            verify_rules(self.history, self.rules)
        self.block = block

    def _compare_checkpoint(self) -> None:
        seen, history = self.checkpoint, self.history
        if seen and seen.events == history.events and seen.head != history.head:
            expected = f"head 0x{seen.head.hex()} after {seen.events} events, as seen before"
            raise VerificationError(Code.L4, "history", expected, f"0x{history.head.hex()}")

    def save(self) -> Checkpoint:
        """The checkpoint that a later run must extend."""
        return Checkpoint(self.history.events, self.history.head)
