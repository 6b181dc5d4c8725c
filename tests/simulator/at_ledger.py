"""Attacks that the contract refuses: on seals, reveals, votes, signatures and time."""

from dataclasses import replace

from chain.protocol.digest import Digest
from tests.simulator.attack import Attack, Mallory
from tests.simulator.membership import ATTEST, REVEAL
from tests.simulator.world import FOURTH, WINDOW, address

FAKE = Digest.of(b"a model that follows from nothing")
NO_SHOW = ("note", "C1", 1, FOURTH)


def copied_seal(mallory: Mallory) -> str:
    _until_committed(mallory, 1)
    copied = mallory.round.commits[address(1)]
    mallory.try_to("commit", 1, copied)
    _until_revealed(mallory, 1)
    return mallory.try_to("reveal", 1, mallory.address, mallory.round.reveals[address(1)])


def replayed_reveal(mallory: Mallory) -> str:
    prepared = mallory.prepare()
    mallory.commit(prepared)
    mallory.until(REVEAL)
    mallory.world.shared.overwrite(Digest(prepared.metadata.update_digest), prepared.stored or b"")
    mallory.reveal(prepared)
    return mallory.reveal(prepared)


def reveal_of_the_round_before(mallory: Mallory) -> str:
    earlier = mallory.session.round(1).reveals[mallory.address]
    mallory.try_to("commit", 2, mallory.world.chain.contract.seal_of(1, mallory.address, earlier))
    mallory.until(REVEAL)
    same_base = replace(earlier, base_model=mallory.round.base_model)
    return mallory.try_to("reveal", 2, mallory.address, same_base)


def stale_base(mallory: Mallory) -> str:
    prepared = mallory.prepare()
    genesis = mallory.world.chain.deployment.genesis
    stale = replace(prepared, metadata=replace(prepared.metadata, base_model=genesis))
    mallory.commit(stale)
    mallory.until(REVEAL)
    return mallory.reveal(stale)


def anothers_salt(mallory: Mallory) -> str:
    prepared = mallory.prepare()
    mallory.commit(prepared)
    _until_revealed(mallory, 1)
    salt = mallory.round.reveals[address(1)].salt
    return mallory.try_to("reveal", 1, mallory.address, replace(prepared.metadata, salt=salt))


def other_data(mallory: Mallory) -> str:
    prepared = mallory.prepare()
    mallory.commit(prepared)
    mallory.until(REVEAL)
    return mallory.try_to("reveal", 1, mallory.address, replace(prepared.metadata, data_root=Digest.of(b"other data")))


def reveal_without_commit(mallory: Mallory) -> str:
    prepared = mallory.prepare()
    mallory.until(REVEAL)
    return mallory.reveal(prepared)


def early_reveal(mallory: Mallory) -> str:
    prepared = mallory.prepare()
    return mallory.reveal(prepared)


def no_show(mallory: Mallory) -> str:
    mallory.commit(mallory.prepare())
    mallory.until(ATTEST)
    return "no-show" if mallory.address in mallory.round.no_shows else "a reveal"


def late_commit(mallory: Mallory) -> str:
    mallory.sleep(WINDOW)
    return mallory.try_to("commit", 1, b"\1" * 28)


def commit_to_the_round_to_come(mallory: Mallory) -> str:
    return mallory.try_to("commit", 2, b"\1" * 28)


def empty_seal(mallory: Mallory) -> str:
    return mallory.try_to("commit", 1, bytes(28))


def second_commit(mallory: Mallory) -> str:
    mallory.commit(mallory.prepare())
    return mallory.try_to("commit", 1, b"\1" * 28)


def early_advance(mallory: Mallory) -> str:
    return mallory.try_to("advance", 1)


def second_round_beside(mallory: Mallory) -> str:
    return mallory.try_to("open", 2)


def block_time_ahead(mallory: Mallory) -> None:
    """Whoever makes the blocks sets their time: the window is over before anybody could commit."""
    mallory.world.chain.skew = WINDOW
    mallory.try_to("advance", 1)


def double_attestation(mallory: Mallory) -> str:
    mallory.until(ATTEST)
    mallory.try_to("attest", 1, FAKE, b"\1\1\1")
    return mallory.try_to("attest", 1, FAKE, b"\1\1")


def another_set(mallory: Mallory) -> str:
    mallory.until(ATTEST)
    return mallory.try_to("attest", 1, FAKE, b"\1\0\1")


def trailing_verdicts(mallory: Mallory) -> str:
    mallory.until(ATTEST)
    return mallory.try_to("attest", 1, FAKE, b"\1\1\1\0")


def verdicts_on_nobody(mallory: Mallory) -> str:
    """Duplicated verdicts: more than there are participants."""
    mallory.until(ATTEST)
    return mallory.try_to("attest", 1, FAKE, b"\1\1\1\1\1")


def empty_model(mallory: Mallory) -> str:
    mallory.until(ATTEST)
    return mallory.try_to("attest", 1, bytes(32), b"\1\1\1")


def early_vote(mallory: Mallory) -> str:
    return mallory.try_to("attest", 1, FAKE, b"\1\1\1")


def _until_committed(mallory: Mallory, seat: int) -> None:
    mallory.until_true(lambda: address(seat) in mallory.round.commits)


def _until_revealed(mallory: Mallory, seat: int) -> None:
    mallory.until_true(lambda: address(seat) in mallory.round.reveals)


SEALS = (
    Attack(
        "copied seal",
        "commits the seal of another, and reveals what that one revealed",
        "SealMismatch",
        copied_seal,
        finding=NO_SHOW,
    ),
    Attack("replayed reveal", "reveals twice", "AlreadyRevealed", replayed_reveal, "all"),
    Attack(
        "reveal of the round before",
        "seals and reveals last round's update again",
        "SealMismatch",
        reveal_of_the_round_before,
        round=2,
        finding=("note", "C1", 2, FOURTH),
    ),
    Attack(
        "wrong base model",
        "builds on the genesis model in round 2",
        "WrongBaseModel",
        stale_base,
        round=2,
        finding=("note", "C1", 2, FOURTH),
    ),
    Attack("another's salt", "reveals with the salt of another", "SealMismatch", anothers_salt, finding=NO_SHOW),
    Attack("other data", "reveals another data root than was sealed", "SealMismatch", other_data, finding=NO_SHOW),
    Attack("reveal without commit", "reveals what was never sealed", "NotCommitted", reveal_without_commit),
    Attack("early reveal", "reveals while others can still commit", "WrongPhase", early_reveal),
    Attack("no-show", "commits and never reveals", "no-show", no_show, finding=NO_SHOW),
    Attack("late commit", "commits when the window is over", "WindowClosed", late_commit),
    Attack("commit to a round to come", "commits to round 2 during round 1", "WrongRound", commit_to_the_round_to_come),
    Attack("empty seal", "commits zero", "ZeroDigest", empty_seal),
    Attack("second commit", "commits twice", "AlreadyCommitted", second_commit, finding=NO_SHOW),
    Attack("early advance", "closes the commits before the deadline", "WindowOpen", early_advance),
    Attack("second round beside", "opens round 2 during round 1", "WrongPhase", second_round_beside),
    Attack(
        "block time ahead",
        "makes blocks whose time is a window ahead",
        "TOO_FEW_COMMITS",
        block_time_ahead,
        "base",
        finding=("note", "L3", 1, None),
    ),
)
VOTES = (
    Attack("double attestation", "votes for two outcomes", "AlreadyAttested", double_attestation),
    Attack("attestation of another set", "votes for a set and model of its own", "accepted", another_set),
    Attack("trailing verdicts", "votes with a verdict that says nothing", "InvalidVerdicts", trailing_verdicts),
    Attack("duplicate verdicts", "votes with more verdicts than participants", "InvalidVerdicts", verdicts_on_nobody),
    Attack("empty model", "votes for the zero digest", "ZeroDigest", empty_model),
    Attack("early vote", "votes before anything was revealed", "WrongPhase", early_vote),
)
