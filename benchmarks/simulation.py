"""One federation, trained from the same genesis with one method of upload after the other: same data, seeds, model,
local training, rounds. No chain and no processes, which change no number.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from benchmarks.compressors import Arrays, Compressor
from chain.protocol.digest import Digest
from chain.protocol.rules import Rules
from fl_node import making, packing, update
from fl_node.aggregate import aggregate
from fl_node.channels import Codes
from fl_node.data import Records
from fl_node.gradient import Layout, Matrix, gradient_matrices
from fl_node.model import build_model, load_tensors, to_tensors
from fl_node.presets import federation_toml, preset
from fl_node.selection import common_channels, summed_norms
from fl_node.tensorfile import Tensors
from fl_node.verify import VerifiedUpdate, verify_update
from fl_node.weights import model_digest

LAST = 10  # rounds whose mean accuracy counts: one round alone is noise
TESTED_AT_ONCE = 250  # records
NOTHING = Digest.of(b"")  # stands for the data root, which these measurements do not need


@dataclass(frozen=True)
class Setting:
    """What is trained, by how many, and for how long. The learning rate falls linearly to zero."""

    name: str
    dataset: str
    title: str
    participants: int
    rounds: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    model: dict[str, Any]
    records: int | None = None  # of the training set; None: all


class Method(Protocol):
    """One way from the participants' weight changes to the next model."""

    def round(
        self, model: Tensors, trained: Sequence[Tensors], weights: Sequence[float], number: int
    ) -> tuple[Tensors, int]:
        """The next model, and the bytes that all participants uploaded together."""


class Federation:
    """One setting with one seed: who holds which records, and the genesis model."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting, self.seed = setting, seed
        chosen = preset(setting.dataset)
        data, held, test = chosen.records(setting.participants, seed)
        if setting.records:
            held = [_sample(part, setting.records / sum(map(len, held)), seed) for part in held]
        document = tomllib.loads(federation_toml(chosen, data, setting.rounds), parse_float=Decimal)
        document["model"] = {"factory": "cnn", "options": setting.model}
        document["training"] = {
            "rounds": setting.rounds,
            "epochs": setting.epochs,
            "batch_size": setting.batch_size,
            "learning_rate": setting.learning_rate,
            "weight_decay": setting.weight_decay,
            "schedule": "linear",
        }
        self.document, self.rules = document, Rules.parse(document, setting.dataset)
        self.module = build_model(self.rules, seed)
        self.genesis = to_tensors(self.module)
        self.inputs = [torch.from_numpy(part.inputs(data)) for part in held]
        self.labels = [torch.tensor(part.labels) for part in held]
        self.test = torch.from_numpy(test.inputs(data)), torch.tensor(test.labels)
        sizes = np.array([len(part) for part in held], float)
        self.weights = (sizes / sizes.sum()).tolist()
        self.counts = [len(part) for part in held]

    def trained(self, model: Tensors, number: int, seat: int) -> Tensors:
        """Local training: plain SGD, its order drawn from seed, round and seat."""
        load_tensors(self.module, model)
        self.module.train()
        rules = self.rules.training
        optimizer = torch.optim.SGD(self.module.parameters(), rules.rate(number), weight_decay=rules.weight_decay)
        order = torch.Generator().manual_seed(self.seed * 1_000_003 + number * 1_009 + seat)
        inputs, labels = self.inputs[seat], self.labels[seat]
        for _ in range(self.setting.epochs):
            for rows in torch.randperm(len(labels), generator=order).split(self.setting.batch_size):
                optimizer.zero_grad()
                functional.cross_entropy(self.module(inputs[rows]), labels[rows]).backward()
                optimizer.step()
        return to_tensors(self.module)

    def accuracy(self, model: Tensors) -> float:
        load_tensors(self.module, model)
        module, right = self.module.eval(), 0
        with torch.no_grad():
            for inputs, labels in zip(*(part.split(TESTED_AT_ONCE) for part in self.test), strict=True):
                right += int((module(inputs).argmax(1) == labels).sum())
        return right / len(self.test[1])

    def run(self, method: Method, first: int = 1) -> list[tuple[int, float]]:
        """The bytes uploaded so far by all, and the accuracy on held-out records, after each round from the first one
        that is looked at.
        """
        model, uploaded, history = self.genesis, 0, []
        for number in range(1, self.setting.rounds + 1):
            trained = [self.trained(model, number, seat) for seat in range(self.setting.participants)]
            model, size = method.round(model, trained, self.weights, number)
            uploaded += size
            if number >= first:
                history.append((uploaded, self.accuracy(model)))
        return history


def _sample(records: Records, share: float, seed: int) -> Records:
    """That share of the records, at least one."""
    rows = np.random.default_rng(seed).permutation(len(records))[: max(1, round(len(records) * share))]
    return Records(records.features[rows], np.asarray(records.labels)[rows], None, records.source)


class Peer:
    """A compressor of the literature, on the weight change; the server adds `rate` times what it makes of them."""

    def __init__(self, compressor: Compressor, rate: float = 1.0) -> None:
        self.compressor, self.rate = compressor, rate

    def round(
        self, model: Tensors, trained: Sequence[Tensors], weights: Sequence[float], number: int
    ) -> tuple[Tensors, int]:
        changes: list[Arrays] = [[part[name] - model[name] for name in model] for part in trained]
        applied, size = self.compressor.round(changes, weights)
        steps = zip(model, applied, strict=True)
        return {name: (model[name] + self.rate * step).astype(np.float32) for name, step in steps}, size


class Channels:
    """roundledger's own steps, the very functions that nodes and auditors run: gradient matrices, selection, encoding,
    packing, unpacking, verification, aggregation in integers. The bytes are those of the packed update.
    """

    def __init__(self, federation: Federation, rules: dict[str, Any], *, residual: bool = True) -> None:
        self.rules = Rules.parse(federation.document | rules, "benchmark")
        self.layout = Layout.of(federation.genesis, self.rules.selection.layers)
        self.counts, self.keep = federation.counts, residual
        self.residuals: list[list[Matrix] | None] = [None] * len(self.counts)
        self.before: Tensors | None = None
        self.tables: list[Codes] = []

    def round(
        self, model: Tensors, trained: Sequence[Tensors], weights: Sequence[float], number: int
    ) -> tuple[Tensors, int]:
        common = None
        if self.rules.selection.selection == "common":
            summed = summed_norms(self.tables, self.layout.channels)
            common = common_channels(summed, self.layout, self.rules.selection, number)
        base, updates, uploaded = model_digest(model), [], 0
        for seat, part in enumerate(trained):
            verified, size = self._update(model, part, base, number, seat, common)
            updates.append(verified)
            uploaded += size
        self.tables = [verified.norms for verified in updates if verified.norms is not None]
        following = aggregate(model, updates, self.layout, self.rules.aggregation, self.before)
        self.before = model
        return following, uploaded

    def _update(
        self, model: Tensors, trained: Tensors, base: Digest, number: int, seat: int, common: tuple[int, ...] | None
    ) -> tuple[VerifiedUpdate, int]:
        who, rules, layout = f"0x{seat + 1:040x}", self.rules, self.layout
        gradient = gradient_matrices(layout, model, trained, self.residuals[seat])
        mine = making.make_update(gradient, layout, rules, who, number, base, common)
        blob = update.encode(mine, rules.compression, layout)
        packed = packing.pack(blob, layout, rules)
        metadata = making.describe(mine, blob, layout, NOTHING, NOTHING, self.counts[seat], bytes(32))
        received = packing.unpack(packed, layout, rules, who, number, base)
        verified = verify_update(received, metadata, who, number, layout, rules, common)
        if self.keep:
            making.take_sent(gradient, mine)
            self.residuals[seat] = gradient
        return verified, len(packed)
