"""Deep gradient compression (Lin et al., ICLR 2018), with the weight change of local training as the gradient."""

import math
from collections.abc import Sequence

import numpy as np

from . import golomb
from .golomb import Positions
from .interface import Array, Arrays, flatten, unflatten
from .sparse import Sparse, combine, kept_count, largest


class DGC:
    """Every participant accumulates a momentum of its changes and sends the largest entries of what accumulated.

    The paper's algorithm for plain momentum, with a change g for the gradient: local gradient clipping of g; momentum
    correction u = momentum * u + g; accumulation v = v + u; the largest entries of v are sent; momentum factor masking
    clears u and v there. The momentum is in what is sent: the server takes the weighted mean and needs none itself.

    `clip` is the paper's threshold of the global L2 norm: a participant's own is `clip / sqrt(participants)`.
    `warmup` holds the rates of the first rounds; the paper's are 0.25, 0.0625, 0.015625, 0.004 (then 0.001).
    `per_tensor`, as in the paper, keeps ceil(rate * entries) of every tensor; otherwise of the whole model as one.
    """

    def __init__(
        self,
        rate: float,
        momentum: float = 0.5,
        clip: float | None = None,
        warmup: Sequence[float] = (),
        per_tensor: bool = True,
    ) -> None:
        assert all(0 < each <= 1 for each in (rate, *warmup))
        self.rate = rate
        self.momentum = momentum
        self.clip = clip
        self.warmup = warmup
        self.per_tensor = per_tensor
        self.rounds = 0  # done
        self.momenta: list[Array] = []  # u, float32 `[parameters]` for each participant
        self.accumulated: list[Array] = []  # v, the same

    def round(self, changes: Sequence[Arrays], weights: Sequence[float]) -> tuple[Arrays, int]:
        flats = [self._clipped(flatten(change), len(changes)) for change in changes]
        if not self.momenta:
            self.momenta = [np.zeros_like(flat) for flat in flats]
            self.accumulated = [np.zeros_like(flat) for flat in flats]
        rate = self.warmup[self.rounds] if self.rounds < len(self.warmup) else self.rate
        self.rounds += 1

        size = flats[0].size
        sizes = [tensor.size for tensor in changes[0]] if self.per_tensor else [size]
        counts = [kept_count(rate, each) for each in sizes]
        b = golomb.rice_parameter(sum(counts), size)
        sent, upload = [], 0
        for seat, flat in enumerate(flats):
            u = self.momenta[seat] = np.float32(self.momentum) * self.momenta[seat] + flat
            v = self.accumulated[seat] = self.accumulated[seat] + u
            kept = _largest_of_each(v, sizes, counts)
            sent.append(Sparse(kept, v[kept]))
            u[kept] = 0
            v[kept] = 0
            upload += golomb.encoded_length(kept, 32, b)
        return unflatten(combine(sent, weights, size, "all"), changes[0]), upload

    def _clipped(self, flat: Array, participants: int) -> Array:
        if self.clip is None:
            return flat
        limit, norm = self.clip / math.sqrt(participants), float(np.linalg.norm(flat))
        return flat * np.float32(limit / norm) if norm > limit else flat


def _largest_of_each(flat: Array, sizes: Sequence[int], counts: Sequence[int]) -> Positions:
    """The positions in `flat` of the largest entries of each of its parts, ascending."""
    ends = np.cumsum(sizes)
    parts = zip(ends - sizes, np.split(flat, ends[:-1]), counts, strict=True)
    return np.concatenate([start + largest(part, count) for start, part, count in parts])
