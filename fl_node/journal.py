"""What a node must not forget, on its own disk: the residual, the update it is committed to, and how far it saw the
ledger.

    lock                held while a node runs on this folder
    ledger.json         the ledger that all of this belongs to
    secret              the record secret (see `dataroot`)
    checkpoint.json     the head that the history must extend
    residual.bin        what was not sent so far
    watched             the round whose outcome this node is verifying
    pending/            the update of the running round: blob.bin, seal.json (written behind it), residual.bin (what
    it leaves unsent)

Every file is written whole or not at all. A pending update is written before anything of it leaves the node, so a
node that was killed can still open its seal. What it leaves unsent, as large as the model, is written while the round
goes on: it follows from the old residual, which stays until then, and the training, which can be done again. The
update is settled when the round is over: accepted, its residual takes the old one's place; otherwise the old residual
stays, and with it what the update would have sent.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic_core import from_json

from chain.files import sync_folder, write_atomic
from chain.protocol import abi
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError, VerificationError
from chain.protocol.seal import Metadata
from fl_node import tensorfile
from fl_node.gradient import Layout, Matrix
from fl_node.ledger import Checkpoint

FORMAT = "roundledger-journal/1"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pending:
    """The update that this node prepared for a round."""

    round: int
    metadata: Metadata
    blob: bytes


class Journal:
    """The state folder of one node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pending = folder / "pending"
        # what this process has written or read of residual.bin and pending/residual.bin, which need not be read again
        self._residual: list[Matrix] | None = None
        self._unsent: list[Matrix] | None = None
        self._disk = ThreadPoolExecutor(1, "journal")
        self._writing: Future[None] | None = None  # of pending/residual.bin
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(folder, f"cannot be used as a state folder: {error.strerror}") from None

    def lock(self) -> None:
        """Keeps other nodes out of the folder until this process ends, however it ends. Raises ConfigError."""
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(self.folder, "another node is running with this state folder") from None

    def bind(self, chain_id: int, ledger: str) -> None:
        """The folder belongs to one ledger, from its first use on. Raises ConfigError when that is another one."""
        path = self.folder / "ledger.json"
        mine = {"format": FORMAT, "chain_id": chain_id, "ledger": ledger}
        if not path.exists():
            write_atomic(path, json.dumps(mine).encode())
        elif (bound := _read(path, "ledger binding", dict)) and bound != mine:
            other = f"{bound.get('ledger')} on chain {bound.get('chain_id')}"
            raise ConfigError(self.folder, f"the state folder of a node of ledger {other}", "give every ledger its own")

    # ---------------------------------------------------------- checkpoint

    def checkpoint(self) -> Checkpoint | None:
        return _read(
            self.folder / "checkpoint.json",
            "checkpoint",
            lambda seen: Checkpoint(int(seen["events"]), bytes.fromhex(seen["head"])),
        )

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        text = json.dumps({"format": FORMAT, "events": checkpoint.events, "head": checkpoint.head.hex()})
        write_atomic(self.folder / "checkpoint.json", text.encode())

    # ------------------------------------------------------------ residual

    def residual(self, layout: Layout) -> list[Matrix] | None:
        """What was not sent so far, `[channels, width]` a layer; None before the first round. It is the caller's to
        overwrite: the next call reads it from the disk again, unless another one was settled.
        """
        residual, self._residual = self._residual, None
        return self._read_residual(layout) if residual is None else residual

    def _read_residual(self, layout: Layout) -> list[Matrix] | None:
        path = self.folder / "residual.bin"
        if not path.exists():
            return None
        data = path.read_bytes()
        try:
            tensors, about = tensorfile.decode(data, "residual", len(data))
            _check_format(about)
            expected = dict(named for layer in layout.layers for named in layer.tensors)
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            if shapes != expected or any(tensor.dtype != np.float32 for tensor in tensors.values()):
                raise ValueError("it belongs to another model")
            return layout.matrices(tensors)
        except (VerificationError, KeyError, ValueError) as error:
            raise ConfigError(
                path, f"damaged residual: {error}", "restore it, or remove it to start from zero"
            ) from None

    # ------------------------------------------------------------- pending

    def prepare(self, pending: Pending, residual: list[Matrix], layout: Layout) -> None:
        """Keeps the update of a round before anything is committed, and what it leaves unsent until it is settled."""
        self._discard()
        write_atomic(self._pending / "blob.bin", pending.blob)
        saved = {"format": FORMAT, "round": pending.round, "metadata": abi.encode(pending.metadata).hex()}
        write_atomic(self._pending / "seal.json", json.dumps(saved).encode(), mode=0o600)
        self.keep_unsent(residual, layout)

    def keep_unsent(self, residual: list[Matrix], layout: Layout) -> None:
        """Writes what the prepared update leaves unsent, while the caller goes on."""

        def write() -> None:
            parts = tensorfile.pieces(layout.tensors(residual), {"format": FORMAT})
            write_atomic(self._pending / "residual.bin", *parts)

        self._unsent, self._writing = residual, self._disk.submit(write)

    def lost_unsent(self, round_number: int) -> bool:
        """Whether the update of this round was prepared, but the node died before it had written what it leaves."""
        written = self._writing is not None or (self._pending / "residual.bin").exists()
        return self.prepared_round() == round_number and not written

    def pending(self, round_number: int) -> Pending | None:
        """The update prepared for this round; None if there is none."""
        saved, path = self._saved(), self._pending / "blob.bin"
        if saved is None or saved[0] != round_number:
            return None
        blob = path.read_bytes() if path.exists() else b""
        if Digest.of(blob) != saved[1].update_digest:
            raise ConfigError(path, f"damaged: not the update that was prepared for round {round_number}")
        return Pending(round_number, saved[1], blob)

    def settle(self, round_number: int, *, accepted: bool) -> None:
        """The round is over. Settling again changes nothing. Raises OSError when the unsent could not be written."""
        self.flush()
        (self.folder / "watched").unlink(missing_ok=True)
        if self.prepared_round() != round_number:
            return
        unsent = self._pending / "residual.bin"
        if accepted and unsent.exists():
            unsent.replace(self.folder / "residual.bin")  # atomic: before it the old residual counts, after it the new
            sync_folder(self.folder)
            self._residual = self._unsent
        self._discard()

    def watch(self, round_number: int) -> None:
        """Notes that the outcome of this round is being verified: a model that is refused must stay refused."""
        write_atomic(self.folder / "watched", str(round_number).encode())

    def unfinished_round(self) -> int | None:
        """The round that this node prepared an update for, or was verifying, and has not settled."""
        watched = self.folder / "watched"
        if watched.exists():
            try:
                return int(watched.read_text())
            except ValueError:
                raise ConfigError(watched, "damaged: not a round number") from None
        return self.prepared_round()

    def prepared_round(self) -> int | None:
        saved = self._saved()
        return saved[0] if saved else None

    def _saved(self) -> tuple[int, Metadata] | None:
        return _read(
            self._pending / "seal.json",
            "seal",
            lambda saved: (int(saved["round"]), abi.decode(Metadata, bytes.fromhex(saved["metadata"]))),
        )

    def flush(self) -> None:
        """Waits until everything is on the disk. Raises OSError when it is not."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _discard(self) -> None:
        """The seal goes first, as it came last: without it the rest counts for nothing."""
        self.flush()
        self._unsent = None
        (self._pending / "seal.json").unlink(missing_ok=True)
        shutil.rmtree(self._pending, ignore_errors=True)


def _read(path: Path, what: str, parse: Callable[[dict[str, Any]], T]) -> T | None:
    """A JSON file of the journal; None if it is not there. Raises ConfigError for a damaged one."""
    if not path.exists():
        return None
    try:
        saved = from_json(path.read_bytes())  # json.loads may crash the process on deep nesting
        _check_format(saved)
        return parse(saved)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ConfigError(path, f"damaged {what}: {error}") from None


def _check_format(saved: Mapping[str, Any]) -> None:
    if saved["format"] != FORMAT:
        raise ValueError(f"format {saved['format']!r} instead of {FORMAT}")
