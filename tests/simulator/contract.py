"""The contract a second time: the same calls, the same refusals, the same logs to the byte, the same head.

Written from `IRoundLedger.sol`, with nothing of `chain` but words of the ABI and names of errors: a mistake in the
Python mirror (`chain.protocol.history`) is no mistake here. `tests/integration/test_state_machine.py` judges it against
the real contract.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from eth_utils.crypto import keccak

from chain import errors
from chain.protocol.events import OnChainRules, Opening
from chain.protocol.seal import Metadata
from chain.signing import Signature, SignedCommit
from tests.simulator.membership import (
    ATTEST,
    COMMIT,
    IDLE,
    NOBODY,
    NOT_RETIRED,
    REVEAL,
    Member,
    Membership,
    State,
)
from tests.simulator.words import Array, struct_hash, tail, word

TOO_FEW_COMMITS, TOO_FEW_REVEALS, NO_QUORUM = range(3)
METADATA = "(bytes32,bytes32,uint64,bytes32,bytes32,uint64,bytes32,uint32,uint32,uint128,bytes32)"
FIELDS = (
    "Metadata(bytes32 baseModel,bytes32 updateDigest,uint64 updateBytes,bytes32 dataRoot,bytes32 secretCommitment,"
    "uint64 records,bytes32 channelRoot,uint32 channels,uint32 sent,uint128 threshold,bytes32 salt)"
)
Entry = TypeVar("Entry")
Refusals = list[errors.Reverted | None]  # of the entries of a batch; None: taken


class Contract(Membership):
    """One deployed ledger."""

    def __init__(self, chain_id: int, address: str, owner: str, rules: OnChainRules, now: int, block: int = 1) -> None:
        super().__init__(chain_id, address, owner, rules, now, block)
        self.model: bytes = rules.genesis_model

    def open(self, sender: str, number: int) -> None:
        state, roster = self.state, sum(member.until_round == NOT_RETIRED for member in self.members.values())
        if number != state.number + 1:
            raise errors.WrongRound(state.number + 1, number)
        if state.phase != IDLE:
            raise errors.WrongPhase(IDLE, state.phase)
        if self.paused:
            raise errors.AlreadyPaused()
        if self.successor != NOBODY:
            raise errors.HasSuccessor(self.successor)
        self._participant(number, sender)
        if roster < self.rules.min_updates:
            raise errors.TooFewParticipants(self.rules.min_updates, roster)
        self.state = State(number, COMMIT, self.now + self.rules.commit_window, roster)
        values = [self.model, roster, self.state.deadline, self.now]
        self._emit("Opened(uint32,bytes32,uint32,uint64,uint64)", [number], values)

    def commit(self, sender: str, number: int, seal: bytes) -> None:
        self._require_phase(number, COMMIT)
        self._commit(number, sender, seal)
        self._emit("Committed(uint32,address,bytes28,uint64)", [number, sender], [seal, self.now])
        self._after_commits(1)

    def relay_commits(self, sender: str, number: int, commits: Sequence[SignedCommit]) -> Refusals:
        self._require_phase(number, COMMIT)
        kind, taken = "Commit(uint32 round,bytes28 seal,uint64 deadline)", []

        def take(entry: SignedCommit) -> None:
            struct = struct_hash(kind, number, entry.seal, entry.signature.deadline)
            signer = self._signer(struct, entry.signature)
            self._commit(number, signer, entry.seal)
            taken.append(word(signer) + word(entry.seal))

        refusals = [_refusal(take, entry) for entry in commits]
        if taken:
            self._emit("CommitsRelayed(uint32,uint64,(address,bytes28)[])", [number], [self.now], Array(taken))
            self._after_commits(len(taken))
        return refusals

    def reveal(self, sender: str, number: int, participant: str, metadata: Metadata) -> None:
        self._require_phase(number, REVEAL)
        self._reveal(number, participant, metadata)
        self._enter(REVEAL)
        self._emit(f"Revealed(uint32,address,{METADATA},uint64)", [number, participant], [metadata, self.now])
        self._after_reveals(1)

    def relay_reveals(self, sender: str, number: int, openings: Sequence[Opening]) -> Refusals:
        self._require_phase(number, REVEAL)
        taken = []

        def take(opening: Opening) -> None:
            self._reveal(number, opening.participant, opening.metadata)
            taken.append(word(opening))

        refusals = [_refusal(take, opening) for opening in openings]
        self._enter(REVEAL)
        if taken:
            self._emit(f"RevealsRelayed(uint32,uint64,(address,{METADATA})[])", [number], [self.now], Array(taken))
            self._after_reveals(len(taken))
        return refusals

    def attest(self, sender: str, number: int, model: bytes, verdicts: bytes) -> None:
        outcome = self._votable(number, model, verdicts)
        self._attest(number, sender)
        self._enter(ATTEST)
        self._propose(number, outcome, model, verdicts)
        self._emit("Attested(uint32,address,bytes32,uint64)", [number, sender], [outcome, self.now])
        self._after_votes(outcome, model, 1)

    def relay_attestations(
        self, sender: str, number: int, model: bytes, verdicts: bytes, signatures: Sequence[Signature]
    ) -> Refusals:
        outcome = self._votable(number, model, verdicts)
        kind, taken = "Attestation(uint32 round,bytes32 model,bytes verdicts,uint64 deadline)", []

        def take(signature: Signature) -> None:
            if self.state.votes.get(outcome, 0) + len(taken) == self.quorum(self.state.roster):
                raise errors.WrongPhase(ATTEST, IDLE)
            struct = struct_hash(kind, number, model, keccak(verdicts), signature.deadline)
            signer = self._signer(struct, signature)
            self._attest(number, signer)
            taken.append(word(signer))

        refusals = [_refusal(take, signature) for signature in signatures]
        self._enter(ATTEST)
        if taken:
            self._propose(number, outcome, model, verdicts)
            topics = [number, outcome]
            self._emit("AttestationsRelayed(uint32,bytes32,uint64,address[])", topics, [self.now], Array(taken))
            self._after_votes(outcome, model, len(taken))
        return refusals

    def advance(self, sender: str, number: int) -> None:
        state = self.state
        if number != state.number:
            raise errors.WrongRound(state.number, number)
        if state.phase == IDLE:
            raise errors.WrongPhase(COMMIT, IDLE)
        if self.now < state.deadline:
            raise errors.WindowOpen(state.deadline, self.now)
        if state.phase == COMMIT:
            self._close_commits()
        elif state.phase == REVEAL:
            self._close_reveals()
        else:
            self._abort(NO_QUORUM)

    def quorum(self, roster: int) -> int:
        return -(-roster * self.rules.quorum_bps // 10_000)

    def seal_of(self, number: int, participant: str, metadata: Metadata) -> bytes:
        inner = struct_hash(FIELDS, metadata)
        kind = "Seal(address participant,uint32 round,Metadata metadata)" + FIELDS
        return self.digest(struct_hash(kind, participant, number, inner))[:28]

    # --------------------------------------------- what one participant does

    def _commit(self, number: int, participant: str, seal: bytes) -> None:
        member = self._participant(number, participant)
        if member.committed >= number:
            raise errors.AlreadyCommitted(participant, number)
        if not any(seal):
            raise errors.ZeroDigest()
        member.seal, member.committed, member.revealed = seal, number, False

    def _reveal(self, number: int, participant: str, metadata: Metadata) -> None:
        member = self.member(participant)
        if member.committed < number:
            raise errors.NotCommitted(participant, number)
        if member.revealed:
            raise errors.AlreadyRevealed(participant, number)
        if metadata.base_model != self.model:
            raise errors.WrongBaseModel(self.model, metadata.base_model)  # type: ignore[arg-type]
        if (seal := self.seal_of(number, participant, metadata)) != member.seal:
            raise errors.SealMismatch(member.seal, seal)
        member.revealed = True

    def _attest(self, number: int, participant: str) -> None:
        member = self._participant(number, participant)
        if member.attested == number:
            raise errors.AlreadyAttested(participant, number)
        member.attested = number

    def _votable(self, number: int, model: bytes, verdicts: bytes) -> bytes:
        self._require_phase(number, ATTEST)
        if not any(model):
            raise errors.ZeroDigest()
        if not verdicts or len(verdicts) > self.registered or not verdicts[-1]:
            raise errors.InvalidVerdicts()
        return keccak(word(number) + word(model) + word(96) + tail(verdicts))

    def _propose(self, number: int, outcome: bytes, model: bytes, verdicts: bytes) -> None:
        if outcome not in self.state.votes:
            values = [outcome, model, self.now]
            self._emit("Proposed(uint32,bytes32,bytes32,uint64,bytes)", [number], values, verdicts)

    # ------------------------------------------------- the ends of the phases

    def _after_commits(self, more: int) -> None:
        self.state.commits += more
        if self.state.commits == self.state.roster:
            self._close_commits()

    def _after_reveals(self, more: int) -> None:
        self.state.reveals += more
        if self.state.reveals == self.state.commits:
            self._close_reveals()

    def _after_votes(self, outcome: bytes, model: bytes, more: int) -> None:
        state = self.state
        votes = state.votes[outcome] = state.votes.get(outcome, 0) + more
        if votes == self.quorum(state.roster):
            state.phase, self.model = IDLE, model
            self._emit("Finalized(uint32,bytes32,uint32,uint64)", [state.number], [model, votes, self.now])

    def _close_commits(self) -> None:
        state = self.state
        if state.commits < self.rules.min_updates:
            self._abort(TOO_FEW_COMMITS)
            return
        state.phase, state.deadline = REVEAL, self.now + self.rules.reveal_window
        closed = [state.commits, state.deadline, self.now]
        self._emit("CommitsClosed(uint32,uint32,uint64,uint64)", [state.number], closed)

    def _close_reveals(self) -> None:
        state = self.state
        if state.reveals < self.rules.min_updates:
            self._abort(TOO_FEW_REVEALS)
            return
        state.phase, state.deadline = ATTEST, self.now + self.rules.attest_window
        closed = [state.reveals, state.deadline, self.now]
        self._emit("RevealsClosed(uint32,uint32,uint64,uint64)", [state.number], closed)

    def _abort(self, reason: int) -> None:
        self.state.phase = IDLE
        self._emit("Aborted(uint32,uint8,uint64)", [self.state.number], [reason, self.now])

    def _require_phase(self, number: int, phase: int) -> None:
        state = self.state
        if number != state.number:
            raise errors.WrongRound(state.number, number)
        if phase == state.phase and self.now >= state.deadline:
            raise errors.WindowClosed(state.deadline, self.now)
        if phase != state.phase and not (phase == self._next_phase() and self.now >= state.deadline):
            raise errors.WrongPhase(phase, state.phase)

    def _next_phase(self) -> int | None:
        """What may follow this phase without an abort; to be asked for once its window has passed."""
        state, enough = self.state, self.rules.min_updates
        if state.phase == COMMIT and state.commits >= enough:
            return REVEAL
        return ATTEST if state.phase == REVEAL and state.reveals >= enough else None

    def _enter(self, phase: int) -> None:
        """The first action of a phase, now that nothing can refuse it, closes the one before."""
        if phase == REVEAL and self.state.phase == COMMIT:
            self._close_commits()
        elif phase == ATTEST and self.state.phase == REVEAL:
            self._close_reveals()

    def _participant(self, number: int, account: str) -> Member:
        member = self.member(account)
        if not member.from_round <= number <= member.until_round:
            raise errors.NotParticipant(account, number)
        return member


def _refusal(take: Callable[[Entry], None], entry: Entry) -> errors.Reverted | None:
    """What an entry of a batch is skipped for."""
    try:
        take(entry)
    except errors.Reverted as refusal:
        return refusal
    return None
