"""Aggregation against exact rational arithmetic, entry by entry: the same bits in any order, with any threads."""

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fl_node.aggregate
from chain.protocol.digest import Digest
from chain.protocol.round import Round
from chain.protocol.rules import Rules
from fl_node import making, update
from fl_node.aggregate import aggregate, participant_weights
from fl_node.gather import accepted_updates, gather, verdicts_of
from fl_node.gradient import Layout
from fl_node.quantise import EXPONENT_MAX, Quantised, blocks
from fl_node.store import BlobStore
from fl_node.update import LayerUpdate
from fl_node.verify import VerifiedUpdate
from fl_node.weights import model_digest

Tensors = dict[str, np.ndarray[Any, Any]]

SHAPES: dict[str, tuple[int, ...]] = {"a.weight": (3, 34), "a.bias": (3,), "b.weight": (2, 2, 2), "c": ()}
BASE = Digest.of(b"base")
ELEMENT_MAX = 127
MODES = [(weighting, weights) for weighting in ("all", "senders", "root") for weights in ("records", "equal")]


FORMS: list[dict[str, Any]] = [  # of updates: signs in few places; signs, rows and few entries in several blocks a row
    {},
    {"bits": 2, "block": 9, "entry_rate": Decimal("0.5")},
    {"bits": 8, "block": 8},
    {"bits": 3, "block": 5, "entry_rate": Decimal("0.6")},
]


def rules(
    rate: str = "0.5",
    weighting: str = "all",
    weights: str = "records",
    form: dict[str, Any] | None = None,
    **server: Any,
) -> Rules:
    document = {
        "format": "roundledger-federation/1",
        "name": "aggregation",
        "model": {"factory": "mlp"},
        "data": {"classes": ["a", "b"], "features": ["x"]},
        "training": {"rounds": 3},
        "selection": {"upload_rate": Decimal(rate)},
        "compression": form or {},
        "aggregation": {"weighting": weighting, "weights": weights, **server},
    }
    return Rules.parse(document, "test")


def model(seed: int) -> Tensors:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def address(number: int) -> str:
    return f"0x{number:040x}"


def verified(
    layout: Layout, seed: int, number: int, records: int, rate: str = "0.5", form: dict[str, Any] | None = None
) -> VerifiedUpdate:
    random, gradient = np.random.default_rng([seed, number]), []
    for layer in layout.layers:  # of very different magnitudes from block to block, where there are blocks
        spread = np.ldexp(1.0, random.integers(-6, 7, (layer.channels, -(-layer.width // 5))).repeat(5, axis=1))
        matrix = random.normal(size=(layer.channels, layer.width)) * spread[:, : layer.width]
        gradient.append((matrix * 2.0 ** int(random.integers(-19, -3))).astype(np.float32))
    made = making.make_update(gradient, layout, rules(rate, form=form), address(number), 1, BASE)
    return VerifiedUpdate(address(number), records, made.layers)


def naive_weights(updates: Sequence[VerifiedUpdate], weights: str) -> list[int]:
    """As documented: shares of 2**16 by the number of records (or equal ones), rounded down but at least 1; what is
    left goes to the largest.
    """
    counts = [max(1, item.records) if weights == "records" else 1 for item in updates]
    shares = [max(1, math.floor(Fraction(count, sum(counts)) * 65536)) for count in counts]
    largest = max(range(len(shares)), key=lambda at: (shares[at], -at))
    shares[largest] += max(0, 65536 - sum(shares))
    return shares


def naive_divisor(weighting: str, senders: int, everybody: int) -> Fraction:
    """The root to twelve binary places, as documented."""
    if weighting == "root":
        return Fraction(math.isqrt(senders * everybody * 4**12), 2**12)
    return Fraction(senders if weighting == "senders" else everybody)


def naive_aggregate(
    base: Tensors,
    updates: Sequence[VerifiedUpdate],
    weighting: str,
    weights: str,
    server: tuple[Fraction, Fraction] = (Fraction(1), Fraction(0)),
    before: Tensors | None = None,
) -> list[Any]:
    """One entry after the other, in rational numbers. `server`: learning rate and momentum."""
    layout, shares = Layout.of(base), naive_weights(updates, weights)
    matrices, earlier = layout.matrices(base), layout.matrices(before or base)
    for index, (layer, matrix) in enumerate(zip(layout.layers, matrices, strict=True)):
        for channel in range(layer.channels):
            sent: list[tuple[int, list[Fraction]]] = []
            for share, item in zip(shares, updates, strict=True):
                rows = item.layers[index].channels.tolist()
                if channel in rows:
                    values = item.layers[index].values.values()[rows.index(channel)].tolist()
                    sent.append((share, [Fraction(value) for value in values]))
            for column in range(layer.width):
                total = sum((share * values[column] for share, values in sent), Fraction(0))
                senders = sum(share for share, values in sent if values[column])
                # Python rounds a Fraction half to even.
                units = round(total / naive_divisor(weighting, senders, sum(shares)) * 2**30) if senders else 0
                units = round(units * server[0])
                move = Fraction(float(matrix[channel, column])) - Fraction(float(earlier[index][channel, column]))
                units += round(round(move * 2**30) * server[1])
                if units:
                    moved = float(matrix[channel, column]) + units / 2**30
                    matrix[channel, column] = np.float32(moved)
    return matrices


def assert_bits(found: Tensors, layout: Layout, expected: list[Any]) -> None:
    for name, tensor in layout.tensors(expected).items():
        assert found[name].dtype == np.float32 and found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes()


RECORDS = st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**64 - 1)), min_size=1, max_size=5)


FORM = st.sampled_from(FORMS)


@settings(max_examples=150)
@given(st.integers(0, 2**32), RECORDS, st.sampled_from(MODES), st.sampled_from(["1", "0.5", "0.2"]), FORM)
def test_it_is_the_naive_aggregate_in_any_order(
    seed: int, records: list[int], mode: tuple[str, str], rate: str, form: dict[str, Any]
) -> None:
    base = model(seed)
    layout = Layout.of(base)
    updates = [verified(layout, seed, number, count, rate, form) for number, count in enumerate(records, start=1)]
    chosen = rules(rate, *mode).aggregation
    ordered = sorted(updates, key=lambda item: item.participant)
    assert participant_weights(ordered, chosen) == naive_weights(ordered, mode[1])
    found = aggregate(base, updates, layout, chosen)
    assert_bits(found, layout, naive_aggregate(base, ordered, *mode))
    for other in (updates[::-1], updates[1:] + updates[:1]):
        assert model_digest(aggregate(base, other, layout, chosen)) == model_digest(found)


@settings(max_examples=100)
@given(st.integers(0, 2**32), RECORDS, st.sampled_from(MODES), FORM, st.integers(1, 400), st.sampled_from([1, 3]))
def test_neither_pieces_nor_threads_nor_old_memory_matter(
    seed: int, records: list[int], mode: tuple[str, str], form: dict[str, Any], at_once: int, threads: int
) -> None:
    """A layer is worked on in pieces of some rows, on several threads, in memory that held another model."""
    base, chosen = model(seed), rules("0.5", *mode).aggregation
    layout = Layout.of(base)
    updates = [verified(layout, seed, number, count, "0.5", form) for number, count in enumerate(records, start=1)]
    with patch.object(fl_node.aggregate, "_AT_ONCE", at_once):
        found = aggregate(base, updates, layout, chosen, threads=threads, into=model(seed + 1))
    assert_bits(found, layout, naive_aggregate(base, updates, *mode))


SERVERS = [("0.5", "0"), ("1", "0.9"), ("1.3333", "0.3333"), ("16", "0.9999")]


@settings(max_examples=80)
@given(st.integers(0, 2**32), st.sampled_from(SERVERS), st.sampled_from(MODES), FORM)
def test_server_learning_rate_and_momentum(
    seed: int, server: tuple[str, str], mode: tuple[str, str], form: dict[str, Any]
) -> None:
    base, before = model(seed), model(seed + 1)
    layout = Layout.of(base)
    updates = [verified(layout, seed, number, 3 * number, "0.5", form) for number in (1, 2, 3)]
    rate, momentum = map(Decimal, server)
    chosen = rules("0.5", *mode, server_learning_rate=rate, server_momentum=momentum).aggregation
    factors = (Fraction(rate), Fraction(momentum))
    assert_bits(
        aggregate(base, updates, layout, chosen, before),
        layout,
        naive_aggregate(base, updates, *mode, factors, before),
    )
    first = aggregate(base, updates, layout, chosen, None)  # round 1: no move before it
    assert_bits(first, layout, naive_aggregate(base, updates, *mode, (factors[0], Fraction(0))))


def whole_units(layout: Layout, number: int, element: int) -> VerifiedUpdate:
    """Every entry is `element` units of 2**-30."""
    layers = []
    for layer in layout.layers:
        elements = np.full((layer.channels, layer.width), element, np.int8)
        exponents = np.full((layer.channels, blocks(layer.width, 32)), -30, np.int8)
        layers.append(LayerUpdate(np.arange(layer.channels), Quantised(elements, exponents, 32)))
    return VerifiedUpdate(address(number), 1, tuple(layers))


@pytest.mark.parametrize(
    ("elements", "mean"), [((1, 0), 0), ((3, 0), 2), ((5, 0), 2), ((-1, 0), 0), ((-3, 0), -2), ((2, 1, 1), 1)]
)
def test_halves_go_to_the_even_unit(elements: tuple[int, ...], mean: int) -> None:
    base = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    updates = [whole_units(Layout.of(base), number, element) for number, element in enumerate(elements, start=1)]
    for tensor in aggregate(base, updates, Layout.of(base), rules().aggregation).values():
        assert (tensor == np.float32(mean * 2.0**-30)).all()


@given(st.integers(0, 2**32), st.sampled_from(MODES))
def test_a_channel_nobody_sent_keeps_its_exact_bits(seed: int, mode: tuple[str, str]) -> None:
    base = model(seed)
    base["a.weight"][1, :4] = [-0.0, np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max, -1e-38]
    layout = Layout.of(base)
    updates = [verified(layout, seed, number, 3, rate="0.2") for number in (1, 2)]
    after = layout.matrices(aggregate(base, updates, layout, rules("0.2", *mode).aggregation))
    for index, (layer, before) in enumerate(zip(layout.layers, layout.matrices(base), strict=True)):
        moved = {int(channel) for item in updates for channel in item.layers[index].channels}
        for channel in set(range(layer.channels)) - moved:
            assert after[index][channel].tobytes() == before[channel].tobytes()


def test_without_updates_the_model_stays() -> None:
    base = model(1)
    for mode in MODES:
        assert model_digest(aggregate(base, [], Layout.of(base), rules("1", *mode).aggregation)) == model_digest(base)


def test_a_lone_sender_among_silent_ones() -> None:
    """`all`: the silent ones count as zero; `senders`: they do not count; `root`: half-way."""
    base = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    layout = Layout.of(base)
    silent = tuple(LayerUpdate(part.channels[:0], part.values.rows([])) for part in whole_units(layout, 1, 1).layers)
    updates = [whole_units(layout, 1, 100), *(VerifiedUpdate(address(n), 1, silent) for n in (2, 3, 4))]
    for weighting, expected in (("all", 25), ("senders", 100), ("root", 50)):
        for tensor in aggregate(base, updates, layout, rules("1", weighting).aggregation).values():
            assert (tensor == np.float32(expected * 2.0**-30)).all()


@pytest.mark.parametrize("mode", MODES, ids="-".join)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_worst_case_does_not_overflow(mode: tuple[str, str], sign: int) -> None:
    """Many participants, all at the largest value there is, with record counts as skewed as a ledger can hold."""
    base = {"w": np.zeros((1, 2), np.float32)}
    values = Quantised(np.full((1, 2), sign * ELEMENT_MAX, np.int8), np.full((1, 1), EXPONENT_MAX, np.int8), 32)
    largest = (LayerUpdate(np.array([0]), values),)
    records = [2**64 - 1] * 3 + [0] * 4000 + [1] * 4000
    updates = [VerifiedUpdate(address(number), count, largest) for number, count in enumerate(records, start=1)]
    after = aggregate(base, updates, Layout.of(base), rules("1", *mode).aggregation)
    assert (after["w"] == sign * 508).all()


# ------------------------------------------------------------------- threads, processes


def revealed_round(folder: Path, layout: Layout, chosen: Rules, participants: int) -> tuple[BlobStore, Round]:
    """A round of which every update is in the store; the third one is damaged, the fourth one missing."""
    store = BlobStore(folder)
    roster = {address(number): number for number in range(1, participants + 1)}
    round_ = Round(1, BASE, roster, deadline=0, opened=0)
    for who, number in roster.items():
        random = np.random.default_rng(number)
        gradient = [random.normal(size=(layer.channels, layer.width)).astype(np.float32) for layer in layout.layers]
        made = making.make_update(gradient, layout, chosen, who, 1 + (number == 3), BASE)
        blob = update.encode(made, chosen.compression, layout)
        if number != 4:
            store.put(blob)
        round_.reveals[who] = making.describe(made, blob, layout, BASE, BASE, 10 * number, bytes(32))
    return store, round_


def test_one_thread_and_four_give_the_same(tmp_path: Path) -> None:
    base, chosen = model(5), rules()
    layout = Layout.of(base)
    store, round_ = revealed_round(tmp_path, layout, chosen, participants=9)
    outcomes = []
    for threads in (1, 4):
        results = gather(store, round_, layout, chosen, threads=threads)
        assert list(results) == list(round_.roster)
        after = aggregate(base, accepted_updates(results), layout, chosen.aggregation)
        outcomes.append((verdicts_of(results, round_), model_digest(after)))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == bytes([1, 1, 3, 2, 1, 1, 1, 1, 1])  # U2 and U1, the others accepted


FEATURES = np._core._multiarray_umath  # what numpy chooses between at run time, and what this machine has
OPTIONAL = [name for name in FEATURES.__cpu_dispatch__ if FEATURES.__cpu_features__.get(name)]
PROGRAM = """
import sys; sys.path.insert(0, sys.argv[1])
import test_aggregate as t
base = t.model(5); layout = t.Layout.of(base)
updates = [t.verified(layout, 5, number, 7 * number) for number in (1, 2, 3)]
print(t.model_digest(t.aggregate(base, updates, layout, t.rules().aggregation)))
"""


@pytest.mark.parametrize("threads", ["1", "4"])
def test_the_threads_of_numpy_make_no_difference(threads: str) -> None:
    base = model(5)
    updates = [verified(Layout.of(base), 5, number, 7 * number) for number in (1, 2, 3)]
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    # Numpy's oldest code paths as well: the newer instruction sets of this machine must make no difference.
    environment = os.environ | dict.fromkeys(variables, threads) | {"NPY_DISABLE_CPU_FEATURES": " ".join(OPTIONAL)}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(Path(__file__).parent)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert found == str(model_digest(aggregate(base, updates, Layout.of(base), rules().aggregation)))
