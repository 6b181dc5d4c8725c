"""Path channels: the nodes and edges of a feed-forward network that lie on its strongest paths.

A path takes one neuron of every layer. Its squared norm is the sum of the values of its nodes (what belongs to a
neuron alone) and of the edges between them; the norms of all paths are a tensor with one axis a layer. Flattened,
sorted and cut at the upload rate, that tensor says what is sent: every node and edge on a path that reaches the cut.
Nothing here enumerates paths: they are counted on a grid (dynamic programming over layers), and the best path through
every node and edge is found exactly (max-plus, forward and backward).

Throughout, `nodes[l]` is `[n_l]` and `edges[l]` is `[n_{l+1}, n_l]`, target first. Values are squared norms, int64, not
negative, in whichever unit the caller keeps; they must have the same unit, and no path may sum to 2**62 or more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, prod
from typing import Any

import numpy as np

Integers = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

GRID = 1024
LIMIT = 1 << 62  # two sums below it still add up in int64
_NONE = -LIMIT  # the value of an entry no path may use: with any sum below LIMIT it stays negative
_GATHERED = 1 << 16  # cells copied at once: half a MiB, which stays in a core's cache


@dataclass(frozen=True, slots=True)
class PathSelection:
    """What is sent: masks shaped like the values, and the threshold.

    The threshold is the smallest squared norm among the best paths through the entries sent, 0 if nothing is sent. So
    an entry is sent if and only if some path through it reaches the threshold, and some path has exactly that norm.
    """

    nodes: tuple[Mask, ...]
    edges: tuple[Mask, ...]
    threshold: int


@dataclass(frozen=True, slots=True)
class Violation:
    """The first entry that contradicts a selection.

    `index` is `(neuron,)` for a node of `layer`, `(target, source)` for an edge from `layer` to the next, and `()` if
    nothing was sent and the threshold is not 0. `best` is the squared norm of the best fully sent path through the
    entry; -1 if there is none.
    """

    layer: int
    index: tuple[int, ...]
    best: int


def select_paths(
    nodes: Sequence[Integers], edges: Sequence[Integers], rate: Fraction, grid: int = GRID
) -> PathSelection:
    """Sends every node and edge whose best path reaches `cut`. A path of norm zero is never sent.

    Raises ValueError for shapes that do not fit, values that are not int64 or are negative, a path of 2**62 or more, a
    rate outside (0, 1] or a grid without cells.
    """
    least = max(cut(nodes, edges, rate, grid), 1)
    best_nodes, best_edges = _best(nodes, edges)
    sent_nodes, sent_edges = tuple(best >= least for best in best_nodes), tuple(best >= least for best in best_edges)
    # The best path through an entry sent is sent as a whole: each of its entries has a best path at least as good. So
    # a receiver, who sees only what was sent, finds the same best norms and the same minimum.
    threshold = _least(_in_order(sent_nodes, sent_edges, best_nodes, best_edges))
    return PathSelection(sent_nodes, sent_edges, threshold)


def verify_paths(
    selection_nodes: Sequence[Mask],
    selection_edges: Sequence[Mask],
    nodes: Sequence[Integers],
    edges: Sequence[Integers],
    threshold: int,
) -> Violation | None:
    """Checks a selection with nothing but what was sent: bool masks shaped like the values, and the values, which are
    read only where the masks say so. That no more was sent than the upload rate allows is for `least_threshold`.

    Every entry sent must lie on a path that is sent as a whole and reaches the threshold, a positive number; and the
    best path through some entry must have exactly that norm (see `PathSelection`). Returns None, or the first entry,
    nodes before edges in each layer, without such a path; or the first one with the smallest best path if the
    threshold is smaller still. Raises ValueError for shapes or dtypes that do not fit, negative values, and entries
    sent that add up to 2**62 or more along their way.
    """
    found = _best_sent(selection_nodes, selection_edges, nodes, edges)
    if short := _first(found, lambda best: best < max(threshold, 1)):
        return short
    if (least := _least(found)) != threshold:
        return _first(found, lambda best: best == least) or Violation(0, (), -1)
    return None


def attained(
    selection_nodes: Sequence[Mask],
    selection_edges: Sequence[Mask],
    nodes: Sequence[Integers],
    edges: Sequence[Integers],
) -> int:
    """The only threshold with which `verify_paths` can accept what was sent, from the same arguments: the smallest
    squared norm among the best fully sent paths through the entries; 0 if nothing was sent, or an entry has no such
    path. Raises ValueError as `verify_paths` does.
    """
    return _least(_best_sent(selection_nodes, selection_edges, nodes, edges))


def least_threshold(
    selection_nodes: Sequence[Mask],
    selection_edges: Sequence[Mask],
    nodes: Sequence[Integers],
    edges: Sequence[Integers],
    rate: Fraction,
    grid: int = GRID,
) -> int:
    """The threshold that the upload rate asks of what was sent, at the least: its cut, of as many paths as in the whole
    network but counted among those that were sent as a whole. From the same arguments as `verify_paths`; raises
    ValueError as that and `cut` do.

    What `select_paths` sends reaches it: the best path is sent, so the grid is the same; no cell holds more paths than
    in the whole network, so this cut is not above that one. Who sends all that reaches a lower norm sends all paths
    of the cells down to there (but for those of norm zero), and is asked for the cut of the whole network.
    """
    return _cut(*_sent_only(selection_nodes, selection_edges, nodes, edges), rate, grid)


def cut(nodes: Sequence[Integers], edges: Sequence[Integers], rate: Fraction, grid: int = GRID) -> int:
    """The squared norm that a path must reach, such that at most `ceil(rate * paths)` paths do, counted on a grid.

    With M the norm of the best path, a cell of the grid is `step = M // grid + 1` wide, so the grid just holds M. A
    path is counted in the cell `floor(node / step) + sum(floor((edge + next node) / step))`: at most L - 1 cells below
    that of its norm, L being the number of layers. The cut is `step` times the first cell such that it and those above
    hold at most `ceil(rate * paths)` paths; but never more than M, so the best path is always sent, whatever its ties.

    With B the exact cut (the smallest integer that at most `ceil(rate * paths)` norms reach, or M if that is smaller):

        B - (L - 1) * (step - 1)  <=  cut  <=  B + (step - 1)

    and cut = B on a grid finer than M, where step is 1. Counts are exact, so the cut is the same on every machine.
    Raises ValueError as `select_paths` does.
    """
    _check(nodes, edges)
    return _cut(nodes, edges, rate, grid)


def _cut(nodes: Sequence[Integers], edges: Sequence[Integers], rate: Fraction, grid: int) -> int:
    """The same, of a network in which no path may use the entries that are _NONE."""
    if not 0 < rate <= 1 or grid < 1:
        raise ValueError(f"rate {rate} is outside (0, 1], or grid {grid} has no cells")
    best = max(int(through.max()) for through in _best(nodes, edges)[0])
    if best < 1:  # no path, or none that is not zero
        return 0
    step = best // grid + 1
    left = ceil(rate * prod(len(layer) for layer in nodes))
    cell = grid
    for count in reversed(_histogram(nodes, edges, step, grid)):
        if count > left:
            break
        left -= count
        cell -= 1
    return min(cell * step, best)


def _best(nodes: Sequence[Integers], edges: Sequence[Integers]) -> tuple[list[Integers], list[Integers]]:
    """The norm of the best path through every node and every edge; -1 where there is none. Raises ValueError."""
    before = [nodes[0]]  # best way from the first layer to a node, inclusive
    for edge, node in zip(edges, nodes[1:], strict=True):
        before.append(_bounded(_bounded((edge + before[-1]).max(axis=1)) + node))
    after = np.zeros_like(nodes[-1])  # best way from a node to the last layer, exclusive
    best_nodes, best_edges = [before[-1]], []
    for node, edge, way in zip(reversed(nodes[1:]), reversed(edges), reversed(before[:-1]), strict=True):
        onward = _bounded(after + node)[:, None]
        best_edges.append(np.maximum(np.maximum(way + onward, _NONE) + edge, -1))
        after = _bounded((edge + onward).max(axis=0))
        best_nodes.append(way + after)
    return [np.maximum(best, -1) for best in reversed(best_nodes)], best_edges[::-1]


def _bounded(sums: Integers) -> Integers:
    if sums.max() >= LIMIT:
        raise ValueError(f"a path sums to {int(sums.max())}; it must stay below 2**62")
    return np.where(sums < 0, _NONE, sums)


def _histogram(nodes: Sequence[Integers], edges: Sequence[Integers], step: int, grid: int) -> list[int]:
    """The number of paths in each cell, exactly. What no path may use leads out of the grid.

    Counts are limbs of int64, `[limbs, n_l, grid]`: as many as the number of paths needs, and each so short that the
    sum over a layer's neurons, carry included, stays below 2**63.
    """
    bits = 63 - max(map(len, nodes)).bit_length()
    limbs = -(-prod(map(len, nodes)).bit_length() // bits)

    def cells(norms: Integers) -> Integers:
        return np.where(norms < 0, grid, np.minimum(norms // step, grid))

    steps = [cells(edge + node[:, None]) for edge, node in zip(edges, nodes[1:], strict=True)]
    # Each neuron of the first layer has one path so far: what arrives at the second is counted without shifting.
    first = cells(nodes[0])
    arriving = first + steps[0] if steps else first[:, None]
    counts = np.zeros((limbs, len(arriving), grid), np.int64)
    counts[0] = [np.bincount(row[row < grid], minlength=grid) for row in arriving]
    for onward, node in zip(steps[1:], nodes[2:], strict=True):
        base = np.clip(node // step, 0, grid)
        counts = np.stack([_shifted_sums(limb, onward - base[:, None], base) for limb in counts])
        for at in range(1, limbs):
            counts[at] += counts[at - 1] >> bits
            counts[at - 1] &= (1 << bits) - 1
    totals = counts.sum(axis=1).tolist()
    return [sum(limb << (bits * at) for at, limb in enumerate(parts)) for parts in zip(*totals, strict=True)]


def _shifted_sums(counts: Integers, shifts: Integers, bases: Integers) -> Integers:
    """For each target the sum over the sources of their counts `[sources, grid]`, moved up by `shifts[target, source]
    + bases[target]` cells: within the grid, which holds the best path, or by all of it, and so out of it.
    """
    sources, grid = counts.shape
    padded = np.pad(counts, ((0, 0), (grid, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded.ravel(), grid)
    unshifted = np.arange(sources) * 2 * grid + grid
    total, chunk = counts.sum(axis=0), max(1, _GATHERED // grid)
    sums = np.zeros((len(shifts), grid), np.int64)
    for row, shift, base in zip(sums, shifts, bases.tolist(), strict=True):
        moved = np.flatnonzero(shift)  # few: most edges are far below one cell
        ahead = row[base:]
        if 2 * len(moved) < sources:
            ahead += total[: grid - base]
            for at in range(0, len(moved), chunk):
                ahead -= counts[moved[at : at + chunk], : grid - base].sum(axis=0)
        else:
            moved = np.flatnonzero(shift + base < grid)
        starts = unshifted[moved] - shift[moved]
        for at in range(0, len(moved), chunk):
            ahead += windows[starts[at : at + chunk], : grid - base].sum(axis=0)
    return sums


def _check(nodes: Sequence[Integers], edges: Sequence[Integers]) -> None:
    sizes = [len(layer) for layer in nodes]
    shapes = [*((size,) for size in sizes), *((after, before) for before, after in pairwise(sizes))]
    values = (*nodes, *edges)
    if not sizes or not all(sizes) or [value.shape for value in values] != shapes:
        raise ValueError(f"nodes and edges of shapes {[value.shape for value in values]} are not those of a network")
    for value in values:
        if value.dtype != np.int64 or value.min() < 0 or value.max() >= LIMIT:
            raise ValueError("values must be int64, not negative, and below 2**62")


_Entries = tuple[int, Mask, Integers]  # layer, what was sent of it, best norms


def _best_sent(
    sent_nodes: Sequence[Mask], sent_edges: Sequence[Mask], nodes: Sequence[Integers], edges: Sequence[Integers]
) -> list[_Entries]:
    """With the best norms in the network of what was sent. Raises ValueError."""
    best_nodes, best_edges = _best(*_sent_only(sent_nodes, sent_edges, nodes, edges))
    return [*_in_order(sent_nodes, sent_edges, best_nodes, best_edges)]


def _sent_only(
    sent_nodes: Sequence[Mask], sent_edges: Sequence[Mask], nodes: Sequence[Integers], edges: Sequence[Integers]
) -> tuple[list[Integers], list[Integers]]:
    """Nodes and edges, _NONE where they were not sent. Raises ValueError."""
    claimed = [(mask.shape, mask.dtype) for mask in (*sent_nodes, *sent_edges)]
    expected = [(value.shape, np.dtype(bool)) for value in (*nodes, *edges)]
    if len(sent_nodes) != len(nodes) or claimed != expected:
        raise ValueError("the masks are not bool arrays shaped like the values")
    _check(nodes, edges)
    return (
        [np.where(mask, value, _NONE) for mask, value in zip(sent_nodes, nodes, strict=True)],
        [np.where(mask, value, _NONE) for mask, value in zip(sent_edges, edges, strict=True)],
    )


def _in_order(
    sent_nodes: Sequence[Mask], sent_edges: Sequence[Mask], nodes: Sequence[Integers], edges: Sequence[Integers]
) -> Iterator[_Entries]:
    """Layer after layer, nodes before the edges to the next."""
    for layer in range(len(nodes)):
        yield layer, sent_nodes[layer], nodes[layer]
        if layer < len(edges):
            yield layer, sent_edges[layer], edges[layer]


def _first(entries: Iterable[_Entries], wrong: Callable[[Integers], Mask]) -> Violation | None:
    for layer, sent, best in entries:
        if (where := sent & wrong(best)).any():
            index = tuple(int(at) for at in np.unravel_index(int(where.argmax()), where.shape))
            return Violation(layer, index, int(best[index]))
    return None


def _least(entries: Iterable[_Entries]) -> int:
    """The smallest best norm among what was sent; 0 if nothing was."""
    least = min(int(best[sent].min(initial=LIMIT)) for _, sent, best in entries)
    return max(least, 0) if least < LIMIT else 0
