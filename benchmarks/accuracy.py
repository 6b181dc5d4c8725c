"""Accuracy against bytes: every candidate from the same genesis on the same data, several seeds, in one run.

    python -m benchmarks.accuracy [--setting digits] [--seeds 1 2 3] [--method NAME]

prints its tables; `benchmarks.run` saves them.
"""

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean, median

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.methods import CANDIDATES, DENSE, METHODS, shown
from benchmarks.simulation import LAST, Federation, Setting
from chain.protocol.errors import ConfigError
from fl_node.memory import keep_freed_memory

SAMPLED = 5  # rounds from one look to the next, in a table in which one run looked no more often
LEDGER_BYTES = 1001  # of a participant's commit, reveal and attestation in a round: signed transactions, at most
BELOW = 0.01  # of dense averaging's accuracy: the accuracy to which bytes are counted

DIGITS = {"channels": [8, 16], "hidden": [64]}
FASHION = {"channels": [16, 32], "hidden": [64]}
SETTINGS = {
    "digits": Setting("digits", "digits", "digits, 1,347 images, CNN", 10, 150, 2, 32, 0.2, 0.005, DIGITS),
    "fashion-short": Setting(
        "fashion-short", "fashion-mnist", "Fashion-MNIST, 8,000 images, CNN", 10, 50, 1, 64, 0.2, 0, FASHION, 8_000
    ),
    "fashion": Setting("fashion", "fashion-mnist", "Fashion-MNIST, 60,000 images, CNN", 10, 50, 1, 64, 0.2, 0, FASHION),
}


@dataclass(frozen=True)
class Run:
    """What one candidate did with one seed."""

    setting: str
    candidate: str
    seed: int
    rounds: int
    history: tuple[tuple[int, float], ...]  # after each round (of tuning, the last): bytes uploaded so far, accuracy
    rate: float  # of the server

    @property
    def accuracy(self) -> float:
        return fmean(accuracy for _, accuracy in self.history[-LAST:])

    @property
    def uploaded(self) -> int:
        return self.history[-1][0]

    @property
    def complete(self) -> bool:
        """Whether accuracy was looked at after every round; earlier runs did so after every fifth and the last ones."""
        return len(self.history) == self.rounds

    def bytes_to(self, accuracy: float, every: int) -> int | None:
        """Bytes uploaded when held-out accuracy was first seen to have reached this; None if it never did."""
        return next((uploaded for uploaded, reached in self.seen(every) if reached >= accuracy), None)

    def seen(self, every: int) -> tuple[tuple[int, float], ...]:
        """The history as far as it is seen by who looks after `every` rounds and the last ones."""
        looks = [n for n in range(1, self.rounds + 1) if n % every == 0 or n > self.rounds - LAST]
        return tuple(self.history[n - 1] for n in looks) if self.complete else self.history


def run(setting: str, name: str, seed: int, rate: float, rounds: int, last: bool = False) -> Run:
    """One candidate on one seed. `last`: accuracy is looked at in the last rounds alone, which takes half the time; a
    candidate whose weights leave the numbers then has no history.
    """
    torch.set_num_threads(1)
    keep_freed_memory()  # as a node does
    federation = Federation(replace(SETTINGS[setting], rounds=rounds), seed)
    try:
        history = federation.run(METHODS[name].make(federation, rate), rounds - LAST + 1 if last else 1)
    except ConfigError:
        if not last:
            raise
        history = []
    return Run(setting, name, seed, rounds, tuple(history), rate)


@dataclass(frozen=True)
class Series:
    """What is measured in one setting: with these seeds, these candidates (none named: all), so many rounds (None: as
    many as the setting has), these server learning rates (None: the candidate's own).
    """

    setting: str
    seeds: tuple[int, ...]
    candidates: tuple[str, ...] = ()
    rounds: int | None = None
    rates: tuple[float | None, ...] = (None,)


def measure(
    series: Iterable[Series], console: Console, known: Iterable[Run] = (), what: str = "accuracy", last: bool = False
) -> Iterator[Run]:
    """On all cores, a process each; one after the other as they are done, in the order of the cases. What is `known`
    is not run again, unless its candidate has another rate since. `last`: as in `run`.
    """
    have = {(run.setting, run.candidate, run.seed, run.rate, run.rounds): run for run in known}
    cases = [
        (
            each.setting,
            name,
            seed,
            rate or METHODS[name].rate(each.setting),
            each.rounds or SETTINGS[each.setting].rounds,
        )
        for each in series
        for name, rate, seed in product(each.candidates or CANDIDATES, each.rates, each.seeds)
    ]
    yield from (have[case] for case in cases if case in have)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        runs = [pool.submit(run, *case, last) for case in cases if case not in have]
        for each in track(runs, what, console=console):
            yield each.result()


COLUMNS = (
    "method",
    "accuracy",
    "points to dense",
    "spread",
    "times fewer bytes",
    "with the ledger",
    "bytes to dense less 1 point",
)


Rows = list[list[str]]


def tables(runs: Sequence[Run], setting: str) -> list[tuple[str, Rows]]:
    """A title and rows, as `rows` makes them, for every number of seeds, the most first: of all candidates that were
    run with these seeds, on nothing but these. Seeds differ by more than methods do.
    """
    chosen, made = SETTINGS[setting], []
    for seeds, names in by_seeds([run for run in runs if run.setting == setting]).items():
        title = f"{chosen.title}: {chosen.participants} participants, {len(seeds)} seeds"
        made.append((title, rows(runs, setting, names, seeds)))
    return made


def by_seeds(runs: Sequence[Run]) -> dict[tuple[int, ...], list[str]]:
    """Of one setting, the candidates that were run with these seeds, maybe among others; the most seeds first."""
    seeds: dict[str, tuple[int, ...]] = {
        name: tuple(sorted({run.seed for run in runs if run.candidate == name}))
        for name in CANDIDATES
        if any(run.candidate == name for run in runs)
    }
    groups = sorted(set(seeds.values()), key=len, reverse=True)
    return {group: [name for name, own in seeds.items() if set(group) <= set(own)] for group in groups}


def common_looks(runs: Iterable[Run]) -> int:
    """Rounds from one look to the next that all of these runs have."""
    return 1 if all(run.complete for run in runs) else SAMPLED


def rows(runs: Sequence[Run], setting: str, names: Sequence[str], seeds: Sequence[int]) -> Rows:
    """One row a candidate: medians over the seeds, each compared with dense averaging of that seed."""
    found, made = {(r.candidate, r.seed): r for r in runs if r.setting == setting}, []
    every = common_looks(found[name, seed] for name in names for seed in seeds)
    for name in names:
        own, base = [found[name, seed] for seed in seeds], [found[DENSE, seed] for seed in seeds]
        points = [100 * (a.accuracy - b.accuracy) for a, b in zip(own, base, strict=True)]
        times = median(b.uploaded / a.uploaded for a, b in zip(own, base, strict=True))
        ledger = LEDGER_BYTES * SETTINGS[setting].participants * own[0].rounds
        proven = median(b.uploaded / (a.uploaded + ledger) for a, b in zip(own, base, strict=True))
        goals = [a.bytes_to(b.accuracy - BELOW, every) for a, b in zip(own, base, strict=True)]
        reached = f"{median(g for g in goals if g is not None):,.0f}" if None not in goals else "not always"
        spread = f"{min(points):+.2f} to {max(points):+.2f}"
        accuracy = f"{100 * median(a.accuracy for a in own):.2f}"
        all_told = f"{proven:.0f}" if CANDIDATES[name].ours else ""
        made.append([shown(name), accuracy, f"{median(points):+.2f}", spread, f"{times:.0f}", all_told, reached])
    return made


def table(title: str, lines: Rows) -> Table:
    made = Table(title=title)
    for column in COLUMNS:
        made.add_column(column, justify="left" if column == COLUMNS[0] else "right")
    for line in lines:
        made.add_row(*line)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", action="append", choices=SETTINGS, help="may be repeated (default: digits)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--method", action="append", choices=CANDIDATES, help="may be repeated (default: all)")
    options = parser.parse_args()
    console, settings = Console(), options.setting or ["digits"]
    names = (DENSE, *(name for name in options.method if name != DENSE)) if options.method else ()
    runs = list(measure([Series(setting, tuple(options.seeds), names) for setting in settings], console))
    for setting in settings:
        for title, lines in tables(runs, setting):
            console.print(table(title, lines))


if __name__ == "__main__":
    main()
