"""Propensity curves and steerability, prompt by prompt (Tan et al. 2024, arXiv 2407.12404)."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from completions_lp.records import Estimate, Report, Slope
from completions_lp.show.figures.cells import (
    Cell,
    Table,
    pick_cell,
    select_prompts,
    select_rows,
    stack_ends,
    tidy_estimate,
)
from completions_lp.show.figures.marks import draw_bars, draw_line
from completions_lp.show.figures.page import (
    BLUE,
    RED,
    STYLE,
    WIDE,
    Panels,
    draw_zero,
    label_axes,
    open_axes,
    tick_layers,
    write_empty,
    write_note,
)
from completions_lp.show.figures.words import count, note_few, say_intervals, write_estimate

PROPENSITY = "logit_diff_steered"
BEFORE = "logit_diff"
RESPONSES = ("logit_diff_change", PROPENSITY)
"""Quantities whose slope over the multiplier is the steerability: they differ by a constant of each prompt."""


def plot_steerability(report: Report, *, layer: int | None = None, axes: Panels | None = None) -> Figure:
    """Left: each prompt's logit diff against the multiplier, with their mean. Right: the mean slope by layer.

    Args:
        report: What to draw; the two-choice read-out is needed.
        layer: The layer of the left panel; that of the cell picked by ``pick_cell`` by default.
        axes: Draw on these two axes instead of on a new page.
    """
    cell = pick_cell(report, layer=layer)
    with mpl.rc_context(STYLE):
        figure, (left, right) = open_axes(axes, 2, size=(WIDE, 2.5), columns=2)
        _draw_curves(left, report, cell)
        title = f"layer {cell.condition.layer}" if cell else None
        label_axes(left, x="multiplier", y="logit diff of the two answers (nats)", title=title)
        _draw_slopes(right, _list_slopes(report, cell))
        label_axes(right, x="layer at whose output the vector is added", y="steerability (nats/multiplier)")
        return figure


def tabulate_steerability(report: Report, *, layer: int | None = None) -> Table:
    """The numbers behind ``plot_steerability``: curves by prompt, their mean, slopes by layer."""
    cell = pick_cell(report, layer=layer)
    ids, multipliers, curves = _read_curves(report, cell)
    table: Table = [
        {"part": "prompt", "prompt_id": i, "multiplier": float(m), "value": float(v), "unit": "nats"}
        for i, curve in zip(ids, curves, strict=True)
        for m, v in zip(multipliers, curve, strict=True)
    ]
    if cell is not None:
        means = _read_means(report, cell)
        table += [{"part": "mean", "multiplier": m, **tidy_estimate(e)} for m, e in means.items()]
    for slope in _list_slopes(report, cell):
        numbers = {"below_zero": slope.below_zero, **tidy_estimate(slope.estimate)}
        table.append({"part": "slope", "layer": slope.layer, **numbers})
    return table


def caption_steerability(report: Report, *, layer: int | None = None) -> str:
    """What ``plot_steerability`` shows."""
    cell = pick_cell(report, layer=layer)
    ids, _, _ = _read_curves(report, cell)
    if cell is None or not len(ids):
        return "Steerability: no two-choice read-out to draw."
    reason = f" ({cell.reason})" if cell.reason else ""
    means = _read_means(report, cell).values()
    parts = [
        f"Propensity curves at layer {cell.condition.layer}{reason}: logit diff of the two answers (nats) against the "
        f"multiplier, a thin line for each of {count(len(ids), 'prompt')}; thick: their mean, {say_intervals(means)}."
    ]
    slopes = _list_slopes(report, cell)
    here = next((s for s in slopes if s.layer == cell.condition.layer), None)
    if here is not None:
        share = (
            f"; {100 * here.below_zero:.0f} % of the prompts are steered the wrong way" if here.below_zero >= 0 else ""
        )
        parts.append(f"Mean slope here: {write_estimate(here.estimate)}{share}.")
    if slopes:
        parts.append(
            f"Right: mean least-squares slope per layer, {say_intervals(s.estimate for s in slopes)}; numbers: per "
            "cent of prompts whose true slope is below 0, the noise of single slopes shrunken away."
        )
    return " ".join(parts)


def _list_slopes(report: Report, cell: Cell | None) -> list[Slope]:
    """Slopes of the logit diff by layer, of the vector shown."""
    for quantity in RESPONSES:
        chosen = [s for s in report.slopes if s.quantity == quantity and s.kind == "target"]
        if cell is not None and chosen:
            mine = [s for s in chosen if s.vector == cell.condition.vector]
            return sorted(mine, key=lambda slope: slope.layer)
    return []


def _read_curves(
    report: Report, cell: Cell | None
) -> tuple[np.ndarray, Float[np.ndarray, " multiplier"], Float[np.ndarray, "prompt multiplier"]]:
    """Prompts, multipliers with 0, and the logit diff at each; prompts without a read-out are left out."""
    nothing = np.empty(0, dtype=object), np.empty(0), np.empty((0, 0))
    if cell is None or PROPENSITY not in report.prompts:
        return nothing
    rows = [row for row in select_rows(report, PROPENSITY) if row.condition.layer == cell.condition.layer]
    if not rows:
        return nothing
    columns = [select_prompts(report, row.condition) for row in rows]
    multipliers = np.array([0.0, *(row.condition.multiplier for row in rows)])
    curves = np.stack([columns[0][BEFORE], *(c[PROPENSITY] for c in columns)], axis=1)
    order = np.argsort(multipliers)
    known = np.isfinite(curves).all(1)
    return columns[0]["prompt_id"][known], multipliers[order], curves[known][:, order]


def _read_means(report: Report, cell: Cell) -> dict[float, Estimate]:
    """Mean logit diff by multiplier at the cell's layer, the unsteered one at 0."""
    at = {
        name: [r for r in select_rows(report, name) if r.condition.layer == cell.condition.layer]
        for name in (BEFORE, PROPENSITY)
    }
    means = {row.condition.multiplier: row.estimate for row in at[PROPENSITY]}
    if at[BEFORE]:
        means[0.0] = at[BEFORE][0].estimate
    return dict(sorted(means.items()))


def _draw_curves(panel: Axes, report: Report, cell: Cell | None) -> None:
    ids, multipliers, curves = _read_curves(report, cell)
    draw_zero(panel)
    if cell is None or not len(ids):
        write_empty(panel, "no two-choice read-out")
        return
    lines = [np.stack([multipliers, curve], axis=1) for curve in curves]
    alpha = 0.7 if len(lines) <= 100 else 0.25
    panel.add_collection(LineCollection(lines, colors="0.72", linewidths=0.5, alpha=alpha, label="prompts"))
    means = _read_means(report, cell)
    x, estimates = list(means), list(means.values())
    draw_line(panel, x, estimates, color=BLUE, label="mean", zorder=3)
    panel.autoscale_view()
    few = note_few(estimates)
    here = next((s for s in _list_slopes(report, cell) if s.layer == cell.condition.layer), None)
    said = [few] if few else []
    if here is not None:
        said.append(f"mean slope {write_estimate(here.estimate)}")
        if here.below_zero >= 0:
            said.append(f"{100 * here.below_zero:.0f} % of prompts below 0")
    if said:
        write_note(panel, "\n".join(said))
        low, high = panel.get_ylim()
        panel.set_ylim(low, high + 0.07 * len(said) * (high - low))
    panel.legend(loc="lower right")


def _draw_slopes(panel: Axes, slopes: Sequence[Slope]) -> None:
    draw_zero(panel)
    if not slopes:
        write_empty(panel, "no slopes")
        return
    x, y = [s.layer for s in slopes], [s.estimate.value for s in slopes]
    draw_bars(panel, x, y, stack_ends([s.estimate for s in slopes]), color=BLUE, linewidth=1.2)
    panel.plot(x, y, "o", color=BLUE, markersize=4, label="slope")
    tick_layers(panel, x)
    if len(slopes) <= 40:
        for s in slopes:
            if s.below_zero >= 0:
                top = s.estimate.value if s.estimate.high is None else s.estimate.high
                style: dict[str, Any] = {
                    "ha": "center",
                    "va": "bottom",
                    "fontsize": 6 if len(slopes) <= 16 else 4,
                    "color": RED,
                }
                panel.annotate(
                    f"{100 * s.below_zero:.0f} %", (s.layer, top), (0, 2), textcoords="offset points", **style
                )
    said = note_few(s.estimate for s in slopes) or ""
    if any(s.below_zero >= 0 for s in slopes):
        said += "\n" * bool(said) + "per cent: prompts steered the wrong way"
    if said:
        write_note(panel, said)
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.18 * (high - low))
