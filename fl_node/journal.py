"""What a node must not forget, on its own disk: the residual, the update it is committed to, what it has signed, and
how far it saw the ledger.

    lock                held while a node runs on this folder
    secret              the record secret (see `dataroot`)
    journal.db          everything small, and which of the files below count
    residual-*.bin      what was not sent so far
    blob-*.bin          the update of the running round

The database (see `database`) holds these facts, and the outbox (see `outbox`):

    ledger              the ledger that all of this belongs to
    checkpoint          the head that the history must extend
    residual            digest of what was not sent, and after which round
    watched             the round whose outcome this node is verifying
    pending             round and metadata (with the salt) of the prepared update
    common              for a common selection: the norms that the next set follows from, and whose updates gave them

A file is written whole before the database names it, and is removed after the database has forgotten it; a file that
it does not name counts for nothing. So each change is one transaction. A pending update is kept before anything of it
leaves the node, so a node that was killed can still open its seal.

The update is settled when the round is over: accepted, what it left unsent is the residual from then on (see
`residual`); otherwise the old one stays, and with it what the update would have sent.
"""

import fcntl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chain.crash import Point, crash_point
from chain.files import make_folder
from chain.protocol import abi
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError
from chain.protocol.seal import Metadata
from fl_node.database import RESTORE, Database
from fl_node.gradient import Matrix
from fl_node.ledger import Checkpoint
from fl_node.norms import Norms
from fl_node.outbox import JournalOutbox
from fl_node.residual import Residual
from fl_node.statefiles import (
    read_state_file,
    state_file,
    state_files,
    unfinished_files,
    write_state_file,
    writing_to,
)

DATABASE, SECRET = "journal.db", "secret"


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
        self._unsent: list[Matrix] | None = None  # what the pending update leaves, if this process prepared it
        self._norms: dict[str, Any] = {}  # the fact to keep when the round is settled
        with writing_to(folder):
            make_folder(folder, mode=0o700)
            self._lock = (folder / "lock").open("w")
        try:
            self._take(folder)
        except BaseException:
            self._lock.close()
            raise
        self.residual = Residual(folder, self._database)
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
            if left := [*state_files(folder), *folder.glob(f"{DATABASE}-*")]:
                raise ConfigError(path, f"missing, but {left[0].name} is there", RESTORE)
            with writing_to(path):
                Database.create(path)
        self._database = Database(path)

    def close(self) -> None:
        """Writes what is in memory alone, and lets another process have the folder."""
        self.residual.close()
        self._database.close()
        self._lock.close()

    @property
    def bound(self) -> bool:
        """Whether a node has used this folder before."""
        return self._database.fact("ledger") is not None

    def bind(self, chain_id: int, ledger: str, account: str) -> None:
        """The folder belongs to one ledger, from its first use on. Raises ConfigError when that is another one. The
        account may be another one, as after a rotation: the outbox forgets what the one before has sent.
        """
        bound, mine = self._database.parsed("ledger", lambda found: (int(found[0]), str(found[1]))), (chain_id, ledger)
        if bound is None:
            self._database.keep(ledger=mine)
        elif bound != mine:
            problem = f"the state folder of a node of ledger {bound[1]} on chain {bound[0]}"
            raise ConfigError(self.folder, problem, "give every ledger its own")
        if self._database.fact("account") not in (None, account):
            self.outbox.clear()
        self._database.keep(account=account)

    # ---------------------------------------------------------- checkpoint

    def checkpoint(self) -> Checkpoint | None:
        return self._database.parsed(
            "checkpoint", lambda seen: Checkpoint(int(seen[0]), bytes.fromhex(seen[1]), int(seen[2]))
        )

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Should a power cut take this back, the one before counts."""
        seen = (checkpoint.events, checkpoint.head.hex(), checkpoint.block)
        self._database.keep(durable=False, checkpoint=seen)

    # ------------------------------------------------------------- pending

    def prepare(self, pending: Pending, unsent: list[Matrix]) -> None:
        """Keeps the update of a round before anything is committed; in memory, what it would leave unsent."""
        if self.prepared_round() is not None:
            self._forget(pending=None)
        write_state_file(self._blob(pending.metadata), pending.blob)
        crash_point(Point.BLOB_KEPT)
        kept = (pending.round, abi.encode(pending.metadata).hex())
        facts: dict[str, Any] = {"pending": kept, **self.residual.begin(pending.round)}
        self._database.keep(**facts)
        crash_point(Point.PREPARED)
        self._unsent = unsent

    def pending(self, round_number: int) -> Pending | None:
        """The update prepared for this round; None if there is none."""
        metadata = self.prepared(round_number)
        if metadata is None:
            return None
        return Pending(round_number, metadata, read_state_file(self._blob(metadata), Digest(metadata.update_digest)))

    def prepared(self, round_number: int) -> Metadata | None:
        """The metadata of that update."""
        kept = self._pending()
        return kept[1] if kept and kept[0] == round_number else None

    def settle(self, round_number: int, *, accepted: bool) -> None:
        """The round is over. Settling again changes nothing. Raises ConfigError when an earlier residual could not be
        written.
        """
        norms, self._norms = self._norms, {}
        if self.prepared_round() != round_number:
            self._database.keep(watched=None, **norms)
            return
        unsent = self._unsent
        self._forget(watched=None, pending=None, **norms)
        if accepted and unsent is not None:  # None: the process that prepared it has died
            self.residual.keep(unsent, round_number)

    def watch(self, round_number: int) -> None:
        """Notes that the outcome of this round is being verified: a model that is refused must stay refused."""
        said = self.prepared_round() == round_number  # that it is unfinished, should a power cut take this back
        self._database.keep(durable=not said, watched=round_number)

    def unfinished_round(self) -> int | None:
        """The round that this node prepared an update for, or was verifying, and has not settled."""
        return self._database.parsed("watched", int) or self.prepared_round()

    def give_up(self) -> int | None:
        """Forgets the unfinished round, with the update prepared for it; the residual stays. Returns its number."""
        number = self.unfinished_round()
        self._forget(watched=None, pending=None)
        return number

    def prepared_round(self) -> int | None:
        kept = self._pending()
        return kept[0] if kept else None

    def _pending(self) -> tuple[int, Metadata] | None:
        return self._database.parsed(
            "pending", lambda kept: (int(kept[0]), abi.decode(Metadata, bytes.fromhex(kept[1])))
        )

    # -------------------------------------------------------- common norms

    def keep_common_norms(self, source: Mapping[str, Metadata], norms: Norms) -> None:
        """The summed norm tables of these updates, whose owners may take the blobs away; from `settle` on. Until then
        it may be that the round is verified again, with the norms of the one before.
        """
        self._norms = {"common": (_digest_of(source), norms.halves.astype(">u8").tobytes().hex())}

    def common_norms(self, source: Mapping[str, Metadata]) -> Norms | None:
        """Those of these updates; None if others were kept, or none."""

        def parse(kept: Any) -> Norms | None:
            halves = np.frombuffer(bytes.fromhex(kept[1]), ">u8").reshape(-1, 2).astype(np.uint64)
            return Norms(halves) if kept[0] == _digest_of(source) else None

        return self._database.parsed("common", parse)

    # --------------------------------------------------------------- files

    def _blob(self, metadata: Metadata) -> Path:
        return state_file(self.folder, "blob", Digest(metadata.update_digest))

    def _forget(self, **facts: Any) -> None:
        """One transaction, and then the files that nothing names any more."""
        self.residual.flush()
        self._unsent = None
        self._database.keep(**facts)
        crash_point(Point.SWITCHED)
        self._sweep()

    def _sweep(self) -> None:
        """Removes what nothing names, and what a process that died was about to write (see `chain.files`)."""
        kept = self._pending()
        named = {self._blob(kept[1]) if kept else None, self.residual.file()}
        with writing_to(self.folder):
            for path in [*state_files(self.folder), *unfinished_files(self.folder, DATABASE, SECRET)]:
                if path not in named:
                    path.unlink()


def _digest_of(source: Mapping[str, Metadata]) -> str:
    """Names these updates, in this order."""
    return Digest.of(*(bytes(metadata.update_digest) for metadata in source.values())).hex()
