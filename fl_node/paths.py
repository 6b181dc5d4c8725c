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
from typing import Any

import numpy as np

from fl_node.pathcut import GRID, LIMIT, NONE, Integers, bounded, check, cut, cut_of, paths_allowed

Mask = np.ndarray[Any, np.dtype[np.bool_]]


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
    """Sends every node and edge whose best path reaches `cut`; if more paths share the norm of the best one than the
    rate allows, those of them that come first (`_first_ties`). A path of norm zero is never sent.

    Raises ValueError for shapes that do not fit, values that are not int64 or are negative, a path of 2**62 or more, a
    rate outside (0, 1] or a grid of less than two cells.
    """
    least = max(cut(nodes, edges, rate, grid), 1)
    best_nodes, best_edges = _best(nodes, edges)
    sent_nodes, sent_edges = [best >= least for best in best_nodes], [best >= least for best in best_edges]
    if (best := int(best_nodes[0].max())) and best < least:
        left = paths_allowed(nodes, rate)
        sent_nodes, sent_edges = _first_ties([n == best for n in best_nodes], [e == best for e in best_edges], left)
    # The best path through an entry sent is sent as a whole: each of its entries has a best path at least as good. So
    # a receiver, who sees only what was sent, finds the same best norms and the same minimum.
    threshold = _least(_in_order(sent_nodes, sent_edges, best_nodes, best_edges))
    return PathSelection(tuple(sent_nodes), tuple(sent_edges), threshold)


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

    Where the threshold is not below it, no more than `ceil(rate * paths)` paths that were sent as a whole reach the
    threshold, whatever the values are. What `select_paths` sends is not below it: the best ways to the neurons sent
    are sent, so what a path falls short by is the same, and no cell holds more paths than in the whole network.
    """
    sent = _sent_only(selection_nodes, selection_edges, nodes, edges)
    return cut_of(*sent, paths_allowed(nodes, rate), grid)


def _first_ties(nodes: Sequence[Mask], edges: Sequence[Mask], allowed: int) -> tuple[list[Mask], list[Mask]]:
    """Of too many paths, all those through the first neurons of the first layer that are no more than allowed; if the
    first neuron's are too many, it alone is kept and the second layer decides, and so on. The masks say what any of
    the paths uses: so no other path is sent as a whole with them.
    """
    allowed = min(allowed, LIMIT // max(map(len, nodes)) - 1)  # counts end one above it, and their sums fit in int64
    onward = [np.ones(len(nodes[-1]), np.int64)]
    for edge in reversed(edges):
        onward.append(np.minimum(np.where(edge, onward[-1][:, None], 0).sum(axis=0), allowed + 1))
    kept_nodes: list[Mask] = []
    kept_edges: list[Mask] = []
    deciding = True
    for layer, counts in enumerate(reversed(onward)):
        here: Mask = np.logical_or.reduce(edges[layer - 1] & kept_nodes[-1], axis=1) if layer else nodes[0]
        if deciding:
            first = np.flatnonzero(here)
            fit = int((counts[first].cumsum() <= allowed).sum())
            here, deciding = np.zeros(len(here), bool), not fit
            here[first[: max(fit, 1)]] = True
        if layer:
            kept_edges.append(edges[layer - 1] & kept_nodes[-1] & here[:, None])
        kept_nodes.append(here)
    return kept_nodes, kept_edges


def _best(nodes: Sequence[Integers], edges: Sequence[Integers]) -> tuple[list[Integers], list[Integers]]:
    """The norm of the best path through every node and every edge; -1 where there is none. Raises ValueError."""
    before = [nodes[0]]  # best way from the first layer to a node, inclusive
    for edge, node in zip(edges, nodes[1:], strict=True):
        before.append(bounded(bounded((edge + before[-1]).max(axis=1)) + node))
    after = np.zeros_like(nodes[-1])  # best way from a node to the last layer, exclusive
    best_nodes, best_edges = [before[-1]], []
    for node, edge, way in zip(reversed(nodes[1:]), reversed(edges), reversed(before[:-1]), strict=True):
        onward = bounded(after + node)[:, None]
        best_edges.append(np.maximum(np.maximum(way + onward, NONE) + edge, -1))
        after = bounded((edge + onward).max(axis=0))
        best_nodes.append(way + after)
    return [np.maximum(best, -1) for best in reversed(best_nodes)], best_edges[::-1]


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
    """Nodes and edges, NONE where they were not sent. Raises ValueError."""
    claimed = [(mask.shape, mask.dtype) for mask in (*sent_nodes, *sent_edges)]
    expected = [(value.shape, np.dtype(bool)) for value in (*nodes, *edges)]
    if len(sent_nodes) != len(nodes) or claimed != expected:
        raise ValueError("the masks are not bool arrays shaped like the values")
    check(nodes, edges)
    return (
        [np.where(mask, value, NONE) for mask, value in zip(sent_nodes, nodes, strict=True)],
        [np.where(mask, value, NONE) for mask, value in zip(sent_edges, edges, strict=True)],
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
