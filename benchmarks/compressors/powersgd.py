"""PowerSGD (Vogels et al., NeurIPS 2019), with the weight change of local training as the gradient."""

from collections.abc import Sequence

import numpy as np

from .interface import Array, Arrays, weighted_mean


class PowerSGD:
    """One step of subspace iteration a round for every tensor as a matrix (shape[0], rest), with error feedback.

    Algorithms 1 and 2 of the paper. With M_i the change plus residual of participant i: P = orthogonalised mean of the
    M_i Q; Q = mean of the M_i^T P; the server applies P Q^T. The next round starts from this Q (warm start), the first
    from a random one that a common seed gives to all. A round has two uploads, M_i Q and M_i^T P, with the server's P
    between them: 4 * rank * (rows + columns) bytes a matrix.

    Vectors, and matrices whose factors would not be smaller, are sent whole.

    The residual is M_i - P P^T M_i, what the participant's own message lost. The authors' code keeps M_i - P Q^T
    instead: the mean of both is the same, and as no more than the mean of the M_i enters P and Q, so is every round as
    long as the weights stay. But theirs also gathers each participant's deviation from the mean, round after round.
    """

    def __init__(self, rank: int, seed: int = 0) -> None:
        assert rank >= 1
        self.rank = rank
        self.residuals: dict[int, Array] = {}  # by tensor, float32 `[participants, rows, columns]`
        self._queries: dict[int, Array] = {}  # Q by tensor, float32 `[columns, rank]`
        self._random = np.random.default_rng(seed)

    def round(self, changes: Sequence[Arrays], weights: Sequence[float]) -> tuple[Arrays, int]:
        applied: Arrays = []
        floats = 0  # sent by one participant
        for index, tensors in enumerate(zip(*changes, strict=True)):
            shape = tensors[0].shape
            rows = shape[0] if shape else 1
            columns = tensors[0].size // rows
            rank = min(self.rank, rows, columns)
            if len(shape) < 2 or rank * (rows + columns) >= rows * columns:
                applied.append(weighted_mean(tensors, weights))
                floats += rows * columns
            else:
                matrices = np.stack(tensors).reshape(len(changes), rows, columns)
                applied.append(self._low_rank(index, matrices, rank, weights).reshape(shape))
                floats += rank * (rows + columns)
        return applied, 4 * floats * len(changes)

    def _low_rank(self, index: int, matrices: Array, rank: int, weights: Sequence[float]) -> Array:
        """The mean of the changes `[participants, rows, columns]` as applied, `[rows, columns]`."""
        if index in self.residuals:
            matrices = matrices + self.residuals[index]
        query = self._query(index, matrices.shape[2], rank)
        p, _ = np.linalg.qr(weighted_mean([matrix @ query for matrix in matrices], weights))
        factors = matrices.transpose(0, 2, 1) @ p  # `[participants, columns, rank]`
        query = weighted_mean(factors, weights)
        self.residuals[index] = matrices - p @ factors.transpose(0, 2, 1)
        self._queries[index] = query
        return p @ query.T

    def _query(self, index: int, columns: int, rank: int) -> Array:
        """Q of the last round. A column that vanished would stay zero, and is drawn anew, as all are at first."""
        query = self._queries.get(index, np.zeros((columns, rank), np.float32))
        drawn = self._random.standard_normal((columns, rank), np.float32)
        return np.where(query.any(axis=0), query, drawn)
