"""What goes wrong once, or for a while, and is nobody's fault: it costs no round, or the round and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chain.errors import UnknownRevert
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, Unavailable
from chain.protocol.rules import Rules
from fl_node import prepare
from tests.simulator.store import Store
from tests.simulator.world import HONEST, World, address, document

MOMENTUM = Rules.parse(document("momentum") | {"aggregation": {"server_momentum": 0.5}}, "simulator")


def played(world: World, number: int) -> None:
    world.play(number, world.honest_fourth(number))


@pytest.mark.parametrize("action", ["commit", "reveal", "attest"])
def test_what_is_refused_once_is_tried_again(tmp_path: Path, action: str) -> None:
    """By a server that is a block behind."""
    world = World.found(tmp_path)
    client = world.sessions[1].client
    done: Callable[..., Any] = getattr(client, action)
    refusals = iter([UnknownRevert("WrongRound")])

    def refused_once(*values: Any) -> Any:
        for refusal in refusals:
            raise refusal
        return done(*values)

    setattr(client, action, refused_once)
    played(world, 1)
    assert not world.ended
    round_ = world.sessions[1].round(1)
    assert address(1) in round_.commits and address(1) in round_.reveals
    assert action != "attest" or next(refusals, None) is None
    assert len(round_.accepted) == 4


def test_a_store_that_is_away_for_everybody_excludes_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that can read their own updates alone do not agree, and the round is aborted."""
    world, read = World.found(tmp_path), Store.read
    over = world.clock.now + 600

    def away(store: Store, digest: Digest, subject: str, max_bytes: int) -> bytes:
        if "update of" in subject and world.clock.now < over:
            raise Unavailable(Code.U1, subject, "cannot connect")
        return read(store, digest, subject, max_bytes)

    monkeypatch.setattr(Store, "read", away)
    played(world, 1)
    assert not world.ended
    assert world.sessions[1].round(1).outcome is None
    assert world.sessions[1].history().model == world.chain.deployment.genesis
    world.clock.now = max(world.clock.now, over)
    played(world, 2)
    assert len(world.sessions[1].round(2).accepted) == 4


@pytest.mark.parametrize(("restarted", "updates"), [(False, False), (True, True), (True, False)])
def test_with_momentum_a_damaged_model_from_before_stops_no_running_node(
    tmp_path: Path, restarted: bool, updates: bool
) -> None:
    """Nor one that was restarted, as long as there are the `updates` that the model follows from."""
    world = World.found(tmp_path, MOMENTUM)
    for number in (1, 2):
        played(world, number)
    first, last = world.sessions[1].ledger.history.finalized
    world.shared.overwrite(Digest(last.base_model), b"garbage")
    if not updates:
        world.shared.overwrite(Digest(first.reveals[address(4)].update_digest), b"garbage")
    if restarted:
        world.session(3)
    played(world, 3)
    assert world.sessions[1].round(3).outcome is not None
    if restarted and not updates:  # it could not look, and accuses nobody
        assert world.ended.keys() == {"node-3"} and isinstance(world.ended["node-3"], Unavailable)
    else:
        assert not world.ended
    going = [seat for seat in HONEST if f"node-{seat}" not in world.ended]
    assert {str(world.sessions[seat].model_digest) for seat in going} == {str(world.sessions[1].history().model)}


def test_what_cannot_be_trained_again_is_lost_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The residual from before an accepted update holds what that has sent: to keep it would send it twice."""
    world = World.found(tmp_path)
    for number in (1, 2):
        played(world, number)
    session = world.sessions[1]
    kept, last = session.journal.residual.before(session.layout, 3)
    assert last == 2 and kept is not None and any(matrix.any() for matrix in kept)
    session.journal.residual.keep(kept, 1)  # as if the node had died before it wrote that of round 2

    def gone(*_: object) -> None:
        raise Unavailable(Code.U1, "update", "gone")

    monkeypatch.setattr(prepare, "unsent_again", gone)
    unsent = prepare.unsent_before(session, 3)
    assert unsent is not None and not any(matrix.any() for matrix in unsent)
