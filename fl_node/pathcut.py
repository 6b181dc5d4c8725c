"""How many paths through a feed-forward network reach a norm: counted on a grid, layer by layer, and none enumerated.

For what a path is, and for the shapes of nodes and edges, see `fl_node.paths`.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil, prod
from typing import Any

import numpy as np

Integers = np.ndarray[Any, np.dtype[np.int64]]

GRID = 1024
LIMIT = 1 << 62  # two sums below it still add up in int64
NONE = -LIMIT  # the value of an entry no path may use: with any sum below LIMIT it stays negative
_GATHERED = 1 << 16  # cells copied at once: half a MiB, which stays in a core's cache


def cut(nodes: Sequence[Integers], edges: Sequence[Integers], rate: Fraction, grid: int = GRID) -> int:
    """A squared norm that at most `ceil(rate * paths)` paths reach, counted on a grid.

    With M the norm of the best path, a path falls short of M by the sum over its edges of what the way by this edge
    falls short of the best way to the same neuron (to the end, for the last edge). A cell of the grid is `step = M //
    grid + 1` wide; a path is counted in the cell `sum(floor(short / step))`: up to as many cells better than its own
    as it has edges, and never worse. The cut lies below all cells, from the best on, that together hold at most
    `ceil(rate * paths)` paths. If already the first one holds more, it is divided by a finer grid, and so on; if even
    the paths of norm M are too many, the cut is M + 1.

    With B the exact cut, the smallest integer that at most `ceil(rate * paths)` norms reach:

        B  <=  cut  <=  B + edges * (step - 1)

    with `edges` those of a path (1 in a network of one layer), and cut = B on a grid finer than M, where step is 1.
    Counts are exact, so the cut is the same on every machine. Raises ValueError as `select_paths` does.
    """
    check(nodes, edges)
    return cut_of(nodes, edges, paths_allowed(nodes, rate), grid)


def paths_allowed(nodes: Sequence[Integers], rate: Fraction) -> int:
    """How many paths may be sent."""
    if not 0 < rate <= 1:
        raise ValueError(f"rate {rate} is outside (0, 1]")
    return ceil(rate * prod(len(layer) for layer in nodes))


def cut_of(nodes: Sequence[Integers], edges: Sequence[Integers], allowed: int, grid: int) -> int:
    """The same, for so many paths, of a network in which no path may use the entries that are NONE."""
    if grid < 2:
        raise ValueError(f"a grid of {grid} cells cannot be made finer")
    shortfalls, best = _shortfalls(nodes, edges)
    window = best + 1  # the shortfalls that the grid covers: all, or what one cell was before
    while window > 0:
        step = -(-window // grid)
        within, cells = 0, 0
        for count in _histogram(shortfalls, step, -(-window // step)):
            if (within := within + count) > allowed:
                break
            cells += 1
        if cells:
            return best + 1 - min(cells * step, window)
        window = step if step > 1 else 0
    return best + 1


def _shortfalls(nodes: Sequence[Integers], edges: Sequence[Integers]) -> tuple[list[Integers], int]:
    """For each edge what the way by it falls short of the best way to its target, for each edge to the last layer what
    it falls short of the best path: `[n_{l+1}, n_l]`, LIMIT where no path may go. And the norm of the best path, -1
    if there is none. A network of one layer has an edge from each neuron to the end. Raises ValueError.
    """
    ways, tops, forward = [], [], nodes[0]
    for edge, node in zip(edges, nodes[1:], strict=True):
        ways.append(np.maximum(edge + forward, NONE))
        tops.append(bounded(ways[-1].max(axis=1)))
        forward = bounded(tops[-1] + node)
    best = max(int(forward.max()), -1)
    whole = ways[-1] + nodes[-1][:, None] if ways else nodes[0][None, :]
    ways, tops = [*ways[:-1], whole], [*tops[:-1], np.full(len(whole), best)]
    return [np.where(way < 0, LIMIT, top[:, None] - way) for way, top in zip(ways, tops, strict=True)], best


def _histogram(shortfalls: Sequence[Integers], step: int, cells: int) -> list[int]:
    """The number of paths in each cell, exactly, of those that stay within the cells.

    Counts are limbs of int64, `[limbs, n_l, cells]`: as many as the number of paths needs, and each so short that the
    sum over a layer's neurons, carry included, stays below 2**63.
    """
    sizes = [len(shortfalls[-1]), *(short.shape[1] for short in shortfalls)]
    bits = 63 - max(sizes).bit_length()
    limbs = -(-prod(sizes).bit_length() // bits)
    shifts = [np.minimum(short // step, cells) for short in shortfalls]
    # Each neuron of the first layer has one path so far: what arrives at the second is counted without shifting.
    counts = np.zeros((limbs, len(shifts[0]), cells), np.int64)
    counts[0] = [np.bincount(row[row < cells], minlength=cells) for row in shifts[0]]
    for shift in shifts[1:]:
        counts = np.stack([_shifted_sums(limb, shift) for limb in counts])
        for at in range(1, limbs):
            counts[at] += counts[at - 1] >> bits
            counts[at - 1] &= (1 << bits) - 1
    totals = counts.sum(axis=1).tolist()
    return [sum(limb << (bits * at) for at, limb in enumerate(parts)) for parts in zip(*totals, strict=True)]


def _shifted_sums(counts: Integers, shifts: Integers) -> Integers:
    """For each target the sum over the sources of their counts `[sources, cells]`, moved up by `shifts[target, source]`
    cells; what leaves them is lost.
    """
    sources, cells = counts.shape
    padded = np.pad(counts, ((0, 0), (cells, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded.ravel(), cells)
    unshifted = np.arange(sources) * 2 * cells + cells
    chunk = max(1, _GATHERED // cells)
    sums = np.zeros((len(shifts), cells), np.int64)
    for target, shift in enumerate(shifts):
        moved = np.flatnonzero(shift < cells)
        starts = unshifted[moved] - shift[moved]
        for at in range(0, len(moved), chunk):
            sums[target] += windows[starts[at : at + chunk]].sum(axis=0)
    return sums


def bounded(sums: Integers) -> Integers:
    if sums.max() >= LIMIT:
        raise ValueError(f"a path sums to {int(sums.max())}; it must stay below 2**62")
    return np.where(sums < 0, NONE, sums)


def check(nodes: Sequence[Integers], edges: Sequence[Integers]) -> None:
    sizes = [len(layer) for layer in nodes]
    shapes = [*((size,) for size in sizes), *((after, before) for before, after in pairwise(sizes))]
    values = (*nodes, *edges)
    if not sizes or not all(sizes) or [value.shape for value in values] != shapes:
        raise ValueError(f"nodes and edges of shapes {[value.shape for value in values]} are not those of a network")
    for value in values:
        if value.dtype != np.int64 or value.min() < 0 or value.max() >= LIMIT:
            raise ValueError("values must be int64, not negative, and below 2**62")
