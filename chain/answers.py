"""What a server means by its answers: numbers, and words about a transaction. For the words there is no standard, and
codes mean nothing.
"""

from enum import Enum, auto
from typing import Any

from chain.rpc import RpcError

NUMBER, WEI = 63, 256  # bits: of heights, times, gas, nonces and identifiers (none is near); of amounts of coin


def quantity(found: Any, bits: int = NUMBER) -> int:
    """A number as JSON-RPC writes it, in hexadecimal. Raises TypeError and ValueError for anything else, and for one
    that is longer: it would be too large for the database, for a float, or to be shown.
    """
    if len(found) > 2 + WEI:  # leading zeros are nobody's right
        raise ValueError("not a number of a chain")
    number = int(found, 16)
    if not 0 <= number < 1 << bits:
        raise ValueError(f"not a number of {bits} bits")
    return number


class Answer(Enum):
    """What a server means by its answer to `eth_sendRawTransaction`."""

    TAKEN = auto()  # it has the transaction, now or already
    USED = auto()  # the nonce is used up: by this very transaction, one that it replaces, or another program's
    RIVAL = auto()  # it offers too little beside another one of the same nonce
    CHEAP = auto()  # it offers too little by itself
    POOR = auto()  # the account cannot pay
    REFUSED = auto()  # anything else


# geth, Anvil, Nethermind, Besu, Ganache: there is no standard, and their codes mean nothing.
_SAID = (
    (Answer.TAKEN, ("already known", "already imported", "known transaction", "alreadyknown")),
    (Answer.USED, ("nonce too low", "nonce is too low", "nonce_too_low", "doesn't have the correct nonce", "oldnonce")),
    (Answer.RIVAL, ("replacement",)),
    (Answer.CHEAP, ("underpriced", "fee too low", "less than block base fee", "below current base fee")),
    (Answer.POOR, ("insufficient funds", "insufficientfunds", "upfront cost exceeds")),
)


def meaning(error: RpcError) -> Answer:
    """By its words, for lack of anything better."""
    said = error.message.lower()
    return next((answer for answer, words in _SAID if any(word in said for word in words)), Answer.REFUSED)
