"""For an organisation: its node, and the classification of its users."""

import gc
import json
import signal
import sys
import threading
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any

import typer
from rich.markup import escape

from chain.protocol.errors import Pending
from fl_node.cli.options import Blobs, DeploymentFile, Json, KnownHead, RpcUrl, open_ledger, out, show_json

node_app = typer.Typer(no_args_is_help=True, help="One organisation's node.")


@node_app.command("run")
def node_run(
    config: Annotated[Path, typer.Option("--config", help="The node's own node.toml.")], as_json: Json = False
) -> None:
    """Take part in every round until the federation is done. With --json one event a line."""
    stop = _asked_to_stop()  # before torch is loaded, which takes seconds

    from fl_node import node
    from fl_node.memory import keep_freed_memory
    from fl_node.report import event_line

    keep_freed_memory()

    def report(kind: str, round_number: int, **values: Any) -> None:
        if as_json:
            sys.stdout.write(json.dumps({"event": kind, "round": round_number, **values}) + "\n")
            sys.stdout.flush()
        else:
            out.print(event_line(kind, round_number, values), highlight=False, soft_wrap=True)

    session = node.load(config, report, stop)
    gc.freeze()  # what the libraries have loaded lives as long as the process: no need to look through it again
    with closing(session.journal):
        node.run(session)


def _asked_to_stop() -> threading.Event:
    """Set by the first SIGTERM or Ctrl-C. The next one ends the process at once: its work is in the journal."""
    stop, asked = threading.Event(), SimpleQueue[int]()

    def stop_soon(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        asked.put(number)  # `stop.set` would wait for ever if the signal came while this very thread holds its lock

    def pass_on() -> None:
        asked.get()
        stop.set()

    threading.Thread(target=pass_on, daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop_soon)
    return stop


@node_app.command("give-up")
def node_give_up(config: Annotated[Path, typer.Option("--config", help="The node's own node.toml.")]) -> None:
    """Forget the round that this node could not verify, and its own update for it: the quorum is taken at its word.

    For a round of which a blob can no longer be had anywhere. The node must not be running.
    """
    from fl_node.config import NodeConfig
    from fl_node.journal import Journal

    journal = Journal(NodeConfig.load(config).state)
    number = journal.give_up()
    journal.close()
    out.print("nothing to give up" if number is None else f"round {number} is given up")


def classify(
    deployment: DeploymentFile,
    rpc: RpcUrl,
    blobs: Blobs,
    users: Annotated[str, typer.Option("--input", help="Records to classify: CSV, Parquet, NPZ, IDX or builtin:NAME.")],
    output: Annotated[Path, typer.Option("--output", help="CSV of labels and probabilities.")],
    labelled: Annotated[
        bool, typer.Option("--labelled", help="The input has labels: report accuracy and ROC AUC.")
    ] = False,
    head: KnownHead = None,
    as_json: Json = False,
) -> None:
    """Classify users' data with the newest finalized model, after verifying the ledger that names it."""
    from chain.files import check_place, keep_apart
    from fl_node.arrays import labels_beside
    from fl_node.classify import classification_json, print_classification, write_csv
    from fl_node.classify import classify as classify_records
    from fl_node.data import load_records
    from fl_node.fetch import fetch_rules
    from fl_node.finalized import finalized_model
    from fl_node.model import build_model, load_tensors
    from fl_node.store import BlobStore, place_of_blobs

    keep_apart(output, Path(users), labels_beside(Path(users)), deployment, place_of_blobs(blobs))
    check_place(output)
    history, store = open_ledger(deployment, rpc, head).sync(), BlobStore(blobs, create=False)
    if not history.finalized or history.model is None:
        raise Pending("no round is finalized yet: there is no trained model to classify with")
    rules = fetch_rules(store, history.rules.rules_digest)
    records = load_records(users, rules.data, labelled=labelled)
    module = build_model(rules, seed=0)
    load_tensors(module, finalized_model(store, history, history.model, rules))
    result = classify_records(module, records, rules)
    write_csv(output, result)
    if as_json:
        show_json(classification_json(result) | {"model": str(history.model), "output": str(output)})
    else:
        print_classification(result, out)
        out.print(f"labels and probabilities: [bold]{escape(str(output))}[/]", soft_wrap=True)
