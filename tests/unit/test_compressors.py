"""The reference compressors: what they promise, and that slow versions written from the papers agree."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.compressors import DGC, STC, Arrays, Compressor, Dense, PowerSGD, TopK, Weighting, golomb
from benchmarks.compressors.interface import flatten, weighted_mean
from benchmarks.compressors.sparse import Sparse, decode_floats, encode_floats, kept_count, largest
from benchmarks.compressors.stc import decode_ternary, encode_ternary

RATES = st.sampled_from([0.01, 0.07, 0.3, 0.5, 0.9, 1.0])
WEIGHTINGS: st.SearchStrategy[Weighting] = st.sampled_from(["all", "root"])
ALL: dict[str, Callable[[], Compressor]] = {
    "dense": Dense,
    "top-k": lambda: TopK(0.1),
    "top-k, forgetful": lambda: TopK(0.1, residual=False),
    "top-k, root": lambda: TopK(0.1, weighting="root"),
    "dgc": lambda: DGC(0.1, clip=2.0, warmup=[0.5]),
    "dgc, whole model": lambda: DGC(0.1, per_tensor=False),
    "power-sgd": lambda: PowerSGD(2),
    "stc": lambda: STC(0.1),
    "stc, root": lambda: STC(0.1, "root"),
}
SHAPES: list[tuple[int, ...]] = [(9, 11), (9,), (), (4, 3, 2, 2), (1, 5)]
each_compressor = pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())


@dataclass(frozen=True)
class Federation:
    weights: list[float]
    rounds: list[list[Arrays]]  # for each round, for each participant


def made(seed: int, participants: int = 3, rounds: int = 3, coarse: bool = False) -> Federation:
    """Changes of all magnitudes, or eighths that often are equal or zero."""
    random = np.random.default_rng(seed)

    def tensor(shape: tuple[int, ...]) -> Any:
        values = random.integers(-9, 10, shape) / 8 if coarse else random.standard_normal(shape) ** 3
        return np.asarray(values, np.float32)

    weights = random.dirichlet(np.ones(participants)).tolist()
    return Federation(weights, [[[*map(tensor, SHAPES)] for _ in range(participants)] for _ in range(rounds)])


federations = st.builds(made, st.integers(0, 2**32), st.integers(2, 4), st.integers(2, 4), st.booleans())
alone = st.builds(made, st.integers(0, 2**32), st.just(1), st.integers(2, 4), st.booleans())


def close(one: Arrays, other: Arrays, tolerance: float = 1e-5) -> None:
    for left, right in zip(one, other, strict=True):
        assert left.shape == right.shape
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def equal(one: Arrays, other: Arrays) -> None:
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right, strict=True)


# Golomb code


@st.composite
def entries(draw: st.DrawFn) -> tuple[Any, Any, int]:
    """Positions, payloads, and the payloads' bits."""
    size, bits = draw(st.integers(1, 3000)), draw(st.sampled_from([0, 1, 8, 32]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    positions = np.flatnonzero(random.random(size) < draw(st.floats(0, 1)))
    return positions, random.integers(0, 2**bits, positions.size, np.uint64), bits


@settings(max_examples=200)
@given(entries(), st.integers(0, 20))
def test_golomb_code_comes_back_and_its_length_is_known_before(message: tuple[Any, Any, int], b: int) -> None:
    positions, payloads, bits = message
    encoded = golomb.encode(positions, payloads, bits, b)
    assert len(encoded) == golomb.encoded_length(positions, bits, b)
    for found, given_ in zip(golomb.decode(encoded, bits, b), (positions, payloads), strict=True):
        np.testing.assert_array_equal(found, given_)


def test_golomb_code_bit_by_bit() -> None:
    encoded = golomb.encode(np.array([2, 9]), np.array([1, 0], np.uint64), 1, 2)
    assert encoded == bytes([0b0_10_1_10_10, 0b0_1111111])  # gaps 2 and 6


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.004, 0.01, 0.0625, 0.1, 0.25, 0.5, 0.7, 0.99, 1.0])
def test_the_rice_parameter_is_the_best_for_its_share(share: float) -> None:
    """Expected bits of a position, from the paper: b + 1 / (1 - (1 - p)**(2**b))."""
    bits = [b + 1 / (1 - (1 - share) ** 2**b) for b in range(20)]
    assert golomb.rice_parameter(round(share * 1_000_000), 1_000_000) == np.argmin(bits)


# Messages


@settings(max_examples=30)
@given(alone, RATES)
def test_sparse_uploads_are_messages_that_decode_to_the_applied_change(federation: Federation, rate: float) -> None:
    """One participant with weight 1: what is applied is what was sent."""
    size = sum(math.prod(shape) for shape in SHAPES)
    b = golomb.rice_parameter(kept_count(rate, size), size)
    for compressor, encode, decode in [
        (TopK(rate), encode_floats, decode_floats),
        (DGC(rate, per_tensor=False), encode_floats, decode_floats),
        (STC(rate), encode_ternary, decode_ternary),
    ]:
        for changes in federation.rounds:
            applied, upload = compressor.round(changes, [1.0])
            flat = flatten(applied)
            sent = Sparse(np.flatnonzero(flat), flat[np.flatnonzero(flat)])
            message = encode(sent, b)
            assert upload == len(message)
            decoded = decode(message, b)
            np.testing.assert_array_equal(decoded.positions, sent.positions)
            np.testing.assert_array_equal(decoded.values, sent.values, strict=True)


def test_nothing_to_send() -> None:
    nothing = [[np.zeros((3, 3), np.float32)]] * 2
    for compressor, upload in [(TopK(0.5), 0), (DGC(0.5), 0), (STC(0.5), 2 * 4)]:
        applied, found = compressor.round(nothing, [0.5, 0.5])
        equal(applied, nothing[0])
        assert found == upload
    assert decode_ternary(encode_ternary(Sparse(np.zeros(0, np.int64), np.zeros(0, np.float32)), 3), 3).values.size == 0


# All compressors


@each_compressor
@settings(max_examples=10)
@given(federation=federations)
def test_the_order_of_participants_does_not_matter(make: Callable[[], Compressor], federation: Federation) -> None:
    one, other = make(), make()
    order = np.roll(np.arange(len(federation.weights)), 1)
    for changes in federation.rounds:
        applied, upload = one.round(changes, federation.weights)
        turned, same = other.round([changes[i] for i in order], [federation.weights[i] for i in order])
        assert upload == same
        close(applied, turned)


@each_compressor
def test_changes_keep_their_shapes_and_are_left_alone(make: Callable[[], Compressor]) -> None:
    federation, untouched, compressor = made(1), made(1), make()
    for changes, before in zip(federation.rounds, untouched.rounds, strict=True):
        applied, upload = compressor.round(changes, federation.weights)
        assert [(tensor.shape, tensor.dtype) for tensor in applied] == [(shape, np.float32) for shape in SHAPES]
        assert 0 < upload <= 4 * 3 * sum(tensor.size for tensor in applied)
        for change, unchanged in zip(changes, before, strict=True):
            equal(change, unchanged)


@each_compressor
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_diverged_participant_shows(make: Callable[[], Compressor]) -> None:
    changes = made(2).rounds[0]
    changes[1][0][0, 0] = np.nan
    assert np.isnan(flatten(make().round(changes, [0.2, 0.3, 0.5])[0])).any()


# Top-k and STC


def slow_largest(values: Sequence[Any], count: int) -> list[int]:
    ranked = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))
    return sorted(i for i in ranked[:count] if values[i] != 0)


def slow_sum(sent: list[dict[int, Any]], weights: list[float], size: int, weighting: Weighting) -> Any:
    out = np.zeros(size)
    for i in range(size):
        senders = [w for entries, w in zip(sent, weights, strict=True) if i in entries]
        total = sum(w * float(entries[i]) for entries, w in zip(sent, weights, strict=True) if i in entries)
        out[i] = total / (math.sqrt(sum(senders)) if weighting == "root" and senders else 1)
    return out.astype(np.float32)


@pytest.mark.parametrize("weighting", ["all", "root"])
@pytest.mark.parametrize("kind", ["top-k", "top-k, forgetful", "stc"])
@settings(max_examples=20)
@given(federation=federations, rate=RATES)
def test_slow_top_k_and_stc_agree(federation: Federation, rate: float, weighting: Weighting, kind: str) -> None:
    compressor = STC(rate, weighting) if kind == "stc" else TopK(rate, kind == "top-k", weighting)
    size = sum(math.prod(shape) for shape in SHAPES)
    count = kept_count(rate, size)
    residuals = [np.zeros(size, np.float32) for _ in federation.weights]
    for changes in federation.rounds:
        sent = []
        for seat, change in enumerate(changes):
            wanted = flatten(change) + residuals[seat]
            entries = {i: wanted[i] for i in slow_largest(wanted, count)}
            if kind == "stc" and entries:
                mu = np.float32(math.fsum(abs(float(value)) for value in entries.values()) / len(entries))
                entries = {i: mu if value > 0 else -mu for i, value in entries.items()}
            for i, value in entries.items():
                wanted[i] -= value
            if kind != "top-k, forgetful":
                residuals[seat] = wanted
            sent.append(entries)
        applied, _ = compressor.round(changes, federation.weights)
        np.testing.assert_allclose(
            flatten(applied), slow_sum(sent, federation.weights, size, weighting), rtol=1e-5, atol=1e-7
        )


@settings(max_examples=30)
@given(alone, RATES)
def test_sent_and_residual_add_up(federation: Federation, rate: float) -> None:
    top, ternary = TopK(rate), STC(rate)
    before: dict[Any, Any] = {top: np.float32(0), ternary: np.float32(0)}
    for changes in federation.rounds:
        for compressor, tolerance in [(top, 0), (ternary, 1e-6)]:
            wanted = flatten(changes[0]) + before[compressor]
            applied, _ = compressor.round(changes, [1.0])
            before[compressor] = compressor.residuals[0]
            np.testing.assert_allclose(flatten(applied) + compressor.residuals[0], wanted, tolerance, tolerance)


@given(federations, WEIGHTINGS)
def test_top_k_of_everything_is_dense(federation: Federation, weighting: Weighting) -> None:
    fine = [[[tensor + 0.01 for tensor in change] for change in changes] for changes in federation.rounds]  # no zeros
    compressor = TopK(1.0, weighting=weighting)
    for changes in fine:
        close(compressor.round(changes, federation.weights)[0], Dense().round(changes, federation.weights)[0], 1e-6)
        assert not any(residual.any() for residual in compressor.residuals)


@given(alone, RATES)
def test_stc_sends_one_magnitude_and_the_signs(federation: Federation, rate: float) -> None:
    compressor, change = STC(rate), flatten(federation.rounds[0][0])
    sent = flatten(compressor.round(federation.rounds[0], [1.0])[0])
    kept = largest(change, kept_count(rate, change.size))
    np.testing.assert_array_equal(np.flatnonzero(sent), kept)
    np.testing.assert_array_equal(np.sign(sent[kept]), np.sign(change[kept]))
    np.testing.assert_allclose(np.abs(sent[kept]), np.abs(change[kept]).mean(dtype=np.float64), rtol=1e-6)
    assert np.unique(np.abs(sent[kept])).size == 1


def test_root_lies_between_all_and_the_mean_of_the_senders() -> None:
    changes = [[np.array([4, 0, 1], np.float32)], [np.array([0, 2, 0], np.float32)], [np.array([4, 0, 0], np.float32)]]
    weights = [0.2, 0.36, 0.44]
    close(TopK(0.3).round(changes, weights)[0], [np.array([4 * 0.64, 2 * 0.36, 0], np.float32)])
    close(TopK(0.3, weighting="root").round(changes, weights)[0], [np.array([4 * 0.8, 2 * 0.6, 0], np.float32)])


def test_counts_are_those_of_exact_products() -> None:
    assert [kept_count(rate, 100) for rate in (0.07, 0.071, 1e-4, 1.0)] == [7, 8, 1, 100]


# Deep gradient compression


@settings(max_examples=30)
@given(federations, st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([None, 0.5, 100.0]), st.booleans())
def test_slow_dgc_agrees(federation: Federation, momentum: float, clip: float | None, per_tensor: bool) -> None:
    compressor = DGC(0.1, momentum, clip, warmup=[0.5, 0.3], per_tensor=per_tensor)
    participants, size = len(federation.weights), sum(math.prod(shape) for shape in SHAPES)
    parts = np.split(np.arange(size), np.cumsum([math.prod(shape) for shape in SHAPES])[:-1])
    u, v = np.zeros((participants, size)), np.zeros((participants, size))
    for changes, rate in zip(federation.rounds, [0.5, 0.3, 0.1, 0.1], strict=False):
        sent = []
        for seat, change in enumerate(changes):
            gradient = flatten(change).astype(np.float64)
            if clip is not None:
                gradient *= min(1, clip / math.sqrt(participants) / np.linalg.norm(gradient))
            u[seat] = momentum * u[seat] + gradient
            v[seat] += u[seat]
            near = v[seat].astype(np.float32)  # ties are ties of float32
            kept: list[int] = []
            for part in parts if per_tensor else [np.arange(size)]:
                kept += [part[i] for i in slow_largest(near[part], kept_count(rate, len(part)))]
            sent.append({i: v[seat, i] for i in kept})
            u[seat, kept] = v[seat, kept] = 0
        applied, _ = compressor.round(changes, federation.weights)
        np.testing.assert_allclose(
            flatten(applied), slow_sum(sent, federation.weights, size, "all"), rtol=1e-4, atol=1e-5
        )


@given(federations, RATES)
def test_dgc_without_momentum_is_top_k(federation: Federation, rate: float) -> None:
    dgc, top = DGC(rate, momentum=0.0, per_tensor=False), TopK(rate)
    for changes in federation.rounds:
        (one, upload), (other, same) = (each.round(changes, federation.weights) for each in (dgc, top))
        equal(one, other)
        assert upload == same


# PowerSGD


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_power_sgd_reproduces_a_mean_of_its_rank(seed: int, rank: int) -> None:
    random = np.random.default_rng(seed)
    factors = [random.standard_normal((length, rank)) for length in (12, 15)]
    mean = (factors[0] @ factors[1].T).astype(np.float32)
    noise = random.standard_normal((12, 15)).astype(np.float32)
    applied, upload = PowerSGD(rank).round([[mean + noise], [mean - 3 * noise]], [0.75, 0.25])
    close(applied, [mean], 1e-3)
    assert upload == 2 * 4 * rank * (12 + 15)


@given(federations, st.sampled_from([(9, 11), (11, 9)]))
def test_power_sgd_of_full_rank_reproduces_the_mean(federation: Federation, shape: tuple[int, int]) -> None:
    """Of the low-rank part alone: `round` sends such a matrix whole."""
    compressor = PowerSGD(9)
    for changes in federation.rounds:
        matrices = np.stack([change[0].reshape(shape) for change in changes])
        mean = weighted_mean(matrices, federation.weights)
        np.testing.assert_allclose(compressor._low_rank(0, matrices, 9, federation.weights), mean, 1e-3, 1e-3)


@pytest.mark.parametrize(("rank", "thin"), [(1, {0, 3}), (2, {0, 3}), (3, {0}), (4, {0}), (5, set()), (50, set())])
def test_power_sgd_sends_whole_what_is_not_smaller(rank: int, thin: set[int]) -> None:
    """The matrices are 9 x 11 and 4 x 12: a rank takes 20 of 99 and 16 of 48 floats. 1 x 5 and vectors never gain."""
    federation, compressor = made(3), PowerSGD(rank)
    applied, upload = compressor.round(federation.rounds[0], federation.weights)
    dense, whole = Dense().round(federation.rounds[0], federation.weights)
    assert set(compressor.residuals) == thin
    saved = sum({0: 99 - 20 * rank, 3: 48 - 16 * rank}[index] for index in thin)
    assert whole - upload == 3 * 4 * saved
    for index in set(range(len(SHAPES))) - thin:
        np.testing.assert_array_equal(applied[index], dense[index])


@settings(max_examples=30)
@given(federations)
def test_power_sgd_with_the_authors_residuals_is_the_same(federation: Federation) -> None:
    """Gram-Schmidt, and the residual to the mean's approximation rather than to one's own."""
    compressor, query, errors = PowerSGD(2, seed=5), np.random.default_rng(5).standard_normal((11, 2), np.float32), 0.0
    for changes in federation.rounds:
        matrices = errors + np.stack([change[0] for change in changes]).astype(np.float64)
        p = np.tensordot(federation.weights, matrices @ query, 1)
        p[:, 0] /= np.linalg.norm(p[:, 0])
        p[:, 1] -= p[:, 0] * (p[:, 0] @ p[:, 1])
        p[:, 1] /= np.linalg.norm(p[:, 1])
        query = np.tensordot(federation.weights, matrices.transpose(0, 2, 1) @ p, 1)
        errors = matrices - p @ query.T
        np.testing.assert_allclose(compressor.round(changes, federation.weights)[0][0], p @ query.T, 1e-3, 1e-3)


def test_power_sgd_loses_nothing_over_the_rounds() -> None:
    """Error feedback and warm start: of the same change every round, the total applied comes near to the total."""
    change, compressor = made(4).rounds[0][0][:1], PowerSGD(2)
    applied = [compressor.round([change], [1.0])[0][0] for _ in range(60)]
    np.testing.assert_allclose(sum(applied) + compressor.residuals[0][0], 60 * change[0], rtol=1e-3, atol=1e-3)
    assert np.linalg.norm(compressor.residuals[0][0]) < 0.2 * np.linalg.norm(60 * change[0])


def test_power_sgd_starts_anew_after_rounds_without_change() -> None:
    compressor, change = PowerSGD(1), np.zeros((6, 6), np.float32)
    compressor.round([[change]], [1.0])
    change[4] = 1.0
    close(compressor.round([[change]], [1.0])[0], [change])
