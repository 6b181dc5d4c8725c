"""The compiled contract that this version of roundledger deploys and recognises (written by `chain.compiler`)."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chain.protocol.errors import ConfigError

FORMAT_VERSION = 1
PATH = Path(__file__).resolve().parent / "RoundLedger.json"


@dataclass(frozen=True)
class Artifact:
    """One compiled contract."""

    contract_name: str
    abi: list[dict[str, Any]]
    bytecode: bytes  # what a deployment sends, before the constructor's arguments
    deployed_bytecode: bytes  # what then lies on the chain, with zeros in place of the immutables
    immutable_references: tuple[tuple[int, int], ...]  # (start, length) of each place that the constructor fills
    compiler_version: str
    compiler_settings: dict[str, Any]
    sources: dict[str, str]  # path: "sha256:<hex>"

    def runtime_matches(self, code: bytes) -> bool:
        """Whether `code`, as it lies on a chain, is this contract, whatever rules and owner it was deployed with."""
        if len(code) != len(self.deployed_bytecode):
            return False
        masked = bytearray(code)
        for start, length in self.immutable_references:
            masked[start : start + length] = bytes(length)
        return bytes(masked) == self.deployed_bytecode


@cache
def load() -> Artifact:
    """The committed artifact. Raises ConfigError if it is missing or not one."""
    try:
        raw = json.loads(PATH.read_bytes())
        if raw["formatVersion"] != FORMAT_VERSION:
            raise ConfigError(PATH, f"format version {raw['formatVersion']}, this program reads {FORMAT_VERSION}")
        runtime = raw["deployedBytecode"]
        return Artifact(
            contract_name=raw["contractName"],
            abi=raw["abi"],
            bytecode=_unhex(raw["bytecode"]),
            deployed_bytecode=_unhex(runtime["object"]),
            immutable_references=tuple((int(start), int(length)) for start, length in runtime["immutableReferences"]),
            compiler_version=raw["compiler"]["version"],
            compiler_settings=raw["compiler"]["settings"],
            sources=raw["sources"],
        )
    except FileNotFoundError:
        raise ConfigError(PATH, "no such file", "run `python -m chain.compiler`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(PATH, f"not an artifact: {error!r}", "run `python -m chain.compiler`") from None


def runtime_matches(code: bytes) -> bool:
    """Whether `code` is the committed contract, the immutables aside."""
    return load().runtime_matches(code)


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
