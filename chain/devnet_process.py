"""The process of a devnet: how it is started, when it is ready, how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from chain import devnet_state
from chain.protocol.errors import ConfigError, Unavailable
from chain.rpc import Rpc
from chain.tied import tied
from chain.toolchain import tool

Kind = Literal["anvil", "ganache"]
HOST = "127.0.0.1"
START_LIMIT = 30.0  # seconds; Anvil takes 0.03, Ganache 0.8
STOP_LIMIT = 10.0
POLL = 0.01
STATES_KEPT = 128  # blocks whose state can be read, as on a full node; all of them make saved files huge
LISTENING = re.compile(rb"Listening on 127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Wanted:
    """Which chain to start. `port` None: any free one. `state`: a file for Anvil, a folder for Ganache, or none."""

    kind: Kind
    port: int | None
    chain_id: int
    state: Path | None


def _command(wanted: Wanted, port: int) -> list[str]:
    kind, chain_id, state = wanted.kind, wanted.chain_id, wanted.state
    program = str(tool(kind).absolute())
    if kind == "anvil":
        command = [program, "--host", HOST, "--port", str(port), "--chain-id", str(chain_id), "--accounts", "0"]
        # As on a public chain: `safe` and `finalized` move, a transaction has a gas limit; no web page may drive it.
        command += ["--slots-in-an-epoch", "1", "--enable-tx-gas-limit", "--no-cors"]
        command += ["--prune-history", str(STATES_KEPT)]
        if state is not None and state.exists():
            genesis = devnet_state.genesis_time(state)
            command += ["--load-state", str(state.absolute()), "--timestamp", str(genesis)]
        return command
    command = [program, "--server.host", HOST, "--server.port", str(port), "--wallet.totalAccounts", "0"]
    command += ["--chain.chainId", str(chain_id), "--chain.networkId", str(chain_id), "--chain.hardfork", "shanghai"]
    return command if state is None else [*command, "--database.dbPath", str(state.absolute())]


def launch(wanted: Wanted, output: BinaryIO, outlives: bool) -> tuple[subprocess.Popen[bytes], str]:
    """A chain that answers, and its URL; or no process and ConfigError."""
    kind, state = wanted.kind, wanted.state
    reload = state is not None and state.exists()
    command = _command(wanted, _free_port(kind) if wanted.port is None else _check_free(wanted.port))
    if not outlives:
        command = tied(command, signal.SIGKILL)
    begin = os.fstat(output.fileno()).st_size
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True
    )
    try:
        url = _await_ready(kind, process, lambda: os.pread(output.fileno(), 1 << 20, begin), wanted.chain_id)
        with Rpc(url) as rpc:
            if reload:
                devnet_state.resume_clock(rpc, kind)
            if kind == "anvil":
                rpc.call("anvil_setLoggingEnabled", False)  # else the log grows by a line for every request
    except BaseException:
        end(process)
        raise
    return process, url


def _await_ready(kind: Kind, process: subprocess.Popen[bytes], output: Callable[[], bytes], chain_id: int) -> str:
    """The URL, once the process itself says that it listens (so nobody else's server is taken for it) and answers."""
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        ended, text = process.poll(), output()
        if ended is not None:
            last = " | ".join(text.decode(errors="replace").split("\n")[-8:]).strip(" |")
            raise ConfigError(kind, f"ended with status {ended} while starting: {last[-1000:]}")
        if said := LISTENING.search(text):
            url = f"http://{HOST}:{int(said[1])}"
            with suppress(Unavailable), Rpc(url, timeout=START_LIMIT) as rpc:
                found = int(rpc.call("eth_chainId"), 16)
                if found != chain_id:
                    raise ConfigError(kind, f"answers with chain id {found} instead of {chain_id}")
                return url
        time.sleep(POLL)
    raise ConfigError(kind, f"does not answer after {START_LIMIT:g} s")


def _check_free(port: int) -> int:
    """The port, if a server could listen there now. Raises ConfigError."""
    if not 0 < port < 1 << 16:
        raise ConfigError(f"port {port}", "not a port number")
    with socket.socket() as probe:
        # As servers do: the closed connections of an earlier one do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(f"port {port}", error.strerror or "not usable", "choose another") from None
    return port


def _free_port(kind: Kind) -> int:
    if kind == "anvil":
        return 0  # Anvil takes a free one and says which; Ganache would say 0
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def output_file(log: Path | None) -> Iterator[BinaryIO]:
    """Where the process writes: the log, or a file that has no name."""
    if log is None:
        with tempfile.TemporaryFile() as file:
            yield file
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab+") as file:
        yield file


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, after a grace period SIGKILL; harmless if the process has ended."""
    try:
        process.terminate()
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def start_time(pid: int) -> str:
    """When the process was started, in the system's own words; empty if there is none, or it has ended."""
    if sys.platform == "linux":
        try:
            state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if state == "Z" else fields[18]
    reply = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return reply.stdout.strip()
