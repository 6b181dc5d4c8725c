"""Who takes part, under which key, and whether new rounds may open: for operator, pauser and participants."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chain.protocol.errors import ConfigError
from fl_node.cli.options import (
    DeploymentFile,
    Json,
    Keystore,
    PasswordFile,
    RpcUrl,
    checked_address,
    checked_participants,
    open_ledger,
    out,
    show_json,
)

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from chain.client import LedgerClient
    from chain.protocol.deployment import Deployment
    from chain.sender import Receipt

CONSENT_LASTS = 3600  # seconds of block time in which the new key's consent can be used

member_app = typer.Typer(no_args_is_help=True, help="Participants, their keys, and pauses.")


@member_app.command("enrol")
def member_enrol(
    participants: list[str],
    deployment: DeploymentFile,
    rpc: RpcUrl,
    keystore: Keystore,
    password_file: PasswordFile,
    as_json: Json = False,
) -> None:
    """Enrol participants from the next round on."""
    addresses = checked_participants(participants)
    client, _, _ = _open(deployment, rpc, keystore, password_file)
    _act("enrol", addresses, client.enrol, as_json)


@member_app.command("retire")
def member_retire(
    participants: list[str],
    deployment: DeploymentFile,
    rpc: RpcUrl,
    keystore: Keystore,
    password_file: PasswordFile,
    as_json: Json = False,
) -> None:
    """Retire participants; in an open round they stay to its end."""
    addresses = [checked_address(participant) for participant in participants]
    client, _, _ = _open(deployment, rpc, keystore, password_file)
    _act("retire", addresses, client.retire, as_json)


@member_app.command("rotate")
def member_rotate(
    replacement: Annotated[Path, typer.Option(help="The keystore of the new key.")],
    replacement_password_file: Annotated[Path, typer.Option(help="A file with its password (chmod 600).")],
    deployment: DeploymentFile,
    rpc: RpcUrl,
    keystore: Keystore,
    password_file: PasswordFile,
    as_json: Json = False,
) -> None:
    """Go on under a new key from the next round on; the old one ends the open round. Then name the new keystore in
    node.toml: the state folder stays. Once a round: a key that has been in no round yet is not rotated.
    """
    from chain import keys
    from chain.signing import sign_rotation

    new_key = keys.unlock(replacement, keys.read_password(replacement_password_file))
    client, pinned, now = _open(deployment, rpc, keystore, password_file)
    consent = sign_rotation(new_key, pinned, client.address, now + CONSENT_LASTS)
    _act("rotate", [str(new_key.address)], lambda address: client.rotate(address, consent), as_json)


@member_app.command("pauser")
def member_pauser(
    account: Annotated[str, typer.Argument(help="Who may pause; the zero address: nobody.")],
    deployment: DeploymentFile,
    rpc: RpcUrl,
    keystore: Keystore,
    password_file: PasswordFile,
    as_json: Json = False,
) -> None:
    """Name the account that may pause. The owner only."""
    address = checked_address(account)
    client, _, _ = _open(deployment, rpc, keystore, password_file)
    _act("pauser", [address], client.set_pauser, as_json)


@member_app.command("pause")
def member_pause(
    deployment: DeploymentFile, rpc: RpcUrl, keystore: Keystore, password_file: PasswordFile, as_json: Json = False
) -> None:
    """Let no new round be opened; an open one goes on to its end. The pauser only."""
    client, pinned, _ = _open(deployment, rpc, keystore, password_file)
    _act("pause", [pinned.address], lambda _: client.pause(), as_json)


@member_app.command("unpause")
def member_unpause(
    deployment: DeploymentFile, rpc: RpcUrl, keystore: Keystore, password_file: PasswordFile, as_json: Json = False
) -> None:
    """Let new rounds be opened again. The pauser or the owner."""
    client, pinned, _ = _open(deployment, rpc, keystore, password_file)
    _act("unpause", [pinned.address], lambda _: client.unpause(), as_json)


@member_app.command("successor")
def member_successor(
    ledger: Annotated[str, typer.Argument(help="The contract that goes on.")],
    deployment: DeploymentFile,
    rpc: RpcUrl,
    keystore: Keystore,
    password_file: PasswordFile,
    as_json: Json = False,
) -> None:
    """Name the ledger that follows this one, once and for ever: no new round opens here afterwards. The owner only."""
    address = checked_address(ledger)
    client, pinned, _ = _open(deployment, rpc, keystore, password_file)
    if address == pinned.address:
        raise ConfigError(address, "this is the ledger itself: it would end, and nothing would follow")
    _act("successor", [address], client.set_successor, as_json)


def _open(deployment: Path, rpc: str, keystore: Path, password_file: Path) -> "tuple[LedgerClient, Deployment, int]":
    """The pinned ledger for this account, and the time of the newest block."""
    from chain import keys
    from chain.client import LedgerClient

    reader = open_ledger(deployment, rpc).reader
    account: LocalAccount = keys.unlock(keystore, keys.read_password(password_file))
    return LedgerClient(rpc, reader.deployment, account), reader.deployment, reader.time()


def _act(action: str, addresses: list[str], call: "Callable[[str], Receipt]", as_json: bool) -> None:
    done = []
    for address in addresses:
        receipt = call(address)
        done.append({"action": action, "address": address, "block": receipt.block, "gas": receipt.gas_used})
        if not as_json:
            out.print(f"{action} {address}: block {receipt.block}, {receipt.gas_used:,} gas", soft_wrap=True)
    if as_json:
        show_json(done)
