"""A federation of three on a chain of its own, in which one participant, the victim, can be killed anywhere in a round
and started again, and the round be taken back, hundreds of times.

The round is first played once without a kill. What the two others sent then is sent again in every later try, by this
process, as soon as the ledger lets it; so only the victim has to run. A try begins with the chain, the state folder and
the blobs as they were before the round. The victim is a fork of this process, which has loaded everything that a node
needs; that is why this process must neither have threads nor touch the blob store's library.
"""

import contextlib
import filecmp
import os
import shutil
import signal
import sqlite3
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chain.calls import functions
from chain.crash import VARIABLE
from chain.devnet import Devnet
from chain.files import load_rules
from chain.protocol.digest import Digest
from chain.protocol.errors import RoundledgerError
from chain.protocol.history import History
from chain.protocol.round import Phase
from chain.reader import LedgerReader
from chain.rpc import Rpc
from fl_node import journal, ledger, making, node, prepare, rounds, update
from fl_node.aggregate import aggregate
from fl_node.gradient import Layout, gradient_matrices
from fl_node.model import build_model, to_tensors
from fl_node.packing import pack, unpack
from fl_node.session import Session, retried
from fl_node.verify import verify_update
from tests.integration.harness import Federation, found_federation
from tests.reliability.tracing import MAIN, Traced, until_traced

VICTIM, OTHERS = 1, (2, 3)  # seats
WINDOW = 40_000  # seconds: no phase ends by itself, however long the sweep
LIMIT = 60.0  # seconds for a try
PAUSE = 0.05  # seconds between looks at a server that does not answer
PHASES = {"open": None, "commit": Phase.COMMIT, "reveal": Phase.REVEAL, "attest": Phase.ATTEST}


@dataclass(frozen=True)
class Sent:
    """One transaction of somebody else, to be sent again."""

    verb: str
    raw: str


@dataclass(frozen=True)
class Kill:
    """Where the victim is to die: at a named point, or when one of its threads enters a system call for the `count`-th
    time; with count 0 it does not, and all calls are written down.
    """

    point: str = ""
    thread: str = ""
    call: str = ""
    count: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a try ended. `calls`: the system calls of the traced thread, up to the one it was killed at. `violations`:
    what should not be; empty is good.
    """

    killed: bool
    calls: list[tuple[str, str]]
    seconds: float
    violations: list[str]


@dataclass
class Scene:
    """One round: where it starts, and what came out of it when nobody was killed."""

    number: int
    folder: Path  # a copy of the state folder and of the blobs before the round
    snapshot: str  # of the chain, likewise
    nonce: int  # of the victim, before
    sent: list[Sent] = field(default_factory=list)  # by the others
    verbs: Counter[str] = field(default_factory=Counter)  # of the victim's transactions
    model: str = ""
    residual: list[object] = field(default_factory=list)  # its digest, and the last round that is in it


class Stage:
    """A founded federation and its scenes, the last of which can be played."""

    def __init__(self, folder: Path, devnet: Devnet, number_of_rounds: int) -> None:
        self.folder, self.devnet, self.rpc = folder, devnet, Rpc(devnet.url)
        self.made: Federation
        forked(self._found, number_of_rounds).join()
        self._load(number_of_rounds)
        self.scenes: list[Scene] = []
        self._warm()

    def _found(self, number_of_rounds: int) -> None:
        self.devnet.rpc.close()  # the connections are the parent's
        windows = {"commit_window": WINDOW, "reveal_window": WINDOW, "attest_window": WINDOW}
        found_federation(self.folder, self.devnet, 1 + len(OTHERS), number_of_rounds, None, **windows)

    def _load(self, number_of_rounds: int) -> None:
        from chain import keys
        from chain.deploy import load_deployment
        from tests.integration.harness import PASSWORD

        names = ["operator", *(f"node-{seat}" for seat in (VICTIM, *OTHERS))]
        owner, *accounts = (keys.unlock(self.folder / "keys" / f"{name}.json", PASSWORD) for name in names)
        rules = load_rules(self.folder / "federation.toml")
        deployment = load_deployment(self.folder / "deployment.json")
        self.made = Federation(self.folder, self.devnet.url, rules, owner, accounts, deployment)
        for seat in (VICTIM, *OTHERS):
            path = self.made.config(seat)
            path.write_text(path.read_text().replace("poll = 0.05", "poll = 0.02"))

    def _warm(self) -> None:
        """Goes through what is compiled when it is first used, so that the forks find it done."""
        torch.set_num_threads(1)
        rules, nothing, who = self.made.rules, Digest.of(b""), self.made.address(VICTIM)
        self.made.client()
        base = to_tensors(build_model(rules, seed=0))
        layout = Layout.of(base, rules.selection.layers)
        moved = {name: tensor + np.float32(0.01) for name, tensor in base.items()}
        gradient = gradient_matrices(layout, base, moved, None, 1)
        mine = making.make_update(gradient, layout, rules, who, 1, nothing, None, 1)
        blob = update.encode(mine, rules.compression, layout)
        metadata = making.describe(mine, blob, layout, nothing, nothing, 1, bytes(32))
        making.take_sent(gradient, mine)
        unpack(pack(blob, layout, rules), layout, rules, who, 1, nothing)
        verified = verify_update(blob, metadata, who, 1, layout, rules, None)
        aggregate(base, [verified], layout, rules.aggregation, None, 1, {})

    # ----------------------------------------------------------- reference

    def rehearse(self) -> Scene:
        """Plays the next round with nobody killed."""
        number, copy = len(self.scenes) + 1, self.folder / f"before-{len(self.scenes) + 1}"
        for name in ("state", "blobs"):
            if (self.folder / name).exists():
                shutil.copytree(self.folder / name, copy / name)
        scene = Scene(number, copy, self.rpc.call("evm_snapshot"), self._nonce())
        first = self._height() + 1
        others = forked(self._play_others, number)
        victim = forked(self._play_victim, number)
        try:
            others.join()
            victim.join()
        finally:
            others.end()
            victim.end()
        for who, verb, _, key in self._transactions(first):
            if who == self.made.address(VICTIM):
                scene.verbs[verb] += 1
            else:
                scene.sent.append(Sent(verb, self.rpc.call("eth_getRawTransactionByHash", key)))
        scene.model, scene.residual = str(self.history().model), facts(self.state)["residual"]
        for path in (self.folder / "blobs").rglob("*"):  # what the others publish is not played again: it is there
            if path.is_file() and self._of_the_others(path.name):
                place = copy / path.relative_to(self.folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, place)
        shutil.copytree(self.folder / "blobs", self.folder / f"after-{number}" / "blobs")
        self.scenes.append(scene)
        return scene

    def _of_the_others(self, name: str) -> bool:
        reveals = self.history().rounds[-1].reveals
        return name in {reveals[self.made.address(seat)].update_digest.hex() for seat in OTHERS}

    def _play_others(self, number: int) -> None:
        sessions = [self.made.session(seat) for seat in OTHERS]
        first, second = sessions
        if number % 2:  # every other round is the victim's to open
            first.client.open(number)
        reach(first, number, Phase.COMMIT)
        for session in sessions:
            session.load_model(session.round(number).base_model)
            rounds.commit(session, session.round(number))
        reach(first, number, Phase.REVEAL)
        for session in sessions:
            rounds.reveal(session, session.round(number))
        reach(first, number, Phase.ATTEST)
        results = rounds.gather_updates(first, first.round(number))
        derived = rounds.derive_outcome(first, number, results)
        # The second leaves the vote that decides to the victim.
        rounds.attest(first, first.round(number), results, derived)
        reach(first, number, Phase.FINALIZED)
        for session, model in ((first, derived), (second, None)):
            rounds.update_model(session, session.round(number), results, model)
            rounds.settle(session, session.round(number))
            session.journal.close()

    # --------------------------------------------------------------- a try

    def try_round(self, scene: Scene, *kills: Kill) -> Outcome:
        """Plays the round of a scene, in which the victim dies as told, once for each kill, and is started again."""
        since, killed, calls = time.monotonic(), False, []
        self._restore(scene)
        first, violations = self._height() + 1, []
        due = list(scene.sent)
        for kill in (*kills, None):
            player = forked(self._play_victim, scene.number, kill)
            try:
                traced = player.traced(kill) if kill and kill.thread else None
                while not player.ended(since + LIMIT):
                    self._act(scene, due)
                if traced:
                    calls = traced.finish()
            finally:
                player.end()
            if kill is None and player.code != 0:
                violations.append(f"the restarted node ended with {player.code}: {self._last_words()}")
            killed |= player.code == -signal.SIGKILL
            if kill is not None and player.code not in (0, -signal.SIGKILL):
                violations.append(f"the node ended with {player.code}: {self._last_words()}")
            if player.code == 0:
                break
        return Outcome(killed, calls, time.monotonic() - since, violations or self._violations(scene, first))

    def _restore(self, scene: Scene) -> None:
        if not self.rpc.call("evm_revert", scene.snapshot):
            raise RuntimeError("the chain cannot be taken back")
        scene.snapshot = self.rpc.call("evm_snapshot")
        for name in ("state", "blobs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            if (scene.folder / name).exists():
                shutil.copytree(scene.folder / name, self.folder / name)
        (self.folder / "victim.err").unlink(missing_ok=True)

    def _act(self, scene: Scene, due: list[Sent]) -> None:
        """Sends what the others sent in the present phase."""
        history = self.history()
        opened = len(history.rounds) >= scene.number
        phase = history.rounds[scene.number - 1].phase if opened else None
        while due and PHASES[due[0].verb] is phase:
            self.rpc.call("eth_sendRawTransaction", due.pop(0).raw)
            if due and due[0].verb == "commit" and phase is None:
                phase = Phase.COMMIT
        time.sleep(0.01)

    def _play_victim(self, number: int, kill: Kill | None = None) -> None:
        """The victim's process: what `node.run` does, until the round is over."""
        if kill and kill.point:
            os.environ[VARIABLE] = kill.point
        if kill and kill.thread == MAIN:
            until_traced(threading.get_native_id())
        node.OPENING_TURN = 0.0
        session = node.load(self.made.config(VICTIM), lambda *_, **__: None, threading.Event())
        if kill and kill.thread and kill.thread != MAIN:
            thread = session.journal.residual._thread.submit(threading.get_native_id).result()
            (self.folder / "thread").write_text(str(thread))
            until_traced(thread)
        node.finish_interrupted_round(session, session.history())
        while number % 2 and len(session.history().rounds) < number:  # another opens it
            session.pause()
        if len(session.history().finalized) < number and (opened := node.open_round(session)) is not None:
            rounds.run_round(session, opened)
        node.finish_interrupted_round(session, session.history())  # it may have ended while this looked
        session.load_model(session.round(number).base_model)  # for the layout
        prepare.unsent_before(session, number + 1)  # the next round begins with what a killed node had not written
        session.journal.close()

    # -------------------------------------------------------------- checks

    def _violations(self, scene: Scene, first: int) -> list[str]:
        """What is not as if nobody had been killed."""
        found, history, address = [], self.history(), self.made.address(VICTIM)

        def check(what: str, expected: object, actual: object) -> None:
            if expected != actual:
                found.append(f"{what}: expected {expected}, found {actual}")

        mined = [(verb, good) for who, verb, good, _ in self._transactions(first) if who == address]
        check("transactions of the victim", scene.verbs, Counter(verb for verb, _ in mined))
        check("failed transactions of the victim", [], [verb for verb, good in mined if not good])
        check("nonce of the victim", scene.nonce + len(mined), self._nonce())
        check("phase", Phase.FINALIZED, history.rounds[scene.number - 1].phase)
        check("model", scene.model, str(history.model))
        known = facts(self.state)
        check("residual", scene.residual, known.get("residual"))
        for name in ("pending", "watched"):
            check(name, None, known.get(name))
        check("entries of the outbox that were never mined", [], [n for n in known["outbox"] if n >= self._nonce()])
        files = sorted({path.name for path in self.state.iterdir()} - {"journal.db-wal"})
        check("files", ["journal.db", "lock", f"residual-{scene.residual[0]}.bin", "secret"], files)
        self._compare_blobs(scene, found)
        return found

    def _compare_blobs(self, scene: Scene, found: list[str]) -> None:
        after = self.folder / f"after-{scene.number}"
        names = [path.relative_to(after) for path in after.rglob("*") if path.is_file()]
        _, different, missing = filecmp.cmpfiles(after, self.folder, [str(name) for name in names], shallow=False)
        found += [f"blob {name} differs" for name in different] + [f"blob {name} is missing" for name in missing]
        there = {path.name for path in (self.folder / "blobs").rglob("*") if path.is_file() and path.name[0] != "."}
        found += [f"blob {name} was never published" for name in there - {name.name for name in names}]

    def history(self) -> History:
        """Anvil, taken back again and again, may not have the state of a block at once: asked again, as by a node."""
        view = ledger.Ledger(LedgerReader(self.rpc, self.made.deployment), self.made.rules)
        return retried(view.sync, LIMIT, lambda: time.sleep(PAUSE), lambda _: None)

    @property
    def state(self) -> Path:
        return self.folder / "state" / f"node-{VICTIM}"

    def _height(self) -> int:
        return int(self.rpc.call("eth_blockNumber"), 16)

    def _nonce(self) -> int:
        return int(self.rpc.call("eth_getTransactionCount", self.made.address(VICTIM), "latest"), 16)

    def _transactions(self, first: int) -> Iterator[tuple[str, str, bool, str]]:
        """(from, verb, whether it succeeded, hash) of everything mined from block `first` on."""
        verbs = {function.selector.hex(): name for name, function in functions().items()}
        for height in range(first, self._height() + 1):
            for sent in self.rpc.call("eth_getBlockByNumber", hex(height), True)["transactions"]:
                verb = verbs[sent["input"][2:10]]
                receipt = self.rpc.call("eth_getTransactionReceipt", sent["hash"])
                who = next(a for a in map(self.made.address, (VICTIM, *OTHERS)) if a.lower() == sent["from"].lower())
                yield who, verb, int(receipt["status"], 16) == 1, sent["hash"]

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join((self.folder / "victim.err").read_text().splitlines()[-12:])
        return ""


def reach(session: Session, number: int, phase: Phase) -> None:
    while len(session.history().rounds) < number or session.round(number).phase is not phase:
        time.sleep(0.005)


def facts(state: Path) -> dict[str, Any]:
    """What the journal of a node that does not run holds, read without the node's own code."""
    import json

    database = sqlite3.connect(state / journal.DATABASE)
    try:
        found = {name: json.loads(value) for name, value in database.execute("SELECT name, value FROM fact")}
        return found | {"outbox": [nonce for (nonce,) in database.execute("SELECT nonce FROM outbox")]}
    finally:
        database.close()


# ------------------------------------------------------------------- processes


class Player:
    """A fork of this process."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid, self.folder, self.code = pid, folder, 0
        self._ended = False

    def ended(self, deadline: float) -> bool:
        """Whether it has ended; it is ended when it takes too long."""
        if not self._ended:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._ended, self.code = True, os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise TimeoutError("the victim does not end")
        return self._ended

    def join(self) -> None:
        while not self.ended(time.monotonic() + 1):
            time.sleep(0.005)
        if self.code != 0:
            raise RuntimeError(f"ended with {self.code}: {(self.folder / 'victim.err').read_text()}")

    def end(self) -> None:
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._ended = True

    def traced(self, kill: Kill) -> Traced:
        thread = self.folder / "thread"
        if kill.thread == MAIN:
            return Traced(self.pid, kill.call, kill.count, self.folder / "trace")
        while not (thread.exists() and thread.read_text()):
            if self.ended(time.monotonic() + LIMIT):
                raise RuntimeError("the victim ended before it had that thread")
            time.sleep(0.002)
        number = int(thread.read_text())
        thread.unlink()
        return Traced(number, kill.call, kill.count, self.folder / "trace")


def forked(work: Callable[..., None], *arguments: Any) -> Player:
    """Runs `work` in a fork, which ends with 0, the exit code of its error, or 70."""
    folder = work.__self__.folder  # type: ignore[attr-defined]
    pid = os.fork()
    if pid:
        return Player(pid, folder)
    code = 70
    try:
        work(*arguments)
        code = 0
    except RoundledgerError as error:
        code = error.exit_code
        _note(folder, f"{type(error).__name__}: {error}")
    except BaseException:  # noqa: BLE001 - whatever it is, the fork ends here
        _note(folder, traceback.format_exc())
    finally:
        os._exit(code)


def _note(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "victim.err").open("a") as file:
        file.write(text + "\n")
