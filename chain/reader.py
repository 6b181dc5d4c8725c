"""Reading the ledger: raw logs in block windows, the head at a block, and whether this is the pinned contract at all.

Nothing read here is believed: the logs must reproduce the head, and chain, contract and genesis block must be those
of the deployment record. Needs JSON-RPC only, no web3.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from chain import artifacts
from chain.answers import quantity
from chain.blocks import Block, Depth
from chain.protocol.abi import WORD
from chain.protocol.deployment import Deployment, code_hash
from chain.protocol.errors import Code, ConfigError, TrustError, Unavailable, VerificationError
from chain.protocol.events import HEAD_BYTES, Log
from chain.rpc import AnswerTooLong, Call, JsonRpc, RpcError, results

WINDOW = 2_000  # blocks asked for at once; halved as long as a server refuses
STOPPED = 120.0  # seconds without a new block, after which a server no longer follows the chain
_HEAD_CALL = "0x8f7dcfa3"  # head()


@dataclass(frozen=True, slots=True)
class Reading:
    """The logs up to a block and the head there, as a server gave them; `before` is the present hash of the block where
    the last reading ended.
    """

    server: str
    block: Block
    logs: list[Log]
    head: bytes
    before: str | None


class LedgerReader:
    """Read access to one deployed ledger through one RPC server, or several. Every method may raise Unavailable."""

    def __init__(self, rpc: JsonRpc, deployment: Deployment) -> None:
        self.rpc, self.deployment = rpc, deployment

    def check_deployment(self) -> None:
        """L1: chain, genesis block, address and bytecode are the pinned ones, and the bytecode that of a ledger.

        Raises ConfigError for another network or an address without code (the wrong server or record was given),
        TrustError when what stands there is not what was pinned.
        """
        pinned = self.deployment
        chain, newest, first, code = results(
            self.rpc,
            ("eth_chainId",),
            ("eth_blockNumber",),
            ("eth_getBlockByNumber", "0x0", False),
            ("eth_getCode", pinned.address, "latest"),
        )
        if (chain_id := self._quantity("eth_chainId", chain)) != pinned.chain_id:
            problem = f"this server is on chain {chain_id}, the deployment record names chain {pinned.chain_id}"
            raise ConfigError(self.rpc.name, f"wrong chain id: {problem}", "check --rpc and the deployment record")
        genesis = self._block(first)
        if genesis is None:
            raise Unavailable(Code.L1, "block 0", f"{self.rpc.name} does not have it")
        if genesis.hash != pinned.genesis_block:
            raise TrustError(Code.L1, "genesis block", pinned.genesis_block, genesis.hash)
        if (height := self._quantity("eth_blockNumber", newest)) < pinned.block:
            reason = f"it is at block {height}, the ledger was deployed in block {pinned.block}"
            raise Unavailable(Code.L1, self.rpc.name, reason)
        runtime = self._bytes("eth_getCode", code)
        if not runtime:
            hint = "was the devnet started again without its saved state?"
            raise ConfigError(pinned.address, f"no contract at this address on chain {chain_id}", hint)
        if (found := code_hash(runtime)) != pinned.bytecode_hash:
            raise TrustError(Code.L1, f"bytecode of {pinned.address}", pinned.bytecode_hash, found)
        if not artifacts.runtime_matches(runtime):  # who writes the record could pin a contract with a back door
            raise TrustError(Code.L1, f"bytecode of {pinned.address}", "the ledger of this program", "another contract")

    def block_number(self) -> int:
        return self._quantity("eth_blockNumber", self.rpc.call("eth_blockNumber"))

    def block_numbers_elsewhere(self) -> list[tuple[str, int]]:
        """Of every other server that can be reached and answers sensibly."""
        found = []
        for name, (number,) in self.rpc.elsewhere([("eth_blockNumber",)], self.rpc.name):
            with suppress(Unavailable):
                found.append((name, self._quantity("eth_blockNumber", number)))
        return found

    def newest(self, depth: Depth = 0) -> Block:
        """The newest block that lies deep enough; before there is one, the first. Raises Unavailable, RpcError."""
        tag = depth if isinstance(depth, str) else "latest" if depth == 0 else hex(max(0, self.block_number() - depth))
        found = self.find(tag)
        if found is None:
            raise Unavailable(Code.L1, f"block {tag}", f"{self.rpc.name} does not have it")
        return found

    def find(self, block: int | str) -> Block | None:
        """The block of a number or tag; None if the server has none."""
        tag = block if isinstance(block, str) else hex(block)
        return self._block(self.rpc.call("eth_getBlockByNumber", tag, False))

    def time(self) -> int:
        """Of the newest block, in seconds since the epoch. Raises Unavailable, RpcError."""
        found = self.rpc.call("eth_getBlockByNumber", "latest", False)
        return self._quantity("eth_getBlockByNumber", found.get("timestamp") if isinstance(found, dict) else None)

    def read(self, first: int, last: int, before: Block | None = None) -> Reading:
        """Everything from block `first` to `last`: one request, unless it is a long way. Raises Unavailable.

        The parts may be of different moments: the head must be that of the logs, or they are read again.
        """
        start = max(first, last - WINDOW + 1)
        logs = list(self.logs(first, start - 1))
        calls: list[Call] = [
            ("eth_getLogs", self._query(start, last)),
            self._head_call(last),
            ("eth_getBlockByNumber", hex(last), False),
        ]
        if before is not None:
            calls.append(("eth_getBlockByNumber", hex(before.number), False))
        try:
            found, head, newest, *earlier = self.rpc.batch(calls)
        except AnswerTooLong as error:  # the logs are then asked for in parts
            found, (head, newest, *earlier) = error, self.rpc.batch(calls[1:])
        server = self.rpc.name
        refused = isinstance(found, RpcError | AnswerTooLong)
        logs += self.logs(start, last) if refused else self._logs(found, start, last)
        block = self._block(newest)
        former = self._block(earlier[0]) if earlier else None
        if block is None or block.number != last:
            raise Unavailable(Code.L1, f"block {last}", f"{self.rpc.name} does not have it")
        return Reading(server, block, logs, self._head(head, last), former.hash if former else None)

    def compare(self, reading: Reading, *, buried: bool) -> None:
        """L2: every other server that can be reached has the same head at this block. One that no longer follows the
        chain, is senseless, or on another branch of blocks that are not buried yet says nothing.

        Raises VerificationError naming both; Unavailable when one follows the chain and does not have the block (yet):
        a server that invents blocks is always ahead of the others.
        """
        block, ours = reading.block, reading.server
        calls: list[Call] = [("eth_getBlockByNumber", hex(block.number), False), self._head_call(block.number)]
        for name, (same, head, last) in self.rpc.elsewhere(
            [*calls, ("eth_getBlockByNumber", "latest", False)], reading.server
        ):
            try:
                theirs, newest = self._block(same), self._block(last)
                found = self._head(head, block.number) if theirs == block else b""
            except Unavailable:
                continue
            if theirs is None:
                if newest and newest.number < block.number and time.time() - newest.time < STOPPED:
                    reason = f"{name} ends at block {newest.number}; if {ours} is right, it will have this one soon"
                    raise Unavailable(Code.L2, f"block {block.number} of {ours}", reason)
            elif theirs.hash != block.hash:
                if buried:
                    subject = f"hash of block {block.number}"
                    raise VerificationError(Code.L2, subject, f"{block.hash} ({ours})", f"{theirs.hash} ({name})")
            elif found != reading.head:
                mine, other = f"0x{reading.head.hex()} ({ours})", f"0x{found.hex()} ({name})"
                raise VerificationError(Code.L2, f"head at block {block.number}", mine, other)

    def head(self, block: int) -> bytes:
        """The running head as of the end of `block`."""
        return self._head(self.rpc.batch([self._head_call(block)])[0], block)

    def logs(self, first: int, last: int) -> Iterator[Log]:
        """Every log of the ledger in blocks `first` to `last`, in order."""
        size = WINDOW
        while first <= last:
            until = min(last, first + size - 1)
            try:
                found = self.rpc.call("eth_getLogs", self._query(first, until))
            except (RpcError, AnswerTooLong) as error:
                if size == 1:
                    raise Unavailable(Code.L2, f"logs of block {first}", error) from None
                size = max(1, size // 2)
                continue
            yield from self._logs(found, first, until)
            first = until + 1

    def _query(self, first: int, last: int) -> dict[str, str]:
        return {"address": self.deployment.address, "fromBlock": hex(first), "toBlock": hex(last)}

    def _head_call(self, block: int) -> Call:
        return ("eth_call", {"to": self.deployment.address, "data": _HEAD_CALL}, hex(block))

    # ------------------------------------------------------ what answers mean

    def _head(self, found: Any, block: int) -> bytes:
        if isinstance(found, RpcError):
            raise Unavailable(Code.L2, f"head at block {block}", found)
        word = self._bytes("eth_call", found)
        if len(word) != WORD or any(word[HEAD_BYTES:]):
            raise Unavailable(Code.L2, f"head at block {block}", self._senseless("head()"))
        return word[:HEAD_BYTES]

    def _logs(self, found: Any, first: int, last: int) -> list[Log]:
        try:
            return [_log(raw) for raw in _checked_list(found)]
        except (ValueError, KeyError, TypeError, AttributeError):
            reason = self._senseless("eth_getLogs")
            raise Unavailable(Code.L2, f"logs of blocks {first} to {last}", reason) from None

    def _block(self, found: Any) -> Block | None:
        if found is None:
            return None
        if isinstance(found, RpcError):
            raise Unavailable(Code.L1, self.rpc.name, found)
        try:
            return Block(quantity(found["number"]), str(found["hash"]), quantity(found["timestamp"]))
        except (ValueError, TypeError, KeyError):
            raise Unavailable(Code.L1, self.rpc.name, self._senseless("eth_getBlockByNumber")) from None

    def _quantity(self, method: str, found: Any) -> int:
        try:
            return quantity(found)
        except (ValueError, TypeError):
            raise Unavailable(Code.L1, self.rpc.name, self._senseless(method)) from None

    def _bytes(self, method: str, found: Any) -> bytes:
        try:
            return bytes.fromhex(found.removeprefix("0x"))
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
    return Log(topics, bytes.fromhex(raw["data"][2:]), quantity(raw["blockNumber"]))
