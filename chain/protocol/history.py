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
from chain.protocol.seal import Metadata, domain_separator, seal


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
    registered: int = 0  # participant numbers given so far
    pauser: str = ev.ZERO_ADDRESS
    paused: bool = False
    successor: str | None = None
    _domain: bytes = b""
    _proposed: bytes | None = None  # the outcome that was spelled out just now: its first vote must follow

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
        proposed, self._proposed = self._proposed, None
        voted = getattr(event, "outcome", None) == proposed and not isinstance(event, ev.Proposed)
        _claim(proposed is None or voted, _name(event), "the first vote for what was proposed", "something else")
        self._on(event)
        self.head, self.time, self.events = head, time, self.events + 1
        return event

    @singledispatchmethod
    def _on(self, event: ev.Event) -> None:
        """One handler an event below; the owner's hand-over alone needs no check beyond the contract's own."""

    @_on.register
    def _(self, event: ev.OwnershipTransferred) -> None:
        _claim(event.previous_owner == self.owner, _name(event), self.owner, event.previous_owner)
        if self.created is not None:
            self._changed(event.new_owner, "became the owner, who decides on the roster")
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
        number = known.number if known else self.registered + 1
        # Retired in the newest round and back before the next: the membership goes on.
        first = known.from_round if known and known.until_round == newest else newest + 1
        _claim(known is None or known.until_round != FOREVER, _name(event), "not yet enrolled", "enrolled")
        _claim(known is None or not known.rotated, _name(event), "a key that was not rotated away", event.participant)
        _claim(event.number == number, _name(event), f"number {number}", event.number)
        _claim(event.from_round == first, _name(event), f"from round {first}", event.from_round)
        self.members[event.participant] = Member(number, event.from_round, FOREVER)
        self.registered = max(self.registered, number)
        self._changed(event.participant, f"enrolled from round {event.from_round}")

    @_on.register
    def _(self, event: ev.Retired) -> None:
        member = self._enrolled(event, event.participant)
        _claim(
            event.until_round == len(self.rounds), _name(event), f"until round {len(self.rounds)}", event.until_round
        )
        member.until_round = event.until_round
        self._changed(event.participant, f"retired after round {event.until_round}")

    @_on.register
    def _(self, event: ev.Rotated) -> None:
        name, newest, member = _name(event), len(self.rounds), self._enrolled(event, event.participant)
        _claim(newest == 0 or member.from_round <= newest, name, f"a participant of round {newest}", event.participant)
        _claim(event.replacement not in self.members, name, "an address never enrolled", event.replacement)
        _claim(event.number == member.number, name, f"number {member.number}", event.number)
        _claim(event.from_round == newest + 1, name, f"from round {newest + 1}", event.from_round)
        member.until_round, member.rotated = newest, True
        self.members[event.replacement] = Member(member.number, event.from_round, FOREVER)
        self._changed(event.participant, f"rotated to {event.replacement} from round {event.from_round}")

    @_on.register
    def _(self, event: ev.PauserChanged) -> None:
        self.pauser = event.pauser
        self._changed(event.pauser, "named pauser")

    @_on.register
    def _(self, event: ev.Paused) -> None:
        _claim(event.pauser == self.pauser, _name(event), f"the pauser {self.pauser}", event.pauser)
        _claim(not self.paused, _name(event), "no pause", "one already")
        self.paused = True
        self._changed(event.pauser, "paused new rounds")

    @_on.register
    def _(self, event: ev.Unpaused) -> None:
        allowed = (self.pauser, self.owner)
        _claim(event.account in allowed, _name(event), "the pauser or the owner", event.account)
        _claim(self.paused, _name(event), "a pause", "none")
        self.paused = False
        self._changed(event.account, "ended the pause")

    @_on.register
    def _(self, event: ev.Succeeded) -> None:
        _claim(self.successor is None, _name(event), "no successor yet", self.successor)
        _claim(event.successor != ev.ZERO_ADDRESS, _name(event), "a successor", "zero")
        self.successor = event.successor
        self._changed(event.successor, "named successor: no new round")

    @_on.register
    def _(self, event: ev.Opened) -> None:
        name, number = _name(event), len(self.rounds) + 1
        _claim(not self.paused, name, "no pause", "new rounds are paused")
        _claim(self.successor is None, name, "no successor", self.successor)
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
        self._commit(event, event.participant, event.seal)

    @_on.register
    def _(self, event: ev.CommitsRelayed) -> None:
        _claim(bool(event.commits), _name(event), "a commit", "none")
        for item in event.commits:
            self._commit(event, item.participant, item.seal)

    @_on.register
    def _(self, event: ev.CommitsClosed) -> None:
        current = self._in_phase(event, Phase.COMMIT, in_window=False)
        self._check_close(event, current, event.commits, len(current.commits), len(current.roster))
        self._check_deadline(event, self.rules.reveal_window)
        current.phase, current.deadline = Phase.REVEAL, event.deadline

    @_on.register
    def _(self, event: ev.Revealed) -> None:
        self._reveal(event, event.participant, event.metadata)

    @_on.register
    def _(self, event: ev.RevealsRelayed) -> None:
        _claim(bool(event.reveals), _name(event), "a reveal", "none")
        for item in event.reveals:
            self._reveal(event, item.participant, item.metadata)

    @_on.register
    def _(self, event: ev.RevealsClosed) -> None:
        current = self._in_phase(event, Phase.REVEAL, in_window=False)
        self._check_close(event, current, event.reveals, len(current.reveals), len(current.commits))
        self._check_deadline(event, self.rules.attest_window)
        current.phase, current.deadline = Phase.ATTEST, event.deadline

    @_on.register
    def _(self, event: ev.Proposed) -> None:
        current, name = self._in_phase(event, Phase.ATTEST), _name(event)
        ok = 0 < len(event.verdicts) <= self.registered and event.verdicts[-1] != 0
        _claim(ok, name, "one verdict a participant, none trailing", event.verdicts.hex())
        _claim(any(event.model), name, "a model digest", "zero")
        outcome = ev.outcome(event.round, event.model, event.verdicts)
        _claim(event.outcome == outcome, name, f"outcome 0x{outcome.hex()}", f"0x{event.outcome.hex()}")
        _claim(outcome not in current.proposals, name, "an outcome not proposed yet", "a second proposal")
        current.proposals[outcome] = (event.model, event.verdicts)
        self._proposed = outcome

    @_on.register
    def _(self, event: ev.Attested) -> None:
        self._attest(event, event.participant, event.outcome)

    @_on.register
    def _(self, event: ev.AttestationsRelayed) -> None:
        _claim(bool(event.participants), _name(event), "an attestation", "none")
        for participant in event.participants:
            self._attest(event, participant, event.outcome)

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

    # --------------------------- what one participant does, alone or in a batch

    def _commit(self, event: ev.Event, participant: str, sealed: bytes) -> None:
        current = self._in_phase(event, Phase.COMMIT)
        self._check_actor(event, current, participant, current.commits)
        _claim(any(sealed), _name(event, participant), "a seal", "zero")
        current.commits[participant] = sealed

    def _reveal(self, event: ev.Event, participant: str, metadata: Metadata) -> None:
        current, name = self._in_phase(event, Phase.REVEAL), _name(event, participant)
        _claim(participant in current.commits, name, "a participant that committed", participant)
        _claim(participant not in current.reveals, name, "one reveal", "a second one")
        if metadata.base_model != current.base_model:
            raise VerificationError(Code.U6, name, current.base_model, metadata.base_model)
        opened = seal(self._domain, current.number, participant, metadata)
        if opened != current.commits[participant]:
            committed = current.commits[participant].hex()
            raise VerificationError(Code.C1, name, f"seal 0x{committed}", f"0x{opened.hex()}")
        current.reveals[participant] = metadata

    def _attest(self, event: ev.Event, participant: str, outcome: bytes) -> None:
        current, name = self._in_phase(event, Phase.ATTEST), _name(event, participant)
        self._check_actor(event, current, participant, current.attestations)
        _claim(outcome in current.proposals, name, "an outcome that was proposed", f"0x{outcome.hex()}")
        _claim(self._leader(current)[1] < self.quorum(len(current.roster)), name, "Finalized", "a vote")
        current.attestations[participant] = current.proposals[outcome]

    # -------------------------------------------------------- shared checks

    def _enrolled(self, event: ev.Event, participant: str) -> Member:
        member = self.members.get(participant)
        if member is None or member.until_round != FOREVER:
            raise VerificationError(Code.L3, _name(event), "an enrolled participant", participant)
        return member

    def _changed(self, participant: str, what: str) -> None:
        self.changes.append(MembershipChange(len(self.rounds), participant, what))

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
