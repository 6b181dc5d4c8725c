"""The steps of a round at 100 million parameters, each in milliseconds and GB/s, beside the floor of the machine.

The floor is measured in the same run, on as many threads: reading memory, hashing, adding integers. A step's floor is
the time to touch its bytes once at those speeds. Worker and receiver work on `THREADS` threads, as a node does with
`threads = 2`.

    python -m benchmarks.steps [--parameters 100000000]
"""

import argparse
import hashlib
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numba import njit
from rich.console import Console
from rich.table import Table

from benchmarks.methods import DEFAULT, rules
from chain.protocol.digest import Digest
from chain.protocol.rules import Rules
from chain.protocol.seal import Metadata
from fl_node import making, packing, update
from fl_node.aggregate import aggregate
from fl_node.gradient import Layout, gradient_matrices
from fl_node.memory import keep_freed_memory
from fl_node.verify import VerifiedUpdate, verify_update
from fl_node.weights import model_digest

THREADS, REPEATS, UPDATES, LAYERS = 2, 5, 10, 8
NOTHING = Digest.of(b"")


def who(seat: int) -> str:
    """The address of a participant."""
    return f"0x{seat + 1:040x}"


@dataclass(frozen=True)
class Step:
    """One step: median seconds, the bytes that it must touch, and the seconds that the machine needs for them."""

    side: str
    name: str
    seconds: float
    bytes: float
    floor: float


@njit(nogil=True)
def _read(values):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for entry in range(values.size):
        total += values[entry]
    return total


@njit(nogil=True)
def _add(total, values):  # type: ignore[no-untyped-def]
    for entry in range(values.size):
        total[entry] += np.int64(values[entry]) << 3


@dataclass(frozen=True)
class Machine:
    """What this machine can do on `THREADS` threads, in bytes (read, hashed) and integers (added) a second."""

    read: float
    hashed: float
    added: float

    @classmethod
    def measure(cls) -> "Machine":
        memory = [np.ones(1 << 25, np.int64) for _ in range(THREADS)]
        small = [np.ones(1 << 24, np.int8) for _ in range(THREADS)]
        sums = [np.zeros(1 << 16, np.int64) for _ in range(THREADS)]

        def add(at: int) -> None:
            for start in range(0, small[at].size, 1 << 16):
                _add(sums[at], small[at][start : start + (1 << 16)])

        def timed(work: Callable[[int], Any]) -> float:
            """The shortest of several: what it can do, not what it does."""
            with ThreadPoolExecutor(THREADS) as pool:
                return min(_seconds(lambda: list(pool.map(work, range(THREADS))), 2 * REPEATS))

        return cls(
            THREADS * memory[0].nbytes / timed(lambda at: _read(memory[at])),
            THREADS * small[0].nbytes / timed(lambda at: hashlib.sha256(small[at]).digest()),
            THREADS * small[0].size / timed(add),
        )


def _median(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    return median(_seconds(work, repeats))


def _seconds(work: Callable[[], Any], repeats: int) -> list[float]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


class Bench:
    """A model of `LAYERS` equal layers, its gradient, and what a worker and a receiver do with them."""

    def __init__(self, parameters: int, chosen: dict[str, Any]) -> None:
        self.rules = Rules.parse(
            {
                "format": "roundledger-federation/1",
                "name": "steps",
                "model": {"factory": "mlp"},
                "data": {"classes": ["a", "b"], "features": ["x"]},
                "training": {"rounds": 1},
                "limits": {"update_bytes": 2**34},
            }
            | chosen,
            "steps",
        )
        side = round((parameters / LAYERS) ** 0.5)
        random = np.random.default_rng(1)
        self.base = {f"layer{at}.weight": random.standard_normal((side, side), np.float32) for at in range(LAYERS)}
        self.trained = {name: tensor + np.float32(1e-3) * tensor**3 for name, tensor in self.base.items()}
        self.layout = Layout.of(self.base)
        self.residual = self.layout.matrices({name: tensor * np.float32(1e-3) for name, tensor in self.base.items()})
        self.size = self.layout.entries * 4
        self.updates = [self._update(seat, random) for seat in range(UPDATES)]

    def _update(self, seat: int, random: np.random.Generator) -> tuple[bytes, bytes, Metadata]:
        """Another participant's update, in its canonical bytes and packed, of other entries than its neighbours'."""
        rules, layout = self.rules, self.layout
        change = {name: random.standard_normal(tensor.shape, np.float32) ** 3 for name, tensor in self.base.items()}
        made = making.make_update(layout.matrices(change), layout, rules, who(seat), 1, NOTHING, None, THREADS)
        blob = update.encode(made, rules.compression, layout)
        metadata = making.describe(made, blob, layout, NOTHING, NOTHING, 1, bytes(32))
        return blob, packing.pack(blob, layout, rules), metadata

    def worker(self, machine: Machine, repeats: int) -> list[Step]:
        """From the trained weights to the packed update."""
        rules, layout, steps = self.rules, self.layout, []
        kept: dict[str, Any] = {}

        def step(name: str, touched: float, work: Callable[[], Any], hashed: float = 0) -> None:
            seconds = _median(lambda: kept.update({name: work()}), repeats)
            floor = touched / machine.read + hashed * THREADS / machine.hashed  # one message is hashed on one thread
            steps.append(Step("worker", name, seconds, touched + hashed, floor))

        gradient = "gradient matrices"
        step(
            gradient, 4 * self.size, lambda: gradient_matrices(layout, self.base, self.trained, self.residual, THREADS)
        )
        matrices = kept[gradient]
        make = "largest entries, quantise, norms, selection, gather"
        few = rules.compression.sparse  # then the largest are listed, with place and bits; else all are quantised
        made = 8 * update.entry_budget(layout, rules.compression) if few else layout.entries
        step(
            make,
            self.size + 2 * made,
            lambda: making.make_update(matrices, layout, rules, who(0), 1, NOTHING, None, THREADS),
        )
        mine = kept[make]
        sent = len(update.encode(mine, rules.compression, layout))
        step("encode", 2 * sent, lambda: update.encode(mine, rules.compression, layout))
        blob = kept["encode"]
        step("hash", 0, lambda: Digest.of(blob), hashed=len(blob))
        step("channel table", sent, lambda: mine.table(layout).root)
        entries = sum(part.values.elements.size for part in mine.layers)
        step("residual", 8 * entries + sent, lambda: making.take_sent(matrices, mine, THREADS))
        step("pack", sent, lambda: packing.pack(blob, layout, rules))
        return steps

    def receiver(self, machine: Machine, repeats: int) -> list[Step]:
        """From ten packed updates to the new model."""
        rules, layout, sent = self.rules, self.layout, sum(len(blob) for blob, _, _ in self.updates)
        kept: dict[str, Any] = {}

        def unpack(seat: int) -> packing.Received:
            return packing.unpack(self.updates[seat][1], layout, rules, who(seat), 1, NOTHING)

        def look(seat: int) -> VerifiedUpdate:
            return verify_update(kept["unpacked"][seat], self.updates[seat][2], who(seat), 1, layout, rules)

        def all_of(work: Callable[[int], Any]) -> list[Any]:
            with ThreadPoolExecutor(THREADS) as pool:
                return list(pool.map(work, range(UPDATES)))

        seconds = _median(lambda: kept.update(unpacked=all_of(unpack)), repeats)
        steps = [Step("receiver", f"unpack {UPDATES}", seconds, sent, sent / machine.read)]
        seconds = _median(lambda: kept.update(verified=all_of(look)), repeats)
        floor = sent * (1 / machine.hashed + 1 / machine.read)
        steps.append(Step("receiver", f"verify {UPDATES}", seconds, sent, floor))
        verified = kept["verified"]
        into = aggregate(self.base, verified, layout, rules.aggregation, None, THREADS)
        seconds = _median(
            lambda: aggregate(self.base, verified, layout, rules.aggregation, None, THREADS, into), repeats
        )
        entries = sum(part.values.elements.size for each in verified for part in each.layers)
        floor = entries / machine.added + 2 * self.size / machine.read
        steps.append(Step("receiver", f"aggregate {UPDATES}", seconds, sent + 2 * self.size, floor))
        seconds = _median(lambda: model_digest(into), repeats)
        floor = self.size * THREADS / machine.hashed
        steps.append(Step("receiver", "hash the model", seconds, self.size, floor))
        return steps


def peak(work: Callable[[], Any]) -> int:
    """The most bytes that `work` had allocated at one time, beyond what was there before."""
    tracemalloc.start()
    work()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


RULES = {"channels 10%, 8 bits": rules("0.1"), "default": DEFAULT}


def measure(parameters: int, repeats: int = REPEATS) -> tuple[Machine, dict[str, list[Step]], dict[str, float]]:
    """The machine, the steps under each set of rules, and peak memory as a multiple of the model."""
    keep_freed_memory()  # as a node does
    machine, steps, memory = Machine.measure(), {}, {}
    for name, chosen in RULES.items():
        steps[name], memory[f"{name}, worker"], memory[f"{name}, aggregation"] = _measure_one(
            Bench(parameters, chosen), machine, repeats
        )
    return machine, steps, memory


def _measure_one(bench: Bench, machine: Machine, repeats: int) -> tuple[list[Step], float, float]:
    steps = bench.worker(machine, repeats) + bench.receiver(machine, repeats)
    gradient = bench.layout.matrices(bench.base)
    worker = peak(lambda: making.make_update(gradient, bench.layout, bench.rules, who(0), 1, NOTHING, None, THREADS))
    blob, _, metadata = bench.updates[0]
    one = verify_update(blob, metadata, who(0), 1, bench.layout, bench.rules)
    adding = peak(lambda: aggregate(bench.base, [one], bench.layout, bench.rules.aggregation, None, THREADS))
    return steps, 1 + worker / bench.size, adding / bench.size  # the worker holds the gradient itself too


def tables(machine: Machine, steps: dict[str, list[Step]], memory: dict[str, float]) -> list[Table]:
    made = []
    for name, found in steps.items():
        title = f"{name}; machine: {machine.read / 1e9:.1f} GB/s read, {machine.hashed / 1e9:.2f} GB/s SHA-256, "
        table = Table(title=title + f"{machine.added / 1e9:.2f} G integers/s")
        for column in ("side", "step", "ms", "GB/s", "floor ms", "times the floor"):
            table.add_column(column, justify="left" if column in ("side", "step") else "right")
        for side in ("worker", "receiver"):
            own = [step for step in found if step.side == side]
            for step in own:
                _row(table, step)
            _row(
                table,
                Step(side, "all", sum(s.seconds for s in own), sum(s.bytes for s in own), sum(s.floor for s in own)),
            )
            table.add_section()
        made.append(table)
    table = Table(title="peak memory, times the model")
    table.add_column("what")
    table.add_column("times", justify="right")
    for what, times in memory.items():
        table.add_row(what, f"{times:.2f}")
    return [*made, table]


def _row(table: Table, step: Step) -> None:
    speed, ratio = step.bytes / step.seconds / 1e9, step.seconds / step.floor if step.floor else 0.0
    table.add_row(
        step.side, step.name, f"{1000 * step.seconds:.0f}", f"{speed:.1f}", f"{1000 * step.floor:.0f}", f"{ratio:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=100_000_000)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()
    for table in tables(*measure(options.parameters, options.repeats)):
        Console().print(table)


if __name__ == "__main__":
    main()
