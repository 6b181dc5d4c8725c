"""Path channels against the tensor of all path norms, enumerated."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, product
from math import ceil, comb
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_node.pathcut import cut
from fl_node.paths import PathSelection, Violation, attained, least_threshold, select_paths, verify_paths

Array = np.ndarray[Any, Any]
Entry = tuple[int, tuple[int, ...]]  # layer, index as in Violation


@dataclass
class Network:
    nodes: list[Array]
    edges: list[Array]

    def paths(self) -> Iterator[tuple[tuple[int, ...], int, list[Entry]]]:
        """Every path: its neurons, its squared norm, its entries."""
        for path in product(*(range(len(node)) for node in self.nodes)):
            entries: list[Entry] = [(layer, (neuron,)) for layer, neuron in enumerate(path)]
            entries += [(layer, (path[layer + 1], path[layer])) for layer in range(len(path) - 1)]
            yield path, sum(int(value(self, entry)) for entry in entries), entries

    def entries(self) -> Iterator[Entry]:
        """In the order of `Violation`: layer after layer, nodes first."""
        for layer, node in enumerate(self.nodes):
            yield from ((layer, index) for index in np.ndindex(node.shape))
            if layer < len(self.edges):
                yield from ((layer, index) for index in np.ndindex(self.edges[layer].shape))


def value(holder: Any, entry: Entry) -> Any:
    layer, index = entry
    return (holder.nodes if len(index) == 1 else holder.edges)[layer][index]


def with_value(arrays: tuple[Array, ...], layer: int, index: tuple[int, ...], new: object) -> tuple[Array, ...]:
    changed = tuple(array.copy() for array in arrays)
    changed[layer][index] = new
    return changed


def with_mask(selection: PathSelection, entry: Entry, sent: bool) -> PathSelection:
    layer, index = entry
    if len(index) == 1:
        return PathSelection(with_value(selection.nodes, layer, index, sent), selection.edges, selection.threshold)
    return PathSelection(selection.nodes, with_value(selection.edges, layer, index, sent), selection.threshold)


SMALL = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 20))
LARGE = st.one_of(SMALL, st.integers(0, 2**30), st.integers(0, 2**62 // 7 - 1), st.just(2**62 // 7 - 1))
RATES = st.one_of(st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(1, 10**6)]), st.fractions(0, 1)).filter(bool)


@st.composite
def networks(draw: st.DrawFn, values: st.SearchStrategy[int], depth: int = 4) -> Network:
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=depth))
    shapes = [*((size,) for size in sizes), *zip(sizes[1:], sizes, strict=False)]
    drawn = [draw(arrays(np.int64, shape, elements=values)) for shape in shapes]
    return Network(drawn[: len(sizes)], drawn[len(sizes) :])


def exact_cut(norms: list[int], rate: Fraction) -> int:
    """The smallest integer that at most `ceil(rate * paths)` norms reach."""
    kept = ceil(rate * len(norms))
    return 0 if kept == len(norms) else sorted(norms, reverse=True)[kept] + 1


def reaching(network: Network, least: int) -> tuple[set[Entry], int]:
    """The entries on the paths that reach `least` and 1, and the smallest of their best norms."""
    best: dict[Entry, int] = {}
    for _, norm, entries in network.paths():
        if norm >= max(least, 1):
            best.update((entry, max(norm, best.get(entry, 0))) for entry in entries)
    return set(best), min(best.values(), default=0)


def crowded(network: Network, rate: Fraction) -> bool:
    """More paths share the norm of the best than the rate allows."""
    norms = [norm for _, norm, _ in network.paths()]
    return exact_cut(norms, rate) > max(norms)


def sent(network: Network, selection: PathSelection) -> set[Entry]:
    return {entry for entry in network.entries() if value(selection, entry)}


def select(network: Network, rate: Fraction, grid: int = 1024) -> PathSelection:
    return select_paths(network.nodes, network.edges, rate, grid)


def verify(selection: PathSelection, network: Network, threshold: int | None = None) -> Violation | None:
    """As a receiver does: the values that were not sent are zero."""
    nodes = [np.where(mask, values, 0) for mask, values in zip(selection.nodes, network.nodes, strict=True)]
    edges = [np.where(mask, values, 0) for mask, values in zip(selection.edges, network.edges, strict=True)]
    claimed = selection.threshold if threshold is None else threshold
    return verify_paths(selection.nodes, selection.edges, nodes, edges, claimed)


@given(networks(SMALL), RATES, st.integers(0, 3))
def test_equals_brute_force_on_a_fine_grid(network: Network, rate: Fraction, spare: int) -> None:
    norms = [norm for _, norm, _ in network.paths()]
    grid = max(norms) + 2 + spare
    exact = exact_cut(norms, rate)
    assert cut(network.nodes, network.edges, rate, grid) == exact
    if not crowded(network, rate):
        selection = select(network, rate, grid)
        assert (sent(network, selection), selection.threshold) == reaching(network, exact)


@given(networks(LARGE), RATES, st.one_of(st.integers(2, 8), st.integers(2, 2000)))
def test_relation_to_brute_force_on_any_grid(network: Network, rate: Fraction, grid: int) -> None:
    norms = [norm for _, norm, _ in network.paths()]
    step, exact, found = max(norms) // grid + 1, exact_cut(norms, rate), cut(network.nodes, network.edges, rate, grid)
    longest = exact + max(len(network.edges), 1) * (step - 1)
    assert exact <= found <= longest
    if not crowded(network, rate):
        selection = select(network, rate, grid)
        chosen = sent(network, selection)
        assert (chosen, selection.threshold) == reaching(network, found)
        assert reaching(network, longest)[0] <= chosen <= reaching(network, exact)[0]


@given(networks(st.one_of(st.just(1), st.integers(0, 1))), st.data())
def test_of_too_many_best_paths_the_first_are_sent(network: Network, data: st.DataObject) -> None:
    """All that begin as the first one does, up to a neuron of the next layer: the most that fit."""
    every = list(network.paths())
    best = max(norm for _, norm, _ in every)
    ties = [(path, entries) for path, norm, entries in every if norm == best]
    assume(best and len(ties) > 1)
    kept, first = data.draw(st.integers(1, len(ties) - 1)), ties[0][0]
    choices = [
        [entries for path, entries in ties if path[:layer] == first[:layer] and path[layer] <= last]
        for layer, nodes in enumerate(network.nodes)
        for last in range(len(nodes))
    ]
    chosen = max((entries for entries in choices if len(entries) <= kept), key=len)
    selection = select(network, Fraction(kept, len(every)))
    assert selection.threshold == best
    assert sent(network, selection) == {entry for entries in chosen for entry in entries}


def cut_by_cells(network: Network, rate: Fraction, grid: int, sent: PathSelection | None = None) -> int:
    """As `cut` says, path by path; of those that were sent as a whole."""
    every = list(network.paths())
    paths = [(path, norm) for path, norm, entries in every if sent is None or all(value(sent, e) for e in entries)]
    best, to = max((norm for _, norm in paths), default=-1), {}
    for path, _ in paths:  # the best way to every neuron
        for layer in range(len(path)):
            to[layer, path[layer]] = max(to.get((layer, path[layer]), 0), way(network, path, layer))
    window = best + 1
    while window:
        step = -(-window // grid)
        cells = [
            sum(
                ((best if layer == len(path) - 1 else to[layer, path[layer]]) - before) // step
                for layer, before in arriving(network, path, to)
            )
            for path, _ in paths
        ]
        fit = [
            c for c in range(1, -(-window // step) + 1) if sum(cell < c for cell in cells) <= ceil(rate * len(every))
        ]
        if fit:
            return best + 1 - min(fit[-1] * step, window)
        window = step if step > 1 else 0
    return best + 1


def way(network: Network, path: tuple[int, ...], layer: int) -> int:
    """The norm of a path up to a layer."""
    nodes = sum(int(network.nodes[at][path[at]]) for at in range(layer + 1))
    return nodes + sum(int(network.edges[at][path[at + 1], path[at]]) for at in range(layer))


def arriving(network: Network, path: tuple[int, ...], to: dict[tuple[int, int], int]) -> Iterator[tuple[int, int]]:
    """Each layer but the first (of one layer: that), and the best way to its neuron by this path's edge."""
    if len(path) == 1:
        yield 0, to[0, path[0]]
    for layer in range(1, len(path)):
        edge = int(network.edges[layer - 1][path[layer], path[layer - 1]])
        yield layer, to[layer - 1, path[layer - 1]] + edge + int(network.nodes[layer][path[layer]])


@given(networks(LARGE), RATES, st.integers(2, 50))
def test_cut_lies_below_the_cells_that_hold_few_enough_paths(network: Network, rate: Fraction, grid: int) -> None:
    assert cut(network.nodes, network.edges, rate, grid) == cut_by_cells(network, rate, grid)


def any_masks(network: Network, data: st.DataObject) -> PathSelection:
    few, seed = data.draw(st.sampled_from([0.2, 0.8, 1.0])), data.draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    masks = [rng.random(array.shape) < few for array in (*network.nodes, *network.edges)]
    return PathSelection(tuple(masks[: len(network.nodes)]), tuple(masks[len(network.nodes) :]), 0)


@given(networks(st.one_of(SMALL, LARGE)), RATES, st.integers(2, 50), st.data())
def test_the_least_threshold_counts_what_was_sent(
    network: Network, rate: Fraction, grid: int, data: st.DataObject
) -> None:
    claim = any_masks(network, data)
    expected = cut_by_cells(network, rate, grid, claim)
    assert least_threshold(claim.nodes, claim.edges, network.nodes, network.edges, rate, grid) == expected


@given(networks(st.one_of(st.integers(0, 1), SMALL, LARGE)), RATES, st.integers(2, 64), st.data())
def test_no_more_paths_than_the_rate_reach_the_least_threshold(
    network: Network, rate: Fraction, grid: int, data: st.DataObject
) -> None:
    """Whatever was sent, honestly or not: ties, values just below a cell, entries that cross."""
    claim = data.draw(st.sampled_from([any_masks(network, data), select(network, data.draw(RATES), grid)]))
    least = least_threshold(claim.nodes, claim.edges, network.nodes, network.edges, rate, grid)
    every = list(network.paths())
    whole = [norm for _, norm, entries in every if all(value(claim, entry) for entry in entries)]
    assert sum(norm >= least for norm in whole) <= ceil(rate * len(every))


@given(networks(st.integers(0, 3), depth=60), RATES)
def test_deep_networks_against_integers_without_bounds(network: Network, rate: Fraction) -> None:
    """Up to 5**60 paths: more than any machine word."""
    at = [Counter({int(node): 1}) for node in network.nodes[0]]
    for edge, node in zip(network.edges, network.nodes[1:], strict=True):
        at = [
            sum(
                (
                    Counter({norm + int(edge[j, i] + node[j]): n for norm, n in source.items()})
                    for i, source in enumerate(at)
                ),
                Counter(),
            )
            for j in range(len(node))
        ]
    counts = sum(at, Counter())
    left, expected = ceil(rate * counts.total()), max(counts) + 1
    while expected > 0 and counts[expected - 1] <= left:
        expected -= 1
        left -= counts[expected]
    assert cut(network.nodes, network.edges, rate, max(counts) + 2) == expected


@pytest.mark.parametrize(("layers", "wide"), [(62, 1), (63, 1), (64, 1), (65, 1), (200, 1), (40, 3), (20, 37)])
def test_counts_beyond_a_machine_word(layers: int, wide: int) -> None:
    """In each layer `wide` neurons have value 0 and as many 1: comb(layers, k) of 2**layers paths have norm k."""
    nodes, edges = [np.repeat([0, 1], wide)] * layers, [np.zeros((2 * wide, 2 * wide), np.int64)] * (layers - 1)
    every = (2 * wide) ** layers
    for least in (1, layers // 2, layers - 1):
        paths = sum(comb(layers, k) for k in range(least, layers + 1)) * wide**layers
        assert cut(nodes, edges, Fraction(paths, every), 256) == least
        assert cut(nodes, edges, Fraction(paths - 1, every), 256) == least + 1


@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.97])
def test_wide_layers_in_several_chunks(zeros: float) -> None:
    """More sources than are gathered at once, by either way of summing them."""
    rng = np.random.default_rng(7)
    nodes = [rng.integers(0, 9, size) for size in (80, 90, 3, 90)]
    edges = [
        rng.integers(0, 300, (b.size, a.size)) * (rng.random((b.size, a.size)) >= zeros) for a, b in pairwise(nodes)
    ]
    grid = 1024
    cells = np.stack([np.bincount([node], minlength=grid) for node in nodes[0]]).astype(object)
    for edge, node in zip(edges, nodes[1:], strict=True):
        rows = [[np.roll(c, e + n) for c, e in zip(cells, row, strict=True)] for row, n in zip(edge, node, strict=True)]
        cells = np.stack([sum(row) for row in rows])
    counts = cells.sum(axis=0)
    paths = counts.sum()
    assert paths == 80 * 90 * 3 * 90
    best = int(np.flatnonzero(counts).max())
    for rate in (Fraction(1, 3), Fraction(1, 1000)):
        first = next(t for t in range(grid + 1) if counts[t:].sum() <= ceil(rate * paths))
        assert best < grid
        assert cut(nodes, edges, rate, grid) == first


@given(networks(LARGE), RATES, st.integers(2, 2000))
def test_every_selection_verifies(network: Network, rate: Fraction, grid: int) -> None:
    selection = select(network, rate, grid)
    assert verify(selection, network) is None
    assert attained(selection.nodes, selection.edges, network.nodes, network.edges) == selection.threshold
    assert least_threshold(selection.nodes, selection.edges, network.nodes, network.edges, rate, grid) <= (
        selection.threshold
    )


@given(networks(LARGE), RATES, st.integers(2, 64))
def test_any_other_threshold_is_rejected(network: Network, rate: Fraction, grid: int) -> None:
    selection = select(network, rate, grid)
    chosen = [entry for entry in network.entries() if value(selection, entry)]
    assume(chosen)
    raised, lowered = (verify(selection, network, selection.threshold + by) for by in (1, -1))
    assert raised is not None
    assert raised == lowered  # the first entry whose best path has the norm that the threshold should have
    assert raised.best == selection.threshold
    assert (raised.layer, raised.index) in chosen


@given(networks(LARGE), RATES, st.integers(2, 64), st.data())
def test_an_extra_entry_is_rejected(network: Network, rate: Fraction, grid: int, data: st.DataObject) -> None:
    selection = select(network, rate, grid)
    others = [entry for entry in network.entries() if not value(selection, entry)]
    assume(others and not crowded(network, rate))
    layer, index = extra = data.draw(st.sampled_from(others))
    violation = verify(with_mask(selection, extra, True), network)
    assert violation is not None
    assert (violation.layer, violation.index) == (layer, index)
    assert violation.best < max(selection.threshold, 1)


@given(networks(LARGE), RATES, st.integers(2, 64), st.data())
def test_a_missing_node_is_rejected(network: Network, rate: Fraction, grid: int, data: st.DataObject) -> None:
    selection = select(network, rate, grid)
    chosen = [entry for entry in network.entries() if len(entry[1]) == 1 and value(selection, entry)]
    assume(chosen and network.edges)
    missing = data.draw(st.sampled_from(chosen))
    assert verify(with_mask(selection, missing, False), network) is not None


@given(networks(LARGE), RATES, st.integers(2, 64), st.data())
def test_a_missing_edge_is_rejected_if_a_node_has_no_other(
    network: Network, rate: Fraction, grid: int, data: st.DataObject
) -> None:
    selection = select(network, rate, grid)
    lonely = [
        (layer, index)
        for layer, mask in enumerate(selection.edges)
        for index in np.ndindex(mask.shape)
        if mask[index] and 1 in (mask[index[0]].sum(), mask[:, index[1]].sum())
    ]
    assume(lonely)
    missing = data.draw(st.sampled_from(lonely))
    assert verify(with_mask(selection, missing, False), network) is not None


@given(networks(st.one_of(SMALL, LARGE), depth=3), st.data())
def test_verification_equals_brute_force(network: Network, data: st.DataObject) -> None:
    """Any masks and any threshold: the same entry, the same best norm."""
    masks = [data.draw(arrays(bool, array.shape)) for array in (*network.nodes, *network.edges)]
    claim = PathSelection(tuple(masks[: len(network.nodes)]), tuple(masks[len(network.nodes) :]), 0)
    best = {entry: -1 for entry in network.entries() if value(claim, entry)}
    for _, norm, entries in network.paths():
        if all(value(claim, entry) for entry in entries):
            best.update((entry, max(norm, best[entry])) for entry in entries)
    least = max(min(best.values(), default=0), 0)
    assert attained(claim.nodes, claim.edges, network.nodes, network.edges) == least
    threshold = data.draw(st.sampled_from(sorted({0, 1, least, least + 1, *best.values()})))
    wrong = [entry for entry in best if best[entry] < max(threshold, 1)]
    if not wrong and least != threshold:
        wrong = [entry for entry in best if best[entry] == least] or [(0, ())]
    expected = Violation(*wrong[0], best.get(wrong[0], -1)) if wrong else None
    assert verify(claim, network, threshold) == expected


@given(networks(LARGE), RATES, st.integers(2, 64), st.randoms(use_true_random=False))
def test_neither_order_nor_memory_layout_matters(network: Network, rate: Fraction, grid: int, random: Any) -> None:
    orders = [random.sample(range(len(node)), len(node)) for node in network.nodes]
    nodes = [node[order] for node, order in zip(network.nodes, orders, strict=True)]
    edges = [
        np.asfortranarray(edge[np.ix_(after, before)])
        for edge, before, after in zip(network.edges, orders, orders[1:], strict=False)
    ]
    assume(not crowded(network, rate))  # the first ones are sent
    one, two = select(network, rate, grid), select_paths(nodes, edges, rate, grid)
    assert one.threshold == two.threshold
    for mask, other, order in zip(one.nodes, two.nodes, orders, strict=True):
        assert (mask[order] == other).all()
    for mask, other, before, after in zip(one.edges, two.edges, orders, orders[1:], strict=False):
        assert (mask[np.ix_(after, before)] == other).all()


@given(networks(LARGE))
def test_the_full_rate_sends_every_path_that_is_not_zero(network: Network) -> None:
    selection = select(network, Fraction(1))
    assert sent(network, selection) == reaching(network, 1)[0]


def test_zero_is_never_sent() -> None:
    nodes, edges = [np.zeros(3, np.int64), np.zeros(2, np.int64)], [np.zeros((2, 3), np.int64)]
    selection = select_paths(nodes, edges, Fraction(1))
    assert selection.threshold == 0
    assert not any(mask.any() for mask in (*selection.nodes, *selection.edges))
    assert verify_paths(selection.nodes, selection.edges, nodes, edges, 0) is None
    assert verify_paths(selection.nodes, selection.edges, nodes, edges, 1) == Violation(0, (), -1)


def test_the_best_path_is_sent_even_if_too_many_share_its_cell() -> None:
    """One neuron towers over the rest: all its paths fall into the first cell."""
    nodes, edges = [np.array([10**12, 1, 1]), np.array([1, 2])], [np.zeros((2, 3), np.int64)]
    selection = select_paths(nodes, edges, Fraction(1, 6))
    assert selection.threshold == 10**12 + 2
    assert [mask.tolist() for mask in selection.nodes] == [[True, False, False], [False, True]]
    assert selection.edges[0].tolist() == [[False] * 3, [True, False, False]]


def test_one_layer_is_a_cut_through_its_norms() -> None:
    selection = select_paths([np.array([5, 0, 9, 7])], [], Fraction(1, 2))
    assert selection.nodes[0].tolist() == [False, False, True, True]
    assert (selection.edges, selection.threshold) == ((), 7)


def test_paths_up_to_the_limit() -> None:
    """The bound is on paths, not on the sum of the layers' largest values."""
    nodes = [np.array([2**61, 0]), np.array([2**61 - 1, 0])]
    edges = [np.array([[0, 2**61], [7, 5]])]
    selection = select_paths(nodes, edges, Fraction(1, 2))
    assert selection.threshold == 2**62 - 1
    nodes[1][0] += 1
    with pytest.raises(ValueError, match=r"2\*\*62"):
        select_paths(nodes, edges, Fraction(1, 2))
    with pytest.raises(ValueError, match=r"2\*\*62"):
        verify_paths([np.ones(2, bool)] * 2, [np.ones((2, 2), bool)], nodes, edges, 1)
    # What was not sent does not count: then the first neuron is on no path.
    masks = [np.ones(2, bool)] * 2, [np.array([[False, False], [False, True]])]
    assert verify_paths(*masks, nodes, edges, 1) == Violation(0, (0,), -1)


NODES, EDGES = [np.array([1, 2]), np.array([3])], [np.array([[4, 5]])]


@pytest.mark.parametrize(
    ("nodes", "edges"),
    [
        ([], []),
        ([np.array([], np.int64)], []),
        (NODES, []),
        (NODES, [np.array([[4], [5]])]),
        (NODES, [*EDGES, np.array([[1]])]),
        ([np.array([1, -2]), NODES[1]], EDGES),
        ([np.array([1.0, 2.0]), NODES[1]], EDGES),
        (NODES, [np.array([[4, 2**62]])]),
        (NODES, [EDGES[0].astype(np.int32)]),
    ],
)
def test_refuses_what_is_no_network(nodes: list[Array], edges: list[Array]) -> None:
    with pytest.raises(ValueError, match=r"values|shapes"):
        select_paths(nodes, edges, Fraction(1))
    masks = [np.ones(array.shape, bool) for array in (*nodes, *edges)]
    with pytest.raises(ValueError, match=r"values|shapes"):
        verify_paths(masks[: len(nodes)], masks[len(nodes) :], nodes, edges, 1)


@pytest.mark.parametrize(("rate", "grid"), [(Fraction(0), 8), (Fraction(3, 2), 8), (Fraction(1), 1)])
def test_refuses_a_rate_or_grid_out_of_range(rate: Fraction, grid: int) -> None:
    with pytest.raises(ValueError, match=r"rate|grid"):
        select_paths(NODES, EDGES, rate, grid)


@pytest.mark.parametrize(
    "masks",
    [
        ([np.ones(2, bool)], [np.ones((1, 2), bool)]),
        ([np.ones(2, bool), np.ones(1, bool)], [np.ones((2, 1), bool)]),
        ([np.ones(2, bool), np.ones(1, bool)], [np.ones((1, 2), np.uint8)]),
        ([np.ones(2, bool), np.ones(1, bool), np.ones((1, 2), bool)], []),
    ],
)
def test_refuses_masks_of_another_shape(masks: tuple[list[Array], list[Array]]) -> None:
    with pytest.raises(ValueError, match="masks"):
        verify_paths(*masks, NODES, EDGES, 1)
