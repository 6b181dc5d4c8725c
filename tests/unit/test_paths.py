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

from fl_node.paths import PathSelection, Violation, attained, cut, least_threshold, select_paths, verify_paths

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
    """The smallest integer that at most `ceil(rate * paths)` norms reach, at most the largest norm."""
    kept = ceil(rate * len(norms))
    ranked = sorted(norms, reverse=True)
    return 0 if kept == len(norms) else min(ranked[kept] + 1, ranked[0])


def reaching(network: Network, least: int) -> tuple[set[Entry], int]:
    """The entries on the paths that reach `least` and 1, and the smallest of their best norms."""
    best: dict[Entry, int] = {}
    for _, norm, entries in network.paths():
        if norm >= max(least, 1):
            best.update((entry, max(norm, best.get(entry, 0))) for entry in entries)
    return set(best), min(best.values(), default=0)


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
    grid = max(norms) + 1 + spare
    assert cut(network.nodes, network.edges, rate, grid) == exact_cut(norms, rate)
    selection = select(network, rate, grid)
    assert (sent(network, selection), selection.threshold) == reaching(network, exact_cut(norms, rate))


@given(networks(LARGE), RATES, st.one_of(st.integers(1, 8), st.integers(1, 2000)))
def test_relation_to_brute_force_on_any_grid(network: Network, rate: Fraction, grid: int) -> None:
    norms = [norm for _, norm, _ in network.paths()]
    step, exact, found = max(norms) // grid + 1, exact_cut(norms, rate), cut(network.nodes, network.edges, rate, grid)
    short = (len(network.nodes) - 1) * (step - 1)
    assert exact - short <= found <= exact + (step - 1)
    kept = ceil(rate * len(norms))
    if found < max(norms):  # not lowered to the best path
        assert found % step == 0
        assert sum(norm >= found + short for norm in norms) <= kept
        assert found == 0 or sum(norm >= found - step for norm in norms) > kept

    selection = select(network, rate, grid)
    chosen = sent(network, selection)
    assert (chosen, selection.threshold) == reaching(network, found)
    assert reaching(network, exact + step - 1)[0] <= chosen <= reaching(network, exact - short)[0]


def cut_by_cells(network: Network, rate: Fraction, grid: int, sent: PathSelection | None = None) -> int:
    """The first cell that holds few enough paths, with those above it; of the paths that were sent as a whole."""
    every = list(network.paths())
    paths = [(path, norm) for path, norm, entries in every if sent is None or all(value(sent, e) for e in entries)]
    best = max((norm for _, norm in paths), default=0)
    step, cells = best // grid + 1, []
    for path, _ in paths:
        cell = int(network.nodes[0][path[0]]) // step
        for layer, edge in enumerate(network.edges):
            to = path[layer + 1]
            cell += (int(edge[to, path[layer]]) + int(network.nodes[layer + 1][to])) // step
        cells.append(cell)
    kept = ceil(rate * len(every))
    return min(next(t for t in range(grid + 1) if sum(cell >= t for cell in cells) <= kept) * step, best)


@given(networks(LARGE), RATES, st.integers(1, 50))
def test_cut_is_the_first_cell_that_holds_few_enough_paths(network: Network, rate: Fraction, grid: int) -> None:
    assert cut(network.nodes, network.edges, rate, grid) == cut_by_cells(network, rate, grid)


@given(networks(st.one_of(SMALL, LARGE)), RATES, st.integers(1, 50), st.data())
def test_the_least_threshold_counts_what_was_sent(
    network: Network, rate: Fraction, grid: int, data: st.DataObject
) -> None:
    """Any masks."""
    few = data.draw(st.sampled_from([0.2, 0.8, 1.0]))
    masks = [np.random.default_rng(1).random(array.shape) < few for array in (*network.nodes, *network.edges)]
    claim = PathSelection(tuple(masks[: len(network.nodes)]), tuple(masks[len(network.nodes) :]), 0)
    expected = cut_by_cells(network, rate, grid, claim)
    assert least_threshold(claim.nodes, claim.edges, network.nodes, network.edges, rate, grid) == expected


@given(networks(LARGE), RATES, RATES, st.integers(1, 64))
def test_more_than_the_rate_allows_lies_below_the_least_threshold(
    network: Network, rate: Fraction, other: Fraction, grid: int
) -> None:
    assume(all(norm for _, norm, _ in network.paths()))  # paths that are zero are never sent, so leave room for others
    rate, greedy = sorted((rate, other))
    allowed, more = select(network, rate, grid), select(network, greedy, grid)
    least = least_threshold(more.nodes, more.edges, network.nodes, network.edges, rate, grid)
    assert (more.threshold < least) == (sent(network, allowed) != sent(network, more))


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
    assert cut(network.nodes, network.edges, rate, max(counts) + 1) == min(expected, max(counts))


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
        assert cut(nodes, edges, rate, grid) == min(first, best)


@given(networks(LARGE), RATES, st.integers(1, 2000))
def test_every_selection_verifies(network: Network, rate: Fraction, grid: int) -> None:
    selection = select(network, rate, grid)
    assert verify(selection, network) is None
    assert attained(selection.nodes, selection.edges, network.nodes, network.edges) == selection.threshold
    assert least_threshold(selection.nodes, selection.edges, network.nodes, network.edges, rate, grid) <= (
        selection.threshold
    )


@given(networks(LARGE), RATES, st.integers(1, 64))
def test_any_other_threshold_is_rejected(network: Network, rate: Fraction, grid: int) -> None:
    selection = select(network, rate, grid)
    chosen = [entry for entry in network.entries() if value(selection, entry)]
    assume(chosen)
    raised, lowered = (verify(selection, network, selection.threshold + by) for by in (1, -1))
    assert raised is not None
    assert raised == lowered  # the first entry whose best path has the norm that the threshold should have
    assert raised.best == selection.threshold
    assert (raised.layer, raised.index) in chosen


@given(networks(LARGE), RATES, st.integers(1, 64), st.data())
def test_an_extra_entry_is_rejected(network: Network, rate: Fraction, grid: int, data: st.DataObject) -> None:
    selection = select(network, rate, grid)
    others = [entry for entry in network.entries() if not value(selection, entry)]
    assume(others)
    layer, index = extra = data.draw(st.sampled_from(others))
    violation = verify(with_mask(selection, extra, True), network)
    assert violation is not None
    assert (violation.layer, violation.index) == (layer, index)
    assert violation.best < max(selection.threshold, 1)


@given(networks(LARGE), RATES, st.integers(1, 64), st.data())
def test_a_missing_node_is_rejected(network: Network, rate: Fraction, grid: int, data: st.DataObject) -> None:
    selection = select(network, rate, grid)
    chosen = [entry for entry in network.entries() if len(entry[1]) == 1 and value(selection, entry)]
    assume(chosen and network.edges)
    missing = data.draw(st.sampled_from(chosen))
    assert verify(with_mask(selection, missing, False), network) is not None


@given(networks(LARGE), RATES, st.integers(1, 64), st.data())
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


@given(networks(LARGE), RATES, st.integers(1, 64), st.randoms(use_true_random=False))
def test_neither_order_nor_memory_layout_matters(network: Network, rate: Fraction, grid: int, random: Any) -> None:
    orders = [random.sample(range(len(node)), len(node)) for node in network.nodes]
    nodes = [node[order] for node, order in zip(network.nodes, orders, strict=True)]
    edges = [
        np.asfortranarray(edge[np.ix_(after, before)])
        for edge, before, after in zip(network.edges, orders, orders[1:], strict=False)
    ]
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
    """One neuron towers over the rest: all its paths fall into the last cell."""
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


@pytest.mark.parametrize(("rate", "grid"), [(Fraction(0), 8), (Fraction(3, 2), 8), (Fraction(1), 0)])
def test_refuses_a_rate_or_grid_out_of_range(rate: Fraction, grid: int) -> None:
    with pytest.raises(ValueError, match="rate"):
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
