"""No compression: federated averaging (McMahan et al., AISTATS 2017)."""

from collections.abc import Sequence

from .interface import Arrays, weighted_mean


class Dense:
    """Every participant sends every entry as a float32; the server takes the weighted mean."""

    def round(self, changes: Sequence[Arrays], weights: Sequence[float]) -> tuple[Arrays, int]:
        mean = [weighted_mean(tensors, weights) for tensors in zip(*changes, strict=True)]
        return mean, 4 * len(changes) * sum(tensor.size for tensor in mean)
