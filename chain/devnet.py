"""A local chain for tests, demos and first steps: Anvil, or Ganache, on 127.0.0.1 and nowhere else.

`Devnet.start` ties the chain to a `with` block; `up`, `down` and `status` run one in the background.
No account is unlocked and none has known keys: make keys with `chain.keys` and give them money with `fund`.
"""

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from chain import devnet_state
from chain.devnet_process import POLL, STOP_LIMIT, Kind, Wanted, end, launch, output_file, start_time
from chain.files import check_place, write_atomic
from chain.protocol.errors import ConfigError, RoundledgerError, Unavailable
from chain.rpc import Rpc, RpcError

CHAIN_ID = 31337
STATE_LIMIT, SAVE_LIMIT = 1 << 30, 120.0  # bytes and seconds of a saved chain over RPC; 3,000 blocks take 2 s
RECORD, LOCK, LOG = "devnet.json", "devnet.lock", "devnet.log"


class Devnet:
    """A running chain. `stop`, or the end of the `with` block, ends it and saves it where `state` says."""

    def __init__(self, wanted: Wanted, process: subprocess.Popen[bytes], url: str) -> None:
        self.kind, self.chain_id, self.state = wanted.kind, wanted.chain_id, wanted.state
        self.url, self.pid = url, process.pid
        self.rpc = Rpc(url, SAVE_LIMIT, STATE_LIMIT)
        self._process = process
        self._stopped = False

    @classmethod
    def start(
        cls,
        kind: Kind = "anvil",
        port: int | None = None,
        chain_id: int = CHAIN_ID,
        state: Path | None = None,
        log: Path | None = None,
    ) -> Self:
        """Starts a chain and returns once it answers; any free port if none is given.

        `state` (a file for Anvil, a folder for Ganache) is loaded if it exists, and saved to when the devnet stops.
        `log` is appended to. On Linux the chain dies with the calling thread, even if that is killed; elsewhere (macOS
        has no such signal) a killed parent leaves it running. Ctrl-C at the terminal does not reach it.
        Raises ConfigError: not installed, port in use, unusable state, ended while starting (with its last words).
        """
        wanted = Wanted(kind, port, chain_id, state)
        with output_file(log) as output:
            process, url = launch(wanted, output, outlives=False)
        return cls(wanted, process, url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Saves the state if there is a place for it, and ends the process. Calling it again does nothing.

        Raises what `save_state` raises, after the process has ended: Unavailable if the chain died before.
        """
        if self._stopped:
            return
        self._stopped = True
        try:
            if self.state is not None:
                self.save_state(self.state)
        finally:
            self.rpc.close()
            end(self._process)

    def save_state(self, path: Path) -> None:
        """Writes the chain to `path`, whole or not at all. Raises Unavailable, RpcError; ConfigError for the disk.

        Ganache writes to its folder at every block; there is nothing to do, and no other place to save to.
        """
        _save(self.rpc, self.kind, path, self.state)

    def fund(self, address: str, wei: int) -> None:
        """Sets the balance of an address (Ganache mines a block for it). Raises Unavailable, RpcError."""
        _fund(self.rpc, self.kind, address, wei)

    def increase_time(self, seconds: int) -> None:
        """Moves the chain's clock forward and mines a block at the new time. Raises Unavailable, RpcError."""
        self.rpc.call("evm_increaseTime", seconds)
        self.rpc.call("evm_mine")


@dataclass(frozen=True)
class DevnetInfo:
    """What `devnet.json` says of a devnet in the background. `started` guards against pids that are used again."""

    pid: int
    started: str
    url: str
    kind: Kind
    chain_id: int
    state: str | None
    log: str
    version: int = 1
    saved: str | None = None  # the state file as it was loaded: another one is not written over


@dataclass(frozen=True)
class DevnetStatus:
    """`info` is None if nothing was started here; `height` is None if the chain does not answer."""

    running: bool
    info: DevnetInfo | None
    height: int | None


def up(
    directory: Path,
    kind: Kind = "anvil",
    port: int | None = None,
    state: Path | None = None,
    chain_id: int = CHAIN_ID,
) -> DevnetInfo:
    """Starts a chain that outlives this process, and describes it in `directory/devnet.json`.

    Raises ConfigError if one runs there already, and as `Devnet.start` does.
    """
    with _locked(directory):
        before = _read(directory)
        if before is not None and _alive(before):
            raise ConfigError(directory, f"a devnet is running already at {before.url} (pid {before.pid})")
        if state is not None and kind == "anvil":
            check_place(state)
        saved, log = _version(state), (directory / LOG).absolute()
        with output_file(log) as output:
            process, url = launch(Wanted(kind, port, chain_id, state), output, outlives=True)
        _detached.append(process)
        place = None if state is None else str(state.absolute())
        info = DevnetInfo(process.pid, start_time(process.pid), url, kind, chain_id, place, str(log), saved=saved)
        if not info.started:
            raise ConfigError(directory, "the devnet ended at once", f"its last words are in {log}")
        write_atomic(directory / RECORD, json.dumps(dataclasses.asdict(info), indent=2).encode() + b"\n")
        return info


def down(directory: Path) -> bool:
    """Saves the chain if a place was given, stops it, removes `devnet.json`. False if none was running.

    Raises ConfigError, Unavailable or RpcError if the state cannot be saved: then the chain is left running.
    """
    with _locked(directory):
        info = _read(directory)
        running = info is not None and _alive(info)
        if info is not None and running:
            if info.state is not None:
                if info.saved is not None and _version(Path(info.state)) not in ("", info.saved):
                    problem = "another file than the devnet was started with: it would be written over"
                    raise ConfigError(info.state, problem, "move it away, then `devnet down` again")
                with Rpc(info.url, SAVE_LIMIT, STATE_LIMIT) as rpc, _no_more_blocks(rpc, info.kind):
                    _save_last_block(rpc, info.kind, Path(info.state))
            _end_detached(info)
        (directory / RECORD).unlink(missing_ok=True)
        return running


def status(directory: Path) -> DevnetStatus:
    """Whether the devnet of `directory` runs, and how high its chain is. Raises ConfigError for a damaged record."""
    info = _read(directory)
    if info is None or not _alive(info):
        return DevnetStatus(False, info, None)
    try:
        with Rpc(info.url, timeout=5) as rpc:
            return DevnetStatus(True, info, int(rpc.call("eth_blockNumber"), 16))
    except (Unavailable, RpcError):
        return DevnetStatus(True, info, None)


def fund(directory: Path, address: str, wei: int) -> None:
    """Sets the balance of an address on the running devnet. Raises ConfigError if none runs, Unavailable, RpcError."""
    found = status(directory)
    if not found.running or found.info is None:
        raise ConfigError(directory, "no devnet is running here", "start one with `roundledger devnet up`")
    with Rpc(found.info.url) as rpc:
        _fund(rpc, found.info.kind, address, wei)


def _fund(rpc: Rpc, kind: Kind, address: str, wei: int) -> None:
    rpc.call("anvil_setBalance" if kind == "anvil" else "evm_setAccountBalance", address, hex(wei))


def _version(state: Path | None) -> str:
    """What tells a saved chain from another one that was put in its place; empty if there is none."""
    if state is None or not state.is_file():
        return ""
    about = state.stat()
    return f"{about.st_ino} {about.st_mtime_ns} {about.st_size}"


# Kept so that a parent that lives on collects their exit status.
_detached: list[subprocess.Popen[bytes]] = []


def _save(rpc: Rpc, kind: Kind, path: Path, home: Path | None) -> None:
    if kind == "anvil":
        try:
            devnet_state.save(rpc, path)
        except OSError as error:
            raise ConfigError(path, f"the state cannot be saved: {error.strerror}") from None
    elif home is None or path.absolute() != home.absolute():
        raise ConfigError(path, "Ganache keeps its state only in the folder that it was started with")


def _save_last_block(rpc: Rpc, kind: Kind, state: Path) -> None:
    """A block that was begun before Anvil was told to mine no more may end while the chain is saved: then once more."""
    height = None
    while height != (height := rpc.call("eth_blockNumber")):
        _save(rpc, kind, state, state)


@contextmanager
def _no_more_blocks(rpc: Rpc, kind: Kind) -> Iterator[None]:
    """What is mined while the state is saved would be lost. Blocks come again if that fails."""
    if kind == "anvil":
        rpc.call("evm_setAutomine", False)
    try:
        yield
    except BaseException:
        if kind == "anvil":
            rpc.call("evm_setAutomine", True)
        raise


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One `up` or `down` at a time in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(directory: Path) -> DevnetInfo | None:
    path = directory / RECORD
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["version"] != 1:
            raise ConfigError(path, f"version {document['version']} is unknown to this program")
        info = DevnetInfo(**document)
        if type(info.pid) is not int or info.pid < 2 or not isinstance(info.started, str):
            raise ValueError("no process of ours")
        return info
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        raise ConfigError(path, "not a devnet record", "stop the devnet by hand and remove the file") from None


def _alive(info: DevnetInfo) -> bool:
    for process in _detached:
        process.poll()
    return info.started != "" and start_time(info.pid) == info.started


def _end_detached(info: DevnetInfo) -> None:
    """As `end`, for a process that may be nobody's child. Raises RoundledgerError if it outlives SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(info.pid, number)
        deadline = time.monotonic() + STOP_LIMIT
        while time.monotonic() < deadline:
            if not _alive(info):
                return
            time.sleep(POLL)
    raise RoundledgerError(f"the devnet (pid {info.pid}) cannot be stopped")
