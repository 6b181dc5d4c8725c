"""Fixtures of the integration tests. The parts are in `harness.py`, beside this file."""

import fcntl
import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from chain.devnet import Devnet
from tests.integration.harness import Done, Federation, Nodes, command, found_federation

ROUNDS = 3
MAKE = Callable[..., Federation]


@pytest.fixture
def federation(tmp_path: Path, devnet: Devnet) -> MAKE:
    """`federation(participants=3, rounds=3, enrolled=None, commit_window=60, ...)`, on this worker's chain."""
    numbers = itertools.count(1)

    def make(
        participants: int = 3, rounds: int = 3, enrolled: Sequence[int] | None = None, **ledger: int | float
    ) -> Federation:
        folder = tmp_path / f"federation-{next(numbers)}"
        return found_federation(folder, devnet, participants, rounds, enrolled, **ledger)

    return make


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Node processes; none outlives the test."""
    with Nodes(tmp_path / "logs") as fleet:
        yield fleet


@dataclass(frozen=True)
class Finished:
    """A finished demo: what it left in `folder`, how the command ended, and what marks all of its processes."""

    folder: Path
    done: Done
    marker: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """`roundledger demo --rounds 3`: four nodes, each a process of its own. Nobody may change its folder.

    It runs once, whichever worker of pytest-xdist asks first.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        about = shared / "done.json"
        if not about.exists():
            marker = f"roundledger-test-{uuid.uuid4()}"
            done = command(
                "demo", "--rounds", ROUNDS, "--dir", shared / "demo", environment={"ROUNDLEDGER_TEST": marker}
            )
            about.write_text(json.dumps([marker, done.code, done.out, done.err]))
    marker, *ended = json.loads(about.read_text())
    return Finished(shared / "demo", Done(*ended), marker)


@pytest.fixture(scope="session")
def saved_chain(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    """The chain of the finished demo, loaded from its saved state."""
    state = tmp_path_factory.mktemp("chain") / "chain.json"
    state.write_bytes((finished.folder / "chain.json").read_bytes())
    with Devnet.start(state=state) as net:
        yield net
