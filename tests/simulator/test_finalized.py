"""Finalized models for who has not derived them round by round: from their blobs, or from what came before."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import obstore
import pytest

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, Unavailable, VerificationError
from chain.protocol.rules import Rules
from fl_node import pace
from fl_node.fetch import fetch_model
from fl_node.finalized import finalized_model
from fl_node.store import BlobStore, _path
from fl_node.weights import encode_model, model_digest
from tests.simulator.store import Store
from tests.simulator.world import World, address, document

ROUNDS = 5
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"aggregation": {"server_momentum": 0.5}},
    "common set": {"selection": {"upload_rate": 0.5, "selection": "common"}},
}


def parsed(**more: Any) -> Rules:
    return Rules.parse(document("derived") | {"training": {"rounds": 9, "learning_rate": 0.5}} | more, "simulator")


def played(folder: Path, rules: Rules) -> World:
    """Five rounds, in the fourth of them without the fourth participant."""
    world = World.found(folder, rules)
    for number in range(1, ROUNDS + 1):
        world.play(number, world.honest_fourth(number) if number != 4 else {})
        assert not world.ended
    return world


@pytest.fixture(params=WAYS)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Every model is in the store: they are small."""
    made = played(tmp_path, parsed(**WAYS[request.param]))
    yield made
    made.close()


def models(world: World) -> list[Digest]:
    history = world.sessions[1].history()
    return [history.rules.genesis_model, *(round_.outcome[0] for round_ in history.finalized if round_.outcome)]


def derived(world: World, digest: Digest) -> dict[str, Any]:
    return finalized_model(Store(world.shared, "auditor"), world.sessions[1].history(), digest, world.rules)


def remove(world: World, digest: Digest) -> bytes:
    data = BlobStore.read(Store(world.shared, "owner"), digest, "what is removed", 1 << 20)
    obstore.delete(world.shared.memory, _path(digest))
    return data


def test_any_models_may_be_missing_or_damaged_but_the_genesis_model(world: World) -> None:
    genesis, *others = models(world)
    assert len(others) == ROUNDS == len(set(others))
    blobs = {digest: remove(world, digest) for digest in others}
    for keep in ([], [others[1]], [others[1], others[2]], others[:4]):
        for digest in keep:
            world.shared.overwrite(digest, blobs[digest])
        for digest, blob in blobs.items():
            assert encode_model(derived(world, digest)) == blob
        for digest in keep:
            world.shared.overwrite(digest, b"something else")
        assert encode_model(derived(world, others[-1])) == blobs[others[-1]]
    remove(world, genesis)
    with pytest.raises(Unavailable) as caught:
        derived(world, genesis)
    assert caught.value.subject == f"model {genesis.short}"
    obstore.delete(world.shared.memory, [_path(digest) for digest in others])
    with pytest.raises(Unavailable, match=f"model {others[0].short}: .*to derive it, the genesis model: not available"):
        derived(world, others[0])


def test_without_an_update_the_models_after_it_cannot_be_had(world: World) -> None:
    _, *others = models(world)
    last = remove(world, others[4])
    rounds = world.sessions[1].history().finalized
    update, who = Digest(rounds[4].reveals[address(2)].update_digest), address(2)
    packed = remove(world, update)
    with pytest.raises(Unavailable, match=f"no blob {others[4]} .*and to derive it, round 5 update of {who}: not"):
        derived(world, others[4])
    world.shared.overwrite(update, packed[:-1])
    with pytest.raises(Unavailable, match=f"and to derive it, round 5 update of {who}: not available: U1"):
        derived(world, others[4])
    world.shared.overwrite(others[4], b"damaged, and nothing to derive it from")
    with pytest.raises(VerificationError) as caught:
        derived(world, others[4])
    assert (caught.value.code, caught.value.subject) == (Code.U1, f"model {others[4].short}")
    world.shared.overwrite(update, packed)
    assert encode_model(derived(world, others[4])) == last


def test_updates_that_do_not_give_the_model_speak_against_the_quorum(tmp_path: Path) -> None:
    world = played(tmp_path, parsed())
    history = world.sessions[1].history()
    round_ = history.finalized[1]
    assert round_.outcome is not None
    right, wrong = round_.outcome[0], Digest.of(b"what the quorum says")
    round_.outcome = (wrong, round_.outcome[1])
    with pytest.raises(VerificationError) as caught:
        finalized_model(Store(world.shared, "auditor"), history, wrong, world.rules)
    assert (caught.value.code, caught.value.subject) == (Code.A2, "round 2 model")
    assert caught.value.detail.endswith(f"expected {wrong}, found {right}")

    rate = parsed(selection={"upload_rate": 0.01})  # under which nobody may have sent so much
    with pytest.raises(VerificationError) as caught:
        finalized_model(Store(world.shared, "auditor"), history, wrong, rate)
    assert caught.value.code is Code.A1 and caught.value.detail.endswith("expected excluded U5, found accepted")
    world.close()


def test_a_newcomer_derives_what_the_others_did_not_store(world: World) -> None:
    _, *others = models(world)
    for digest in others[2:]:
        remove(world, digest)
    newcomer = world.session(3)
    world.play(ROUNDS + 1, world.honest_fourth(ROUNDS + 1))
    assert not world.ended
    assert newcomer.model_digest == world.sessions[1].model_digest == world.sessions[1].history().model


@pytest.mark.parametrize("way", WAYS)
def test_large_models_are_stored_seldom_and_after_the_last_round_and_the_others_derived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(pace, "SMALL", 0)
    monkeypatch.setattr(pace, "SHARE", 1e-9)
    world = played(tmp_path, parsed(**WAYS[way], training={"rounds": ROUNDS, "learning_rate": 0.5}))
    history, stored = world.sessions[1].history(), []
    for count, digest in enumerate(models(world)):
        assert model_digest(derived(world, digest)) == digest
        with suppress(Unavailable):
            fetch_model(Store(world.shared, "auditor"), digest, world.rules)
            stored.append(count)
    assert len(history.finalized) == ROUNDS
    assert stored == ([0, 1, ROUNDS - 1, ROUNDS] if way == "momentum" else [0, 1, ROUNDS])
    audited = world.audit()
    assert audited.exit_code == 0 and not [found for found in audited.findings if found.status == "missing"]
    world.close()
