"""That forge and `chain.compiler` mean the same contract, the committed one.

The contract's own tests are `make test-contracts`.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chain import artifacts
from chain.compiler import CONTRACTS
from chain.toolchain import tool


def build(out: Path) -> dict[str, Any]:
    """What forge makes of the contract, without its tests. A failure shows everything that forge printed."""
    program, node = tool("forge"), tool("node").parent
    environment = os.environ | {
        "NO_COLOR": "1",
        "PATH": f"{os.environ['PATH']}{os.pathsep}{node}",
        "FOUNDRY_OUT": str(out / "out"),  # not in the checkout
        "FOUNDRY_CACHE_PATH": str(out / "cache"),
    }
    done = subprocess.run(
        [program, "build", "src"],
        cwd=CONTRACTS,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"forge build exited with {done.returncode}:\n{done.stdout}", pytrace=False)
    built: dict[str, Any] = json.loads((out / "out" / "RoundLedger.sol" / "RoundLedger.json").read_bytes())
    return built


def canonical(entry: object) -> str:
    return json.dumps(entry, sort_keys=True)


def test_forge_compiles_to_the_committed_artifact(tmp_path: Path) -> None:
    built, artifact = build(tmp_path), artifacts.load()
    assert bytes.fromhex(built["bytecode"]["object"][2:]) == artifact.bytecode
    assert bytes.fromhex(built["deployedBytecode"]["object"][2:]) == artifact.deployed_bytecode
    assert sorted(map(canonical, built["abi"])) == sorted(map(canonical, artifact.abi))
