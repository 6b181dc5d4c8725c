"""From Solidity to the committed artifact, the same bytes on every machine.

`python -m chain.compiler` writes `chain/artifacts/RoundLedger.json`; `--check` exits with 1 when that file is not what
the sources give. The compiler is the one that `hardhat-free-local/package-lock.json` pins, called through its wrapper.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chain.artifacts import FORMAT_VERSION, PATH
from chain.files import write_atomic
from chain.protocol.errors import ConfigError, RoundledgerError
from chain.toolchain import LOCAL, MODULES, ROOT, tool

CONTRACTS = ROOT / "contracts"
SOLC = LOCAL / "solc"
SOURCE, CONTRACT = "src/RoundLedger.sol", "RoundLedger"

# contracts/foundry.toml says the same; tests/integration/test_contracts.py compares the bytes. No metadata is appended:
# it holds a hash over the sources' paths, which differ between tools.
SETTINGS: dict[str, Any] = {
    "evmVersion": "shanghai",
    "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
    "optimizer": {"enabled": True, "runs": 10_000},
    "viaIR": True,
}


def compile_contract(contracts: Path = CONTRACTS) -> dict[str, Any]:
    """The artifact of the Solidity project in `contracts`. Raises ConfigError with the compiler's own messages."""
    import solcx  # noqa: PLC0415 - slow, and only the maintainer of the contract needs it
    from solcx.exceptions import SolcError  # noqa: PLC0415

    if not (MODULES / "solc" / "soljson.js").exists():
        raise ConfigError(SOLC, "the Solidity compiler is not installed", f"run `make setup`, or `npm ci` in {LOCAL}")
    sources = _sources(contracts)
    outputs = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"]
    job = {
        "language": "Solidity",
        "settings": {**SETTINGS, "outputSelection": {SOURCE: {CONTRACT: outputs}}},
        "sources": {name: {"content": text} for name, text in sources.items()},
    }
    try:
        with _node_on_path():
            version = solcx.wrapper.get_version_str_from_solc_binary(SOLC)
            # Imports that are not among the sources are @openzeppelin/..., below node_modules.
            output = solcx.compile_standard(job, base_path=MODULES, allow_paths=MODULES, solc_binary=SOLC)
    except SolcError as error:
        raise ConfigError(contracts, f"does not compile:\n{error.message}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(SOLC, f"the compiler failed: {error}") from None

    compiled = output["contracts"][SOURCE][CONTRACT]
    runtime = compiled["evm"]["deployedBytecode"]
    return {
        "abi": compiled["abi"],
        "bytecode": "0x" + compiled["evm"]["bytecode"]["object"],
        "compiler": {"settings": SETTINGS, "version": version},
        "contractName": CONTRACT,
        "deployedBytecode": {
            # The compiler's keys are numbers of syntax nodes: they mean nothing, and the place alone is needed.
            "immutableReferences": sorted(
                (place["start"], place["length"])
                for places in runtime["immutableReferences"].values()
                for place in places
            ),
            "object": "0x" + runtime["object"],
        },
        "formatVersion": FORMAT_VERSION,
        "sources": {name: "sha256:" + _sha256(name, contracts) for name in sorted(output["sources"])},
    }


def encode(artifact: dict[str, Any]) -> bytes:
    """The one way to write an artifact."""
    return (json.dumps(artifact, indent=1, sort_keys=True) + "\n").encode()


def _sources(contracts: Path) -> dict[str, str]:
    files = sorted((contracts / "src").rglob("*.sol"))
    if not files:
        raise ConfigError(contracts / "src", "no Solidity sources")
    return {file.relative_to(contracts).as_posix(): file.read_text("utf-8") for file in files}


def _sha256(name: str, contracts: Path) -> str:
    folder = MODULES if name.startswith("@") else contracts
    return hashlib.sha256((folder / name).read_bytes()).hexdigest()


@contextmanager
def _node_on_path() -> Iterator[None]:
    """The wrapper is a Node script; Node may be known to the toolchain only."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{before}{os.pathsep}{tool('node').parent}" if before else str(tool("node").parent)
    try:
        yield
    finally:
        os.environ["PATH"] = before


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m chain.compiler", description="Compiles contracts/ into the artifact."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if the artifact is out of date"
    )
    check: bool = parser.parse_args(arguments).check
    try:
        fresh = encode(compile_contract())
    except RoundledgerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if not check:
        write_atomic(PATH, fresh)
        print(f"wrote {PATH}")
    elif not PATH.exists() or PATH.read_bytes() != fresh:
        print(f"{PATH} is not what the sources give: run `python -m chain.compiler`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
