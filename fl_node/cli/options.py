"""Options and helpers that several commands share."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from chain.protocol.errors import ConfigError

if TYPE_CHECKING:
    from chain.blocks import Depth
    from fl_node.ledger import Ledger

READER_GONE = 141  # what a shell reports of a program that SIGPIPE has ended


class Terminal(Console):
    """rich ends the program with 1 when the reader has gone (`roundledger audit | head`); here 1 is a finding."""

    def on_broken_pipe(self) -> None:
        reader_gone()


def reader_gone() -> NoReturn:
    """Ends as if by SIGPIPE, which Python does not let through."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at the end would complain
    sys.exit(READER_GONE)


out = Terminal()
err = Terminal(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout; progress goes to stderr.")]
KnownHead = Annotated[
    str | None, typer.Option("--head", help="A head known from elsewhere: the history must pass through it.")
]
DepthOption = Annotated[
    str | None,
    typer.Option("--depth", help="Read only what has this many blocks on top, or `finalized`; default: everything."),
]
DeploymentFile = Annotated[Path, typer.Option("--deployment", help="The deployment record.")]
RpcUrl = Annotated[str, typer.Option("--rpc", help="The chain's JSON-RPC server.")]
Blobs = Annotated[str, typer.Option("--blobs", help="The blob store: a folder, or an s3://, gs://, az:// URL.")]
Keystore = Annotated[Path, typer.Option("--keystore", help="The account's encrypted keystore.")]
PasswordFile = Annotated[Path, typer.Option("--password-file", help="A file with the keystore's password (chmod 600).")]


def show_json(value: Any, indent: int | None = 2) -> None:
    """Raises OSError when there is no room for all of it."""
    rest = memoryview((json.dumps(value, indent=indent) + "\n").encode())
    try:
        sys.stdout.flush()
        while rest:  # unbuffered (PYTHONUNBUFFERED), a write may be in part, and Python's own would not say so
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.flush()
    except BrokenPipeError:
        reader_gone()


def said_everything() -> bool:
    """Whether all that was printed has arrived: at the end of the program."""
    arrived = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            arrived = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python would try, and fail, once more
    return arrived


def checked_address(text: str) -> str:
    from eth_utils.address import is_checksum_address, is_hex_address, to_checksum_address

    one_case = text[2:] in (text[2:].lower(), text[2:].upper())  # mixed case is a checksum, and typing errors break it
    if not (text.startswith("0x") and is_hex_address(text) and (one_case or is_checksum_address(text))):
        raise ConfigError(
            text, "not an Ethereum address", "0x and 40 hex digits; mixed case must have a valid checksum"
        )
    return str(to_checksum_address(text))


def checked_participants(texts: Sequence[str]) -> list[str]:
    """Of those who are to be enrolled. Raises ConfigError for what the ledger would refuse half-way, or should."""
    addresses = [checked_address(text) for text in texts]
    for at, address in enumerate(addresses):
        if int(address, 16) == 0:
            raise ConfigError(address, "nobody has this address: it could never act, and counts for the quorum")
        if address in addresses[:at]:
            raise ConfigError(address, "named twice", "every participant needs a key of its own")
    return addresses


def open_ledger(deployment: Path, rpc: str, head: str | None = None, depth: str | None = None) -> "Ledger":
    """The pinned ledger, checked to be that one (L1)."""
    ledger = open_reader(deployment, rpc, head, depth)
    ledger.reader.check_deployment()
    return ledger


def open_reader(deployment: Path, rpc: str, head: str | None = None, depth: str | None = None) -> "Ledger":
    """The pinned ledger, nothing checked yet."""
    from chain.protocol.events import HEAD_BYTES

    known = None
    if head is not None:
        try:
            known = bytes.fromhex(head.removeprefix("0x"))
        except ValueError:
            known = b""
        if len(known) != HEAD_BYTES:
            raise ConfigError("--head", f"not a head: {head}", "0x and 56 hex digits, as `status --json` gives them")
    from chain.deploy import load_deployment
    from chain.reader import LedgerReader
    from chain.rpc import Rpc
    from fl_node.ledger import Ledger

    return Ledger(LedgerReader(Rpc(rpc), load_deployment(deployment)), known_head=known, depth=read_depth(depth))


def read_depth(text: str | None) -> "Depth":
    """None: no block need lie on top."""
    if text == "finalized":
        return "finalized"
    if text is None:
        return 0
    if not text.isdecimal():
        raise ConfigError("--depth", f"neither a number of blocks nor `finalized`: {text}")
    return int(text)
