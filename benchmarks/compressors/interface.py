"""What every compressor offers, and the model as one vector."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]
Arrays = list[Array]  # one float32 array for each tensor of the model, of any shape


class Compressor(Protocol):
    """One federation's compression, with the state that its participants keep between rounds."""

    def round(self, changes: Sequence[Arrays], weights: Sequence[float]) -> tuple[Arrays, int]:
        """`changes[i]` is the weight change of participant i after local training; `weights` sum to 1.

        Returns the change that the server applies to the model, and the upload of all participants in bytes.
        Participant i is the same one in every round.
        """


def flatten(change: Arrays) -> Array:
    """All tensors as one new vector, float32 `[parameters]`."""
    return np.concatenate([tensor.reshape(-1) for tensor in change]).astype(np.float32, copy=False)


def unflatten(flat: Array, like: Arrays) -> Arrays:
    """The vector `[parameters]` as tensors of the shapes of `like`."""
    ends = np.cumsum([tensor.size for tensor in like])[:-1]
    return [part.reshape(tensor.shape) for part, tensor in zip(np.split(flat, ends), like, strict=True)]


def weighted_mean(tensors: Sequence[Array], weights: Sequence[float]) -> Array:
    """The weighted sum of arrays of one shape, added up in float64 so that the order does not show."""
    total = np.zeros(tensors[0].shape)
    for tensor, weight in zip(tensors, weights, strict=True):
        total += weight * tensor.astype(np.float64)
    return total.astype(np.float32)
