"""For the auditor, and anybody who wants to look: the rounds so far, and the audit of all of them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chain.protocol.errors import ConfigError
from fl_node.cli.options import (
    Blobs,
    DeploymentFile,
    DepthOption,
    Json,
    KnownHead,
    RpcUrl,
    err,
    open_ledger,
    open_reader,
    out,
    show_json,
)

if TYPE_CHECKING:
    from fl_node.dataroot import DataRoot


def status(deployment: DeploymentFile, rpc: RpcUrl, depth: DepthOption = None, as_json: Json = False) -> None:
    """The rounds so far, from the verified ledger."""
    from fl_node.report import history_json, rounds_table

    history = open_ledger(deployment, rpc, depth=depth).sync()
    if as_json:
        show_json(history_json(history))
    else:
        out.print(rounds_table(history))


def audit(
    deployment: DeploymentFile,
    rpc: RpcUrl,
    blobs: Blobs,
    federation: Annotated[Path | None, typer.Option(help="The rules file; default: the one beside the record.")] = None,
    node: Annotated[Path | None, typer.Option(help="Your own node.toml: checks your data roots too (D1).")] = None,
    head: KnownHead = None,
    depth: DepthOption = None,
    witness: Annotated[list[str] | None, typer.Option(help="Another server that must agree; may be repeated.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Updates verified at the same time.")] = 1,
    report_file: Annotated[Path | None, typer.Option("--report", help="Also write the JSON report here.")] = None,
    verbose: Annotated[bool, typer.Option(help="Every finding on a line, also those that pass.")] = False,
    as_json: Json = False,
) -> None:
    """Replay the whole history and verify every round. Exit 0 pass, 1 proven mismatch, 3 incomplete, 5 not the pinned
    ledger.
    """
    from chain.deploy import load_deployment
    from chain.files import check_place, keep_apart, load_rules, write_atomic
    from fl_node.audit import Audit
    from fl_node.report import FindingPrinter, advice, audit_json, rounds_table
    from fl_node.store import BlobStore, place_of_blobs

    record = load_deployment(deployment)
    beside = deployment.parent / record.federation
    rules_file = federation or (beside if beside.exists() else None)
    if report_file:
        keep_apart(report_file, deployment, rules_file, node, place_of_blobs(blobs))
        check_place(report_file)
        report_file.unlink(missing_ok=True)  # an older one must not be taken for that of an audit that ended early
    ledger = open_reader(deployment, rpc, head, depth)
    witnesses = [open_reader(deployment, url).reader for url in witness or []]
    names = [ledger.reader.rpc.name, *(each.rpc.name for each in witnesses)]
    if len(set(names)) < len(names):
        raise ConfigError(
            "--witness", "the same server twice", "a witness is another server, of somebody else if possible"
        )
    audit = Audit(
        ledger=ledger,
        store=BlobStore(blobs, create=False),
        federation=load_rules(rules_file) if rules_file else None,
        witnesses=witnesses,
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
    if text := advice(audit):
        err.print(text, soft_wrap=True)
    (err if as_json else out).print(document["summary"], highlight=False, soft_wrap=True)
    raise typer.Exit(audit.exit_code)


def own_data_root(config: Path) -> "tuple[str, DataRoot]":
    """The participant of a node.toml and the data root of its data as they are now."""
    from chain.files import load_rules
    from fl_node.config import NodeConfig
    from fl_node.data import load_records
    from fl_node.dataroot import RecordSecret, data_root

    node = NodeConfig.load(config)
    secret = node.state / "secret"
    if not secret.exists():  # a new one would give another root, and a false accusation
        raise ConfigError(secret, "no such record secret", "D1 needs the one that the node trained with")
    records = load_records(node.data, load_rules(node.federation).data)
    return node.participant(), data_root(records, RecordSecret.load(secret))
