"""The command itself, the demo, and what an error means: the exit codes."""

import io
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape

from chain.protocol.errors import ConfigError, RoundledgerError, TrustError, Unavailable, VerificationError
from fl_node.cli import auditor, member, membership, operator, relay
from fl_node.cli.interrupted import end
from fl_node.cli.options import err, out, said_everything, show_json

INTERNAL_ERROR = 70  # EX_SOFTWARE: a defect of roundledger, never to be taken for a finding

app = typer.Typer(
    name="roundledger",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated training whose every round can be proven.",
)
app.add_typer(operator.devnet_app, name="devnet")
app.add_typer(operator.key_app, name="key")
app.command()(operator.deploy)
app.add_typer(membership.member_app, name="member")
app.add_typer(member.node_app, name="node")
app.command()(relay.relay)
app.command()(auditor.status)
app.command()(auditor.audit)
app.command()(member.classify)


@app.command()
def demo(
    dataset: Annotated[str, typer.Option(help="breast-cancer, digits or fashion-mnist.")] = "breast-cancer",
    directory: Annotated[
        Path, typer.Option("--dir", help="Where everything goes; an earlier demo there is removed.")
    ] = Path("runs/demo"),
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds; default: 10.")] = None,
    participants: Annotated[int, typer.Option(min=2, max=64, help="Organisations, a node each.")] = 4,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Of how records are split, and of the first model.")
    ] = 1,
) -> None:
    """Everything once, for real: devnet, ledger, four nodes, ten rounds, classification, audit."""
    from fl_node.demo import run_demo

    signal.signal(signal.SIGTERM, end)  # so that everything it started is stopped
    raise typer.Exit(run_demo(dataset, directory, rounds, participants, seed, out))


def main() -> None:
    """Runs the command and exits with the code that its error means: 0 to 5 as documented, 70 for a defect of ours."""
    for stream in (sys.stdout, sys.stderr):  # names in letters that the terminal does not have are no defect of ours
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.path.append(str(Path.cwd()))  # a federation's own model factory may stand where the command is called
    try:
        _run()
    except SystemExit as ended:
        if not said_everything():  # Python would end with 120, or 0
            ended.code = ended.code or ConfigError.exit_code
        raise


def _run() -> NoReturn:
    try:
        app()
    except RoundledgerError as error:
        sys.exit(complain(error))
    except OSError as error:  # a full disk, a folder where a file was to be written
        sys.exit(complain(ConfigError(error.filename or "system", error.strerror or str(error))))
    except Exception:  # noqa: BLE001 - the outermost frame: Python's own exit code 1 would read as a finding
        with suppress(OSError):
            traceback.print_exc()
        sys.exit(INTERNAL_ERROR)
    sys.exit(0)


def complain(error: RoundledgerError) -> int:
    """Says what went wrong, on stdout too if JSON was asked for, as far as there is room. Returns the exit code."""
    kind = "not trusted" if isinstance(error, TrustError) else "error" if error.exit_code else "note"
    with suppress(OSError):
        err.print(f"[bold]{kind}:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    if "--json" in sys.argv and error.exit_code:
        with suppress(OSError):
            show_json(error_json(error), indent=None)  # on one line, as the events of `node run`
    return error.exit_code


def error_json(error: RoundledgerError) -> dict[str, Any]:
    found: dict[str, Any] = {"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
    if isinstance(error, VerificationError):
        found |= {"code": error.code, "subject": error.subject, "expected": error.expected, "actual": error.actual}
    if isinstance(error, Unavailable):
        found |= {"code": error.code, "subject": error.subject, "reason": error.reason}
    return found
