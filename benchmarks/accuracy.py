"""Held-out accuracy of channel-selected updates beside dense federated averaging: same data, seeds, model and rounds.

    python benchmarks/accuracy.py [--dataset breast-cancer] [--dataset digits] [--seeds 1 2 3] [--rounds 10]

The channel side runs the node's own steps (gradient matrices, selection, encoding, verification, integer aggregation)
without the chain, which changes no number. The dense side is the plain float mean of the trained weights, weighted by
records. Exit code 1 when a goal is missed.
"""

import argparse
import statistics
import sys
import tomllib
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from chain.protocol.digest import Digest
from chain.protocol.rules import Rules
from fl_node import update
from fl_node.aggregate import aggregate
from fl_node.classify import classify
from fl_node.gradient import Layout, Matrix, gradient_matrices
from fl_node.model import build_model, load_tensors, to_tensors
from fl_node.presets import federation_toml, preset
from fl_node.tensorfile import Tensors
from fl_node.train import train, training_seed
from fl_node.verify import VerifiedUpdate, verify_update
from fl_node.weights import encode_model, model_digest

PARTICIPANTS = 4
MARGIN = 0.01  # of accuracy that the channels may cost
FLOOR = 0.95
NOTHING = Digest.of(b"")  # stands for the data root, which this measurement does not need


@dataclass(frozen=True)
class Outcome:
    accuracy: float
    upload: int  # bytes, all participants and rounds


class Run:
    """One federation of one seed, trained from the same genesis as often as wanted."""

    def __init__(self, dataset: str, rounds: int, seed: int) -> None:
        chosen = preset(dataset)
        data, self.held, self.test = chosen.records(PARTICIPANTS, seed)
        text = federation_toml(chosen, data, rounds)
        self.rules = Rules.parse(tomllib.loads(text, parse_float=Decimal), dataset)
        self.module = build_model(self.rules, seed)
        self.genesis = to_tensors(self.module)
        self.layout = Layout.of(self.genesis)
        self.addresses = [f"0x{seat:040x}" for seat in range(1, PARTICIPANTS + 1)]
        self.identity = self.rules.digest + seed.to_bytes(4, "big")

    def trained(self, model: Tensors, number: int, seat: int) -> Tensors:
        load_tensors(self.module, model)
        train(self.module, self.held[seat], self.rules, training_seed(self.identity, number, self.addresses[seat]))
        return to_tensors(self.module)

    def accuracy(self, model: Tensors) -> float:
        load_tensors(self.module, model)
        metrics = classify(self.module, self.test, self.rules).metrics
        assert metrics is not None
        return metrics.accuracy

    def dense(self) -> Outcome:
        model, total = self.genesis, sum(map(len, self.held))
        for number in range(1, self.rules.training.rounds + 1):
            parts = [self.trained(model, number, seat) for seat in range(PARTICIPANTS)]
            weights = [len(records) / total for records in self.held]
            model = {name: _mean([part[name] for part in parts], weights) for name in model}
        upload = self.rules.training.rounds * PARTICIPANTS * len(encode_model(self.genesis))
        return Outcome(self.accuracy(model), upload)

    def channels(self) -> Outcome:
        model, upload = self.genesis, 0
        residuals: list[list[Matrix] | None] = [None] * PARTICIPANTS
        for number in range(1, self.rules.training.rounds + 1):
            updates = []
            for seat in range(PARTICIPANTS):
                verified, residuals[seat], size = self._update(model, number, seat, residuals[seat])
                updates.append(verified)
                upload += size
            model = aggregate(model, updates, self.rules.selection)
        return Outcome(self.accuracy(model), upload)

    def _update(
        self, model: Tensors, number: int, seat: int, residual: list[Matrix] | None
    ) -> tuple[VerifiedUpdate, list[Matrix], int]:
        address, base, records = self.addresses[seat], model_digest(model), len(self.held[seat])
        gradient = gradient_matrices(self.layout, model, self.trained(model, number, seat), residual)
        mine = update.make_update(gradient, self.layout, self.rules.selection, address, number, base)
        blob = update.encode(mine)
        metadata = update.describe(mine, blob, NOTHING, NOTHING, records, bytes(32))
        verified = verify_update(blob, metadata, address, number, self.layout, self.rules)
        return verified, update.residual(gradient, mine, self.layout), len(blob)


def _mean(tensors: list[np.ndarray], weights: list[float]) -> np.ndarray:
    return sum(weight * tensor.astype(np.float64) for weight, tensor in zip(weights, tensors, strict=True)).astype(
        np.float32
    )


def measure(dataset: str, rounds: int, seeds: list[int], console: Console) -> bool:
    """Prints one data set's table; whether both goals are met."""
    table = Table(title=f"{dataset}: accuracy after {rounds} rounds, {PARTICIPANTS} participants")
    for column in ("seed", "dense", "channels", "difference", "dense bytes", "channel bytes", "times fewer"):
        table.add_column(column, justify="right")
    dense, channels = [], []
    for seed in seeds:
        with console.status(f"{dataset}, seed {seed}"):
            run = Run(dataset, rounds, seed)
            dense.append(run.dense())
            channels.append(run.channels())
        _row(table, str(seed), dense[-1:], channels[-1:])
    table.add_section()
    _row(table, "mean", dense, channels)
    console.print(table)
    difference = _accuracy(channels) - _accuracy(dense)
    met = difference >= -MARGIN and _accuracy(channels) >= FLOOR
    rate = Run(dataset, rounds, seeds[0]).rules.selection.upload_rate
    console.print(
        f"{dataset}: upload rate {rate}, mean accuracy {_accuracy(channels):.4f} (goal {FLOOR}), "
        f"{100 * difference:+.2f} points to dense (goal {-100 * MARGIN:+.2f}): {'met' if met else 'MISSED'}"
    )
    return met


def _row(table: Table, name: str, dense: list[Outcome], channels: list[Outcome]) -> None:
    d, c = _accuracy(dense), _accuracy(channels)
    db, cb = sum(o.upload for o in dense), sum(o.upload for o in channels)
    table.add_row(name, f"{d:.4f}", f"{c:.4f}", f"{100 * (c - d):+.2f}", f"{db:,}", f"{cb:,}", f"{db / cb:.1f}")


def _accuracy(outcomes: list[Outcome]) -> float:
    return statistics.fmean(outcome.accuracy for outcome in outcomes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", action="append", help="may be repeated (default: breast-cancer and digits)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    met = [
        measure(name, options.rounds, options.seeds, console) for name in options.dataset or ["breast-cancer", "digits"]
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
