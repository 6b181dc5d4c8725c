"""A common selection goes on without the blobs of the round before: their owners can take them away."""

from collections.abc import Callable
from pathlib import Path

import obstore
import pytest

from chain.protocol.digest import Digest
from chain.protocol.errors import Unavailable
from chain.protocol.rules import Rules
from fl_node.store import _path
from tests.simulator.world import FOURTH, HONEST, SEATS, World, address, document

COMMON = Rules.parse(document("common") | {"selection": {"upload_rate": 0.5, "selection": "common"}}, "simulator")

Damage = Callable[[World, Digest], None]


def overwritten(world: World, digest: Digest) -> None:
    world.shared.overwrite(digest, b"garbage")


def deleted(world: World, digest: Digest) -> None:
    obstore.delete(world.shared.memory, _path(digest))


def played(world: World, number: int) -> None:
    world.play(number, world.honest_fourth(number))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """After one round of four honest participants."""
    world = World.found(tmp_path, COMMON)
    played(world, 1)
    assert not world.ended
    return world


def take_away(world: World, damage: Damage) -> None:
    """The update of round 1 of the fourth participant."""
    damage(world, Digest(world.sessions[1].round(1).reveals[address(FOURTH)].update_digest))


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(("damage", "exit_code"), [(overwritten, 1), (deleted, 3)])
def test_who_has_verified_the_round_before_goes_on(
    world: World, damage: Damage, exit_code: int, restarted: bool
) -> None:
    take_away(world, damage)
    if restarted:
        for seat in SEATS:
            world.session(seat)
    for number in (2, 3):
        played(world, number)
        assert not world.ended and len(world.digests()) == 1
    last = world.sessions[1].round(3)
    assert len(last.reveals) == 4 and {reveal.sent for reveal in last.reveals.values()} == {3}  # of the five channels
    audited = world.audit()
    assert audited.exit_code == exit_code  # it says what it could not see: in round 1 that update, in round 2 the set
    assert audited.has("missing", "U5", 2, None)
    assert not [found for found in audited.findings if found.status == "fail" and found.round != 1]
    world.close()


def test_a_newcomer_waits_for_the_blobs_and_accuses_nobody(world: World, tmp_path: Path) -> None:
    take_away(world, overwritten)
    world.sessions.pop(1).journal.close()
    (tmp_path / "node-1").rename(tmp_path / "node-1-lost")
    world.session(1)
    played(world, 2)
    assert isinstance(world.ended.pop("node-1"), Unavailable) and not world.ended
    assert {str(world.sessions[seat].model_digest) for seat in HONEST[1:]} == {str(world.sessions[2].model_digest)}
    world.close()
