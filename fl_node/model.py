"""The model: built by the federation's factory, carried between nodes as its float tensors by name.

What travels is every parameter and every persistent float buffer, all of them float32. Other buffers, such as counters,
stay at home, and begin every training as they were built. Running statistics, as batch normalisation keeps them, are
refused: a variance that is averaged from a few signs, with a residual, soon falls below zero.
"""

import importlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from chain.protocol.errors import ConfigError
from chain.protocol.rules import Rules
from fl_node.weights import all_finite

Shape = tuple[int, ...]
Tensors = dict[str, npt.NDArray[np.float32]]


def mlp(input_shape: Shape, classes: int, *, hidden: Sequence[int] = (64, 32)) -> nn.Module:
    """Fully connected layers of `hidden` neurons with ReLU; logits `[n, classes]`."""
    sizes = [int(np.prod(input_shape)), *_sizes("hidden", hidden)]
    return nn.Sequential(OrderedDict([("flatten", nn.Flatten()), *_dense(sizes, classes)]))


def cnn(
    input_shape: Shape, classes: int, *, channels: Sequence[int] = (8, 16), hidden: Sequence[int] = (64,)
) -> nn.Module:
    """Blocks of 3x3 convolution, 2x2 max-pooling and ReLU, one per entry of `channels`, then an `mlp`; for `[c, h, w]`.

    With the defaults 6,058 parameters for digits (1x8x8, 10 classes), 52,138 for 1x28x28.
    """
    if len(input_shape) != 3:
        raise ValueError(f"needs records of shape [c, h, w], not {list(input_shape)}")
    depth, height, width = input_shape
    layers: list[tuple[str, nn.Module]] = []
    for at, wide in enumerate(_sizes("channels", channels), 1):
        if min(height, width) < 2:
            raise ValueError(f"{len(channels)} channels entries halve {list(input_shape)} too often, at most {at - 1}")
        layers += [
            (f"conv{at}", nn.Conv2d(depth, wide, kernel_size=3, padding=1)),
            (f"conv{at}_pool", nn.MaxPool2d(2)),
            (f"conv{at}_relu", nn.ReLU()),  # the same bits as ReLU before pooling, of a quarter of the entries
        ]
        depth, height, width = wide, height // 2, width // 2
    dense = _dense([depth * height * width, *_sizes("hidden", hidden)], classes)
    return nn.Sequential(OrderedDict([*layers, ("flatten", nn.Flatten()), *dense]))


def _dense(sizes: Sequence[int], classes: int) -> list[tuple[str, nn.Module]]:
    layers: list[tuple[str, nn.Module]] = []
    for at, (narrow, wide) in enumerate(pairwise(sizes), 1):
        layers += [(f"hidden{at}", nn.Linear(narrow, wide)), (f"hidden{at}_relu", nn.ReLU())]
    return [*layers, ("output", nn.Linear(sizes[-1], classes))]


def _sizes(option: str, value: object) -> list[int]:
    if not isinstance(value, Sequence) or not all(type(size) is int and size > 0 for size in value):
        raise ValueError(f"{option} must be a list of whole numbers above 0, not {value!r}")
    return list(value)


BUILT_IN: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn}


def build_model(rules: Rules, seed: int) -> nn.Module:
    """The federation's model with weights drawn from `seed`; its size follows from `input_shape` and `classes`.

    The same seed gives the same weights on one machine and torch version only: genesis is committed by its weights.
    The caller's random state is left as it was. Raises ConfigError when the factory cannot be found, fails, or returns
    something else than a module of float32 tensors that maps `[n, *input_shape]` to `[n, classes]`.
    """
    name, where = rules.model.factory, f"model factory {rules.model.factory!r}"
    factory = BUILT_IN.get(name) or _imported(name, where)
    shape, classes = rules.data.input_shape, len(rules.data.classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            module = factory(shape, classes, **rules.model.options)
        except (Exception, SystemExit) as error:  # the factory is the federation's own code and may raise anything
            raise ConfigError(where, f"failed with options {rules.model.options}: {_brief(error)}") from error
        if not isinstance(module, nn.Module):
            raise ConfigError(where, f"returned {type(module).__name__}, expected torch.nn.Module")
        _try_out(module, shape, classes, where)
        _in_channels_last(module)
    for tensor_name, tensor in _float_tensors(module).items():
        if tensor.dtype != torch.float32:
            raise ConfigError(where, f"tensor {tensor_name} is {tensor.dtype}, expected torch.float32")
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError(where, "the model has no parameter that can be trained")
    _refuse_running_statistics(module, where)
    setattr(module, _AT_HOME, {name: buffer.clone() for name, buffer in _at_home(module)})
    return module


_AT_HOME = "_roundledger_at_home"  # how the buffers that do not travel were built


def _at_home(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    travels = _float_tensors(module)
    return [(name, buffer) for name, buffer in module.named_buffers() if name not in travels]


def _in_channels_last(module: nn.Module) -> None:
    """Convolution and pooling take half the time on CPUs. With one input channel `contiguous` would leave the strides
    as they are, which say in what order the output lies.
    """
    for parameter in module.parameters():
        if parameter.ndim == 4:
            ordered = torch.empty_like(parameter.data, memory_format=torch.channels_last)
            parameter.data = ordered.copy_(parameter.data)


def _refuse_running_statistics(module: nn.Module, where: str) -> None:
    for name, layer in module.named_modules():
        if getattr(layer, "running_var", None) is not None:
            problem = f"layer {name} ({type(layer).__name__}) keeps running statistics, which cannot be sent in parts"
            raise ConfigError(where, problem, "use GroupNorm or LayerNorm, or track_running_stats=False")


def _imported(name: str, where: str) -> Callable[..., nn.Module]:
    """The function of `module:function`."""
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise ConfigError(where, "no such factory", f"expected {', '.join(BUILT_IN)} or module:function")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # importing runs the federation's own code, which may raise anything
        raise ConfigError(where, f"cannot import {module_name}: {_brief(error)}", "is it on PYTHONPATH?") from error
    factory = getattr(module, function_name, None)
    if not callable(factory):
        raise ConfigError(where, f"module {module_name} has no function {function_name!r}")
    result: Callable[..., nn.Module] = factory
    return result


def _try_out(module: nn.Module, shape: Shape, classes: int, where: str) -> None:
    """Two blank records through the module, so that a wrong size is found before the first round and not in it."""
    training = module.training
    try:
        with torch.no_grad():
            output = module.eval()(torch.zeros(2, *shape))
    except Exception as error:  # so is the module
        raise ConfigError(where, f"the model fails on records of shape {list(shape)}: {_brief(error)}") from error
    finally:
        module.train(training)
    if not isinstance(output, torch.Tensor) or output.shape != (2, classes):
        found = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ConfigError(where, f"2 records of shape {list(shape)} give {found}, expected {[2, classes]}")


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"


def _float_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, then persistent float buffers. Tied weights count once, under their first name."""
    kept = module.state_dict(keep_vars=True)
    named = chain(module.named_parameters(), module.named_buffers())
    return {name: tensor for name, tensor in named if name in kept and not _counts(tensor)}


def _counts(tensor: torch.Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


def tensors_of(module: nn.Module) -> Tensors:
    """The module's float32 tensors by name, in its own memory: they change with it."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in _float_tensors(module).items()}


def to_tensors(module: nn.Module) -> Tensors:
    """The same, copied, so that later training does not change them."""
    return {name: tensor.copy() for name, tensor in tensors_of(module).items()}


def load_tensors(module: nn.Module, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Copies `tensors` into the module.

    Raises ConfigError, and changes nothing, unless they have exactly its names and shapes, are float32 and all finite.
    """
    own = _float_tensors(module)
    if missing := sorted(own.keys() - tensors.keys()):
        raise ConfigError("model", f"missing tensor {', '.join(missing)}")
    if unknown := sorted(tensors.keys() - own.keys()):
        raise ConfigError("model", f"unknown tensor {', '.join(unknown)}", f"the module has {', '.join(own)}")
    for name, tensor in own.items():
        given = tensors[name]
        if given.shape != tuple(tensor.shape) or given.dtype != np.float32:
            expected = f"float32 {list(tensor.shape)}"
            raise ConfigError("model", f"tensor {name} is {given.dtype} {list(given.shape)}, expected {expected}")
        if not all_finite(given):
            raise ConfigError("model", f"tensor {name} has a value that is not finite")
    with torch.no_grad():
        for name, buffer in _at_home(module):
            buffer.copy_(getattr(module, _AT_HOME)[name])
        for name, tensor in own.items():
            given = tensors[name]
            tensor.copy_(torch.from_numpy(given if given.flags.writeable else given.copy()))
