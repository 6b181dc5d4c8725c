"""Tuning: every method under several server learning rates, and the peers with other shares and ranks, on a seed that
no measurement uses. What came of it is `Candidate.rates`.
"""

from collections.abc import Sequence
from statistics import fmean

from benchmarks.accuracy import SETTINGS, Rows, Run, Series
from benchmarks.methods import CANDIDATES, DENSE, HEADLINE, VARIANTS, WINNER

SEED = 0
RATES = (0.7, 1.0, 1.4, 2.0, 2.8)
SERIES = (
    Series("digits", (SEED,), HEADLINE, rates=RATES),
    Series("fashion-short", (SEED,), HEADLINE, rates=RATES),
    Series("fashion-short", (SEED,), tuple(VARIANTS), rates=RATES[1:4]),
    Series("fashion-short", (SEED,), tuple(name for name in CANDIDATES if name not in HEADLINE), rates=RATES),
    Series("fashion", (SEED,), (DENSE, "STC 1.8%, root", WINNER), rates=RATES[1:4]),
)


def columns(runs: Sequence[Run]) -> list[str]:
    return ["method", *(f"{rate:g}" for rate in _rates(runs)), "times fewer bytes"]


def rows(runs: Sequence[Run]) -> Rows:
    """Of one setting, a row a method: its accuracy under each rate, the one it is measured with in bold."""
    dense = fmean(run.uploaded for run in runs if run.candidate == DENSE)
    made = []
    for name in dict.fromkeys(run.candidate for run in runs):
        own = {run.rate: run for run in runs if run.candidate == name}
        cells = [_cell(own[rate]) if rate in own else "" for rate in _rates(runs)]
        made.append([name, *cells, f"{dense / fmean(run.uploaded for run in own.values()):.0f}"])
    return made


def title(runs: Sequence[Run]) -> str:
    setting = SETTINGS[runs[0].setting]
    return f"{setting.title}: {setting.participants} participants, seed {SEED}"


def _rates(runs: Sequence[Run]) -> list[float]:
    return sorted({run.rate for run in runs if run.rate is not None})


def _cell(run: Run) -> str:
    reached, measured = f"{100 * run.accuracy:.2f}", CANDIDATES.get(run.candidate)
    return f"**{reached}**" if measured and run.rate == measured.rate(run.setting) else reached
