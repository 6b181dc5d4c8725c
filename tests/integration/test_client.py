"""Every verb of the ledger on real chains: what the client sends, what it raises, and that the replayed history is what
the contract says.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3
from web3.contract import Contract

from benchmarks.accuracy import LEDGER_BYTES
from chain import artifacts, errors, reader
from chain.calls import call, creation
from chain.client import LedgerClient
from chain.deploy import deploy
from chain.devnet import Devnet
from chain.devnet_process import Kind
from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, ConfigError, Pending, TrustError, Unavailable
from chain.protocol.events import ZERO_ADDRESS, AbortReason, Opening
from chain.protocol.history import History
from chain.protocol.round import FOREVER, Phase
from chain.protocol.rules import Rules
from chain.protocol.seal import Metadata, domain_separator, seal
from chain.reader import LedgerReader
from chain.rpc import RpcError
from chain.sender import Sender
from chain.signing import sign_attestation, sign_commit, sign_rotation
from tests.integration.harness import ETHER, proxy, wait_for

GENESIS = Digest.of(b"genesis")
WINDOW = 1000  # seconds; far more than a test takes, the chain's clock is moved instead


def rules(**ledger: object) -> Rules:
    document = {
        "format": "roundledger-federation/1",
        "name": "client",
        "model": {"factory": "mlp"},
        "data": {"classes": ["no", "yes"], "features": ["a"]},
        "training": {"rounds": 9},
        "selection": {"upload_rate": 1},
        "ledger": {"commit_window": WINDOW, "reveal_window": WINDOW, "attest_window": WINDOW, **ledger},
    }
    return Rules.parse(document, "rules")


@pytest.fixture(scope="module")
def anvil() -> Iterator[Devnet]:
    """A chain of its own: its clock is moved."""
    with Devnet.start() as net:
        yield net


@pytest.fixture(scope="module")
def ganache() -> Iterator[Devnet]:
    with Devnet.start("ganache") as net:
        yield net


@dataclass
class Ledger:
    """A fresh ledger with its owner and three funded accounts, which are not enrolled yet."""

    net: Devnet
    deployment: Deployment
    owner: LedgerClient
    clients: list[LedgerClient]

    @property
    def history(self) -> History:
        """Replayed, and compared with every view of the contract."""
        reader = LedgerReader(self.net.rpc, self.deployment)
        history, block = History(), reader.block_number()
        for log in reader.logs(self.deployment.block, block):
            history.apply(log)
        assert history.head == reader.head(block)
        self._compare(history)
        return history

    def _compare(self, history: History) -> None:
        views = self.contract.functions
        assert views.head().call() == history.head
        assert views.model().call() == history.model
        assert views.owner().call() == history.owner
        current = history.current
        phases = {Phase.COMMIT: 1, Phase.REVEAL: 2, Phase.ATTEST: 3, Phase.FINALIZED: 0, Phase.ABORTED: 0}
        if current:
            found = (current.number, phases[current.phase], current.deadline, len(current.roster))
            found += (len(current.commits), len(current.reveals))
        assert tuple(views.currentRound().call()) == (found if current else (0,) * 6)
        for client in self.clients:
            number, first, last, *_ = views.participantOf(client.address).call()
            member = history.members.get(client.address)
            expected = (member.number, member.from_round, member.until_round) if member else (0, 0, 0)
            assert (number, first, last) == expected
        for roster in range(8):
            assert views.quorum(roster).call() == history.quorum(roster)

    @property
    def contract(self) -> Contract:
        web3 = Web3(HTTPProvider(self.net.url))
        return web3.eth.contract(address=web3.to_checksum_address(self.deployment.address), abi=artifacts.load().abi)

    def enrol_all(self) -> None:
        for client in self.clients:
            self.owner.enrol(client.address)

    def metadata(self, seat: int, base: Digest = GENESIS) -> Metadata:
        names = ("update", "root", "secret", "channels")
        update, root, secret, channels = (Digest.of(f"{name} {seat}".encode()) for name in names)
        return Metadata(base, update, 100 + seat, root, secret, 10, channels, 8, 2, 1 << 100, bytes([seat]) * 32)

    def sealed(self, number: int, seat: int, metadata: Metadata) -> bytes:
        domain = domain_separator(self.deployment.chain_id, self.deployment.address)
        found = seal(domain, number, self.clients[seat].address, metadata)
        values = tuple(getattr(metadata, name) for name in metadata.__slots__)
        assert self.contract.functions.sealOf(number, self.clients[seat].address, values).call() == found
        return found

    def commit_all(self, number: int, base: Digest = GENESIS) -> None:
        for seat, client in enumerate(self.clients):
            client.commit(number, self.sealed(number, seat, self.metadata(seat, base)))

    def reveal_all(self, number: int, base: Digest = GENESIS) -> None:
        for seat, client in enumerate(self.clients):
            client.reveal(number, client.address, self.metadata(seat, base))


def account(net: Devnet) -> LocalAccount:
    made: LocalAccount = Account.create()
    net.fund(made.address, 10 * ETHER)
    return made


def make_ledger(net: Devnet, **ledger: object) -> Ledger:
    owner = account(net)
    deployment = deploy(net.url, owner, rules(**ledger), GENESIS, "federation.toml")
    clients = [LedgerClient(net.url, deployment, account(net)) for _ in range(3)]
    return Ledger(net, deployment, LedgerClient(net.url, deployment, owner), clients)


@pytest.fixture
def ledger(anvil: Devnet) -> Ledger:
    return make_ledger(anvil)


@pytest.fixture(params=["anvil", "ganache"])
def either(request: pytest.FixtureRequest) -> Ledger:
    kind: Kind = request.param
    return make_ledger(request.getfixturevalue(kind))


# ----------------------------------------------------------------- the verbs


def test_rounds_history_is_what_the_contract_says_after_every_step(either: Ledger) -> None:
    ledger, clients = either, either.clients
    assert ledger.history.members == {}
    ledger.enrol_all()
    assert [m.number for m in ledger.history.members.values()] == [1, 2, 3]

    clients[0].open(1)
    assert ledger.history.current is not None
    for seat, client in enumerate(clients):
        client.commit(1, ledger.sealed(1, seat, ledger.metadata(seat)))
        assert client.address in ledger.history.rounds[0].commits
    assert ledger.history.rounds[0].phase is Phase.REVEAL  # closed early
    clients[0].reveal(1, clients[2].address, ledger.metadata(2))  # anybody may bring it
    for seat in (0, 1):
        assert ledger.history.rounds[0].phase is Phase.REVEAL
        clients[seat].reveal(1, clients[seat].address, ledger.metadata(seat))
    assert ledger.history.rounds[0].reveals == {c.address: ledger.metadata(s) for s, c in enumerate(clients)}
    model = Digest.of(b"model 1")
    clients[2].attest(1, model, b"\1\1\1")
    assert ledger.history.rounds[0].phase is Phase.ATTEST
    clients[1].attest(1, model, b"\1\1\1")
    assert ledger.history.rounds[0].outcome == (model, b"\1\1\1")
    assert ledger.history.model == model

    ledger.owner.retire(clients[2].address)
    assert ledger.history.members[clients[2].address].until_round == 1
    clients[1].open(2)
    assert set(ledger.history.rounds[1].roster) == {clients[0].address, clients[1].address}
    ledger.owner.enrol(clients[2].address)  # from round 3 on
    assert ledger.history.members[clients[2].address].from_round == 3
    ledger.net.increase_time(WINDOW)
    anybody = Sender(ledger.net.url, account(ledger.net))
    anybody.send(None, call(ledger.deployment.address, "advance", 2))
    assert ledger.history.rounds[1].abort_reason is AbortReason.TOO_FEW_COMMITS

    clients[2].open(3)
    ledger.commit_all(3, model)
    clients[0].reveal(3, clients[0].address, ledger.metadata(0, model))
    ledger.net.increase_time(WINDOW)
    clients[0].advance(3)
    assert ledger.history.rounds[2].abort_reason is AbortReason.TOO_FEW_REVEALS

    clients[0].open(4)
    ledger.commit_all(4, model)
    ledger.reveal_all(4, model)
    for seat, client in enumerate(clients):
        client.attest(4, Digest.of(b"%d" % seat), b"\1\1\1")
        assert len(ledger.history.rounds[3].attestations) == seat + 1
    ledger.net.increase_time(WINDOW)
    clients[0].advance(4)
    assert ledger.history.rounds[3].abort_reason is AbortReason.NO_QUORUM
    assert ledger.history.model == model


def test_phases_close_late_with_whoever_came(ledger: Ledger) -> None:
    ledger.enrol_all()
    first, second, _ = ledger.clients
    first.open(1)
    for seat, client in ((0, first), (1, second)):
        client.commit(1, ledger.sealed(1, seat, ledger.metadata(seat)))
    ledger.net.increase_time(WINDOW)
    first.advance(1)
    assert ledger.history.rounds[0].phase is Phase.REVEAL
    first.reveal(1, first.address, ledger.metadata(0))
    second.reveal(1, second.address, ledger.metadata(1))
    assert ledger.history.rounds[0].phase is Phase.ATTEST


def test_advance_works_as_soon_as_the_window_has_passed() -> None:
    """Nobody moves the clock, and no other transaction brings a new block. (Ganache estimates at the time of its last
    block: there it takes another transaction first.)
    """
    with Devnet.start() as net:
        ledger = make_ledger(net, commit_window=1)
        ledger.enrol_all()
        ledger.clients[0].open(1)
        deadline = ledger.history.rounds[0].deadline
        wait_for(lambda: time.time() > deadline, 10)
        ledger.clients[1].advance(1)
        assert ledger.history.rounds[0].abort_reason is AbortReason.TOO_FEW_COMMITS


def test_bytes_of_a_participants_transactions_are_what_the_benchmarks_say(ledger: Ledger) -> None:
    ledger.enrol_all()
    client, metadata = ledger.clients[0], ledger.metadata(0)
    client.open(1)
    ledger.commit_all(1)
    receipts = [client.reveal(1, client.address, metadata)]
    for seat in (1, 2):
        ledger.clients[seat].reveal(1, ledger.clients[seat].address, ledger.metadata(seat))
    receipts.append(client.attest(1, Digest.of(b"model"), b"\1\1\1"))
    ledger.clients[1].attest(1, Digest.of(b"model"), b"\1\1\1")
    client.open(2)
    receipts.append(client.commit(2, ledger.sealed(2, 0, ledger.metadata(0, Digest.of(b"model")))))
    raw = [ledger.net.rpc.call("eth_getRawTransactionByHash", receipt.transaction) for receipt in receipts]
    sizes = [len(bytes.fromhex(text.removeprefix("0x"))) for text in raw]
    assert 0.98 * LEDGER_BYTES <= sum(sizes) <= LEDGER_BYTES, sizes


def test_receipt_says_block_and_gas(ledger: Ledger) -> None:
    receipt = ledger.owner.enrol(ledger.clients[0].address)
    found = ledger.net.rpc.call("eth_getTransactionReceipt", receipt.transaction)
    assert (int(found["blockNumber"], 16), int(found["gasUsed"], 16)) == (receipt.block, receipt.gas_used)
    assert receipt.contract is None


def test_deployment_is_what_the_chain_says(ledger: Ledger) -> None:
    reader = LedgerReader(ledger.net.rpc, ledger.deployment)
    reader.check_deployment()
    created = ledger.history.created
    assert created is not None
    assert (created.chain_id, created.ledger) == (ledger.deployment.chain_id, ledger.deployment.address)
    assert str(created.rules.rules_digest) == ledger.deployment.rules_digest == str(rules().digest)
    assert tuple(ledger.contract.functions.rules().call()) == (
        bytes(rules().digest), bytes(GENESIS), WINDOW, WINDOW, WINDOW, 2, 6600,
    )  # fmt: skip


# ----------------------------------------------------------------- the errors


def raised(expected: errors.Reverted, call: Callable[[], object]) -> None:
    with pytest.raises(errors.Reverted) as caught:
        call()
    assert caught.value == expected
    assert type(expected).__name__ in str(caught.value)


def test_errors_of_membership(either: Ledger) -> None:
    ledger, (first, second, third) = either, either.clients
    ledger.owner.enrol(first.address)
    raised(errors.AlreadyEnrolled(first.address), lambda: ledger.owner.enrol(first.address))
    raised(errors.NotEnrolled(second.address), lambda: ledger.owner.retire(second.address))
    raised(errors.OwnableUnauthorizedAccount(first.address), lambda: first.enrol(second.address))
    raised(errors.OwnableUnauthorizedAccount(third.address), lambda: third.retire(first.address))
    raised(errors.NotParticipant(second.address, 1), lambda: second.open(1))
    raised(errors.TooFewParticipants(2, 1), lambda: first.open(1))
    ledger.owner.retire(first.address)
    raised(errors.NotEnrolled(first.address), lambda: ledger.owner.retire(first.address))


def test_errors_of_a_round(either: Ledger) -> None:
    ledger, (first, second, third) = either, either.clients
    ledger.enrol_all()
    raised(errors.WrongRound(1, 2), lambda: first.open(2))
    raised(errors.WrongRound(0, 1), lambda: first.commit(1, bytes([1]) * 28))
    first.open(1)
    raised(errors.WrongPhase(0, 1), lambda: second.open(2))
    deadline = ledger.history.rounds[0].deadline

    with pytest.raises(errors.WindowOpen) as early:
        second.advance(1)
    assert early.value.deadline == deadline > early.value.time >= deadline - WINDOW
    raised(errors.WrongRound(1, 7), lambda: second.advance(7))
    raised(errors.ZeroDigest(), lambda: first.commit(1, bytes(28)))
    raised(errors.OwnableUnauthorizedAccount(first.address), lambda: first.enrol(first.address))
    raised(errors.NotParticipant(ledger.owner.address, 1), lambda: ledger.owner.commit(1, bytes([1]) * 28))
    metadata = ledger.metadata(0)
    first.commit(1, ledger.sealed(1, 0, metadata))
    raised(errors.AlreadyCommitted(first.address, 1), lambda: first.commit(1, bytes([1]) * 28))
    raised(errors.WrongPhase(2, 1), lambda: first.reveal(1, first.address, metadata))
    raised(errors.WrongPhase(3, 1), lambda: first.attest(1, GENESIS, b"\1"))
    stolen = ledger.sealed(1, 0, metadata)
    second.commit(1, stolen)
    ledger.net.increase_time(WINDOW)
    with pytest.raises(errors.WindowClosed) as late:
        third.commit(1, bytes([1]) * 28)
    assert late.value.deadline == deadline <= late.value.time
    third.advance(1)

    other = replace(metadata, base_model=Digest.of(b"another"))
    raised(errors.WrongBaseModel(GENESIS, other.base_model), lambda: first.reveal(1, first.address, other))
    forged = replace(metadata, threshold=0)
    raised(
        errors.SealMismatch(stolen, ledger.sealed(1, 0, forged)), lambda: first.reveal(1, first.address, forged)
    )  # the sealed value first, then what this metadata gives
    raised(
        errors.SealMismatch(stolen, ledger.sealed(1, 1, metadata)), lambda: second.reveal(1, second.address, metadata)
    )  # a copied seal cannot be opened
    raised(errors.NotCommitted(third.address, 1), lambda: third.reveal(1, third.address, ledger.metadata(2)))
    first.reveal(1, first.address, metadata)
    raised(errors.AlreadyRevealed(first.address, 1), lambda: third.reveal(1, first.address, metadata))


def test_errors_of_attestations(either: Ledger) -> None:
    ledger, (first, second, third) = either, either.clients
    ledger.enrol_all()
    first.open(1)
    ledger.commit_all(1)
    ledger.reveal_all(1)
    raised(errors.ZeroDigest(), lambda: first.attest(1, Digest(bytes(32)), b"\1"))
    for verdicts in (b"", b"\1\0", b"\0", b"\1\1\1\1"):
        raised(errors.InvalidVerdicts(), lambda verdicts=verdicts: first.attest(1, GENESIS, verdicts))  # type: ignore[misc]
    first.attest(1, GENESIS, b"\1\1\1")
    raised(errors.AlreadyAttested(first.address, 1), lambda: first.attest(1, GENESIS, b"\1\1\1"))
    raised(errors.NotParticipant(ledger.owner.address, 1), lambda: ledger.owner.attest(1, GENESIS, b"\1\1\1"))
    second.attest(1, GENESIS, b"\1\1\1")
    raised(errors.WrongPhase(3, 0), lambda: third.attest(1, GENESIS, b"\1\1\1"))
    raised(errors.WrongPhase(1, 0), lambda: third.advance(1))


@pytest.mark.parametrize("kind", ["anvil", "ganache"])
def test_errors_of_the_constructor(kind: str, request: pytest.FixtureRequest) -> None:
    net: Devnet = request.getfixturevalue(kind)
    owner = account(net)
    sender = Sender(net.url, owner)
    good = [b"\1" * 32, b"\2" * 32, 60, 60, 60, 2, 6600]
    names = ["rulesDigest", "genesisModel", "commitWindow", "revealWindow", "attestWindow", "minUpdates", "quorumBps"]
    for at, name in enumerate(names):
        wrong = [*good[:at], bytes(32) if at < 2 else 0, *good[at + 1 :]]
        with pytest.raises(errors.InvalidRules) as caught:
            sender.send(None, creation(owner.address, tuple(wrong)))
        assert caught.value.field == name.encode()
        assert str(caught.value) == f"the ledger refused: InvalidRules(field={name})"
    for bps in (5000, 10_001):
        raised(
            errors.InvalidRules(b"quorumBps"),
            lambda bps=bps: sender.send(None, creation(owner.address, (*good[:6], bps))),  # type: ignore[misc]
        )
    zero = "0x" + "0" * 40
    raised(errors.OwnableInvalidOwner(zero), lambda: sender.send(None, creation(zero, tuple(good))))


# ---------------------------------------------------------------- the account


def test_many_threads_one_account_no_gap_no_duplicate(ledger: Ledger) -> None:
    """(Not on Ganache, which now and then never answers one of many simultaneous estimates.)"""
    net, client = ledger.net, ledger.owner
    before = int(net.rpc.call("eth_getTransactionCount", client.address, "latest"), 16)
    strangers = [Account.create().address for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        receipts = list(pool.map(client.enrol, strangers))
    transactions = [net.rpc.call("eth_getTransactionByHash", receipt.transaction) for receipt in receipts]
    assert sorted(int(found["nonce"], 16) for found in transactions) == list(range(before, before + 20))
    assert {member.number for member in ledger.history.members.values()} == set(range(1, 21))
    assert set(ledger.history.members) == set(strangers)


def test_many_threads_refusals_leave_no_gap(ledger: Ledger) -> None:
    """Half of the calls are refused: the others still get through, and so does the next."""
    strangers = [Account.create().address for _ in range(5)] * 4

    def enrol(address: str) -> str:
        try:
            return ledger.owner.enrol(address).transaction
        except errors.AlreadyEnrolled:
            return ""

    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(enrol, strangers))
    assert sum(map(bool, done)) == 5
    ledger.enrol_all()
    assert len(ledger.history.members) == 8


def test_two_programs_with_one_account_get_along(ledger: Ledger) -> None:
    other = LedgerClient(ledger.net.url, ledger.deployment, ledger.owner._sender.signer)
    addresses = [Account.create().address for _ in range(4)]
    for address, client in zip(addresses, (ledger.owner, other, ledger.owner, other), strict=True):
        client.enrol(address)
    assert set(ledger.history.members) == set(addresses)


@pytest.mark.parametrize("wei", [0, 1000])
def test_account_that_cannot_pay_is_a_usage_error(either: Ledger, wei: int) -> None:
    poor: LocalAccount = Account.create()
    either.owner.enrol(poor.address)
    either.owner.enrol(either.clients[0].address)
    either.net.fund(poor.address, wei)
    client = LedgerClient(either.net.url, either.deployment, poor)
    with pytest.raises(ConfigError, match="not enough funds") as caught:
        client.open(1)
    assert caught.value.where == poor.address
    either.net.fund(poor.address, ETHER)
    client.open(1)
    assert either.history.rounds[0].number == 1


def test_transaction_that_is_not_mined_is_pending_and_the_next_one_works(ledger: Ledger) -> None:
    sender, address = Sender(ledger.net.url, ledger.owner._sender.signer, timeout=0.5), ledger.deployment.address
    addresses = [client.address for client in ledger.clients]
    ledger.net.rpc.call("evm_setAutomine", False)
    try:
        with pytest.raises(Pending, match="is not mined"):
            sender.send(None, call(address, "enrol", addresses[0]))
    finally:
        ledger.net.rpc.call("evm_setAutomine", True)
    ledger.net.rpc.call("evm_mine")
    sender.send(None, call(address, "enrol", addresses[1]))
    assert set(ledger.history.members) == set(addresses[:2])


def test_server_down_is_unavailable(ledger: Ledger) -> None:
    client = LedgerClient("http://127.0.0.1:1", ledger.deployment, account(ledger.net))
    with pytest.raises(Unavailable) as caught:
        client.open(1)
    assert "\n" not in str(caught.value)


def test_errors_do_not_show_the_key_of_a_hosted_server(ledger: Ledger) -> None:
    client = LedgerClient("http://127.0.0.1:1/v3/SECRETKEY", ledger.deployment, account(ledger.net))
    with pytest.raises(Unavailable) as caught:
        client.open(1)
    assert "SECRETKEY" not in str(caught.value)


# ------------------------------------------------------------------ relaying, keys, pauses


def test_a_round_that_one_account_relays(either: Ledger) -> None:
    """Three participants without a transaction of their own in the round; one of them under its second key."""
    ledger, relayer = either, either.owner
    keys = [client._sender.signer for client in ledger.clients]
    ledger.enrol_all()
    now = int(ledger.net.rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    new_key, deadline = account(ledger.net), now + 100_000
    consent = sign_rotation(new_key, ledger.deployment, keys[2].address, deadline)
    stranger = sign_rotation(keys[0], ledger.deployment, keys[2].address, deadline)
    raised(errors.InvalidSignature(), lambda: ledger.clients[2].rotate(new_key.address, stranger))
    ledger.clients[2].rotate(new_key.address, consent)
    ledger.clients[2] = LedgerClient(ledger.net.url, ledger.deployment, new_key)
    keys[2] = new_key
    ledger.clients[0].open(1)

    metadata = [ledger.metadata(seat) for seat in range(3)]
    seals = [ledger.sealed(1, seat, metadata[seat]) for seat in range(3)]
    commits = [
        sign_commit(key, ledger.deployment, 1, sealed, deadline) for key, sealed in zip(keys, seals, strict=True)
    ]
    late = sign_commit(keys[1], ledger.deployment, 1, seals[1], now - 1)
    entries = [commits[0], late, commits[0], *commits[1:]]
    found = relayer.check_commits(1, entries)
    assert isinstance(found[1], errors.SignatureExpired) and found[2] == errors.AlreadyCommitted(keys[0].address, 1)
    assert [found[0], *found[3:]] == [None] * 3
    relayer.relay_commits(1, entries)

    reveals = [Opening(key.address, item) for key, item in zip(keys, metadata, strict=True)]
    forged = Opening(keys[0].address, replace(metadata[0], threshold=0))
    assert isinstance(relayer.check_reveals(1, [forged])[0], errors.SealMismatch)
    relayer.relay_reveals(1, [forged, *reveals])

    model = Digest.of(b"model")
    votes = [sign_attestation(key, ledger.deployment, 1, model, b"\1\1\1", deadline) for key in keys]
    assert relayer.check_attestations(1, model, b"\1\1\1", votes)[2] == errors.WrongPhase(3, 0)
    relayer.relay_attestations(1, model, b"\1\1\1", votes)
    round_ = ledger.history.rounds[0]
    assert round_.outcome == (model, b"\1\1\1")
    assert round_.roster == {key.address: seat + 1 for seat, key in enumerate(keys)}


def test_pauses_and_the_successor(either: Ledger) -> None:
    ledger, (first, second, _) = either, either.clients
    ledger.enrol_all()
    raised(errors.NotPauser(second.address), second.pause)
    ledger.owner.set_pauser(second.address)
    second.pause()
    raised(errors.AlreadyPaused(), lambda: first.open(1))
    ledger.owner.unpause()
    raised(errors.NotPaused(), second.unpause)
    first.open(1)
    raised(errors.ZeroAddress(), lambda: ledger.owner.set_successor(ZERO_ADDRESS))
    ledger.owner.set_successor(first.address)
    raised(errors.HasSuccessor(first.address), lambda: ledger.owner.set_successor(second.address))
    ledger.net.increase_time(WINDOW)
    second.advance(1)
    raised(errors.HasSuccessor(first.address), lambda: first.open(2))
    history = ledger.history
    assert (history.pauser, history.paused, history.successor) == (second.address, False, first.address)


# ------------------------------------------------------------------ the reader


def test_reader_logs_equal_those_of_web3(either: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    either.enrol_all()
    either.clients[0].open(1)
    either.commit_all(1)
    either.reveal_all(1)
    for client in either.clients[:2]:
        client.attest(1, Digest.of(b"model"), b"\1\1\1")
    reader_ = LedgerReader(either.net.rpc, either.deployment)
    last = reader_.block_number()
    address = Web3.to_checksum_address(either.deployment.address)
    theirs = Web3(HTTPProvider(either.net.url)).eth.get_logs(
        {"address": address, "fromBlock": either.deployment.block, "toBlock": last}
    )
    expected = [(tuple(map(bytes, log["topics"])), bytes(log["data"]), log["blockNumber"]) for log in theirs]
    assert len(expected) == 18
    for window in (1, 3, 2000):
        monkeypatch.setattr(reader, "WINDOW", window)
        ours = [(log.topics, log.data, log.block) for log in reader_.logs(either.deployment.block, last)]
        assert ours == expected


def test_reader_head_of_an_old_block(ledger: Ledger) -> None:
    before = LedgerReader(ledger.net.rpc, ledger.deployment)
    block = before.block_number()
    head = before.head(block)
    ledger.enrol_all()
    assert before.head(block) == head != before.head(before.block_number())


def test_reader_server_that_refuses_is_unavailable(ledger: Ledger) -> None:
    def refuse(method: str, params: list[Any], result: Any) -> Any:
        if method in ("eth_getLogs", "eth_call"):
            raise RpcError(method, -32000, "not now")
        return result

    with proxy(ledger.net.url, refuse) as url:
        from chain.rpc import Rpc

        refused = LedgerReader(Rpc(url), ledger.deployment)
        with pytest.raises(Unavailable, match="not now") as caught:
            list(refused.logs(ledger.deployment.block, ledger.deployment.block + 9))
        assert caught.value.code is Code.L2
        with pytest.raises(Unavailable, match="not now"):
            refused.head(ledger.deployment.block)


def test_check_deployment_tells_a_wrong_server_from_a_wrong_contract(ledger: Ledger, anvil: Devnet) -> None:
    def check(**values: object) -> None:
        LedgerReader(ledger.net.rpc, ledger.deployment.model_copy(update=values)).check_deployment()

    check()
    with pytest.raises(ConfigError, match="wrong chain id"):
        check(chain_id=5)
    with pytest.raises(ConfigError, match="no contract at this address"):
        check(address=ledger.clients[0].address)
    with pytest.raises(TrustError, match="genesis block"):
        check(genesis_block="0x" + "0" * 64)
    with pytest.raises(TrustError, match="bytecode"):
        check(address=make_ledger(anvil).deployment.address)


def test_members_never_enrolled_twice_keep_their_number(ledger: Ledger) -> None:
    """Retired before any round and enrolled again: the same number, from round 1 on."""
    ledger.enrol_all()
    ledger.owner.retire(ledger.clients[1].address)
    ledger.owner.enrol(ledger.clients[1].address)
    member = ledger.history.members[ledger.clients[1].address]
    assert (member.number, member.from_round, member.until_round) == (2, 1, FOREVER)
