"""Round overhead: everything in a round but local training, for roundledger as it is run (Anvil, one process a node;
commit, reveal, verification and attestation of every update), and for its peers through `benchmarks/peers`.

A round lasts until the last node holds its model. The longest local training of any node is taken off: all train at the
same time. The first round is left out: it loads libraries.
"""

import io
import itertools
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import torch
from rich.console import Console

from chain.devnet import Devnet
from fl_node.demo import set_up, write_data
from fl_node.fleet import Fleet
from fl_node.presets import preset

PEERS = Path(__file__).parent / "peers"
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
HIDDEN = {10_000: [133], 1_000_000: [963, 963], 10_000_000: [3124, 3124]}  # of an mlp from 64 features to 10 classes
ROUNDS, PEER_ROUNDS = 6, 4
TIMEOUTS = {"simulation": 300, "superlink": 600, "flare": 120}  # seconds for a case
PHASES = (  # (what, from which event of a node to which)
    ("settle, open the round", "finalized", "train"),
    ("train", "train", "trained"),
    ("prepare, commit", "trained", "commit"),
    ("wait, reveal", "commit", "reveal"),
    ("wait, fetch, verify, aggregate, attest", "reveal", "attest"),
    ("wait, update the model", "attest", "finalized"),
)


@dataclass(frozen=True)
class Overhead:
    """Seconds of overhead of each round but the first, for one framework."""

    framework: str
    nodes: int
    parameters: int
    seconds: tuple[float, ...]
    phases: dict[str, float] = field(default_factory=dict)  # median seconds of a phase over nodes and rounds
    error: str = ""

    @property
    def typical(self) -> float | None:
        return median(self.seconds) if self.seconds else None


def parameters(size: int) -> int:
    """The exact number of parameters of the model of about that size."""
    sizes = [64, *HIDDEN[size], 10]
    return sum(before * after + after for before, after in itertools.pairwise(sizes))


def ours(nodes: int, size: int, rounds: int = ROUNDS) -> Overhead:
    """A federation on Anvil, its nodes as processes, on a handful of records each."""
    chosen = replace(
        preset("digits"),
        model=f'factory = "mlp"\noptions = {{ hidden = {HIDDEN[size]} }}',
        training="epochs = 1\nbatch_size = 1024\nlearning_rate = 0.01",
        upload_rate="0.5",
        compression="bits = 2\nblock = 1048576\nentry_rate = 0.018",
        aggregation='weighting = "root"',
    )
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder, quiet = Path(name), Console(file=io.StringIO())
        _, _, files = write_data(folder, chosen, rounds, nodes, seed=1)
        with Devnet.start(log=folder / "anvil.log") as devnet:
            configs = set_up(folder, devnet, chosen, files, 1, quiet)
            with Fleet(configs, folder / "logs") as fleet:
                times = _times(fleet)
    return Overhead("roundledger", nodes, parameters(size), _overheads(times, rounds), _phases(times, rounds))


Times = dict[tuple[str, int, str], float]  # (node, round, event) -> seconds


def _times(fleet: Fleet) -> Times:
    times: Times = {}
    for event in fleet.events():
        times.setdefault((event.node, event.round, event.kind), time.monotonic())
        if event.kind == "exit" and event.values["code"]:
            raise RuntimeError(f"{event.node} failed: {fleet.last_words(event.node)}")
    return times


def _overheads(times: Times, rounds: int) -> tuple[float, ...]:
    nodes = {node for node, _, _ in times}
    ends = [max(times[node, number, "finalized"] for node in nodes) for number in range(1, rounds + 1)]
    found = []
    for number in range(2, rounds + 1):
        training = max(times[node, number, "trained"] - times[node, number, "train"] for node in nodes)
        found.append(ends[number - 1] - ends[number - 2] - training)
    return tuple(found)


def _phases(times: Times, rounds: int) -> dict[str, float]:
    """A node that came late does not attest any more, once the quorum has: what it did not do does not count."""
    nodes, found = {node for node, _, _ in times}, defaultdict(list)
    for number, node, (what, start, stop) in itertools.product(range(2, rounds + 1), nodes, PHASES):
        before = number - 1 if start == "finalized" else number
        if (node, before, start) in times and (node, number, stop) in times:
            found[what].append(times[node, number, stop] - times[node, before, start])
    return {what: median(seconds) for what, seconds in found.items()}


# ------------------------------------------------------------- peers


def environment(name: str, folder: Path) -> Path:
    """The virtual environment of a peer, made once from the extra `bench-<name>` of `pyproject.toml`: a peer must not
    disturb our own packages.
    """
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    venv, wanted = folder / name, extras[f"bench-{name}"]
    stamp = venv / "installed.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        subprocess.run([str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted], check=True)
        stamp.write_text(json.dumps(wanted))
    return venv


def peers(flower: Path, flare: Path) -> list[tuple[str, Callable[[int, int], Overhead]]]:
    """What is measured beside us: (name, measurement of so many nodes and parameters). The environments are theirs."""

    def case(name: str, venv: Path, timeout: int, *options: str) -> Callable[[int, int], Overhead]:
        return lambda nodes, size: _peer(name, venv, nodes, size, timeout, *options)

    return [
        ("Flower simulation", case("flower", flower, TIMEOUTS["simulation"], "--mode", "simulation")),
        ("Flower SuperLink", case("flower", flower, TIMEOUTS["superlink"], "--mode", "superlink")),
        ("NVIDIA FLARE simulator", case("flare", flare, TIMEOUTS["flare"])),
    ]


def _peer(name: str, venv: Path, nodes: int, size: int, timeout: int, *options: str) -> Overhead:
    """One case of a peer's own harness, which prints one JSON object; a second try where the start of it hung."""
    command = [sys.executable, str(PEERS / name / "measure.py"), "--venv", str(venv), "--nodes", str(nodes), *options]
    command += ["--parameters", str(parameters(size)), "--rounds", str(PEER_ROUNDS), "--timeout", str(timeout)]
    for _ in range(2):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        try:
            found = json.loads(done.stdout.strip().splitlines()[-1])
        except (ValueError, IndexError):
            found = {"framework": name, "error": done.stderr.strip()[-300:] or "no result"}
        if not found.get("error"):
            break
    seconds = tuple(found.get("seconds", ()))[1:]
    return Overhead(found["framework"], nodes, parameters(size), seconds, {}, found.get("error", ""))
