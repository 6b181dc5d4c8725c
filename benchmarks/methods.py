"""The methods that are compared: dense averaging, the compressors of the literature, and roundledger's own rules.

Every method has a server learning rate of its own, tuned as `benchmarks.accuracy --tune` does: on a seed that the
measurement does not use. The rules that `roundledger` takes by default are `DEFAULT`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from benchmarks.compressors import DGC, STC, Compressor, Dense, PowerSGD, TopK
from benchmarks.simulation import Channels, Federation, Method, Peer


@dataclass(frozen=True)
class Candidate:
    """A named way to make a method for a federation. `rates`: of the server, by setting. `ours`: it goes through
    verified channels.
    """

    name: str
    make: Callable[[Federation, float], Method]
    rates: Mapping[str, float]
    ours: bool = False

    def method(self, federation: Federation, rate: float | None = None) -> Method:
        return self.make(federation, rate or self.rates.get(federation.setting.name, 1.0))


def peer(name: str, make: Callable[[], Compressor], **rates: float) -> Candidate:
    return Candidate(name, lambda _, rate: Peer(make(), rate), _by_setting(rates))


def channels(name: str, rules: dict[str, dict[str, Any]], *, residual: bool = True, **rates: float) -> Candidate:
    def make(federation: Federation, rate: float) -> Method:
        server = {"server_learning_rate": Decimal(str(rate))}
        own = rules | {"aggregation": rules.get("aggregation", {}) | server}
        return Channels(federation, own, residual=residual)

    return Candidate(name, make, _by_setting(rates), ours=True)


def _by_setting(rates: Mapping[str, float]) -> dict[str, float]:
    return {name.replace("_", "-"): rate for name, rate in rates.items()}


def rules(
    upload_rate: str, *, weighting: str = "all", bits: int = 8, entries: str = "1", **selection: Any
) -> dict[str, Any]:
    return {
        "selection": {"upload_rate": Decimal(upload_rate), **selection},
        "compression": {"bits": bits, "entry_rate": Decimal(entries)},
        "aggregation": {"weighting": weighting},
    }


PER_ENTRY = {"budget": "bytes", "norm": "per-entry"}
PATHS = {"channels": "path", "layers": ["conv1", "conv2", "hidden1", "output"]}
DEFAULT = rules("0.8", weighting="root", bits=2, entries="0.018")
DENSE, WINNER = "dense FedAvg", "channels 80%, signs of 1.8%, root"
HALF = "channels 50%, signs of 1.8%, root"

CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        peer(DENSE, Dense, digits=2, fashion_short=2, fashion=1.4),
        peer("top-k 1%", lambda: TopK(0.01), digits=2, fashion_short=1.4),
        peer("top-k 1%, root", lambda: TopK(0.01, weighting="root"), fashion_short=0.7),
        peer("DGC 1%", lambda: DGC(0.01), digits=1.4, fashion_short=1.4),
        peer("PowerSGD rank 4", lambda: PowerSGD(4), digits=2, fashion_short=2),
        peer("STC 1%", lambda: STC(0.01), fashion_short=2),
        peer("STC 1.8%, root", lambda: STC(0.018, weighting="root")),
        channels("channels 10%, no residual", rules("0.1"), residual=False),
        channels("channels 10%", rules("0.1"), digits=1.4, fashion_short=1.4),
        channels("channels 10%, common", rules("0.1", selection="common"), digits=1.4, fashion_short=1.4),
        channels("paths 1%", rules("0.01", **PATHS), digits=1.4, fashion_short=1.4),
        channels("channels 10% of bytes, per entry, 3 bits, root", rules("0.1", bits=3, weighting="root", **PER_ENTRY)),
        channels("channels 80%, signs of 1.8%, all", rules("0.8", bits=2, entries="0.018"), digits=2, fashion_short=2),
        channels(WINNER, DEFAULT),
        channels(HALF, rules("0.5", weighting="root", bits=2, entries="0.018")),
    )
}
HEADLINE = (DENSE, "top-k 1%", "top-k 1%, root", "DGC 1%", "PowerSGD rank 4", "STC 1.8%, root", "channels 10%", WINNER)
FINALISTS = (DENSE, "top-k 1%, root", "DGC 1%", "PowerSGD rank 4", "STC 1.8%, root", WINNER, HALF)
