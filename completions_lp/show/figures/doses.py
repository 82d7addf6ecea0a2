"""Dose and response: how the effect grows with the multiplier at one layer."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from completions_lp.records import Condition, Estimate, Inference, Report, ReportRow, Slope
from completions_lp.show.figures.cells import (
    Cell,
    Table,
    count_directions,
    find_red,
    pick_cell,
    select_rows,
    stack_ends,
    tidy_estimate,
    tidy_rows,
)
from completions_lp.show.figures.marks import draw_bars, draw_controls, draw_line
from completions_lp.show.figures.page import (
    BLUE,
    COLUMN,
    RED,
    STYLE,
    YELLOW,
    draw_zero,
    label_axes,
    open_axes,
    place_legend,
    write_empty,
    write_note,
)
from completions_lp.show.figures.words import make_plain, note_few, say_intervals, write_estimate

RATIO, BOUND, OTHERS, DAMAGE = "log_ratio_A", "increase_to_answer_A", "increase_to_answer_not_A", "kl"


def plot_dose(report: Report, *, layer: int | None = None, axes: Axes | None = None) -> Figure:
    """Dose and response at one layer: the log ratio of P(A), its bound from the A completions, and the gap between.

    The gap is KL(unsteered ‖ steered) among the texts that give A (numbers.md I2); beside them the other completions
    (dashed) and −KL over all (dotted), the random directions (grey) and the slope over multipliers.

    Args:
        report: What to draw.
        layer: Which layer; that of the cell picked by ``pick_cell`` by default.
        axes: Draw here instead of on a new page.
    """
    cell = pick_cell(report, layer=layer)
    with mpl.rc_context(STYLE):
        figure, (panel,) = open_axes(axes, 1, size=(COLUMN, 3.1))
        series = _list_series(report, cell)
        draw_zero(panel)
        _draw(panel, report, series)
        slope = _find_slope(report, cell)
        if slope is not None:
            reach = 0.6 * max(abs(row.condition.multiplier) for row in series[RATIO] + series[BOUND])
            ends = np.array([-reach, reach])
            panel.plot(ends, slope.estimate.value * ends, color="0.3", lw=0.7, dashes=(8, 3), label="mean slope")
        label_axes(panel, x="multiplier", y="nats", title=f"layer {cell.condition.layer}" if cell else None)
        drawn = [row.estimate for rows in series.values() for row in rows if row.condition.multiplier]
        if not drawn:
            write_empty(panel, f"no {RATIO!r} or {BOUND!r}")
        else:
            few = note_few(drawn)
            said = [text for text in (few, slope and f"mean slope {write_estimate(slope.estimate)}") if text]
            write_note(panel, "\n".join(said))
            low, high = panel.get_ylim()
            panel.set_ylim(low, high + 0.08 * len(said) * (high - low))
            place_legend(figure, panel, ncols=2, columnspacing=1.0)
        return figure


def tabulate_dose(report: Report, *, layer: int | None = None) -> Table:
    """The numbers behind ``plot_dose``; the slope is a row without a multiplier."""
    cell = pick_cell(report, layer=layer)
    table = []
    for rows in _list_series(report, cell).values():
        for row in rows:
            i = row.inference
            table += tidy_rows([row], random_low=i.random_low, random_high=i.random_high)
    slope = _find_slope(report, cell)
    if slope is not None:
        place = {"vector": slope.vector, "kind": slope.kind, "layer": slope.layer, "multiplier": None}
        names = {"quantity": f"slope of {slope.quantity}", "weighting": "macro"}
        table.append({**place, **names, **tidy_estimate(slope.estimate), "random_low": None, "random_high": None})
    return table


def caption_dose(report: Report, *, layer: int | None = None) -> str:
    """What ``plot_dose`` shows."""
    cell = pick_cell(report, layer=layer)
    if cell is None:
        return "Dose and response: nothing to draw."
    series, target = _list_series(report, cell), make_plain(report.target, limit=16)
    drawn = [row.estimate for rows in series.values() for row in rows if row.condition.multiplier]
    reason = f" ({cell.reason})" if cell.reason else ""
    parts = [
        f"Dose and response at layer {cell.condition.layer}{reason}, in nats, means over prompts. Circles: log ratio "
        f"of steered and unsteered P({target}); squares: log-prob increase of the {target} completions, to the answer, "
        "a lower bound on it; the shaded gap estimates the divergence of the steered from the unsteered texts among "
        "those with the answer. Dashed: other completions; dotted: −KL over all. Ribbons and bars: "
        f"{say_intervals(drawn)}. At multiplier 0 all are 0 by definition."
    ]
    slope = _find_slope(report, cell)
    if slope is not None:
        parts.append(
            f"Long dashes: mean slope of {slope.quantity} (least squares per prompt over multipliers "
            f"{_span(slope.multipliers)}): {write_estimate(slope.estimate)}."
        )
    if find_red(report) & {row.condition for row in series[RATIO]}:
        parts.append("Hollow: more than 10 % of the prompts are red.")
    if any(np.isfinite(row.inference.random_low) for row in series[RATIO]):
        parts.append(f"Grey: log ratio under the central 95 % of {count_directions(report)} random directions.")
    return " ".join(parts)


def _list_series(report: Report, cell: Cell | None) -> dict[str, list[ReportRow]]:
    """Rows of each quantity over the multipliers of the cell's layer, with the origin where it was not measured."""
    if cell is None:
        return {name: [] for name in (RATIO, BOUND, OTHERS, DAMAGE)}
    place = cell.condition
    series = {}
    for name in (RATIO, BOUND, OTHERS, DAMAGE):
        rows = [row for row in select_rows(report, name, vector=None) if row.condition.layer == place.layer]
        if rows:
            origin = Condition(place.vector, place.kind, place.layer, 0.0, place.positions)
            nothing = Estimate(0.0, None, None, rows[0].estimate.level, rows[0].estimate.unit, 0, 0, "definition")
            known = np.isfinite(rows[0].inference.random_low)
            inference = Inference(random_low=0.0, random_high=0.0) if known else Inference()
            rows.append(ReportRow(origin, name, "macro", nothing, 0, inference))
        series[name] = sorted(rows, key=lambda row: row.condition.multiplier)
    return series


def _find_slope(report: Report, cell: Cell | None) -> Slope | None:
    """The slope of the log ratio at this layer, or else of its bound."""
    if cell is None:
        return None
    at = cell.condition
    slopes = {s.quantity: s for s in report.slopes if (s.vector, s.kind, s.layer) == (at.vector, at.kind, at.layer)}
    return slopes.get(RATIO, slopes.get(BOUND))


def _draw(panel: Axes, report: Report, series: dict[str, list[ReportRow]]) -> None:
    target, red = make_plain(report.target, limit=16), find_red(report)
    draw_controls(panel, [r.condition.multiplier for r in series[RATIO]], series[RATIO])
    if series[RATIO] and len(series[RATIO]) == len(series[BOUND]):
        x, ratio, bound = _read(series[RATIO]), *([r.estimate.value for r in series[name]] for name in (RATIO, BOUND))
        panel.fill_between(x, bound, ratio, color=YELLOW, alpha=0.45, linewidth=0, zorder=1.2, label="gap")
    looks: dict[str, tuple[str, dict[str, Any]]] = {
        RATIO: (f"log ratio of P({target})", {"color": BLUE, "marker": "o"}),
        BOUND: (f"{target} completions (bound)", {"color": RED, "marker": "s"}),
        OTHERS: ("other completions", {"color": "0.25", "marker": "^", "linestyle": (0, (4, 1.5))}),
        DAMAGE: ("−KL, all", {"color": "0.25", "marker": "", "linestyle": (0, (1, 1.2))}),
    }
    for name, (label, style) in looks.items():
        rows = series[name]
        if rows:
            estimates = [_negate(row.estimate) if name == DAMAGE else row.estimate for row in rows]
            style |= {"ribbon": name in (RATIO, BOUND)}
            style |= {"hollow": [row.condition in red for row in rows]} if name == RATIO else {}
            line = draw_line(panel, _read(rows), estimates, label=label, **style)
            if name not in (RATIO, BOUND):
                draw_bars(panel, _read(rows), [], stack_ends(estimates), color=line.get_color())


def _negate(estimate: Estimate) -> Estimate:
    e = estimate
    low, high = (None, None) if e.low is None or e.high is None else (-e.high, -e.low)
    return Estimate(-e.value, low, high, e.level, e.unit, e.n, e.n_clusters, e.method)


def _read(rows: Sequence[ReportRow]) -> list[float]:
    return [row.condition.multiplier for row in rows]


def _span(multipliers: Sequence[float]) -> str:
    return f"{min(multipliers):+g} to {max(multipliers):+g}".replace("-", "−")
