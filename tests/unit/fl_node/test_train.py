"""Local training: it learns, is the same each time, leaves the process as it was, and says when it diverges."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from chain.protocol.errors import ConfigError
from chain.protocol.rules import Rules
from fl_node.data import Records, load_records
from fl_node.model import Tensors, build_model, to_tensors
from fl_node.train import TrainingDiverged, TrainResult, train, training_seed


def document(factory: str = "cnn", **training: Any) -> dict[str, Any]:
    return {
        "format": "roundledger-federation/1",
        "name": "test",
        "model": {"factory": factory},
        "data": {"classes": list("0123456789"), "shape": [1, 8, 8], "center": 8.0, "scale": 8.0},
        "training": {"rounds": 1, **training},
        "selection": {"upload_rate": 1},
    }


def rules(factory: str = "cnn", **training: Any) -> Rules:
    return Rules.parse(document(factory, **training), "test")


@pytest.fixture(scope="module")
def digits() -> Records:
    return load_records("builtin:digits", rules().data)


def trained(records: Records, rules: Rules, seed: int = 3, number: int = 1) -> tuple[Tensors, TrainResult]:
    module = build_model(rules, 1)
    result = train(module, records, rules, number, seed)
    return to_tensors(module), result


def equal(one: Tensors, other: Tensors) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_it_learns_digits(digits: Records) -> None:
    _, result = trained(digits, rules(epochs=4, momentum=0.9, learning_rate=0.05))
    assert result.accuracy > 0.95
    assert 0 < result.loss < 0.2
    assert result.steps == 4 * 57


def test_result_describes_the_module_as_it_is_left(digits: Records) -> None:
    built = rules("mlp", epochs=2)
    module = build_model(built, 1)
    result = train(module, digits, built, 1, 3)
    with torch.no_grad():
        output = module(torch.from_numpy(digits.inputs(built.data)))
    expected = torch.tensor(digits.labels)
    assert all(parameter.grad is None for parameter in module.parameters())  # they take as much memory as the model
    assert result.accuracy == (output.argmax(1) == expected).double().mean().item()
    assert result.loss == pytest.approx(nn.functional.cross_entropy(output, expected).item(), rel=1e-5)


@pytest.mark.parametrize("factory", ["mlp", "cnn"])
def test_same_bits_whatever_the_threads_and_the_random_state(digits: Records, factory: str) -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            torch.manual_seed(threads)
            found.append(trained(digits, rules(factory, batch_size=256, momentum=0.5)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(equal(found[0][0], tensors) and result == found[0][1] for tensors, result in found)


def test_seed_decides_the_order_of_records(digits: Records) -> None:
    one, other = trained(digits, rules("mlp"), 3)[0], trained(digits, rules("mlp"), 4)[0]
    assert not equal(one, other)
    whole = rules("mlp", batch_size=len(digits))  # one step over all records: their order changes rounding at most
    for name, tensor in trained(digits, whole, 3)[0].items():
        np.testing.assert_allclose(tensor, trained(digits, whole, 4)[0][name], atol=1e-5)


def test_one_step_is_plain_sgd_with_weight_decay(digits: Records) -> None:
    built = rules("mlp", batch_size=len(digits), learning_rate=0.5, weight_decay=0.01)
    module = build_model(built, 1)
    inputs, labels = torch.from_numpy(digits.inputs(built.data)), torch.tensor(digits.labels)
    nn.functional.cross_entropy(module(inputs), labels).backward()
    expected = {name: p.detach() - 0.5 * (p.grad + 0.01 * p.detach()) for name, p in module.named_parameters()}
    for name, tensor in trained(digits, built)[0].items():
        np.testing.assert_allclose(tensor, expected[name].numpy(), atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_training_is_that_of_torchs_own_optimizer(digits: Records, momentum: float) -> None:
    built = rules("mlp", batch_size=100, epochs=2, learning_rate=0.1, momentum=momentum, weight_decay=0.01)
    module = build_model(built, 1)
    inputs, labels = torch.from_numpy(digits.inputs(built.data)), torch.tensor(digits.labels)
    optimizer, shuffle = torch.optim.SGD(module.parameters(), 0.1, momentum, weight_decay=0.01), torch.Generator()
    shuffle.manual_seed(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(2):
        for rows in torch.randperm(len(labels), generator=shuffle).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    torch.set_num_threads(threads)
    for name, tensor in trained(digits, built)[0].items():
        np.testing.assert_array_equal(tensor, module.state_dict()[name].numpy())


LOADING = """
import sys
from chain.protocol.rules import Rules
from fl_node.data import load_records
from fl_node.model import build_model
from fl_node.train import train
rules = Rules.parse(DOCUMENT, "test")
train(build_model(rules, 1), load_records("builtin:digits", rules.data), rules, 1, 3)
sys.exit("torch._dynamo" in sys.modules)
"""


def test_training_does_not_load_the_compiler_of_torch() -> None:
    """It takes seconds, in which the commit window may pass."""
    script = LOADING.replace("DOCUMENT", repr(document("mlp", momentum=0.9)))
    subprocess.run([sys.executable, "-c", script], check=True)


DROPOUT = """
from torch import nn
def net(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, classes), nn.GroupNorm(2, classes))
"""


def test_dropout_is_seeded_too_and_the_process_is_left_as_it_was(
    digits: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dropout_model.py").write_text(DROPOUT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "dropout_model", raising=False)
    found = []
    for outside in (1, 2):
        torch.manual_seed(outside)
        state = torch.get_rng_state()
        found.append(trained(digits, rules("dropout_model:net"))[0])
        assert torch.equal(torch.get_rng_state(), state)
    assert equal(found[0], found[1])
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_linear_schedule_trains_as_the_falling_rate_does(digits: Records) -> None:
    falling = rules("mlp", rounds=4, learning_rate=0.2, schedule="linear")
    for number, rate in ((1, 0.2), (3, 0.1), (4, 0.05), (5, 0.05)):
        expected = trained(digits, rules("mlp", learning_rate=rate))[0]
        assert equal(trained(digits, falling, number=number)[0], expected)
    assert rules("mlp", rounds=4, learning_rate=0.2).training.rate(4) == 0.2


def test_module_keeps_its_mode_and_progress_counts_steps(digits: Records) -> None:
    built = rules("mlp", epochs=2, batch_size=1000)
    module, seen = build_model(built, 1).eval(), []
    train(module, digits, built, 1, 3, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert not module.training


def test_divergence_names_epoch_and_step_and_restores_the_process(digits: Records) -> None:
    threads = torch.get_num_threads()
    built = rules("mlp", learning_rate=1000, weight_decay=0.9, batch_size=600, epochs=20)
    with pytest.raises(TrainingDiverged) as caught:
        trained(digits, built)
    error = caught.value
    assert (error.step - 1) // 3 + 1 == error.epoch
    assert str(error).startswith(f"training diverged in epoch {error.epoch}, step {error.step}: the loss is not finite")
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, False)


def test_weights_that_overflow_in_the_last_step_are_found(digits: Records) -> None:
    built = rules("mlp", learning_rate=1000, batch_size=len(digits))
    module = build_model(built, 1)
    huge = Records(digits.features * 1e37, digits.labels, None, "here")
    with torch.no_grad():  # tiny first weights keep the loss finite, the huge inputs make their gradient overflow
        next(module.parameters()).fill_(1e-38)
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step 1: tensor hidden1\.weight is not finite"):
        train(module, huge, built, 1, 1)


def test_training_needs_labelled_records(digits: Records) -> None:
    unlabelled = Records(digits.features, np.where(np.arange(len(digits)) == 5, -1, digits.labels), None, "file.csv")
    nothing = digits.take(np.array([], dtype=np.int64))
    for records in (unlabelled, nothing):
        with pytest.raises(
            ConfigError, match=f"{records.source}: training needs records, and a label for each of them"
        ):
            trained(records, rules())


def test_training_seed_is_the_documented_digest() -> None:
    federation, address = bytes(range(32)), "0x" + "Ab" * 20
    data = b"roundledger-training/1" + federation + (7).to_bytes(4, "big") + b"\xab" * 20
    expected = int.from_bytes(hashlib.sha256(data).digest()[:8], "big") % 2**63
    assert training_seed(federation, 7, address) == training_seed(federation, 7, address.lower()) == expected
    others = [(federation, 8, address), (bytes(32), 7, address), (federation, 7, "0x" + "ac" * 20)]
    assert len({training_seed(*other) for other in others} | {expected}) == 4
    with pytest.raises(ValueError, match="20 bytes, not 19"):
        training_seed(federation, 7, "0x" + "ab" * 19)
