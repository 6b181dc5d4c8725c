"""The replay of histories: legal ones pass, and every illegal transition has the code it must have."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from eth_abi.abi import encode as abi_encode
from eth_utils.address import to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.protocol import abi
from chain.protocol import events as ev
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from chain.protocol.history import History
from chain.protocol.round import FOREVER, Phase
from chain.protocol.seal import Metadata, domain_separator, seal

OWNER, LEDGER, STRANGER = (to_checksum_address(bytes([number]) * 20) for number in (0xEE, 0xCC, 0xDD))
CHAIN_ID, START, WINDOW = 31337, 1000, 100
GENESIS = Digest.of(b"genesis")
RULES = ev.OnChainRules(Digest.of(b"rules"), GENESIS, WINDOW, WINDOW + 1, WINDOW + 2, min_updates=2, quorum_bps=6600)
ALL = b"\x01\x01\x01"
DOMAIN = domain_separator(CHAIN_ID, LEDGER)


def who(number: int) -> str:
    return to_checksum_address(bytes([number]) * 20)


def model(number: int) -> Digest:
    return Digest.of(f"model {number}".encode())


def log_of(event: ev.Event, block: int = 1) -> ev.Log:
    """The log that the contract would emit, encoded by eth_abi."""
    values = [(kind, plain(getattr(event, name))) for name, _, kind in abi.solidity_fields(type(event))]
    indexed = ev.INDEXED[type(event)]
    topics = tuple(abi_encode([kind], [value]) for kind, value in values[:indexed])
    rest = values[indexed:]
    data = abi_encode([kind for kind, _ in rest], [value for _, value in rest])
    return ev.Log((abi.selector(type(event)), *topics), data, block)


def plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return tuple(map(plain, dataclasses.astuple(value)))  # type: ignore[arg-type]
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def replay(events: Iterable[ev.Event]) -> History:
    history = History()
    for block, event in enumerate(events):
        history.apply(log_of(event, block))
    return history


class World:
    """A ledger in the making: every method adds the event that the contract would emit at this time."""

    def __init__(self, members: int = 3) -> None:
        self.time, self.round, self.model = START, 0, GENESIS
        self.deadline = 0
        self.events: list[ev.Event] = [ev.OwnershipTransferred(ev.ZERO_ADDRESS, OWNER)]
        self.events.append(ev.Created(ev.VERSION, CHAIN_ID, LEDGER, RULES, self.time))
        self.proposals: set[bytes] = set()
        for number in range(1, members + 1):
            self.add(self.enrolled(number))

    def add(self, *events: ev.Event) -> "World":
        self.events += events
        return self

    def wait(self, seconds: int) -> "World":
        self.time += seconds
        return self

    def wait_for_deadline(self) -> "World":
        self.time = self.deadline
        return self

    # The legal next event, not yet added.

    def enrolled(self, number: int, **changed: Any) -> ev.Event:
        return dataclasses.replace(ev.Enrolled(who(number), number, self.round + 1, self.time), **changed)

    def retired(self, number: int, **changed: Any) -> ev.Event:
        return dataclasses.replace(ev.Retired(who(number), self.round, self.time), **changed)

    def opened(self, roster: int = 3, **changed: Any) -> ev.Event:
        event = ev.Opened(self.round + 1, self.model, roster, self.time + RULES.commit_window, self.time)
        return dataclasses.replace(event, **changed)

    def metadata(self, number: int, salt: bytes = b"s" * 32) -> Metadata:
        digest = Digest.of(bytes([number]))
        return Metadata(self.model, digest, 100, digest, digest, 10, digest, 8, 4, 77, salt)

    def committed(self, number: int, **changed: Any) -> ev.Event:
        sealed = seal(DOMAIN, self.round, who(number), self.metadata(number))
        return dataclasses.replace(ev.Committed(self.round, who(number), sealed, self.time), **changed)

    def commits_closed(self, commits: int = 3, **changed: Any) -> ev.Event:
        event = ev.CommitsClosed(self.round, commits, self.time + RULES.reveal_window, self.time)
        return dataclasses.replace(event, **changed)

    def revealed(self, number: int, **changed: Any) -> ev.Event:
        return dataclasses.replace(ev.Revealed(self.round, who(number), self.metadata(number), self.time), **changed)

    def reveals_closed(self, reveals: int = 3, **changed: Any) -> ev.Event:
        event = ev.RevealsClosed(self.round, reveals, self.time + RULES.attest_window, self.time)
        return dataclasses.replace(event, **changed)

    def outcome(self, new_model: Digest | None = None, verdicts: bytes = ALL) -> bytes:
        return ev.outcome(self.round, new_model or model(self.round), verdicts)

    def proposed(self, new_model: Digest | None = None, verdicts: bytes = ALL, **changed: Any) -> ev.Event:
        digest = new_model or model(self.round)
        outcome = self.outcome(digest, verdicts)
        return dataclasses.replace(ev.Proposed(self.round, outcome, digest, self.time, verdicts), **changed)

    def attested(self, number: int, new_model: Digest | None = None, verdicts: bytes = ALL, **changed: Any) -> ev.Event:
        event = ev.Attested(self.round, who(number), self.outcome(new_model, verdicts), self.time)
        return dataclasses.replace(event, **changed)

    # The same by a relayer.

    def commits_relayed(self, *numbers: int, **changed: Any) -> ev.Event:
        items = tuple(
            ev.Sealing(who(number), seal(DOMAIN, self.round, who(number), self.metadata(number))) for number in numbers
        )
        return dataclasses.replace(ev.CommitsRelayed(self.round, self.time, items), **changed)

    def reveals_relayed(self, *numbers: int, **changed: Any) -> ev.Event:
        items = tuple(ev.Opening(who(number), self.metadata(number)) for number in numbers)
        return dataclasses.replace(ev.RevealsRelayed(self.round, self.time, items), **changed)

    def attestations_relayed(self, *numbers: int, **changed: Any) -> ev.Event:
        event = ev.AttestationsRelayed(self.round, self.outcome(), self.time, tuple(map(who, numbers)))
        return dataclasses.replace(event, **changed)

    # Keys, pauses, the successor.

    def rotated(self, old: int, new: int, **changed: Any) -> ev.Event:
        return dataclasses.replace(ev.Rotated(who(old), who(new), old, self.round + 1, self.time), **changed)

    def pauser_named(self, pauser: str) -> ev.Event:
        return ev.PauserChanged(pauser, self.time)

    def paused(self, pauser: str) -> ev.Event:
        return ev.Paused(pauser, self.time)

    def unpaused(self, account: str) -> ev.Event:
        return ev.Unpaused(account, self.time)

    def succeeded(self, successor: str) -> ev.Event:
        return ev.Succeeded(successor, self.time)

    def finalized(self, attestations: int = 2, **changed: Any) -> ev.Event:
        return dataclasses.replace(ev.Finalized(self.round, model(self.round), attestations, self.time), **changed)

    def aborted(self, reason: int, **changed: Any) -> ev.Event:
        return dataclasses.replace(ev.Aborted(self.round, reason, self.time), **changed)

    # Whole phases, added.

    def open(self, roster: int = 3) -> "World":
        self.add(self.opened(roster))
        self.round += 1
        self.deadline = self.time + RULES.commit_window
        return self

    def commit(self, *numbers: int) -> "World":
        return self.add(*(self.committed(number) for number in numbers))

    def close_commits(self, commits: int = 3) -> "World":
        self.add(self.commits_closed(commits))
        self.deadline = self.time + RULES.reveal_window
        return self

    def reveal(self, *numbers: int) -> "World":
        return self.add(*(self.revealed(number) for number in numbers))

    def close_reveals(self, reveals: int = 3) -> "World":
        self.add(self.reveals_closed(reveals))
        self.deadline = self.time + RULES.attest_window
        return self

    def attest(self, *numbers: int, new_model: Digest | None = None, verdicts: bytes = ALL) -> "World":
        outcome = self.outcome(new_model, verdicts)
        if outcome not in self.proposals:
            self.proposals.add(outcome)
            self.add(self.proposed(new_model, verdicts))
        return self.add(*(self.attested(number, new_model, verdicts) for number in numbers))

    def finalize(self, attestations: int = 2) -> "World":
        self.add(self.finalized(attestations))
        self.model = model(self.round)
        return self

    def refuses(self, event: ev.Event, code: Code) -> None:
        """What came so far is legal, and `event` after it is not."""
        history = replay(self.events)
        with pytest.raises(VerificationError) as caught:
            history.apply(log_of(event))
        assert caught.value.code == code, str(caught.value)

    def accepts(self, event: ev.Event) -> History:
        return replay([*self.events, event])


def in_commit() -> World:
    return World().open()


def in_reveal() -> World:
    return in_commit().commit(1, 2, 3).close_commits()


def in_attest() -> World:
    return in_reveal().reveal(1, 2, 3).close_reveals()


def after_round_one() -> World:
    return in_attest().wait(1).attest(1, 2).finalize()


def paused() -> World:
    world = World()
    return world.add(world.pauser_named(STRANGER), world.paused(STRANGER))


def rotating() -> World:
    """Member 3 hands its number to the address of 5, in the first round."""
    world = in_commit()
    return world.add(world.rotated(3, 5))


def long_history() -> World:
    """Everything that can happen: three ways to abort, no-shows, a dissenter, members who go and come back, one that
    rotates its key, a pause, a relayed round, the successor.
    """
    world = after_round_one().wait(5)
    world.add(world.enrolled(4), world.retired(3), ev.OwnershipTransferStarted(OWNER, STRANGER))
    world.add(ev.OwnershipTransferred(OWNER, STRANGER))
    world.open().wait(3).commit(1).wait_for_deadline()
    world.add(world.aborted(ev.AbortReason.TOO_FEW_COMMITS))
    world.wait(1).open().commit(4, 2).wait_for_deadline().close_commits(2).reveal(2)
    world.wait_for_deadline().add(world.aborted(ev.AbortReason.TOO_FEW_REVEALS))
    world.add(world.enrolled(3)).open(4).commit(1, 2, 3).wait_for_deadline().close_commits()
    world.reveal(3, 1).wait_for_deadline().close_reveals(2)
    world.attest(4, 2).attest(3, new_model=Digest.of(b"another"))
    world.wait_for_deadline().add(world.aborted(ev.AbortReason.NO_QUORUM))
    world.open(4).commit(1, 2, 3, 4).close_commits(4).reveal(4, 3, 2, 1).close_reveals(4)
    world.attest(1).attest(2, verdicts=b"\x01\x03").attest(3, 4).finalize(3)
    world.add(world.rotated(4, 9), world.pauser_named(STRANGER), world.paused(STRANGER), world.unpaused(STRANGER))
    world.open(4).add(world.commits_relayed(1, 2, 9)).commit(3).close_commits(4)
    world.add(world.succeeded(LEDGER), world.reveals_relayed(9, 1), world.revealed(3), world.revealed(2))
    world.close_reveals(4).add(world.proposed(), world.attestations_relayed(2, 9, 3))
    return world.finalize(3)


# ---------------------------------------------------------------------- legal


def test_a_full_round_finalizes() -> None:
    history = replay(after_round_one().events)
    (round_,) = history.finalized
    assert history.current is round_ and round_.phase is Phase.FINALIZED and not round_.is_open
    assert round_.outcome == (model(1), b"\x01\x01\x01") and history.model == model(1)
    assert round_.roster == {who(1): 1, who(2): 2, who(3): 3}
    assert list(round_.reveals) == [who(1), who(2), who(3)] and list(round_.attestations) == [who(1), who(2)]
    assert (round_.opened, round_.closed) == (START, START + 1)
    assert history.events == len(after_round_one().events) and history.owner == OWNER


def test_a_long_history_is_legal() -> None:
    history = replay(long_history().events)
    assert [round_.phase for round_ in history.rounds] == [
        Phase.FINALIZED,
        Phase.ABORTED,
        Phase.ABORTED,
        Phase.ABORTED,
        Phase.FINALIZED,
        Phase.FINALIZED,
    ]
    assert [round_.abort_reason for round_ in history.rounds] == [
        None,
        ev.AbortReason.TOO_FEW_COMMITS,
        ev.AbortReason.TOO_FEW_REVEALS,
        ev.AbortReason.NO_QUORUM,
        None,
        None,
    ]
    assert {round_.base_model for round_ in history.rounds[1:5]} == {model(1)}
    assert history.rounds[2].no_shows == [who(4)] and history.rounds[3].no_shows == [who(2)]
    assert list(history.rounds[1].roster) == [who(1), who(2), who(4)]
    assert history.rounds[4].roster[who(3)] == 3, "a member that came back has its old number"
    assert history.members[who(3)].from_round == 4 and history.owner == STRANGER
    assert history.model == model(6)
    relayed = history.rounds[5]
    assert relayed.roster == {who(1): 1, who(2): 2, who(3): 3, who(9): 4}, "a rotated member keeps its number"
    assert list(relayed.commits) == [who(1), who(2), who(9), who(3)]
    assert list(relayed.reveals) == [who(9), who(1), who(3), who(2)]
    assert relayed.attestations == dict.fromkeys((who(2), who(9), who(3)), (model(6), ALL))
    assert (history.pauser, history.paused, history.successor) == (STRANGER, False, LEDGER)


def test_a_rotated_key_acts_to_the_end_of_the_round_and_the_new_one_from_the_next() -> None:
    world = rotating()
    world.accepts(world.committed(3))
    world.refuses(world.committed(5), Code.L3)
    world.commit(1, 2, 3).close_commits().reveal(1, 2, 3).close_reveals().attest(3, 1).finalize().open()
    world.accepts(world.committed(5))
    world.refuses(world.committed(3), Code.L3)
    world.refuses(world.enrolled(3), Code.L3)


def test_a_pause_stops_no_running_round() -> None:
    world = in_commit()
    world.add(world.pauser_named(STRANGER), world.paused(STRANGER))
    world.commit(1, 2, 3).close_commits().reveal(1, 2, 3).close_reveals().attest(1, 2).finalize()
    world.refuses(world.opened(), Code.L3)
    world.accepts(world.unpaused(OWNER))
    assert replay(world.events).paused


def test_a_member_retired_in_an_open_round_stays_to_its_end_and_may_come_back_without_a_gap() -> None:
    world = in_commit()
    world.add(world.retired(3)).commit(3, 1, 2)
    assert replay(world.events).members[who(3)].until_round == 1
    back = world.accepts(world.enrolled(3, from_round=1))
    assert (back.members[who(3)].from_round, back.members[who(3)].until_round) == (1, FOREVER)
    world.refuses(world.enrolled(3, from_round=2), Code.L3)


def test_a_member_retired_in_an_earlier_round_comes_back_in_the_next() -> None:
    world = World(4).open(4)
    world.add(world.retired(4)).commit(1, 2, 3, 4).close_commits(4).reveal(1, 2, 3, 4).close_reveals(4)
    world.attest(1, 2, 3, verdicts=b"\x01" * 4).finalize(3).open(3)
    back = world.accepts(world.enrolled(4, from_round=3))
    assert (back.members[who(4)].from_round, back.members[who(4)].until_round) == (3, FOREVER)
    world.refuses(world.enrolled(4, from_round=1), Code.L3)


def test_windows_are_open_until_just_before_their_deadline() -> None:
    world = in_commit().wait(WINDOW - 1)
    world.accepts(world.committed(1))
    world = in_commit().commit(1, 2).wait(WINDOW)
    world.accepts(world.commits_closed(2))


def test_the_quorum_is_rounded_up() -> None:
    history = replay(World().events)
    assert [history.quorum(roster) for roster in (1, 2, 3, 4, 50, 100, 10_000)] == [1, 2, 2, 3, 33, 66, 6600]


# -------------------------------------------------------------------- illegal

Case = tuple[Callable[[], World], Callable[[World], ev.Event], Code]


def late(world: World) -> World:
    return world.wait_for_deadline()


ILLEGAL: dict[str, Case] = {
    # creation, membership
    "second Created": (World, lambda w: w.events[1], Code.L3),
    "owner changed by another": (World, lambda w: ev.OwnershipTransferred(STRANGER, STRANGER), Code.L3),
    "owner changed from nobody": (World, lambda w: ev.OwnershipTransferred(ev.ZERO_ADDRESS, STRANGER), Code.L3),
    "enrolled twice": (World, lambda w: w.enrolled(3), Code.L3),
    "enrolled under another number": (World, lambda w: dataclasses.replace(w.enrolled(4), number=5), Code.L3),
    "enrolled for the running round": (in_commit, lambda w: w.enrolled(4, from_round=1), Code.L3),
    "enrolled for a later round": (World, lambda w: w.enrolled(4, from_round=2), Code.L3),
    "retired, never enrolled": (World, lambda w: w.retired(4), Code.L3),
    "retired twice": (lambda: World().add(World().retired(3)), lambda w: w.retired(3), Code.L3),
    "retired in another round": (in_commit, lambda w: w.retired(3, until_round=0), Code.L3),
    "time going backwards": (World, lambda w: w.enrolled(4, time=START - 1), Code.L3),
    # opening
    "round number skipped": (World, lambda w: w.opened(round=2), Code.L3),
    "round number again": (after_round_one, lambda w: w.opened(round=1), Code.L3),
    "opened while another is open": (in_commit, lambda w: w.opened(), Code.L3),
    "opened on another base": (after_round_one, lambda w: w.opened(base_model=GENESIS), Code.L3),
    "wrong roster count": (World, lambda w: w.opened(roster=2), Code.L3),
    "too small a roster": (lambda: World(1), lambda w: w.opened(roster=1), Code.L3),
    "wrong deadline of the commits": (World, lambda w: w.opened(deadline=START + WINDOW + 1), Code.L3),
    # commits
    "commit without a round": (World, lambda w: w.committed(1), Code.L3),
    "commit of another round": (in_commit, lambda w: w.committed(1, round=2), Code.L3),
    "second commit": (lambda: in_commit().commit(1), lambda w: w.committed(1), Code.L3),
    "commit at the deadline": (lambda: late(in_commit()), lambda w: w.committed(1), Code.L3),
    "commit in the reveal phase": (
        lambda: in_commit().commit(1, 2).wait(WINDOW).close_commits(2),
        lambda w: w.committed(3),
        Code.L3,
    ),
    "commit by a stranger": (in_commit, lambda w: w.committed(4), Code.L3),
    "commit by a retired member": (
        lambda: World(4).add(World(4).retired(4)).open(),
        lambda w: w.committed(4),
        Code.L3,
    ),
    "commit by a member of the next round": (
        lambda: in_commit().add(in_commit().enrolled(4)),
        lambda w: w.committed(4),
        Code.L3,
    ),
    "commit of a zero seal": (in_commit, lambda w: w.committed(1, seal=bytes(28)), Code.L3),
    "relayed: a commit twice": (in_commit, lambda w: w.commits_relayed(1, 1), Code.L3),
    "relayed: a commit that was there": (lambda: in_commit().commit(1), lambda w: w.commits_relayed(2, 1), Code.L3),
    "relayed: a commit by a stranger": (in_commit, lambda w: w.commits_relayed(1, 4), Code.L3),
    "relayed: no commit": (in_commit, lambda w: w.commits_relayed(), Code.L3),
    "relayed: commits at the deadline": (lambda: late(in_commit()), lambda w: w.commits_relayed(1), Code.L3),
    "commits closed early": (lambda: in_commit().commit(1, 2).wait(WINDOW - 1), lambda w: w.commits_closed(2), Code.L3),
    "commits closed with too few": (lambda: late(in_commit().commit(1)), lambda w: w.commits_closed(1), Code.L3),
    "commits closed with a wrong count": (lambda: in_commit().commit(1, 2, 3), lambda w: w.commits_closed(2), Code.L3),
    "wrong deadline of the reveals": (
        lambda: in_commit().commit(1, 2, 3),
        lambda w: w.commits_closed(deadline=w.time + 1),
        Code.L3,
    ),
    # reveals
    "reveal in the commit phase": (lambda: in_commit().commit(1), lambda w: w.revealed(1), Code.L3),
    "reveal without a commit": (
        lambda: late(in_commit().commit(1, 2)).close_commits(2),
        lambda w: w.revealed(3),
        Code.L3,
    ),
    "second reveal": (lambda: in_reveal().reveal(1), lambda w: w.revealed(1), Code.L3),
    "reveal at the deadline": (lambda: late(in_reveal()), lambda w: w.revealed(1), Code.L3),
    "reveal of another round": (in_reveal, lambda w: w.revealed(1, round=2), Code.L3),
    "reveal with another salt": (
        in_reveal,
        lambda w: w.revealed(1, metadata=w.metadata(1, salt=b"t" * 32)),
        Code.C1,
    ),
    "reveal of another participant's update": (in_reveal, lambda w: w.revealed(1, metadata=w.metadata(2)), Code.C1),
    "copied seal": (
        lambda: late(in_commit().commit(1).add(in_commit().committed(1, participant=who(2)))).close_commits(2),
        lambda w: w.revealed(2, metadata=w.metadata(1)),
        Code.C1,
    ),
    "reveal on another base": (
        in_reveal,
        lambda w: w.revealed(1, metadata=dataclasses.replace(w.metadata(1), base_model=model(9))),
        Code.U6,
    ),
    "relayed: a reveal twice": (in_reveal, lambda w: w.reveals_relayed(1, 2, 1), Code.L3),
    "relayed: no reveal": (in_reveal, lambda w: w.reveals_relayed(), Code.L3),
    "relayed: a reveal of another's update": (
        in_reveal,
        lambda w: w.reveals_relayed(1, reveals=(ev.Opening(who(1), w.metadata(2)),)),
        Code.C1,
    ),
    "reveals closed early": (lambda: in_reveal().reveal(1, 2), lambda w: w.reveals_closed(2), Code.L3),
    "reveals closed with too few": (lambda: late(in_reveal().reveal(1)), lambda w: w.reveals_closed(1), Code.L3),
    "reveals closed with a wrong count": (lambda: in_reveal().reveal(1, 2, 3), lambda w: w.reveals_closed(2), Code.L3),
    "wrong deadline of the attestations": (
        lambda: in_reveal().reveal(1, 2, 3),
        lambda w: w.reveals_closed(deadline=w.time + WINDOW),
        Code.L3,
    ),
    # attestations
    "proposal in the reveal phase": (in_reveal, lambda w: w.proposed(), Code.L3),
    "proposal at the deadline": (lambda: late(in_attest()), lambda w: w.proposed(), Code.L3),
    "proposal of a zero model": (in_attest, lambda w: w.proposed(Digest(bytes(32))), Code.L3),
    "proposal without verdicts": (in_attest, lambda w: w.proposed(verdicts=b""), Code.L3),
    "proposal with a trailing zero": (in_attest, lambda w: w.proposed(verdicts=b"\x01\x00"), Code.L3),
    "proposal on unknown members": (in_attest, lambda w: w.proposed(verdicts=b"\x01" * 4), Code.L3),
    "proposal under another outcome": (in_attest, lambda w: w.proposed(outcome=bytes(32)), Code.L3),
    "proposal of what was proposed": (lambda: in_attest().attest(1), lambda w: w.proposed(), Code.L3),
    "proposal without a vote": (lambda: in_attest().add(in_attest().proposed()), lambda w: w.enrolled(4), Code.L3),
    "vote for something else than was proposed": (
        lambda: in_attest().attest(1).add(in_attest().proposed(model(9))),
        lambda w: w.attested(2),
        Code.L3,
    ),
    "attestation of what was not proposed": (in_attest, lambda w: w.attested(1), Code.L3),
    "second attestation": (lambda: in_attest().attest(1), lambda w: w.attested(1), Code.L3),
    "second attestation, of another model": (
        lambda: in_attest().attest(1).add(in_attest().proposed(model(9))),
        lambda w: w.attested(1, model(9)),
        Code.L3,
    ),
    "attestation at the deadline": (lambda: late(in_attest().attest(2)), lambda w: w.attested(1), Code.L3),
    "attestation by a stranger": (lambda: in_attest().attest(2), lambda w: w.attested(4), Code.L3),
    "attestation of another round": (lambda: in_attest().attest(2), lambda w: w.attested(1, round=2), Code.L3),
    "attestation after the quorum": (lambda: in_attest().attest(1, 2), lambda w: w.attested(3), Code.L3),
    "relayed: attestations past the quorum": (
        lambda: in_attest().attest(1),
        lambda w: w.attestations_relayed(2, 3),
        Code.L3,
    ),
    "relayed: no attestation": (lambda: in_attest().attest(1), lambda w: w.attestations_relayed(), Code.L3),
    "relayed: a second attestation": (lambda: in_attest().attest(1), lambda w: w.attestations_relayed(1), Code.L3),
    # keys, pauses, the successor
    "rotated, never enrolled": (World, lambda w: w.rotated(4, 5), Code.L3),
    "rotated, retired": (lambda: World().add(World().retired(3)), lambda w: w.rotated(3, 5), Code.L3),
    "rotated to a member": (World, lambda w: w.rotated(3, 2), Code.L3),
    "rotated to itself": (World, lambda w: w.rotated(3, 3), Code.L3),
    "rotated twice": (rotating, lambda w: w.rotated(3, 6), Code.L3),
    "rotated again in the same round": (rotating, lambda w: w.rotated(5, 6, number=3), Code.L3),
    "rotated under another number": (World, lambda w: w.rotated(3, 5, number=4), Code.L3),
    "rotated for the running round": (in_commit, lambda w: w.rotated(3, 5, from_round=1), Code.L3),
    "enrolled again under a key rotated away": (rotating, lambda w: w.enrolled(3, from_round=1), Code.L3),
    "enrolled with the number that a rotation seems to free": (
        rotating,
        lambda w: dataclasses.replace(w.enrolled(6), number=5),
        Code.L3,
    ),
    "paused by nobody's leave": (World, lambda w: w.paused(STRANGER), Code.L3),
    "paused by the owner": (World, lambda w: w.paused(OWNER), Code.L3),
    "paused twice": (paused, lambda w: w.paused(STRANGER), Code.L3),
    "unpaused without a pause": (World, lambda w: w.unpaused(OWNER), Code.L3),
    "unpaused by a member": (paused, lambda w: w.unpaused(who(1)), Code.L3),
    "opened in a pause": (paused, lambda w: w.opened(), Code.L3),
    "opened after the successor was named": (
        lambda: World().add(World().succeeded(STRANGER)),
        lambda w: w.opened(),
        Code.L3,
    ),
    "a second successor": (lambda: World().add(World().succeeded(STRANGER)), lambda w: w.succeeded(LEDGER), Code.L3),
    "successor zero": (World, lambda w: w.succeeded(ev.ZERO_ADDRESS), Code.L3),
    # the end
    "finalized without quorum": (lambda: in_attest().attest(1), lambda w: w.finalized(1), Code.A3),
    "finalized without any vote": (in_attest, lambda w: w.finalized(0), Code.A3),
    "finalized although the votes differ": (
        lambda: in_attest().attest(1).attest(2, verdicts=b"\x01\x01\x02"),
        lambda w: w.finalized(2),
        Code.A3,
    ),
    "finalized with another model": (lambda: in_attest().attest(1, 2), lambda w: w.finalized(model=model(9)), Code.A3),
    "finalized with a wrong count": (lambda: in_attest().attest(1, 2), lambda w: w.finalized(3), Code.A3),
    "finalized with too small a count": (lambda: in_attest().attest(1, 2), lambda w: w.finalized(1), Code.A3),
    "finalized after the deadline": (lambda: late(in_attest().attest(1, 2)), lambda w: w.finalized(), Code.L3),
    "finalized in the reveal phase": (in_reveal, lambda w: w.finalized(), Code.L3),
    "finalized twice": (after_round_one, lambda w: w.finalized(), Code.L3),
    "finalized without a round": (World, lambda w: w.finalized(round=1), Code.L3),
    "aborted without a round": (World, lambda w: w.aborted(0, round=1), Code.L3),
    "aborted again": (lambda: late(in_commit()).add(late(in_commit()).aborted(0)), lambda w: w.aborted(0), Code.L3),
    "aborted after finalization": (lambda: late(after_round_one()), lambda w: w.aborted(2), Code.L3),
    "aborted for an unknown reason": (lambda: late(in_commit()), lambda w: w.aborted(3), Code.L3),
    "aborted for too few commits, which are enough": (
        lambda: late(in_commit().commit(1, 2)),
        lambda w: w.aborted(0),
        Code.L3,
    ),
    "aborted for too few reveals, which are enough": (
        lambda: late(in_reveal().reveal(1, 2)),
        lambda w: w.aborted(1),
        Code.L3,
    ),
    "aborted for want of the quorum that was there": (
        lambda: late(in_attest().attest(1, 2)),
        lambda w: w.aborted(2),
        Code.L3,
    ),
}
for early, (phase, fitting) in enumerate([(in_commit, 0), (in_reveal, 1), (in_attest, 2)]):
    for wrong in {0, 1, 2} - {fitting}:
        ILLEGAL[f"aborted in phase {early} for reason {wrong}"] = (
            lambda phase=phase: late(phase()),  # type: ignore[misc]
            lambda w, wrong=wrong: w.aborted(wrong),  # type: ignore[misc]
            Code.L3,
        )
    ILLEGAL[f"aborted in phase {early} before the deadline"] = (
        lambda phase=phase: late(phase()).wait(-1),  # type: ignore[misc]
        lambda w, fitting=fitting: w.aborted(fitting),  # type: ignore[misc]
        Code.L3,
    )


@pytest.mark.parametrize("name", ILLEGAL)
def test_illegal_transitions(name: str) -> None:
    before, event, code = ILLEGAL[name]
    world = before()
    world.refuses(event(world), code)


def test_nothing_comes_before_the_creation() -> None:
    for event in World().open().events[2:]:
        with pytest.raises(VerificationError) as caught:
            History().apply(log_of(event))
        assert caught.value.code == Code.L3


def test_there_are_no_rules_before_the_creation() -> None:
    with pytest.raises(VerificationError) as caught:
        _ = History().rules
    assert caught.value.code == Code.L3


def test_another_ledger_format_is_refused() -> None:
    history = replay(World(0).events[:1])
    with pytest.raises(VerificationError, match=f"ledger format {ev.VERSION}"):
        history.apply(log_of(ev.Created(ev.VERSION + 1, CHAIN_ID, LEDGER, RULES, START)))


def test_every_kind_of_event_out_of_place_is_refused() -> None:
    """At the very start of a ledger without rounds, nothing but memberships, roles and the first round is legal."""
    allowed = (ev.Enrolled, ev.Retired, ev.Opened, ev.OwnershipTransferred, ev.OwnershipTransferStarted)
    allowed += (ev.PauserChanged, ev.Succeeded)  # type: ignore[assignment]
    seen = {type(event): event for event in long_history().events if not isinstance(event, allowed)}
    assert len(seen) == len(ev.INDEXED) - len(allowed)
    for event in seen.values():
        with pytest.raises(VerificationError):
            World().accepts(event)


def test_a_history_that_has_refused_an_event_did_not_count_it() -> None:
    history = replay(in_commit().events)
    head, events = history.head, history.events
    with pytest.raises(VerificationError):
        history.apply(log_of(in_commit().committed(4)))
    assert (history.head, history.events) == (head, events)


# ------------------------------------------------------------------- tampering

LOGS = [log_of(event, block) for block, event in enumerate(long_history().events)]
HEAD = replay(long_history().events).head
POSITIONS = st.integers(0, len(LOGS) - 1)


def caught(logs: list[ev.Log]) -> bool:
    """Whether the replay is refused, or does not give the contract's head."""
    history = History()
    try:
        for log in logs:
            history.apply(log)
    except VerificationError:
        return True
    return history.head != HEAD


def test_the_untouched_logs_pass() -> None:
    assert not caught(LOGS)


@pytest.mark.parametrize("index", range(len(LOGS)))
def test_dropping_or_repeating_any_log_is_caught(index: int) -> None:
    assert caught(LOGS[:index] + LOGS[index + 1 :])
    assert caught(LOGS[: index + 1] + LOGS[index:])
    assert caught(LOGS[:index])


@given(POSITIONS, POSITIONS)
def test_moving_any_log_is_caught(source: int, target: int) -> None:
    moved = LOGS[:source] + LOGS[source + 1 :]
    moved.insert(target, LOGS[source])
    assert caught(moved) == (moved != LOGS)


@settings(max_examples=200)
@given(POSITIONS, st.data())
def test_altering_any_bit_of_any_log_is_caught(index: int, data: st.DataObject) -> None:
    log = LOGS[index]
    parts = [*log.topics, log.data]
    part = data.draw(st.integers(0, len(parts) - 1).filter(lambda number: len(parts[number]) > 0))
    bit = data.draw(st.integers(0, 8 * len(parts[part]) - 1))
    number = int.from_bytes(parts[part], "big") ^ (1 << bit)
    parts[part] = number.to_bytes(len(parts[part]), "big")
    altered = ev.Log(tuple(parts[:-1]), parts[-1], log.block)
    assert caught([*LOGS[:index], altered, *LOGS[index + 1 :]])


@given(POSITIONS, st.sampled_from(LOGS))
def test_inserting_any_log_is_caught(index: int, extra: ev.Log) -> None:
    assert caught([*LOGS[:index], extra, *LOGS[index:]])
