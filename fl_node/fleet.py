"""Several nodes on one machine, each an operating-system process of its own: for demos, tests and
`scripts/run_nodes.py`.
"""

import json
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from chain.protocol.errors import ConfigError
from chain.tied import tied

GRACE = 10.0  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """One line that a node printed. `kind` "exit" is the fleet's own: the process ended, `values["code"]` says how."""

    node: str
    kind: str
    round: int
    values: dict[str, Any]


class Fleet:
    """Starts one `roundledger node run` for every `node.toml`; no process outlives the `with` block. A node goes by the
    name of its file; raises ConfigError if two have the same.

    On Linux they are told to stop, too, when the thread that started them ends in any other way.
    """

    def __init__(self, configs: Sequence[Path], logs: Path) -> None:
        if twice := [name for name, count in Counter(config.stem for config in configs).items() if count > 1]:
            raise ConfigError(twice[0], "two nodes of one name", "every node.toml needs a file name of its own")
        self._configs, self._logs = configs, logs
        self._events: queue.Queue[NodeEvent] = queue.Queue()
        self._running = 0  # processes whose exit nobody has seen yet
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        try:
            for config in self._configs:
                self.start(config)
        except BaseException:  # a signal, for one: without an entered block nobody would call __exit__
            self.stop()
            raise
        return self

    def start(self, config: Path) -> None:
        """Starts (or starts again) the node of this file; its output also goes to the log folder."""
        name = config.stem
        command = [sys.executable, "-m", "fl_node.cli", "node", "run", "--config", str(config), "--json"]
        errors = (self._logs / f"{name}.err").open("a")
        # Tied: a signal may end this process between the start of a node and the next line, which takes note of it.
        process = subprocess.Popen(
            tied(command, signal.SIGTERM), stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        errors.close()
        self.processes[name] = process
        self._running += 1
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        threading.Thread(target=self._read, args=(name, process, process.stdout), daemon=True).start()

    def _read(self, name: str, process: subprocess.Popen[str], output: IO[str]) -> None:
        with (self._logs / f"{name}.jsonl").open("a") as log:
            for line in output:
                log.write(line)
                try:
                    event = json.loads(line)
                    kind, number = event.pop("event"), event.pop("round")
                except (ValueError, KeyError, AttributeError):
                    continue  # not an event: kept in the log all the same
                self._events.put(NodeEvent(name, kind, number, event))
        self._events.put(NodeEvent(name, "exit", 0, {"code": process.wait()}))

    def events(self) -> Iterator[NodeEvent]:
        """Everything that the nodes report; the exit of the last one is the last."""
        while self._running:
            event = self._events.get()
            if event.kind == "exit":
                self._running -= 1
            yield event

    def last_words(self, name: str, lines: int = 5) -> str:
        """The end of what a node wrote to stderr."""
        return "\n".join((self._logs / f"{name}.err").read_text().strip().splitlines()[-lines:])

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
