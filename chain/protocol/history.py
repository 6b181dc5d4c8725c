"""The history of a federation, rebuilt from its logs alone: the contract's rules a second time, in Python.

Every event is first folded into the head, then decoded, then checked against the state so far, claim by claim, and
only then applied. What comes out is the same for the node and for the auditor. Codes: L2 (malformed), L3 (illegal
transition), C1, U6, A3.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatchmethod

from chain.protocol import events as ev
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from chain.protocol.round import FOREVER, Member, MembershipChange, Phase, Round
from chain.protocol.seal import domain_separator, seal


@dataclass(slots=True)
class History:
    """The state of the ledger after the events replayed so far."""

    head: bytes = ev.EMPTY_HEAD
    events: int = 0
    time: int = 0
    owner: str = ev.ZERO_ADDRESS
    created: ev.Created | None = None
    model: Digest | None = None
    members: dict[str, Member] = field(default_factory=dict)
    changes: list[MembershipChange] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    _domain: bytes = b""

    # ------------------------------------------------------------- reading

    @property
    def rules(self) -> ev.OnChainRules:
        _claim(self.created is not None, "ledger", "a Created event", "none")
        assert self.created is not None  # noqa: S101 - narrows for mypy
        return self.created.rules

    @property
    def current(self) -> Round | None:
        """The newest round, open or not."""
        return self.rounds[-1] if self.rounds else None

    @property
    def finalized(self) -> list[Round]:
        return [r for r in self.rounds if r.phase is Phase.FINALIZED]

    def last_finalized(self, before: int) -> Round | None:
        """The newest finalized round with a number below `before`: the one whose model that round builds on."""
        return next((r for r in reversed(self.rounds[: before - 1]) if r.phase is Phase.FINALIZED), None)

    def quorum(self, roster: int) -> int:
        return -(-roster * self.rules.quorum_bps // 10_000)

    # ------------------------------------------------------------ replaying

    def apply(self, log: ev.Log) -> ev.Event:
        """Takes in the next log. Raises VerificationError and then must not be used further."""
        head = ev.extend_head(self.head, log)
        event = ev.decode(log)
        if self.created is None and not isinstance(event, ev.Created | ev.OwnershipTransferred):
            raise VerificationError(Code.L3, _name(event), "Created first", "an event before it")
        time = getattr(event, "time", self.time)
        _claim(time >= self.time, _name(event), f"time at or after {self.time}", time)
        self._on(event)
        self.head, self.time, self.events = head, time, self.events + 1
        return event

    @singledispatchmethod
    def _on(self, event: ev.Event) -> None:
        """One handler an event below; the owner's hand-over alone needs no check beyond the contract's own."""

    @_on.register
    def _(self, event: ev.OwnershipTransferred) -> None:
        _claim(event.previous_owner == self.owner, _name(event), self.owner, event.previous_owner)
        self.owner = event.new_owner

    @_on.register
    def _(self, event: ev.Created) -> None:
        _claim(self.created is None, _name(event), "a single Created event", "a second one")
        _claim(event.version == ev.VERSION, _name(event), f"ledger format {ev.VERSION}", event.version)
        self.created, self.model = event, event.rules.genesis_model
        self._domain = domain_separator(event.chain_id, event.ledger)

    @_on.register
    def _(self, event: ev.Enrolled) -> None:
        known, newest = self.members.get(event.participant), len(self.rounds)
        number = known.number if known else len(self.members) + 1
        # Retired in the newest round and back before the next: the membership goes on.
        first = known.from_round if known and known.until_round == newest else newest + 1
        _claim(known is None or known.until_round != FOREVER, _name(event), "not yet enrolled", "enrolled")
        _claim(event.number == number, _name(event), f"number {number}", event.number)
        _claim(event.from_round == first, _name(event), f"from round {first}", event.from_round)
        self.members[event.participant] = Member(number, event.from_round, FOREVER)
        self.changes.append(MembershipChange(newest, event.participant, f"enrolled from round {event.from_round}"))

    @_on.register
    def _(self, event: ev.Retired) -> None:
        member = self.members.get(event.participant)
        if member is None or member.until_round != FOREVER:
            raise VerificationError(Code.L3, _name(event), "an enrolled participant", event.participant)
        _claim(
            event.until_round == len(self.rounds), _name(event), f"until round {len(self.rounds)}", event.until_round
        )
        member.until_round = event.until_round
        self.changes.append(
            MembershipChange(len(self.rounds), event.participant, f"retired after round {event.until_round}")
        )

    @_on.register
    def _(self, event: ev.Opened) -> None:
        name, number = _name(event), len(self.rounds) + 1
        _claim(self.current is None or not self.current.is_open, name, "no open round", "one is open")
        _claim(event.round == number, name, f"round {number}", event.round)
        _claim(event.base_model == self.model, name, f"base model {self.model}", event.base_model)
        roster = {who: member.number for who, member in self.members.items() if member.takes_part(number)}
        _claim(event.roster == len(roster), name, f"a roster of {len(roster)}", event.roster)
        _claim(len(roster) >= self.rules.min_updates, name, f"at least {self.rules.min_updates}", len(roster))
        self._check_deadline(event, self.rules.commit_window)
        self.rounds.append(Round(number, event.base_model, roster, event.deadline, event.time))

    @_on.register
    def _(self, event: ev.Committed) -> None:
        current = self._in_phase(event, Phase.COMMIT)
        self._check_actor(event, current, event.participant, current.commits)
        _claim(any(event.seal), _name(event, event.participant), "a seal", "zero")
        current.commits[event.participant] = event.seal

    @_on.register
    def _(self, event: ev.CommitsClosed) -> None:
        current = self._in_phase(event, Phase.COMMIT, in_window=False)
        self._check_close(event, current, event.commits, len(current.commits), len(current.roster))
        self._check_deadline(event, self.rules.reveal_window)
        current.phase, current.deadline = Phase.REVEAL, event.deadline

    @_on.register
    def _(self, event: ev.Revealed) -> None:
        current = self._in_phase(event, Phase.REVEAL)
        name = _name(event, event.participant)
        _claim(event.participant in current.commits, name, "a participant that committed", event.participant)
        _claim(event.participant not in current.reveals, name, "one reveal", "a second one")
        if event.metadata.base_model != current.base_model:
            raise VerificationError(Code.U6, name, current.base_model, event.metadata.base_model)
        opened = seal(self._domain, current.number, event.participant, event.metadata)
        if opened != current.commits[event.participant]:
            committed = current.commits[event.participant].hex()
            raise VerificationError(Code.C1, name, f"seal 0x{committed}", f"0x{opened.hex()}")
        current.reveals[event.participant] = event.metadata

    @_on.register
    def _(self, event: ev.RevealsClosed) -> None:
        current = self._in_phase(event, Phase.REVEAL, in_window=False)
        self._check_close(event, current, event.reveals, len(current.reveals), len(current.commits))
        self._check_deadline(event, self.rules.attest_window)
        current.phase, current.deadline = Phase.ATTEST, event.deadline

    @_on.register
    def _(self, event: ev.Attested) -> None:
        current = self._in_phase(event, Phase.ATTEST)
        self._check_actor(event, current, event.participant, current.attestations)
        ok = 0 < len(event.verdicts) <= len(self.members) and event.verdicts[-1] != 0
        _claim(ok, _name(event, event.participant), "one verdict a participant, none trailing", event.verdicts.hex())
        _claim(any(event.model), _name(event, event.participant), "a model digest", "zero")
        _claim(self._leader(current)[1] < self.quorum(len(current.roster)), _name(event), "Finalized", "a vote")
        current.attestations[event.participant] = (event.model, event.verdicts)

    @_on.register
    def _(self, event: ev.Finalized) -> None:
        current = self._in_phase(event, Phase.ATTEST)
        name, quorum = _name(event), self.quorum(len(current.roster))
        outcome, count = self._leader(current)
        if outcome is None or count < quorum:
            raise VerificationError(Code.A3, name, f"{quorum} identical attestations", count)
        if outcome[0] != event.model or count != event.attestations:
            claimed = f"{event.model} by {event.attestations}"
            raise VerificationError(Code.A3, name, f"{outcome[0]} by {count}", claimed)
        current.phase, current.outcome, current.closed = Phase.FINALIZED, outcome, event.time
        self.model = event.model

    @_on.register
    def _(self, event: ev.Aborted) -> None:
        current = self._open_round(event)
        too_few, quorum = self.rules.min_updates, self.quorum(len(current.roster))
        legal: dict[int, Callable[[], bool]] = {
            ev.AbortReason.TOO_FEW_COMMITS: lambda: current.phase is Phase.COMMIT and len(current.commits) < too_few,
            ev.AbortReason.TOO_FEW_REVEALS: lambda: current.phase is Phase.REVEAL and len(current.reveals) < too_few,
            ev.AbortReason.NO_QUORUM: lambda: current.phase is Phase.ATTEST and self._leader(current)[1] < quorum,
        }
        _claim(event.reason in legal and legal[event.reason](), _name(event), "a reason that holds", event.reason)
        _claim(event.time >= current.deadline, _name(event), f"not before {current.deadline}", event.time)
        current.abort_reason, current.closed = ev.AbortReason(event.reason), event.time
        current.phase = Phase.ABORTED

    # -------------------------------------------------------- shared checks

    @staticmethod
    def _leader(current: Round) -> tuple[tuple[Digest, bytes] | None, int]:
        """The outcome with the most attestations, and how many it has."""
        return max(Counter(current.attestations.values()).items(), key=lambda item: item[1], default=(None, 0))

    def _open_round(self, event: ev.Event) -> Round:
        current = self.current
        if current is None or not current.is_open:
            raise VerificationError(Code.L3, _name(event), "an open round", "none")
        number = getattr(event, "round", None)
        _claim(number == current.number, _name(event), f"round {current.number}", number)
        return current

    def _in_phase(self, event: ev.Event, phase: Phase, *, in_window: bool = True) -> Round:
        current, name = self._open_round(event), _name(event)
        _claim(current.phase is phase, name, f"phase {phase.value}", current.phase.value)
        time = getattr(event, "time", 0)
        _claim(not in_window or time < current.deadline, name, f"before {current.deadline}", time)
        return current

    def _check_actor(self, event: ev.Event, current: Round, participant: str, done: Mapping[str, object]) -> None:
        name = _name(event, participant)
        _claim(participant in current.roster, name, "a participant of the round", participant)
        _claim(participant not in done, name, "one for each participant", "a second one")

    def _check_close(self, event: ev.Event, current: Round, claimed: int, counted: int, everybody: int) -> None:
        name, time = _name(event), getattr(event, "time", 0)
        _claim(claimed == counted, name, f"{counted} counted", claimed)
        _claim(counted >= self.rules.min_updates, name, f"at least {self.rules.min_updates}", counted)
        in_time = counted == everybody or time >= current.deadline
        _claim(in_time, name, f"everybody ({everybody}), or not before {current.deadline}", f"{counted} at {time}")

    def _check_deadline(self, event: ev.Opened | ev.CommitsClosed | ev.RevealsClosed, window: int) -> None:
        _claim(event.deadline == event.time + window, _name(event), f"deadline {event.time + window}", event.deadline)


def _name(event: ev.Event, participant: str | None = None) -> str:
    number = getattr(event, "round", None)
    where = f"round {number} {type(event).__name__}" if number is not None else type(event).__name__
    return f"{where} by {participant}" if participant else where


def _claim(holds: bool, subject: str, expected: object, actual: object) -> None:
    if not holds:
        raise VerificationError(Code.L3, subject, expected, actual)
