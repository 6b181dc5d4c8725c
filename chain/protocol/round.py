"""One round and one member as the ledger knows them: plain state, changed only by `chain.protocol.history`."""

from dataclasses import dataclass, field
from enum import Enum

from chain.protocol import verdicts
from chain.protocol.digest import Digest
from chain.protocol.events import AbortReason
from chain.protocol.seal import Metadata

FOREVER = 2**32 - 1


class Phase(Enum):
    COMMIT = "commit"
    REVEAL = "reveal"
    ATTEST = "attest"
    FINALIZED = "finalized"
    ABORTED = "aborted"


@dataclass(slots=True)
class Member:
    """An enrolled address; `number` counts from 1, rounds of membership are inclusive."""

    number: int
    from_round: int
    until_round: int
    rotated: bool = False  # the number has gone on to another address

    def takes_part(self, round_number: int) -> bool:
        return self.from_round <= round_number <= self.until_round


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """Who may act, or open rounds, from then on: decided after round `after` had been opened (0: before the first)."""

    after: int
    participant: str
    what: str


@dataclass(slots=True)
class Round:
    """Everything the ledger holds about one round. Times and deadlines are in seconds of block time."""

    number: int
    base_model: Digest
    roster: dict[str, int]  # participant -> number
    deadline: int
    opened: int
    phase: Phase = Phase.COMMIT
    closed: int = 0
    commits: dict[str, bytes] = field(default_factory=dict)
    reveals: dict[str, Metadata] = field(default_factory=dict)
    proposals: dict[bytes, tuple[Digest, bytes]] = field(default_factory=dict)  # outcome -> (model, verdicts)
    attestations: dict[str, tuple[Digest, bytes]] = field(default_factory=dict)
    outcome: tuple[Digest, bytes] | None = None  # (model, verdicts), once final
    abort_reason: AbortReason | None = None

    def next_phase(self, min_updates: int) -> Phase:
        """The phase whose first action may end this one, once its window has passed; this one, if only an abort can."""
        if self.phase is Phase.COMMIT and len(self.commits) >= min_updates:
            return Phase.REVEAL
        if self.phase is Phase.REVEAL and len(self.reveals) >= min_updates:
            return Phase.ATTEST
        return self.phase

    @property
    def is_open(self) -> bool:
        return self.phase not in (Phase.FINALIZED, Phase.ABORTED)

    @property
    def accepted(self) -> dict[str, Metadata]:
        """The reveals that the finalized verdicts accept, ascending by participant. Verdicts on anybody else, which a
        hostile quorum could give, say nothing here.
        """
        given = verdicts.decode(self.outcome[1]) if self.outcome else {}
        accepts = [who for who in sorted(self.reveals) if given.get(self.roster[who]) == verdicts.ACCEPTED]
        return {who: self.reveals[who] for who in accepts}

    @property
    def no_shows(self) -> list[str]:
        """Who committed and did not reveal in time; nobody before the reveals are closed."""
        if self.phase in (Phase.COMMIT, Phase.REVEAL) or self.abort_reason is AbortReason.TOO_FEW_COMMITS:
            return []
        return [participant for participant in self.commits if participant not in self.reveals]
