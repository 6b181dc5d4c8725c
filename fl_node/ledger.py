"""The ledger as a node or an auditor sees it: replayed from raw logs, verified, and kept up to date block by block."""

from collections.abc import Callable
from dataclasses import dataclass

from chain.protocol.errors import Code, Unavailable, VerificationError
from chain.protocol.history import History
from chain.protocol.rules import Rules
from chain.reader import LedgerReader
from fl_node.verify import verify_created, verify_head, verify_rules


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the history was seen before: after `events` events the head was `head`."""

    events: int
    head: bytes


class Ledger:
    """A verified history. After `sync` it satisfies L1 (what was created), L2, L3, L4, C1, U6 and A3 up to `block`."""

    def __init__(self, reader: LedgerReader, rules: Rules | None = None, checkpoint: Checkpoint | None = None) -> None:
        self.reader, self.rules, self.checkpoint = reader, rules, checkpoint
        self._reset()

    def _reset(self) -> None:
        self.history, self.block = History(), self.reader.deployment.block - 1

    def sync(self, progress: Callable[[int], None] | None = None) -> History:
        """Replays what is new. Raises VerificationError, TrustError (L1) or Unavailable."""
        block, first = self.reader.block_number(), self.reader.deployment.block
        if block < first:  # nothing was looked at: that must not pass for an empty history
            raise Unavailable(
                Code.L2, "ledger", f"the server ends at block {block}, the ledger begins in block {first}"
            )
        if block <= self.block:
            return self.history
        try:
            self._extend(block, progress)
        except VerificationError:
            known = self.history.events
            self._reset()
            if not known:
                raise
            self._extend(block, progress)  # blocks may have been reorganised: judge the chain as it is, from the start
        return self.history

    def _extend(self, block: int, progress: Callable[[int], None] | None) -> None:
        # Fetched whole before anything is applied: a connection that dies in between leaves the history as it was.
        logs = list(self.reader.logs(self.block + 1, block))
        head = self.reader.head(block)
        for log in logs:
            self.history.apply(log)
            self._compare_checkpoint()
            if progress:
                progress(log.block)
        verify_head(self.history, head)
        if self.checkpoint and self.history.events < self.checkpoint.events:
            found = f"only {self.history.events}"
            raise VerificationError(Code.L4, "history", f"the {self.checkpoint.events} events seen before", found)
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
