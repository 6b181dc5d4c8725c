"""Golden vectors: whatever changes a digest, a format or a number breaks a test here.

The inputs stand in golden.json in plain form, and some digests are recomputed here from their definition alone.
"""

import hashlib
import json
import runpy
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_utils.crypto import keccak

from chain.protocol.digest import Digest
from chain.protocol.rules import Rules
from fl_node import packing, update, weights
from fl_node.gradient import Layout

VECTORS = Path(__file__).parents[1] / "vectors"
GOLDEN = json.loads((VECTORS / "golden.json").read_text())
INPUTS, OUTPUTS = GOLDEN["inputs"], GOLDEN["outputs"]
MAKER = runpy.run_path(str(VECTORS / "make_golden.py"))
FOUND: dict[str, Any] = MAKER["compute"](INPUTS)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_the_file_is_the_one_that_its_program_writes() -> None:
    assert GOLDEN["formatVersion"] == 3
    assert MAKER["INPUTS"] == INPUTS
    assert FOUND.keys() == OUTPUTS.keys()


def test_the_proofs_are_those_that_their_program_writes() -> None:
    maker = runpy.run_path(str(VECTORS / "make_proofs.py"))
    assert json.loads((VECTORS / "proofs.json").read_text()) == maker["compute"]()


@pytest.mark.parametrize("name", OUTPUTS)
def test_golden(name: str) -> None:
    assert FOUND[name] == OUTPUTS[name]


# ------------------------------------------ from the definitions, with none of our code


def test_digests_are_sha256_of_what_stands_in_the_file() -> None:
    assert sha256(OUTPUTS["rulesCanonical"].encode()) == OUTPUTS["rulesDigest"]
    assert sha256(bytes.fromhex(OUTPUTS["genesisBlob"])) == OUTPUTS["genesisDigest"]
    for item in OUTPUTS["updates"]:
        assert sha256(bytes.fromhex(item["blob"])) == item["digest"]
    assert sha256(b"roundledger-secret/1" + bytes.fromhex(INPUTS["recordSecret"])) == OUTPUTS["secretCommitment"]


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def test_channel_root_of_two_sent_channels() -> None:
    for item in OUTPUTS["updates"]:
        leaf = b"".join(
            struct.pack(">I", channel) + int(norm).to_bytes(16, "big")
            for channel, norm in zip(item["sent"], item["squaredNorms"], strict=True)
        )
        assert len(leaf) == 2 * 20
        assert sha256(b"\x00" + leaf) == item["channelRoot"]


def test_data_root_of_three_records() -> None:
    leaves = [bytes.fromhex(leaf) for leaf in OUTPUTS["dataLeaves"]]
    assert leaves == sorted(leaves)
    first, second, third = (hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves)
    assert "sha256:" + node(node(first, second), third).hex() == OUTPUTS["dataRoot"]


def test_heads_are_keccak_over_the_logs() -> None:
    head = bytes(28)
    for log, expected in zip(OUTPUTS["logs"], OUTPUTS["heads"][1:], strict=True):
        head = keccak(head + bytes(4) + bytes.fromhex("".join(log["topics"])) + bytes.fromhex(log["data"]))[:28]
        assert head.hex() == expected


# -------------------------------------------------- what was written once is read for ever


def test_the_stored_blobs_are_still_read() -> None:
    rules = Rules.from_canonical(OUTPUTS["rulesCanonical"].encode(), "golden")
    assert str(rules.digest) == OUTPUTS["rulesDigest"]
    blob = bytes.fromhex(OUTPUTS["genesisBlob"])
    model = weights.decode_model(blob, Digest.parse(OUTPUTS["genesisDigest"]), len(blob))
    for name, values in INPUTS["model"].items():
        assert model[name].dtype == np.float32 and model[name].tolist() == values
    layout = Layout.of(model)
    for item, gradient in zip(OUTPUTS["updates"], INPUTS["gradients"], strict=True):
        blob = bytes.fromhex(item["blob"])
        sent = layout.tensors(update.decode(blob, layout, rules, "golden").dense(layout))
        packed, model_digest = bytes.fromhex(item["packed"]), Digest.parse(OUTPUTS["genesisDigest"])
        who = INPUTS["participants"][INPUTS["gradients"].index(gradient)]
        received = packing.unpack(packed, layout, rules, who, INPUTS["round"], model_digest)
        assert packing.bytes_of(received) == blob
        for name, values in gradient.items():
            assert (sent[name] + np.array(item["residual"][name], np.float32) == np.array(values, np.float32)).all()
