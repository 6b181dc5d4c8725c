"""Gradient matrices: the weight change of every layer over a round's local training, plus the residual, one row a
channel.

A layer is what belongs to one module: its weight, and with it the bias, scales and statistics that have one entry a
channel. A channel is a row of that layer: an output channel's weights followed by its bias (and the like). Rows are
numbered through the whole model in the order of the layers' names, so everybody derives the same numbers from the
tensors' names and shapes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fl_node.tensorfile import Tensors

Matrix = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Layer:
    """Tensors that share their first axis: together a matrix `[channels, width]`."""

    name: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]  # (tensor name, shape), widest first: weight, then bias
    channels: int
    width: int
    first_channel: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tensors of a model divide into layers and channels."""

    layers: tuple[Layer, ...]

    @property
    def channels(self) -> int:
        return sum(layer.channels for layer in self.layers)

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray[Any, Any]]) -> "Layout":
        """Groups tensors by module and number of channels; a tensor without axes is a channel of its own."""
        groups: dict[tuple[str, int], list[tuple[str, tuple[int, ...]]]] = {}
        for name, tensor in tensors.items():
            module = name.rpartition(".")[0]
            groups.setdefault((module, tensor.shape[0] if tensor.ndim else 1), []).append((name, tensor.shape))
        layers, first = [], 0
        for (module, channels), members in sorted(groups.items()):
            ordered = tuple(sorted(members, key=lambda member: (-_row_width(member[1]), member[0])))
            width = sum(_row_width(shape) for _, shape in ordered)
            layers.append(Layer(module, ordered, channels, width, first))
            first += channels
        return cls(tuple(layers))

    def matrices(self, tensors: Mapping[str, np.ndarray[Any, Any]]) -> list[Matrix]:
        """The tensors viewed as one `[channels, width]` float32 matrix a layer."""
        return [
            np.concatenate([tensors[name].reshape(layer.channels, -1) for name, _ in layer.tensors], axis=1)
            for layer in self.layers
        ]

    def tensors(self, matrices: list[Matrix]) -> Tensors:
        """The inverse of `matrices`."""
        found: Tensors = {}
        for layer, matrix in zip(self.layers, matrices, strict=True):
            start = 0
            for name, shape in layer.tensors:
                stop = start + _row_width(shape)
                found[name] = np.ascontiguousarray(matrix[:, start:stop]).reshape(shape)
                start = stop
        return found


def gradient_matrices(layout: Layout, base: Tensors, trained: Tensors, residual: list[Matrix] | None) -> list[Matrix]:
    """`trained - base + residual`, one float32 matrix `[channels, width]` a layer."""
    change = [new - old for new, old in zip(layout.matrices(trained), layout.matrices(base), strict=True)]
    if residual is None:
        return change
    return [matrix + rest for matrix, rest in zip(change, residual, strict=True)]


def _row_width(shape: tuple[int, ...]) -> int:
    width = 1
    for side in shape[1:]:
        width *= side
    return width
