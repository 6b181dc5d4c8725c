"""For whoever brings what others have signed: the relayer."""

import logging
import math
from typing import Annotated

import typer
from rich.markup import escape

from fl_node.cli.options import DeploymentFile, Keystore, PasswordFile, RpcUrl, err


class Seldom(logging.Filter):
    """Lets one message a minute through: asyncio says thousands of times a second that no file can be opened."""

    last = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        passes = record.created - self.last >= 60
        self.last = record.created if passes else self.last
        return passes


def relay(
    deployment: DeploymentFile,
    rpc: RpcUrl,
    keystore: Keystore,
    password_file: PasswordFile,
    host: Annotated[
        str, typer.Option(help="Where to listen; behind a TLS proxy if it is not this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8600,
    wait: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds from the first item of a batch to its transaction.")
    ] = 0.5,
    most: Annotated[int, typer.Option(min=1, max=1000, help="Items that fill a batch.")] = 100,
) -> None:
    """Bring the commits, reveals and attestations of many nodes to the ledger in one transaction each."""
    import resource
    import socket

    from aiohttp import web

    from chain import keys
    from chain.client import LedgerClient
    from chain.deploy import load_deployment
    from chain.protocol.errors import ConfigError, RoundledgerError
    from chain.reader import LedgerReader
    from chain.relay import Batch, Relayer
    from chain.relay_server import application
    from chain.rpc import Rpc
    from chain.sender import Receipt

    def report(batch: Batch, items: int, receipt: Receipt) -> None:
        share = receipt.gas_used // items
        err.print(
            f"round {batch.round}: {items} x {batch.verb}, {receipt.gas_used:,} gas, {share:,} each", highlight=False
        )

    def complain(error: RoundledgerError) -> None:
        err.print(f"[yellow]nothing could be brought:[/] {escape(str(error))}", highlight=False, soft_wrap=True)

    pinned = load_deployment(deployment)
    LedgerReader(Rpc(rpc), pinned).check_deployment()
    client = LedgerClient(rpc, pinned, keys.unlock(keystore, keys.read_password(password_file)))
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        raise ConfigError(f"{host}:{port}", error.strerror or str(error), "choose another --port") from None
    place = f"http://{host}:{listening.getsockname()[1]}"
    err.print(f"relaying for ledger {pinned.address} as {client.address}, on {place}", highlight=False, soft_wrap=True)
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # a connection is an open file
    logging.getLogger("asyncio").addFilter(Seldom())
    web.run_app(application(Relayer(client, wait, most, report, complain), pinned), sock=listening, print=None)
