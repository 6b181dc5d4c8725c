"""Federations under rules that the demos do not have: every node finalizes the same models, and the audit passes."""

from pathlib import Path
from typing import Any

import pytest

from chain.protocol.rules import Rules
from tests.simulator.world import World, document

RULES: dict[str, dict[str, Any]] = {
    "the defaults": {"selection": {}, "compression": {}},
    "server momentum": {"aggregation": {"server_momentum": 0.5, "server_learning_rate": 0.7, "weighting": "root"}},
    "paths": {"selection": {"channels": "path", "layers": ["hidden1", "output"], "upload_rate": 0.2, "warm_up": [1]}},
    "a budget in bytes": {
        "selection": {"upload_rate": 0.5, "budget": "bytes", "norm": "per-entry", "scope": "layer"},
        "compression": {"bits": 3, "block": 2},
    },
    "a common set": {"selection": {"upload_rate": 0.5, "selection": "common", "warm_up": [1, 0.8]}},
}


@pytest.mark.parametrize("name", RULES)
def test_three_rounds_and_their_audit(name: str, tmp_path: Path) -> None:
    rules = Rules.parse(document(name) | RULES[name], "simulator")
    world = World.found(tmp_path, rules)
    models = set()
    for number in (1, 2, 3):
        if number == 3:  # one that was away does not know the models before, nor what others sent
            world.session(1)
        world.play(number, world.honest_fourth(number))
        assert not world.ended and len(world.digests()) == 1
        models |= world.digests()
    assert len(models) == 3
    audited = world.audit(blob_rules=True)
    assert audited.exit_code == 0 and audited.has("pass", "A2", 3, None)
    assert all(audited.has("pass", "U5", number, None) for number in (1, 2, 3))
    world.close()
