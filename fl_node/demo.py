"""The demo: one whole federation on this machine, with nothing simulated.

A local chain, a deployed ledger, one process a node that meets the others only through chain and blob store, ten
rounds on real records, classification of held-out users, and an audit by another process from deployment record,
chain and blobs alone.
"""

import secrets
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from chain import keys
from chain.deploy import load_deployment
from chain.devnet import Devnet
from chain.files import load_rules, write_atomic
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError, RoundledgerError, Unavailable
from chain.protocol.rules import Rules
from chain.reader import LedgerReader
from fl_node.classify import Classification, classify, print_classification, write_csv
from fl_node.data import Records
from fl_node.federation import found
from fl_node.fetch import fetch_model
from fl_node.fleet import Fleet, NodeEvent
from fl_node.ledger import Ledger
from fl_node.model import build_model, load_tensors
from fl_node.presets import Preset, federation_toml, node_toml, preset
from fl_node.store import BlobStore

ROUNDS = 10
ETHER = 10**18
MARK = ".roundledger-demo"  # the file by which a folder is known to be the demo's own
STATE = "chain.json"  # the saved chain, for `roundledger devnet up --state`
PHASES = {"commit": "training and committing", "reveal": "revealing", "verify": "verifying", "attest": "attesting"}


class DemoFailed(RoundledgerError):
    """A node ended otherwise than it must: with which code, or by which signal (below 0)."""

    def __init__(self, node: str, code: int, words: str) -> None:
        self.exit_code = code if code > 0 else Unavailable.exit_code
        super().__init__(f"{node} ended with code {code}:\n{words}")


@dataclass
class RoundNumbers:
    """What is counted of one round. Times in seconds, sizes in bytes."""

    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    gas: int = 0
    upload: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    accuracy: float = 0.0
    accepted: int = 0


@dataclass
class Demo:
    """The federation under `folder`, and what happens in it."""

    folder: Path
    chosen: Preset
    rules: Rules
    test: Records
    console: Console
    rounds: dict[int, RoundNumbers] = field(default_factory=dict)
    head: str = ""  # of the ledger, as a node told it

    # ------------------------------------------------------------ running

    def follow(self, fleet: Fleet, participants: int) -> None:
        """Shows what the nodes report until all are done. Raises DemoFailed when one ends badly."""
        newest = 0
        with self.console.status("starting the nodes") as status:
            for event in fleet.events():
                if event.kind == "exit" and event.values["code"]:
                    raise DemoFailed(event.node, event.values["code"], fleet.last_words(event.node))
                if not event.round:
                    continue
                self.head = event.values.get("head", self.head)
                if event.round > newest:
                    self._announce(newest)  # only now all of its transactions are counted
                    newest = event.round
                self._count(event)
                if event.kind in PHASES:
                    done = f"{self.rounds[event.round].actions[event.kind]}/{participants}"
                    status.update(f"round {event.round}: {PHASES[event.kind]} {done}")
        self._announce(newest)

    def _count(self, event: NodeEvent) -> None:
        numbers = self.rounds.setdefault(event.round, RoundNumbers())
        numbers.actions[event.kind] += 1
        numbers.gas += event.values.get("gas", 0)
        if event.kind == "reveal":
            numbers.upload += event.values["bytes"]
        if event.kind == "finalized" and numbers.actions["finalized"] == 1:
            numbers.seconds = time.monotonic() - numbers.started
            numbers.accepted = event.values["accepted"]
            numbers.accuracy = self._accuracy(Digest.parse(event.values["model"]))

    def _announce(self, number: int) -> None:
        """One line for a round that is over."""
        if number not in self.rounds:
            return
        numbers = self.rounds[number]
        figures = (
            f"accuracy {numbers.accuracy:.4f}  {numbers.accepted} updates  {numbers.upload:,} B up"
            if numbers.actions["finalized"]
            else "[yellow]aborted[/]"
        )
        gas = f"{numbers.gas:,} gas  {numbers.seconds:.1f} s"
        self.console.print(f"round {number:2}/{self.rules.training.rounds}  {figures}  {gas}", highlight=False)

    def _accuracy(self, model: Digest) -> float:
        metrics = self.classify(model).metrics
        return metrics.accuracy if metrics else 0.0

    def classify(self, model: Digest) -> Classification:
        """Classifies the held-out users with a finalized model, straight from its blob."""
        module = build_model(self.rules, seed=0)
        load_tensors(module, fetch_model(BlobStore(self.folder / "blobs"), model, self.rules))
        return classify(module, self.test, self.rules)

    # ------------------------------------------------------------- ending

    def table(self) -> Table:
        table = Table(title=f"{self.chosen.name}: {len(self.rounds)} rounds")
        for column in ("round", "accuracy", "updates", "upload bytes", "gas", "seconds"):
            table.add_column(column, justify="right", no_wrap=True)
        for number, numbers in sorted(self.rounds.items()):
            table.add_row(
                str(number),
                f"{numbers.accuracy:.4f}",
                str(numbers.accepted),
                f"{numbers.upload:,}",
                f"{numbers.gas:,}",
                f"{numbers.seconds:.1f}",
            )
        total = self.rounds.values()
        table.add_section()
        table.add_row(
            "all",
            "",
            str(sum(n.accepted for n in total)),
            f"{sum(n.upload for n in total):,}",
            f"{sum(n.gas for n in total):,}",
            f"{sum(n.seconds for n in total):.1f}",
        )
        return table


def run_demo(dataset: str, folder: Path, rounds: int | None, participants: int, seed: int, console: Console) -> int:
    """Runs everything; returns the exit code of the audit. Raises RoundledgerError when a part fails."""
    torch.set_num_threads(1)
    chosen = preset(dataset)
    clear(folder)
    console.rule(f"roundledger demo: {chosen.name}")
    rules, test, data_files = write_data(folder, chosen, rounds or ROUNDS, participants, seed)
    demo = Demo(folder, chosen, rules, test, console)
    with Devnet.start(log=folder / "logs" / "anvil.log") as devnet:
        console.print(f"devnet: Anvil on {devnet.url}, chain {devnet.chain_id}")
        configs = set_up(folder, devnet, chosen, data_files, seed, console)
        with Fleet(configs, folder / "logs") as fleet:
            demo.follow(fleet, participants)
        finish(demo, devnet)
        devnet.save_state(folder / STATE)
        console.print(demo.table())
        console.print(
            f"everything is in {folder}; its chain again: `roundledger devnet up --state {folder / STATE}`",
            soft_wrap=True,
        )
        return audit(folder, devnet.url, demo.head)


def clear(folder: Path) -> None:
    """Removes an earlier demo, and nothing else. Raises ConfigError for a folder that may hold something of the user's:
    one like a federation's own that does not have the demo's mark.
    """
    mark = folder / MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise ConfigError(
            folder, f"not empty, and not an earlier demo (it has no {MARK})", "remove it, or choose another --dir"
        )
    write_atomic(mark, b"The demo removes everything in this folder when it is run here again.\n")
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != mark:
            path.unlink()


def write_data(
    folder: Path, chosen: Preset, rounds: int, participants: int, seed: int
) -> tuple[Rules, Records, list[str]]:
    """federation.toml, one file of records an organisation, and the held-out users."""
    data, held, test = chosen.records(participants, seed)
    write_atomic(folder / "federation.toml", federation_toml(chosen, data, rounds).encode())
    files = [f"data/{chosen.organisation}-{seat}{chosen.suffix}" for seat in range(1, participants + 1)]
    for name, records in zip(files, held, strict=True):
        chosen.write(folder / name, records, data)
    chosen.write(folder / "data" / f"held-out{chosen.suffix}", test, data)
    return load_rules(folder / "federation.toml"), test, files


def set_up(
    folder: Path, devnet: Devnet, chosen: Preset, data_files: list[str], seed: int, console: Console
) -> list[Path]:
    """Keystores, play money, the ledger with everybody enrolled, and one node.toml each."""
    addresses = [
        make_account(folder, name) for name in ("operator", *(f"node-{i + 1}" for i in range(len(data_files))))
    ]
    for address in addresses:
        devnet.fund(address, 100 * ETHER)
    owner = keys.unlock(folder / "keys" / "operator.json", keys.read_password(folder / "keys" / "operator.password"))
    found(
        folder / "federation.toml",
        devnet.url,
        owner,
        str(folder / "blobs"),
        addresses[1:],
        folder / "deployment.json",
        seed=seed,
        progress=lambda text: console.print(text, highlight=False, soft_wrap=True),
    )
    configs = []
    for seat, data in enumerate(data_files, start=1):
        config = folder / f"node-{seat}.toml"
        write_atomic(config, node_toml(f"{chosen.organisation}-{seat}", data, rpc=devnet.url, seat=seat).encode())
        configs.append(config)
    return configs


def make_account(folder: Path, name: str) -> str:
    """A keystore and the file with its random password, readable by this user only."""
    password = secrets.token_urlsafe(24)
    write_atomic(folder / "keys" / f"{name}.password", (password + "\n").encode(), mode=0o600)
    return keys.create(folder / "keys" / f"{name}.json", password, kdf="pbkdf2")


def finish(demo: Demo, devnet: Devnet) -> None:
    """Classifies the held-out users with the final model and keeps a copy of every finalized model under its round."""
    history = Ledger(LedgerReader(devnet.rpc, load_deployment(demo.folder / "deployment.json")), demo.rules).sync()
    store = BlobStore(demo.folder / "blobs")
    for round_ in history.finalized:
        assert round_.outcome is not None  # noqa: S101 - it is finalized
        name = f"round-{round_.number:03d}.safetensors"
        blob = store.get(round_.outcome[0], name, demo.rules.limits.model_bytes)
        write_atomic(demo.folder / "models" / name, blob)
    assert history.model is not None  # noqa: S101 - a replayed ledger has one
    result = demo.classify(history.model)
    write_csv(demo.folder / "classified.csv", result)
    print_classification(result, demo.console)


def audit(folder: Path, url: str, head: str) -> int:
    """The audit as anybody would run it: another process, three sources, and a head on the word of a participant."""
    command = [sys.executable, "-m", "fl_node.cli", "audit", "--deployment", str(folder / "deployment.json")]
    command += ["--rpc", url, "--blobs", str(folder / "blobs"), "--head", head, "--report", str(folder / "audit.json")]
    return subprocess.run(command, check=False).returncode
