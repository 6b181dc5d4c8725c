"""The `roundledger` command. It reads options, calls one function, and turns errors into exit codes; nothing is
decided here.

Heavy parts (torch, web3) are imported by the commands that need them, so `status` and `audit` start fast.
"""

import json
import signal
import sys
import threading
import traceback
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from chain.protocol.errors import ConfigError, Pending, RoundledgerError, TrustError, Unavailable, VerificationError

if TYPE_CHECKING:
    from fl_node.dataroot import DataRoot
    from fl_node.ledger import Ledger

INTERNAL_ERROR = 70  # EX_SOFTWARE: a defect of roundledger, never to be taken for a finding

app = typer.Typer(
    name="roundledger", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Federated training whose every round can be proven.",
)  # fmt: skip
devnet_app = typer.Typer(no_args_is_help=True, help="A local chain for trying things out.")
key_app = typer.Typer(no_args_is_help=True, help="Encrypted keystores.")
member_app = typer.Typer(no_args_is_help=True, help="Enrol and retire participants.")
node_app = typer.Typer(no_args_is_help=True, help="One organisation's node.")
for name, group in (("devnet", devnet_app), ("key", key_app), ("member", member_app), ("node", node_app)):
    app.add_typer(group, name=name)

out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout; progress goes to stderr.")]
DeploymentFile = Annotated[Path, typer.Option("--deployment", help="The deployment record.")]
RpcUrl = Annotated[str, typer.Option("--rpc", help="The chain's JSON-RPC server.")]
Blobs = Annotated[str, typer.Option("--blobs", help="The blob store: a folder, or an s3://, gs://, az:// URL.")]
Keystore = Annotated[Path, typer.Option("--keystore", help="The account's encrypted keystore.")]
PasswordFile = Annotated[Path, typer.Option("--password-file", help="A file with the keystore's password (chmod 600).")]
DevnetFolder = Annotated[Path, typer.Option("--dir", help="Where the running devnet is recorded.")]
DEVNET = Path("runs/devnet")
MAX_RULES = 1 << 24  # bytes of a rules blob


class Kind(StrEnum):
    anvil = "anvil"
    ganache = "ganache"


def show_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


# ------------------------------------------------------------------ devnet


@devnet_app.command("up")
def devnet_up(
    directory: DevnetFolder = DEVNET,
    kind: Annotated[Kind, typer.Option(help="Which chain.")] = Kind.anvil,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0: any free one.")] = 8545,
    state: Annotated[Path | None, typer.Option(help="A saved chain to load, and to save to on `down`.")] = None,
    as_json: Json = False,
) -> None:
    """Start a local chain in the background."""
    from chain import devnet

    info = devnet.up(directory, kind.value, port or None, state)
    if as_json:
        show_json({"url": info.url, "pid": info.pid, "chain_id": info.chain_id, "kind": info.kind})
    else:
        out.print(
            f"{info.kind} on [bold]{info.url}[/], chain {info.chain_id}, pid {info.pid}; "
            "stop it with `roundledger devnet down`"
        )


@devnet_app.command("down")
def devnet_down(directory: DevnetFolder = DEVNET) -> None:
    """Stop it, and save its state where `up --state` said."""
    from chain import devnet

    out.print("stopped" if devnet.down(directory) else f"no devnet is running in {escape(str(directory))}")


@devnet_app.command("status")
def devnet_status(directory: DevnetFolder = DEVNET, as_json: Json = False) -> None:
    """Whether it runs, where, and at which block. Exit code 3 when it does not run."""
    from chain import devnet

    status = devnet.status(directory)
    if as_json:
        show_json({"running": status.running, "url": status.info.url if status.info else None, "height": status.height})
    else:
        out.print(
            f"running on {status.info.url}, block {status.height}" if status.running and status.info else "not running"
        )
    if not status.running:
        raise typer.Exit(3)


@devnet_app.command("fund")
def devnet_fund(
    addresses: Annotated[list[str], typer.Argument(help="Accounts to give play money to.")],
    ether: Annotated[int, typer.Option(min=1, max=10**9)] = 100,
    directory: DevnetFolder = DEVNET,
) -> None:
    """Give accounts play money on the local chain."""
    from chain import devnet

    for address in addresses:
        devnet.fund(directory, checked_address(address), ether * 10**18)
        out.print(f"{address}: {ether} ether")


# -------------------------------------------------------------------- keys


@key_app.command("new")
def key_new(keystore: Annotated[Path, typer.Argument()], password_file: PasswordFile) -> None:
    """Make a key, encrypted with the password in the file; prints its address."""
    from chain import keys

    out.print(keys.create(keystore, keys.read_password(password_file)), highlight=False)


@key_app.command("show")
def key_show(keystore: Annotated[Path, typer.Argument()]) -> None:
    """Print the address of a keystore."""
    from chain import keys

    out.print(keys.address_of(keystore), highlight=False)


# ------------------------------------------------------------- the operator


@app.command()
def deploy(
    federation: Annotated[Path, typer.Option(help="The rules: federation.toml.")],
    rpc: RpcUrl,
    keystore: Keystore,
    password_file: PasswordFile,
    blobs: Blobs,
    enrol: Annotated[list[str] | None, typer.Option(help="A participant to enrol; may be repeated.")] = None,
    record: Annotated[Path, typer.Option("--out", help="Where the deployment record goes.")] = Path("deployment.json"),
    seed: Annotated[int, typer.Option(help="Draws the genesis model's weights.")] = 0,
    as_json: Json = False,
) -> None:
    """Deploy the ledger of a new federation and write its deployment record."""
    from chain import keys
    from fl_node.federation import found

    participants = [checked_address(address) for address in enrol or []]
    owner = keys.unlock(keystore, keys.read_password(password_file))
    deployment = found(
        federation, rpc, owner, blobs, participants, record, seed=seed, progress=lambda text: err.print(escape(text))
    )
    if as_json:
        show_json(deployment.model_dump())
    else:
        out.print(f"deployment record: [bold]{escape(str(record))}[/]")


@member_app.command("enrol")
def member_enrol(
    participants: list[str], deployment: DeploymentFile, rpc: RpcUrl, keystore: Keystore, password_file: PasswordFile
) -> None:
    """Enrol participants from the next round on."""
    _change_members("enrol", participants, deployment, rpc, keystore, password_file)


@member_app.command("retire")
def member_retire(
    participants: list[str], deployment: DeploymentFile, rpc: RpcUrl, keystore: Keystore, password_file: PasswordFile
) -> None:
    """Retire participants; in an open round they stay to its end."""
    _change_members("retire", participants, deployment, rpc, keystore, password_file)


def _change_members(
    action: str, participants: list[str], deployment: Path, rpc: str, keystore: Path, password_file: Path
) -> None:
    from chain import keys
    from chain.client import LedgerClient

    addresses = [checked_address(participant) for participant in participants]
    ledger = open_ledger(deployment, rpc)
    client = LedgerClient(rpc, ledger.reader.deployment, keys.unlock(keystore, keys.read_password(password_file)))
    for address in addresses:
        receipt = client.enrol(address) if action == "enrol" else client.retire(address)
        out.print(f"{action} {address}: block {receipt.block}, {receipt.gas_used:,} gas")


# ---------------------------------------------------------------- the node


@node_app.command("run")
def node_run(
    config: Annotated[Path, typer.Option("--config", help="The node's own node.toml.")], as_json: Json = False
) -> None:
    """Take part in every round until the federation is done. With --json one event a line."""
    from fl_node import node
    from fl_node.report import event_line

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def report(kind: str, round_number: int, **values: Any) -> None:
        if as_json:
            sys.stdout.write(json.dumps({"event": kind, "round": round_number, **values}) + "\n")
            sys.stdout.flush()
        else:
            out.print(event_line(kind, round_number, values), highlight=False)

    node.run(node.load(config, report, stop))


# ------------------------------------------------------- looking and auditing


@app.command()
def status(deployment: DeploymentFile, rpc: RpcUrl, as_json: Json = False) -> None:
    """The rounds so far, from the verified ledger."""
    from fl_node.report import history_json, rounds_table

    history = open_ledger(deployment, rpc).sync()
    if as_json:
        show_json(history_json(history))
    else:
        out.print(rounds_table(history))


@app.command()
def audit(
    deployment: DeploymentFile,
    rpc: RpcUrl,
    blobs: Blobs,
    federation: Annotated[Path | None, typer.Option(help="The rules file; default: the one beside the record.")] = None,
    node: Annotated[Path | None, typer.Option(help="Your own node.toml: checks your data roots too (D1).")] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Updates verified at the same time.")] = 1,
    report_file: Annotated[Path | None, typer.Option("--report", help="Also write the JSON report here.")] = None,
    verbose: Annotated[bool, typer.Option(help="Every finding on a line, also those that pass.")] = False,
    as_json: Json = False,
) -> None:
    """Replay the whole history and verify every round. Exit 0 pass, 1 proven mismatch, 3 incomplete, 5 not the pinned
    ledger.
    """
    from chain.files import load_rules, write_atomic
    from fl_node.audit import Audit
    from fl_node.report import FindingPrinter, audit_json, rounds_table
    from fl_node.store import BlobStore

    ledger = open_reader(deployment, rpc)
    beside = deployment.parent / ledger.reader.deployment.federation
    rules_file = federation or (beside if beside.exists() else None)
    audit = Audit(
        ledger=ledger,
        store=BlobStore(blobs, create=False),
        federation=load_rules(rules_file) if rules_file else None,
        own_data=own_data_root(node) if node else None,
        threads=threads,
    )
    printer, findings = FindingPrinter(err if as_json else out, verbose=verbose), []
    for finding in audit.run():
        findings.append(finding)
        printer.show(finding)
    printer.finish()
    document = audit_json(audit, findings)
    if report_file:
        write_atomic(report_file, (json.dumps(document, indent=2) + "\n").encode())
    if as_json:
        show_json(document)
    elif audit.history.rounds:
        out.print(rounds_table(audit.history))
    (err if as_json else out).print(document["summary"], highlight=False, soft_wrap=True)
    raise typer.Exit(audit.exit_code)


@app.command()
def classify(
    deployment: DeploymentFile,
    rpc: RpcUrl,
    blobs: Blobs,
    users: Annotated[str, typer.Option("--input", help="Records to classify: CSV, Parquet, NPZ, IDX or builtin:NAME.")],
    output: Annotated[Path, typer.Option("--output", help="CSV of labels and probabilities.")],
    labelled: Annotated[
        bool, typer.Option("--labelled", help="The input has labels: report accuracy and ROC AUC.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Classify users' data with the newest finalized model, after verifying the ledger that names it."""
    from chain.protocol.rules import Rules
    from fl_node.classify import classification_json, print_classification, write_csv
    from fl_node.classify import classify as classify_records
    from fl_node.data import load_records
    from fl_node.model import build_model, load_tensors
    from fl_node.store import BlobStore
    from fl_node.weights import decode_model

    history, store = open_ledger(deployment, rpc).sync(), BlobStore(blobs, create=False)
    if not history.finalized or history.model is None:
        raise Pending("no round is finalized yet: there is no trained model to classify with")
    rules = Rules.from_canonical(store.get(history.rules.rules_digest, "rules", MAX_RULES), "rules blob")
    records = load_records(users, rules.data, labelled=labelled)
    module = build_model(rules, seed=0)
    blob = store.get(history.model, f"model {history.model.short}", rules.limits.model_bytes)
    load_tensors(module, decode_model(blob, history.model, rules.limits.model_bytes))
    result = classify_records(module, records, rules)
    write_csv(output, result)
    if as_json:
        show_json(classification_json(result) | {"model": str(history.model), "output": str(output)})
    else:
        print_classification(result, out)
        out.print(f"labels and probabilities: [bold]{escape(str(output))}[/]")


@app.command()
def demo(
    dataset: Annotated[str, typer.Option(help="breast-cancer, digits or fashion-mnist.")] = "breast-cancer",
    directory: Annotated[Path, typer.Option("--dir")] = Path("runs/demo"),
    rounds: Annotated[int | None, typer.Option(min=1)] = None,
    participants: Annotated[int, typer.Option(min=2, max=64)] = 4,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Everything once, for real: devnet, ledger, four nodes, ten rounds, classification, audit."""
    from fl_node.demo import run_demo

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything it started is stopped
    raise typer.Exit(run_demo(dataset, directory, rounds, participants, seed, out))


# ------------------------------------------------------------------- shared


def checked_address(text: str) -> str:
    from eth_utils.address import is_address, to_checksum_address

    if not is_address(text):
        raise ConfigError(
            text, "not an Ethereum address", "0x and 40 hex digits; mixed case must have a valid checksum"
        )
    return str(to_checksum_address(text))


def open_ledger(deployment: Path, rpc: str) -> "Ledger":
    """The pinned ledger, checked to be that one (L1)."""
    ledger = open_reader(deployment, rpc)
    ledger.reader.check_deployment()
    return ledger


def open_reader(deployment: Path, rpc: str) -> "Ledger":
    """The pinned ledger, nothing checked yet."""
    from chain.deploy import load_deployment
    from chain.reader import LedgerReader
    from chain.rpc import Rpc
    from fl_node.ledger import Ledger

    return Ledger(LedgerReader(Rpc(rpc), load_deployment(deployment)))


def own_data_root(config: Path) -> "tuple[str, DataRoot]":
    """The participant of a node.toml and the data root of its data as they are now."""
    from chain import keys
    from chain.files import load_rules
    from fl_node.config import NodeConfig
    from fl_node.data import load_records
    from fl_node.dataroot import RecordSecret, data_root

    node = NodeConfig.load(config)
    secret = node.state / "secret"
    if not secret.exists():  # a new one would give another root, and a false accusation
        raise ConfigError(secret, "no such record secret", "D1 needs the one that the node trained with")
    records = load_records(node.data, load_rules(node.federation).data)
    return keys.address_of(node.keystore), data_root(records, RecordSecret.load(secret))


def error_json(error: RoundledgerError) -> dict[str, Any]:
    found: dict[str, Any] = {"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
    if isinstance(error, VerificationError):
        found |= {"code": error.code, "subject": error.subject, "expected": error.expected, "actual": error.actual}
    if isinstance(error, Unavailable):
        found |= {"code": error.code, "subject": error.subject, "reason": error.reason}
    return found


def main() -> None:
    """Runs the command and exits with the code that its error means: 0 to 5 as documented, 70 for a defect of ours."""
    sys.path.append(str(Path.cwd()))  # a federation's own model factory may stand where the command is called
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))  # the library would exit with 1, which is a finding here
    try:
        app()
    except RoundledgerError as error:
        if "--json" in sys.argv and error.exit_code:
            show_json(error_json(error))
        kind = "not trusted" if isinstance(error, TrustError) else "error" if error.exit_code else "note"
        err.print(f"[bold]{kind}:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except Exception:  # noqa: BLE001 - the outermost frame: Python's own exit code 1 would read as a finding
        traceback.print_exc()
        sys.exit(INTERNAL_ERROR)


if __name__ == "__main__":
    main()
