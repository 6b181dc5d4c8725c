"""What to offer for a transaction (EIP-1559): from the market's present state, and how to outbid oneself.

All amounts are wei for a unit of gas.
"""

from dataclasses import dataclass
from typing import Any, Self

from chain.answers import quantity
from chain.rpc import JsonRpc, results

BASE_FEES = 2  # times the present base fee that is offered at most: it doubles in six full blocks
CEILING = 1_000 * 10**9  # unless the account's owner says otherwise
DEAREST = 10  # times the market's present price, above which paying more is not what a stuck transaction needs


@dataclass(frozen=True, slots=True)
class Fees:
    """The tip for the block's maker, and the most that is paid in all."""

    tip: int
    limit: int

    @classmethod
    def of(cls, transaction: dict[str, Any]) -> Self:
        return cls(transaction["maxPriorityFeePerGas"], transaction["maxFeePerGas"])

    @property
    def fields(self) -> dict[str, int]:
        return {"maxPriorityFeePerGas": self.tip, "maxFeePerGas": self.limit}


def market(rpc: JsonRpc, ceiling: int) -> Fees:
    """A sensible offer now, `ceiling` at most: what the price is, is the server's word. Raises Unavailable, RpcError;
    ValueError, TypeError, KeyError for a senseless answer.
    """
    found = results(rpc, ("eth_maxPriorityFeePerGas",), ("eth_getBlockByNumber", "latest", False))
    tip, base = quantity(found[0]), quantity(found[1]["baseFeePerGas"])
    return Fees(min(ceiling, tip), min(ceiling, tip + BASE_FEES * base))


def raised(paid: Fees, now: Fees, ceiling: int) -> Fees | None:
    """A higher offer for the same nonce; None when that is dear enough already, or would be above the ceiling.

    An eighth more in both fields: geth asks for a tenth, other clients and pools for an eighth.
    """
    if paid.limit >= DEAREST * now.limit:
        return None
    tip = max(paid.tip * 9 // 8 + 1, now.tip)
    higher = Fees(tip, max(paid.limit * 9 // 8 + 1, now.limit, tip))
    return higher if higher.limit <= ceiling else None
