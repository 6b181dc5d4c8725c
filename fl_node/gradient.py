"""Gradient matrices: the weight change of every layer over a round's local training, plus the residual, one row a
channel.

A layer is what belongs to one module: its weight, and with it the bias, scales and statistics that have one entry a
channel. A channel is a row of that layer: an output channel's weights followed by its bias (and the like). Rows are
numbered through the whole model in the order of the layers' names, so everybody derives the same numbers from the
tensors' names and shapes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from chain.protocol.errors import ConfigError
from fl_node.kernels import rows as kernels
from fl_node.tensorfile import Tensors
from fl_node.threads import shared

Matrix = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Layer:
    """Tensors that fall into the same number of channels: together a matrix `[channels, width]`."""

    name: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]  # (tensor name, shape), widest first: weight, then bias
    channels: int
    width: int
    first_channel: int


@dataclass(frozen=True, slots=True)
class Level:
    """One layer of neurons, for path channels: the layers (numbers) that hold what belongs to a neuron alone, and the
    one that holds what lies between it and each neuron of the level before, neuron by neuron.
    """

    neurons: int
    nodes: tuple[int, ...]
    edges: int | None


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tensors of a model divide into layers and channels."""

    layers: tuple[Layer, ...]
    levels: tuple[Level, ...] = ()  # for path channels only

    @property
    def channels(self) -> int:
        return sum(layer.channels for layer in self.layers)

    @property
    def entries(self) -> int:
        return sum(layer.channels * layer.width for layer in self.layers)

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray[Any, Any]], path: Sequence[str] = ()) -> "Layout":
        """Groups tensors by module and number of channels; a tensor without axes is a channel of its own.

        With `path`, the modules from input to output, a channel is a piece of a path instead: what lies between one
        neuron and one of the level before, or what belongs to a neuron alone. Raises ConfigError when the model is no
        such chain.
        """
        if path:
            return cls._of_path(tensors, path)
        groups: dict[tuple[str, int], list[str]] = {}
        for name, tensor in tensors.items():
            module = name.rpartition(".")[0]
            groups.setdefault((module, tensor.shape[0] if tensor.ndim else 1), []).append(name)
        layers: list[Layer] = []
        for (module, channels), names in sorted(groups.items()):
            layers.append(_layer(module, {name: tensors[name] for name in names}, channels, layers))
        return cls(tuple(layers))

    @classmethod
    def _of_path(cls, tensors: Mapping[str, np.ndarray[Any, Any]], path: Sequence[str]) -> "Layout":
        layers: list[Layer] = []
        levels: list[Level] = []
        modules = {name.rpartition(".")[0] for name in tensors}
        if modules != set(path):
            raise ConfigError("selection.layers", f"names {sorted(path)}, the model has {sorted(modules)}")
        for module in path:
            own = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[0] == module}
            weights = {name: tensor for name, tensor in own.items() if tensor.ndim > 1} if levels else {}
            alone = {name: tensor for name, tensor in own.items() if name not in weights}
            neurons = {tensor.shape[0] if tensor.ndim else 1 for tensor in own.values()}
            before = levels[-1].neurons if levels else 1
            chained = all(tensor[0].size % before == 0 for tensor in weights.values()) and len(weights) < 2
            if len(neurons) != 1 or not chained or (levels and not weights and neurons != {before}):
                raise ConfigError("selection.layers", f"{module} does not follow a level of {before} neurons")
            (count,) = neurons
            nodes: tuple[int, ...] = ()
            if alone:
                nodes = (len(layers),)
                layers.append(_layer(module, alone, count, layers))
            if weights:
                layers.append(_layer(f"{module} paths", weights, count * before, layers))
                levels.append(Level(count, nodes, len(layers) - 1))
            elif levels:  # normalisation: it belongs to the neurons before it
                levels[-1] = replace(levels[-1], nodes=levels[-1].nodes + nodes)
            else:
                levels.append(Level(count, nodes, None))
        return cls(tuple(layers), tuple(levels))

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
                stop = start + _width(shape, layer.channels)
                found[name] = np.ascontiguousarray(matrix[:, start:stop]).reshape(shape)
                start = stop
        return found


def gradient_matrices(
    layout: Layout, base: Tensors, trained: Tensors, residual: list[Matrix] | None, threads: int = 1
) -> list[Matrix]:
    """`trained - base + residual`, one float32 matrix `[channels, width]` a layer, in the memory of the residual."""

    def gradient(index: int) -> Matrix:
        layer, start = layout.layers[index], 0
        matrix = np.empty((layer.channels, layer.width), np.float32) if residual is None else residual[index]
        for name, shape in layer.tensors:
            part = matrix[:, start : start + _width(shape, layer.channels)]
            after, before = trained[name].reshape(part.shape), base[name].reshape(part.shape)
            if residual is None:
                np.subtract(after, before, out=part)
            else:
                kernels.add_change(part, after, before)
            start += part.shape[1]
        return matrix

    with shared(threads) as mapped:
        return list(mapped(gradient, range(len(layout.layers))))


def _layer(name: str, tensors: Mapping[str, np.ndarray[Any, Any]], channels: int, before: Sequence[Layer]) -> Layer:
    """The layer that these tensors make, behind the layers `before`."""
    ordered = sorted(tensors, key=lambda tensor: (-tensors[tensor].size, tensor))
    first = before[-1].first_channel + before[-1].channels if before else 0
    width = sum(tensor.size for tensor in tensors.values()) // channels
    return Layer(name, tuple((tensor, tensors[tensor].shape) for tensor in ordered), channels, width, first)


def _width(shape: tuple[int, ...], channels: int) -> int:
    return prod(shape) // channels
