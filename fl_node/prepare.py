"""The update of one round, from local training to the journal, and the residual that it begins with."""

import secrets

import numpy as np

from chain.crash import Point, crash_point
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError, Unavailable, VerificationError
from chain.protocol.round import Round
from fl_node import making, update
from fl_node.gather import revealed_update
from fl_node.gradient import Matrix, gradient_matrices
from fl_node.journal import Pending
from fl_node.model import load_tensors, tensors_of
from fl_node.session import Session
from fl_node.tensorfile import Tensors
from fl_node.train import train, training_seed
from fl_node.verify import verify_data_root


def prepare(session: Session, round_: Round) -> Pending:
    """train locally -> gradient matrices -> channel norms -> select by upload rate -> encode -> journal"""
    residual = unsent_before(session, round_.number)
    gradient = train_locally(session, round_, session.address, session.model, residual)
    layout, common = session.layout, session.common_set(round_)
    mine = making.make_update(
        gradient, layout, session.rules, session.address, round_.number, round_.base_model, common, session.threads
    )
    blob = update.encode(mine, session.rules.compression, layout)
    if len(blob) > (limit := session.rules.limits.update_bytes):
        problem = f"this node's update has {len(blob)} bytes, limits.update_bytes is {limit}"
        raise ConfigError("rules", problem, "everybody would exclude it: the federation needs a larger limit")

    held, salt = session.data_root, secrets.token_bytes(32)
    metadata = making.describe(mine, blob, layout, held.root, held.secret_commitment, held.count, salt)
    pending = Pending(round_.number, metadata, blob)
    making.take_sent(gradient, mine, session.threads)
    crash_point(Point.TRAINED)
    session.journal.prepare(pending, gradient)
    return pending


def train_locally(
    session: Session, round_: Round, participant: str, base: Tensors, residual: list[Matrix] | None
) -> list[Matrix]:
    """The gradient matrices of this round: the change of `base` by local training, and the residual, which is
    overwritten.
    """
    session.report("train", round_.number)
    seed = training_seed(session.rules.digest, round_.number, participant)
    load_tensors(session.module, base)
    trained = train(session.module, session.records, session.rules, round_.number, seed)
    session.report("trained", round_.number, loss=trained.loss, accuracy=trained.accuracy)
    return gradient_matrices(session.layout, base, tensors_of(session.module), residual, session.threads)


def unsent_before(session: Session, number: int) -> list[Matrix] | None:
    """The residual that round `number` begins with.

    After a crash, the one on the disk may be of an earlier round: then training is done again, which gives the same
    bits. What cannot be made again is lost, and reported: it is nobody's concern but this node's.
    """
    history, kept = session.ledger.history, session.journal.residual
    residual, last = kept.before(session.layout, number)
    seat = history.members[session.address].number
    for round_ in history.rounds[last : number - 1]:
        participant = accepted_as(round_, seat)
        if participant is None:
            continue
        try:
            residual = unsent_again(session, round_, participant, residual)
        except (Unavailable, VerificationError) as error:
            session.report("unsent lost", round_.number, reason=str(error))
            residual = [np.zeros((layer.channels, layer.width), np.float32) for layer in session.layout.layers]
        kept.keep(residual, round_.number)
        residual, _ = kept.before(session.layout, number)
    return residual


def unsent_again(session: Session, round_: Round, participant: str, residual: list[Matrix] | None) -> list[Matrix]:
    """What the accepted update of an earlier round left unsent. Raises Unavailable and VerificationError."""
    held, metadata = session.data_root, round_.reveals[participant]
    session.report("training again", round_.number, reason="this node ended before it had written what was left unsent")
    verify_data_root(metadata, round_.number, held.root, held.count, held.secret_commitment)
    base = session.fetched_model(Digest(round_.base_model))
    sent = session.patiently(lambda: revealed_update(session.store, round_, participant, session.layout, session.rules))
    gradient = train_locally(session, round_, participant, base, residual)
    making.take_sent(gradient, sent, session.threads)
    return gradient


def accepted_as(round_: Round, seat: int) -> str | None:
    """Who sent the accepted update of participant number `seat` in this round: keys change, numbers stay."""
    return next((who for who in round_.accepted if round_.roster[who] == seat), None)
