"""Local training: plain SGD on a node's own records, the same bits each time it is run.

What holds: for one torch build on one instruction set, equal model, records, rules and seed give equal weights,
whatever number of threads the process is set to, because training itself runs on one (on two, sums are split and round
otherwise: measured). Other instruction sets and torch builds may round differently.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn
from torch.nn import functional
from torch.optim.sgd import sgd

from chain.protocol.errors import ConfigError, RoundledgerError
from chain.protocol.rules import Rules, TrainingRules
from fl_node.data import Records
from fl_node.weights import all_finite

SEED = b"roundledger-training/1"
BATCH = 1024  # records measured at a time

Progress = Callable[[int, int], None]  # (steps done, steps in all)


class TrainingDiverged(RoundledgerError):
    """The loss or a weight is no finite number any more; the module is then of no use."""

    def __init__(self, epoch: int, step: int, what: str) -> None:
        self.epoch, self.step, self.what = epoch, step, what
        hint = "lower the learning rate"
        super().__init__(f"training diverged in epoch {epoch}, step {step}: {what} is not finite ({hint})")


@dataclass(frozen=True)
class TrainResult:
    """Mean cross-entropy (nats) and accuracy on the node's own records, both after the last of `steps` steps."""

    loss: float
    accuracy: float
    steps: int


def training_seed(federation: bytes, round_number: int, participant: str) -> int:
    """The seed of one participant's training in one round, from 0 to 2**63 - 1: anybody can derive it.

    `participant` is an address, 0x and 40 hex digits in either case. Raises ValueError for anything else.
    """
    address = bytes.fromhex(participant.removeprefix("0x"))
    if len(address) != 20:
        raise ValueError(f"an address has 20 bytes, not {len(address)}: {participant}")
    digest = hashlib.sha256(SEED + federation + round_number.to_bytes(4, "big") + address).digest()
    return int.from_bytes(digest[:8], "big") & (2**63 - 1)


def train(
    module: nn.Module, records: Records, rules: Rules, round_number: int, seed: int, progress: Progress | None = None
) -> TrainResult:
    """Trains `module` in place for `rules.training.epochs` epochs; momentum starts from zero. The round decides the
    learning rate.

    `seed` decides the order of the records in every epoch, and whatever the module itself draws (dropout). The caller's
    random state, threads and determinism settings are restored. They belong to the process: one training at a time.

    Raises ConfigError when there are no records, one has no label, or the module fails; TrainingDiverged naming epoch
    and step (from 1) when the loss or a weight is not finite.
    """
    if not len(records) or not records.labelled:
        raise ConfigError(records.source, "training needs records, and a label for each of them")
    inputs, labels = torch.from_numpy(records.inputs(rules.data)), torch.tensor(records.labels)
    was_training, step = module.training, 0
    total = rules.training.epochs * -(-len(labels) // rules.training.batch_size)
    with _deterministic(seed):
        try:
            for step in _steps(module.train(), inputs, labels, rules.training, rules.training.rate(round_number), seed):
                if progress is not None:
                    progress(step, total)
            loss, accuracy = _measure(module.eval(), inputs, labels)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:  # the federation's own code, or torch in it
            problem = f"fails in training: {type(error).__name__}: {str(error)[:300]}"
            raise ConfigError(f"model factory {rules.model.factory!r}", problem) from error
        finally:
            module.train(was_training)
            module.zero_grad()  # gradients take as much memory as the model
    return TrainResult(loss, accuracy, step)


def _steps(
    module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, training: TrainingRules, rate: float, seed: int
) -> Iterator[int]:
    """All epochs over `inputs` `[n, *input_shape]`; yields the number of each step (from 1) once it is done."""
    descend = _descent(list(module.parameters()), training, rate)
    shuffle, step = torch.Generator().manual_seed(seed), 0
    for epoch in range(1, training.epochs + 1):
        order = torch.randperm(len(labels), generator=shuffle)
        for start in range(0, len(labels), training.batch_size):
            rows, step = order[start : start + training.batch_size], step + 1
            module.zero_grad()
            loss = functional.cross_entropy(module(inputs[rows]), labels[rows])
            if not torch.isfinite(loss):
                raise TrainingDiverged(epoch, step, "the loss")
            loss.backward()  # type: ignore[no-untyped-call]
            descend()
            yield step
        for name, tensor in chain(module.named_parameters(), module.named_buffers()):
            if not _all_finite(tensor.detach()):
                raise TrainingDiverged(epoch, step, f"tensor {name}")


def _all_finite(tensor: torch.Tensor) -> bool:
    """torch's own way takes thirty times as long, and memory as large as the tensor's."""
    return all_finite(tensor.numpy()) if tensor.dtype == torch.float32 else bool(torch.isfinite(tensor).all())


def _descent(parameters: list[nn.Parameter], training: TrainingRules, rate: float) -> Callable[[], None]:
    """One step of SGD, by torch's own function. Its class `torch.optim.SGD` does the same, but loads the compiler
    (`torch._dynamo`) first: two seconds of every start of a node.
    """
    velocity: dict[nn.Parameter, torch.Tensor | None] = {}

    @torch.no_grad()
    def step() -> None:
        moved = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
        buffers = [velocity.get(parameter) for parameter, _ in moved]
        sgd(
            [parameter for parameter, _ in moved],
            [gradient for _, gradient in moved],
            buffers,
            foreach=False,
            weight_decay=training.weight_decay,
            momentum=training.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        velocity.update((parameter, buffer) for (parameter, _), buffer in zip(moved, buffers, strict=True))

    return step


def _measure(module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """(mean loss, accuracy) over all records."""
    loss, right = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(labels), BATCH):
            output, expected = module(inputs[start : start + BATCH]), labels[start : start + BATCH]
            loss += float(functional.cross_entropy(output.double(), expected, reduction="sum"))
            right += int((output.argmax(1) == expected).sum())
    return loss / len(labels), right / len(labels)


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """One thread, deterministic algorithms, torch's own randomness seeded; all of it put back afterwards."""
    threads = torch.get_num_threads()
    strict = torch.get_deterministic_debug_mode()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(1)
            torch.set_deterministic_debug_mode("error")  # `use_deterministic_algorithms` loads the compiler, too
            torch.default_generator.manual_seed(seed)
            yield
        finally:
            torch.set_deterministic_debug_mode(strict)
            torch.set_num_threads(threads)
