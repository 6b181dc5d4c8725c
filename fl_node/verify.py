"""What every node checks before it aggregates, and every auditor afterwards: the same functions, pure.

Bytes and ledger records in, a verified value or a `VerificationError` out. No clock, file, network, torch or web3.
C1, U6, A3, L2 and L3 are checked while the history is replayed (`chain.protocol.history`); here stand the checks that
need a blob or the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chain.protocol import verdicts
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, TrustError, Unavailable, VerificationError
from chain.protocol.history import History
from chain.protocol.round import Round
from chain.protocol.rules import Rules
from chain.protocol.seal import Metadata
from fl_node.channels import ChannelTable, Codes, norm_code
from fl_node.gradient import Layout
from fl_node.packing import Received, bytes_of, update_of
from fl_node.selection import threshold, verify_selection
from fl_node.tensorfile import Tensors
from fl_node.update import LayerUpdate, Update, entry_budget


@dataclass(frozen=True, slots=True)
class VerifiedUpdate:
    """An update that passed U1 to U5. Only `verify_update` makes one, and aggregation accepts nothing else."""

    participant: str
    records: int
    layers: tuple[LayerUpdate, ...]
    norms: Codes | None = None  # of all channels, for the next round's common set


def verify_update(
    received: Received,
    metadata: Metadata,
    participant: str,
    round_number: int,
    layout: Layout,
    rules: Rules,
    common: Sequence[int] | None = None,
) -> VerifiedUpdate:
    """Checks a revealed update, unpacked or in its canonical bytes, against its metadata, step by step. Raises
    VerificationError with the code of the step. `common` is the round's common set, where the rules ask for one; None:
    everything.
    """
    subject, blob = f"round {round_number} update of {participant}", bytes_of(received)
    # U1: the committed digest
    if (found := Digest.of(blob)) != metadata.update_digest:
        raise VerificationError(Code.U1, subject, metadata.update_digest, found)
    # U2: the committed size, canonical, within limits, for this model; it says of itself what the ledger says of it
    _check(Code.U2, subject, f"{metadata.update_bytes} bytes", f"{len(blob)} bytes")
    update = update_of(received, layout, rules, subject)
    claims = (participant, round_number, str(metadata.base_model))
    _check(Code.U2, subject, claims, (update.participant, update.round, str(update.base_model)))
    if rules.compression.sparse and (entries := _entries(update)) > (
        allowed := entry_budget(layout, rules.compression)
    ):
        raise VerificationError(Code.U2, subject, f"at most {allowed} entries that are not zero", entries)
    # U3: the channels that were sent
    _check(Code.U3, f"{subject} channels", metadata.channels, layout.channels)
    _check(Code.U3, f"{subject} channels sent", metadata.sent, len(update.sent))
    # U4: their norms, computed from the values
    table = update.table(layout)
    _check(Code.U4, f"{subject} channel table", metadata.channel_root, table.root)
    _verify_norms(update, table, subject)
    # U5: the selection
    verify_selection(table, layout, rules.selection, round_number, common, subject)
    _check(Code.U5, f"{subject} threshold", metadata.threshold, threshold(table, layout))
    return VerifiedUpdate(participant, metadata.records, update.layers, update.norms)


def _entries(update: Update) -> int:
    return sum(part.values.entries for part in update.layers)


def _verify_norms(update: Update, table: ChannelTable, subject: str) -> None:
    """The claimed norm codes, where there are any, agree with the values as far as these were sent."""
    if update.norms is not None:
        for channel, squared in zip(table.sent.tolist(), table.squared_norms, strict=True):
            claimed = int(update.norms[channel])
            _check(Code.U4, f"{subject} norm code of channel {channel}", norm_code(squared), claimed)


def verify_limits(metadata: Metadata, participant: str, round_number: int, rules: Rules) -> None:
    """U2 before a byte is read: the size and the number of records that were committed. Raises VerificationError."""
    subject, limits = f"round {round_number} update of {participant}", rules.limits
    if metadata.update_bytes > limits.update_bytes:
        raise VerificationError(Code.U2, subject, f"at most {limits.update_bytes} bytes", metadata.update_bytes)
    if metadata.records > limits.records:
        raise VerificationError(Code.U2, subject, f"at most {limits.records} records", metadata.records)


Result = VerifiedUpdate | VerificationError | Unavailable


def verdict_of(result: Result) -> int:
    """What an honest participant attests about an update: accepted, or the check that failed; U1 when it could not be
    had.
    """
    return verdicts.ACCEPTED if isinstance(result, VerifiedUpdate) else verdicts.EXCLUDED[result.code]


def verify_accepted_set(attested: bytes, round_: Round, results: Mapping[str, Result]) -> list[VerifiedUpdate]:
    """A1: the attested verdicts are those that the updates deserve. Returns the accepted updates by participant number.

    `results` holds one for every participant that revealed. An exclusion for U1 cannot be refuted later, so it
    stands; and a blob that is missing or damaged now (U1) says nothing about what the voters saw. Raises
    VerificationError naming the participant; if there is no such contradiction, Unavailable when an update with any
    other verdict cannot be judged.
    """
    claimed, accepted, missing = verdicts.decode(attested), [], None
    numbers = {round_.roster[who]: who for who in round_.reveals}
    if claimed.keys() != numbers.keys():
        subject = f"round {round_.number} accepted set"
        raise VerificationError(Code.A1, subject, f"verdicts on participants {sorted(numbers)}", sorted(claimed))
    for number, who in sorted(numbers.items()):
        result, verdict = results[who], claimed[number]
        if verdict == verdicts.EXCLUDED[Code.U1]:
            continue
        if verdict_of(result) == verdicts.EXCLUDED[Code.U1] and verdicts.is_known(verdict):
            missing = missing or Unavailable(Code.A1, f"round {round_.number} verdict on {who}", result)
        elif verdict != verdict_of(result):
            subject = f"round {round_.number} verdict on {who}"
            raise VerificationError(Code.A1, subject, verdicts.name(verdict_of(result)), verdicts.name(verdict))
        elif verdict == verdicts.ACCEPTED and isinstance(result, VerifiedUpdate):
            accepted.append(result)
    if missing:
        raise missing
    return accepted


def verify_model(round_: Round, derived: Digest) -> None:
    """A2: re-aggregation gives the finalized model. Raises VerificationError."""
    if round_.outcome and round_.outcome[0] != derived:
        raise VerificationError(Code.A2, f"round {round_.number} model", round_.outcome[0], derived)


def verify_shapes(model: Tensors, base: Tensors, subject: str) -> None:
    """U2: a model has the tensors of the one that it follows. Raises VerificationError."""
    expected, found = ({name: tensor.shape for name, tensor in each.items()} for each in (base, model))
    _check(Code.U2, subject, f"tensors {expected}", f"tensors {found}")


def verify_rules(history: History, rules: Rules) -> None:
    """L4: the ledger was created with exactly these rules. Raises VerificationError."""
    on_chain, ledger = history.rules, rules.ledger
    _check(Code.L4, "rules digest", on_chain.rules_digest, rules.digest)
    for name, expected, actual in (
        ("commit_window", ledger.commit_window, on_chain.commit_window),
        ("reveal_window", ledger.reveal_window, on_chain.reveal_window),
        ("attest_window", ledger.attest_window, on_chain.attest_window),
        ("min_updates", ledger.min_updates, on_chain.min_updates),
        ("quorum_bps", ledger.quorum_bps, on_chain.quorum_bps),
    ):
        _check(Code.L4, name, expected, actual)
    if (finalized := len(history.finalized)) > rules.training.rounds:
        raise VerificationError(Code.L4, "finalized rounds", f"at most {rules.training.rounds}", finalized)


def verify_created(history: History, chain_id: int, ledger: str, genesis_model: Digest, rules: Digest) -> None:
    """L1: the Created event names the chain, the contract, the genesis model and the rules of the deployment record.
    Raises TrustError.
    """
    created = history.created
    if created is None:
        raise TrustError(Code.L1, "ledger", "a Created event", "none")
    for name, pinned, found in (
        ("chain id", chain_id, created.chain_id),
        ("ledger", ledger, created.ledger),
        ("genesis model", genesis_model, created.rules.genesis_model),
        ("rules digest", rules, created.rules.rules_digest),
    ):
        if pinned != found:
            raise TrustError(Code.L1, f"{name} of the Created event", pinned, found)


def verify_head(history: History, head: bytes) -> None:
    """L2: the replayed events reproduce the head of the contract. Raises VerificationError."""
    if history.head != head:
        found = f"0x{history.head.hex()} after {history.events} events"
        raise VerificationError(Code.L2, "running head", f"0x{head.hex()}", found)


def verify_data_root(metadata: Metadata, round_number: int, root: Digest, records: int, commitment: Digest) -> None:
    """D1: the node's data give the data root it committed. Raises VerificationError."""
    expected = (metadata.data_root, metadata.records, metadata.secret_commitment)
    _check(
        Code.D1,
        f"round {round_number} data root",
        tuple(map(str, expected)),
        tuple(map(str, (root, records, commitment))),
    )


def _check(code: Code, subject: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise VerificationError(code, subject, expected, actual)
