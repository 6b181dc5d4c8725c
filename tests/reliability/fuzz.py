"""Every decoder against damaged and senseless bytes: only documented errors come out, in bounded memory and time.

`python -m tests.reliability.fuzz --inputs N [--seed S] [--decoder NAME] [--json]` tries N damaged inputs, and before
them all bombs, on each decoder: in a process of its own, with bounded memory, and SECONDS for an input. Exit 0 if
nothing escaped.
"""

import argparse
import json
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from tests.reliability.decoder import Decoder
from tests.reliability.decoders import table
from tests.reliability.mutate import mutated

SECONDS = 20.0
KEPT = 5  # escapes that are described


class TooLong(BaseException):
    """An input took more than SECONDS."""


@dataclass
class Outcome:
    """What came of a decoder's inputs."""

    decoder: str
    inputs: int = 0
    refused: int = 0  # with a documented error; the others were read
    escapes: int = 0
    peak_mib: float = 0.0  # resident memory above that before the first input
    described: list[str] = field(default_factory=list)


def try_inputs(decoder: Decoder, inputs: int, seed: int, folder: Path) -> Outcome:
    """In this process: a valid encoding, which the decoder must take, then the bombs, then damaged encodings."""
    outcome, rng = Outcome(decoder.name), random.Random(f"{decoder.name} {seed}")  # noqa: S311 - the same inputs every time
    decode, seeds = decoder.make(folder), list(decoder.seeds(folder))
    decode(seeds[0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in chain(decoder.bombs(), (mutated(rng, seeds) for _ in range(inputs))):
        outcome.inputs += 1
        try:
            decode(data)
        except decoder.documented:
            outcome.refused += 1
        except (Exception, TooLong) as error:  # noqa: BLE001 - what is looked for
            outcome.escapes += 1
            if len(outcome.described) < KEPT:
                at = traceback.extract_tb(error.__traceback__)[-1]
                what = f"{type(error).__name__}: {str(error)[:200]} at {at.filename}:{at.lineno}"
                outcome.described.append(f"{what} for {data[:400]!r}{'...' if len(data) > 400 else ''}")
    outcome.peak_mib = round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1)
    return outcome


def _limit_memory(more: int) -> None:
    """`more` bytes of address space above what this process has."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more, size + more))


def _work(decoder: Decoder, inputs: int, seed: int, answer: Connection) -> None:
    def too_long(number: int, frame: FrameType | None) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, too_long)
    _limit_memory(decoder.memory)
    with tempfile.TemporaryDirectory() as folder:
        answer.send(try_inputs(_timed(decoder), inputs, seed, Path(folder)))


def _timed(decoder: Decoder) -> Decoder:
    """The same, with SECONDS for each input."""

    def make(folder: Path):  # type: ignore[no-untyped-def]
        decode = decoder.make(folder)

        def timed(data: bytes) -> object:
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                return decode(data)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

        return timed

    return replace(decoder, make=make)


def fuzz(decoder: Decoder, inputs: int, seed: int) -> Outcome:
    """In a process of its own. One that dies, or hangs where no signal reaches it, counts as an escape."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(decoder, inputs, seed, send))
    process.start()
    send.close()
    try:
        outcome = receive.recv() if receive.poll(SECONDS + inputs * 0.5) else None
    except EOFError:
        outcome = None
    if outcome is None:
        process.kill()
    process.join()
    died = Outcome(decoder.name, inputs, escapes=1, described=[f"the process ended with {process.exitcode}"])
    return outcome or died


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.reliability.fuzz", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--inputs", type=int, default=1000, help="for each decoder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--decoder", help="only those whose name contains this")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    outcomes = []
    for decoder in table():
        if asked.decoder is None or asked.decoder in decoder.name:
            outcomes.append(outcome := fuzz(decoder, asked.inputs, asked.seed))
            if not asked.json:
                print(
                    f"{outcome.decoder:28} {outcome.inputs:9,} inputs {outcome.refused:9,} refused "
                    f"{outcome.escapes:5} escapes {outcome.peak_mib:7.1f} MiB",
                    *outcome.described,
                    sep="\n    ",
                    flush=True,
                )
    total = {name: sum(getattr(outcome, name) for outcome in outcomes) for name in ("inputs", "refused", "escapes")}
    if asked.json:
        print(json.dumps({"decoders": list(map(asdict, outcomes)), "seed": asked.seed, **total}, indent=2))
    else:
        print(f"{len(outcomes)} decoders, {total['inputs']:,} inputs, {total['escapes']} escapes")
    return 1 if total["escapes"] else 0


if __name__ == "__main__":
    sys.exit(main())
