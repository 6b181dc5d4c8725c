"""Sending transactions from one account, each action once: estimates, receipts, and reverts as typed exceptions.

`chain.flight` sees to it that a transaction arrives. Everything that is asked and sent goes through `chain.rpc`, so
that a server's answer is bounded in size, depth and time; a transaction costs three requests, where web3 makes nine.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from chain.answers import Answer, meaning, quantity
from chain.blocks import Depth
from chain.calls import Call
from chain.errors import UnknownRevert, from_revert
from chain.fees import CEILING
from chain.flight import Flight, transaction_hash
from chain.outbox import Entry, MemoryOutbox, Outbox
from chain.protocol.errors import Code, Pending, RoundledgerError, Unavailable
from chain.rpc import JsonRpc, RpcError, results
from chain.servers import connect
from chain.signers import Signer, signer_of

TIMEOUT = 60.0  # seconds that a transaction is waited for
REPLACE_AFTER = 60.0  # seconds after which a transaction that is not mined is replaced by a dearer one
POLL, SLOWEST = 0.004, 1.0  # seconds between looks for the receipt: the first wait, and the longest
REVIVE = 2.0  # seconds between looks for what the network has lost
_GAS_SHARE, _GAS_EXTRA = 1.25, 40_000  # between estimate and mining the call may turn out to be the last of its phase
_LOOKS = (0.1, 0.4)  # seconds between looks for the receipt of a nonce that is used
_TRIES = 5  # nonces to try, while another program uses the account

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Receipt:
    transaction: str
    block: int
    gas_used: int
    contract: str | None = None


class Sender:
    """Sends for one account and keeps its nonces. Thread safe; one Sender an account.

    With `depth` 0 an action is done when it is mined, and its entry leaves the outbox. Otherwise it stays until
    `keep_alive` has seen it deep enough. `pause` waits between looks for a receipt; what it raises ends the waiting.
    `max_fee` is the most that is offered for a unit of gas, in wei, whatever the server says the price is. Without
    `chain_id` transactions are for the chain that the server says it is on.
    """

    def __init__(
        self,
        rpc: str | Sequence[str] | JsonRpc,
        signer: LocalAccount | Signer,
        outbox: Outbox | None = None,
        depth: Depth = 0,
        timeout: float = TIMEOUT,
        replace_after: float = REPLACE_AFTER,
        pause: Callable[[float], None] = time.sleep,
        max_fee: int = CEILING,
        chain_id: int | None = None,
    ) -> None:
        self.signer, self.depth, self.timeout, self._pause = signer_of(signer), depth, timeout, pause
        self.outbox: Outbox = MemoryOutbox() if outbox is None else outbox
        self._rpc = connect(rpc)
        self._flight = Flight(self._rpc, self.signer, self.outbox, replace_after, max_fee)
        self._lock = threading.RLock()
        self._chain_id = chain_id
        self._kept: tuple[int, float] = (-1, 0.0)  # the block and time of the last `keep_alive`

    @property
    def address(self) -> str:
        return self.signer.address

    def send(self, key: str | None, call: Call) -> Receipt:
        """Has `call` done once for this `key`, and waits until it is mined.

        If the outbox has an entry for the key that is on its way or mined, that one is waited for; otherwise the call
        is estimated, signed, put into the outbox and sent. None: an action that may be done any number of times.

        Raises the Reverted subclass that the contract gives, ConfigError when the account cannot pay, Unavailable
        when the server does not answer sensibly, Pending when nobody mines it in time. After the last two, calling
        again goes on with the same bytes, and so does `keep_alive`.
        """
        return self._guarded(lambda: self._send(key, call))

    def keep_alive(self, block: int) -> None:
        """Forgets what lies in `block` or before it, the newest block that is deep enough, and sends again what has
        vanished: lost on the way, or thrown out by a reorganisation. Cheap; to be called at every look at the ledger.

        Raises as `send`.
        """
        now = time.monotonic()
        if (block == self._kept[0] and now - self._kept[1] < REVIVE) or not self.outbox.entries():
            return
        with self._lock:
            self._guarded(lambda: self._flight.forget(block))
            self._guarded(self._flight.revive)
        self._kept = block, now

    def _send(self, key: str | None, call: Call) -> Receipt:
        asked = self._asked(call)
        with self._lock:
            self._flight.revive()  # what comes before must not be missing
            entry = self._resumable(key) or self._start(key, asked)
        receipt = self._mined(entry)
        if self.depth == 0:
            with self._lock:
                self._flight.drop(entry.nonce)
        sent = receipt["transactionHash"]
        if quantity(receipt["status"]) != 1:
            self._rpc.call("eth_call", asked, "latest")  # the state that refused it is the present one: it tells why
            raise UnknownRevert(f"transaction {sent} failed")
        block, gas = quantity(receipt["blockNumber"]), quantity(receipt["gasUsed"])
        contract = receipt.get("contractAddress")
        return Receipt(sent, block, gas, contract and to_checksum_address(contract))

    def _asked(self, call: Call) -> dict[str, str]:
        """The call as `eth_estimateGas` and `eth_call` take it."""
        to = {} if call.to is None else {"to": call.to}
        return {"from": self.address, **to, "data": "0x" + call.data.hex()}

    def _resumable(self, key: str | None) -> Entry | None:
        """The entry that does, or has done, what the key says; None if there is none, it failed, or another program
        used its nonce.
        """
        entry = self._flight.newest(key)
        if entry is None:
            return None
        for wait in (*_LOOKS, None):
            used = self._flight.count("latest") > entry.nonce  # asked first: what it counts has a receipt by then
            receipt = self._flight.receipt(entry)
            if receipt is not None:
                return entry if quantity(receipt["status"]) == 1 else None
            if not used:
                return entry
            if wait is not None:  # a server may count a transaction a moment before it has the receipt
                self._pause(wait)
        return None

    def _start(self, key: str | None, asked: dict[str, str]) -> Entry:
        """Estimates, and sends."""
        if self._chain_id is None:
            self._chain_id = quantity(self._rpc.call("eth_chainId"))
        for _ in range(_TRIES):
            pending, gas = results(
                self._rpc,
                ("eth_getTransactionCount", self.address, "pending"),
                # In the block to come, at its time: where blocks come only with transactions (Anvil), a window that
                # has passed since the last one would otherwise look open for ever.
                ("eth_estimateGas", asked, "pending"),
            )
            limit = int(quantity(gas) * _GAS_SHARE) + _GAS_EXTRA
            what: dict[str, Any] = {name: asked[name] for name in ("to", "data") if name in asked}
            fields: dict[str, Any] = {"chainId": self._chain_id, "gas": limit, "value": 0, **what}
            entry = self._flight.launch(key, quantity(pending), fields)
            if entry is not None:
                return entry
        raise Unavailable(Code.L1, self._rpc.name, f"another program uses every nonce of {self.address}")

    def _mined(self, entry: Entry) -> dict[str, Any]:
        """The receipt. Raises Pending if the transaction is not mined in time."""
        deadline, wait, revived = time.monotonic() + self.timeout, POLL, time.monotonic()
        while (receipt := self._flight.receipt(entry)) is None:
            now = time.monotonic()
            if now > deadline:
                raise Pending(f"transaction {transaction_hash(entry.raw[-1])} is not mined after {self.timeout:g} s")
            if now - revived >= min(REVIVE, self._flight.replace_after):
                revived = now
                with self._lock:
                    self._flight.revive()
                    entry = next((found for found in self.outbox.entries() if found.nonce == entry.nonce), entry)
            self._pause(wait)
            wait = min(SLOWEST, 2 * wait)
        return receipt

    def _guarded(self, work: Callable[[], T]) -> T:
        """What goes wrong in there, as one of our errors."""
        try:
            return work()
        except RpcError as error:
            raise self._refused(error) from None
        except RoundledgerError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # whatever becomes of an answer that is none
            raise Unavailable(Code.L1, self._rpc.name, f"a senseless answer ({type(error).__name__})") from None

    def ask(self, call: Call) -> Any:
        """What `call` would return now, in the block to come; nothing is sent. Raises as `send`."""
        answer = self._guarded(lambda: self._rpc.call("eth_call", self._asked(call), "pending"))
        try:
            values = decode(call.returns, bytes.fromhex(str(answer).removeprefix("0x")))
        except (DecodingError, ValueError):
            raise Unavailable(Code.L1, self._rpc.name, "a senseless answer to eth_call") from None
        return values[0] if len(values) == 1 else values

    def _refused(self, error: RpcError) -> RoundledgerError:
        if meaning(error) is Answer.POOR:
            return self._flight.poor(None)
        if error.revert:
            return from_revert(error.revert, error.message)
        if "revert" in error.message.lower():
            return UnknownRevert(error.message)
        return Unavailable(Code.L1, self._rpc.name, error)
