"""The selection and the channel table against naive readings of the design."""

import hashlib
from decimal import Decimal
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chain.protocol.rules import SelectionRules
from fl_node.channels import ChannelTable, as_float, channel_norms, select
from fl_node.quantise import quantise

NORMS = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2**100)), min_size=1, max_size=40)
RATES = st.one_of(
    st.sampled_from(["1", "0.5", "0.25", "0.1", "0.001"]), st.decimals(Decimal("0.0001"), 1, places=4).map(str)
)


def rules(rate: str) -> SelectionRules:
    return SelectionRules(upload_rate=Decimal(rate))


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


@given(st.integers(1, 10_000), RATES)
def test_count_is_the_ceiling_of_rate_times_channels(channels: int, rate: str) -> None:
    count = rules(rate).count(channels)
    assert count - 1 < Fraction(rate) * channels <= count


def test_count_does_not_suffer_from_binary_fractions() -> None:
    """0.1 * 30 and 0.07 * 100 are above 3 and 7 in binary64."""
    assert rules("0.1").count(30) == 3
    assert rules("0.07").count(100) == 7


@given(NORMS)
def test_rate_one_sends_everything_but_zeros(norms: list[int]) -> None:
    assert select(norms, rules("1")) == tuple(channel for channel, norm in enumerate(norms) if norm)


@given(NORMS, RATES)
def test_table(norms: list[int], rate: str) -> None:
    sent = select(norms, rules(rate))
    table = ChannelTable(tuple(norms), sent)
    unsent = [norm for channel, norm in enumerate(norms) if channel not in sent]
    if sent:
        assert table.threshold == min(norms[channel] for channel in sent) > 0
        assert all(norm <= table.threshold for norm in unsent)
    else:
        assert table.threshold == 0 and not any(norms)
    leaves = [
        channel.to_bytes(4, "big") + norm.to_bytes(16, "big") + (b"\x01" if channel in sent else b"\x00")
        for channel, norm in enumerate(norms)
    ]
    assert table.root == naive_root(leaves)


@given(NORMS, st.data())
def test_root_binds_every_norm_and_every_choice(norms: list[int], data: st.DataObject) -> None:
    table = ChannelTable(tuple(norms), select(norms, rules("0.5")))
    channel = data.draw(st.integers(0, len(norms) - 1))
    louder = (*norms[:channel], norms[channel] + 1, *norms[channel + 1 :])
    assert ChannelTable(louder, table.sent).root != table.root
    flipped = tuple(sorted(set(table.sent) ^ {channel}))
    assert ChannelTable(table.squared_norms, flipped).root != table.root


@given(st.integers(0, 2**32), st.integers(1, 70), st.floats(-25, 7))
def test_norms_are_those_of_numpy(seed: int, width: int, magnitude: float) -> None:
    random = np.random.default_rng(seed)
    layers = [(random.normal(size=(rows, width)) * 2.0**magnitude).astype(np.float32) for rows in (3, 1, 2)]
    quantised = [quantise(np.clip(layer, -500, 500)) for layer in layers]
    values = [row for layer in quantised for row in layer.values().astype(np.float64)]
    norms = [as_float(squared) for squared in channel_norms(quantised)]
    np.testing.assert_allclose(norms, [np.linalg.norm(row) for row in values], rtol=1e-12)
