"""Tuning: every method under several server learning rates, and the peers with other shares and ranks, on seeds that no
measurement uses. What came of it is `Candidate.rates`.
"""

from collections.abc import Sequence
from statistics import fmean

from benchmarks.accuracy import SETTINGS, Rows, Run, Series
from benchmarks.methods import CANDIDATES, DENSE, HEADLINE, VARIANTS, WINNER, shown

RATES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
SERIES = (
    Series("digits", (0, 9, 10), HEADLINE, rates=RATES[2:]),  # 450 held-out records: one seed says little
    Series("fashion-short", (0,), HEADLINE, rates=RATES),
    Series("fashion-short", (0,), tuple(VARIANTS), rates=RATES[2:5]),
    Series("fashion-short", (0,), tuple(name for name in CANDIDATES if name not in HEADLINE), rates=RATES[1:-1]),
    Series("fashion", (0,), (DENSE, "STC 1.8%, root", WINNER), rates=RATES[2:5]),
)


def columns(runs: Sequence[Run]) -> list[str]:
    return ["method", *(f"{rate:g}" for rate in _rates(runs)), "times fewer bytes"]


def rows(runs: Sequence[Run]) -> Rows:
    """Of one setting, a row a method: its mean accuracy under each rate, the one it is measured with in bold."""
    dense = fmean(run.uploaded for run in runs if run.candidate == DENSE and run.history)
    made = []
    for name in dict.fromkeys(run.candidate for run in runs):
        own = [run for run in runs if run.candidate == name]
        cells = [_cell([run for run in own if run.rate == rate]) for rate in _rates(runs)]
        made.append([shown(name), *cells, f"{dense / fmean(run.uploaded for run in own if run.history):.0f}"])
    return made


def title(runs: Sequence[Run]) -> str:
    setting = SETTINGS[runs[0].setting]
    seeds = sorted({run.seed for run in runs})
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    return f"{setting.title}: {setting.participants} participants, {named}"


def _rates(runs: Sequence[Run]) -> list[float]:
    return sorted({run.rate for run in runs})


def _cell(runs: Sequence[Run]) -> str:
    if not all(run.history for run in runs):
        return "diverges"
    if not runs:
        return ""
    reached, measured = f"{100 * fmean(run.accuracy for run in runs):.2f}", CANDIDATES.get(runs[0].candidate)
    return f"**{reached}**" if measured and runs[0].rate == measured.rate(runs[0].setting) else reached
