"""What a server means by its answer to a transaction. There is no standard, and codes mean nothing: only words do."""

from enum import Enum, auto

from chain.rpc import RpcError


class Answer(Enum):
    """What a server means by its answer to `eth_sendRawTransaction`."""

    TAKEN = auto()  # it has the transaction, now or already
    USED = auto()  # the nonce is used up: by this very transaction, one that it replaces, or another program's
    CHEAP = auto()  # it offers too little, by itself or beside another one of the same nonce
    POOR = auto()  # the account cannot pay
    REFUSED = auto()  # anything else


# geth, Anvil, Nethermind, Besu, Ganache: there is no standard, and their codes mean nothing.
_SAID = (
    (Answer.TAKEN, ("already known", "already imported", "known transaction", "alreadyknown")),
    (Answer.USED, ("nonce too low", "nonce is too low", "nonce_too_low", "doesn't have the correct nonce", "oldnonce")),
    (Answer.CHEAP, ("underpriced", "fee too low", "less than block base fee", "below current base fee")),
    (Answer.POOR, ("insufficient funds", "insufficientfunds", "upfront cost exceeds")),
)


def meaning(error: RpcError) -> Answer:
    """By its words, for lack of anything better."""
    said = error.message.lower()
    return next((answer for answer, words in _SAID if any(word in said for word in words)), Answer.REFUSED)
