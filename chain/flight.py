"""The transactions of one account that are on their way: nonces, the outbox, sending again, outbidding.

What is signed is in the outbox before it is sent. From then on the same bytes are sent as often as it takes, and their
nonce makes sure that they count once; one that is stuck is replaced by the same call with higher fees. One that fails,
or whose purpose has gone, uses up its nonce all the same, so nothing behind it waits.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chain import fees
from chain.answers import Answer, meaning
from chain.crash import Point, crash_point
from chain.outbox import Entry, Outbox
from chain.protocol.errors import ConfigError
from chain.protocol.keccak import keccak
from chain.rpc import JsonRpc, RpcError, results
from chain.signers import Signer, decode

_FEES_LAST = 10.0  # seconds that a look at the fees is good for


class Flight:
    """Not thread safe: `Sender` holds a lock. Methods may raise Unavailable, RpcError, and ConfigError when the account
    cannot pay or the signer does not sign.
    """

    def __init__(self, rpc: JsonRpc, signer: Signer, outbox: Outbox, replace_after: float) -> None:
        self.rpc, self.signer, self.outbox, self.replace_after = rpc, signer, outbox, replace_after
        self._fees: tuple[float, fees.Fees] | None = None
        self._sent_at: dict[int, float] = {}  # when the newest transaction of a nonce was first sent

    def newest(self, key: str | None) -> Entry | None:
        """The entry of this key that was made last."""
        return next((entry for entry in reversed(self.outbox.entries()) if entry.key == key), None)

    def launch(self, key: str | None, pending: int, fields: Mapping[str, Any]) -> Entry | None:
        """Signs with the next nonce (`pending`: the server's word), puts into the outbox, sends. None if another
        program used the nonce at the same moment. What the server refuses is not on its way and leaves the outbox.
        """
        used = {entry.nonce for entry in self.outbox.entries()}
        nonce = next(nonce for nonce in range(pending, pending + len(used) + 1) if nonce not in used)  # leaves no gap
        raw = self.signer.sign_transaction({"nonce": nonce, **fields, **self._offer().fields})
        entry = Entry(key or f"transaction {nonce}", nonce, (raw,))
        self.outbox.put(entry)
        try:
            answer = self._broadcast(entry)
        except (RpcError, ConfigError):
            self.drop(nonce)
            raise
        if answer is Answer.USED:
            self.drop(nonce)
            return None
        crash_point(Point.SENT)
        return entry

    def forget(self, block: int) -> None:
        """Whoever used the nonces below the count at this block: they are used for good."""
        used = self.count(hex(block))
        for entry in self.outbox.entries():
            if entry.nonce < used:
                self.drop(entry.nonce)

    def revive(self) -> None:
        """Sends again what the network does not have, and replaces what is stuck."""
        entries = self.outbox.entries()
        if not entries:
            return
        latest, pending = (
            int(count, 16)
            for count in results(
                self.rpc,
                ("eth_getTransactionCount", self.signer.address, "latest"),
                ("eth_getTransactionCount", self.signer.address, "pending"),
            )
        )
        now = time.monotonic()
        for entry in entries:
            if entry.nonce >= pending:
                self._sent_at.pop(entry.nonce, None)
                self._broadcast(entry)
            elif entry.nonce >= latest and now - self._sent_at.setdefault(entry.nonce, now) >= self.replace_after:
                self._replace(entry)

    def drop(self, nonce: int) -> None:
        self.outbox.remove(nonce)
        self._sent_at.pop(nonce, None)

    def _broadcast(self, entry: Entry) -> Answer:
        """Sends the newest transaction of the entry; replaces it if that is too cheap. Raises Unavailable, RpcError,
        and ConfigError when the account cannot pay.
        """
        self._sent_at.setdefault(entry.nonce, time.monotonic())
        try:
            self.rpc.call("eth_sendRawTransaction", "0x" + entry.raw[-1].hex())
        except RpcError as error:
            answer = meaning(error)
            if answer is Answer.POOR:
                raise self.poor(entry) from None
            if answer is Answer.CHEAP:
                self._replace(entry)
            elif answer is Answer.REFUSED:
                raise
            return answer
        return Answer.TAKEN

    def _replace(self, entry: Entry) -> None:
        """The same call of the same nonce with higher fees, unless they are dear enough already."""
        transaction = decode(entry.raw[-1])
        higher = fees.raised(fees.Fees.of(transaction), fees.market(self.rpc))
        self._sent_at[entry.nonce] = time.monotonic()
        if higher is None:
            return
        fields = {name: value for name, value in transaction.items() if value is not None} | higher.fields
        entry = replace(entry, raw=(*entry.raw, self.signer.sign_transaction(fields)))
        self.outbox.put(entry)
        self._broadcast(entry)

    def receipt(self, entry: Entry) -> dict[str, Any] | None:
        """Of whichever of its transactions was mined."""
        found = results(self.rpc, *(("eth_getTransactionReceipt", transaction_hash(raw)) for raw in entry.raw))
        return next((dict(receipt) for receipt in found if receipt is not None), None)

    def count(self, block: str) -> int:
        """How many nonces the account has used up."""
        return int(self.rpc.call("eth_getTransactionCount", self.signer.address, block), 16)

    def _offer(self) -> fees.Fees:
        now = time.monotonic()
        if self._fees is None or now - self._fees[0] >= _FEES_LAST:
            self._fees = now, fees.market(self.rpc)
        return self._fees[1]

    def poor(self, entry: Entry | None) -> ConfigError:
        """The account has run out of funds: how much it has, and what the transaction may cost at most."""
        try:
            balance = int(self.rpc.call("eth_getBalance", self.signer.address, "latest"), 16)
        except (RpcError, ValueError, TypeError):
            balance = None
        problem = "not enough funds for the transaction"
        problem += "" if balance is None else f": the balance is {_ether(balance)}"
        if entry is not None:
            transaction = decode(entry.raw[-1])
            problem += f", up to {_ether(transaction['gas'] * transaction['maxFeePerGas'])} is needed"
        return ConfigError(
            self.signer.address, problem, "send it some of the chain's coin and start again: nothing is lost"
        )


def transaction_hash(raw: bytes) -> str:
    return "0x" + keccak(raw).hex()


def _ether(wei: int) -> str:
    return f"{wei / 10**18:.6g} ether"
