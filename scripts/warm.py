"""Compiles the kernels, so that the first nodes do not each spend half a minute on it. Called by `scripts/setup.sh`.

Two rounds of two participants without a ledger, with whole channels and with the default rules: what a node and an
auditor call, numba compiles and keeps beside the sources, for every kind of array that it is called with.
"""

from dataclasses import replace

import numpy as np

from benchmarks.accuracy import SETTINGS
from benchmarks.methods import DEFAULT, rules
from benchmarks.simulation import Channels, Federation
from chain.protocol.digest import Digest
from fl_node.weights import decode_model, encode_model


def main() -> None:
    federation, noise = Federation(replace(SETTINGS["digits"], participants=2), seed=0), np.random.default_rng(0)
    blob = encode_model(federation.genesis)
    for chosen in (rules("0.25"), DEFAULT):
        method = Channels(federation, chosen)
        model = decode_model(blob, Digest.of(blob), len(blob))  # as a node reads it: arrays that cannot be written
        for number in (1, 2):
            trained = [
                {name: part + noise.standard_normal(part.shape, np.float32) for name, part in model.items()}
                for _ in federation.counts
            ]
            model, _ = method.round(model, trained, federation.weights, number)


if __name__ == "__main__":
    main()
