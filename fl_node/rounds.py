"""One round, from local training to the updated model, in the order in which it happens.

Every step looks at the verified ledger first and does only what is still to do, so the same path serves a node that
takes part from the start, one that comes late and one that was killed half-way.
"""

import secrets

from chain.protocol import verdicts
from chain.protocol.errors import Code
from chain.protocol.round import Phase, Round
from chain.protocol.seal import seal
from fl_node import update, weights
from fl_node.aggregate import aggregate
from fl_node.gather import accepted_updates, gather, look, verdicts_of
from fl_node.gradient import Layout, gradient_matrices
from fl_node.journal import Pending
from fl_node.model import load_tensors, to_tensors
from fl_node.session import Session
from fl_node.train import train, training_seed
from fl_node.verify import Result, verdict_of, verify_accepted_set, verify_model


def run_round(session: Session, number: int) -> None:
    """Takes part in round `number`, which is open. Afterwards the node holds the newest finalized model.

    Raises VerificationError when the finalized model is not the one that follows from the updates: then nothing was
    updated.
    """
    session.load_model(session.round(number).base_model)
    commit(session, number)
    round_ = session.wait_while(number, Phase.COMMIT)
    if round_.phase is Phase.REVEAL:
        reveal(session, number)
        round_ = session.wait_while(number, Phase.REVEAL)
    if round_.phase in (Phase.ATTEST, Phase.FINALIZED):
        session.journal.watch(number)
        results = gather_updates(session, number)
        attest(session, number, results)
        round_ = session.wait_while(number, Phase.ATTEST)
        if round_.phase is Phase.FINALIZED:
            update_model(session, round_, results)
    settle(session, round_)


def commit(session: Session, number: int) -> None:
    """Trains, selects, encodes, keeps the update in the journal, and commits its seal. The blob stays at home."""
    round_ = session.round(number)
    if round_.phase is not Phase.COMMIT or session.address not in round_.roster or session.address in round_.commits:
        return
    pending = session.journal.pending(number) or prepare(session, round_)
    sealed = seal(session.domain, number, session.address, pending.metadata)
    session.send("commit", number, lambda: session.client.commit(number, sealed))


def prepare(session: Session, round_: Round) -> Pending:
    """train locally -> gradient matrices -> channel norms -> select by upload rate -> encode -> journal"""
    session.report("train", round_.number)
    seed = training_seed(session.rules.digest, round_.number, session.address)
    load_tensors(session.module, session.model)
    trained = train(session.module, session.records, session.rules, seed)
    session.report("trained", round_.number, loss=trained.loss, accuracy=trained.accuracy)

    layout = Layout.of(session.model)
    gradient = gradient_matrices(layout, session.model, to_tensors(session.module), session.journal.residual(layout))
    mine = update.make_update(
        gradient, layout, session.rules.selection, session.address, round_.number, round_.base_model
    )
    blob = update.encode(mine)

    held = session.data_root
    metadata = update.describe(mine, blob, held.root, held.secret_commitment, held.count, secrets.token_bytes(32))
    pending = Pending(round_.number, metadata, blob)
    session.journal.prepare(pending, update.residual(gradient, mine, layout), layout)
    return pending


def reveal(session: Session, number: int) -> None:
    """Publishes the blob, now that commits are closed, and opens the seal."""
    round_, pending = session.round(number), session.journal.pending(number)
    if pending is None or session.address not in round_.commits or session.address in round_.reveals:
        return
    session.store.put(pending.blob)
    metadata, size = pending.metadata, len(pending.blob)
    session.send("reveal", number, lambda: session.client.reveal(number, session.address, metadata), bytes=size)


def gather_updates(session: Session, number: int) -> dict[str, Result]:
    """Fetches and verifies every revealed update; a missing blob is waited for during half of the attest window, unless
    the others have finalized the round before.
    """
    session.report("verify", number)
    round_ = session.round(number)
    patience = round_.deadline - session.rules.ledger.attest_window / 2
    layout = Layout.of(session.model)

    def again() -> bool:
        return session.pause_until(patience) and session.round(number).phase is Phase.ATTEST

    results = gather(session.store, round_, layout, session.rules, session.threads, again)
    for who, result in results.items():
        if isinstance(result, Exception):
            session.report("excluded", number, participant=who, reason=str(result))
    return results


def attest(session: Session, number: int, results: dict[str, Result]) -> None:
    """Aggregates what passed and votes for the outcome. The model is in the store before anyone can read of it."""
    round_ = session.round(number)
    if (
        round_.phase is not Phase.ATTEST
        or session.address not in round_.roster
        or session.address in round_.attestations
    ):
        return
    blob = weights.encode_model(aggregate(session.model, accepted_updates(results), session.rules.selection))
    digest, votes = session.store.put(blob), verdicts_of(results, round_)
    session.send("attest", number, lambda: session.client.attest(number, digest, votes))


def update_model(session: Session, round_: Round, results: dict[str, Result]) -> None:
    """The finalized verdicts and model must be those that follow from the updates; only then the model changes."""
    assert round_.outcome is not None  # noqa: S101 - the phase is finalized
    finalized, attested = round_.outcome
    accepted = session.patiently(lambda: verify_accepted_set(attested, round_, look_again(session, round_, results)))
    derived = aggregate(session.model, accepted, session.rules.selection)
    verify_model(round_, weights.model_digest(derived))
    session.set_model(derived, finalized)
    session.report(
        "finalized", round_.number, model=str(finalized), accepted=len(accepted), updates=len(round_.reveals)
    )


def look_again(session: Session, round_: Round, results: dict[str, Result]) -> dict[str, Result]:
    """The same results, with another look at the blobs that could not be had (U1): others may have had them."""
    layout = Layout.of(session.model)
    missing = [who for who, result in results.items() if verdict_of(result) == verdicts.EXCLUDED[Code.U1]]
    return results | {who: look(session.store, round_, who, layout, session.rules) for who in missing}


def settle(session: Session, round_: Round) -> None:
    """The residual changes only if the round is final and this node's update was accepted."""
    attested = verdicts.decode(round_.outcome[1]) if round_.outcome else {}
    accepted = attested.get(round_.roster.get(session.address, 0)) == verdicts.ACCEPTED
    session.journal.settle(round_.number, accepted=accepted)
    session.journal.save_checkpoint(session.ledger.save())
    if round_.abort_reason is not None:
        session.report("aborted", round_.number, reason=round_.abort_reason.name)
