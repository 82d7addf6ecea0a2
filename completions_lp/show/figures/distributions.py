"""Completions with the answer against those without it: whole distributions of the increase."""

from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from completions_lp.records import Condition, Increases, Report
from completions_lp.show.figures.cells import Cell, Table, count_directions, pick_cell
from completions_lp.show.figures.page import (
    BLUE,
    COLUMN,
    RED,
    STYLE,
    WIDE,
    Panels,
    count_columns,
    draw_zero,
    label_axes,
    open_axes,
    write_empty,
)
from completions_lp.show.figures.words import count, make_plain, name_answer, sign

STEPS = 250
"""Steps that a drawn distribution has at most; finer ones are too many for a page."""
Curve = tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"]]


def plot_distributions(report: Report, *, layer: int | None = None, axes: Panels | None = None) -> Figure:
    """Distribution of the increase to the answer at one layer: completions with the answer against the others.

    Cumulative, every prompt with the same total weight; a panel per multiplier; random directions thin and grey.

    Args:
        report: What to draw; its ``increases`` are needed.
        layer: Which layer; that of the cell picked by ``pick_cell`` by default.
        axes: Draw on these axes, one per multiplier, instead of on a new page.
    """
    cell = pick_cell(report, layer=layer)
    conditions = _list_conditions(report, cell)
    with mpl.rc_context(STYLE):
        n = max(1, len(conditions))
        columns = count_columns(n)
        size = (COLUMN, 2.4) if n == 1 else (WIDE, 0.95 + 1.45 * -(-n // columns))
        figure, panels = open_axes(axes, n, size=size, columns=columns, sharey=True)
        for panel, condition in zip(panels, conditions, strict=False):
            _draw_panel(panel, report, condition)
            _limit(panel, report, condition)
            label_axes(panel, title=f"multiplier {sign(condition.multiplier)}")
        if conditions:
            if axes is None:
                figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
            else:
                panels[0].legend()
        else:
            write_empty(panels[0], "no completions with increases")
        x, y = "log-prob increase, to the answer (nats)", "share of completions"
        if axes is None and n > 1:
            figure.supxlabel(x, fontsize=8)
            figure.supylabel(y, fontsize=8)
        else:
            for panel in panels:
                label_axes(panel, x=x, y=y)
        return figure


def tabulate_distributions(report: Report, *, layer: int | None = None) -> Table:
    """The curves behind ``plot_distributions``, step by step; without those of the random directions."""
    cell = pick_cell(report, layer=layer)
    table: Table = []
    for condition in _list_conditions(report, cell):
        place = {"vector": condition.vector, "layer": condition.layer, "multiplier": condition.multiplier}
        for gave, curve in _trace(report, condition).items():
            answer = report.target if gave else f"not {report.target}"
            table += [
                {**place, "answer": answer, "increase": float(x), "share": float(y), "unit": "nats"}
                for x, y in zip(*curve, strict=True)
            ]
    return table


def caption_distributions(report: Report, *, layer: int | None = None) -> str:
    """What ``plot_distributions`` shows."""
    cell = pick_cell(report, layer=layer)
    if cell is None or not _list_conditions(report, cell) or report.increases is None:
        return "Distributions of the increase: no completions to draw."
    completions = report.increases.completions
    offered = completions.offered(report.target)
    parts = [
        f"Distribution of the log-prob increase to the answer (nats) at layer {cell.condition.layer}, cumulative: "
        f"completions that gave {name_answer(report)} (solid) against the others (dashed), "
        f"{int(completions.counts.sum())} draws of {count(int(offered.sum()), 'prompt')}, each prompt with the same "
        "weight. Distributions, so without intervals."
    ]
    n = count_directions(report)
    if n:
        parts.append(f"Thin grey: the same under each of {n} random directions.")
    return " ".join(parts)


def _list_conditions(report: Report, cell: Cell | None) -> list[Condition]:
    """The multipliers of the layer that the report has completions for."""
    if cell is None or report.increases is None or not len(report.increases.completions):
        return []
    known, place = set(report.increases.conditions), cell.condition
    every = [c for c in report.increases.conditions if (c.vector, c.layer) == (place.vector, place.layer)]
    return sorted((c for c in every if c in known and c.multiplier != 0), key=lambda c: c.multiplier)


def _trace(report: Report, condition: Condition) -> dict[bool, Curve]:
    """The cumulative curves of the completions with (True) and without the answer."""
    increases = report.increases
    assert increases is not None  # noqa: S101  conditions come from it
    values = increases.increase_to_answer[increases.conditions.index(condition)]
    hit = increases.completions.hits(report.target)
    offered = increases.completions.offered(report.target)[increases.completions.prompt_index]
    return {gave: _accumulate(increases, values, offered & (hit == gave)) for gave in (True, False)}


def _accumulate(increases: Increases, values: Float[np.ndarray, " completion"], chosen: np.ndarray) -> Curve:
    """Values in order with the share of draws up to each, prompts weighing the same; at most ``STEPS`` of them."""
    keep = np.flatnonzero(chosen & np.isfinite(values))
    index, counts = increases.completions.prompt_index[keep], increases.completions.counts[keep]
    if not len(keep):
        return np.empty(0), np.empty(0)
    total = np.bincount(index, weights=counts)
    weights = counts / total[index] / (total > 0).sum()
    order = np.argsort(values[keep], kind="stable")
    x, y = values[keep][order], np.cumsum(weights[order])
    if len(x) > STEPS:
        at = np.unique(np.searchsorted(y, np.linspace(0, 1, STEPS)).clip(max=len(x) - 1))
        x, y = x[at], y[at]
    return x, y


def _draw_panel(panel: Axes, report: Report, condition: Condition) -> None:
    draw_zero(panel, vertical=True)
    looks: dict[bool, dict[str, Any]] = {
        True: {"color": BLUE, "linestyle": "-"},
        False: {"color": RED, "linestyle": (0, (3.5, 1.2))},
    }
    for i, control in enumerate(_list_controls(report, condition)):
        for gave, curve in _trace(report, control).items():
            label = "random directions" if gave and i == 0 else "_random"
            panel.step(*curve, where="post", color="0.75", lw=0.4, ls=looks[gave]["linestyle"], label=label)
    target = make_plain(report.target, limit=16)
    for gave, curve in _trace(report, condition).items():
        label = target if gave else f"not {target}"
        panel.step(*curve, where="post", linewidth=1.3, label=label, **looks[gave])
    panel.set_ylim(-0.02, 1.02)


def _list_controls(report: Report, condition: Condition) -> list[Condition]:
    assert report.increases is not None  # noqa: S101  conditions come from it
    place = (condition.layer, condition.multiplier, condition.positions)
    same = [c for c in report.increases.conditions if (c.layer, c.multiplier, c.positions) == place]
    return [c for c in same if c.kind == "random"]


def _limit(panel: Axes, report: Report, condition: Condition) -> None:
    """Leave the outermost hundredth of each curve outside: single texts far out would flatten all others."""
    curves = [curve for curve in _trace(report, condition).values() if len(curve[0])]
    low, high = (
        np.array([x[min(int(np.searchsorted(y, share)), len(x) - 1)] for x, y in curves]) for share in (0.01, 0.99)
    )
    ends = float(low.min(initial=0.0)), float(high.max(initial=0.0))
    room = 0.05 * (ends[1] - ends[0]) or 1.0
    panel.set_xlim(ends[0] - room, ends[1] + room)
