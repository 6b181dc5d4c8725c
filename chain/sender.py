"""Sending transactions from one account: the nonce manager, fees, receipts, and reverts as typed exceptions."""

import threading
from dataclasses import dataclass
from typing import Any

import requests
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3
from web3.exceptions import ContractLogicError, TimeExhausted, Web3Exception, Web3RPCError

from chain.errors import UnknownRevert, from_revert
from chain.protocol.errors import Code, ConfigError, Unavailable
from chain.rpc import Rpc

TIMEOUT = 60.0  # seconds for a transaction to be mined
_GAS_SHARE, _GAS_EXTRA = 1.25, 40_000  # between estimate and mining the call may turn out to be the last of its phase


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
        self._server = Rpc(url).name  # for messages: the rest of a URL may hold a key
        session = requests.Session()
        session.trust_env = False  # as in `chain.rpc`: no proxy and no password from the environment
        self.web3 = Web3(HTTPProvider(url, request_kwargs={"timeout": timeout}, session=session))
        self._lock = threading.Lock()
        self._nonce: int | None = None

    @property
    def address(self) -> str:
        return str(self.account.address)

    def send(self, call: Any) -> Receipt:
        """Estimates, signs, sends `call` (a web3 contract call or constructor) and waits until it is mined.

        Raises the Reverted subclass that the contract gives, ConfigError when the account cannot pay, Unavailable
        when the server does not answer or does not mine in time.
        """
        try:
            return self._send(call)
        except ContractLogicError as error:
            raise _revert(error) from None
        except Web3RPCError as error:
            raise self._refused(error) from None
        except TimeExhausted as error:
            raise Unavailable(Code.L1, "transaction", error) from None
        except requests.RequestException as error:
            raise Unavailable(Code.L1, self._server, _connection(error)) from None
        except Web3Exception as error:
            raise Unavailable(Code.L1, self._server, error) from None

    def _send(self, call: Any) -> Receipt:
        # In the block to come, at its time: where blocks come only with transactions (Anvil), a window that has passed
        # since the last one would otherwise look open for ever.
        estimate = call.estimate_gas({"from": self.address}, block_identifier="pending")
        gas = int(estimate * _GAS_SHARE) + _GAS_EXTRA
        with self._lock:
            if self._nonce is None:
                self._nonce = self.web3.eth.get_transaction_count(self.account.address, "pending")
            transaction = call.build_transaction({"from": self.address, "gas": gas, "nonce": self._nonce})
            raw = self.account.sign_transaction(transaction).raw_transaction
            try:
                sent = self.web3.eth.send_raw_transaction(raw)
            except (Web3Exception, requests.RequestException):
                self._nonce = None  # whatever happened, ask the chain before the next one
                raise
            self._nonce += 1
        receipt = self.web3.eth.wait_for_transaction_receipt(sent, self.timeout, poll_latency=0.02)
        if receipt["status"] != 1:
            call.call({"from": self.address})  # the state that refused it is the present one: gives the reason
            raise UnknownRevert(f"transaction {sent.to_0x_hex()} failed")
        return Receipt(sent.to_0x_hex(), receipt["blockNumber"], receipt["gasUsed"], receipt.get("contractAddress"))

    def _refused(self, error: Web3RPCError) -> Exception:
        text = str(error)
        if "insufficient funds" in text.lower():
            return ConfigError(self.address, "not enough funds for the transaction", "send it some of the chain's coin")
        response: Any = error.rpc_response or {}
        data = _revert_data(response.get("error", {}).get("data"))
        return from_revert(data, text) if data else Unavailable(Code.L1, self._server, text)


def _revert(error: ContractLogicError) -> Exception:
    return from_revert(_revert_data(error.data), error.message or str(error))


def _revert_data(data: Any) -> bytes:
    """Where servers put the data of a revert: error.data itself (Anvil, geth), or error.data.result (Ganache)."""
    if isinstance(data, dict):
        data = data.get("result")
    return bytes.fromhex(data[2:]) if isinstance(data, str) and data.startswith("0x") else b""


def _connection(error: requests.RequestException) -> str:
    """Only status or class: the text of these errors holds the path of the URL."""
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    return f"the connection failed ({type(error).__name__})"
