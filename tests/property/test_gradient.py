"""The view of a model as layers and channels, and back."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fl_node.gradient import Layout, gradient_matrices

Tensors = dict[str, np.ndarray[Any, Any]]


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Tensors:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


MODEL: dict[str, tuple[int, ...]] = {
    "conv.weight": (6, 3, 5, 5),
    "conv.bias": (6,),
    "norm.weight": (6,),
    "norm.bias": (6,),
    "norm.running_mean": (6,),
    "norm.running_var": (6,),
    "blocks.0.linear.weight": (10, 24),
    "blocks.0.linear.bias": (10,),
    "blocks.1.linear.weight": (4, 10),  # no bias
    "temperature": (),
    "scale": (3,),
}

sides = st.integers(1, 4)
shapes = st.dictionaries(
    st.sampled_from(
        [f"{module}{name}" for module in ("", "a.", "a.b.", "c.") for name in ("weight", "bias", "w", "x")]
    ),
    st.lists(sides, max_size=4).map(tuple),
    min_size=1,
    max_size=8,
)


def assert_same(left: Tensors, right: Tensors) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert right[name].shape == tensor.shape and right[name].dtype == tensor.dtype
        assert right[name].tobytes() == tensor.tobytes()


@given(shapes, st.integers(0, 2**32))
def test_matrices_and_tensors_are_inverse(shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    tensors = random_tensors(shapes, seed)
    layout = Layout.of(tensors)
    matrices = layout.matrices(tensors)
    assert [matrix.shape for matrix in matrices] == [(layer.channels, layer.width) for layer in layout.layers]
    assert sum(matrix.size for matrix in matrices) == sum(tensor.size for tensor in tensors.values())
    assert_same(layout.tensors(matrices), tensors)


@given(shapes, st.randoms(use_true_random=False))
def test_numbering_does_not_depend_on_the_order_of_the_dict(shapes: dict[str, tuple[int, ...]], random: Any) -> None:
    names = list(shapes)
    random.shuffle(names)
    tensors = random_tensors(shapes)
    layout = Layout.of(tensors)
    assert Layout.of({name: tensors[name] for name in names}) == layout
    assert [layer.first_channel for layer in layout.layers] == [
        sum(before.channels for before in layout.layers[:index]) for index in range(len(layout.layers))
    ]
    assert layout.channels == sum(layer.channels for layer in layout.layers)


def test_a_channel_is_a_row_of_weights_and_its_bias() -> None:
    tensors = random_tensors(MODEL)
    layout = Layout.of(tensors)
    layers = {
        layer.name: (layer, matrix) for layer, matrix in zip(layout.layers, layout.matrices(tensors), strict=True)
    }

    conv, matrix = layers["conv"]
    assert (conv.channels, conv.width) == (6, 76)
    assert (matrix[2, :75] == tensors["conv.weight"][2].ravel()).all() and matrix[2, 75] == tensors["conv.bias"][2]

    norm, matrix = layers["norm"]
    assert (norm.channels, norm.width) == (6, 4)
    assert set(matrix[5]) == {tensors[f"norm.{name}"][5] for name in ("weight", "bias", "running_mean", "running_var")}

    linear, matrix = layers["blocks.0.linear"]
    assert (linear.channels, linear.width) == (10, 25)
    assert matrix[7, 24] == tensors["blocks.0.linear.bias"][7]


def test_the_numbers_of_a_known_model_never_change() -> None:
    layout = Layout.of(random_tensors(MODEL))
    assert [(layer.name, layer.channels, layer.width, layer.first_channel) for layer in layout.layers] == [
        ("", 1, 1, 0),
        ("", 3, 1, 1),
        ("blocks.0.linear", 10, 25, 4),
        ("blocks.1.linear", 4, 10, 14),
        ("conv", 6, 76, 18),
        ("norm", 6, 4, 24),
    ]


def test_gradient_is_the_change_plus_the_residual() -> None:
    base, trained = random_tensors(MODEL, 1), random_tensors(MODEL, 2)
    layout = Layout.of(base)
    plain = gradient_matrices(layout, base, trained, None)
    assert_same(layout.tensors(plain), {name: trained[name] - base[name] for name in base})
    rest = layout.matrices(random_tensors(MODEL, 3))
    carried = gradient_matrices(layout, base, trained, [matrix.copy() for matrix in rest])
    for matrix, change, residual in zip(carried, plain, rest, strict=True):
        assert matrix.dtype == np.float32 and (matrix == change + residual).all()
