"""Sending transactions from one account: the nonce manager, fees, receipts, and reverts as typed exceptions.

web3 builds, signs and waits; what it sends and receives goes through `chain.rpc`, so that a server's answer is bounded
in size, depth and time here, too.
"""

import threading
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.exceptions import ContractLogicError, TimeExhausted, Web3Exception
from web3.providers import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from chain.errors import UnknownRevert, from_revert
from chain.protocol.errors import Code, ConfigError, RoundledgerError, Unavailable
from chain.rpc import Rpc, RpcError

TIMEOUT = 60.0  # seconds for a transaction to be mined
_GAS_SHARE, _GAS_EXTRA = 1.25, 40_000  # between estimate and mining the call may turn out to be the last of its phase


@dataclass(frozen=True, slots=True)
class Receipt:
    transaction: str
    block: int
    gas_used: int
    contract: str | None = None


class _Provider(BaseProvider):
    """web3 on top of our own RPC client. Raises RpcError and Unavailable through web3."""

    def __init__(self, rpc: Rpc) -> None:
        super().__init__()
        self._rpc = rpc

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        return {"jsonrpc": "2.0", "id": 1, "result": self._rpc.call(method, *params)}


class Sender:
    """Signs with one account and keeps its nonces. Thread safe; one Sender an account."""

    def __init__(self, url: str, account: LocalAccount, timeout: float = TIMEOUT) -> None:
        self.account, self.timeout = account, timeout
        self._rpc = Rpc(url)
        self.web3 = Web3(_Provider(self._rpc))
        self._lock = threading.Lock()
        self._nonce: int | None = None

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
        except ContractLogicError as error:
            raise UnknownRevert(str(error)) from None
        except TimeExhausted as error:
            raise Unavailable(Code.L1, "transaction", error) from None
        except (Web3Exception, ValueError, KeyError, TypeError, AttributeError) as error:
            # Whatever web3 makes of an answer that is none.
            raise Unavailable(Code.L1, self._rpc.name, f"a senseless answer ({type(error).__name__})") from None

    def _send(self, call: Any) -> Receipt:
        # In the block to come, at its time: where blocks come only with transactions (Anvil), a window that has passed
        # since the last one would otherwise look open for ever.
        estimate = call.estimate_gas({"from": self.address}, block_identifier="pending")
        gas = int(estimate * _GAS_SHARE) + _GAS_EXTRA
        with self._lock:
            nonce, self._nonce = self._nonce, None  # if anything goes wrong now, the next one asks the chain
            if nonce is None:
                nonce = self.web3.eth.get_transaction_count(self.account.address, "pending")
            transaction = call.build_transaction({"from": self.address, "gas": gas, "nonce": nonce})
            raw = self.account.sign_transaction(transaction).raw_transaction
            sent = self.web3.eth.send_raw_transaction(raw)
            self._nonce = nonce + 1
        receipt = self.web3.eth.wait_for_transaction_receipt(sent, self.timeout, poll_latency=0.05)
        if receipt["status"] != 1:
            call.call({"from": self.address})  # the state that refused it is the present one: gives the reason
            raise UnknownRevert(f"transaction {sent.to_0x_hex()} failed")
        return Receipt(sent.to_0x_hex(), receipt["blockNumber"], receipt["gasUsed"], receipt.get("contractAddress"))

    def _refused(self, error: RpcError) -> RoundledgerError:
        if "insufficient funds" in error.message.lower():
            return ConfigError(self.address, "not enough funds for the transaction", "send it some of the chain's coin")
        if error.revert:
            return from_revert(error.revert, error.message)
        if "revert" in error.message.lower():
            return UnknownRevert(error.message)
        return Unavailable(Code.L1, self._rpc.name, error)
