"""How cost grows: the exponent of time (and bytes, gas) in participants, parameters and rounds.

Round overhead over participants and parameters comes from `overhead`; here stand the fit, and what a longer history
costs: the next round, the start of a node that has to replay it, the whole audit.
"""

import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console

from benchmarks.overhead import event_times, overheads, smallest_training
from chain.deploy import load_deployment
from chain.devnet import Devnet
from chain.files import load_rules
from chain.reader import LedgerReader
from chain.rpc import Rpc
from fl_node.audit import Audit
from fl_node.demo import set_up, write_data
from fl_node.fleet import Fleet
from fl_node.ledger import Ledger
from fl_node.store import BlobStore

REPEATS = 3
LAST = 4  # rounds at the end of a history whose overhead counts


@dataclass(frozen=True)
class History:
    """What a history of so many rounds costs, in seconds."""

    rounds: int
    overhead: float  # of its last rounds
    replay: float  # the events, against the head
    audit: float  # everything: blobs, updates, models


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of the costs over the sizes, both in logarithms: 1 is proportional growth."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def histories(counts: Sequence[int], nodes: int = 4) -> list[History]:
    """A federation for each number of rounds."""
    return [_history(rounds, nodes) for rounds in counts]


def _history(rounds: int, nodes: int) -> History:
    chosen = smallest_training(10_000)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, _, files = write_data(folder, chosen, rounds, nodes, seed=1)
        with Devnet.start(log=folder / "anvil.log") as devnet:
            configs = set_up(folder, devnet, chosen, files, 1, Console(file=io.StringIO()))
            with Fleet(configs, folder / "logs") as fleet:
                times = event_times(fleet)
            last = overheads(times, rounds, folder)[0][-LAST:]
            deployment, rules = load_deployment(folder / "deployment.json"), load_rules(folder / "federation.toml")
            replays, audits = [], []
            for _ in range(REPEATS):
                started = time.perf_counter()
                Ledger(LedgerReader(Rpc(devnet.url), deployment), rules).sync()
                replays.append(time.perf_counter() - started)
                audit = Audit(Ledger(LedgerReader(Rpc(devnet.url), deployment)), BlobStore(folder / "blobs"))
                started = time.perf_counter()
                findings = list(audit.run())
                audits.append(time.perf_counter() - started)
                if audit.exit_code or len(findings) < rounds:
                    raise RuntimeError(f"the audit of {rounds} rounds: {audit.verdict}")
    return History(rounds, median(last), median(replays), median(audits))
