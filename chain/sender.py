"""Sending transactions from one account: the nonce manager, fees, receipts, and reverts as typed exceptions.

web3 encodes the call, eth-account signs it. Everything that is asked and sent goes through `chain.rpc`, so that a
server's answer is bounded in size, depth and time; and a transaction costs three requests, where web3 by itself makes
nine.
"""

import threading
import time
from dataclasses import dataclass
from typing import Any

from eth_abi.exceptions import DecodingError
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.exceptions import Web3Exception

from chain.errors import UnknownRevert, from_revert
from chain.protocol.errors import Code, ConfigError, RoundledgerError, Unavailable
from chain.rpc import Rpc, RpcError

TIMEOUT = 60.0  # seconds for a transaction to be mined
POLL = 0.05  # seconds between looks for the receipt
_GAS_SHARE, _GAS_EXTRA = 1.25, 40_000  # between estimate and mining the call may turn out to be the last of its phase
_FEES_LAST = 10.0  # seconds that a look at the fees is good for
_BASE_FEES = 2  # times the present base fee that is offered at most: it doubles in six full blocks


@dataclass(frozen=True, slots=True)
class Receipt:
    transaction: str
    block: int
    gas_used: int
    contract: str | None = None


class Sender:
    """Signs with one account and keeps its nonces. Thread safe; one Sender an account."""

    def __init__(self, url: str, account: LocalAccount, timeout: float = TIMEOUT) -> None:
        self.account, self.timeout = account, timeout
        self.web3 = Web3()  # of no server: it only encodes
        self._rpc = Rpc(url)
        self._lock = threading.Lock()
        self._nonce: int | None = None
        self._chain_id: int | None = None
        self._fees: tuple[float, dict[str, int]] = (-_FEES_LAST, {})

    @property
    def address(self) -> str:
        return str(self.account.address)

    def send(self, call: Any) -> Receipt:
        """Estimates, signs, sends `call` (a web3 contract call or constructor) and waits until it is mined.

        Raises the Reverted subclass that the contract gives, ConfigError when the account cannot pay, Unavailable
        when the server does not answer sensibly or does not mine in time.
        """
        try:
            return self._send(call)
        except RpcError as error:
            raise self._refused(error) from None
        except RoundledgerError:
            raise
        except (Web3Exception, ValueError, KeyError, TypeError, AttributeError) as error:
            # whatever becomes of an answer that is none
            raise Unavailable(Code.L1, self._rpc.name, f"a senseless answer ({type(error).__name__})") from None

    def ask(self, call: Any) -> Any:
        """What `call` would return now, in the block to come; nothing is sent. Raises as `send`."""
        transaction = call.build_transaction({"from": self.address, "chainId": 0, "nonce": 0, "gas": 0, "gasPrice": 0})
        asked = {key: transaction[key] for key in ("from", "to", "data")}
        try:
            answer = bytes.fromhex(str(self._rpc.call("eth_call", asked, "pending")).removeprefix("0x"))
            kinds = [str(output["type"]) for output in call.abi["outputs"]]
            values = self.web3.codec.decode(kinds, answer)
        except RpcError as error:
            raise self._refused(error) from None
        except (Web3Exception, DecodingError, ValueError) as error:
            raise Unavailable(Code.L1, self._rpc.name, f"a senseless answer ({type(error).__name__})") from None
        return values[0] if len(values) == 1 else values

    def _send(self, call: Any) -> Receipt:
        if self._chain_id is None:
            self._chain_id = self._quantity("eth_chainId")
        with self._lock:
            nonce, self._nonce = self._nonce, None  # if anything goes wrong now, the next one asks the chain
            if nonce is None:
                nonce = self._quantity("eth_getTransactionCount", self.address, "pending")
            about = {"from": self.address, "chainId": self._chain_id, "nonce": nonce, "gas": 0, "value": 0}
            transaction = call.build_transaction(about | self._offer())
            asked = {key: transaction[key] for key in ("from", "to", "data") if transaction.get(key)}
            try:
                transaction["gas"] = self._gas(asked)
            except RpcError:
                self._nonce = nonce  # nothing was sent
                raise
            signed = self.account.sign_transaction({key: transaction[key] for key in transaction if key != "from"})
            sent = self._rpc.call("eth_sendRawTransaction", signed.raw_transaction.to_0x_hex())
            self._nonce = nonce + 1
        receipt = self._mined(sent)
        if int(receipt["status"], 16) != 1:
            self._rpc.call("eth_call", asked, "latest")  # the state that refused it is the present one: it tells why
            raise UnknownRevert(f"transaction {sent} failed")
        block, gas = int(receipt["blockNumber"], 16), int(receipt["gasUsed"], 16)
        contract = receipt.get("contractAddress")
        return Receipt(sent, block, gas, contract and Web3.to_checksum_address(contract))

    def _gas(self, asked: dict[str, Any]) -> int:
        # In the block to come, at its time: where blocks come only with transactions (Anvil), a window that has passed
        # since the last one would otherwise look open for ever.
        return int(self._quantity("eth_estimateGas", asked, "pending") * _GAS_SHARE) + _GAS_EXTRA

    def _offer(self) -> dict[str, int]:
        """The fees to offer (EIP-1559), in wei for a unit of gas."""
        seen, offer = self._fees
        if time.monotonic() - seen >= _FEES_LAST:
            tip = self._quantity("eth_maxPriorityFeePerGas")
            base = int(self._rpc.call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
            offer = {"maxPriorityFeePerGas": tip, "maxFeePerGas": tip + _BASE_FEES * base}
            self._fees = time.monotonic(), offer
        return offer

    def _mined(self, sent: str) -> dict[str, Any]:
        """The receipt. Raises Unavailable if the transaction is not mined in time."""
        deadline = time.monotonic() + self.timeout
        while True:
            receipt = self._rpc.call("eth_getTransactionReceipt", sent)
            if receipt is not None:
                return dict(receipt)
            if time.monotonic() > deadline:
                raise Unavailable(Code.L1, "transaction", f"{sent} was not mined within {self.timeout:g} s")
            time.sleep(POLL)

    def _quantity(self, method: str, *params: Any) -> int:
        return int(self._rpc.call(method, *params), 16)

    def _refused(self, error: RpcError) -> RoundledgerError:
        if "insufficient funds" in error.message.lower():
            return ConfigError(self.address, "not enough funds for the transaction", "send it some of the chain's coin")
        if error.revert:
            return from_revert(error.revert, error.message)
        if "revert" in error.message.lower():
            return UnknownRevert(error.message)
        return Unavailable(Code.L1, self._rpc.name, error)
