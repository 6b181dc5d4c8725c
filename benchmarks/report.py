"""The report: `RESULTS.md` and plots, from the JSON files that `benchmarks.run` wrote into a folder."""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks import accuracy, tuning
from benchmarks.accuracy import Run
from benchmarks.growth import History, exponent
from benchmarks.overhead import Overhead
from benchmarks.steps import Step

Lines = list[str]
Section = tuple[Lines, Lines]  # what README quotes, and the rest

README, START, END = Path(__file__).parents[1] / "README.md", "<!-- measured -->", "<!-- end -->"


def write(folder: Path) -> list[Path]:
    """`RESULTS.md` and the plots. Every file that was written."""
    from benchmarks import plots  # noqa: PLC0415 - matplotlib is there for the benchmarks alone

    results, quoted = sections(folder)
    path = folder / "RESULTS.md"
    head = [
        "# Measurements",
        "",
        "Written by `python -m benchmarks.run`; the numbers are in the JSON files beside it.",
        "",
    ]
    path.write_text("\n".join(head + results))
    written = [path]
    if (folder / "accuracy.json").exists():
        for setting, runs in by_setting(_saved(folder, "accuracy")[0]).items():
            written.append(plots.accuracy(runs, folder / f"accuracy-{setting}.svg"))
    if (folder / "overhead.json").exists():
        overheads = [_overhead(each) for each in _saved(folder, "overhead")[0]]
        written.append(plots.overhead(overheads, folder / "overhead.svg"))
    if folder.resolve() == Path(__file__).parent / "results":
        README.write_text(with_quote(README.read_text(), quoted))
        written.append(README)
    return written


def with_quote(readme: str, quoted: Lines) -> str:
    """README with these lines between its two marks."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return "\n".join([before + START, "", *quoted, END]) + after


def sections(folder: Path) -> Section:
    """All lines of the report, and those that README quotes, from the parts that were measured."""
    lines, quoted = Lines(), Lines()
    makers: dict[str, Callable[[Any], Section]] = {
        "accuracy": accuracy_lines,
        "overhead": overhead_lines,
        "steps": steps_lines,
        "growth": growth_lines,
        "tuning": tuning_lines,
    }
    for name, make in makers.items():
        if not (folder / f"{name}.json").exists():
            continue
        found, about = _saved(folder, name)
        if name == "growth":
            overheads = _saved(folder, "overhead")[0] if (folder / "overhead.json").exists() else []
            found = found, [_overhead(each) for each in overheads]
        brief, rest = make(found)
        where = f"Measured {about['date']} on {about['cores']} cores ({about['machine']}), Python {about['python']}."
        lines += [*brief, *rest, where, ""]
        quoted += [line.replace("## ", "### ") for line in brief]
    return lines, quoted


def _saved(folder: Path, name: str) -> tuple[Any, dict[str, Any]]:
    saved = json.loads((folder / f"{name}.json").read_text())
    return saved["found"], saved["about"]


# ------------------------------------------------------------- accuracy against bytes


def by_setting(found: Iterable[dict[str, Any]]) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {}
    for each in found:
        history = tuple((size, reached) for size, reached in each["history"])
        rounds = each.get("rounds") or accuracy.SETTINGS[each["setting"]].rounds  # earlier files do not say
        run = Run(each["setting"], each["candidate"], each["seed"], rounds, history, each["rate"])
        runs.setdefault(each["setting"], []).append(run)
    return runs


def saved_runs(folder: Path) -> tuple[Run, ...]:
    """Of tuning and accuracy, those that were saved there."""
    there = [name for name in ("tuning", "accuracy") if (folder / f"{name}.json").exists()]
    return tuple(chain(*(run for name in there for run in by_setting(_saved(folder, name)[0]).values())))


def accuracy_lines(found: Any) -> Section:
    brief, rest = ["## Accuracy against bytes", ""], Lines()
    for setting, runs in by_setting(found).items():
        for at, (title, rows) in enumerate(accuracy.tables(runs, setting)):
            (rest if at else brief).extend([f"{title}:", "", *markdown(accuracy.COLUMNS, rows), ""])
        rest += [f"![accuracy](accuracy-{setting}.svg)", ""]
    return brief, rest


# ------------------------------------------------------------- overhead


def _overhead(each: dict[str, Any]) -> Overhead:
    return Overhead(**(each | {"seconds": tuple(each["seconds"]), "training": tuple(each.get("training", ()))}))


def overhead_lines(found: Any) -> Section:
    results = [_overhead(each) for each in found]
    frameworks = list(dict.fromkeys(result.framework for result in results))
    table = {(r.framework, r.nodes, r.parameters): r for r in results}
    cases = sorted({(r.parameters, r.nodes) for r in results})
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
    phases = sorted((r for r in results if r.phases), key=lambda r: (r.parameters, r.nodes))
    names = list(phases[0].phases) if phases else []
    where = [[f"{r.parameters:,}", str(r.nodes), *(f"{1000 * r.phases[name]:.0f}" for name in names)] for r in phases]
    brief = [
        "## Round overhead",
        "",
        "Seconds of a round but for local training, median (least to most) of the rounds after the first.",
        "",
    ]
    rest = [
        "![overhead](overhead.svg)",
        "",
        "Where roundledger's time goes, milliseconds, median over nodes and rounds:",
        "",
    ]
    return [*brief, *markdown(columns, rows), ""], [*rest, *markdown(["parameters", "nodes", *names], where), ""]


def _seconds(result: Overhead) -> str:
    if result.typical is None:
        return result.error or "no result"
    return f"{result.typical:.2f} ({min(result.seconds):.2f} to {max(result.seconds):.2f})"


# ------------------------------------------------------------- steps


STEPS = ("side", "step", "ms", "GB/s", "floor ms", "times the floor")


def steps_lines(found: Any) -> Section:
    machine, rest = found["machine"], Lines()
    brief = [
        f"## Steps at {found['parameters']:,} parameters",
        "",
        f"This machine on two threads: {machine['read'] / 1e9:.1f} GB/s read, {machine['hashed'] / 1e9:.2f} GB/s "
        f"SHA-256, {machine['added'] / 1e9:.2f} billion integers added a second. The floor of a step is what it must "
        "read, write, hash and add at these speeds.",
        "",
    ]
    for name, each in found["steps"].items():
        rows, sums = list[list[str]](), list[list[str]]()
        for side in ("worker", "receiver"):
            part = [Step(**step) for step in each if step["side"] == side]
            own = [step for step in part if "pack" not in step.name and step.name != "hash the model"]
            rows += map(_step, part)
            sums += [_step(_sum(own, side, "all but packing and the model's hash")), _step(_sum(part, side, "all"))]
        brief += [f"{name}:", "", *markdown(STEPS, sums), ""]
        rest += [f"{name}, step by step:", "", *markdown(STEPS, rows), ""]
    memory = [[what, f"{times:.2f}"] for what, times in found["memory"].items()]
    return brief, [*rest, "Peak memory as a multiple of the model:", "", *markdown(["what", "times"], memory), ""]


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


def growth_lines(given: Any) -> Section:
    histories = [History(**each) for each in given[0]]
    own = [r for r in given[1] if r.framework == "roundledger" and r.typical]
    rows = []
    for size in sorted({r.parameters for r in own}):
        line = sorted((r.nodes, r.typical) for r in own if r.parameters == size)
        rows.append(_growth("round overhead", f"participants, at {size:,} parameters", line))
    for nodes in sorted({r.nodes for r in own}):
        line = sorted((r.parameters, r.typical) for r in own if r.nodes == nodes)
        rows.append(_growth("round overhead", f"parameters, with {nodes} nodes", line))
    rows.append(_growth("round overhead", "rounds before it", [(h.rounds, h.overhead) for h in histories]))
    rows.append(_growth("replay of the events", "rounds", [(h.rounds, h.replay) for h in histories]))
    rows.append(_growth("whole audit", "rounds", [(h.rounds, h.audit) for h in histories]))
    columns = ["cost", "grows with", "from, to", "seconds", "exponent", "of the last step"]
    return ["## How cost grows", "", *markdown(columns, rows), ""], []


def _growth(cost: str, what: str, line: Sequence[tuple[float, float]]) -> list[str]:
    sizes, costs = [size for size, _ in line], [seconds for _, seconds in line]
    fitted, last = (f"{exponent(sizes[at:], costs[at:]):.2f}" if len(line) > 1 else "" for at in (0, -2))
    return [cost, what, f"{min(sizes):,} to {max(sizes):,}", f"{costs[0]:.2f} to {costs[-1]:.2f}", fitted, last]


# ------------------------------------------------------------- tuning


def tuning_lines(found: Any) -> Section:
    rest = [
        "## Tuning",
        "",
        "Mean accuracy under each server learning rate; bold is the one with which a method is measured above: of "
        "those within a tenth of a point of the best the lowest. Methods without one are the peers with other shares, "
        "ranks and parts of their papers.",
        "",
    ]
    for runs in by_setting(found).values():
        rest += [f"{tuning.title(runs)}:", "", *markdown(tuning.columns(runs), tuning.rows(runs)), ""]
    return [], rest


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    return [f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows)]
