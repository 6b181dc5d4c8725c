"""Round overhead: everything in a round but local training, for roundledger as it is run (Anvil, one process a node;
commit, reveal, verification and attestation of every update), and for its peers through `benchmarks/peers`.

A round lasts until the last node holds its model. Nobody trains much: the peers' clients send their model back as it
is, our nodes make one step on `RECORDS` records, so that there is an update to rank, encode and verify. What such a
step takes alone is taken off, as often as nodes must take turns on a core; or the longest of these steps, if that is
less. The first round is left out: it loads libraries.
"""

import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console

from chain.devnet import Devnet
from chain.files import load_rules
from chain.protocol.rules import AggregationRules, CompressionRules, SelectionRules
from fl_node.config import NodeConfig
from fl_node.data import load_records
from fl_node.demo import set_up, write_data
from fl_node.fleet import Fleet
from fl_node.model import build_model
from fl_node.presets import Preset, preset
from fl_node.train import train

PEERS = Path(__file__).parent / "peers"
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
HIDDEN = {10_000: [133], 1_000_000: [963, 963], 10_000_000: [3124, 3124]}  # of an mlp from 64 features to 10 classes
ROUNDS, RECORDS = 6, 8
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
    training: tuple[float, ...] = ()  # what was taken off the same rounds

    @property
    def typical(self) -> float | None:
        return median(self.seconds) if self.seconds else None


def parameters(size: int) -> int:
    """The exact number of parameters of the model of about that size."""
    sizes = [64, *HIDDEN[size], 10]
    return sum(before * after + after for before, after in itertools.pairwise(sizes))


def smallest_training(size: int) -> Preset:
    """The digits with the rules that roundledger has by default, one step of training, and a model of that size."""
    selection, compression, aggregation = SelectionRules(), CompressionRules(), AggregationRules()
    return replace(
        preset("digits"),
        model=f'factory = "mlp"\noptions = {{ hidden = {HIDDEN[size]} }}',
        training="epochs = 1\nbatch_size = 1024\nlearning_rate = 0.01",
        upload_rate=str(selection.upload_rate),
        compression=f"bits = {compression.bits}",
        aggregation=f'weighting = "{aggregation.weighting}"',
    )


def ours(nodes: int, size: int, rounds: int = ROUNDS) -> Overhead:
    """A federation on Anvil, its nodes as processes, on a handful of records each: more would be training, which many
    nodes on few cores do one after the other.
    """
    chosen = smallest_training(size)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder, quiet = Path(name), Console(file=io.StringIO())
        federation, _, files = write_data(folder, chosen, rounds, nodes, seed=1)
        for file in files:
            records = load_records(folder / file, federation.data)
            few = replace(records, features=records.features[:RECORDS], labels=records.labels[:RECORDS])
            chosen.write(folder / file, few, federation.data)
        with Devnet.start(log=folder / "anvil.log") as devnet:
            configs = set_up(folder, devnet, chosen, files, 1, quiet)
            with Fleet(configs, folder / "logs") as fleet:
                times = event_times(fleet)
        seconds, training = overheads(times, rounds, folder)
    return Overhead("roundledger", nodes, parameters(size), seconds, _phases(times, rounds), training=training)


Times = dict[tuple[str, int, str], float]  # (node, round, event) -> seconds


def event_times(fleet: Fleet) -> Times:
    """When each node first did what, until the last one is done. Raises RuntimeError when one fails."""
    times: Times = {}
    for event in fleet.events():
        times.setdefault((event.node, event.round, event.kind), time.monotonic())
        if event.kind == "exit" and event.values["code"]:
            raise RuntimeError(f"{event.node} failed: {fleet.last_words(event.node)}")
    return times


def overheads(times: Times, rounds: int, folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of every round but the first, the seconds without training, and those of training that were taken off."""
    nodes = len({node for node, _, _ in times})
    most = max(1.0, nodes / (os.cpu_count() or 1)) * _alone(folder)
    training = tuple(min(longest, most) for longest in trainings(times, rounds))
    lasted = zip(durations(times, rounds), training, strict=True)
    return tuple(whole - part for whole, part in lasted), training


def durations(times: Times, rounds: int) -> tuple[float, ...]:
    """Of every round but the first, until the last node holds its model."""
    nodes = {node for node, _, _ in times}
    ends = [max(times[node, number, "finalized"] for node in nodes) for number in range(1, rounds + 1)]
    return tuple(after - before for before, after in itertools.pairwise(ends))


def trainings(times: Times, rounds: int) -> tuple[float, ...]:
    """The longest training in every round but the first."""
    nodes = {node for node, _, _ in times}
    return tuple(
        max(times[node, number, "trained"] - times[node, number, "train"] for node in nodes)
        for number in range(2, rounds + 1)
    )


def _alone(folder: Path) -> float:
    """The seconds of one node's training while no other one runs, median of a few."""
    rules = load_rules(folder / "federation.toml")
    module, records = build_model(rules, seed=0), load_records(NodeConfig.load(folder / "node-1.toml").data, rules.data)
    seconds = []
    for number in range(6):
        started = time.perf_counter()
        train(module, records, rules, number + 1, seed=1)
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])


def _phases(times: Times, rounds: int) -> dict[str, float]:
    """A node that came late does not attest any more, once the quorum has: what it did not do does not count."""
    nodes, found = {node for node, _, _ in times}, defaultdict(list)
    for number, node, (what, start, stop) in itertools.product(range(2, rounds + 1), nodes, PHASES):
        before = number - 1 if start == "finalized" else number
        if (node, before, start) in times and (node, number, stop) in times:
            found[what].append(times[node, number, stop] - times[node, before, start])
    return {what: median(seconds) for what, seconds in found.items()}


# ------------------------------------------------------------- peers


@lru_cache
def environment(name: str) -> Path:
    """The virtual environment of a peer, made once from the extra `bench-<name>` of `pyproject.toml`: a peer must not
    disturb our own packages.
    """
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    venv, wanted = PROJECT.parent / "runs" / "environments" / name, extras[f"bench-{name}"]
    stamp = venv / "installed.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        subprocess.run([str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", *wanted], check=True)
        stamp.write_text(json.dumps(wanted))
    return venv


@dataclass(frozen=True)
class Peer:
    """Another framework: its harness in `benchmarks/peers`, the harness' options, rounds and seconds for a case."""

    title: str
    harness: str
    options: tuple[str, ...]
    rounds: int
    seconds: int

    def measure(self, nodes: int, size: int) -> Overhead:
        """One case of the harness, which prints one JSON object; a second try where the start of it hung."""
        try:
            venv = environment(self.harness)
        except subprocess.CalledProcessError as error:  # the others can be measured all the same
            return Overhead(self.title, nodes, parameters(size), (), {}, f"not installed: {error}")
        command = [sys.executable, str(PEERS / self.harness / "measure.py"), "--venv", str(venv), *self.options]
        command += ["--nodes", str(nodes), "--parameters", str(parameters(size))]
        command += ["--rounds", str(self.rounds), "--timeout", str(self.seconds)]
        found: dict[str, Any] = {}
        for _ in range(2):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            try:
                found = json.loads(done.stdout.strip().splitlines()[-1])
            except (ValueError, IndexError):
                found = {"error": done.stderr.strip()[-300:] or "no result"}
            if not found.get("error"):
                break
        seconds = tuple(found.get("seconds", ()))[1:]
        return Overhead(self.title, nodes, parameters(size), seconds, {}, found.get("error", ""))


SIMULATION = Peer("Flower simulation", "flower", ("--mode", "simulation"), 4, 300)
SUPERLINK = Peer("Flower SuperLink", "flower", ("--mode", "superlink"), 3, 600)  # a process for every message
FLARE = Peer("NVIDIA FLARE simulator", "flare", (), 4, 120)
