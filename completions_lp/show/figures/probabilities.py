"""The answer's probability against the multiplier, layer by layer (Rimsky et al. 2023, arXiv 2312.06681)."""

from dataclasses import replace

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from completions_lp.records import BASELINE, Report, ReportRow
from completions_lp.show.figures.cells import Table, find_red, select_rows, stack_ends, tidy_rows
from completions_lp.show.figures.marks import MANY, draw_line, draw_ribbon, make_styles, name_lines
from completions_lp.show.figures.page import COLUMN, STYLE, label_axes, open_axes, write_empty, write_note
from completions_lp.show.figures.words import describe, make_plain, note_few, say_intervals

UNSTEERED = {"p_A_steered": "p_A", "logit_diff_steered": "logit_diff", "mass_steered": "mass"}
"""What stands at multiplier 0."""


def plot_probabilities(report: Report, *, quantity: str = "p_A_steered", axes: Axes | None = None) -> Figure:
    """P(A) against the multiplier, one line per layer, all through the unsteered probability at 0.

    Unlike a probability restricted to the two letters, P(A) here falls where the model stops answering at all.

    Args:
        report: What to draw.
        quantity: The steered probability.
        axes: Draw here instead of on a new page.
    """
    lines, red = _list_lines(report, quantity), find_red(report)
    with mpl.rc_context(STYLE):
        figure, (panel,) = open_axes(axes, 1, size=(COLUMN, 2.6))
        for (layer, rows), style in zip(lines.items(), make_styles(len(lines)), strict=True):
            x, estimates = [row.condition.multiplier for row in rows], [row.estimate for row in rows]
            hollow = [row.condition in red for row in rows]
            if len(lines) <= MANY:
                draw_ribbon(panel, x, stack_ends(estimates), color=style["color"], alpha=0.16)
            draw_line(panel, x, estimates, label=str(layer), hollow=hollow, ribbon=False, **style)
        unit = next((rows[0].estimate.unit for rows in lines.values()), "probability")
        name = describe(report, quantity)
        label_axes(panel, x="multiplier", y=name if unit == "probability" else f"{name} ({unit})")
        drawn = [row.estimate for rows in lines.values() for row in rows]
        if not lines:
            write_empty(panel, f"no {quantity!r}")
        else:
            if few := note_few(drawn):
                write_note(panel, few)
            name_lines(panel, list(lines), title="layer", ncols=2)
        return figure


def tabulate_probabilities(report: Report, *, quantity: str = "p_A_steered") -> Table:
    """The numbers behind ``plot_probabilities``."""
    red, lines = find_red(report), _list_lines(report, quantity)
    distinct = {row.condition: row for rows in lines.values() for row in rows}
    return [line for c, row in distinct.items() for line in tidy_rows([row], untrusted=c in red)]


def caption_probabilities(report: Report, *, quantity: str = "p_A_steered") -> str:
    """What ``plot_probabilities`` shows."""
    lines = _list_lines(report, quantity)
    if not lines:
        return f"Probability against multiplier: no {quantity!r} to draw."
    drawn = [row.estimate for rows in lines.values() for row in rows]
    target = make_plain(report.target, limit=16)
    parts = [
        f"{describe(report, quantity)} ({drawn[0].unit}) against the multiplier, a line per layer; means over prompts."
    ]
    if len(lines) <= MANY:
        parts.append(f"Ribbons: {say_intervals(drawn)}.")
    else:
        parts.append(f"Too many lines for ribbons; the table beside it has them ({say_intervals(drawn)}).")
    if quantity == "p_A_steered":
        parts.append(
            f"P({target}) is of the answer within the window, of all that the model may say, not of two letters."
        )
    if find_red(report) & {row.condition for rows in lines.values() for row in rows}:
        parts.append("Hollow: more than 10 % of the prompts are red.")
    return " ".join(parts)


def _list_lines(report: Report, quantity: str) -> dict[int, list[ReportRow]]:
    """Rows by layer over the multipliers, each line with the unsteered model at 0."""
    lines: dict[int, list[ReportRow]] = {}
    for row in select_rows(report, quantity):
        lines.setdefault(row.condition.layer, []).append(row)
    before = _find_unsteered(report, quantity)
    if before is not None:
        lines = {n: sorted([*rows, before], key=lambda r: r.condition.multiplier) for n, rows in lines.items()}
    return lines


def _find_unsteered(report: Report, quantity: str) -> ReportRow | None:
    """The same without steering: a row of the baseline, or the quantity's unsteered twin of any condition."""
    rows = report.table(UNSTEERED.get(quantity, quantity), kind=None)
    row = next((r for r in rows if r.condition == BASELINE), next(iter(rows), None))
    return None if row is None or quantity not in UNSTEERED else replace(row, condition=BASELINE)
