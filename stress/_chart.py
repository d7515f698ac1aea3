"""The chart of a comparison: how many times as good as each competitor the engine is, and what is promised."""

from collections.abc import Sequence
from typing import Any

from stress._readings import Reading

__all__ = ["draw"]

_MARKERS = "osD^vP*Xph<>d"


def draw(readings: Sequence[Reading], path: str, caption: str) -> None:
    """Write the chart as a PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib  # large, and needed here only

    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = [reading for reading in readings if reading.ratios]
    figure, axes = pyplot.subplots(figsize=(11, 1.8 + 0.42 * len(shown)), layout="constrained")
    _points(axes, shown)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} x")
    axes.set_yticks(range(len(shown)), [reading.figure.name for reading in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(axis="x", color="0.9")
    for row in range(0, len(shown), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="0.97", zorder=0)
    axes.set_xlabel("times as good as the competitor (right of 1: engine is ahead); | is what is promised")
    axes.set_title(caption, fontsize=9, loc="left")
    if shown:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _points(axes: Any, shown: Sequence[Reading]) -> None:
    peers = list(dict.fromkeys(peer for reading in shown for peer in reading.figure.peers))
    for index, peer in enumerate(peers):
        rows = [row for row, reading in enumerate(shown) if peer in reading.ratios]
        ratios = [shown[row].ratios[peer] for row in rows]
        if rows:
            marker = _MARKERS[index % len(_MARKERS)]
            axes.scatter(ratios, rows, label=peer, marker=marker, s=42, color=f"C{index % 10}", zorder=3)
    for row, reading in enumerate(shown):
        wanted = {goal.times for goal in reading.figure.goals if goal.times is not None}
        axes.scatter(sorted(wanted), [row] * len(wanted), marker="|", s=300, color="black", linewidth=2, zorder=2)
