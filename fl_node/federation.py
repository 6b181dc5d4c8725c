"""Founding a federation: genesis model, rules and contract, so ordered that a failure leaves nothing half-done."""

from collections.abc import Callable, Sequence
from pathlib import Path

from eth_account.signers.local import LocalAccount

from chain.client import LedgerClient
from chain.deploy import deploy, save_deployment
from chain.files import check_place, load_rules
from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError, VerificationError
from fl_node.gradient import Layout
from fl_node.model import build_model, to_tensors
from fl_node.selection import check_budgets
from fl_node.store import BlobStore
from fl_node.weights import decode_model, encode_model


def found(
    federation: Path,
    url: str,
    owner: LocalAccount,
    blobs: str,
    participants: Sequence[str],
    out: Path,
    *,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Deployment:
    """Deploys the ledger for the rules in `federation`, enrols `participants`, and writes the deployment record to
    `out`.

    The genesis model (drawn from `seed`) and the canonical rules go to the blob store, so an auditor needs nothing
    else. The record is written as soon as the contract stands: if an enrolment fails after that, it can be made up
    for later. Raises ConfigError before anything is sent when the rules, the model, the record's place or the store
    are not usable.
    """
    rules = load_rules(federation)
    tensors = to_tensors(build_model(rules, seed))
    genesis = encode_model(tensors)
    if len(genesis) > rules.limits.model_bytes:
        raise ConfigError(federation, f"limits.model_bytes: the genesis model has {len(genesis)} bytes")
    try:
        decode_model(genesis, Digest.of(genesis), rules.limits.model_bytes)  # as every node will
    except VerificationError as error:
        raise ConfigError(federation, f"no node could read the genesis model: {error}") from None
    check_budgets(Layout.of(tensors, rules.selection.layers), rules.selection)
    if out.exists():
        raise ConfigError(
            out, "exists already", "a deployment record is never overwritten: choose another --out or move it"
        )
    check_place(out)
    store = BlobStore(blobs)
    store.put(rules.canonical())
    digest = store.put(genesis)
    name = federation.name if federation.absolute().parent == out.absolute().parent else str(federation.absolute())
    deployment = deploy(url, owner, rules, digest, name)
    save_deployment(deployment, out)
    progress(f"ledger {deployment.address} on chain {deployment.chain_id}, block {deployment.block}")
    client = LedgerClient(url, deployment, owner)
    for participant in participants:
        client.enrol(participant)
        progress(f"enrolled {participant}")
    return deployment
