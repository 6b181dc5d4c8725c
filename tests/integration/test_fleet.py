"""No node outlives its fleet, however that ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chain.protocol.errors import ConfigError
from fl_node.fleet import Fleet
from tests.integration.conftest import MAKE, Federation
from tests.integration.harness import processes_with, wait_for

STARTS_NODES = """
import os, signal, subprocess, sys
from pathlib import Path
from fl_node.fleet import Fleet

number, when, logs, *configs = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

class Interrupted(subprocess.Popen):
    def __init__(self, *words, **more):
        super().__init__(*words, **more)
        if "node-2" in words[0][-2]:
            os.kill(os.getpid(), int(number))  # between the start of a process and the line that takes note of it

if when == "starting":
    subprocess.Popen = Interrupted
with Fleet([Path(config) for config in configs], Path(logs)) as fleet:
    for event in fleet.events():
        if event.kind == "commit":
            os.kill(os.getpid(), int(number))
"""

SLOW_TO_START = "import sys, time; '-m' in sys.orig_argv and time.sleep(60)"


def test_two_nodes_of_one_name_are_refused(tmp_path: Path) -> None:
    """They would share a log, and only one would be stopped."""
    with pytest.raises(ConfigError, match="two nodes of one name"):
        Fleet([tmp_path / "a" / "node.toml", tmp_path / "b" / "node.toml"], tmp_path / "logs")


@pytest.mark.parametrize(
    ("number", "when", "code"),
    [(signal.SIGTERM, "starting", 143), (signal.SIGKILL, "starting", -9), (signal.SIGKILL, "running", -9)],
)
def test_no_node_outlives_its_fleet(
    federation: MAKE, tmp_path: Path, number: signal.Signals, when: str, code: int
) -> None:
    made, marker, slow = federation(2, 3), f"roundledger-test-{tmp_path}", tmp_path / "slow"
    slow.mkdir()
    if when == "starting":
        (slow / "sitecustomize.py").write_text(SLOW_TO_START)
    words = [sys.executable, "-c", STARTS_NODES, str(int(number)), when, str(tmp_path / "logs")]
    done = subprocess.run(
        [*words, str(made.config(1)), str(made.config(2))],
        env=os.environ | {"ROUNDLEDGER_TEST": marker, "PYTHONPATH": str(slow)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    wait_for(lambda: not processes_with(marker), 15)


def test_run_nodes_shows_the_rounds_and_ends_with_the_nodes(federation: MAKE, tmp_path: Path) -> None:
    made = federation(2, 2)
    done = subprocess.run(run_nodes(made, tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("node-1", "node-2"):
        finalized = [line for line in done.stdout.splitlines() if line.startswith(name) and "finalized" in line]
        assert len(finalized) == 2, done.stdout
        assert "finalized" in (tmp_path / "logs" / f"{name}.jsonl").read_text()


def test_ctrl_c_ends_run_nodes_and_its_nodes(federation: MAKE, tmp_path: Path) -> None:
    made, marker = federation(2, 200), f"roundledger-test-{tmp_path}"
    environment = os.environ | {"ROUNDLEDGER_TEST": marker}
    with subprocess.Popen(run_nodes(made, tmp_path), stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        assert any("commit" in line for line in running.stdout)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    wait_for(lambda: not processes_with(marker), 15)


def run_nodes(made: Federation, folder: Path) -> list[str]:
    script = Path(__file__).parents[2] / "scripts" / "run_nodes.py"
    words = [script, made.config(1), made.config(2), "--logs", folder / "logs"]
    return [sys.executable, *map(str, words)]
