"""What a participant signs so that anybody may bring it: commits, attestations, and the consent to take over a number.

Typed data (EIP-712), so that a signing server can show what it signs; the signature is in its short form (EIP-2098), as
the contract reads it. Signing sends nothing and needs no coin.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.seal import ATTESTATION_TYPE, COMMIT_TYPE, DOMAIN_NAME, DOMAIN_TYPE, DOMAIN_VERSION, ROTATION_TYPE
from chain.signers import Signer, signer_of


@dataclass(frozen=True, slots=True)
class Signature:
    """`IRoundLedger.Signature`: good until `deadline`, seconds of block time, inclusive."""

    deadline: int
    r: bytes
    vs: bytes  # s, and the parity of y in the topmost bit


@dataclass(frozen=True, slots=True)
class SignedCommit:
    """`IRoundLedger.SignedCommit`; whose it is follows from the signature."""

    seal: bytes
    signature: Signature


def sign_commit(
    signer: Signer | LocalAccount, deployment: Deployment, round_number: int, seal: bytes, deadline: int
) -> SignedCommit:
    """For `LedgerClient.relay_commits`. Raises as `Signer` does; so do the others."""
    message = {"round": round_number, "seal": seal, "deadline": deadline}
    return SignedCommit(seal, _sign(signer, deployment, COMMIT_TYPE, message))


def sign_attestation(
    signer: Signer | LocalAccount,
    deployment: Deployment,
    round_number: int,
    model: Digest,
    verdicts: bytes,
    deadline: int,
) -> Signature:
    """For `LedgerClient.relay_attestations`."""
    message = {"round": round_number, "model": bytes(model), "verdicts": verdicts, "deadline": deadline}
    return _sign(signer, deployment, ATTESTATION_TYPE, message)


def sign_rotation(signer: Signer | LocalAccount, deployment: Deployment, participant: str, deadline: int) -> Signature:
    """The consent of the signer's account to take over the number of `participant`, for `LedgerClient.rotate`."""
    message = {"participant": participant, "replacement": signer_of(signer).address, "deadline": deadline}
    return _sign(signer, deployment, ROTATION_TYPE, message)


def _sign(signer: Signer | LocalAccount, deployment: Deployment, kind: str, message: Mapping[str, Any]) -> Signature:
    name, fields = _fields(kind)
    document = {
        "types": {"EIP712Domain": _fields(DOMAIN_TYPE)[1], name: fields},
        "primaryType": name,
        "domain": {
            "name": DOMAIN_NAME,
            "version": DOMAIN_VERSION,
            "chainId": deployment.chain_id,
            "verifyingContract": deployment.address,
        },
        # a signing server is asked in JSON
        "message": {key: "0x" + value.hex() if isinstance(value, bytes) else value for key, value in message.items()},
    }
    signature = signer_of(signer).sign_typed(document)
    r, s, parity = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64] % 27
    return Signature(message["deadline"], r, (s | parity << 255).to_bytes(32, "big"))


def _fields(kind: str) -> tuple[str, list[dict[str, str]]]:
    """Name and fields of an encoded type, `Name(type name,type name...)`, as typed data lists them."""
    name, _, rest = kind.rstrip(")").partition("(")
    pairs = [field.split(" ") for field in rest.split(",")]
    return name, [{"name": field, "type": of} for of, field in pairs]
