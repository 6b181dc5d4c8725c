"""What a participant signs so that anybody may bring it: commits, attestations, and the consent to take over a number.

A signature is in its short form (EIP-2098), as the contract reads it. Signing sends nothing and needs no coin.
"""

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from eth_typing import Hash32

from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.seal import attestation_digest, commit_digest, domain_separator, rotation_digest


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
    account: LocalAccount, deployment: Deployment, round_number: int, seal: bytes, deadline: int
) -> SignedCommit:
    """For `LedgerClient.relay_commits`."""
    digest = commit_digest(_domain(deployment), round_number, seal, deadline)
    return SignedCommit(seal, _sign(account, digest, deadline))


def sign_attestation(
    account: LocalAccount, deployment: Deployment, round_number: int, model: Digest, verdicts: bytes, deadline: int
) -> Signature:
    """For `LedgerClient.relay_attestations`."""
    digest = attestation_digest(_domain(deployment), round_number, model, verdicts, deadline)
    return _sign(account, digest, deadline)


def sign_rotation(account: LocalAccount, deployment: Deployment, participant: str, deadline: int) -> Signature:
    """The consent of `account` to take over the number of `participant`, for `LedgerClient.rotate`."""
    digest = rotation_digest(_domain(deployment), participant, str(account.address), deadline)
    return _sign(account, digest, deadline)


def _domain(deployment: Deployment) -> bytes:
    return domain_separator(deployment.chain_id, deployment.address)


def _sign(account: LocalAccount, digest: bytes, deadline: int) -> Signature:
    signed = account.unsafe_sign_hash(Hash32(digest))
    parity = signed.v - 27
    return Signature(deadline, signed.r.to_bytes(32, "big"), (signed.s | parity << 255).to_bytes(32, "big"))
