"""The deployment record: what an auditor pins before looking at anything. Everything else is checked against it."""

import json
from typing import Annotated, Literal, Self

from eth_utils.address import is_checksum_address
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError
from chain.protocol.keccak import keccak
from chain.protocol.rules import explain


def _checksummed(text: str) -> str:
    if not is_checksum_address(text):
        raise ValueError(f"not an address in EIP-55 spelling: {text}")
    return text


def _sha256(text: str) -> str:
    Digest.parse(text)
    return text


Keccak = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
Sha256Text = Annotated[str, AfterValidator(_sha256)]


class Deployment(BaseModel):
    """One deployed ledger. `block` is where its first event stands; `federation` is the rules file beside this
    record.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["roundledger-deployment/1"] = "roundledger-deployment/1"
    chain_id: Annotated[int, Field(ge=1)]
    genesis_block: Keccak
    address: Annotated[str, AfterValidator(_checksummed)]
    block: Annotated[int, Field(ge=0)]
    bytecode_hash: Keccak
    rules_digest: Sha256Text
    genesis_model: Sha256Text
    federation: str = "federation.toml"

    @property
    def rules(self) -> Digest:
        return Digest.parse(self.rules_digest)

    @property
    def genesis(self) -> Digest:
        return Digest.parse(self.genesis_model)

    def to_json(self) -> bytes:
        return (json.dumps(self.model_dump(), indent=2) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes, where: object) -> Self:
        """Raises ConfigError naming `where` and the field."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise ConfigError(where, explain(error)) from None


def code_hash(code: bytes) -> str:
    """keccak256 of runtime bytecode, as EXTCODEHASH gives it."""
    return "0x" + keccak(code).hex()
