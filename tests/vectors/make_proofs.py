"""Writes proofs.json: inclusion proofs of records and of sent channels, by our Python, for contracts/test.

Run `python tests/vectors/make_proofs.py`. Trees of every size up to nine leaves, every leaf; whole numbers that a
double cannot hold are decimal strings. RFC 6962's own vectors judge the trees (tests/property/test_merkle.py).
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from chain.protocol import merkle
from fl_node.channels import LEAF, ChannelTable
from fl_node.norms import Norms

SENT = (1, LEAF - 1, LEAF, LEAF + 1, 2 * LEAF + 5)  # channels: one leaf, a full one, three of which the last is short


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def records() -> list[dict[str, Any]]:
    found = []
    for size in range(1, 10):
        entries = [(digest(f"key {number}"), digest(f"content {number}")) for number in range(size)]
        leaves = [key + content for key, content in entries]
        for index, (key, content) in enumerate(entries):
            found.append(
                {
                    "dataRoot": "0x" + merkle.root(leaves).hex(),
                    "records": size,
                    "index": index,
                    "key": "0x" + key.hex(),
                    "content": "0x" + content.hex(),
                    "path": ["0x" + node.hex() for node in merkle.inclusion_proof(leaves, index)],
                }
            )
    return found


def channels() -> list[dict[str, Any]]:
    found = []
    for count in SENT:
        sent = tuple(3 * number + 1 for number in range(count))
        norms = tuple((1 << 64) + 7 * number for number in range(count))
        items = [
            channel.to_bytes(4, "big") + norm.to_bytes(16, "big") for channel, norm in zip(sent, norms, strict=True)
        ]
        leaves = [b"".join(items[start : start + LEAF]) for start in range(0, count, LEAF)]
        for position in sorted({0, count // 2, count - 1}):
            found.append(
                {
                    "channelRoot": "0x" + ChannelTable(10_000, np.array(sent), Norms.of(norms)).root.hex(),
                    "sent": count,
                    "position": position,
                    "channel": sent[position],
                    "squaredNorm": str(norms[position]),
                    "leaf": "0x" + leaves[position // LEAF].hex(),
                    "path": ["0x" + node.hex() for node in merkle.inclusion_proof(leaves, position // LEAF)],
                }
            )
    return found


def compute() -> dict[str, Any]:
    return {"formatVersion": 1, "records": records(), "channels": channels()}


if __name__ == "__main__":
    path = Path(__file__).with_name("proofs.json")
    path.write_text(json.dumps(compute(), indent=1) + "\n", "utf-8")
    print(f"wrote {path}")
