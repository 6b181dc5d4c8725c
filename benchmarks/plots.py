"""The plots of the report, as SVG."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib import pyplot

from benchmarks.accuracy import SETTINGS, Run, by_seeds, common_looks
from benchmarks.methods import CANDIDATES, shown
from benchmarks.overhead import Overhead

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "roundledger"  # equal plots are equal files
mpl.rcParams["font.size"] = 9
OURS = {candidate.name for candidate in CANDIDATES.values() if candidate.ours}


def accuracy(runs: Sequence[Run], path: Path) -> Path:
    """Accuracy over all bytes uploaded so far, the median over seeds, of those that were run with most of them; ours in
    full lines.
    """
    figure, axes = pyplot.subplots(figsize=(10, 5), layout="constrained")
    seeds, names = next(iter(by_seeds(runs).items()))
    every = common_looks(run for run in runs if run.candidate in names and run.seed in seeds)
    for name in names:
        own = [run.seen(every) for run in runs if run.candidate == name and run.seed in seeds]
        sizes = [median(point[0] for point in points) for points in zip(*own, strict=True)]
        reached = [100 * median(point[1] for point in points) for points in zip(*own, strict=True)]
        style, width = ("-", 1.8) if name in OURS else (":", 1.4)
        axes.plot(sizes, reached, style, label=shown(name), linewidth=width)
    best = 100 * max(point[1] for run in runs for point in run.history)
    axes.set(xscale="log", xlabel="bytes uploaded by all", ylabel="accuracy on held-out records, %")
    axes.set(title=f"{SETTINGS[runs[0].setting].title}, {len(seeds)} seeds", ylim=(max(0, best - 20), best + 0.5))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return _save(figure, path)


def overhead(results: Sequence[Overhead], path: Path) -> Path:
    """Seconds of a round over the number of nodes, one panel for each size of the model."""
    sizes = sorted({result.parameters for result in results})
    figure, panels = pyplot.subplots(1, len(sizes), figsize=(4 * len(sizes), 4), sharey=True, layout="constrained")
    for panel, size in zip([panels] if len(sizes) == 1 else panels, sizes, strict=True):
        for name in dict.fromkeys(result.framework for result in results):
            own = [r for r in results if r.framework == name and r.parameters == size and r.typical is not None]
            style = "o-" if name == "roundledger" else "o:"
            panel.plot([r.nodes for r in own], [r.typical for r in own], style, label=name, markersize=4)
        nodes = sorted({result.nodes for result in results})
        panel.set(xscale="log", yscale="log", xlabel="nodes", title=f"{size:,} parameters")
        panel.set_xticks(nodes, [str(count) for count in nodes], minor=False)
        panel.set_xticks([], minor=True)
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("seconds a round, without training")
    figure.axes[0].legend(fontsize=8)
    return _save(figure, path)


def _save(figure: pyplot.Figure, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path
