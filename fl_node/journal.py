"""What a node must not forget, on its own disk: the residual, the update it is committed to, what it has signed, and
how far it saw the ledger.

    lock                held while a node runs on this folder
    secret              the record secret (see `dataroot`)
    journal.db          everything small, and which of the files below count
    residual-*.bin      what was not sent so far; and what the update of the running round leaves unsent
    blob-*.bin          the update of the running round

The database (see `database`) holds these facts, and the outbox (see `outbox`):

    ledger              the ledger that all of this belongs to
    checkpoint          the head that the history must extend
    residual            digest of what was not sent so far
    watched             the round whose outcome this node is verifying
    pending             round and metadata (with the salt) of the prepared update
    unsent              digest of what it leaves unsent, once that is on the disk

A file is written whole before the database names it, and is removed after the database has forgotten it; a file that
it does not name counts for nothing. So each change is one transaction. A pending update is kept before anything of it
leaves the node, so a node that was killed can still open its seal. What it leaves unsent, as large as the model, is
written while the round goes on: it follows from the old residual, which stays until then, and the training, which can
be done again. The update is settled when the round is over: accepted, its residual takes the old one's place; otherwise
the old residual stays, and with it what the update would have sent.
"""

import fcntl
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from chain.crash import Point, crash_point
from chain.files import make_folder, write_atomic
from chain.protocol import abi
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError, VerificationError
from chain.protocol.seal import Metadata
from fl_node import tensorfile
from fl_node.database import RESTORE, RESUME, Database
from fl_node.gradient import Layout, Matrix
from fl_node.ledger import Checkpoint
from fl_node.outbox import JournalOutbox

FORMAT = "roundledger-journal/2"
DATABASE = "journal.db"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pending:
    """The update that this node prepared for a round."""

    round: int
    metadata: Metadata
    blob: bytes


class Journal:
    """The state folder of one node, its own until `close` or the end of the process, however it ends.

    Raises ConfigError, here and in every method: for a folder that another node uses, that cannot be written, or in
    which something is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # what this process has written or read of the two residual files, which need not be read again
        self._residual: list[Matrix] | None = None
        self._unsent: list[Matrix] | None = None
        self._disk = ThreadPoolExecutor(1, "journal")
        self._writing: Future[None] | None = None  # of what is left unsent
        with _writing_to(folder):
            make_folder(folder, mode=0o700)
            self._lock = (folder / "lock").open("w")
        try:
            self._take(folder)
        except BaseException:
            self._lock.close()
            raise
        self.outbox = JournalOutbox(self._database)
        self._sweep()

    def _take(self, folder: Path) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(folder, "another node is running with this state folder") from None
        path = folder / DATABASE
        if not path.exists():
            if (folder / "ledger.json").exists():
                raise ConfigError(folder, "a state folder of an earlier version (roundledger-journal/1)", RESTORE)
            if left := [*self._files(), *folder.glob(f"{DATABASE}-*")]:
                raise ConfigError(path, f"missing, but {left[0].name} is there", RESTORE)
            with _writing_to(path):
                Database.create(path)
        self._database = Database(path)

    def close(self) -> None:
        """Waits for what is being written, and lets another process have the folder."""
        self._disk.shutdown()
        self._database.close()
        self._lock.close()

    def bind(self, chain_id: int, ledger: str) -> None:
        """The folder belongs to one ledger, from its first use on. Raises ConfigError when that is another one."""
        bound, mine = self._fact("ledger", lambda found: (int(found[0]), str(found[1]))), (chain_id, ledger)
        if bound is None:
            self._database.keep(ledger=mine)
        elif bound != mine:
            problem = f"the state folder of a node of ledger {bound[1]} on chain {bound[0]}"
            raise ConfigError(self.folder, problem, "give every ledger its own")

    # ---------------------------------------------------------- checkpoint

    def checkpoint(self) -> Checkpoint | None:
        return self._fact("checkpoint", lambda seen: Checkpoint(int(seen[0]), bytes.fromhex(seen[1]), int(seen[2])))

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._database.keep(checkpoint=(checkpoint.events, checkpoint.head.hex(), checkpoint.block))

    # ------------------------------------------------------------ residual

    def residual(self, layout: Layout) -> list[Matrix] | None:
        """What was not sent so far, `[channels, width]` a layer; None before the first round. It is the caller's to
        overwrite: the next call reads it from the disk again, unless another one was settled.
        """
        residual, self._residual = self._residual, None
        return self._read_residual(layout) if residual is None else residual

    def _read_residual(self, layout: Layout) -> list[Matrix] | None:
        digest = self._fact("residual", Digest.fromhex)
        if digest is None:
            return None
        path = self._file("residual", digest)
        data = self._read(path, digest)
        try:
            tensors, about = tensorfile.decode(data, "residual", len(data))
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']!r} instead of {FORMAT}")
            expected = dict(named for layer in layout.layers for named in layer.tensors)
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            if shapes != expected or any(tensor.dtype != np.float32 for tensor in tensors.values()):
                raise ValueError("it belongs to another model")
            return layout.matrices(tensors)
        except (VerificationError, KeyError, ValueError) as error:
            raise ConfigError(path, f"not the residual of this node: {error}", RESTORE) from None

    # ------------------------------------------------------------- pending

    def prepare(self, pending: Pending, residual: list[Matrix], layout: Layout) -> None:
        """Keeps the update of a round before anything is committed, and what it leaves unsent until it is settled."""
        if self.prepared_round() is not None:
            self._forget(pending=None, unsent=None)
        path = self._file("blob", Digest(pending.metadata.update_digest))
        with _writing_to(path):
            write_atomic(path, pending.blob, mode=0o600)
        crash_point(Point.BLOB_KEPT)
        self._database.keep(pending=(pending.round, abi.encode(pending.metadata).hex()))
        crash_point(Point.PREPARED)
        self.keep_unsent(residual, layout)

    def keep_unsent(self, residual: list[Matrix], layout: Layout) -> None:
        """Writes what the prepared update leaves unsent, while the caller goes on."""

        def write() -> None:
            parts = tensorfile.pieces(layout.tensors(residual), {"format": FORMAT})
            digest = Digest.of(*parts)
            path = self._file("residual", digest)
            with _writing_to(path):
                write_atomic(path, *parts, mode=0o600)
            crash_point(Point.UNSENT_WRITTEN)
            self._database.keep(unsent=digest.hex())
            crash_point(Point.UNSENT_NAMED)

        self._unsent, self._writing = residual, self._disk.submit(write)

    def lost_unsent(self, round_number: int) -> bool:
        """Whether the update of this round was prepared, but the node died before it had written what it leaves."""
        written = self._writing is not None or self._fact("unsent", Digest.fromhex) is not None
        return self.prepared_round() == round_number and not written

    def pending(self, round_number: int) -> Pending | None:
        """The update prepared for this round; None if there is none."""
        kept = self._pending()
        if kept is None or kept[0] != round_number:
            return None
        digest = Digest(kept[1].update_digest)
        return Pending(round_number, kept[1], self._read(self._file("blob", digest), digest))

    def settle(self, round_number: int, *, accepted: bool) -> None:
        """The round is over. Settling again changes nothing. Raises ConfigError when the unsent was not written."""
        self.flush()
        if self.prepared_round() != round_number:
            self._database.keep(watched=None)
            return
        unsent, matrices = self._fact("unsent", Digest.fromhex), self._unsent
        if accepted and unsent is None:
            raise ValueError(f"what the update of round {round_number} leaves unsent was never kept")
        if accepted and unsent:
            self._forget(residual=unsent.hex(), watched=None, pending=None, unsent=None)
            self._residual = matrices
        else:
            self._forget(watched=None, pending=None, unsent=None)

    def watch(self, round_number: int) -> None:
        """Notes that the outcome of this round is being verified: a model that is refused must stay refused."""
        self._database.keep(watched=round_number)

    def unfinished_round(self) -> int | None:
        """The round that this node prepared an update for, or was verifying, and has not settled."""
        return self._fact("watched", int) or self.prepared_round()

    def give_up(self) -> int | None:
        """Forgets the unfinished round, with the update prepared for it; the residual stays. Returns its number."""
        number = self.unfinished_round()
        self._forget(watched=None, pending=None, unsent=None)
        return number

    def prepared_round(self) -> int | None:
        kept = self._pending()
        return kept[0] if kept else None

    def _pending(self) -> tuple[int, Metadata] | None:
        return self._fact("pending", lambda kept: (int(kept[0]), abi.decode(Metadata, bytes.fromhex(kept[1]))))

    def flush(self) -> None:
        """Waits until everything is on the disk. Raises ConfigError when it is not."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    # --------------------------------------------------------------- files

    def _file(self, kind: str, digest: Digest) -> Path:
        return self.folder / f"{kind}-{digest.hex()}.bin"

    def _files(self) -> list[Path]:
        """The files of blobs and residuals."""
        return [path for kind in ("residual", "blob") for path in self.folder.glob(f"{kind}-*.bin")]

    def _read(self, path: Path, digest: Digest) -> bytes:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(path, f"cannot be read: {error.strerror}", RESTORE) from None
        if Digest.of(data) != digest:
            raise ConfigError(path, "damaged: not what the journal says it is", RESTORE)
        return data

    def _forget(self, **facts: Any) -> None:
        """One transaction, and then the files that nothing names any more."""
        self.flush()
        self._unsent = None
        self._database.keep(**facts)
        crash_point(Point.SWITCHED)
        self._sweep()

    def _sweep(self) -> None:
        """Removes what nothing names, and what a process that died was about to write (see `chain.files`)."""
        kept = self._pending()
        named = {self._file("blob", Digest(kept[1].update_digest))} if kept else set()
        for name in ("residual", "unsent"):
            if digest := self._fact(name, Digest.fromhex):
                named.add(self._file("residual", digest))
        with _writing_to(self.folder):
            for path in [*self._files(), *self.folder.glob(".*")]:
                if path not in named:
                    path.unlink()

    def _fact(self, name: str, parse: Callable[[Any], T]) -> T | None:
        found = self._database.fact(name)
        try:
            return None if found is None else parse(found)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
            raise ConfigError(self._database.path, f"damaged {name}: {error}", RESTORE) from None


@contextmanager
def _writing_to(path: Path) -> Iterator[None]:
    """What the disk refuses (it is full, it is read-only) is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise ConfigError(path, f"cannot be written: {error.strerror}", RESUME) from None
