"""The Solidity project's own tests, and that forge and `chain.compiler` mean the same contract."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from chain import artifacts
from chain.compiler import CONTRACTS
from chain.toolchain import tool


def forge(*arguments: str, out: Path | None = None) -> str:
    """Runs forge; a failure shows everything that it printed. `out` keeps the build out of the checkout."""
    program, node = tool("forge"), tool("node").parent
    environment = os.environ | {
        "NO_COLOR": "1",
        "PATH": f"{os.environ['PATH']}{os.pathsep}{node}",
        "FORGE_SNAPSHOT_CHECK": "true",  # the gas figures are compared with the committed ones
    }
    if out is not None:
        environment |= {"FOUNDRY_OUT": str(out / "out"), "FOUNDRY_CACHE_PATH": str(out / "cache")}
    done = subprocess.run(
        [program, *arguments],
        cwd=CONTRACTS,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"forge {' '.join(arguments)} exited with {done.returncode}:\n{done.stdout}", pytrace=False)
    return done.stdout


def canonical(entry: object) -> str:
    return json.dumps(entry, sort_keys=True)


def test_forge_tests_pass_and_compile_to_the_committed_artifact(tmp_path: Path) -> None:
    report = forge("test", out=tmp_path)
    assert ", 0 failed, 0 skipped" in report

    built = json.loads((tmp_path / "out" / "RoundLedger.sol" / "RoundLedger.json").read_bytes())
    artifact = artifacts.load()
    assert bytes.fromhex(built["bytecode"]["object"][2:]) == artifact.bytecode
    assert bytes.fromhex(built["deployedBytecode"]["object"][2:]) == artifact.deployed_bytecode
    assert sorted(map(canonical, built["abi"])) == sorted(map(canonical, artifact.abi))


def test_the_sources_are_formatted() -> None:
    forge("fmt", "--check")
