"""Kills a node at every system call of a round that writes, sends or syncs, starts it again, and looks whether anything
was lost: `python -m tests.reliability.sweep --points 500`.

A place is a round, a thread, a system call and how often it was entered, as in `2 main fdatasync 7`. All places of a
round are tried; where more points are asked for than there are places, the restarted node is killed a second time, at a
place drawn at random. With `--named` the points of `chain.crash` are tried instead, the transaction's own for each of
a round's transactions. With `--out FILE` every result is appended to a file, and what is in it is not tried again.

Exit code 1 if anything was lost. Needs Linux, strace, and Anvil.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from chain.crash import Point
from chain.devnet import Devnet
from tests.reliability.stage import Kill, Outcome, Scene, Stage
from tests.reliability.tracing import MAIN, RESIDUAL

ROUNDS = 4  # the first creates the state folder; every other one is the victim's to open
NAMED_ROUNDS = 2  # the second of which is played
EACH = (Point.SIGNED, Point.PUT, Point.SENT, Point.MINED, Point.REMOVED)  # passed by open, commit, reveal and attest

Place = tuple[str, str, int]  # thread, call, count


@dataclass(frozen=True)
class Wanted:
    """How much to try: `points` spread over the places of so many rounds; or the named points."""

    points: int
    rounds: int
    by_name: bool


def name_of(number: int, kills: tuple[Kill, ...]) -> str:
    return f"{number} " + " then ".join(kill.point or f"{kill.thread} {kill.call} {kill.count}" for kill in kills)


def named() -> list[tuple[Kill, ...]]:
    """Every named point once; those of a transaction for each of the four."""
    points = [str(point) for point in Point] + [f"{point}:{count}" for point in EACH for count in (2, 3, 4)]
    return [(Kill(point=point),) for point in points]


def places(stage: Stage, scene: Scene) -> tuple[list[Place], Counter[str]]:
    """All places of a round, from an uninterrupted one; and how often each kind of call acts on each kind of thing."""
    found: list[Place] = []
    kinds: Counter[str] = Counter()
    for thread in (MAIN, RESIDUAL):
        seen: Counter[str] = Counter()
        for call, about in stage.try_round(scene, Kill(thread=thread)).calls:
            seen[call] += 1
            found.append((thread, call, seen[call]))
            kinds[f"{thread} {call} {about}".strip()] += 1
    return found, kinds


def plan(found: list[Place], count: int, number: int) -> list[tuple[Kill, ...]]:
    """`count` points: the places in random order, and then pairs of them."""
    draw = random.Random(number)  # noqa: S311 - the same in every process and run
    kills = [Kill(thread=thread, call=call, count=k) for thread, call, k in found]
    draw.shuffle(kills)
    pairs = [(draw.choice(kills), draw.choice(kills)) for _ in range(count - len(kills))]
    return [(kill,) for kill in kills[:count]] + pairs


def work(index: int, processes: int, wanted: Wanted, done: set[str], pipe: Connection) -> None:
    """One process of the sweep, with a chain of its own: its share of the points, the last round first, because a
    chain that was taken back does not come forward again.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder goes, too
    folder = Path(tempfile.mkdtemp(prefix="roundledger-sweep-"))
    try:
        with Devnet.start() as devnet:
            stage = Stage(folder, devnet, wanted.rounds)
            scenes = [stage.rehearse() for _ in range(wanted.rounds)]
            for scene in reversed(scenes[-1:] if wanted.by_name else scenes):
                kinds: Counter[str] = Counter()
                if wanted.by_name:
                    chosen = named()
                else:
                    found, kinds = places(stage, scene)
                    chosen = plan(found, wanted.points // wanted.rounds, scene.number)
                names = {name_of(scene.number, kills): kills for kills in chosen}
                mine = {n: kills for n, kills in names.items() if zlib.crc32(n.encode()) % processes == index}
                pipe.send({"scene": scene.number, "kinds": kinds, "skipped": len(mine.keys() & done)})
                for name in mine.keys() - done:
                    pipe.send({"point": name, **result(stage, scene, mine[name])})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        pipe.close()


def result(stage: Stage, scene: Scene, kills: tuple[Kill, ...]) -> dict[str, Any]:
    try:
        outcome = stage.try_round(scene, *kills)
    except (TimeoutError, RuntimeError) as error:
        outcome = Outcome(False, [], 0.0, [f"{type(error).__name__}: {error}"])
    return {"killed": outcome.killed, "seconds": round(outcome.seconds, 3), "violations": outcome.violations}


def run(wanted: Wanted, processes: int, out: Path | None, console: Console) -> dict[str, Any]:
    """The whole sweep, with a bar on `console`. Returns what it found."""
    results = {item["point"]: item for item in read(out)}
    since, kinds = time.monotonic(), {}
    total = len(named()) if wanted.by_name else wanted.points // wanted.rounds * wanted.rounds
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("founding", total=total)
        for item in messages(wanted, processes, set(results)):
            if "scene" in item:
                kinds[item["scene"]] = item["kinds"]
                bar.advance(task, item["skipped"])
                continue
            results[item["point"]] = item
            if out:
                with out.open("a") as file:
                    file.write(json.dumps(item) + "\n")
            bar.update(task, advance=1, description=f"round {item['point'][:40]}")
            for violation in item["violations"]:
                bar.console.print(f"{item['point']}: {violation}", markup=False, highlight=False)
    return summary(list(results.values()), kinds, time.monotonic() - since)


def messages(wanted: Wanted, processes: int, done: set[str]) -> Iterator[dict[str, Any]]:
    """What the processes say, until all have ended."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for index in range(processes):
        mine, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(index, processes, wanted, done, theirs))
        worker.start()
        theirs.close()
        pipes.append(mine)
        workers.append(worker)
    try:
        while pipes:
            for pipe in wait(pipes):
                assert isinstance(pipe, Connection)
                try:
                    yield pipe.recv()
                except EOFError:
                    pipes.remove(pipe)
    finally:
        for worker in workers:
            if pipes:  # somebody asked to stop
                worker.terminate()
            worker.join()
    if failed := [worker.exitcode for worker in workers if worker.exitcode != 0]:
        raise SystemExit(f"a process of the sweep ended with {failed[0]}")


def read(out: Path | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out and out.exists() else []


def summary(results: list[dict[str, Any]], kinds: dict[int, Counter[str]], seconds: float) -> dict[str, Any]:
    spent = sorted(item["seconds"] for item in results)
    return {
        "points": len(results),
        "killed": sum(item["killed"] for item in results),
        "not_reached": sorted(item["point"] for item in results if not item["killed"]),
        "violations": {item["point"]: item["violations"] for item in results if item["violations"]},
        "seconds": round(seconds, 1),
        "median_seconds_a_point": spent[len(spent) // 2] if spent else None,
        "calls_of_a_round": {number: kind.total() for number, kind in sorted(kinds.items())},
        "kinds_of_calls": dict(sum(kinds.values(), Counter()).most_common()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=500, help="how many (2000 for the long form)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of how many rounds")
    parser.add_argument("--named", action="store_true", help="the named points instead")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a file of results, to go on from and to append to")
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout")
    options = parser.parse_args()
    if not options.named and shutil.which("strace") is None:
        sys.exit("strace is not installed: `apt-get install strace`")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(stderr=True)
    wanted = Wanted(options.points, NAMED_ROUNDS if options.named else options.rounds, options.named)
    report = run(wanted, options.processes, options.out, console)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        lost = report["violations"]
        console.print(f"{report['points']} points, {report['killed']} kills, {len(lost)} violations")
    sys.exit(1 if report["violations"] else 0)


if __name__ == "__main__":
    main()
