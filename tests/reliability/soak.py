"""A soak: nodes as processes, and everything around them goes wrong for many rounds.

    python -m tests.reliability.soak [--nodes 8] [--rounds 100] [--seed 1] [--json]

Nodes are killed with SIGKILL and started again, blocks are taken back, RPC calls are dropped, blobs come late. At the
end the ledger is audited from the deployment record, the chain and the blobs alone, and what was lost is counted:
nodes, rounds, updates of participants that were there. All of these must be 0.
"""

import argparse
import io
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from chain.deploy import load_deployment
from chain.devnet import Devnet
from chain.files import load_rules, write_atomic
from chain.protocol import verdicts
from chain.protocol.history import History
from chain.reader import LedgerReader
from fl_node.demo import set_up, write_data
from fl_node.fleet import Fleet
from fl_node.ledger import Ledger
from fl_node.presets import preset
from tests.reliability.faults import FaultyRpc, LateBlobs, Miner, Repeated

DEPTH = 3  # blocks that must lie on a block before a node acts on it; reorganisations go no deeper
BLOCK = 0.25  # seconds


@dataclass
class Result:
    """What was done to the federation, and how it stood it."""

    nodes: int
    rounds: int
    seed: int
    faults: dict[str, int] = field(default_factory=dict)
    finalized: int = 0
    aborted: int = 0
    updates: int = 0
    transactions: int = 0
    failed: int = 0  # overtaken by another's, or sent again after a reorganisation when it was too late: gas, no more
    lost: dict[str, int] = field(default_factory=dict)
    audit: str = ""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return self.audit == "pass" and not any(self.lost.values())


class Soak:
    """One federation under fire."""

    def __init__(self, folder: Path, nodes: int, rounds: int, seed: int) -> None:
        self.folder, self.nodes, self.rounds, self.seed = folder, nodes, rounds, seed
        self.newest, self.ended = 0, threading.Event()
        self.failed: list[str] = []
        self._killed: set[str] = set()
        self._lock = threading.Lock()

    def run(self, progress: Progress) -> Result:
        result, started, faults = Result(self.nodes, self.rounds, self.seed), time.monotonic(), Counter[str]()
        task = progress.add_task("rounds", total=self.rounds)
        _, _, files = write_data(self.folder, preset("breast-cancer"), self.rounds, self.nodes, self.seed)
        self._widen_windows()
        with Devnet.start(log=self.folder / "anvil.log") as devnet:
            configs = set_up(
                self.folder, devnet, preset("breast-cancer"), files, self.seed, Console(file=io.StringIO())
            )
            with ExitStack() as stack:
                server = stack.enter_context(FaultyRpc(devnet.url, self.seed, 0.01))
                self._point_at(configs, server.url)
                miner = stack.enter_context(Miner(devnet.rpc, BLOCK))
                fleet = stack.enter_context(Fleet(configs, self.folder / "logs"))
                late = LateBlobs(self.folder / "blobs" / "sha256", self.folder / "aside", 1.0)
                injected = [
                    stack.enter_context(Repeated(name, self.seed, least, most, fault))
                    for name, least, most, fault in (
                        ("kill", 4.0, 16.0, lambda drawn: self._kill(fleet, configs, drawn)),
                        ("reorg", 3.0, 10.0, lambda drawn: miner.take_back(drawn.randint(1, DEPTH))),
                        ("blob", 2.0, 6.0, late),
                    )
                ]
                self._follow(fleet, lambda: progress.update(task, completed=self.newest))
                self.ended.set()
            for each in (server, *injected):
                faults.update(each.counted)
            result.faults = dict(sorted(faults.items()))
            history = Ledger(LedgerReader(devnet.rpc, load_deployment(self.folder / "deployment.json"))).sync()
            self._count(result, history, devnet)
            result.audit = self._audit(devnet.url, history)
        result.seconds = time.monotonic() - started
        return result

    def _widen_windows(self) -> None:
        path = self.folder / "federation.toml"
        write_atomic(path, path.read_text().replace("window = 60", "window = 300").encode())
        load_rules(path)

    def _point_at(self, configs: list[Path], url: str) -> None:
        for config in configs:
            lines = [line for line in config.read_text().splitlines() if not line.startswith(("rpc =", "depth ="))]
            write_atomic(config, "\n".join([*lines, f'rpc = "{url}"', f"depth = {DEPTH}", ""]).encode())

    def _kill(self, fleet: Fleet, configs: list[Path], drawn: random.Random) -> str | None:
        """SIGKILL for one of the nodes that still run, and a new start soon after."""
        running = [config for config in configs if fleet.processes[config.stem].poll() is None]
        if not running or self.ended.is_set():
            return None
        config = drawn.choice(running)
        with self._lock:
            self._killed.add(config.stem)
        process = fleet.processes[config.stem]
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(drawn.uniform(0.0, 1.0))
        fleet.start(config)
        return "node killed"

    def _follow(self, fleet: Fleet, tell: Any) -> None:
        """Until every node has ended by itself. One that ends with another code than 0 is lost."""
        done: set[str] = set()
        for event in fleet.events():
            self.newest = max(self.newest, event.round if event.kind == "finalized" else 0)
            tell()
            if event.kind != "exit":
                continue
            if event.values["code"] == 0:
                done.add(event.node)
            elif event.values["code"] != -signal.SIGKILL:
                self.failed.append(
                    f"{event.node} ended with code {event.values['code']}: {fleet.last_words(event.node)}"
                )
                return
            if len(done) == self.nodes:
                return

    def _count(self, result: Result, history: History, devnet: Devnet) -> None:
        """What the ledger says was done, and what is missing from it."""
        lost = Counter({"nodes": len(self.failed), "updates": 0, "rounds": 0})
        for round_ in history.rounds:
            result.finalized += round_.outcome is not None
            result.aborted += round_.abort_reason is not None
            if round_.outcome is not None:
                accepted = verdicts.decode(round_.outcome[1])
                found = sum(accepted.get(number) == verdicts.ACCEPTED for number in round_.roster.values())
                result.updates += found
                lost["updates"] += len(round_.roster) - found
        lost["rounds"] = self.rounds - result.finalized
        for number in range(int(devnet.rpc.call("eth_blockNumber"), 16) + 1):
            for receipt in devnet.rpc.call("eth_getBlockReceipts", hex(number)) or ():
                result.transactions += 1
                result.failed += receipt["status"] != "0x1"
        result.lost = dict(lost)

    def _audit(self, url: str, history: History) -> str:
        command = [sys.executable, "-m", "fl_node.cli", "audit", "--json", "--rpc", url]
        command += ["--deployment", str(self.folder / "deployment.json"), "--blobs", str(self.folder / "blobs")]
        done = subprocess.run(
            [*command, "--head", f"0x{history.head.hex()}"], capture_output=True, text=True, check=False
        )
        return str(json.loads(done.stdout)["verdict"])


def soak(nodes: int, rounds: int, seed: int, console: Console) -> tuple[Result, list[str]]:
    """The result, and the last words of nodes that ended badly."""
    with tempfile.TemporaryDirectory() as name, Progress(console=console) as progress:
        run = Soak(Path(name), nodes, rounds, seed)
        return run.run(progress), run.failed


def table(result: Result) -> Table:
    made = Table(
        title=f"soak: {result.nodes} nodes, {result.rounds} rounds, seed {result.seed}, {result.seconds:.0f} s"
    )
    made.add_column("what")
    made.add_column("count", justify="right")
    for name, count in result.faults.items():
        made.add_row(f"injected: {name}", str(count))
    made.add_row("injected: all", str(sum(result.faults.values())), end_section=True)
    made.add_row("rounds finalized", str(result.finalized))
    made.add_row("rounds aborted", str(result.aborted))
    made.add_row("updates accepted", str(result.updates))
    made.add_row("transactions", f"{result.transactions}, {result.failed} of them overtaken", end_section=True)
    for name, count in result.lost.items():
        made.add_row(f"lost: {name}", str(count))
    made.add_row("audit", result.audit)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    console = Console(stderr=True)
    result, failed = soak(options.nodes, options.rounds, options.seed, console)
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        Console().print(table(result))
    for words in failed:
        console.print(words, highlight=False)
    sys.exit(0 if result.holds else 1)


if __name__ == "__main__":
    main()
