"""What the ledger needs of a chain, on every chain that it is tested with: the same calls, errors, logs and heads on
Anvil and on Ganache. Every step is compared with the model of the contract and with the replayed history (`lockstep`).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from chain import artifacts, errors
from chain.devnet import Devnet
from chain.devnet_process import Kind
from chain.protocol.deployment import code_hash
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError
from chain.protocol.events import EMPTY_HEAD, AbortReason, Opening
from chain.protocol.history import History
from chain.protocol.round import FOREVER, Phase
from chain.protocol.seal import Metadata
from chain.reader import LedgerReader
from chain.signing import Signature
from tests.integration.lockstep import GENESIS, OWNER, RULES, WINDOW, Lockstep, Site, address, sign

MODEL, VERDICTS = Digest.of(b"model 1"), b"\1\1\1"
MEMBERS = (1, 2, 3)
LATER = 2**40  # seconds; a deadline of a signature that never comes


@pytest.fixture(scope="module", params=["anvil", "ganache"])
def net(request: pytest.FixtureRequest) -> Iterator[Devnet]:
    kind: Kind = request.param
    with Devnet.start(kind) as net:
        yield net


@pytest.fixture
def site(net: Devnet) -> Site:
    return Site.found(net)


@pytest.fixture
def ledger(site: Site) -> Lockstep:
    """With three participants."""
    found = Lockstep(site)
    for seat in MEMBERS:
        assert found.step(OWNER, "enrol", address(seat)) is None
    return found


def metadata(seat: int, base: Digest = GENESIS) -> Metadata:
    update, root, secret, channels = (
        Digest.of(f"{name} {seat}".encode()) for name in ("update", "root", "key", "table")
    )
    return Metadata(base, update, 100, root, secret, 10, channels, 8, 2, 1 << 100, bytes([seat]) * 32)


def seal(ledger: Lockstep, number: int, seat: int, base: Digest = GENESIS) -> bytes:
    return ledger.contract.seal_of(number, address(seat), metadata(seat, base))


def all_do(ledger: Lockstep, *steps: tuple[Any, ...]) -> None:
    for seat, name, *values in steps:
        assert ledger.step(seat, name, *values) is None


def commit_all(ledger: Lockstep, number: int = 1, base: Digest = GENESIS) -> None:
    all_do(
        ledger, (1, "open", number), *((seat, "commit", number, seal(ledger, number, seat, base)) for seat in MEMBERS)
    )


def reveal_all(ledger: Lockstep, number: int = 1, base: Digest = GENESIS) -> None:
    all_do(ledger, *((seat, "reveal", number, address(seat), metadata(seat, base)) for seat in MEMBERS))


# ------------------------------------------------------------------ deployment


def test_the_record_pins_what_stands_on_the_chain(site: Site) -> None:
    reader, pinned = LedgerReader(site.net.rpc, site.deployment), site.deployment
    reader.check_deployment()
    code = bytes.fromhex(site.net.rpc.call("eth_getCode", pinned.address, "latest")[2:])
    assert artifacts.load().runtime_matches(code)
    assert (pinned.bytecode_hash, pinned.rules, pinned.genesis) == (code_hash(code), RULES.digest, GENESIS)
    history = Lockstep(site).history
    assert history.created is not None
    assert (history.created.chain_id, history.created.ledger) == (pinned.chain_id, pinned.address)
    with pytest.raises(ConfigError, match="no contract at this address"):
        LedgerReader(site.net.rpc, pinned.model_copy(update={"address": address(1)})).check_deployment()


# ------------------------------------------------------------------ membership


def test_membership(ledger: Lockstep) -> None:
    consent = sign(5, "rotation", ledger.site.deployment, LATER, [address(3)])
    all_do(
        ledger,
        (OWNER, "retire", address(2)),
        (OWNER, "enrol", address(2)),
        (3, "rotate", address(5), consent),
        (OWNER, "set_pauser", address(6)),
        (6, "pause"),
        (OWNER, "unpause"),
        (OWNER, "transfer_ownership", address(1)),
        (1, "accept_ownership"),
        (1, "enrol", address(4)),
    )
    members = ledger.history.members
    assert [members[address(seat)].number for seat in (1, 2, 3, 5, 4)] == [1, 2, 3, 3, 4]
    assert (members[address(3)].until_round, members[address(5)].until_round) == (0, FOREVER)
    assert ledger.history.owner == address(1)
    ledger.compare_views()


# ---------------------------------------------------------------- a whole round


def test_a_whole_round(ledger: Lockstep) -> None:
    commit_all(ledger)
    reveal_all(ledger)
    all_do(ledger, (3, "attest", 1, MODEL, VERDICTS), (1, "attest", 1, MODEL, VERDICTS))
    (round_,) = ledger.history.rounds
    assert (round_.phase, round_.outcome, ledger.history.model) == (Phase.FINALIZED, (MODEL, VERDICTS), MODEL)
    assert round_.reveals == {address(seat): metadata(seat) for seat in MEMBERS}
    commit_all(ledger, 2, MODEL)
    ledger.compare_views()


def test_time_ends_every_phase(ledger: Lockstep) -> None:
    all_do(ledger, (1, "open", 1), (1, "commit", 1, seal(ledger, 1, 1)))
    assert isinstance(ledger.step(8, "advance", 1), errors.WindowOpen)
    ledger.pass_time(WINDOW + 5)
    assert isinstance(ledger.step(2, "commit", 1, seal(ledger, 1, 2)), errors.WindowClosed)
    all_do(ledger, (8, "advance", 1))

    commit_all(ledger, 2)
    all_do(ledger, (1, "reveal", 2, address(1), metadata(1)))
    ledger.pass_time(WINDOW + 5)
    all_do(ledger, (8, "advance", 2))

    commit_all(ledger, 3)
    reveal_all(ledger, 3)
    all_do(ledger, (1, "attest", 3, MODEL, VERDICTS))
    ledger.pass_time(WINDOW + 5)
    all_do(ledger, (8, "advance", 3))
    reasons = [round_.abort_reason for round_ in ledger.history.rounds]
    assert reasons == [AbortReason.TOO_FEW_COMMITS, AbortReason.TOO_FEW_REVEALS, AbortReason.NO_QUORUM]
    assert ledger.history.model == GENESIS


def test_the_next_action_closes_a_phase_whose_window_has_passed(ledger: Lockstep) -> None:
    all_do(ledger, (1, "open", 1), *((seat, "commit", 1, seal(ledger, 1, seat)) for seat in (1, 2)))
    assert ledger.step(1, "reveal", 1, address(1), metadata(1)) == errors.WrongPhase(2, 1)
    ledger.pass_time(WINDOW + 5)
    assert ledger.step(1, "attest", 1, MODEL, VERDICTS) == errors.WrongPhase(3, 1)
    assert ledger.step(1, "reveal", 1, address(3), metadata(3)) == errors.NotCommitted(address(3), 1)
    assert isinstance(ledger.step(3, "commit", 1, seal(ledger, 1, 3)), errors.WindowClosed)
    all_do(ledger, *((seat, "reveal", 1, address(seat), metadata(seat)) for seat in (1, 2)))
    all_do(ledger, *((seat, "attest", 1, MODEL, VERDICTS) for seat in (3, 1)))

    commit_all(ledger, 2, MODEL)
    all_do(ledger, *((seat, "reveal", 2, address(seat), metadata(seat, MODEL)) for seat in (1, 2)))
    ledger.pass_time(WINDOW + 5)
    again = Digest.of(b"model 2")
    all_do(ledger, *((seat, "attest", 2, again, VERDICTS) for seat in (3, 1)))
    assert [round_.phase for round_ in ledger.history.rounds] == [Phase.FINALIZED] * 2
    ledger.compare_views()


# ---------------------------------------------------------------------- errors


def test_errors_arrive_with_their_values(ledger: Lockstep) -> None:
    """`step` compares the values with those of the model; here stands that it is these errors."""
    sealed, other = seal(ledger, 1, 1), Digest.of(b"other")
    assert ledger.step(1, "enrol", address(4)) == errors.OwnableUnauthorizedAccount(address(1))
    assert ledger.step(OWNER, "enrol", address(1)) == errors.AlreadyEnrolled(address(1))
    assert ledger.step(OWNER, "retire", address(4)) == errors.NotEnrolled(address(4))
    assert ledger.step(1, "pause") == errors.NotPauser(address(1))
    assert ledger.step(OWNER, "unpause") == errors.NotPaused()
    assert ledger.step(1, "open", 2) == errors.WrongRound(1, 2)
    assert ledger.step(4, "open", 1) == errors.NotParticipant(address(4), 1)
    all_do(ledger, (1, "open", 1))
    assert ledger.step(1, "reveal", 1, address(1), metadata(1)) == errors.WrongPhase(2, 1)
    assert ledger.step(1, "commit", 1, bytes(28)) == errors.ZeroDigest()
    all_do(ledger, (1, "commit", 1, sealed))
    assert ledger.step(1, "commit", 1, sealed) == errors.AlreadyCommitted(address(1), 1)
    all_do(ledger, *((seat, "commit", 1, seal(ledger, 1, seat)) for seat in (2, 3)))
    assert ledger.step(1, "reveal", 1, address(4), metadata(4)) == errors.NotCommitted(address(4), 1)
    assert ledger.step(1, "reveal", 1, address(1), metadata(1, other)) == errors.WrongBaseModel(GENESIS, other)
    forged = replace(metadata(1), records=11)
    mismatch = errors.SealMismatch(sealed, ledger.contract.seal_of(1, address(1), forged))
    assert ledger.step(1, "reveal", 1, address(1), forged) == mismatch
    all_do(ledger, (1, "reveal", 1, address(1), metadata(1)))
    assert ledger.step(2, "reveal", 1, address(1), metadata(1)) == errors.AlreadyRevealed(address(1), 1)
    all_do(ledger, *((seat, "reveal", 1, address(seat), metadata(seat)) for seat in (2, 3)))
    assert ledger.step(1, "attest", 1, MODEL, b"\1\0") == errors.InvalidVerdicts()
    all_do(ledger, (1, "attest", 1, other, VERDICTS))
    assert ledger.step(1, "attest", 1, MODEL, VERDICTS) == errors.AlreadyAttested(address(1), 1)


# ---------------------------------------------------------------------- relays


def test_a_round_by_relay(ledger: Lockstep) -> None:
    """Nobody but the relayer sends anything; what is wrong in a batch is skipped."""
    deployment = ledger.site.deployment
    all_do(ledger, (1, "open", 1))
    commits = [sign(seat, "commit", deployment, LATER, [1, seal(ledger, 1, seat)]) for seat in MEMBERS]
    stranger = sign(4, "commit", deployment, LATER, [1, b"\4" * 28])
    expired = sign(1, "commit", deployment, 1, [1, seal(ledger, 1, 1)])
    broken = replace(commits[0], signature=Signature(LATER, bytes(32), bytes(32)))
    all_do(ledger, (8, "relay_commits", 1, [stranger, expired, broken, *commits[:2], commits[0]]))
    assert list(ledger.history.rounds[0].commits) == [address(1), address(2)]
    refusals = ledger.clients[8].check_commits(1, [stranger, expired, broken, *commits[1:]])
    kinds = (errors.NotParticipant, errors.SignatureExpired, errors.InvalidSignature, errors.AlreadyCommitted)
    assert [type(refusal) for refusal in refusals] == [*kinds, type(None)]
    all_do(ledger, (8, "relay_commits", 1, commits[2:]))

    openings = [Opening(address(seat), metadata(seat)) for seat in MEMBERS]
    all_do(ledger, (8, "relay_reveals", 1, [replace(openings[0], participant=address(4)), *openings]))
    votes = [sign(seat, "attestation", deployment, LATER, [1, MODEL, VERDICTS]) for seat in MEMBERS]
    all_do(ledger, (8, "relay_attestations", 1, MODEL, VERDICTS, votes))
    round_ = ledger.history.rounds[0]
    assert (round_.phase, len(round_.reveals), len(round_.attestations)) == (Phase.FINALIZED, 3, 2)


# --------------------------------------------------------------- logs and heads


def test_every_block_has_the_head_of_its_logs(ledger: Lockstep) -> None:
    """A reader that was away for some blocks can compare the head at any of them."""
    commit_all(ledger)
    reveal_all(ledger)
    history, reader, first = History(), ledger.reader, ledger.site.deployment.block
    assert history.head == EMPTY_HEAD
    for block in range(first, reader.block_number() + 1):
        for log in reader.logs(block, block):
            assert log.block == block
            history.apply(log)
        assert reader.head(block) == history.head
    assert history.head == ledger.history.head
    assert list(reader.logs(first, reader.block_number())) == ledger.contract.logs
