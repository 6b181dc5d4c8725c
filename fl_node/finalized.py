"""A finalized model, for who has not derived it round by round: from its blob or, where the store has none, derived
from the nearest earlier one that it has and the updates of the rounds between.

So nodes need not store the model of every round, which may be as large as hundreds of updates, and a model blob that
is lost or damaged is missed by nobody as long as there are the updates.
"""

from chain.protocol import verdicts
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, Unavailable, VerificationError
from chain.protocol.history import History
from chain.protocol.round import Round
from chain.protocol.rules import Rules
from fl_node.aggregate import aggregate
from fl_node.fetch import fetch_model
from fl_node.gather import common_set, look
from fl_node.gradient import Layout
from fl_node.store import BlobStore
from fl_node.tensorfile import Tensors
from fl_node.verify import VerifiedUpdate, verdict_of, verify_model
from fl_node.weights import model_digest


def finalized_model(store: BlobStore, history: History, digest: Digest, rules: Rules, threads: int = 1) -> Tensors:
    """The tensors of the finalized model `digest`, or of the genesis model.

    Raises VerificationError: A1 or A2 when the accepted updates do not give what the quorum finalized, U1 or U2 for a
    blob that holds something else, if the model cannot be derived either; Unavailable when neither can be had.
    """
    try:
        return fetch_model(store, digest, rules)
    except (Unavailable, VerificationError) as error:
        problem = error
    rounds = history.finalized
    digests = [history.rules.genesis_model, *(round_.outcome[0] for round_ in rounds if round_.outcome)]
    if digest not in digests[1:]:
        raise problem
    target = digests.index(digest, 1)
    try:
        start, base, before = _nearest(store, digests[:target], rules)
        for round_ in rounds[start:target]:
            before, base = base, _next_model(store, history, round_, base, before, rules, threads)
    except Unavailable as error:
        if isinstance(problem, VerificationError):
            raise problem from error
        reason = f"{problem.reason}; and to derive it, {error.detail}"
        raise Unavailable(problem.code, problem.subject, reason) from None
    return base


def _nearest(store: BlobStore, digests: list[Digest], rules: Rules) -> tuple[int, Tensors, Tensors | None]:
    """The last of these models that the store has, its place, and the one before it, where the server has momentum.
    Raises Unavailable when it has not even the first one.
    """
    for place in reversed(range(len(digests))):
        paired = bool(place and rules.aggregation.server_momentum)
        try:
            found = fetch_model(store, digests[place], rules)
            return place, found, fetch_model(store, digests[place - 1], rules) if paired else None
        except (Unavailable, VerificationError) as error:
            reason = error
    raise Unavailable(Code.U1, "the genesis model", reason)


def _next_model(
    store: BlobStore, history: History, round_: Round, base: Tensors, before: Tensors | None, rules: Rules, threads: int
) -> Tensors:
    """The model that this finalized round made of `base`. Raises VerificationError (A1, A2) and Unavailable."""
    layout = Layout.of(base, rules.selection.layers)
    common = common_set(store, history, round_, layout, rules)
    accepted = []
    for who in round_.accepted:
        result = look(store, round_, who, layout, rules, common)
        if isinstance(result, VerifiedUpdate):
            accepted.append(result)
        elif isinstance(result, Unavailable):
            raise result
        elif result.code is Code.U1:
            raise Unavailable(Code.U1, f"round {round_.number} update of {who}", result)
        else:
            expected, claimed = verdicts.name(verdict_of(result)), verdicts.name(verdicts.ACCEPTED)
            raise VerificationError(Code.A1, f"round {round_.number} verdict on {who}", expected, claimed)
    model = aggregate(base, accepted, layout, rules.aggregation, before, threads)
    verify_model(round_, model_digest(model))
    return model
