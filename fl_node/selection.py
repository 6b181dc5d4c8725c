"""The selection: which channels the rules let a node send, and the check of what one has sent.

A receiver sees the channels that were sent and their norms, which it computes itself; of the others it knows nothing
that it could check. So a node's own selection is verified against the budget and for sending nothing empty; a common
selection is derived by everybody and must be met exactly; the pieces of paths must make whole paths that reach the
threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, lcm
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from chain.protocol.errors import Code, ConfigError, VerificationError
from chain.protocol.rules import SelectionRules
from fl_node import paths
from fl_node.channels import ChannelTable, Codes, norm_of_code
from fl_node.gradient import Layout, Level
from fl_node.norms import LARGEST, Norms
from fl_node.pathcut import LIMIT
from fl_node.quantise import Integers

PATH_UNIT = 16  # bits that squared norms lose when they are added up along a path: its unit is 2**-44

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be sent of some channels: their costs (1 each, or their entries) add up to at most `room`."""

    channels: range
    costs: npt.NDArray[np.int64]
    room: int

    def spent(self, sent: npt.NDArray[np.int64]) -> int:
        """What these channels cost, as far as they are among its own. `sent` ascends."""
        first, last = sent.searchsorted(self.channels.start), sent.searchsorted(self.channels.stop)
        return int(self.costs[sent[first:last] - self.channels.start].sum())


@lru_cache(maxsize=4)  # of a round it is asked for with every update
def budgets(layout: Layout, rules: SelectionRules, round_number: int) -> tuple[Budget, ...]:
    """One for the model, or one for each layer; `ceil(rate * cost of all)`, in exact arithmetic."""
    rate, found = rules.rate(round_number), []
    in_bytes = rules.budget == "bytes"
    groups = [[layer] for layer in layout.layers] if rules.scope == "layer" else [list(layout.layers)]
    for layers in groups:
        costs = np.repeat([layer.width if in_bytes else 1 for layer in layers], [layer.channels for layer in layers])
        first = layers[0].first_channel
        found.append(Budget(range(first, first + len(costs)), costs, ceil(rate * int(costs.sum()))))
    return tuple(found)


def check_budgets(layout: Layout, rules: SelectionRules) -> None:
    """Raises ConfigError when there is no room for a single channel: it, or a layer, would never change."""
    for number in range(1, len(rules.warm_up) + 2) if rules.channels == "output" else ():
        for budget in budgets(layout, rules, number):
            if budget.room < (least := int(budget.costs.min())):
                rate = float(rules.rate(number))
                problem = f"selection: a rate of {rate:g} leaves room for {budget.room} of the entries"
                names = [layer.name for layer in layout.layers if layer.first_channel == budget.channels.start]
                where = f"in layer {names[0]}" if rules.scope == "layer" else "in the model"
                raise ConfigError("rules", f"{problem} {where}, where a channel has {least}", "raise upload_rate")


def select(norms: Norms, layout: Layout, rules: SelectionRules, round_number: int) -> Integers:
    """The channels to send, ascending: the largest norms within the budget, ties to the lower number, never a zero.

    A channel that does not fit any more is passed over.
    """
    order, fitting = _ranked(norms, layout, rules), []
    loud = order[~norms.zero[order]]
    for budget in budgets(layout, rules, round_number):
        ranked = loud[(loud >= budget.channels.start) & (loud < budget.channels.stop)]
        fitting.append(ranked[: budget.room] if rules.budget == "channels" else _fitting(ranked, budget))
    return np.sort(np.concatenate(fitting))


def _ranked(norms: Norms, layout: Layout, rules: SelectionRules) -> Integers:
    """All channels, the largest norm first, ties in ascending order. Per-entry norms are compared by
    cross-multiplication: squared norms times the least common multiple of all widths, divided by their own.
    """
    if rules.norm == "euclidean":
        return norms.ranked()
    common = lcm(*(layer.width for layer in layout.layers))
    widths = [layer.width for layer in layout.layers for _ in range(layer.channels)]
    sizes = [norm * (common // width) for norm, width in zip(norms, widths, strict=True)]
    return np.array(sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True), np.int64)  # a stable sort


def _fitting(ranked: Integers, budget: Budget) -> Integers:
    """Of these channels, one after the other, those for which there still is room."""
    fitting, room = [], budget.room
    for channel, cost in zip(ranked.tolist(), budget.costs[ranked - budget.channels.start].tolist(), strict=True):
        if cost <= room:
            fitting.append(channel)
            room -= cost
    return np.array(fitting, np.int64)


def over_budget(sent: Integers, layout: Layout, rules: SelectionRules, round_number: int) -> str | None:
    """Which budget these channels, ascending, break, in words; None if they break none."""
    for budget in budgets(layout, rules, round_number):
        if (spent := budget.spent(sent)) > budget.room:
            unit = "entries" if rules.budget == "bytes" else "channels"
            first, last = budget.channels.start, budget.channels.stop - 1
            return f"{spent} {unit} of channels {first} to {last}, at most {budget.room}"
    return None


def summed_norms(tables: Sequence[Codes], channels: int) -> Norms:
    """The norms that a common set follows from: the sums of the norm tables of a round's accepted updates."""
    sums = [0] * channels
    for table in tables:  # codes of what was not sent are only claimed: the largest there are must not add up too far
        sums = [min(total + norm_of_code(code), LARGEST) for total, code in zip(sums, table.tolist(), strict=True)]
    return Norms.of(sums)


def common_channels(summed: Norms, layout: Layout, rules: SelectionRules, round_number: int) -> tuple[int, ...]:
    """The one set that everybody sends: the largest of the summed norms of the round before.

    Everything, if they are all zero, as in round 1.
    """
    return tuple(select(summed, layout, rules, round_number).tolist()) or tuple(range(layout.channels))


def chosen(
    norms: Norms, layout: Layout, rules: SelectionRules, round_number: int, common: Sequence[int] | None
) -> Integers:
    """What an honest node sends of these squared norms, ascending; `common`: the round's common set, if it has one."""
    if rules.selection == "common":
        return _common_set(layout, common)
    if rules.channels == "path":
        nodes, edges = _path_values(np.arange(layout.channels), norms, layout)
        selected = paths.select_paths(nodes, edges, rules.rate(round_number))
        return _numbers(selected.nodes, selected.edges, layout)
    return select(norms, layout, rules, round_number)


def _common_set(layout: Layout, common: Sequence[int] | None) -> Integers:
    """The round's common set; before the first one, everything."""
    return np.arange(layout.channels) if common is None else np.array(common, np.int64)


def threshold(table: ChannelTable, layout: Layout) -> int:
    """The smallest selected norm, squared, in units of 2**-60: of a channel, or of the best path through a piece."""
    if not layout.levels:
        return table.squared_norms.smallest
    nodes, edges = _path_values(table.sent, table.squared_norms, layout)
    return paths.attained(*_path_masks(table.sent, layout), nodes, edges) << PATH_UNIT


def verify_selection(
    table: ChannelTable,
    layout: Layout,
    rules: SelectionRules,
    round_number: int,
    common: Sequence[int] | None,
    subject: str,
) -> None:
    """U5: raises VerificationError unless the rules allow to send just these channels in this round."""
    if rules.selection == "common":
        expected = _common_set(layout, common)
        if len(wrong := np.setxor1d(expected, table.sent)):
            found = f"a difference in {wrong[:8].tolist()}"
            raise VerificationError(Code.U5, subject, f"the {len(expected)} channels of the common set", found)
    elif rules.channels == "path":
        _verify_paths(table, layout, rules.rate(round_number), subject)
    else:
        if broken := over_budget(table.sent, layout, rules, round_number):
            raise VerificationError(Code.U5, subject, "channels within the upload rate", broken)
        if len(silent := table.sent[table.squared_norms.zero]):
            raise VerificationError(
                Code.U5, subject, "channels that are not empty", f"empty ones: {silent[:8].tolist()}"
            )


# ------------------------------------------------------------- pieces of paths


def _verify_paths(table: ChannelTable, layout: Layout, rate: Fraction, subject: str) -> None:
    """Every piece on a path that was sent as a whole and reaches the threshold, no more paths than the rate allows, and
    of a neuron all that is its own, or nothing. Raises VerificationError (U5).
    """
    masks, (nodes, edges) = _path_masks(table.sent, layout), _path_values(table.sent, table.squared_norms, layout)
    reached = threshold(table, layout) >> PATH_UNIT
    if violation := paths.verify_paths(*masks, nodes, edges, reached):
        where = f"level {violation.layer + 1}, neurons {list(violation.index)}"
        raise VerificationError(Code.U5, subject, "every piece on a path that was sent as a whole", where)
    if len(alone := np.setxor1d(_numbers(*masks, layout), table.sent)):
        found = f"a part of what belongs to one neuron: channels {alone[:8].tolist()}"
        raise VerificationError(Code.U5, subject, "every piece on a path that was sent as a whole", found)
    if reached < (least := paths.least_threshold(*masks, nodes, edges, rate)):
        expected = f"paths within the upload rate: their squared norms at least {least << PATH_UNIT}"
        raise VerificationError(Code.U5, subject, expected, f"paths down to {reached << PATH_UNIT}")


def _path_values(channels: Integers, norms: Norms, layout: Layout) -> tuple[list[Integers], list[Integers]]:
    """Nodes and edges, level after level, in units of 2**-44; 0 for channels not given. Capped so that no path can
    overflow: the cap is far beyond any gradient.
    """
    cap = (LIMIT - 1) // (3 * len(layout.layers))
    values = np.zeros(layout.channels, np.int64)
    values[channels] = [min(norm >> PATH_UNIT, cap) for norm in norms]
    nodes: list[Integers] = []
    edges: list[Integers] = []
    for level, before in _levels(layout):
        parts = [_of_layer(values, layout, index) for index in level.nodes]
        nodes.append(sum(parts, np.zeros(level.neurons, np.int64)))
        if level.edges is not None:
            edges.append(_of_layer(values, layout, level.edges).reshape(level.neurons, before))
    return nodes, edges


def _path_masks(sent: Integers, layout: Layout) -> tuple[list[paths.Mask], list[paths.Mask]]:
    """What was sent of nodes and edges. A neuron with nothing of its own counts as sent where an edge to it was."""
    mask = np.zeros(layout.channels, bool)
    mask[sent] = True
    nodes: list[paths.Mask] = []
    edges: list[paths.Mask] = []
    for level, before in _levels(layout):
        if level.edges is not None:
            edges.append(_of_layer(mask, layout, level.edges).reshape(level.neurons, before))
        parts = [_of_layer(mask, layout, index) for index in level.nodes]
        alone = np.ones(level.neurons, bool) if parts else np.logical_or.reduce(edges[-1], axis=1)
        for part in parts:
            alone = alone & part
        nodes.append(alone)
    return nodes, edges


def _numbers(nodes: Sequence[paths.Mask], edges: Sequence[paths.Mask], layout: Layout) -> Integers:
    """The channel numbers of selected nodes and edges, ascending."""
    mask = np.zeros(layout.channels, bool)
    remaining = iter(edges)
    for (level, _), sent in zip(_levels(layout), nodes, strict=True):
        for index in level.nodes:
            _of_layer(mask, layout, index)[:] = sent
        if level.edges is not None:
            _of_layer(mask, layout, level.edges)[:] = next(remaining).ravel()
    return np.flatnonzero(mask)


def _levels(layout: Layout) -> list[tuple[Level, int]]:
    """Every level with the number of neurons in the one before it."""
    return list(zip(layout.levels, (1, *(level.neurons for level in layout.levels)), strict=False))


def _of_layer(values: npt.NDArray[T], layout: Layout, index: int) -> npt.NDArray[T]:
    layer = layout.layers[index]
    return values[layer.first_channel : layer.first_channel + layer.channels]
