"""Reading the ledger: raw logs in block windows, the head at a block, and whether this is the pinned contract at all.

Nothing read here is believed: the logs must reproduce the head, and chain, contract and genesis block must be those
of the deployment record. Needs JSON-RPC only, no web3.
"""

from collections.abc import Iterator
from typing import Any

from chain.protocol.abi import WORD
from chain.protocol.deployment import Deployment, code_hash
from chain.protocol.errors import Code, ConfigError, TrustError, Unavailable
from chain.protocol.events import HEAD_BYTES, Log
from chain.rpc import Rpc, RpcError

WINDOW = 2_000  # blocks asked for at once; halved as long as a server refuses
_HEAD_CALL = "0x8f7dcfa3"  # head()


class LedgerReader:
    """Read access to one deployed ledger through one RPC server. Every method may raise Unavailable."""

    def __init__(self, rpc: Rpc, deployment: Deployment) -> None:
        self.rpc, self.deployment = rpc, deployment

    def check_deployment(self) -> None:
        """L1: chain, genesis block, address and bytecode are the pinned ones.

        Raises ConfigError for another network or an address without code (the wrong server or record was given),
        TrustError when what stands there is not what was pinned.
        """
        pinned = self.deployment
        if (chain_id := self._quantity("eth_chainId")) != pinned.chain_id:
            problem = f"this server is on chain {chain_id}, the deployment record names chain {pinned.chain_id}"
            raise ConfigError(self.rpc.name, f"wrong chain id: {problem}", "check --rpc and the deployment record")
        genesis = self.block(0).get("hash")
        if genesis != pinned.genesis_block:
            raise TrustError(Code.L1, "genesis block", pinned.genesis_block, genesis)
        code = self._bytes("eth_getCode", pinned.address, "latest")
        if not code:
            hint = "was the devnet started again without its saved state?"
            raise ConfigError(pinned.address, f"no contract at this address on chain {chain_id}", hint)
        if (found := code_hash(code)) != pinned.bytecode_hash:
            raise TrustError(Code.L1, f"bytecode of {pinned.address}", pinned.bytecode_hash, found)

    def block_number(self) -> int:
        return self._quantity("eth_blockNumber")

    def block(self, number: int) -> dict[str, Any]:
        found = self.rpc.call("eth_getBlockByNumber", hex(number), False)
        if not isinstance(found, dict):
            raise Unavailable(Code.L1, f"block {number}", f"{self.rpc.name} does not have it")
        return found

    def head(self, block: int) -> bytes:
        """The running head as of the end of `block`."""
        try:
            word = self._bytes("eth_call", {"to": self.deployment.address, "data": _HEAD_CALL}, hex(block))
        except RpcError as error:
            raise Unavailable(Code.L2, f"head at block {block}", error) from None
        if len(word) != WORD or any(word[HEAD_BYTES:]):
            raise Unavailable(Code.L2, f"head at block {block}", self._senseless("head()"))
        return word[:HEAD_BYTES]

    def logs(self, first: int, last: int) -> Iterator[Log]:
        """Every log of the ledger in blocks `first` to `last`, in order."""
        size = WINDOW
        while first <= last:
            until = min(last, first + size - 1)
            query = {"address": self.deployment.address, "fromBlock": hex(first), "toBlock": hex(until)}
            try:
                found = self.rpc.call("eth_getLogs", query)
            except RpcError as error:
                if size == 1:
                    raise Unavailable(Code.L2, f"logs of block {first}", error) from None
                size = max(1, size // 2)
                continue
            try:
                logs = [_log(raw) for raw in _checked_list(found)]
            except (ValueError, KeyError, TypeError, AttributeError):
                raise Unavailable(
                    Code.L2, f"logs of blocks {first} to {until}", self._senseless("eth_getLogs")
                ) from None
            yield from logs
            first = until + 1

    def _quantity(self, method: str, *params: object) -> int:
        try:
            return int(self.rpc.call(method, *params), 16)
        except (ValueError, TypeError):
            raise Unavailable(Code.L1, self.rpc.name, self._senseless(method)) from None

    def _bytes(self, method: str, *params: object) -> bytes:
        try:
            return bytes.fromhex(self.rpc.call(method, *params).removeprefix("0x"))
        except (ValueError, AttributeError):
            raise Unavailable(Code.L1, self.rpc.name, self._senseless(method)) from None

    @staticmethod
    def _senseless(method: str) -> str:
        return f"a senseless answer to {method}"


def _checked_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"a list, not {type(value).__name__}")
    return value


def _log(raw: dict[str, Any]) -> Log:
    topics = tuple(bytes.fromhex(topic[2:]) for topic in raw["topics"])
    return Log(topics, bytes.fromhex(raw["data"][2:]), int(raw["blockNumber"], 16))
