"""Channel norms, the selection by upload rate, and the channel table that commits to both.

Norms are kept squared and exact: whole numbers in units of 2**-60. Ranking squares ranks the norms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ldexp, sqrt

from chain.protocol import merkle
from chain.protocol.digest import Digest
from chain.protocol.rules import SelectionRules
from fl_node.quantise import EXPONENT_MIN, Quantised, squared_norms

NORM_BYTES = 16


@dataclass(frozen=True, slots=True)
class ChannelTable:
    """For every channel of the model its squared norm and whether it was sent."""

    squared_norms: tuple[int, ...]
    sent: tuple[int, ...]  # channel numbers, ascending

    @property
    def threshold(self) -> int:
        """The smallest selected norm, squared; 0 if nothing was sent."""
        return min((self.squared_norms[channel] for channel in self.sent), default=0)

    @property
    def root(self) -> Digest:
        """RFC 6962 root over the channels in order. A leaf is u32 channel || u128 squared norm || u8 sent, big
        endian.
        """
        sent = set(self.sent)
        return merkle.root(
            channel.to_bytes(4, "big") + squared.to_bytes(NORM_BYTES, "big") + bytes([channel in sent])
            for channel, squared in enumerate(self.squared_norms)
        )


def channel_norms(quantised: Sequence[Quantised]) -> tuple[int, ...]:
    """The squared norms of all channels of the model, layer after layer."""
    return tuple(squared for layer in quantised for squared in squared_norms(layer))


def select(norms: Sequence[int], rules: SelectionRules) -> tuple[int, ...]:
    """The channels to send, ascending: the `ceil(rate * channels)` largest norms, ties to the lower number, never a
    zero.
    """
    ranked = sorted(range(len(norms)), key=lambda channel: (-norms[channel], channel))
    return tuple(sorted(channel for channel in ranked[: rules.count(len(norms))] if norms[channel]))


def as_float(squared: int) -> float:
    """The norm that a squared one stands for, for people."""
    return ldexp(sqrt(squared), EXPONENT_MIN)
