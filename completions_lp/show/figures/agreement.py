"""Does the sampled metric agree with the two-choice read-out?"""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from completions_lp.records import Report, ReportRow
from completions_lp.show.figures.cells import (
    Cell,
    Table,
    find_red,
    pick_cell,
    select_by_condition,
    select_prompts,
    select_rows,
    stack_ends,
    title_cell,
)
from completions_lp.show.figures.marks import draw_bars, make_styles, name_lines
from completions_lp.show.figures.page import (
    COLUMN,
    GREY,
    STYLE,
    draw_zero,
    label_axes,
    open_axes,
    write_empty,
    write_note,
)
from completions_lp.show.figures.prompts import draw_points
from completions_lp.show.figures.words import count, describe, describe_unit, note_few, say_crosses, sign

CHOICE = "logit_diff_change"
AGREEMENT = "agreement_logit_diff"
"""Correlation over prompts of the sampled metric with the read-out, per cell; drawn where the report has it."""
Pair = tuple[ReportRow, ReportRow]


def plot_agreement(
    report: Report,
    *,
    quantity: str = "log_odds_change_A_B",
    layer: int | None = None,
    multiplier: float | None = None,
    axes: Axes | None = None,
) -> Figure:
    """The sampled metric against the change of the two-choice logit diff: all cells, or the prompts of one.

    Both are in nats and equal where every completion answers at once with one of the two letters (numbers.md I5); off
    the diagonal is what the first answer position does not show.

    Args:
        report: What to draw.
        quantity: The sampled metric; the change of the log odds of A against B by default.
        layer: Draw the prompts of this layer and of ``multiplier``; without both, all cells.
        multiplier: See ``layer``.
        axes: Draw here instead of on a new page.
    """
    cell = _pick(report, layer, multiplier)
    with mpl.rc_context(STYLE):
        figure, (panel,) = open_axes(axes, 1, size=(COLUMN, 3.0))
        draw_zero(panel)
        draw_zero(panel, vertical=True)
        if cell is None:
            drawn = _draw_cells(panel, report, _pair(report, quantity))
        else:
            drawn = _draw_prompts(panel, report, cell, quantity)
        if drawn:
            panel.axline((0, 0), slope=1, color="0.4", linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
        else:
            write_empty(panel, f"no {quantity!r}\nand {CHOICE!r}")
        title = title_cell(report, cell)
        y = describe_unit(report, quantity, "nats")
        label_axes(panel, x=describe_unit(report, CHOICE, "nats"), y=y, title=title)
        return figure


def tabulate_agreement(
    report: Report,
    *,
    quantity: str = "log_odds_change_A_B",
    layer: int | None = None,
    multiplier: float | None = None,
) -> Table:
    """The numbers behind ``plot_agreement``: a row per cell, or per prompt of one."""
    cell = _pick(report, layer, multiplier)
    if cell is not None:
        ids, x, y, _ = _read(report, cell, quantity)
        names = {"layer": cell.condition.layer, "multiplier": cell.condition.multiplier, "unit": "nats"}
        return [
            {**names, "prompt_id": i, CHOICE: float(a), quantity: float(b)} for i, a, b in zip(ids, x, y, strict=True)
        ]
    table: Table = []
    for choice, sampled in _pair(report, quantity):
        c = sampled.condition
        columns = {"vector": c.vector, "layer": c.layer, "multiplier": c.multiplier, "unit": sampled.estimate.unit}
        for name, e in ((CHOICE, choice.estimate), (quantity, sampled.estimate)):
            columns |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
        table.append({**columns, "n_prompts": sampled.estimate.n})
    return table


def caption_agreement(
    report: Report,
    *,
    quantity: str = "log_odds_change_A_B",
    layer: int | None = None,
    multiplier: float | None = None,
) -> str:
    """What ``plot_agreement`` shows."""
    cell, what = _pick(report, layer, multiplier), describe(report, quantity).replace("\n", " ")
    parts = [f"Agreement: {what} against the change of the two-choice logit diff, both in nats; dashed: equality."]
    if cell is not None:
        n = len(_read(report, cell, quantity)[0])
        parts.append(f"A point for each of {count(n, 'prompt')}; markers by trust.")
        if said := _say_correlation(report, cell):
            parts.append(f"{said}.")
        return " ".join(parts)
    pairs = _pair(report, quantity)
    if not pairs:
        return f"Agreement: no {quantity!r} and {CHOICE!r} to draw."
    parts.append(f"A point for each of {count(len(pairs), 'cell')} of layer (lightness) and multiplier.")
    parts.append(say_crosses(*([pair[i].estimate for pair in pairs] for i in (0, 1))))
    if find_red(report) & {sampled.condition for _, sampled in pairs}:
        parts.append("Hollow: more than 10 % of the prompts are red.")
    return " ".join(parts)


def _pick(report: Report, layer: int | None, multiplier: float | None) -> Cell | None:
    return None if layer is None and multiplier is None else pick_cell(report, layer=layer, multiplier=multiplier)


def _pair(report: Report, quantity: str) -> list[Pair]:
    choices = select_by_condition(report, CHOICE, kind="target")
    return [(choices[row.condition], row) for row in select_rows(report, quantity) if row.condition in choices]


def _draw_cells(panel: Axes, report: Report, pairs: list[Pair]) -> bool:
    """A point with a cross for each cell; whether there is any."""
    if not pairs:
        return False
    layers = sorted({sampled.condition.layer for _, sampled in pairs})
    looks = dict(zip(layers, make_styles(len(layers)), strict=True))
    red = find_red(report)
    ends = [stack_ends([pair[i].estimate for pair in pairs]) for i in (0, 1)]
    x, y = ([pair[i].estimate.value for pair in pairs] for i in (0, 1))
    draw_bars(panel, x, y, ends[1], color="0.6")
    draw_bars(panel, x, y, ends[0], vertical=False, color="0.6")
    for layer, look in looks.items():
        for untrusted in (False, True):
            chosen = [p for p in pairs if p[1].condition.layer == layer and (p[1].condition in red) == untrusted]
            face = "white" if untrusted else look["color"]
            style = {"marker": look["marker"] or "o", "markerfacecolor": face, "markeredgecolor": look["color"]}
            places = ([pair[i].estimate.value for pair in chosen] for i in (0, 1))
            label = "_hollow" if untrusted else str(layer)
            panel.plot(*places, linestyle="none", markersize=3.5, markeredgewidth=0.8, label=label, **style)
    name_lines(panel, layers, title="layer", ncols=2, loc="upper left")
    if few := note_few(row.estimate for pair in pairs for row in pair):
        write_note(panel, few)
    return True


def _read(
    report: Report, cell: Cell, quantity: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    columns = select_prompts(report, cell.condition)
    if CHOICE not in columns or quantity not in columns:
        return np.empty(0, dtype=object), np.empty(0), np.empty(0), {}
    known = np.isfinite(columns[CHOICE]) & np.isfinite(columns[quantity])
    columns = {name: values[known] for name, values in columns.items()}
    return columns["prompt_id"], columns[CHOICE], columns[quantity], columns


def _draw_prompts(panel: Axes, report: Report, cell: Cell, quantity: str) -> bool:
    """A point for each prompt, with their correlation; whether there is any."""
    ids, x, y, columns = _read(report, cell, quantity)
    if not len(ids):
        return False
    if "trust" in columns:
        draw_points(panel, x, y, columns)
        panel.legend(loc="lower right", handletextpad=0.1)
    else:
        panel.plot(x, y, "o", color=GREY, markersize=3, label="prompts")
    if said := _say_correlation(report, cell):
        write_note(panel, said)
    return True


def _say_correlation(report: Report, cell: Cell) -> str:
    row = select_by_condition(report, AGREEMENT).get(cell.condition)
    if row is None or not np.isfinite(row.estimate.value):
        return ""
    e = row.estimate
    inside = "" if e.low is None or e.high is None else f" [{sign(e.low, digits=2)}, {sign(e.high, digits=2)}]"
    return f"correlation {sign(e.value, digits=2)}{inside}"
