"""The transactions of one account that are on their way: nonces, the outbox, sending again, outbidding.

What is signed is in the outbox before it is sent. From then on the same bytes are sent as often as it takes, and their
nonce makes sure that they count once; one that is stuck is replaced by the same call with higher fees. One that fails,
or whose purpose has gone, uses up its nonce all the same, so nothing behind it waits.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from chain import fees
from chain.answers import WEI, Answer, meaning, quantity
from chain.crash import Point, crash_point
from chain.outbox import Entry, Outbox
from chain.protocol.errors import ConfigError
from chain.protocol.keccak import keccak
from chain.rpc import Call, JsonRpc, RpcError, results
from chain.signers import Signer, decode

_FEES_LAST = 10.0  # seconds that a look at the fees is good for


class NoFunds(ConfigError):
    """The account cannot pay for a transaction."""


class Flight:
    """Not thread safe: `Sender` holds a lock. Methods may raise Unavailable, RpcError, and ConfigError when the account
    cannot pay or the signer does not sign.
    """

    def __init__(self, rpc: JsonRpc, signer: Signer, outbox: Outbox, replace_after: float, max_fee: int) -> None:
        self.rpc, self.signer, self.outbox = rpc, signer, outbox
        self.replace_after, self.max_fee = replace_after, max_fee
        self._fees: tuple[float, fees.Fees] | None = None
        self._sent_at: dict[int, float] = {}  # when the newest transaction of a nonce was first sent
        self._out_since: dict[int, float] = {}  # since when the network does not take a nonce

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
            answer = self._submit(entry)
            if answer is Answer.CHEAP:
                self._replace(entry)
        except (RpcError, ConfigError):
            self.drop(nonce)
            raise
        if answer in (Answer.USED, Answer.RIVAL):
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
            quantity(count)
            for count in results(
                self.rpc,
                ("eth_getTransactionCount", self.signer.address, "latest"),
                ("eth_getTransactionCount", self.signer.address, "pending"),
            )
        )
        now, following = time.monotonic(), pending  # the nonce that the network can take next
        for entry in entries:
            if entry.nonce >= pending:
                self._sent_at.pop(entry.nonce, None)
                takes = self._send_again(entry) and entry.nonce == following
                following += takes
                self._give_up_in_time(entry, now, takes)
                continue
            self._out_since.pop(entry.nonce, None)
            if entry.nonce >= latest and now - self._sent_at.setdefault(entry.nonce, now) >= self.replace_after:
                with suppress(RpcError):  # elsewhere, too: this server may not pass it on
                    self.rpc.elsewhere([_sending(self._replace(entry))], self.rpc.name)

    def _send_again(self, entry: Entry) -> bool:
        """False if the server refuses it: that stops nothing else. Raises Unavailable, NoFunds."""
        try:
            if self._submit(entry) in (Answer.CHEAP, Answer.RIVAL):
                self._replace(entry)
        except RpcError:
            return False
        return True

    def _give_up_in_time(self, entry: Entry, now: float, takes: bool) -> None:
        """What is refused, or waits behind a nonce that nobody fills (a server has made one up), would wait for ever,
        and all later ones with it. Whoever still wants it done sends it anew.
        """
        if takes:
            self._out_since.pop(entry.nonce, None)
        elif now - self._out_since.setdefault(entry.nonce, now) >= self.replace_after:
            self.drop(entry.nonce)

    def drop(self, nonce: int) -> None:
        self.outbox.remove(nonce)
        self._sent_at.pop(nonce, None)
        self._out_since.pop(nonce, None)

    def _submit(self, entry: Entry) -> Answer:
        """Sends the newest transaction of the entry. Raises Unavailable, RpcError if it is refused, NoFunds."""
        self._sent_at.setdefault(entry.nonce, time.monotonic())
        try:
            self.rpc.call(*_sending(entry))
        except RpcError as error:
            answer = meaning(error)
            if answer is Answer.POOR:
                raise self.poor(entry) from None
            if answer is Answer.REFUSED:
                raise
            return answer
        return Answer.TAKEN

    def _replace(self, entry: Entry) -> Entry:
        """The same call of the same nonce with higher fees, unless they are dear enough. Raises as `_submit`."""
        transaction = decode(entry.raw[-1])
        higher = fees.raised(fees.Fees.of(transaction), fees.market(self.rpc, self.max_fee), self.max_fee)
        self._sent_at[entry.nonce] = time.monotonic()
        if higher is None:
            return entry
        fields = {name: value for name, value in transaction.items() if value is not None} | higher.fields
        entry = replace(entry, raw=(*entry.raw, self.signer.sign_transaction(fields)))
        self.outbox.put(entry)
        self._submit(entry)
        return entry

    def receipt(self, entry: Entry) -> dict[str, Any] | None:
        """Of whichever of its transactions was mined."""
        found = results(self.rpc, *(("eth_getTransactionReceipt", transaction_hash(raw)) for raw in entry.raw))
        return next((dict(receipt) for receipt in found if receipt is not None), None)

    def count(self, block: str) -> int:
        """How many nonces the account has used up."""
        return quantity(self.rpc.call("eth_getTransactionCount", self.signer.address, block))

    def _offer(self) -> fees.Fees:
        now = time.monotonic()
        if self._fees is None or now - self._fees[0] >= _FEES_LAST:
            self._fees = now, fees.market(self.rpc, self.max_fee)
        return self._fees[1]

    def poor(self, entry: Entry | None) -> NoFunds:
        """The account has run out of funds: how much it has, and what the transaction may cost at most."""
        try:
            balance = quantity(self.rpc.call("eth_getBalance", self.signer.address, "latest"), WEI)
        except (RpcError, ValueError, TypeError):
            balance = None
        problem = "not enough funds for the transaction"
        problem += "" if balance is None else f": the balance is {_ether(balance)}"
        if entry is not None:
            transaction = decode(entry.raw[-1])
            problem += f", up to {_ether(transaction['gas'] * transaction['maxFeePerGas'])} is needed"
        return NoFunds(
            self.signer.address, problem, "send it some of the chain's coin and start again: nothing is lost"
        )


def _sending(entry: Entry) -> Call:
    return "eth_sendRawTransaction", "0x" + entry.raw[-1].hex()


def transaction_hash(raw: bytes) -> str:
    return "0x" + keccak(raw).hex()


def _ether(wei: int) -> str:
    return f"{wei / 10**18:.6g} ether"
