"""The layer sweep: an effect by the layer at which the vector is added."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from completions_lp.records import Condition, Kind, Report, ReportRow
from completions_lp.show.figures.cells import (
    Table,
    count_directions,
    find_red,
    pick_quantity,
    select_rows,
    stack_ends,
    tidy_rows,
)
from completions_lp.show.figures.marks import draw_controls, draw_line, draw_ribbon, make_styles
from completions_lp.show.figures.page import (
    BAND,
    BLUE,
    COLUMN,
    STYLE,
    WIDE,
    count_columns,
    draw_zero,
    label_axes,
    open_axes,
    tick_layers,
    write_empty,
    write_note,
)
from completions_lp.show.figures.words import describe, describe_unit, note_few, say_intervals, sign

MANY = 12
"""More layers than this get finer marks."""


def plot_layers(
    report: Report,
    *,
    quantity: str | None = None,
    kind: Kind = "target",
    vector: str | None = None,
    axes: Axes | None = None,
) -> Figure:
    """The layer sweep: a panel per multiplier, or on the caller's axes one line per multiplier.

    A panel has the mean over prompts, its pointwise interval (dark), the simultaneous band (light), the band of the
    random directions (grey) and hollow markers where more than a tenth of the prompts are red.

    Args:
        report: What to draw.
        quantity: A quantity of the report; by default the change of P(A), in percentage points, where it was measured,
            else the average log-prob increase.
        kind: Which vectors.
        vector: Which of them, by name; the first by default.
        axes: Draw here instead of on a new page.
    """
    quantity = pick_quantity(report, quantity)
    rows = select_rows(report, quantity, kind=kind, vector=vector)
    multipliers = sorted({row.condition.multiplier for row in rows})
    red = find_red(report)
    with mpl.rc_context(STYLE):
        if axes is not None or len(multipliers) <= 1:
            figure, panels = open_axes(axes, 1, size=(COLUMN, 2.6))
        else:
            columns = count_columns(len(multipliers))
            lines = -(-len(multipliers) // columns)
            figure, panels = open_axes(
                None, len(multipliers), size=(WIDE, 0.9 + 1.45 * lines), columns=columns, sharex=True, sharey=True
            )
        if axes is not None and len(multipliers) > 1:
            _draw_together(panels[0], rows, multipliers, red)
        else:
            for panel, multiplier in zip(panels, multipliers, strict=False):
                _draw_panel(panel, [row for row in rows if row.condition.multiplier == multiplier], red)
                label_axes(panel, title=f"multiplier {sign(multiplier)}")
        _label(figure, panels, report, rows, quantity)
        if axes is None and rows:
            _explain(figure, panels, rows, red)
        return figure


def tabulate_layers(
    report: Report, *, quantity: str | None = None, kind: Kind = "target", vector: str | None = None
) -> Table:
    """The numbers behind ``plot_layers``."""
    red, table = find_red(report), []
    for row in select_rows(report, pick_quantity(report, quantity), kind=kind, vector=vector):
        i = row.inference
        extra = {"band_low": i.band_low, "band_high": i.band_high}
        extra |= {"random_low": i.random_low, "random_high": i.random_high}
        table += tidy_rows([row], **extra, untrusted=row.condition in red)
    return table


def caption_layers(
    report: Report, *, quantity: str | None = None, kind: Kind = "target", vector: str | None = None
) -> str:
    """What ``plot_layers`` shows."""
    quantity = pick_quantity(report, quantity)
    rows = select_rows(report, quantity, kind=kind, vector=vector)
    if not rows:
        return f"Layer sweep: no {quantity!r} to draw."
    unit = rows[0].estimate.unit
    what = describe(report, quantity).replace("\n", " ")
    parts = [
        f"Layer sweep: {what} ({unit}) by the layer at whose output the vector is added; mean over prompts.",
        f"Ribbon, pointwise: {say_intervals(row.estimate for row in rows)}.",
    ]
    if len(rows) > 1 and any(np.isfinite(row.inference.band_low) for row in rows):
        parts.append(
            f"Light ribbon: simultaneous max-T band over the {len(rows)} cells of the sweep (approximate); a best "
            "cell picked by eye is covered by it, not by the dark one."
        )
    if any(np.isfinite(row.inference.random_low) for row in rows):
        n = count_directions(report)
        parts.append(f"Grey: central 95 % of {n} random directions of the same norm.")
    if find_red(report) & {row.condition for row in rows}:
        parts.append("Hollow: more than 10 % of the prompts are red, the estimate is not to be trusted there.")
    return " ".join(parts)


def _draw_panel(panel: Axes, rows: Sequence[ReportRow], red: set[Condition]) -> None:
    """One multiplier, with all that bears on whether its line means anything."""
    layers = [row.condition.layer for row in rows]
    draw_controls(panel, layers, rows)
    band = np.array([(row.inference.band_low, row.inference.band_high) for row in rows]).T
    draw_ribbon(panel, layers, band, color=BLUE, alpha=0.16)
    draw_ribbon(panel, layers, stack_ends([row.estimate for row in rows]), color=BLUE, alpha=0.35)
    hollow = [row.condition in red for row in rows]
    small = {"markersize": 1.8, "linewidth": 0.8} if len(rows) > MANY else {}
    draw_line(panel, layers, [r.estimate for r in rows], color=BLUE, label="mean", hollow=hollow, ribbon=False, **small)


def _draw_together(panel: Axes, rows: Sequence[ReportRow], multipliers: Sequence[float], red: set[Condition]) -> None:
    """One line per multiplier with its pointwise interval."""
    for multiplier, style in zip(multipliers, make_styles(len(multipliers)), strict=True):
        chosen = [row for row in rows if row.condition.multiplier == multiplier]
        layers = [row.condition.layer for row in chosen]
        hollow = [row.condition in red for row in chosen]
        draw_line(panel, layers, [row.estimate for row in chosen], label=sign(multiplier), hollow=hollow, **style)
    panel.legend(title="multiplier", ncols=min(4, len(multipliers)))


def _explain(figure: Figure, panels: Sequence[Axes], rows: Sequence[ReportRow], red: set[Condition]) -> None:
    """A legend above the panels, of what is really in them."""
    marks: list[Any] = [Line2D([], [], color=BLUE, marker="o", markersize=3.5, label="mean")]
    if any(row.estimate.low is not None for row in rows):
        marks.append(Patch(color=BLUE, alpha=0.35, linewidth=0, label="interval"))
    if any(np.isfinite(row.inference.band_low) for row in rows):
        marks.append(Patch(color=BLUE, alpha=0.16, linewidth=0, label="whole sweep"))
    if any(np.isfinite(row.inference.random_low) for row in rows):
        marks.append(Patch(color=BAND, linewidth=0, label="random"))
    if red & {row.condition for row in rows}:
        hollow = {"markerfacecolor": "white", "markersize": 3.5, "color": BLUE}
        marks.append(Line2D([], [], linestyle="none", marker="o", label="over 10 % red", **hollow))  # type: ignore[arg-type]
    figure.legend(handles=marks, loc="outside upper center", ncols=len(marks) if len(panels) > 1 else 3)


def _label(figure: Figure, panels: Sequence[Axes], report: Report, rows: Sequence[ReportRow], quantity: str) -> None:
    unit = rows[0].estimate.unit if rows else "nats"
    for panel in panels:
        draw_zero(panel)
        tick_layers(panel, [row.condition.layer for row in rows])
    y = describe_unit(report, quantity, unit)
    if not rows:
        write_empty(panels[0], f"no {quantity!r}")
    elif few := note_few(row.estimate for row in rows):
        write_note(panels[0], few)
    if len(panels) == 1:
        label_axes(panels[0], x="layer at whose output the vector is added", y=y)
        return
    for panel in panels:
        label_axes(panel)
    figure.supxlabel("layer at whose output the vector is added", fontsize=8)
    figure.supylabel(y, fontsize=8)
