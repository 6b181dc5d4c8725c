"""For the operator: a local chain, keys, the deployment."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fl_node.cli.options import (
    Blobs,
    Json,
    Keystore,
    PasswordFile,
    RpcUrl,
    checked_address,
    checked_participants,
    err,
    out,
    show_json,
)  # fmt: skip

devnet_app = typer.Typer(no_args_is_help=True, help="A local chain for trying things out.")
key_app = typer.Typer(no_args_is_help=True, help="Encrypted keystores.")

DevnetFolder = Annotated[Path, typer.Option("--dir", help="Where the running devnet is recorded.")]
DEVNET = Path("runs/devnet")


class Kind(StrEnum):
    anvil = "anvil"
    ganache = "ganache"


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
        stop = "roundledger devnet down" + ("" if directory == DEVNET else f" --dir {escape(str(directory))}")
        out.print(
            f"{info.kind} on [bold]{info.url}[/], chain {info.chain_id}, pid {info.pid}; stop it with `{stop}`",
            soft_wrap=True,
        )


@devnet_app.command("down")
def devnet_down(directory: DevnetFolder = DEVNET) -> None:
    """Stop it, and save its state where `up --state` said."""
    from chain import devnet

    stopped = devnet.down(directory)
    out.print("stopped" if stopped else f"no devnet is running in {escape(str(directory))}", soft_wrap=True)


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


def deploy(
    federation: Annotated[Path, typer.Option(help="The rules: federation.toml.")],
    rpc: RpcUrl,
    keystore: Keystore,
    password_file: PasswordFile,
    blobs: Blobs,
    enrol: Annotated[list[str] | None, typer.Option(help="A participant to enrol; may be repeated.")] = None,
    record: Annotated[Path, typer.Option("--out", help="Where the deployment record goes.")] = Path("deployment.json"),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Draws the genesis model's weights.")] = 0,
    as_json: Json = False,
) -> None:
    """Deploy the ledger of a new federation and write its deployment record."""
    from chain import keys
    from fl_node.federation import found

    participants = checked_participants(enrol or [])
    owner = keys.unlock(keystore, keys.read_password(password_file))

    def progress(text: str) -> None:
        err.print(escape(text), soft_wrap=True)

    deployment = found(federation, rpc, owner, blobs, participants, record, seed=seed, progress=progress)
    if as_json:
        show_json(deployment.model_dump())
    else:
        out.print(f"deployment record: [bold]{escape(str(record))}[/]", soft_wrap=True)
