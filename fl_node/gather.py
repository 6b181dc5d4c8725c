"""Gathering a round: every revealed blob, fetched and verified, with a result for each participant and a verdict to
attest.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from chain.protocol import verdicts
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, Unavailable, VerificationError
from chain.protocol.history import History
from chain.protocol.round import Round
from chain.protocol.rules import Rules
from fl_node.gradient import Layout
from fl_node.norms import Norms
from fl_node.packing import Received, bytes_of, unpack, update_of
from fl_node.selection import common_channels, summed_norms
from fl_node.store import BlobStore
from fl_node.threads import shared
from fl_node.update import Update
from fl_node.verify import Result, VerifiedUpdate, verdict_of, verify_limits, verify_update


def fetch_update(store: BlobStore, round_: Round, participant: str, layout: Layout, rules: Rules) -> Received:
    """A revealed update, not compared with its digest yet: that is the first thing that `verify_update` does. No more
    is read than its canonical bytes would be.

    Raises Unavailable, or VerificationError (U1) for bytes that nobody packed.
    """
    metadata = round_.reveals[participant]
    subject = f"round {round_.number} update of {participant}"
    data = store.read(metadata.update_digest, subject, min(metadata.update_bytes, rules.limits.update_bytes))
    return unpack(data, layout, rules, participant, round_.number, Digest(metadata.base_model))


def revealed_update(store: BlobStore, round_: Round, participant: str, layout: Layout, rules: Rules) -> Update:
    """The update of a round that is final, where the quorum has verified what its digest binds. Raises Unavailable, or
    VerificationError (U1).
    """
    received = fetch_update(store, round_, participant, layout, rules)
    subject = f"round {round_.number} update of {participant}"
    if (found := Digest.of(bytes_of(received))) != (expected := round_.reveals[participant].update_digest):
        raise VerificationError(Code.U1, subject, expected, found)
    return update_of(received, layout, rules, subject)


def look(
    store: BlobStore,
    round_: Round,
    participant: str,
    layout: Layout,
    rules: Rules,
    common: Sequence[int] | None = None,
    own: bytes | None = None,
) -> Result:
    """Fetches and verifies one update; what went wrong is the result, not an exception. `own`: the canonical bytes of
    one that need not be fetched.
    """
    metadata = round_.reveals[participant]
    try:
        verify_limits(metadata, participant, round_.number, rules)
        received = own or fetch_update(store, round_, participant, layout, rules)
        return verify_update(received, metadata, participant, round_.number, layout, rules, common)
    except (VerificationError, Unavailable) as error:
        return error


def gather(
    store: BlobStore,
    round_: Round,
    layout: Layout,
    rules: Rules,
    common: Sequence[int] | None = None,
    threads: int = 1,
    again: Callable[[list[str]], bool] = lambda missing: False,
    own: Mapping[str, bytes] = MappingProxyType({}),
) -> dict[str, Result]:
    """A result for every participant that revealed, in the order of participant numbers. `own` updates are at hand: a
    store that is away for everybody does not lead to a quorum that excludes everybody.

    A blob that is not there yet, or damaged, is looked for again as long as `again`, called with the participants whose
    blobs are missing, says so: honest nodes that look at different moments should come to the same verdict.
    """
    participants = sorted(round_.reveals, key=lambda who: round_.roster[who])

    def look_at(who: str) -> Result:
        return look(store, round_, who, layout, rules, common, own.get(who))

    with shared(threads) as mapped:
        results = dict(zip(participants, mapped(look_at, participants), strict=True))
    while missing := [who for who, result in results.items() if verdict_of(result) == verdicts.EXCLUDED[Code.U1]]:
        if not again(missing):
            break
        results |= {who: look_at(who) for who in missing}
    return results


def common_set(
    store: BlobStore, history: History, round_: Round, layout: Layout, rules: Rules, summed: Norms | None = None
) -> tuple[int, ...] | None:
    """The channels that everybody sends in this round, where the rules ask for a common selection; None otherwise.

    They follow from the norm tables of the updates accepted in the last round finalized before it: each of them is
    bound by its digest, and the quorum has verified it. `summed`: their sums, if they are known already.

    Raises Unavailable, also for a blob that has been damaged since: that speaks against nobody in this round.
    """
    if rules.selection.selection != "common":
        return None
    if summed is None:
        tables, last = [], history.last_finalized(round_.number)
        for who in last.accepted if last else ():
            assert last is not None  # noqa: S101 - narrows for mypy
            try:
                norms = revealed_update(store, last, who, layout, rules).norms
            except VerificationError as error:
                raise Unavailable(Code.U5, f"round {round_.number} common set", error) from None
            tables += [] if norms is None else [norms]
        summed = summed_norms(tables, layout.channels)
    return common_channels(summed, layout, rules.selection, round_.number)


def verdicts_of(results: Mapping[str, Result], round_: Round) -> bytes:
    """The verdicts to attest: accepted, or the code of the check that failed; U1 when the blob could not be had."""
    return verdicts.encode({round_.roster[who]: verdict_of(result) for who, result in results.items()})


def accepted_updates(results: Mapping[str, Result]) -> list[VerifiedUpdate]:
    return [result for result in results.values() if isinstance(result, VerifiedUpdate)]
