"""Attacks through the blob store: what is withheld, from some or from all, and what lies under another's name."""

from dataclasses import replace

from chain.protocol.digest import Digest
from chain.protocol.errors import VerificationError
from fl_node.fetch import fetch_rules
from fl_node.rounds import run_round
from tests.simulator.attack import Attack, Mallory
from tests.simulator.membership import ATTEST, IDLE, REVEAL
from tests.simulator.store import EVERYBODY
from tests.simulator.world import FOURTH, OTHER_RULES, World, address

EXCLUDED = ("note", "U1", 1, FOURTH)


def withheld(mallory: Mallory) -> None:
    mallory.submit(replace(mallory.prepare(), stored=None))


def served_after_the_vote(mallory: Mallory) -> None:
    prepared = mallory.prepare()
    mallory.submit(replace(prepared, stored=None))
    mallory.until(IDLE)
    mallory.world.shared.overwrite(Digest(prepared.metadata.update_digest), prepared.stored or b"")


def served_to_some_first(mallory: Mallory) -> None:
    """The first participant cannot read the blob before the others, with her own vote, have made the round final."""
    prepared, hidden = mallory.prepare(), mallory.world.shared.withheld
    hidden[Digest(prepared.metadata.update_digest)] = frozenset({"node-1"})
    mallory.submit(prepared)
    run_round(mallory.session, mallory.number)
    mallory.sleep(5)
    hidden.clear()


def served_to_two_of_three(mallory: Mallory) -> None:
    """Splits the votes, and does not vote."""
    prepared = mallory.prepare()
    mallory.world.shared.withheld[Digest(prepared.metadata.update_digest)] = frozenset({"node-1"})
    mallory.submit(prepared)
    mallory.until(IDLE)


def never_served_to_one(mallory: Mallory) -> None:
    """The fourth is the victim: it never gets the first one's blob, and the others make the round final."""

    def hide() -> None:
        digest = Digest(mallory.round.reveals[address(1)].update_digest)
        mallory.world.shared.withheld[digest] = frozenset({"node-4"})

    mallory.commit(prepared := mallory.prepare())
    mallory.until(REVEAL)
    mallory.world.shared.overwrite(Digest(prepared.metadata.update_digest), prepared.stored or b"")
    mallory.reveal(prepared)
    mallory.until(ATTEST)
    hide()
    run_round(mallory.session, mallory.number)


def other_bytes(mallory: Mallory) -> None:
    mallory.submit(replace(mallory.prepare(), stored=b"\0" * 100))


# ------------------------------------------- blobs that the ledger names otherwise


def _newest_model(world: World) -> Digest:
    return Digest(world.chain.contract.model)


def newcomer(mallory: Mallory) -> None:
    """The fourth starts anew, and so needs the model from its blob, or the updates that made it."""
    run_round(mallory.world.session(FOURTH), mallory.number)


def swap_model(world: World) -> None:
    world.shared.overwrite(_newest_model(world), b"another model")


def hide_model(world: World) -> None:
    world.shared.withheld[_newest_model(world)] = EVERYBODY


def hide_model_and_update(world: World) -> None:
    hide_model(world)
    (round_,) = world.sessions[1].ledger.history.finalized
    world.shared.withheld[Digest(round_.reveals[address(2)].update_digest)] = EVERYBODY


def swap_rules(world: World) -> None:
    world.shared.overwrite(world.chain.deployment.rules, OTHER_RULES.canonical())


def ask_for_rules(mallory: Mallory) -> str:
    try:
        fetch_rules(mallory.session.store, mallory.world.chain.deployment.rules)
    except VerificationError as error:
        return str(error.code)
    return "accepted"


def other_rules_file(mallory: Mallory) -> None:
    """The fourth was given another rules file."""
    run_round(mallory.world.session(FOURTH, rules=OTHER_RULES), mallory.number)


BLOBS = (
    Attack("withheld blob", "reveals and keeps the blob back", "U1", withheld, finding=EXCLUDED),
    Attack(
        "blob served after the vote", "publishes when all have voted", "U1", served_after_the_vote, finding=EXCLUDED
    ),
    Attack(
        "blob served to some first",
        "lets the first participant have the blob only after the others have voted",
        "accepted",
        served_to_some_first,
        "all",
    ),
    Attack(
        "blob served to some only",
        "lets the first participant never have the blob, which splits the votes",
        "NO_QUORUM",
        served_to_two_of_three,
        "base",
        finding=("note", "L3", 1, None),
    ),
    Attack(
        "blob kept from a victim", "the store keeps a blob from the fourth for ever", "A1", never_served_to_one, "all"
    ),
    Attack("other bytes in the store", "stores other bytes than it sealed", "U1", other_bytes, finding=EXCLUDED),
)
NAMED = (
    Attack(
        "model blob swapped",
        "the store serves another model to a newcomer",
        "accepted",
        newcomer,
        "all",
        round=2,
        before=swap_model,
        finding=("fail", "U1", 1, None),
        exit_code=1,
    ),
    Attack(
        "model blob withheld",
        "the store serves no model to a newcomer",
        "accepted",
        newcomer,
        "all",
        round=2,
        before=hide_model,
    ),
    Attack(
        "model and update withheld",
        "the store serves a newcomer neither the model nor all updates that it follows from",
        "U1",
        newcomer,
        round=2,
        before=hide_model_and_update,
        finding=("missing", "U1", 1, 2),
        exit_code=3,
    ),
    Attack(
        "rules blob swapped",
        "the store serves other rules to who has no rules file",
        "U1",
        ask_for_rules,
        before=swap_rules,
        finding=("fail", "U1", 0, None),
        exit_code=1,
        blob_rules=True,
    ),
    Attack("rules file swapped", "the fourth is given other rules", "L4", other_rules_file),
)
