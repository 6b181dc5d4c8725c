"""The real contract, the model of it and the replayed history, taken through the same steps and compared after each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3 import HTTPProvider, Web3

from chain import artifacts, signing
from chain.calls import call
from chain.client import LedgerClient
from chain.deploy import deploy
from chain.devnet import Devnet
from chain.errors import Reverted
from chain.protocol.abi import camel_case
from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.events import Log, OnChainRules
from chain.protocol.history import History
from chain.protocol.round import Phase
from chain.protocol.rules import Rules
from chain.reader import LedgerReader
from chain.sender import Sender
from tests.simulator.contract import Contract
from tests.simulator.membership import ATTEST, COMMIT, IDLE, REVEAL, Member

GENESIS = Digest.of(b"genesis")
WINDOW = 1000
OWNER, SEATS = 0, range(9)
PHASES = {Phase.COMMIT: COMMIT, Phase.REVEAL: REVEAL, Phase.ATTEST: ATTEST, Phase.FINALIZED: IDLE, Phase.ABORTED: IDLE}
RULES = Rules.parse(
    {
        "format": "roundledger-federation/1",
        "name": "lockstep",
        "model": {"factory": "mlp"},
        "data": {"classes": ["no", "yes"], "features": ["a"]},
        "training": {"rounds": 9},
        "selection": {"upload_rate": 1},
        "ledger": {"commit_window": WINDOW, "reveal_window": WINDOW, "attest_window": WINDOW, "quorum": 0.6},
    },
    "rules",
)


def account(seat: int) -> LocalAccount:
    made: LocalAccount = Account.from_key(keccak(text=f"lockstep {seat}"))
    return made


def address(seat: int) -> str:
    return str(account(seat).address)


def time_of(net: Devnet, block: str = "latest") -> int:
    return int(net.rpc.call("eth_getBlockByNumber", block, False)["timestamp"], 16)


@dataclass
class Site:
    """A ledger on a chain, and a way back to the moment after its deployment. Only Anvil lets a test decide the time of
    the block to come, which is then the time of estimates and of calls, too.
    """

    net: Devnet
    deployment: Deployment
    snapshot: str = ""

    @classmethod
    def found(cls, net: Devnet) -> "Site":
        for seat in SEATS:
            net.fund(address(seat), 10**21)
        if net.kind == "anvil":
            net.rpc.call("anvil_setBlockTimestampInterval", 1)
        site = cls(net, deploy(net.url, account(OWNER), RULES, GENESIS, "federation.toml"))
        site.snapshot = net.rpc.call("evm_snapshot")
        return site

    @property
    def exact(self) -> bool:
        return self.net.kind == "anvil"

    def restart(self) -> "Lockstep":
        assert self.net.rpc.call("evm_revert", self.snapshot) is True
        self.snapshot = self.net.rpc.call("evm_snapshot")
        return Lockstep(self)


@dataclass
class Lockstep:
    """`step` does one thing on all three; whatever differs fails an assertion."""

    site: Site
    now: int = 0
    block: int = 0
    steps: list[str] = field(default_factory=list)
    refused: int = 0

    def __post_init__(self) -> None:
        net, deployment = self.site.net, self.site.deployment
        self.reader, self.history = LedgerReader(net.rpc, deployment), History()
        self.clients = [LedgerClient(net.url, deployment, account(seat)) for seat in SEATS]
        self.block = deployment.block
        self.now = time_of(net, hex(self.block))
        ledger = RULES.ledger
        windows = (ledger.commit_window, ledger.reveal_window, ledger.attest_window)
        rules = OnChainRules(RULES.digest, GENESIS, *windows, ledger.min_updates, ledger.quorum_bps)
        place = (deployment.chain_id, deployment.address)
        self.contract = Contract(*place, address(OWNER), rules, self.now, self.block)
        self._compare(0)

    # ------------------------------------------------------------- stepping

    def pass_time(self, seconds: int) -> None:
        """The next block is so many seconds after the last one, or later."""
        if self.site.exact:
            self.now = max(self.now, time_of(self.site.net)) + seconds
        else:
            self.site.net.increase_time(seconds)

    def step(self, seat: int, name: str, *values: Any) -> Reverted | None:
        """One call by an account, in the block to come. Returns what it was refused with."""
        known, contract, net = len(self.contract.logs), self.contract, self.site.net
        if self.site.exact:
            self.now = max(self.now, time_of(net) + 1)
            net.rpc.call("evm_setNextBlockTimestamp", self.now)
        skipped = self._skipped(seat, name, *values)
        real = self._really(seat, name, *values)
        if not self.site.exact:
            self.now = getattr(real, "time", time_of(net))
        contract.now, contract.block = self.now, self.reader.block_number()
        model, result = None, None
        try:
            result = getattr(contract, name)(address(seat), *values)
        except Reverted as refusal:
            model = refusal
        self.steps.append(name)
        self.refused += real is not None
        assert (type(real), real) == (type(model), model), f"{name}: {real!r} on the chain, {model!r} in the model"
        if self.site.exact:
            assert skipped == (result if model is None else None)
        self._compare(known)
        return real

    def _skipped(self, seat: int, name: str, *values: Any) -> list[Reverted | None] | None:
        """Of a batch: what the entries would be refused with."""
        if not name.startswith("relay_"):
            return None
        try:
            found: list[Reverted | None] = getattr(self.clients[seat], name.replace("relay_", "check_"))(*values)
        except Reverted:
            return None
        return found

    def _really(self, seat: int, name: str, *values: Any) -> Reverted | None:
        client = self.clients[seat]
        try:
            if hasattr(client, name):
                getattr(client, name)(*values)
            else:  # inherited from OpenZeppelin: no verb of ours
                self._owners_call(seat, name, *values)
        except Reverted as refusal:
            return refusal
        return None

    def _owners_call(self, seat: int, name: str, *values: Any) -> None:
        sender = Sender(self.site.net.url, account(seat))
        sender.send(None, call(self.site.deployment.address, camel_case(name), *values))
        self.clients[seat] = LedgerClient(self.site.net.url, self.site.deployment, account(seat))  # a nonce further

    # ------------------------------------------------------------ comparing

    def _compare(self, known: int) -> None:
        """Logs to the byte, the head, and what the history makes of them."""
        latest = self.reader.block_number()
        logs: list[Log] = list(self.reader.logs(self.block + (known > 0), latest))
        self.block = latest
        assert logs == self.contract.logs[known:]
        for log in logs:
            self.history.apply(log)
        assert self.reader.head(latest) == self.contract.head == self.history.head
        self._compare_state()

    def _compare_state(self) -> None:
        history, contract = self.history, self.contract
        assert (history.owner, history.model) == (contract.owner, contract.model)
        assert (history.pauser, history.paused) == (contract.pauser, contract.paused)
        assert history.registered == contract.registered
        members = {who: (m.number, m.from_round, m.until_round, m.rotated) for who, m in history.members.items()}
        assert members == {who: _membership(member) for who, member in contract.members.items()}
        state, current = contract.state, history.current
        assert len(history.rounds) == state.number
        if current is not None:
            seen = (PHASES[current.phase], len(current.roster), len(current.commits), len(current.reveals))
            assert seen == (state.phase, state.roster, state.commits, state.reveals)

    def compare_views(self) -> None:
        """What the contract answers to who asks it."""
        web3 = Web3(HTTPProvider(self.site.net.url))
        where = web3.to_checksum_address(self.site.deployment.address)
        views = web3.eth.contract(address=where, abi=artifacts.load().abi).functions
        state = self.contract.state
        shown = (state.number, state.phase, state.deadline, state.roster, state.commits, state.reveals)
        assert tuple(views.currentRound().call()) == shown
        for seat in SEATS:
            member = self.contract.member(address(seat))
            seen = tuple(views.participantOf(address(seat)).call())
            assert seen[:4] == _membership(member)
            assert seen[4:] == (member.committed, member.revealed, member.attested, member.seal)


def _membership(member: Member) -> tuple[int, int, int, bool]:
    return member.number, member.from_round, member.until_round, member.rotated


def sign(seat: int, kind: str, deployment: Deployment, deadline: int, values: Sequence[Any]) -> Any:
    """`kind`: commit, attestation or rotation."""
    return getattr(signing, f"sign_{kind}")(account(seat), deployment, *values, deadline)
