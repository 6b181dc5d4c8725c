"""The selection and the channel table against naive readings of the design."""

import hashlib
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chain.protocol.rules import CompressionRules, SelectionRules
from fl_node import selection
from fl_node.channels import ChannelTable, as_float, channel_norms, norm_code, norm_of_code
from fl_node.gradient import Layer, Layout
from fl_node.norms import Norms
from fl_node.quantise import quantise

HUGE = st.sampled_from(
    [0, 1, 2**126, 3 * 2**126, 2**128 - 1]
)  # nobody checks what is claimed of channels that were not sent
NORMS = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2**100)), min_size=1, max_size=40)
RATES = st.one_of(
    st.sampled_from(["1", "0.5", "0.25", "0.1", "0.001"]), st.decimals(Decimal("0.0001"), 1, places=4).map(str)
)


def rules(rate: str, **levers: Any) -> SelectionRules:
    return SelectionRules(upload_rate=Decimal(rate), **levers)


def layout_of(*widths: int) -> Layout:
    """One layer of one channel for each width."""
    layers = [Layer(f"l{at}", ((f"l{at}.w", (1, width)),), 1, width, at) for at, width in enumerate(widths)]
    return Layout(tuple(layers))


def select(norms: Sequence[int], chosen: SelectionRules, round_number: int = 1) -> tuple[int, ...]:
    return tuple(selection.select(Norms.of(norms), layout_of(*[5] * len(norms)), chosen, round_number).tolist())


def table_of(norms: Sequence[int], sent: Sequence[int]) -> ChannelTable:
    return ChannelTable(len(norms), np.array(sent, np.int64), Norms.of(norms[channel] for channel in sent))


def naive_root(leaves: list[bytes]) -> bytes:
    if len(leaves) <= 1:
        return hashlib.sha256(b"\x00" + leaves[0] if leaves else b"").digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def ceiling(rate: str, channels: int) -> int:
    exact, count = Fraction(rate) * channels, 0
    while count < exact:
        count += 1
    return count


@given(NORMS, RATES)
def test_selection_is_that_of_a_naive_sort(norms: list[int], rate: str) -> None:
    """One at a time: the largest norm left, of equals the first, until the count is reached or only zeros remain."""
    left, expected = dict(enumerate(norms)), []
    for _ in range(ceiling(rate, len(norms))):
        largest = max(left.values())
        if largest == 0:
            break
        expected.append(next(channel for channel in sorted(left) if left[channel] == largest))
        del left[expected[-1]]
    assert select(norms, rules(rate)) == tuple(sorted(expected))


@given(st.integers(1, 3000), RATES)
def test_count_is_the_ceiling_of_rate_times_channels(channels: int, rate: str) -> None:
    (budget,) = selection.budgets(layout_of(*[3] * channels), rules(rate), 1)
    assert budget.room - 1 < Fraction(rate) * channels <= budget.room


def test_count_does_not_suffer_from_binary_fractions() -> None:
    """0.1 * 30 and 0.07 * 100 are above 3 and 7 in binary64."""
    assert selection.budgets(layout_of(*[1] * 30), rules("0.1"), 1)[0].room == 3
    assert selection.budgets(layout_of(*[1] * 100), rules("0.07"), 1)[0].room == 7


@given(NORMS)
def test_rate_one_sends_everything_but_zeros(norms: list[int]) -> None:
    assert select(norms, rules("1")) == tuple(channel for channel, norm in enumerate(norms) if norm)


@given(NORMS, RATES)
def test_table(norms: list[int], rate: str) -> None:
    sent = select(norms, rules(rate))
    table = table_of(norms, sent)
    unsent = [norm for channel, norm in enumerate(norms) if channel not in sent]
    if sent:
        assert table.squared_norms.smallest == min(norms[channel] for channel in sent) > 0
        assert all(norm <= table.squared_norms.smallest for norm in unsent)
    else:
        assert table.squared_norms.smallest == 0 and not any(norms)


@given(st.sampled_from([0, 1, 2, 63, 64, 65, 127, 128, 129, 192, 193, 300]), st.randoms(use_true_random=True))
def test_root_is_that_of_a_naive_tree_of_64_channels_a_leaf(count: int, random: Random) -> None:
    sent = sorted(random.sample(range(1 << 32), count))
    norms = {channel: random.getrandbits(random.choice([3, 64, 100, 128])) for channel in sent}
    table = ChannelTable(1 << 32, np.array(sent, np.int64), Norms.of(norms.values()))
    entries = [channel.to_bytes(4, "big") + norms[channel].to_bytes(16, "big") for channel in sent]
    assert table.root == naive_root([b"".join(entries[at : at + 64]) for at in range(0, count, 64)])


@given(NORMS, st.data())
def test_root_binds_every_norm_and_every_choice(norms: list[int], data: st.DataObject) -> None:
    sent = select(norms, rules("0.5"))
    table = table_of(norms, sent)
    if sent:
        at = data.draw(st.integers(0, len(sent) - 1))
        louder = [norm + (channel == sent[at]) for channel, norm in enumerate(norms)]
        assert table_of(louder, sent).root != table.root
        assert table_of(norms, sent[:at] + sent[at + 1 :]).root != table.root


@given(st.integers(0, 2**32), st.integers(1, 70), st.floats(-25, 7))
def test_norms_are_those_of_numpy(seed: int, width: int, magnitude: float) -> None:
    random = np.random.default_rng(seed)
    layers = [(random.normal(size=(rows, width)) * 2.0**magnitude).astype(np.float32) for rows in (3, 1, 2)]
    quantised = [quantise(np.clip(layer, -500, 500), CompressionRules(bits=8)) for layer in layers]
    values = [row for layer in quantised for row in layer.values().astype(np.float64)]
    norms = [as_float(squared) for squared in channel_norms(quantised)]
    np.testing.assert_allclose(norms, [np.linalg.norm(row) for row in values], rtol=1e-12)


# ------------------------------------------------------------- the levers


CHANNELS = st.lists(st.tuples(st.integers(0, 50) | st.integers(0, 2**90), st.integers(1, 60)), min_size=1, max_size=25)


@given(CHANNELS, RATES, st.booleans(), st.booleans(), st.booleans())
def test_every_lever_against_a_naive_reading(
    channels: list[tuple[int, int]], rate: str, per_entry: bool, in_bytes: bool, by_layer: bool
) -> None:
    """The largest norm left that still fits, of equals the first; divided by the width in rational numbers."""
    norms, widths = [norm for norm, _ in channels], [width for _, width in channels]
    levers = {
        "norm": "per-entry" if per_entry else "euclidean",
        "budget": "bytes" if in_bytes else "channels",
        "scope": "layer" if by_layer else "model",
    }
    found = selection.select(Norms.of(norms), layout_of(*widths), rules(rate, **levers), 1)
    groups = [[at] for at in range(len(norms))] if by_layer else [list(range(len(norms)))]
    expected = set()
    for group in groups:
        cost = {at: widths[at] if in_bytes else 1 for at in group}
        room, left = ceiling(rate, sum(cost.values())), set(group)
        while left:
            size = {at: Fraction(norms[at], widths[at] if per_entry else 1) for at in left}
            best = min(left, key=lambda at: (-size[at], at))
            left.remove(best)
            if norms[best] and cost[best] <= room:
                expected.add(best)
                room -= cost[best]
    assert found.tolist() == sorted(expected)
    assert selection.over_budget(found, layout_of(*widths), rules(rate, **levers), 1) is None


def test_one_channel_too_many_is_over_budget() -> None:
    layout = layout_of(10, 10, 30, 50)
    assert selection.over_budget(np.array([0, 1]), layout, rules("0.5"), 1) is None
    assert selection.over_budget(np.array([0, 1, 2]), layout, rules("0.5"), 1)
    assert selection.over_budget(np.array([0, 1, 2]), layout, rules("0.5", budget="bytes"), 1) is None
    assert selection.over_budget(np.array([0, 3]), layout, rules("0.5", budget="bytes"), 1)
    assert (
        selection.over_budget(np.array([0, 1, 2, 3]), layout, rules("0.5", scope="layer"), 1) is None
    )  # one of one each
    assert selection.over_budget(np.array([3]), layout, rules("0.5", scope="layer", budget="bytes"), 1)


def test_the_first_rounds_have_rates_of_their_own() -> None:
    chosen = rules("0.1", warm_up=(Decimal(1), Decimal("0.5")))
    norms = list(range(1, 11))
    assert [len(select(norms, chosen, number)) for number in (1, 2, 3, 4)] == [10, 5, 1, 1]


@given(st.integers(0, 2**104), st.integers(0, 2**104))
def test_norm_codes_keep_the_order_and_lose_less_than_a_third(left: int, right: int) -> None:
    assert 0 <= norm_code(left) < 256
    floor = norm_of_code(norm_code(left))
    assert floor <= left and (left - floor) * 3 <= left and norm_code(floor) == norm_code(left)
    if left <= right:
        assert norm_code(left) <= norm_code(right)


@given(st.lists(st.one_of(NORMS, st.lists(HUGE, min_size=1, max_size=9)), min_size=0, max_size=4), RATES)
def test_the_common_set_is_that_of_the_summed_tables(tables: list[list[int]], rate: str) -> None:
    size = min((len(table) for table in tables), default=7)
    codes = [np.array([norm_code(norm) for norm in table[:size]], np.uint8) for table in tables]
    layout = layout_of(*[4] * size)
    sums = [min(sum(norm_of_code(int(table[at])) for table in codes), 2**128 - 1) for at in range(size)]
    summed = selection.summed_norms(codes, size)
    assert list(summed) == sums
    found = selection.common_channels(summed, layout, rules(rate, selection="common"), 2)
    if any(sums):
        assert list(found) == selection.select(Norms.of(sums), layout, rules(rate), 2).tolist()
    else:
        assert found == tuple(range(size))
    assert list(selection.summed_norms(codes[::-1], size)) == sums
