"""What a round costs Flower: federated averaging with clients that do no training, one case a call.

    python3 -m venv DIR && DIR/bin/pip install ...   (what the extra `bench-flower` of pyproject.toml names)
    python measure.py --venv DIR --mode simulation|superlink --nodes 4 --parameters 1000000 --rounds 4

Prints one line of JSON: the seconds of every round less its longest no-op. The first round also holds the start of the
workers; a comparison drops it. Where the case fails the line has "error" instead and the exit code is 1.

"simulation" is Flower's simulation engine: server and clients on one machine, no network between them, the clients in
as many Ray workers as there are processors. "superlink" is a deployment on the loopback interface: one SuperLink, one
SuperNode per node, which start a Python process for every message.

Flower and Ray leave processes behind that are in no common process group. This process therefore becomes the parent of
all orphans below it and ends every descendant before it exits, on errors, timeouts and signals too, which takes Linux.
Give it a --timeout rather than killing it from outside: SIGKILL is the one end it cannot clean up after.
"""

import argparse
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

APP = Path(__file__).resolve().parent / "app"
HOST = "127.0.0.1"
PR_SET_CHILD_SUBREAPER = 36
POLL = 0.2  # seconds
DECORATION = re.compile(r"\x1b\[[0-9;]*m|[\u2500-\u257f]")  # colours, frames
NOTES = {
    "simulation": "one machine, no network, no process per node; num_cpus 1 per client",
    "superlink": "loopback without TLS, state in memory; a Python process per message",
}


class Failed(Exception):
    """The case did not finish; the text is one line."""


@dataclass(frozen=True)
class Case:
    """What is measured."""

    venv: Path
    mode: str
    nodes: int
    parameters: int
    rounds: int
    timeout: float

    @property
    def framework(self) -> str:
        return f"flower-{self.mode}"


class Flower:
    """Flower's commands, run in one temporary folder that holds all they write."""

    def __init__(self, case: Case, home: Path) -> None:
        self.case = case
        self.home = home
        self.bin = case.venv.absolute() / "bin"  # not resolved: the links in it are what makes it an environment
        self.deadline = time.monotonic() + case.timeout
        self.environment = environment(self.bin, home)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: str, *arguments: str) -> None:
        """Start a command in a session of its own, which keeps Ctrl-C for this process; `name` names its log."""
        with self.log(name).open("wb") as log:
            self.running[name] = subprocess.Popen(
                [self.bin / command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.home,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until `ready`; every command has to run until then."""
        while True:
            ended = [name for name, process in self.running.items() if process.poll() is not None]
            if ready():
                return
            if ended:
                raise Failed(f"{ended[0]} ended early: {complaint(self.log(ended[0]))}")
            if time.monotonic() > self.deadline:
                raise Failed(f"timeout after {self.case.timeout:g} s while waiting for {what}")
            time.sleep(POLL)


def environment(binaries: Path, home: Path) -> dict[str, str]:
    """The environment of Flower's commands: nothing goes out, nothing is written outside of `home`."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("FLWR_")}
    return kept | {
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # whatever the system: the name of Ray's switch for loopback only
        "RAY_TMPDIR": str(home),
        "TMPDIR": str(home),
        "NO_PROXY": "*",
        "no_proxy": "*",
    }


def complaint(log: Path) -> str:
    """The line of a log that says most about a failure: the last exception, else the last line that names an error."""
    text = DECORATION.sub("", log.read_text(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip() not in ("", "Error")]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    named = [line for line in lines if re.search(r"error|exception|failed", line, re.IGNORECASE)]
    return (raised or named or lines or ["no output"])[-1][:300]


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def healthy(port: int) -> bool:
    """Whether the SuperLink on this port answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def version(venv: Path) -> str:
    """The version of Flower in a virtual environment."""
    code = "import importlib.metadata; print(importlib.metadata.version('flwr'))"
    try:
        asked = subprocess.run([venv.absolute() / "bin/python", "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failed(f"no Flower in {venv}: install the extra bench-flower there") from error
    return asked.stdout.strip()


def start_superlink(flower: Flower, port: int) -> None:
    """Start the SuperLink, which also runs the simulation engine, and make it the command line's default."""
    (flower.home / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "{HOST}:{port}"\ninsecure = true\n'
    )
    flags = ["--insecure", "--disable-runtime-dependency-installation", "--host", HOST, "--port", str(port)]
    if flower.case.mode == "simulation":
        flags.append("--simulation")
    flower.start("superlink", "flower-superlink", *flags)
    flower.wait(lambda: healthy(port), "the SuperLink")


def start_supernodes(flower: Flower, superlink: int, ports: list[int]) -> None:
    """Start a SuperNode on each port."""
    for place, port in enumerate(ports):
        flags = ["--insecure", "--superlink", f"{HOST}:{superlink}", "--host", HOST, "--port", str(port)]
        config = f"partition-id={place} num-partitions={len(ports)}"
        flower.start(f"supernode-{place}", "flower-supernode", *flags, "--node-config", config)


def start_run(flower: Flower, laps: Path) -> None:
    """Submit the app, all numbers from the case."""
    case = flower.case
    config = f"nodes={case.nodes} parameters={case.parameters} rounds={case.rounds} timeout={case.timeout:.1f}"
    flags = ["--stream", "--run-config", f"{config} laps={json.dumps(str(laps))}"]
    if case.mode == "simulation":
        flags += ["--federation-config", f"num-supernodes={case.nodes} client-resources-num-cpus=1"]
    flower.start("run", "flwr", "run", str(APP), *flags)


def read_laps(path: Path) -> list[dict[str, float]]:
    """The lines that the server app has finished writing."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def measure(case: Case, home: Path) -> list[float]:
    """The overhead of every round, in seconds."""
    flower = Flower(case, home)
    laps = home / "laps.jsonl"
    superlink, *supernodes = free_ports(1 + case.nodes)
    start_superlink(flower, superlink)
    if case.mode == "superlink":
        start_supernodes(flower, superlink, supernodes)
    start_run(flower, laps)
    flower.wait(lambda: len(read_laps(laps)) > case.rounds, f"{case.rounds} rounds")
    lines = read_laps(laps)
    return [round(end["time"] - start["time"] - end["noop"], 4) for start, end in pairwise(lines)]


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends."""
    if sys.platform != "linux":
        raise Failed("only Linux lets this script end all of Flower's processes")
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise Failed("this kernel does not let a process adopt orphans")


def descendants() -> set[int]:
    """Every process below this one."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def end_descendants() -> None:
    """Kill until none is left: the orphans of one pass are the children of the next."""
    while below := descendants():
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def interrupt(number: int, _frame: object) -> None:
    raise Failed(f"interrupted by {signal.Signals(number).name}")


def run(case: Case) -> dict[str, object]:
    """One case, of which no process and no file is left."""
    home = Path(tempfile.mkdtemp(prefix="flower-"))  # short: Ray's sockets are below it, and their paths are limited
    try:
        adopt_orphans()
        found = version(case.venv)
        seconds = measure(case, home)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # nothing interrupts the cleaning up
        end_descendants()
        shutil.rmtree(home)
    return {
        "framework": case.framework,
        "version": found,
        "nodes": case.nodes,
        "parameters": case.parameters,
        "seconds": seconds,
        "note": NOTES[case.mode],
    }


def parse() -> Case:
    """The case named on the command line."""
    parser = argparse.ArgumentParser(description="Measure what a round costs Flower, one case a call.")
    parser.add_argument("--venv", type=Path, required=True, help="virtual environment with the extra bench-flower")
    parser.add_argument("--mode", choices=sorted(NOTES), required=True)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for the whole case")
    return Case(**vars(parser.parse_args()))


def main() -> int:
    case = parse()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        print(json.dumps(run(case)))
    except (Failed, OSError) as error:
        print(json.dumps({"framework": case.framework, "error": " ".join(str(error).split())}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
