"""The sweep as a map: layer by multiplier."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from completions_lp.records import Report, ReportRow
from completions_lp.show.figures.cells import Table, find_held_out, find_red, pick_quantity, select_rows, tidy_rows
from completions_lp.show.figures.page import COLUMN, STYLE, WIDE, label_axes, open_axes, write_empty
from completions_lp.show.figures.words import count, describe, describe_unit, sign, write_estimate

# Dark on the side below zero and of middling grey above it, so that the signs differ in print without colour, too.
COLORS = LinearSegmentedColormap.from_list(
    "effect", [(0, "#1B0F4F"), (0.25, "#5566B8"), (0.5, "#FFFFFF"), (0.75, "#F6CB8C"), (1, "#DD8418")]
)
SIGNIFICANT = 0.05
WIDEST = 9
"""Cells side by side in which a number can be read."""


def plot_heatmap(report: Report, *, quantity: str | None = None, axes: Axes | None = None) -> Figure:
    """The whole sweep: colour is the effect, centred on 0; dots are significant, hatched cells not to be trusted.

    Args:
        report: What to draw.
        quantity: A quantity of the report, as of ``plot_layers``; only swept ones have p-values and a chosen cell.
        axes: Draw here instead of on a new page.
    """
    quantity = pick_quantity(report, quantity)
    rows = select_rows(report, quantity)
    layers = sorted({row.condition.layer for row in rows})
    multipliers = sorted({row.condition.multiplier for row in rows})
    with mpl.rc_context(STYLE):
        width = COLUMN if len(layers) <= WIDEST else WIDE
        figure, (panel,) = open_axes(axes, 1, size=(width, 1.0 + 0.24 * max(5, len(multipliers))))
        if rows:
            _draw(panel, report, rows, layers, multipliers)
            shown = range(0, len(layers), 1 + len(layers) // 24)
            panel.set_xticks(shown, [str(layers[i]) for i in shown])
            panel.set_yticks(range(len(multipliers)), [sign(m) for m in multipliers])
            panel.tick_params(length=0)
            panel.spines[:].set_visible(False)
        else:
            write_empty(panel, f"no {quantity!r}")
        label_axes(panel, x="layer at whose output the vector is added", y="multiplier")
        return figure


def tabulate_heatmap(report: Report, *, quantity: str | None = None) -> Table:
    """The numbers behind ``plot_heatmap``."""
    quantity = pick_quantity(report, quantity)
    red, chosen = find_red(report), find_held_out(report, quantity)
    table = []
    for row in select_rows(report, quantity):
        best = chosen is not None and chosen.condition == row.condition
        table += tidy_rows([row], p_max_t=row.inference.p_max_t, untrusted=row.condition in red, chosen=best)
    return table


def caption_heatmap(report: Report, *, quantity: str | None = None) -> str:
    """What ``plot_heatmap`` shows."""
    quantity = pick_quantity(report, quantity)
    rows = select_rows(report, quantity)
    if not rows:
        return f"Layers by multipliers: no {quantity!r} to draw."
    n = max(row.estimate.n for row in rows)
    what = describe(report, quantity).replace("\n", " ")
    parts = [f"The sweep: {what} ({rows[0].estimate.unit}), mean over {count(n, 'prompt')}; white is 0."]
    if any(np.isfinite(row.inference.p_max_t) for row in rows):
        parts.append(f"Dots: p < {SIGNIFICANT:g}, adjusted for all {len(rows)} cells by max-T.")
    if find_red(report) & {row.condition for row in rows}:
        parts.append("Hatched: more than 10 % of the prompts are red.")
    chosen = find_held_out(report, quantity)
    if chosen is not None and chosen.estimate.n:
        c, e = chosen.condition, chosen.estimate
        method = f", {e.level:.0%} {e.method} interval".replace("%", " %") if e.low is not None else ""
        parts.append(
            f"Outlined: the cell chosen on half of the prompts (layer {c.layer}, multiplier {sign(c.multiplier)}); on "
            f"the {e.n} others it is {write_estimate(e, digits=1 if e.unit == 'pp' else 2)}{method}."
        )
    return " ".join(parts)


def _draw(panel: Axes, report: Report, rows: list[ReportRow], layers: list[int], multipliers: list[float]) -> None:
    grid = np.full((len(multipliers), len(layers)), np.nan)
    place = {
        row.condition: (multipliers.index(row.condition.multiplier), layers.index(row.condition.layer)) for row in rows
    }
    for row in rows:
        grid[place[row.condition]] = row.estimate.value
    limit = float(np.nanmax(np.abs(grid), initial=0.0)) or 1.0
    panel.set_facecolor("0.8")
    edges = np.arange(len(layers) + 1) - 0.5, np.arange(len(multipliers) + 1) - 0.5
    mesh = panel.pcolormesh(*edges, grid, cmap=COLORS, vmin=-limit, vmax=limit, edgecolor="white", linewidth=0.5)
    bar = panel.figure.colorbar(mesh, ax=panel, pad=0.02, aspect=25)
    bar.outline.set_linewidth(0.5)
    label = describe_unit(report, rows[0].quantity, rows[0].estimate.unit)
    bar.set_label(label, parse_math=False, usetex=False)
    red, chosen = find_red(report), find_held_out(report, rows[0].quantity)
    for row in rows:
        y, x = place[row.condition]
        ink = "white" if row.estimate.value < -0.4 * limit else "black"
        if row.condition in red:
            _frame(panel, x, y, hatch="////", linewidth=0, edgecolor=ink, alpha=0.55)
        if chosen is not None and chosen.condition == row.condition:
            _frame(panel, x, y, linewidth=1.6, edgecolor="black", zorder=3)
        face = COLORS(0.5 + 0.5 * row.estimate.value / limit)
        _mark(panel, row, x, y, ink=ink, face=face, number=len(layers) <= WIDEST)


def _mark(panel: Axes, row: ReportRow, x: int, y: int, *, ink: str, face: Any, number: bool) -> None:
    """The cell's number where there is room for one, and its dot."""
    if number and np.isfinite(row.estimate.value):
        digits = 0 if row.estimate.unit == "pp" else 1
        text = sign(row.estimate.value, digits=digits)
        under = {"facecolor": face, "edgecolor": "none", "pad": 0.8}
        panel.text(x, y, text, ha="center", va="center", fontsize=6, color=ink, bbox=under)
    if row.inference.p_max_t < SIGNIFICANT:
        shift = 0.36 if number else 0.0
        panel.plot(x + shift, y + 0.8 * shift, marker="o", markersize=2.2, color=ink, label="_significant")


def _frame(panel: Axes, x: int, y: int, **style: Any) -> None:
    panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, **style))
