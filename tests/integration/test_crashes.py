"""A node that is killed, at every named point of a round, and started again: nothing is lost, nothing is done twice."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chain import crash
from chain.crash import VARIABLE, Point
from tests.integration.conftest import MAKE
from tests.integration.harness import Nodes

ROOT = Path(__file__).parents[2]


def sweep(*arguments: object) -> dict[str, Any]:
    """The report of `tests.reliability.sweep`, in processes of its own: it forks, and this one has threads."""
    words = [sys.executable, "-m", "tests.reliability.sweep", "--json", "--processes", "1", *map(str, arguments)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if report["violations"] else 0)
    return report


def test_killed_at_every_named_point_nothing_is_lost_or_done_twice() -> None:
    """Each point once, those of a transaction for each of the four. The restarted node ends the round with the model,
    the residual, the blobs and the transactions of a run that nobody interrupted.
    """
    report = sweep("--named")
    assert report["violations"] == {}
    assert report["not_reached"] == []
    assert report["killed"] == len(Point) + 3 * 5


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: `apt-get install strace`")
def test_killed_at_some_system_calls_nothing_is_lost_or_done_twice() -> None:
    """A few of the places that `python -m tests.reliability.sweep` tries in full, some of them with a second kill."""
    report = sweep("--points", 16, "--rounds", 1)
    assert report["violations"] == {}
    assert report["killed"] >= 8  # how often a node looks at the chain differs from run to run


def test_points_are_what_the_code_passes() -> None:
    """Every point stands in the code once, and no other."""
    passed: list[str] = []
    for path in [*(ROOT / "chain").rglob("*.py"), *(ROOT / "fl_node").rglob("*.py")]:
        passed += re.findall(r"^ +crash_point\(Point\.(\w+)\)$", path.read_text(), re.MULTILINE)
    assert sorted(passed) == sorted(point.name for point in Point)


def killed_by(wanted: str, points: Sequence[Point]) -> int:
    """How many points a process passes before it dies."""
    code = (
        f"from chain.crash import Point, crash_point\nfor p in {[p.name for p in points]}:\n    print(p, flush=True)\n"
    )
    code += "    crash_point(Point[p])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {VARIABLE: wanted}, capture_output=True, check=False
    )
    passed = len(done.stdout.split())
    assert done.returncode == (0 if passed == len(points) else -signal.SIGKILL)
    return passed


def test_a_point_kills_at_the_passing_that_was_asked_for() -> None:
    passing = [Point.SIGNED, Point.SENT, Point.SIGNED, Point.REVEALED, Point.SIGNED, Point.SENT, Point.OPENING]
    assert killed_by(Point.SIGNED, passing) == 1
    assert killed_by(f"{Point.SIGNED}:1", passing) == 1
    assert killed_by(f"{Point.SIGNED}:3", passing) == 5
    assert killed_by(f"{Point.SIGNED}:4", passing) == 7
    assert killed_by(f"{Point.SENT}:2", passing) == 6
    assert killed_by("no such point", passing) == 7


def test_without_the_variable_a_point_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for point in Point:
        crash.crash_point(point)


DEATHS = [Point.PUT, Point.MODEL_PUBLISHED, Point.SWITCHED]


def test_a_node_killed_again_and_again_is_accepted_in_every_round(
    federation: MAKE, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes, each death at another point: every update of every node is accepted, and the audit passes."""
    made = federation(3, rounds=3, commit_window=120, reveal_window=120, attest_window=120)
    nodes.start(made.config(2), made.config(3))
    for point in DEATHS:
        since = len(nodes.seen)
        monkeypatch.setenv(VARIABLE, point)
        nodes.start(made.config(1))
        assert nodes.wait("exit", "node-1", after=since).values == {"code": -signal.SIGKILL}, point
    monkeypatch.delenv(VARIABLE)
    nodes.start(made.config(1))
    for name in ("node-1", "node-2", "node-3"):
        assert nodes.wait("done", name).values["model"] == str(made.history().model)
    code, findings = made.audit()
    assert code == 0
    assert [f for f in findings if f.status.value == "note" and f.round] == []
    assert [len(round_.commits) for round_ in made.history().rounds] == [3, 3, 3]
