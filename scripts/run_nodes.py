"""Runs several nodes on this machine, a process each: `python scripts/run_nodes.py node-1.toml node-2.toml ...`."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from chain.protocol.errors import ConfigError, RoundledgerError
from fl_node.cli.interrupted import end
from fl_node.cli.main import complain
from fl_node.fleet import Fleet
from fl_node.report import event_line


def run_nodes(
    configs: Annotated[list[Path], typer.Argument(help="node.toml files", exists=True, dir_okay=False)],
    logs: Annotated[Path, typer.Option(help="Folder for what each node prints.")] = Path("logs"),
) -> None:
    """Starts a node for every file and shows what they do, until all have ended. Ctrl-C stops them all."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        worst = follow(Fleet(configs, logs))
    except RoundledgerError as error:
        worst = complain(error)
    except OSError as error:  # where the logs were to be written
        worst = complain(ConfigError(error.filename or "system", error.strerror or str(error)))
    sys.exit(worst)


def follow(nodes: Fleet) -> int:
    """The worst of the nodes' exit codes."""
    console, worst = Console(), 0
    with nodes as fleet:
        for event in fleet.events():
            if event.kind == "exit":
                worst = max(worst, abs(event.values["code"]))
                if event.values["code"]:
                    console.print(f"[red]{event.node} ended with code {event.values['code']}[/]")
                    console.print(escape(fleet.last_words(event.node)))
            else:
                line = event_line(event.kind, event.round, event.values)
                console.print(f"{event.node:10} {line}", highlight=False, soft_wrap=True)
    return worst


if __name__ == "__main__":
    typer.run(run_nodes)
