"""The report: `RESULTS.md` and plots, from the JSON files that `benchmarks.run` wrote into a folder."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import accuracy, plots
from benchmarks.accuracy import Run
from benchmarks.growth import History, exponent
from benchmarks.overhead import Overhead
from benchmarks.steps import Step

Lines = list[str]


def write(folder: Path) -> list[Path]:
    """Every file that was written."""
    sections: list[tuple[str, Callable[[Any], Lines]]] = [
        ("accuracy", accuracy_lines),
        ("overhead", overhead_lines),
        ("steps", steps_lines),
        ("growth", growth_lines),
    ]
    lines, written = (
        [
            "# Measurements",
            "",
            "Written by `python -m benchmarks.run`; the numbers are in the JSON files beside it.",
            "",
        ],
        [],
    )
    overheads: list[Overhead] = []
    for name, section in sections:
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        saved = json.loads(path.read_text())
        about, found = saved["about"], saved["found"]
        if name == "overhead":
            overheads = [_overhead(each) for each in found]
            written.append(plots.overhead(overheads, folder / "overhead.svg"))
        if name == "accuracy":
            written += [
                plots.accuracy(runs, folder / f"accuracy-{setting}.svg") for setting, runs in by_setting(found).items()
            ]
        given = (found, overheads) if name == "growth" else found
        lines += section(given)
        lines += [
            f"Measured {about['date']} on {about['cores']} cores ({about['machine']}), Python {about['python']}.",
            "",
        ]
    path = folder / "RESULTS.md"
    path.write_text("\n".join(lines))
    return [path, *written]


# ------------------------------------------------------------- accuracy against bytes


def by_setting(found: Iterable[dict[str, Any]]) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {}
    for each in found:
        history = tuple((size, reached) for size, reached in each["history"])
        runs.setdefault(each["setting"], []).append(Run(each["setting"], each["candidate"], each["seed"], history))
    return runs


def accuracy_lines(found: Any) -> Lines:
    lines = ["## Accuracy against bytes", ""]
    for setting, runs in by_setting(found).items():
        title, rows = accuracy.rows(runs, setting)
        lines += [title, "", *markdown(accuracy.COLUMNS, rows), "", f"![accuracy](accuracy-{setting}.svg)", ""]
    return lines


# ------------------------------------------------------------- overhead


def _overhead(each: dict[str, Any]) -> Overhead:
    return Overhead(**(each | {"seconds": tuple(each["seconds"])}))


def overhead_lines(found: Any) -> Lines:
    results = [_overhead(each) for each in found]
    frameworks = list(dict.fromkeys(result.framework for result in results))
    table = {(r.framework, r.nodes, r.parameters): r for r in results}
    cases = list(dict.fromkeys((r.parameters, r.nodes) for r in results))
    rows = []
    for size, nodes in cases:
        own = table["roundledger", nodes, size]
        row = [f"{size:,}", str(nodes), _seconds(own)]
        for name in frameworks[1:]:
            other = table.get((name, nodes, size))
            row.append(_seconds(other) if other else "")
            times = other.typical / own.typical if other and other.typical and own.typical else None
            row.append(f"{times:.1f}" if times else "")
        rows.append(row)
    columns = ["parameters", "nodes", "roundledger"]
    for name in frameworks[1:]:
        columns += [name, "times ours"]
    phases = [r for r in results if r.phases]
    names = list(phases[0].phases) if phases else []
    where = [[f"{r.parameters:,}", str(r.nodes), *(f"{1000 * r.phases[name]:.0f}" for name in names)] for r in phases]
    return [
        "## Round overhead",
        "",
        "Seconds of a round but for local training, median (least to most) of the rounds after the first.",
        "",
        *markdown(columns, rows),
        "",
        "![overhead](overhead.svg)",
        "",
        "Where roundledger's time goes, milliseconds of a node, median over nodes and rounds:",
        "",
        *markdown(["parameters", "nodes", *names], where),
        "",
    ]


def _seconds(result: Overhead) -> str:
    if result.typical is None:
        return result.error or "no result"
    return f"{result.typical:.2f} ({min(result.seconds):.2f} to {max(result.seconds):.2f})"


# ------------------------------------------------------------- steps


def steps_lines(found: Any) -> Lines:
    machine = found["machine"]
    lines = [
        f"## Steps at {found['parameters']:,} parameters",
        "",
        f"This machine on two threads: {machine['read'] / 1e9:.1f} GB/s read, {machine['hashed'] / 1e9:.2f} GB/s "
        f"SHA-256, {machine['added'] / 1e9:.2f} billion integers added a second.",
        "",
    ]
    for name, each in found["steps"].items():
        own = [Step(**step) for step in each]
        rows = []
        for side in ("worker", "receiver"):
            part = [step for step in own if step.side == side]
            rows += [_step(step) for step in part]
            own_part = [step for step in part if "pack" not in step.name and step.name != "hash the model"]
            rows.append(_step(_sum(own_part, side, "all but packing and the model's hash")))
            rows.append(_step(_sum(part, side, "all")))
        lines += [f"{name}:", "", *markdown(["side", "step", "ms", "GB/s", "floor ms", "times the floor"], rows), ""]
    memory = [[what, f"{times:.2f}"] for what, times in found["memory"].items()]
    return [*lines, "Peak memory as a multiple of the model:", "", *markdown(["what", "times the model"], memory), ""]


def _sum(steps: Sequence[Step], side: str, name: str) -> Step:
    return Step(side, name, sum(s.seconds for s in steps), sum(s.bytes for s in steps), sum(s.floor for s in steps))


def _step(step: Step) -> list[str]:
    speed, times = step.bytes / step.seconds / 1e9, step.seconds / step.floor if step.floor else 0.0
    return [
        step.side,
        step.name,
        f"{1000 * step.seconds:.0f}",
        f"{speed:.1f}",
        f"{1000 * step.floor:.0f}",
        f"{times:.1f}",
    ]


# ------------------------------------------------------------- growth


def growth_lines(given: Any) -> Lines:
    histories = [History(**each) for each in given[0]]
    own = [r for r in given[1] if r.framework == "roundledger" and r.typical]
    rows = []
    for size in dict.fromkeys(r.parameters for r in own):
        line = [(r.nodes, r.typical) for r in own if r.parameters == size]
        rows.append(_growth("round overhead", f"participants, at {size:,} parameters", line))
    for nodes in dict.fromkeys(r.nodes for r in own):
        line = [(r.parameters, r.typical) for r in own if r.nodes == nodes]
        rows.append(_growth("round overhead", f"parameters, with {nodes} nodes", line))
    rows.append(_growth("replay of the events", "rounds", [(h.rounds, h.replay) for h in histories]))
    rows.append(_growth("whole audit", "rounds", [(h.rounds, h.audit) for h in histories]))
    columns = ["cost", "grows with", "from, to", "seconds", "exponent"]
    return ["## How cost grows", "", *markdown(columns, rows), ""]


def _growth(cost: str, what: str, line: Sequence[tuple[float, float]]) -> list[str]:
    sizes, costs = [size for size, _ in line], [seconds for _, seconds in line]
    fitted = f"{exponent(sizes, costs):.2f}" if len(line) > 1 else ""
    return [cost, what, f"{min(sizes):,} to {max(sizes):,}", f"{costs[0]:.2f} to {costs[-1]:.2f}", fitted]


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    return [f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows)]
