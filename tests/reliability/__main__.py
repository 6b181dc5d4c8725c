"""How the federation stands what is done to it, in one table: `make reliability`, or

    python -m tests.reliability [--long] [--part soak]

Every part is a program of its own, run here one after the other; what it found is kept in `tests/reliability/results`,
and the table of all parts goes to README. Exit code 1 if any part lost, missed or let through anything.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- reliability -->\n", "<!-- end of reliability -->"
HEADINGS = ("what", "tried", "came out as it must", "went wrong")

Row = tuple[str, str, str, int]  # what, how much was tried, how it came out, how often it did not


@dataclass(frozen=True)
class Part:
    """A program that prints one JSON object, and what the table says of it."""

    name: str
    command: tuple[str, ...]
    long: tuple[str, ...]  # instead of `command`, in the long form
    rows: Callable[[Any], list[Row]]


def _gas(found: dict[str, str]) -> list[Row]:
    """Beside the limits that are set for it; the snapshots are compared with what the contract really uses whenever the
    tests run.
    """
    kinds = (
        ("gas of one participant in a round", "a participant's round: commit + reveal + attest", 130_000),
        (
            "gas of one of 100 whose actions are relayed",
            "relayed, 100 participants: one participant's commit + reveal + attest",
            45_000,
        ),
        ("gas of a round itself, 4 participants", "a round's own: opening + closing + finalizing", 120_000),
        (
            "the same, 100 participants, two phases ended by their deadlines",
            "a round's own, both phases closed late: 100 participants",
            120_000,
        ),
    )
    rows = []
    for what, name, limit in kinds:
        gas = int(found[name])
        rows.append((what, f"at most {limit:,}", f"{gas:,}", int(gas > limit)))
    return rows


def _attacks(found: Any) -> list[Row]:
    played, held = found["played"], found["held"]
    return [("attacks", f"{played} named", f"{held} refused or excluded as they must be", played - held)]


def _decoders(found: Any) -> list[Row]:
    peak = max(decoder["peak_mib"] for decoder in found["decoders"])
    said = f"{found['refused']:,} refused, the others read; {peak:.0f} MiB at most"
    return [
        (f"damaged input to {len(found['decoders'])} decoders", f"{found['inputs']:,} inputs", said, found["escapes"])
    ]


def _kills(what: str) -> Callable[[Any], list[Row]]:
    def rows(found: Any) -> list[Row]:
        said = f"{found['killed']} killed and started again, the same bits in the end"
        return [(what, f"{found['points']} points", said, len(found["violations"]))]

    return rows


def _soak(found: Any) -> list[Row]:
    faults = sum(found["faults"].values())
    rounds = f"{found['finalized']} rounds finalized, {found['aborted']} aborted, {found['updates']} updates"
    what = f"soak: {found['nodes']} nodes, {found['rounds']} rounds"
    return [(what, f"{faults} faults", f"{rounds}; audit {found['audit']}", sum(found["lost"].values()))]


PARTS = (
    Part("gas", (), (), _gas),
    Part("attacks", ("tests.simulator",), ("tests.simulator",), _attacks),
    Part(
        "decoders",
        ("tests.reliability.fuzz", "--inputs", "2000"),
        ("tests.reliability.fuzz", "--inputs", "20000"),
        _decoders,
    ),
    Part(
        "crash points",
        ("tests.reliability.sweep", "--named"),
        ("tests.reliability.sweep", "--named"),
        _kills("kill -9 at named points"),
    ),
    Part(
        "sweep",
        ("tests.reliability.sweep", "--points", "540"),
        ("tests.reliability.sweep", "--points", "2100"),
        _kills("kill -9 at system calls of a round"),
    ),
    Part("soak", ("tests.reliability.soak",), ("tests.reliability.soak", "--rounds", "300"), _soak),
)


def run(part: Part, long: bool) -> Any:
    """What the part found. Raises RuntimeError if it said nothing."""
    if part.name == "gas":
        return json.loads((ROOT / "contracts" / "snapshots" / "RoundLedger.json").read_text())
    command = [sys.executable, "-m", *(part.long if long else part.command), "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise RuntimeError(f"{part.name}: ended with {done.returncode} and without a report") from None


def found_rows() -> list[Row]:
    """Of all parts whose results are there."""
    rows = []
    for part in PARTS:
        path = _place(part)
        if path.exists():
            rows += part.rows(json.loads(path.read_text()))
    return rows


def _place(part: Part) -> Path:
    return RESULTS / f"{part.name.replace(' ', '-')}.json"


def markdown(rows: list[Row]) -> str:
    lines = [f"| {' | '.join(HEADINGS)} |", "| --- | --- | --- | ---: |"]
    lines += [f"| {what} | {tried} | {came} | {wrong} |" for what, tried, came, wrong in rows]
    return "\n".join(lines)


def quoted(readme: str, rows: list[Row]) -> str:
    """README with the table in it. Raises ValueError if it has no place for it."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + "\n" + markdown(rows) + "\n\n" + END + rest.split(END)[1]


def show(rows: list[Row], console: Console) -> None:
    table = Table(title="reliability")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading == HEADINGS[-1] else "left")
    for what, tried, came, wrong in rows:
        table.add_row(what, tried, came, str(wrong), style="bold red" if wrong else None)
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description="All of it, and the table.")
    parser.add_argument("--long", action="store_true", help="hours instead of half an hour")
    parser.add_argument("--part", action="append", choices=[part.name for part in PARTS], help="may be repeated")
    asked = parser.parse_args()
    console = Console(stderr=True)
    RESULTS.mkdir(exist_ok=True)
    for part in PARTS:
        if asked.part is None or part.name in asked.part:
            started = time.monotonic()
            found = run(part, asked.long)
            _place(part).write_text(json.dumps(found, indent=1) + "\n")
            console.print(f"{part.name}: {time.monotonic() - started:.0f} s", highlight=False)
    rows = found_rows()
    readme = ROOT / "README.md"
    readme.write_text(quoted(readme.read_text(), rows))
    show(rows, Console())
    return 1 if any(wrong for *_, wrong in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
