"""The methods that are compared: dense averaging, the compressors of the literature, and roundledger's own rules.

Every method has a server learning rate of its own, tuned on seeds that the measurement does not use
(`benchmarks.tuning`): of those within a tenth of a point of the best the lowest. The rules that `roundledger` takes by
default are `DEFAULT`.
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

    def rate(self, setting: str) -> float:
        return self.rates.get(setting, 1.0)


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
HALF, FEWER = "channels 50%, signs of 1.8%, root", "channels 80%, signs of 1%, all"
MORE = "channels 80%, signs of 2%, root"

CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        peer(DENSE, Dense, digits=2.8, fashion_short=2, fashion=1.4),
        peer("top-k 1%", lambda: TopK(0.01), digits=2.8, fashion_short=2.8),
        peer("top-k 1%, root", lambda: TopK(0.01, weighting="root"), digits=2.8, fashion_short=0.7),
        peer("DGC 1%", lambda: DGC(0.01), digits=2.8, fashion_short=1.4),
        peer("PowerSGD rank 4", lambda: PowerSGD(4), digits=1.4, fashion_short=2),
        peer("STC 1%", lambda: STC(0.01), fashion_short=2.8),
        peer("STC 1%, root", lambda: STC(0.01, weighting="root")),
        peer("STC 1.8%, root", lambda: STC(0.018, weighting="root"), digits=2.8),
        channels("channels 10%, no residual", rules("0.1"), residual=False, fashion_short=2),
        channels("channels 10%", rules("0.1"), digits=2.8, fashion_short=2),
        channels("channels 10%, common", rules("0.1", selection="common"), fashion_short=0.7),
        channels("paths 1%", rules("0.01", **PATHS), fashion_short=2),
        channels(
            "channels 10% of bytes, per entry, 3 bits, root",
            rules("0.1", bits=3, weighting="root", **PER_ENTRY),
            fashion_short=1.4,
        ),
        channels(FEWER, rules("0.8", bits=2, entries="0.01"), fashion_short=2.8),
        channels("channels 80%, signs of 1%, root", rules("0.8", weighting="root", bits=2, entries="0.01")),
        channels("channels 80%, signs of 1.8%, all", rules("0.8", bits=2, entries="0.018"), digits=2, fashion_short=2),
        channels(WINNER, DEFAULT, digits=2),
        channels(MORE, rules("0.8", weighting="root", bits=2, entries="0.02"), digits=2),
        channels(HALF, rules("0.5", weighting="root", bits=2, entries="0.018")),
    )
}
VARIANTS = {  # the peers with other shares, ranks and parts of their papers, to see whether one of them does better
    candidate.name: candidate
    for candidate in (
        peer("top-k 0.4%, root", lambda: TopK(0.004, weighting="root")),
        peer("top-k 2.5%, root", lambda: TopK(0.025, weighting="root")),
        peer("DGC 0.4%", lambda: DGC(0.004)),
        peer("DGC 2.5%", lambda: DGC(0.025)),
        peer("DGC 1%, the model as one tensor", lambda: DGC(0.01, per_tensor=False)),
        peer("DGC 1%, momentum 0", lambda: DGC(0.01, momentum=0)),
        peer("DGC 1%, momentum 0.9", lambda: DGC(0.01, momentum=0.9)),
        peer("DGC 1%, warm-up", lambda: DGC(0.01, warmup=(0.25, 0.0625, 0.015625))),
        peer("PowerSGD rank 1", lambda: PowerSGD(1)),
        peer("PowerSGD rank 2", lambda: PowerSGD(2)),
        peer("PowerSGD rank 8", lambda: PowerSGD(8)),
        peer("STC 2.5%, root", lambda: STC(0.025, weighting="root")),
    )
}
METHODS = CANDIDATES | VARIANTS
HEADLINE = (DENSE, "top-k 1%", "top-k 1%, root", "DGC 1%", "PowerSGD rank 4", "STC 1.8%, root", "channels 10%", WINNER)
FINALISTS = (
    DENSE,
    "top-k 1%, root",
    "DGC 1%",
    "PowerSGD rank 4",
    "STC 1%",
    "STC 1.8%, root",
    WINNER,
    HALF,
    FEWER,
    MORE,
)


def shown(name: str) -> str:
    """As tables and plots call it."""
    return f"{name} (default)" if name == WINNER else name
