"""What a node has not sent so far, in memory and on its disk.

The residual is as large as the model, and changes everywhere in every round. It follows from an older one, the ledger,
the blobs and the training, which can be done again (`prepare.unsent_before`). So a large one may stay in memory
(`pace`). On the disk it is a file that the fact `residual`
of the journal names: (digest, or nothing as long as there was no residual; the last round that is in it).
"""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from chain.crash import Point, crash_point
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError, VerificationError
from fl_node import tensorfile
from fl_node.database import RESTORE, Database
from fl_node.gradient import Layout, Matrix
from fl_node.pace import Pace
from fl_node.statefiles import read_state_file, state_file, write_state_file, writing_to

FORMAT = "roundledger-residual/1"


class Residual:
    """The residual of one node. Raises ConfigError when what it reads is damaged, or what it writes is refused."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder, self._database = folder, database
        self._memory: tuple[list[Matrix], int] | None = None  # and the last round that is in it
        self._spare: list[Matrix] = []  # memory of an earlier one
        self._thread = ThreadPoolExecutor(1, "residual")
        self._writing: Future[None] | None = None
        self._on_disk = False  # what is in memory
        self._pace = Pace()

    def begin(self, number: int) -> dict[str, tuple[str, int]]:
        """The fact to keep when the first update is prepared, for round `number`: none if there is one already."""
        return {} if self._fact() else {"residual": ("", number - 1)}

    def before(self, layout: Layout, number: int) -> tuple[list[Matrix] | None, int]:
        """What was not sent before round `number`, as far as it is known here, `[channels, width]` a layer (None:
        nothing), and the last round that is in it. The matrices are the caller's to overwrite.
        """
        if self._memory is None:
            return self._read(layout, number)
        matrices, last = self._memory
        if self._on_disk:
            self._memory = None  # if it still counts after the next round, it is read from the disk
            return matrices, last
        copy, self._spare = self._spare or [np.empty_like(matrix) for matrix in matrices], []
        for mine, matrix in zip(copy, matrices, strict=True):
            np.copyto(mine, matrix)
        return copy, last

    def keep(self, matrices: list[Matrix], number: int) -> None:
        """Takes what was not sent after round `number`; writes it, while the caller goes on, if that is due."""
        self.flush()
        if self._memory:
            self._spare = self._memory[0]
        self._memory, self._on_disk = (matrices, number), False
        if self._pace.due(sum(matrix.nbytes for matrix in matrices)):
            self._writing = self._thread.submit(self._write, matrices, number)

    def flush(self) -> None:
        """Waits for what is being written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Writes what is in memory alone. What the disk does not take now can be made again."""
        with suppress(ConfigError):
            self.flush()
            if self._memory and not self._on_disk:
                self._write(*self._memory)
        self._thread.shutdown()

    def file(self) -> Path | None:
        """The one that counts."""
        digest = (self._fact() or (None, 0))[0]
        return state_file(self._folder, "residual", digest) if digest else None

    def _fact(self) -> tuple[Digest | None, int] | None:
        return self._database.parsed(
            "residual", lambda kept: (Digest.fromhex(kept[0]) if kept[0] != "" else None, int(kept[1]))
        )

    def _write(self, matrices: list[Matrix], number: int) -> None:
        with self._pace.writing():
            before, named = self.file(), {str(index): matrix for index, matrix in enumerate(matrices)}
            parts = tensorfile.pieces(named, {"format": FORMAT})
            digest = Digest.of(*parts)
            path = state_file(self._folder, "residual", digest)
            write_state_file(path, *parts)
            crash_point(Point.RESIDUAL_WRITTEN)
            self._database.keep(residual=(digest.hex(), number))
            crash_point(Point.RESIDUAL_NAMED)
            if before and before != path:
                with writing_to(before):
                    before.unlink(missing_ok=True)
            self._on_disk = True

    def _read(self, layout: Layout, number: int) -> tuple[list[Matrix] | None, int]:
        digest, last = self._fact() or (None, number - 1)
        if digest is None:
            return None, last
        path = state_file(self._folder, "residual", digest)
        data = read_state_file(path, digest)
        try:
            tensors, about = tensorfile.decode(data, "residual", len(data))
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']!r} instead of {FORMAT}")
            found = [tensors[str(index)] for index in range(len(tensors))]
            shapes = [(layer.channels, layer.width) for layer in layout.layers]
            if [matrix.shape for matrix in found] != shapes or any(matrix.dtype != np.float32 for matrix in found):
                raise ValueError("it belongs to another model")
        except (VerificationError, KeyError, ValueError) as error:
            raise ConfigError(path, f"not the residual of this node: {error}", RESTORE) from None
        return [matrix.copy() for matrix in found], last
