"""Attacks on relayed commits and votes, which the contract skips."""

from dataclasses import replace

from chain.signing import Signature, SignedCommit, sign_attestation, sign_commit
from tests.simulator.at_ledger import FAKE, NO_SHOW
from tests.simulator.attack import Attack, Mallory
from tests.simulator.membership import ATTEST
from tests.simulator.world import FOURTH, HONEST, WINDOW, account, address


def _relayed(mallory: Mallory, signed: SignedCommit) -> str:
    return mallory.relay("relay_commits", [signed])


def _deadline(mallory: Mallory) -> int:
    return int(mallory.world.clock.now) + WINDOW


def forged_signature(mallory: Mallory) -> str:
    """For the first participant, before it commits itself: a signature that nobody made."""
    return _relayed(mallory, SignedCommit(b"\1" * 28, Signature(_deadline(mallory), b"\xff" * 32, b"\1" * 32)))


def signature_of_another_seal(mallory: Mallory) -> str:
    signed = sign_commit(account(1), mallory.world.chain.deployment, 1, b"\1" * 28, _deadline(mallory))
    return _relayed(mallory, replace(signed, seal=b"\2" * 28))


def expired_signature(mallory: Mallory) -> str:
    past = int(mallory.world.clock.now) - 1
    return _relayed(mallory, sign_commit(account(1), mallory.world.chain.deployment, 1, b"\1" * 28, past))


def signature_for_another_chain(mallory: Mallory) -> str:
    elsewhere = mallory.world.chain.deployment.model_copy(update={"chain_id": 1})
    return _relayed(mallory, sign_commit(account(1), elsewhere, 1, b"\1" * 28, _deadline(mallory)))


def signature_for_another_ledger(mallory: Mallory) -> str:
    elsewhere = mallory.world.chain.deployment.model_copy(update={"address": address(9)})
    return _relayed(mallory, sign_commit(account(1), elsewhere, 1, b"\1" * 28, _deadline(mallory)))


def signature_for_another_round(mallory: Mallory) -> str:
    return _relayed(mallory, sign_commit(account(1), mallory.world.chain.deployment, 2, b"\1" * 28, _deadline(mallory)))


def replayed_signature(mallory: Mallory) -> str:
    """Her own good commit, relayed twice."""
    prepared = mallory.prepare()
    deployment = mallory.world.chain.deployment
    signed = sign_commit(account(FOURTH), deployment, 1, mallory.seal(prepared), _deadline(mallory))
    _relayed(mallory, signed)
    return _relayed(mallory, signed)


def vote_signed_for_other_verdicts(mallory: Mallory) -> str:
    mallory.until(ATTEST)
    deployment = mallory.world.chain.deployment
    vote = sign_attestation(account(HONEST[0]), deployment, 1, FAKE, b"\1\1\1", _deadline(mallory))
    return mallory.relay("relay_attestations", FAKE, b"\1\1\2", [vote])


RELAYS = (
    Attack("forged relay signature", "relays a commit that nobody signed", "InvalidSignature", forged_signature),
    Attack(
        "signature of another seal", "relays another seal than was signed", "NotParticipant", signature_of_another_seal
    ),
    Attack("expired signature", "relays a commit after its deadline", "SignatureExpired", expired_signature),
    Attack(
        "signature for another chain",
        "relays a commit signed for chain 1",
        "NotParticipant",
        signature_for_another_chain,
    ),
    Attack(
        "signature for another ledger",
        "relays a commit signed for another contract",
        "NotParticipant",
        signature_for_another_ledger,
    ),
    Attack(
        "signature for another round",
        "relays a commit signed for round 2",
        "NotParticipant",
        signature_for_another_round,
    ),
    Attack("replayed signature", "relays a commit twice", "AlreadyCommitted", replayed_signature, finding=NO_SHOW),
    Attack(
        "vote signed for other verdicts",
        "relays a vote with other verdicts than were signed",
        "NotParticipant",
        vote_signed_for_other_verdicts,
    ),
)
