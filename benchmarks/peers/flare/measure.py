"""Overhead of a round in NVIDIA FLARE's simulator, measured with clients that train nothing. Standard library only.

    python measure.py --venv DIR --nodes 4 --parameters 1000000 --rounds 4 [--timeout 300] [--defaults]

DIR is a virtual environment with the extra `bench-flare` of pyproject.toml. One case runs in a temporary folder and one
line of JSON goes to standard output: for every round its seconds at the server less those of the longest no-op. The
first round also starts the clients' processes. On failure the line says why, and the exit code is 1.

The simulator starts its processes in sessions of their own, where killing a process group does not reach them, and
they outlive the one that started them. All inherit a temporary folder that is nobody else's, so that is how they are
found (in /proc, where there is one) and ended, whether the run succeeded, failed, timed out or was interrupted.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent
SOURCES = ("client.py", "job.py", "timed_fedavg.py")
FRAMEWORK = "flare-simulator"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SWEEP_SECONDS = 10.0
NOTE_TUNED = (
    "FedAvg of NumPy arrays, a process for every client's script, no persistence; set for speed: task_request_interval "
    "0.2 s (shipped: 2 s), task_check_period 0.01 s (0.5 s), external client process (in-process polls every 0.5 s); "
    "small models still wait for FLARE's fixed 0.2 s task monitor and 0.5 s retry; the first round also starts clients"
)
NOTE_DEFAULTS = (
    "FedAvg of NumPy arrays, clients' scripts in the simulator's processes, no persistence; intervals as shipped: "
    "task_request_interval 2 s and task_check_period 0.5 s decide the round; the first round also starts the clients"
)


class Failure(Exception):
    """Why there is no result, in one line."""


def stop(number: int, _frame: FrameType | None) -> None:
    raise Failure(f"stopped by {signal.Signals(number).name}")


def handle(action: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in SIGNALS:
        signal.signal(number, action)


def environment(venv: Path, home: Path) -> dict[str, str]:
    """Nothing of the caller's but the search path; homes and temporary files inside the workspace."""
    path = os.pathsep.join([str(venv / "bin"), os.environ.get("PATH", os.defpath)])
    return {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}


def family(home: Path) -> list[int]:
    """Ids of the living processes whose temporary folder is `home`."""
    mark = b"TMPDIR=" + os.fsencode(home)
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:  # gone meanwhile, or not ours to read
            continue
    return found


def kill(send: Callable[[int, int], None], target: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(target, signal.SIGKILL)


def sweep(home: Path) -> None:
    """Ends all that the job left behind."""
    end = time.monotonic() + SWEEP_SECONDS
    while (left := family(home)) and time.monotonic() < end:
        for pid in left:
            kill(os.kill, pid)
        time.sleep(0.05)


def complaint(output: Path) -> str:
    """The first error that FLARE logged, or else its last words."""
    lines = [line.strip() for line in output.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line.partition("ERROR - ")[2] for line in lines if "ERROR - " in line]
    return (errors or lines[-1:] or ["no output"])[0][:300]


def run(options: argparse.Namespace, workspace: Path) -> list[dict[str, float]]:
    """Runs the job to its end; gives the lines of its log."""
    home, log, output = workspace / "home", workspace / "log.jsonl", workspace / "output"
    home.mkdir()
    for name in SOURCES:
        shutil.copy(HERE / name, workspace)
    command = [str(options.venv / "bin" / "python"), "job.py", "--nodes", str(options.nodes)]
    command += ["--parameters", str(options.parameters), "--rounds", str(options.rounds)]
    command += ["--workspace", str(workspace / "simulation"), "--log", str(log)]
    command += ["--defaults"] * options.defaults
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=workspace,
            env=environment(options.venv, home),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(options.timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"not done after {options.timeout:g} s: {complaint(output)}") from None
        finally:
            kill(os.killpg, process.pid)
            process.wait()
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if code or len(lines) != options.rounds + 1:
        raise Failure(f"exit code {code}, {max(len(lines) - 1, 0)} rounds: {complaint(output)}")
    return lines


def measure(options: argparse.Namespace) -> dict[str, object]:
    workspace = Path(tempfile.mkdtemp(prefix="flare-"))
    try:
        head, *rounds = run(options, workspace)
    finally:
        handle(signal.SIG_IGN)
        sweep(workspace / "home")
        shutil.rmtree(workspace, ignore_errors=True)
    return {
        "framework": FRAMEWORK,
        "version": head["version"],
        "nodes": options.nodes,
        "parameters": options.parameters,
        "seconds": [round(line["seconds"] - line["noop"], 4) for line in rounds],
        "note": NOTE_DEFAULTS if options.defaults else NOTE_TUNED,
    }


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument("--nodes", type=positive, default=4)
    parser.add_argument("--parameters", type=positive, default=1_000_000)
    parser.add_argument("--rounds", type=positive, default=4)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for the whole case")
    parser.add_argument("--defaults", action="store_true", help="leave FLARE's intervals as they are shipped")
    options = parser.parse_args()
    options.venv = options.venv.absolute()
    handle(stop)
    try:
        print(json.dumps(measure(options)))
    except (Failure, OSError, ValueError) as error:
        print(json.dumps({"framework": FRAMEWORK, "error": " ".join(str(error).split())}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
