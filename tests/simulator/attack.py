"""An attack: who does what, what it must come to, and what became of it when it was played."""

import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from chain.protocol import verdicts
from chain.protocol.digest import Digest
from chain.protocol.errors import RoundledgerError
from chain.protocol.round import Round
from chain.protocol.seal import Metadata, seal
from fl_node import ledger, prepare
from fl_node.packing import pack
from tests.simulator.chain import Lie
from tests.simulator.membership import REVEAL
from tests.simulator.world import DOMAIN, FOURTH, HONEST, RULES, Audited, World, address

LONG = 3600.0  # seconds: until the next block
NAME = "mallory"  # before any node's, so that it acts first


@dataclass(frozen=True)
class Prepared:
    """An update as its participant has it: what it will reveal, and the bytes that it puts into the store."""

    metadata: Metadata
    blob: bytes
    stored: bytes | None  # None: nothing

    def with_blob(self, blob: bytes, stored: bytes | None = None, **values: Any) -> "Prepared":
        """The same with other bytes, and metadata that fits them."""
        fitted = {"update_digest": Digest.of(blob), "update_bytes": len(blob)} | values
        return Prepared(replace(self.metadata, **fitted), blob, blob if stored is None else stored)


class Mallory:
    """The fourth participant, in one round. Her means are those of any participant: calls, blobs, time."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number, self.address = world, number, address(FOURTH)
        self.session = world.sessions[FOURTH]
        world.chain.watchers = (NAME,)

    @property
    def round(self) -> Round:
        return self.session.round(self.number)

    def until(self, *phases: int) -> None:
        self.until_true(lambda: self.world.chain.contract.state.phase in phases)

    def until_true(self, condition: Callable[[], bool]) -> None:
        """Looks again at every new block, before any node does."""
        while not condition():
            self.world.clock.sleep(NAME, LONG)

    def sleep(self, seconds: float) -> None:
        """For that long, whatever happens meanwhile."""
        clock = self.world.clock
        end = clock.now + seconds
        while clock.now < end:
            clock.sleep(NAME, end - clock.now)

    def try_to(self, name: str, *values: Any, sender: str = "") -> str:
        """A call; the contract's error, or "accepted"."""
        return self.world.chain.refused(name, sender or self.address, *values) or "accepted"

    def relay(self, name: str, *values: Any) -> str:
        """A batch of one; the error that it was skipped for, or "accepted"."""
        refusal = self.world.chain.call(name, self.address, self.number, *values)[0]
        return type(refusal).__name__ if refusal else "accepted"

    def prepare(self) -> Prepared:
        """What the real node would send."""
        self.session.load_model(Digest(self.round.base_model))
        pending = prepare.prepare(self.session, self.round)
        return Prepared(pending.metadata, pending.blob, pack(pending.blob, self.session.layout, RULES))

    def seal(self, prepared: Prepared) -> bytes:
        return seal(DOMAIN, self.number, self.address, prepared.metadata)

    def commit(self, prepared: Prepared) -> None:
        self.session.client.commit(self.number, self.seal(prepared))

    def reveal(self, prepared: Prepared) -> str:
        return self.try_to("reveal", self.number, self.address, prepared.metadata)

    def submit(self, prepared: Prepared) -> None:
        """Commits, and when it is time puts the bytes into the store and reveals."""
        self.commit(prepared)
        self.until(REVEAL)
        if prepared.stored is not None:
            digest = Digest(prepared.metadata.update_digest)
            self.world.shared.overwrite(digest, prepared.stored)
        self.reveal(prepared)


Finding = tuple[str, str, int, int | None]  # status, code, round, seat (None: any)


@dataclass(frozen=True)
class Attack:
    """`act` is what the fourth participant does instead of the real node; what it returns is what it came to, or else
    the verdict on her. `model` is what the honest nodes hold in the end: that of the run in which all four were honest,
    or `without` the fourth, or the `base` of the round. `finding`: what the audit must say; None: there is no trace of
    the attack, and it passes.
    """

    name: str
    does: str
    expected: str
    act: Callable[[Mallory], str | None]
    model: str = "without"
    round: int = 1
    finding: Finding | None = None
    exit_code: int = 0
    before: Callable[[World], None] = lambda world: None  # what happens before the round is opened
    refused_by_all: bool = False  # the honest nodes do not take the outcome, for the expected reason
    lie: Lie | None = None  # of the server that the audit asks
    blob_rules: bool = False  # the audit has no rules file
    witness: bool = False  # the audit asks a second server


@dataclass(frozen=True)
class Result:
    """What came of an attack. `agreed`: all honest nodes hold the one model that they should."""

    attack: Attack
    got: str
    agreed: bool
    audited: bool
    audit: Audited

    @property
    def holds(self) -> bool:
        return self.got == self.attack.expected and self.agreed and self.audited

    def to_dict(self) -> dict[str, Any]:
        attack = self.attack
        shown = {"attack": attack.name, "does": attack.does, "expected": attack.expected, "got": self.got}
        return shown | {"agreed": self.agreed, "audited": self.audited, "holds": self.holds}


def play(attack: Attack, folder: Path) -> Result:
    """What looks wrong is looked at again after a pause; time in here does not pass by itself, so there is none."""
    with patch.object(ledger, "PAUSE", 0.0), closing(World.found(folder)) as world:
        return _play(attack, world)


def _play(attack: Attack, world: World) -> Result:
    said: list[str | None] = []
    for number in range(1, attack.round):
        world.play(number, world.honest_fourth(number))
        _none_failed(world)
    attack.before(world)
    mallory = Mallory(world, attack.round)

    def act() -> None:
        said.append(attack.act(mallory))

    world.play(attack.round, {NAME: act})
    failure = world.ended.get(NAME)
    if failure is not None and not isinstance(failure, RoundledgerError):
        raise failure
    got = said[0] if said and said[0] else _code(failure) if failure else _verdict(world, attack.round)
    if attack.refused_by_all:
        ends = [world.ended.get(f"node-{seat}") for seat in HONEST]
        got = ", ".join({_code(end) if end else "accepted" for end in ends})
    else:
        assert not {f"node-{seat}" for seat in HONEST} & world.ended.keys(), world.ended
    audit = world.audit(attack.lie, blob_rules=attack.blob_rules, witness=attack.witness)
    return Result(attack, got, world.digests() == {expected_model(attack)}, _audited(attack, audit), audit)


def expected_model(attack: Attack) -> str:
    return honest_models(attack.round, attack.model == "without")[attack.round - (attack.model == "base")]


@cache
def honest_models(last: int, without: bool) -> list[str]:
    """The models of rounds 0 (genesis) to `last` when nobody attacks; `without` the fourth in the last of them."""
    with tempfile.TemporaryDirectory() as folder, closing(World.found(Path(folder))) as world:
        models = [world.chain.deployment.genesis_model]
        for number in range(1, last + 1):
            world.play(number, {} if without and number == last else world.honest_fourth(number))
            _none_failed(world)
            (model,) = world.digests()
            models.append(model)
    return models


def _none_failed(world: World) -> None:
    for failure in world.ended.values():
        raise failure


def _code(failure: BaseException) -> str:
    return str(getattr(failure, "code", type(failure).__name__))


def _verdict(world: World, number: int) -> str:
    """On the fourth, in the finalized outcome; or why the round was aborted."""
    round_ = world.sessions[HONEST[0]].round(number)
    if round_.outcome is None:
        return round_.abort_reason.name if round_.abort_reason is not None else "open"
    found = verdicts.decode(round_.outcome[1]).get(round_.roster[address(FOURTH)], verdicts.ABSENT)
    return verdicts.name(found).removeprefix("excluded ")


def _audited(attack: Attack, audit: Audited) -> bool:
    found = True
    if attack.finding is not None:
        status, code, number, seat = attack.finding
        found = audit.has(status, code, number, None if seat is None else address(seat))
    return found and audit.exit_code == attack.exit_code
