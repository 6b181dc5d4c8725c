"""A chain in memory: the interfaces of `LedgerReader` and `LedgerClient` over the model of the contract.

Every call is a block of its own. A server that lies is a `Reader` with a `Lie`: what it makes of logs and heads.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from chain.blocks import Block, Depth
from chain.errors import Reverted
from chain.protocol.deployment import Deployment, code_hash
from chain.protocol.digest import Digest
from chain.protocol.events import Log, OnChainRules
from chain.protocol.rules import Rules
from chain.protocol.seal import Metadata
from chain.reader import Reading
from chain.sender import Receipt
from tests.simulator.clock import Clock
from tests.simulator.contract import Contract

CHAIN_ID = 31337
LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
CODE = code_hash(b"the contract")
GENESIS_BLOCK = "0x" + "11" * 32


@dataclass
class Chain:
    """One contract and its blocks: the head after each, the first one block 1."""

    clock: Clock
    contract: Contract
    deployment: Deployment
    heads: list[bytes] = field(default_factory=list)
    skew: int = 0  # seconds that the block producers' clock is ahead
    watchers: tuple[str, ...] = ()  # who is woken by a new block

    @classmethod
    def found(cls, clock: Clock, owner: str, rules: Rules, genesis: Digest) -> "Chain":
        ledger = rules.ledger
        windows = (ledger.commit_window, ledger.reveal_window, ledger.attest_window)
        fixed = OnChainRules(rules.digest, genesis, *windows, ledger.min_updates, ledger.quorum_bps)
        contract = Contract(CHAIN_ID, LEDGER, owner, fixed, int(clock.now))
        deployment = Deployment(
            chain_id=CHAIN_ID,
            genesis_block=GENESIS_BLOCK,
            address=LEDGER,
            block=1,
            bytecode_hash=CODE,
            rules_digest=str(rules.digest),
            genesis_model=str(genesis),
        )
        return cls(clock, contract, deployment, [contract.head])

    def call(self, name: str, sender: str, *values: Any) -> Any:
        """A transaction. Raises what the contract reverts with, and then nothing was mined."""
        contract = self.contract
        contract.now, contract.block = int(self.clock.now) + self.skew, len(self.heads) + 1
        result = getattr(contract, name)(sender, *values)
        self.heads.append(contract.head)
        for who in self.watchers:
            self.clock.wake(who)
        return result

    def refused(self, name: str, sender: str, *values: Any) -> str:
        """The name of the contract's error; empty if it did as it was told."""
        try:
            self.call(name, sender, *values)
        except Reverted as refusal:
            return type(refusal).__name__
        return ""


@dataclass(frozen=True)
class Name:
    """What messages call a server."""

    name: str


Lie = Callable[[list[Log], list[bytes]], tuple[list[Log], list[bytes]]]


class Reader:
    """`LedgerReader` through one server, which may lie in logs and heads."""

    def __init__(self, chain: Chain, lie: Lie = lambda logs, heads: (logs, heads), name: str = "a server") -> None:
        self.rpc, self.deployment = Name(name), chain.deployment
        self._chain, self._lie = chain, lie

    def _said(self) -> tuple[list[Log], list[bytes]]:
        return self._lie(list(self._chain.contract.logs), list(self._chain.heads))

    def check_deployment(self) -> None:
        pass  # always this chain

    def newest(self, depth: Depth = 0) -> Block:
        assert depth == 0, "every call is a block: none would ever be buried"
        heads = self._said()[1]
        return self._block(len(heads), heads)

    def find(self, block: int | str) -> Block | None:
        heads = self._said()[1]
        return self._block(int(block), heads) if int(block) <= len(heads) else None

    def read(self, first: int, last: int, before: Block | None = None) -> Reading:
        logs, heads = self._said()
        former = self._block(before.number, heads).hash if before else None
        between = [log for log in logs if first <= log.block <= last]
        return Reading("simulated", self._block(last, heads), between, heads[last - 1], former)

    def compare(self, reading: Reading, *, buried: bool) -> None:
        """There is no other server."""

    def head(self, block: int) -> bytes:
        return self._said()[1][block - 1]

    @staticmethod
    def _block(number: int, heads: list[bytes]) -> Block:
        """Its hash is that of what the server says the head was there: another branch has other hashes. Of its time
        nothing is asked at depth 0.
        """
        return Block(number, sha256(heads[number - 1]).hexdigest(), 0)


class Client:
    """`LedgerClient` for one account."""

    def __init__(self, chain: Chain, address: str) -> None:
        self._chain, self.address = chain, address

    def open(self, number: int) -> Receipt:
        return self._send("open", number)

    def commit(self, number: int, seal: bytes) -> Receipt:
        return self._send("commit", number, seal)

    def reveal(self, number: int, participant: str, metadata: Metadata) -> Receipt:
        return self._send("reveal", number, participant, metadata)

    def attest(self, number: int, model: Digest, verdicts: bytes) -> Receipt:
        return self._send("attest", number, bytes(model), verdicts)

    def keep_alive(self, block: int) -> None:
        """What was called is mined already."""

    def advance(self, number: int, phase: str = "") -> Receipt:
        return self._send("advance", number)

    def _send(self, name: str, *values: Any) -> Receipt:
        self._chain.call(name, self.address, *values)
        return Receipt("0x", len(self._chain.heads), 0)
