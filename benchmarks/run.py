"""All measurements, one after the other, and the report on them.

    python -m benchmarks.run [--quick] [--part accuracy] [--out DIR]

Every part writes `<part>.json`, and the report is made of those that are there: a part can be measured again alone.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import torch
from rich.console import Console
from rich.progress import track

from benchmarks import accuracy, growth, overhead, report, steps, tuning
from benchmarks.accuracy import Series
from benchmarks.methods import DENSE, FINALISTS, HEADLINE, MORE, WINNER
from benchmarks.overhead import FLARE, SIMULATION, SUPERLINK, Peer
from chain.protocol.errors import ConfigError
from fl_node.presets import preset

HERE = Path(__file__).parent
COMMIT = ("git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*")
Save = Callable[[Any], None]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    tuning: tuple[Series, ...]
    accuracy: tuple[Series, ...]
    nodes: tuple[int, ...]
    sizes: tuple[int, ...]
    peers: tuple[Peer, ...]
    parameters: int
    histories: tuple[int, ...]
    known: tuple[accuracy.Run, ...] = ()  # of tuning and accuracy, not to be run again


FULL = Plan(
    tuning=tuning.SERIES,
    accuracy=(
        Series("fashion-short", (1, 2, 3)),
        Series("fashion-short", (4, 5, 6, 7, 8), FINALISTS),
        Series("digits", (1, 2, 3, 4, 5), (*HEADLINE, MORE)),
        Series("fashion", (1, 2, 3, 4, 5, 6, 7, 8), (DENSE, "STC 1.8%, root", WINNER, MORE)),
    ),
    nodes=(2, 4, 8, 16),
    sizes=tuple(overhead.HIDDEN),
    peers=(SIMULATION, SUPERLINK, FLARE),
    parameters=100_000_000,
    histories=(5, 10, 20, 40),
)
QUICK = Plan(
    tuning=(),
    accuracy=(Series("digits", (1, 2, 3), (DENSE, "top-k 1%, root", "STC 1.8%, root", WINNER), rounds=40),),
    nodes=(2, 4),
    sizes=(10_000, 1_000_000),
    peers=(SIMULATION,),
    parameters=20_000_000,
    histories=(5, 20),
)


def measure_tuning(plan: Plan, save: Save, console: Console) -> Any:
    found = []
    for run in accuracy.measure(plan.tuning, console, plan.known, "tuning", last=True):
        found.append(asdict(run))
        save(found)  # it takes an hour
    return found


def measure_accuracy(plan: Plan, save: Save, console: Console) -> Any:
    found = []
    for run in accuracy.measure(plan.accuracy, console, plan.known):
        found.append(asdict(run))
        save(found)  # it takes an hour
    return found


def measure_overhead(plan: Plan, save: Save, console: Console) -> Any:
    """Case by case all frameworks, so that they meet the machine in the same state."""
    found = []
    for size in plan.sizes:
        for nodes in plan.nodes:
            cases: list[tuple[str, Callable[[int, int], overhead.Overhead]]] = [("roundledger", overhead.ours)]
            cases += [(peer.title, peer.measure) for peer in plan.peers]
            for name, case in cases:
                result = case(nodes, size)
                seconds = f"{result.typical:.2f} s" if result.typical is not None else result.error
                console.print(f"overhead: {nodes} nodes, {size:,} parameters, {name}: {seconds}", highlight=False)
                found.append(asdict(result))
                save(found)  # it takes an hour
    return found


def measure_steps(plan: Plan, save: Save, console: Console) -> Any:
    machine, found, memory = steps.measure(plan.parameters)
    return {
        "parameters": plan.parameters,
        "machine": asdict(machine),
        "steps": {name: [asdict(step) for step in each] for name, each in found.items()},
        "memory": memory,
    }


def measure_growth(plan: Plan, save: Save, console: Console) -> Any:
    return [asdict(each) for each in track(growth.histories(plan.histories), "growth", console=console)]


PARTS = {
    "overhead": measure_overhead,
    "steps": measure_steps,
    "growth": measure_growth,
    "tuning": measure_tuning,
    "accuracy": measure_accuracy,
}


def about() -> dict[str, Any]:
    """What it was measured on, as far as a reader needs to know."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "torch": torch.__version__,
        "commit": subprocess.run(COMMIT, check=False, capture_output=True, text=True).stdout.strip(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the short version, beside Flower's simulation alone")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated (default: all)")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results; with --quick runs/bench-quick")
    parser.add_argument("--go-on", action="store_true", help="keep the runs that are there, of tuning and accuracy")
    options = parser.parse_args()
    plan, console = QUICK if options.quick else FULL, Console()
    folder = options.out or (Path("runs/bench-quick") if options.quick else HERE / "results")
    folder.mkdir(parents=True, exist_ok=True)
    if options.go_on:
        plan = replace(plan, known=report.saved_runs(folder))
    stamp = about()  # before a result is written, which is a change of the working tree
    parts = options.part or [part for part in PARTS if part != "tuning" or plan.tuning]
    try:  # better known before three hours of measurements than after
        for series in plan.accuracy if {"accuracy", "tuning"} & set(parts) else ():
            preset(accuracy.SETTINGS[series.setting].dataset).records(2, seed=0)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    for part in parts:
        started = time.monotonic()
        path = folder / f"{part}.json"

        def save(found: Any, path: Path = path) -> None:
            path.write_text(json.dumps({"about": stamp, "found": found}, indent=1) + "\n")

        save(PARTS[part](plan, save, console))
        console.print(f"{part}: {time.monotonic() - started:.0f} s, {path}", highlight=False)
    for path in report.write(folder):
        console.print(path, highlight=False)


if __name__ == "__main__":
    main()
