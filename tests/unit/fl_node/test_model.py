"""Models: sizes that follow from the rules, a seeded genesis, and tensors that go in and out unchanged."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from chain.protocol.errors import ConfigError
from chain.protocol.rules import Rules
from fl_node.model import build_model, load_tensors, tensors_of, to_tensors


def rules(factory: str, shape: tuple[int, ...] = (1, 8, 8), classes: int = 10, **options: Any) -> Rules:
    document = {
        "format": "roundledger-federation/1",
        "name": "test",
        "model": {"factory": factory, "options": options},
        "data": {"classes": [f"c{at}" for at in range(classes)], "shape": list(shape)},
        "training": {"rounds": 1},
        "selection": {"upload_rate": 1},
    }
    return Rules.parse(document, "test")


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the federation's own, importable as `federation_models` in this test only."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "federation_models", raising=False)
    return tmp_path / "federation_models.py"


@pytest.mark.parametrize(
    ("built", "parameters"),
    [
        (rules("mlp"), 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10),
        (rules("mlp", (5,), 3, hidden=[]), 5 * 3 + 3),
        (rules("cnn"), 6_058),
        (rules("cnn", (1, 28, 28)), 52_138),
        (rules("cnn", (3, 9, 5), 2, channels=[4], hidden=[]), 3 * 4 * 9 + 4 + 4 * 4 * 2 * 2 + 2),
    ],
)
def test_size_follows_from_rules(built: Rules, parameters: int) -> None:
    module = build_model(built, 1)
    assert sum(tensor.size for tensor in to_tensors(module).values()) == parameters
    assert module(torch.zeros(3, *built.data.input_shape)).shape == (3, len(built.data.classes))


def test_memory_order_is_the_modules_own_affair() -> None:
    """Convolutions lie in memory channel by channel, for speed; what comes out of the module lies as its shape says."""
    module = build_model(rules("cnn"), 1)
    images = torch.zeros(2, 1, 8, 8)  # of one channel: their own strides do not say in what order they lie
    assert module.get_submodule("conv1")(images).is_contiguous(memory_format=torch.channels_last)
    weight = module.get_parameter("conv2.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    found = to_tensors(module)
    assert all(tensor.flags.c_contiguous for tensor in found.values())
    load_tensors(module, {name: tensor[...] for name, tensor in found.items()})
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(to_tensors(module)["conv2.weight"], found["conv2.weight"])


def test_the_order_of_pooling_and_relu_changes_no_bit() -> None:
    module = build_model(rules("cnn"), 1)
    layers = dict(module.named_children())
    names = ["conv1", "conv1_relu", "conv1_pool", "conv2", "conv2_relu", "conv2_pool"]
    swapped = nn.Sequential(*(layers[name] for name in [*names, *list(layers)[len(names) :]]))
    torch.manual_seed(3)
    inputs, labels = torch.randn(50, 1, 8, 8).round(decimals=1), torch.randint(10, (50,))  # ties, too
    inputs[:, :, 4:] = 0  # as the edges of images are
    found = []
    for each in (module, swapped):
        module.zero_grad()
        output = each(inputs)
        nn.functional.cross_entropy(output, labels).backward()
        found.append([output, *(parameter.grad for parameter in module.parameters())])
    assert all(torch.equal(mine, other) for mine, other in zip(*found, strict=True))


def test_genesis_depends_on_the_seed_and_on_nothing_else() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = to_tensors(build_model(rules("cnn"), 7))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = to_tensors(build_model(rules("cnn"), 7)), to_tensors(build_model(rules("cnn"), 8))
    assert list(first) == list(again)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width, classes, dtype=torch.float32):
        super().__init__()
        self.norm = nn.BatchNorm1d(width, track_running_stats=False)
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.output = nn.Linear(width, classes, dtype=dtype)
        self.register_buffer("scratch", torch.ones(2), persistent=False)

    def forward(self, x):
        return self.output(self.second(self.first(self.norm(x.flatten(1)))))

def good(input_shape, classes, **options):
    assert isinstance(input_shape, tuple) and isinstance(classes, int)
    return Net(input_shape[0], classes + options.get("more", 0))

def wide(input_shape, classes):
    return Net(input_shape[0], classes, torch.float64).double()

def raises(input_shape, classes):
    raise KeyError("no [bold]luck")

def text(input_shape, classes):
    return "a model"

constant = 3
"""


def test_own_factory_with_tied_weights_and_buffers(own_module: Path) -> None:
    own_module.write_text(OWN)
    module = build_model(rules("federation_models:good", (4,), 3), 5)
    assert module.training
    assert sorted(to_tensors(module)) == [
        *("first.bias", "first.weight", "norm.bias", "norm.weight"),
        *("output.bias", "output.weight", "scale", "second.bias"),
    ]
    counted, scratch = module.get_buffer("seen"), module.get_buffer("scratch")
    counted += 3
    scratch += 3
    changed = {name: tensor + 1 for name, tensor in to_tensors(module).items()}
    load_tensors(module, changed)
    assert all(np.array_equal(tensor, changed[name]) for name, tensor in to_tensors(module).items())
    assert module.get_parameter("second.weight") is module.get_parameter("first.weight")
    assert counted.item() == 0 and scratch.tolist() == [
        1,
        1,
    ]  # as they were built


def test_running_statistics_are_refused(own_module: Path) -> None:
    own_module.write_text(OWN.replace(", track_running_stats=False", ""))
    with pytest.raises(ConfigError, match=r"layer norm \(BatchNorm1d\) keeps running statistics"):
        build_model(rules("federation_models:good", (4,), 3), 5)


def test_factories_that_give_nothing_to_train(own_module: Path) -> None:
    own_module.write_text("""
from torch import nn
def fixed(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, classes)).requires_grad_(False)
def leaves(shape, classes):
    raise SystemExit(1)
""")
    for name, said in (("fixed", "no parameter that can be trained"), ("leaves", "SystemExit: 1")):
        with pytest.raises(ConfigError, match=said):
            build_model(rules(f"federation_models:{name}", (4,), 3), 5)


@pytest.mark.parametrize("layer", ["nn.Conv3d(1, 2, 2)", "nn.LazyConv2d(2, 2)", "nn.LazyConv3d(2, 2)"])
def test_convolutions_of_every_kind(own_module: Path, layer: str) -> None:
    own_module.write_text(f"""
from torch import nn
def good(shape, classes):
    return nn.Sequential({layer}, nn.Flatten(), nn.LazyLinear(classes))
""")
    shape = (1, 3, 3, 3) if "3d" in layer else (1, 3, 3)
    module = build_model(rules("federation_models:good", shape, 3), 5)
    assert all(tensor.flags.c_contiguous for tensor in to_tensors(module).values())


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("resnet", {}, "no such factory (expected mlp, cnn or module:function)"),
        ("nowhere_at_all:f", {}, "cannot import nowhere_at_all: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("federation_models:", {}, "no such factory"),
        ("federation_models:none", {}, "module federation_models has no function 'none'"),
        ("federation_models:constant", {}, "module federation_models has no function 'constant'"),
        ("federation_models:raises", {}, "failed with options {}: KeyError: 'no [bold]luck'"),
        ("federation_models:raises", {"x": 1}, "failed with options {'x': 1}: TypeError: raises() got an unexpected"),
        ("federation_models:text", {}, "returned str, expected torch.nn.Module"),
        ("federation_models:good", {"more": 1}, "2 records of shape [4] give [2, 4], expected [2, 3]"),
        ("federation_models:wide", {}, "the model fails on records of shape [4]: RuntimeError"),
        ("mlp", {"hiden": [3]}, "failed with options {'hiden': [3]}: TypeError: mlp() got an unexpected keyword"),
        (
            "mlp",
            {"hidden": [3, 0]},
            "failed with options {'hidden': [3, 0]}: ValueError: hidden must be a list of whole",
        ),
        ("mlp", {"hidden": 3}, "failed with options {'hidden': 3}: ValueError: hidden must be a list of whole"),
        ("cnn", {}, "failed with options {}: ValueError: needs records of shape [c, h, w], not [4]"),
    ],
)
def test_factory_problem_names_everything(
    own_module: Path, factory: str, options: dict[str, Any], message: str
) -> None:
    own_module.write_text(OWN)
    with pytest.raises(ConfigError) as caught:
        build_model(rules(factory, (4,), 3, **options), 1)
    assert str(caught.value).startswith(f"model factory {factory!r}: {message}")


def test_module_that_breaks_on_import(own_module: Path) -> None:
    own_module.write_text("1/0")
    with pytest.raises(ConfigError, match="cannot import federation_models: ZeroDivisionError: division by zero"):
        build_model(rules("federation_models:f"), 1)


def test_float64_tensors_are_refused(own_module: Path) -> None:
    own_module.write_text(OWN.replace("x.flatten(1)", "x.flatten(1).double()"))
    with pytest.raises(ConfigError, match=r"tensor norm.weight is torch.float64, expected torch.float32"):
        build_model(rules("federation_models:wide", (4,), 3), 1)


def test_too_many_poolings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"4 channels entries halve \[1, 8, 8\] too often, at most 3"):
        build_model(rules("cnn", channels=[2, 2, 2, 2]), 1)


def test_tensors_are_copies_both_ways() -> None:
    module = build_model(rules("mlp"), 1)
    before = to_tensors(module)
    given = {name: tensor.copy() for name, tensor in before.items()}
    load_tensors(module, given)
    for tensor in given.values():
        tensor[...] = 9
    with torch.no_grad():
        assert all(np.array_equal(before[name], tensor) for name, tensor in to_tensors(module).items())
        for parameter in module.parameters():
            parameter.fill_(5)
    assert not any((tensor == 5).all() for tensor in before.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output.bias": None}, "model: missing tensor output.bias"),
        (
            {"extra": np.zeros(1, np.float32)},
            "model: unknown tensor extra (the module has hidden1.weight, hidden1.bias",
        ),
        ({"output.bias": np.zeros(9, np.float32)}, "model: tensor output.bias is float32 [9], expected float32 [10]"),
        ({"output.bias": np.zeros(10)}, "model: tensor output.bias is float64 [10], expected float32 [10]"),
        ({"output.bias": np.full(10, np.inf, np.float32)}, "model: tensor output.bias has a value that is not finite"),
    ],
)
def test_loading_is_strict_and_changes_nothing_when_it_fails(change: dict[str, Any], message: str) -> None:
    module = build_model(rules("mlp"), 1)
    before = to_tensors(module)
    tensors = {name: tensor for name, tensor in {**before, **change}.items() if tensor is not None}
    tensors["hidden1.weight"] = tensors["hidden1.weight"] + 1
    with pytest.raises(ConfigError) as caught:
        load_tensors(module, tensors)
    assert str(caught.value).startswith(message)
    assert all(np.array_equal(before[name], tensor) for name, tensor in to_tensors(module).items())


def test_scalars_load() -> None:
    module = nn.Module()
    module.register_parameter("temperature", nn.Parameter(torch.tensor(2.0)))
    load_tensors(module, {"temperature": np.array(3, np.float32)})
    assert to_tensors(module)["temperature"] == 3


def test_tensors_of_a_module_change_with_it_and_copies_do_not() -> None:
    module = build_model(rules("mlp"), 1)
    own, copied = tensors_of(module), to_tensors(module)
    load_tensors(module, {name: tensor + 1 for name, tensor in copied.items()})
    assert all(np.array_equal(own[name], copied[name] + 1) for name in copied)


def test_load_takes_what_cannot_be_written_to() -> None:
    """As a model from the store: it lies in the blob's own bytes."""
    module = build_model(rules("mlp"), 1)
    given = to_tensors(build_model(rules("mlp"), 2))
    for tensor in given.values():
        tensor.flags.writeable = False
    load_tensors(module, given)
    assert all(np.array_equal(tensor, given[name]) for name, tensor in to_tensors(module).items())
