"""The relayer: collects signed commits, openings and signed attestations, and brings many of them to the ledger in one
transaction.

Whoever sends them needs no coin, and shares the base fee with the others. Nothing depends on a relayer: what it brings
is signed or sealed, so it can change nothing, and whom it keeps waiting calls the ledger itself (`chain.relayed`).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from chain.client import LedgerClient
from chain.errors import Reverted
from chain.protocol.digest import Digest
from chain.protocol.errors import RoundledgerError
from chain.protocol.events import Opening
from chain.sender import Receipt
from chain.signing import Signature, SignedCommit

Verb = Literal["commit", "reveal", "attest"]
Item = SignedCommit | Opening | Signature  # by verb
MOST_WAITING = 4096  # items over all batches, also those that are being sent; more are refused until some are answered


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction can bring together: one verb of one round; of attestations, those for one outcome."""

    verb: Verb
    round: int
    model: bytes = b""
    verdicts: bytes = b""


@dataclass(frozen=True, slots=True)
class Brought:
    """An item was in a transaction of `items`; `gas` is its share of what that used."""

    transaction: str
    block: int
    gas: int
    items: int


class Full(RoundledgerError):
    """Too many items are waiting already."""

    exit_code = 3


Outcome = Brought | RoundledgerError


class Relayer:
    """Brings items with the account of `client`. A batch is sent `wait` seconds after its first item, or as soon as it
    has `most` items; `report` hears of it, and `complain` why nothing could be brought, whenever that changes.
    Everything but `_bring` happens in one event loop.
    """

    def __init__(
        self,
        client: LedgerClient,
        wait: float,
        most: int,
        report: Callable[[Batch, int, Receipt], None],
        complain: Callable[[RoundledgerError], None],
    ) -> None:
        self.client, self.wait, self.most, self.report, self.complain = client, wait, most, report, complain
        self._complained = ""
        self._waiting: dict[Batch, list[tuple[Item, asyncio.Future[Outcome]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unanswered = 0

    async def bring(self, batch: Batch, item: Item) -> Outcome:
        """When the item is on the ledger, or why it is not. Raises Full."""
        if self._unanswered >= MOST_WAITING:
            raise Full("too many items are waiting to be relayed: try again, or call the ledger directly")
        waiting = self._waiting.setdefault(batch, [])
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiting.append((item, outcome))
        if len(waiting) >= self.most:
            self._start(batch, 0.0)
        elif len(waiting) == 1:
            self._start(batch, self.wait)
        self._unanswered += 1
        try:
            return await outcome
        finally:
            self._unanswered -= 1

    def _start(self, batch: Batch, after: float) -> None:
        task = asyncio.create_task(self._send(batch, after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, batch: Batch, after: float) -> None:
        await asyncio.sleep(after)
        waiting = self._waiting.pop(batch, [])  # none, if the batch was filled before its time
        if waiting:
            items = [item for item, _ in waiting]
            outcomes: list[Outcome] = [RoundledgerError("internal error")] * len(items)
            try:
                outcomes = await asyncio.to_thread(self._bring, batch, items)
            finally:  # whatever happens, nobody must wait for ever
                for (_, future), outcome in zip(waiting, outcomes, strict=True):
                    if not future.done():
                        future.set_result(outcome)

    def _bring(self, batch: Batch, items: Sequence[Item]) -> list[Outcome]:
        """One transaction with all that the ledger would take now; the others are told why not."""
        try:
            refusals: list[Reverted | None] = self._call(batch, items, check=True)
            good = [item for item, refusal in zip(items, refusals, strict=True) if refusal is None]
            if not good:
                return [refusal for refusal in refusals if refusal is not None]
            receipt: Receipt = self._call(batch, good, check=False)
        except RoundledgerError as error:
            if str(error) != self._complained:
                self.complain(error)
            self._complained = str(error)
            return [error] * len(items)
        self._complained = ""
        self.report(batch, len(good), receipt)
        brought = Brought(receipt.transaction, receipt.block, receipt.gas_used // len(good), len(good))
        return [refusal or brought for refusal in refusals]

    def _call(self, batch: Batch, items: Sequence[Any], *, check: bool) -> Any:
        client = self.client
        if batch.verb == "commit":
            return (client.check_commits if check else client.relay_commits)(batch.round, items)
        if batch.verb == "reveal":
            return (client.check_reveals if check else client.relay_reveals)(batch.round, items)
        ballot = batch.round, Digest(batch.model), batch.verdicts
        return (client.check_attestations if check else client.relay_attestations)(*ballot, items)
