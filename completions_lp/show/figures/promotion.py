"""Promote and suppress: what steering does to the answer and to all others (Pres et al. 2024, arXiv 2410.17245)."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from completions_lp.records import Report, ReportRow
from completions_lp.show.figures.cells import (
    Cell,
    Table,
    pick_cell,
    select_by_condition,
    select_prompts,
    stack_ends,
    tidy_estimate,
)
from completions_lp.show.figures.marks import draw_bars
from completions_lp.show.figures.page import (
    BLUE,
    COLUMN,
    GREY,
    STYLE,
    draw_zero,
    label_axes,
    open_axes,
    write_empty,
    write_note,
)
from completions_lp.show.figures.words import count, describe, make_plain, name_cell, note_few, say_intervals

A, OTHERS = "increase_to_answer_A", "increase_to_answer_not_A"


def plot_promotion(
    report: Report, *, layer: int | None = None, multiplier: float | None = None, axes: Axes | None = None
) -> Figure:
    """Every prompt as a point: the increase of the other completions (across) and of those with the answer (up).

    Up and left is steering: it promotes the answer and suppresses the others. Down and left is damage to both; the
    diagonal is where it does not tell them apart.

    Args:
        report: What to draw.
        layer: Which layer; with ``multiplier`` left out too, the cell picked by ``pick_cell``.
        multiplier: Which multiplier.
        axes: Draw here instead of on a new page.
    """
    cell = pick_cell(report, layer=layer, multiplier=multiplier)
    ids, x, y = _read(report, cell)
    with mpl.rc_context(STYLE):
        figure, (panel,) = open_axes(axes, 1, size=(COLUMN, 3.0))
        draw_zero(panel)
        draw_zero(panel, vertical=True)
        if len(ids):
            panel.plot(
                x,
                y,
                "o",
                markersize=3,
                markerfacecolor="none",
                markeredgecolor=GREY,
                markeredgewidth=0.7,
                label="prompts",
            )
            _draw_mean(panel, report, cell)
            _name_quadrants(panel, make_plain(report.target, limit=10))
            panel.legend(loc="upper right", handletextpad=0.1)
        else:
            write_empty(panel, f"no per-prompt {A!r}\nand {OTHERS!r}")
        title = name_cell(cell.condition) if cell else None
        axis = "log-prob increase of {} completions (nats)"
        label_axes(panel, x=axis.format("other"), y=axis.format(make_plain(report.target, limit=16)), title=title)
        return figure


def tabulate_promotion(report: Report, *, layer: int | None = None, multiplier: float | None = None) -> Table:
    """The numbers behind ``plot_promotion``: a row per prompt, then the two means."""
    cell = pick_cell(report, layer=layer, multiplier=multiplier)
    ids, x, y = _read(report, cell)
    if cell is None or not len(ids):
        return []
    c = cell.condition
    place = {"vector": c.vector, "layer": c.layer, "multiplier": c.multiplier}
    table: Table = [
        {**place, "part": "prompt", "prompt_id": i, OTHERS: float(across), A: float(up), "unit": "nats"}
        for i, across, up in zip(ids, x, y, strict=True)
    ]
    return table + [
        {**place, "part": f"mean of {r.quantity}", **tidy_estimate(r.estimate)} for r in _list_means(report, cell)
    ]


def caption_promotion(report: Report, *, layer: int | None = None, multiplier: float | None = None) -> str:
    """What ``plot_promotion`` shows."""
    cell = pick_cell(report, layer=layer, multiplier=multiplier)
    ids, _, _ = _read(report, cell)
    if cell is None or not len(ids):
        return "Promote and suppress: nothing to draw."
    c, reason = cell.condition, f" ({cell.reason})" if cell.reason else ""
    what = describe(report, A).replace("\n", " ")
    parts = [
        f"Promote and suppress at {name_cell(c)}{reason}: {what}, against that of "
        f"the other completions (nats), a circle for each of {count(len(ids), 'prompt')} with both. Dashed: the "
        "diagonal, on which steering does not tell them apart."
    ]
    means = _list_means(report, cell)
    if means:
        parts.append(f"Square: means over prompts, {say_intervals(row.estimate for row in means)} both ways.")
    return " ".join(parts)


def _read(report: Report, cell: Cell | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prompts with both kinds of completions, and their two increases."""
    columns = select_prompts(report, cell.condition) if cell else {}
    if A not in columns or OTHERS not in columns:
        return np.empty(0, dtype=object), np.empty(0), np.empty(0)
    known = np.isfinite(columns[A]) & np.isfinite(columns[OTHERS])
    return columns["prompt_id"][known], columns[OTHERS][known], columns[A][known]


def _list_means(report: Report, cell: Cell | None) -> list[ReportRow]:
    found = [select_by_condition(report, name) for name in (OTHERS, A)]
    return [rows[cell.condition] for rows in found if cell is not None and cell.condition in rows]


def _draw_mean(panel: Axes, report: Report, cell: Cell | None) -> None:
    means = _list_means(report, cell)
    if len(means) < 2:
        return
    across, up = (row.estimate for row in means)
    draw_bars(panel, [across.value], [up.value], stack_ends([up]), color=BLUE, linewidth=1.4, zorder=3)
    draw_bars(
        panel, [across.value], [up.value], stack_ends([across]), vertical=False, color=BLUE, linewidth=1.4, zorder=3
    )
    panel.plot(across.value, up.value, "s", color=BLUE, markersize=5, label="mean", zorder=3)
    if few := note_few([across, up]):
        write_note(panel, few, low=True)


def _name_quadrants(panel: Axes, target: str) -> None:
    """The diagonal, and what the corners mean."""
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    panel.set_xlim(min(left, -0.1 * (right - left)), max(right, 0.1 * (right - left)))
    panel.set_ylim(min(bottom, -0.1 * (top - bottom)), top + 0.12 * (top - bottom))
    panel.axline((0, 0), slope=1, color="0.5", linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    style: dict[str, Any] = {"transform": panel.transAxes, "fontsize": 6.5, "color": "0.35", "style": "italic"}
    panel.text(0.02, 0.97, f"promotes {target},\nsuppresses others", ha="left", va="top", **style)
    panel.text(0.02, 0.02, "suppresses both", ha="left", va="bottom", **style)
