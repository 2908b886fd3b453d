"""Draws what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

# Legible on a light page and on a dark one.
_TEXT = "#7a7f87"
_OURS, _OTHERS = "#3b82c4", "#a9afb8"


def draw(path: Path, times: Mapping[str, float], ours: set[str]) -> None:
    """Write a bar chart as SVG.

    Args:
        path: Where to.
        times: Microseconds by name, from top to bottom.
        ours: Which of the bars are of this package.
    """
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "litestar", "font.family": "sans-serif"})
    figure = Figure(figsize=(6.4, 0.36 * len(times) + 0.2), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        list(times), list(times.values()), color=[_OURS if n in ours else _OTHERS for n in times], height=0.7
    )
    axes.bar_label(bars, fmt=" %.0f µs", color=_TEXT)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.xaxis.set_visible(False)
    axes.tick_params(colors=_TEXT, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.savefig(path, transparent=True, metadata={"Date": None})
