"""Gathering a round: every revealed blob, fetched and verified, with a result for each participant and a verdict to
attest.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from chain.protocol import verdicts
from chain.protocol.errors import Code, Unavailable, VerificationError
from chain.protocol.round import Round
from chain.protocol.rules import Rules
from fl_node.gradient import Layout
from fl_node.store import BlobStore
from fl_node.verify import Result, VerifiedUpdate, verdict_of, verify_limits, verify_update


def look(store: BlobStore, round_: Round, participant: str, layout: Layout, rules: Rules) -> Result:
    """Fetches and verifies one update; what went wrong is the result, not an exception."""
    metadata = round_.reveals[participant]
    try:
        verify_limits(metadata, participant, round_.number, rules)
        subject = f"round {round_.number} update of {participant}"
        blob = store.get(metadata.update_digest, subject, rules.limits.update_bytes)
        return verify_update(blob, metadata, participant, round_.number, layout, rules)
    except (VerificationError, Unavailable) as error:
        return error


def gather(
    store: BlobStore,
    round_: Round,
    layout: Layout,
    rules: Rules,
    threads: int = 1,
    again: Callable[[], bool] = lambda: False,
) -> dict[str, Result]:
    """A result for every participant that revealed, in the order of participant numbers.

    A blob that is not there yet, or damaged, is looked for again as long as `again()` says so: honest nodes that look
    at different moments should come to the same verdict.
    """
    participants = sorted(round_.reveals, key=lambda who: round_.roster[who])
    with ThreadPoolExecutor(threads) as pool:
        results = dict(
            zip(participants, pool.map(lambda who: look(store, round_, who, layout, rules), participants), strict=True)
        )
    while missing := [who for who, result in results.items() if verdict_of(result) == verdicts.EXCLUDED[Code.U1]]:
        if not again():
            break
        results |= {who: look(store, round_, who, layout, rules) for who in missing}
    return results


def verdicts_of(results: Mapping[str, Result], round_: Round) -> bytes:
    """The verdicts to attest: accepted, or the code of the check that failed; U1 when the blob could not be had."""
    return verdicts.encode({round_.roster[who]: verdict_of(result) for who, result in results.items()})


def accepted_updates(results: Mapping[str, Result]) -> list[VerifiedUpdate]:
    return [result for result in results.values() if isinstance(result, VerifiedUpdate)]
