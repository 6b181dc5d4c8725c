"""Compiles the kernels, so that the first nodes do not each spend half a minute on it. Called by `scripts/setup.sh`.

Two rounds of two participants without a ledger, with the rules of a preset and with the default ones: what a node and
an auditor call, numba compiles and keeps beside the sources, for every kind of array that it is called with.
"""

import tomllib
from decimal import Decimal

import numpy as np

from chain.protocol.digest import Digest
from chain.protocol.rules import Rules
from fl_node import packing, update
from fl_node.aggregate import aggregate
from fl_node.gradient import Layout, Matrix, gradient_matrices
from fl_node.model import build_model, to_tensors
from fl_node.presets import federation_toml, preset
from fl_node.tensorfile import Tensors
from fl_node.verify import VerifiedUpdate, verify_update
from fl_node.weights import decode_model, encode_model, model_digest

NOTHING = Digest.of(b"")  # stands for the data root


def warm(rules: Rules) -> None:
    blob = encode_model(to_tensors(build_model(rules, 0)))
    model = decode_model(blob, Digest.of(blob), len(blob))  # as a node reads it: arrays that cannot be written
    layout = Layout.of(model, rules.selection.layers)
    residuals: list[list[Matrix] | None] = [None, None]
    for number in (1, 2):
        sent = [send(model, layout, rules, number, seat, residuals) for seat in (0, 1)]
        model = aggregate(model, sent, layout, rules.aggregation, None)


def send(
    model: Tensors, layout: Layout, rules: Rules, number: int, seat: int, residuals: list[list[Matrix] | None]
) -> VerifiedUpdate:
    """One participant's update, from the weight change (noise: nothing is trained) to what the others verify."""
    noise = np.random.default_rng(2 * number + seat)
    trained = {name: part + noise.standard_normal(part.shape, np.float32) for name, part in model.items()}
    who, base = f"0x{seat + 1:040x}", model_digest(model)
    gradient = gradient_matrices(layout, model, trained, residuals[seat])
    mine = update.make_update(gradient, layout, rules, who, number, base)
    blob = update.encode(mine, rules.compression, layout)
    metadata = update.describe(mine, blob, layout, NOTHING, NOTHING, 1, bytes(32))
    received = packing.unpack(packing.pack(blob, layout, rules), layout, rules, who, number, base)
    update.take_sent(gradient, mine)
    residuals[seat] = gradient
    return verify_update(received, metadata, who, number, layout, rules)


def main() -> None:
    chosen = preset("digits")
    document = tomllib.loads(federation_toml(chosen, chosen.data_rules(), 2), parse_float=Decimal)
    warm(Rules.parse(document, "preset"))
    del document["selection"], document["compression"], document["aggregation"]
    warm(Rules.parse(document, "default"))


if __name__ == "__main__":
    main()
