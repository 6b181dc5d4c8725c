"""Writes golden.json: every digest that the program makes, from small fixed inputs in plain form.

Run `python tests/vectors/make_golden.py` only to add a vector or a new format version: whoever changes a format must
see tests/unit/test_golden.py fail first.
"""

import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from chain.protocol import abi, seal, verdicts
from chain.protocol import events as ev
from chain.protocol.digest import Digest
from chain.protocol.rules import Rules
from fl_node import dataroot, making, packing, update, weights
from fl_node.aggregate import aggregate
from fl_node.data import Records
from fl_node.gradient import Layout
from fl_node.verify import verify_update

FILE = Path(__file__).parent / "golden.json"
RULES = """\
format = "roundledger-federation/1"
name = "golden"

[model]
factory = "mlp"
options = { hidden = [3], slope = 0.01 }

[data]
classes = ["no", "yes"]
label = "outcome"
id = "patient"
features = ["age", "dose"]
center = [50, 1.5]
scale = [10, 0.5]

[training]
rounds = 2
learning_rate = 0.05

[selection]
upload_rate = 0.5

[compression]
bits = 8

[aggregation]
weighting = "senders"

[ledger]
quorum = 0.6667
"""
INPUTS: dict[str, Any] = {
    "rules": RULES,
    # float32 values, exact in decimal
    "model": {
        "hidden.bias": [0.5, -0.25, 0.0],
        "hidden.weight": [[1.0, -2.0], [0.125, 3.5], [-0.75, 0.0625]],
        "slope": 0.015625,
    },
    # the weight change of two participants, by tensor as the model
    "gradients": [
        {
            "hidden.bias": [0.001953125, 0.0, -0.5],
            "hidden.weight": [[0.25, -0.1250152587890625], [0.0078125, 0.0], [1.0, 0.3330078125]],
            "slope": 0.0009765625,
        },
        {
            "hidden.bias": [-0.03125, 0.0625, 0.0],
            "hidden.weight": [[0.5, 0.5], [-2.0, 0.000030517578125], [0.0, 0.0]],
            "slope": -0.25,
        },
    ],
    "participants": ["0x00000000000000000000000000000000000000A1", "0x00000000000000000000000000000000000000b2"],
    "records": [3, 10],
    "salts": ["11" * 32, "22" * 32],
    "round": 1,
    "chainId": 31337,
    "contract": "0x5FbDB2315678afecb367f032d93F642f64180aa3",
    "data": {"features": [[61.0, 1.25], [47.5, -0.0], [33.0, 2.0]], "labels": [1, 0, -1], "ids": ["p3", "p1", "p2"]},
    "recordSecret": "5a" * 32,
    "time": 1_800_000_000,
}


def tensors(values: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.array(value, np.float32) for name, value in values.items()}


def data_outputs(given: dict[str, Any]) -> tuple[dict[str, Any], dataroot.DataRoot]:
    """The data root with and without ids."""
    secret = dataroot.RecordSecret(bytes.fromhex(given["recordSecret"]))
    features, labels = np.array(given["data"]["features"]), np.array(given["data"]["labels"])
    named = Records(features, labels, tuple(given["data"]["ids"]), "golden")
    unnamed = Records(np.vstack([features, features[:1]]), np.append(labels, labels[0]), None, "golden")
    root = dataroot.data_root(named, secret)
    found = {
        "dataLeaves": [leaf.hex() for leaf in dataroot.leaves(named, secret)],
        "dataRoot": str(root.root),
        "dataRootWithoutIds": str(dataroot.data_root(unnamed, secret).root),
        "secretCommitment": str(secret.commitment),
    }
    return found, root


def compute(given: dict[str, Any]) -> dict[str, Any]:
    """Everything that follows from the inputs."""
    rules = Rules.parse(tomllib.loads(given["rules"], parse_float=Decimal), "golden")
    base = tensors(given["model"])
    layout, genesis = Layout.of(base), weights.model_digest(base)
    outputs, root = data_outputs(given)
    domain = seal.domain_separator(given["chainId"], given["contract"])
    number, time = given["round"], given["time"]
    accepted, updates, logs = [], [], []
    for who, change, records, salt in zip(
        given["participants"], given["gradients"], given["records"], given["salts"], strict=True
    ):
        matrices = layout.matrices(tensors(change))
        made = making.make_update(matrices, layout, rules, who, number, genesis)
        blob = update.encode(made, rules.compression, layout)
        metadata = making.describe(made, blob, layout, root.root, root.secret_commitment, records, bytes.fromhex(salt))
        accepted.append(verify_update(blob, metadata, who, number, layout, rules))
        sealed = seal.seal(domain, number, who, metadata)
        making.take_sent(matrices, made)
        left, table = layout.tensors(matrices), made.table(layout)
        updates.append(
            {
                "blob": blob.hex(),
                "packed": packing.pack(blob, layout, rules).hex(),
                "digest": str(Digest.of(blob)),
                "squaredNorms": [str(norm) for norm in table.squared_norms],
                "sent": table.sent.tolist(),
                "threshold": str(metadata.threshold),
                "channelRoot": str(table.root),
                "residual": {name: tensor.tolist() for name, tensor in sorted(left.items())},
                "metadata": abi.encode(metadata).hex(),
                "seal": sealed.hex(),
            }
        )
        logs += [
            event_log(ev.Committed(number, who, sealed, time)),
            event_log(ev.Revealed(number, who, metadata, time)),
        ]
    model = aggregate(base, accepted, layout, rules.aggregation)
    votes = verdicts.encode({1: verdicts.ACCEPTED, 2: verdicts.ACCEPTED, 4: 3})
    logs.append(event_log(ev.Finalized(number, weights.model_digest(model), 2, time)))
    heads = [ev.EMPTY_HEAD]
    for log in logs:
        heads.append(ev.extend_head(heads[-1], log))
    return outputs | {
        "rulesCanonical": rules.canonical().decode(),
        "rulesDigest": str(rules.digest),
        "genesisBlob": weights.encode_model(base).hex(),
        "genesisDigest": str(genesis),
        "domainSeparator": domain.hex(),
        "updates": updates,
        "model": {name: tensor.tolist() for name, tensor in sorted(model.items())},
        "modelDigest": str(weights.model_digest(model)),
        "verdicts": votes.hex(),
        "logs": [{"topics": [topic.hex() for topic in log.topics], "data": log.data.hex()} for log in logs],
        "heads": [head.hex() for head in heads],
    }


def event_log(event: Any) -> ev.Log:
    """The log of an event without dynamic values: its leading fields are topics, the others data."""
    words, topics = abi.encode(event), ev.INDEXED[type(event)]
    indexed = tuple(words[32 * index : 32 * index + 32] for index in range(topics))
    return ev.Log((abi.selector(type(event)), *indexed), words[32 * topics :], 1)


if __name__ == "__main__":
    FILE.write_text(json.dumps({"formatVersion": 3, "inputs": INPUTS, "outputs": compute(INPUTS)}, indent=1) + "\n")
