"""Attacks on the membership: by those who left, by strangers, and by the operator itself."""

from collections.abc import Callable

from chain.protocol.digest import Digest
from chain.signing import Signature, sign_rotation
from tests.simulator.attack import Attack, Mallory
from tests.simulator.membership import ATTEST
from tests.simulator.world import FOURTH, HONEST, OWNER, WINDOW, World, account, address

STRANGER = 9
SYBILS = range(10, 16)  # with the fourth they are seven of ten: a quorum
FAKE = Digest.of(b"a model that follows from nothing")


def retire(world: World) -> None:
    world.chain.call("retire", address(OWNER), address(FOURTH))


def rotate(world: World) -> None:
    deadline = int(world.clock.now) + WINDOW
    consent = sign_rotation(account(STRANGER), world.chain.deployment, address(FOURTH), deadline)
    world.chain.call("rotate", address(FOURTH), address(STRANGER), consent)


def enrol_sybils(world: World) -> None:
    for seat in SYBILS:
        world.chain.call("enrol", address(OWNER), address(seat))


def calling(name: str, *values: object, sender: int = FOURTH) -> Callable[[Mallory], str]:
    return lambda mallory: mallory.try_to(name, *values, sender=address(sender))


def commit_when_enrolled_late(mallory: Mallory) -> str:
    mallory.try_to("enrol", address(STRANGER), sender=address(OWNER))
    return mallory.try_to("commit", 1, b"\1" * 28, sender=address(STRANGER))


def rotation_without_consent(mallory: Mallory) -> str:
    """Takes an address that is somebody else's, so that its owner could never be enrolled."""
    deployment, deadline = mallory.world.chain.deployment, int(mallory.world.clock.now) + WINDOW
    consent = sign_rotation(account(FOURTH), deployment, mallory.address, deadline)
    return mallory.try_to("rotate", address(STRANGER), consent)


def rotation_to_a_participant(mallory: Mallory) -> str:
    return mallory.try_to("rotate", address(1), Signature(0, bytes(32), bytes(32)))


def second_rotation(mallory: Mallory) -> str:
    """In front of the owner, who retires the number's new address."""
    rotate(mallory.world)
    deployment, deadline = mallory.world.chain.deployment, int(mallory.world.clock.now) + WINDOW
    consent = sign_rotation(account(SYBILS[0]), deployment, address(STRANGER), deadline)
    return mallory.try_to("rotate", address(SYBILS[0]), consent, sender=address(STRANGER))


def enrolment_of_a_rotated_key(mallory: Mallory) -> str:
    return mallory.try_to("enrol", mallory.address, sender=address(OWNER))


def voting_together(model: Digest, verdicts: bytes) -> Callable[[Mallory], None]:
    """The sybils and the fourth finalize an outcome of their own."""

    def act(mallory: Mallory) -> None:
        mallory.until(ATTEST)
        for seat in (*SYBILS, FOURTH):
            mallory.try_to("attest", mallory.number, model, verdicts, sender=address(seat))

    return act


def suppressing(mallory: Mallory) -> None:
    """They exclude the first participant for a reason that it has not given: U2."""
    mallory.until(ATTEST)
    voting_together(FAKE, b"\3\1\1")(mallory)


MEMBERS = (
    Attack(
        "retired member",
        "commits after it was retired",
        "NotParticipant",
        calling("commit", 2, b"\1" * 28),
        round=2,
        before=retire,
    ),
    Attack(
        "rotated key",
        "commits with a key that was rotated away",
        "NotParticipant",
        calling("commit", 2, b"\1" * 28),
        round=2,
        before=rotate,
    ),
    Attack(
        "rotated key comes back",
        "is enrolled with a key that was rotated away",
        "KeyRotated",
        enrolment_of_a_rotated_key,
        round=2,
        before=rotate,
    ),
    Attack(
        "stranger",
        "commits without being enrolled",
        "NotParticipant",
        calling("commit", 1, b"\1" * 28, sender=STRANGER),
    ),
    Attack(
        "enrolled late",
        "commits in the round during which it was enrolled",
        "NotParticipant",
        commit_when_enrolled_late,
    ),
    Attack(
        "rotation without consent", "takes an address that is not its own", "InvalidSignature", rotation_without_consent
    ),
    Attack(
        "rotation to a participant",
        "takes the address of another participant",
        "AlreadyEnrolled",
        rotation_to_a_participant,
    ),
    Attack(
        "rotation in front of a retirement", "rotates a second time in one round", "NotParticipant", second_rotation
    ),
    Attack(
        "enrolment by a participant",
        "enrols a friend",
        "OwnableUnauthorizedAccount",
        calling("enrol", address(STRANGER)),
    ),
    Attack(
        "retirement by a participant", "retires another", "OwnableUnauthorizedAccount", calling("retire", address(1))
    ),
    Attack(
        "ownership taken", "accepts what was not offered", "OwnableUnauthorizedAccount", calling("accept_ownership")
    ),
    Attack("pause by a participant", "pauses new rounds", "NotPauser", calling("pause")),
    Attack(
        "successor by a participant",
        "names another ledger as successor",
        "OwnableUnauthorizedAccount",
        calling("set_successor", address(STRANGER)),
    ),
)
OPERATOR = (
    Attack(
        "sybils",
        "the operator enrols a quorum of its own, which votes for a model of its own",
        "A2",
        voting_together(FAKE, b"\1\1\1"),
        "base",
        round=2,
        finding=("fail", "A2", 2, None),
        exit_code=1,
        before=enrol_sybils,
        refused_by_all=True,
    ),
    Attack(
        "sybils that suppress",
        "the operator's quorum excludes the first participant for a made-up reason",
        "A1",
        suppressing,
        "base",
        round=2,
        finding=("fail", "A1", 2, HONEST[0]),
        exit_code=1,
        before=enrol_sybils,
        refused_by_all=True,
    ),
)
