"""One round, from local training to the updated model, in the order in which it happens.

Every step looks at the verified ledger first and does only what is still to do, so the same path serves a node that
takes part from the start, one that comes late and one that was killed half-way.
"""

from dataclasses import dataclass

from chain.crash import Point, crash_point
from chain.protocol import verdicts
from chain.protocol.digest import Digest
from chain.protocol.errors import Code
from chain.protocol.round import Phase, Round
from chain.protocol.seal import seal
from fl_node import weights
from fl_node.aggregate import aggregate
from fl_node.gather import accepted_updates, gather, look, verdicts_of
from fl_node.packing import pack
from fl_node.prepare import prepare
from fl_node.session import Session
from fl_node.tensorfile import Tensors
from fl_node.verify import Result, VerifiedUpdate, verdict_of, verify_accepted_set, verify_model

NOT_MINE = (
    "the ledger has a commit of this key that this node's journal does not know: another node runs with the key, or "
    "the state folder is new or an old copy; the round goes on without this node's update"
)


@dataclass(frozen=True, slots=True)
class Derived:
    """The model that follows from the updates of these participants."""

    participants: list[str]
    model: Tensors
    digest: Digest


def run_round(session: Session, number: int) -> None:
    """Takes part in round `number`, which is open. Afterwards the node holds the newest finalized model.

    Raises VerificationError when the finalized model is not the one that follows from the updates: then nothing was
    updated.
    """
    round_ = session.round(number)
    session.load_model(round_.base_model)
    round_ = session.wait_while(number, Phase.COMMIT, lambda now: commit(session, now))
    if session.address in round_.commits and not is_own_commit(session, round_):
        session.report("not revealed", number, reason=NOT_MINE)
    round_ = session.wait_while(number, Phase.REVEAL, lambda now: reveal(session, now))
    if session.phase(round_) in (Phase.ATTEST, Phase.FINALIZED):
        session.journal.watch(number)
        crash_point(Point.WATCHED)
        results = gather_updates(session, round_)
        derived = derive_outcome(session, number, results)
        round_ = session.wait_while(number, Phase.ATTEST, lambda now: attest(session, now, results, derived))
        if round_.phase is Phase.FINALIZED:
            update_model(session, round_, results, derived)
            crash_point(Point.UPDATED)
    settle(session, round_)


# What a node does in a phase: whether it was sent; None if there is nothing to do (any more).


def commit(session: Session, round_: Round) -> bool | None:
    """Trains, selects, encodes, keeps the update in the journal, and commits its seal. The blob stays at home."""
    if round_.phase is not Phase.COMMIT or session.address not in round_.roster or session.address in round_.commits:
        return None
    pending = session.journal.pending(round_.number) or prepare(session, round_)
    sealed = seal(session.domain, round_.number, session.address, pending.metadata)
    crash_point(Point.COMMITTING)
    sent = session.send("commit", round_.number, lambda: session.client.commit(round_.number, sealed))
    crash_point(Point.COMMITTED)
    return sent


def reveal(session: Session, round_: Round) -> bool | None:
    """Publishes the blob, now that commits are closed, and opens the seal."""
    if session.address not in round_.commits or session.address in round_.reveals:
        return None
    number = round_.number
    pending = session.journal.pending(number) if is_own_commit(session, round_) else None
    if pending is None:
        return None
    packed, metadata = pack(pending.blob, session.layout, session.rules), pending.metadata
    crash_point(Point.REVEALING)
    session.patiently(lambda: session.store.put(packed, digest=Digest(metadata.update_digest)))
    crash_point(Point.PUBLISHED)
    sent = session.send(
        "reveal", number, lambda: session.client.reveal(number, session.address, metadata), bytes=len(packed)
    )
    crash_point(Point.REVEALED)
    return sent


def is_own_commit(session: Session, round_: Round) -> bool:
    """Whether the ledger's commit of this key is that of this node's journal: not if another node uses the key."""
    prepared = session.journal.prepared(round_.number)
    if prepared is None:
        return False
    return seal(session.domain, round_.number, session.address, prepared) == round_.commits[session.address]


def gather_updates(session: Session, round_: Round) -> dict[str, Result]:
    """Fetches and verifies every revealed update; a missing blob is waited for during half of the attest window, unless
    the others have finalized the round before.
    """
    number = round_.number
    session.report("verify", number)
    begun = round_.phase is Phase.ATTEST  # or it begins with the first vote, half a window after the reveals at least
    patience = round_.deadline + session.rules.ledger.attest_window * (-0.5 if begun else 0.5)
    common = session.common_set(round_)

    told: list[str] = []  # whom this node waits for, as reported

    def again(missing: list[str]) -> bool:
        if not told:
            session.report("waiting", number, reason=f"no blob, or a damaged one, of {', '.join(missing)}")
        told[:] = missing
        return session.pause_until(patience) and session.phase(session.round(number)) is Phase.ATTEST

    own = own_update(session, round_)
    results = gather(session.store, round_, session.layout, session.rules, common, session.threads, again, own)
    for who, result in results.items():
        if isinstance(result, Exception):
            session.report("excluded", number, participant=who, reason=str(result))
    return results


def own_update(session: Session, round_: Round) -> dict[str, bytes]:
    """What this node has revealed in this round, from its journal."""
    pending, mine = session.journal.pending(round_.number), round_.reveals.get(session.address)
    return {session.address: pending.blob} if pending and mine == pending.metadata else {}


def derive_outcome(session: Session, number: int, results: dict[str, Result]) -> Derived | None:
    """Aggregates what passed; None if there is nothing to vote for (any more). If its model goes into the store, it is
    there before anyone can read of it.
    """
    round_ = session.round(number)
    if not _may_vote(session, round_):
        return None
    derived = derive(session, round_, accepted_updates(results))
    crash_point(Point.DERIVED)
    store_model(session, derived)
    crash_point(Point.MODEL_PUBLISHED)
    return derived


def store_model(session: Session, derived: Derived) -> None:
    """The last one, and as many others as cost little of the time: they follow from an earlier one (`finalized`), and
    where the server has momentum from the one before that, too.
    """
    pieces = weights.model_pieces(derived.model)
    last = len(session.ledger.history.finalized) + 1 >= session.rules.training.rounds
    if not last and not session.storing.due(sum(map(len, pieces))):
        return
    with session.storing.writing():
        if session.rules.aggregation.server_momentum:
            base = weights.model_pieces(session.model)
            session.patiently(lambda: session.store.put(*base, digest=session.model_digest))
        session.patiently(lambda: session.store.put(*pieces, digest=derived.digest))


def attest(session: Session, round_: Round, results: dict[str, Result], derived: Derived | None) -> bool | None:
    """Votes for the outcome."""
    if derived is None or not _may_vote(session, round_):
        return None
    votes = verdicts_of(results, round_)
    sent = session.send("attest", round_.number, lambda: session.client.attest(round_.number, derived.digest, votes))
    crash_point(Point.ATTESTED)
    return sent


def _may_vote(session: Session, round_: Round) -> bool:
    votes = session.address in round_.roster and session.address not in round_.attestations
    return votes and session.phase(round_) is Phase.ATTEST


def update_model(session: Session, round_: Round, results: dict[str, Result], derived: Derived | None) -> None:
    """The finalized verdicts and model must be those that follow from the updates; only then the model changes.

    `derived` is what this node voted for: if the same updates were accepted, there is nothing to derive again.
    """
    assert round_.outcome is not None  # noqa: S101 - the phase is finalized
    finalized, attested = round_.outcome
    accepted = session.patiently(lambda: verify_accepted_set(attested, round_, look_again(session, round_, results)))
    if derived is None or derived.participants != [update.participant for update in accepted]:
        derived = derive(session, round_, accepted)
    verify_model(round_, derived.digest)
    session.keep_common_norms(round_, accepted)
    session.set_model(derived.model, finalized)
    session.report(
        "finalized", round_.number, model=str(finalized), accepted=len(accepted), updates=len(round_.reveals)
    )


def derive(session: Session, round_: Round, accepted: list[VerifiedUpdate]) -> Derived:
    """The model that follows from the present one and these updates."""
    before = session.model_before(round_)
    rules, spare = session.rules.aggregation, session.spare
    model = aggregate(session.model, accepted, session.layout, rules, before, session.threads, spare)
    session.spare = model  # until it is the session's model
    return Derived([update.participant for update in accepted], model, weights.model_digest(model))


def look_again(session: Session, round_: Round, results: dict[str, Result]) -> dict[str, Result]:
    """The same results, with another look at the blobs that could not be had (U1): others may have had them."""
    missing = [who for who, result in results.items() if verdict_of(result) == verdicts.EXCLUDED[Code.U1]]
    common = session.common_set(round_) if missing else None
    return results | {who: look(session.store, round_, who, session.layout, session.rules, common) for who in missing}


def settle(session: Session, round_: Round) -> None:
    """The residual changes only if the round is final and this node's update was accepted."""
    mine = session.journal.prepared(round_.number)
    accepted = mine is not None and mine == round_.accepted.get(session.address)
    crash_point(Point.SETTLING)
    session.journal.settle(round_.number, accepted=accepted)
    crash_point(Point.SETTLED)
    session.journal.save_checkpoint(session.ledger.save())
    crash_point(Point.CHECKPOINTED)
    if round_.abort_reason is not None:
        session.report("aborted", round_.number, reason=round_.abort_reason.name)
