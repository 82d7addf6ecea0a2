"""Report -> matplotlib Figure. Draws, never computes or saves."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from completions_lp.records import Kind, Report, ReportRow
from completions_lp.reporting import HEADLINE

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # embed fonts as text, which journals ask for
    "figure.dpi": 200,
}
COLUMN = 3.4
"""Width of one column of a paper, in inches."""


def plot_layers(report: Report, *, quantity: str = HEADLINE, kind: Kind = "target", axes: Axes | None = None) -> Figure:
    """The layer sweep: one line per multiplier, with the interval over prompts as a band where there is one.

    Args:
        report: What to draw.
        quantity: A quantity of the report.
        kind: Which vectors.
        axes: Draw here instead of on a new figure of one column's width.
    """
    with mpl.rc_context(STYLE):
        if axes is None:
            figure = Figure(figsize=(COLUMN, 2.5), layout="constrained")
            axes = figure.add_subplot()
        rows = [row for row in report.table(quantity, kind=kind) if row.condition.multiplier != 0]
        multipliers = sorted({row.condition.multiplier for row in rows})
        axes.axhline(0, color="0.4", linewidth=0.7)
        if not rows:
            axes.text(0.5, 0.5, "no conditions to draw", ha="center", va="center", transform=axes.transAxes)
        for multiplier, style in zip(multipliers, _styles(len(multipliers)), strict=True):
            _draw_line(axes, [row for row in rows if row.condition.multiplier == multiplier], f"{multiplier:+g}", style)
        axes.set_xlabel("layer at whose output the vector is added")
        axes.set_ylabel(f"{_describe(quantity)}\n({rows[0].estimate.unit if rows else 'nats'})")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        if rows:
            axes.legend(title="multiplier", ncols=min(4, len(multipliers)), title_fontsize=7)
        return axes.figure.figure if not isinstance(axes.figure, Figure) else axes.figure


def _draw_line(axes: Axes, rows: list[ReportRow], label: str, style: dict[str, Any]) -> None:
    """One multiplier's line over layers and its band; an interval that does not exist is not drawn."""
    rows = sorted(rows, key=lambda row: row.condition.layer)
    layers = [row.condition.layer for row in rows]
    axes.plot(layers, [row.estimate.value for row in rows], label=label, **style)
    low = np.array([np.nan if row.estimate.low is None else row.estimate.low for row in rows])
    high = np.array([np.nan if row.estimate.high is None else row.estimate.high for row in rows])
    if np.isfinite(low).any():
        axes.fill_between(layers, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _styles(n: int) -> list[dict[str, Any]]:
    """Lines that differ in colour (safe for the colour-blind, of different greys) and in marker."""
    colors = mpl.colormaps["cividis"](np.linspace(0.05, 0.9, n))
    markers = "ovs^DPX*"
    return [
        {"color": tuple(color), "marker": markers[i % len(markers)], "markersize": 3.5, "linewidth": 1.2}
        for i, color in enumerate(colors)
    ]


def _describe(quantity: str) -> str:
    words = {
        HEADLINE: "log-prob increase of A-completions,\nto the answer",
        "increase_A": "log-prob increase of A-completions",
        "increase_not_A": "log-prob increase of other completions",
        "increase_all": "log-prob increase of all completions",
        "logit_diff_change": "change of the logit diff",
    }
    return words.get(quantity, quantity)
