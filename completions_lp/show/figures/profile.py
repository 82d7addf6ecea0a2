"""Where the gain is: token by token around the answer, and split into its parts."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from completions_lp.records import Estimate, ProfileRow, Report
from completions_lp.show.figures.cells import (
    Cell,
    Table,
    pick_cell,
    select_by_condition,
    stack_ends,
    tidy_estimate,
    title_cell,
)
from completions_lp.show.figures.marks import draw_bars, draw_line
from completions_lp.show.figures.page import (
    BAND,
    BLUE,
    RED,
    STYLE,
    WIDE,
    YELLOW,
    Panels,
    draw_zero,
    label_axes,
    open_axes,
    write_empty,
    write_note,
)
from completions_lp.show.figures.words import make_plain, name_answer, name_cell, note_few, say_intervals

PLACES = {"before_answer_A": "before", "at_answer_A": "at", "after_answer_A": "after"}
PATHS = {"answer_share": "answer", "reasoning_share": "reasoning"}
SUMS = {"before_answer_A": "increase_A", "answer_share": "delta_logit_A"}
COLORS = (YELLOW, BLUE, RED)
RARE = 0.02
"""Offsets that fewer than this share of the most common one's completions have are left out of the drawing."""


def plot_profile(
    report: Report, *, layer: int | None = None, multiplier: float | None = None, axes: Panels | None = None
) -> Figure:
    """Where the gain is, over the completions with the answer: by token position, and as parts of the whole.

    Left: the mean increase of the tokens by their place relative to the answer's, bars below for the completions that
    have such a token. Right: the increase before, at and after the answer, which sum to the whole; and the change of
    logit P(A) as the share of the answer itself and of the reasoning before it.

    Args:
        report: What to draw.
        layer: Which layer; with ``multiplier`` left out too, the cell picked by ``pick_cell``.
        multiplier: Which multiplier.
        axes: Draw on these two axes instead of on a new page.
    """
    cell = pick_cell(report, layer=layer, multiplier=multiplier)
    with mpl.rc_context(STYLE):
        figure, (left, right) = open_axes(axes, 2, size=(WIDE, 2.4), columns=2, width_ratios=[1.7, 1])
        rows = _list_offsets(report, cell)
        draw_zero(left)
        if rows:
            _draw_offsets(left, rows)
            if few := note_few(row.estimate for row in rows):
                write_note(left, few)
        else:
            write_empty(left, "no profile over tokens")
        title = title_cell(report, cell)
        label_axes(
            left,
            x=f"token, relative to the one that gives {name_answer(report)}",
            y="mean increase (nats)",
            title=title,
        )
        _draw_parts(right, _list_parts(report, cell))
        label_axes(right, y="nats")
        return figure


def tabulate_profile(report: Report, *, layer: int | None = None, multiplier: float | None = None) -> Table:
    """The numbers behind ``plot_profile``: offsets first, then the parts."""
    cell = pick_cell(report, layer=layer, multiplier=multiplier)
    if cell is None:
        return []
    c = cell.condition
    place = {"vector": c.vector, "layer": c.layer, "multiplier": c.multiplier}
    table: Table = [
        {**place, "part": "token", "offset": r.offset, **tidy_estimate(r.estimate), "n_completions": r.n_completions}
        for r in _list_offsets(report, cell)
    ]
    for group in _list_parts(report, cell):
        for name, estimate in group.items():
            table.append({**place, "part": name, "offset": None, **tidy_estimate(estimate), "n_completions": None})
    return table


def caption_profile(report: Report, *, layer: int | None = None, multiplier: float | None = None) -> str:
    """What ``plot_profile`` shows."""
    cell = pick_cell(report, layer=layer, multiplier=multiplier)
    if cell is None:
        return "Where the gain is: nothing to draw."
    c, target = cell.condition, make_plain(report.target, limit=16)
    reason = f" ({cell.reason})" if cell.reason else ""
    parts = [f"Where the gain is at {name_cell(c)}{reason}, in nats."]
    rows = _list_offsets(report, cell)
    if rows:
        parts.append(
            f"Left: mean increase of the tokens of the {target} completions by their place relative to the token that "
            f"gives the answer (0); {say_intervals(row.estimate for row in rows)}; grey bars: completions that have "
            f"such a token, at most {max(row.n_completions for row in rows)}; places that under {100 * RARE:g} % of "
            "them have are left out."
        )
    groups = _list_parts(report, cell)
    if groups:
        said = say_intervals(estimate for group in groups for estimate in group.values())
        parts.append(f"Right: parts stacked one on the other to their sum; {said}.")
        if any("before_answer_A" in group for group in groups):
            parts.append("Before, at and after the answer's token sum to the increase of the whole completion.")
        if any("answer_share" in group for group in groups):
            parts.append(
                f"Answer and reasoning are Shapley shares of the change of logit P({target}): only the answer, or only "
                "the text before it, steered."
            )
    return " ".join(parts)


def _list_offsets(report: Report, cell: Cell | None) -> list[ProfileRow]:
    rows = [row for row in report.profile if cell is not None and row.condition == cell.condition and row.estimate.n]
    most = max((row.n_completions for row in rows), default=0)
    return sorted((row for row in rows if row.n_completions >= RARE * most), key=lambda row: row.offset)


def _list_parts(report: Report, cell: Cell | None) -> list[dict[str, Estimate]]:
    """The parts of each split that the report has, their sum last."""
    groups = []
    for names in (PLACES, PATHS):
        found = {name: select_by_condition(report, name) for name in (*names, SUMS[next(iter(names))])}
        if cell is not None and all(cell.condition in rows for rows in found.values()):
            groups.append({name: rows[cell.condition].estimate for name, rows in found.items()})
    return groups


def _draw_offsets(panel: Axes, rows: Sequence[ProfileRow]) -> None:
    offsets = [row.offset for row in rows]
    draw_line(panel, offsets, [row.estimate for row in rows], color=BLUE, label="mean increase", markersize=2.5)
    panel.axvline(0, color="0.3", linewidth=0.6, linestyle=(0, (2, 2)), zorder=1)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    risk = panel.twinx()
    risk.bar(offsets, [row.n_completions for row in rows], color=BAND, width=0.8, label="completions")
    risk.set_ylim(0, 5 * max(row.n_completions for row in rows))
    risk.set_yticks([0, max(row.n_completions for row in rows)])
    risk.tick_params(labelsize=6, length=2, colors="0.45")
    risk.set_ylabel("completions", fontsize=6, color="0.45", loc="bottom", parse_math=False)
    risk.set_zorder(panel.get_zorder() - 1)
    panel.patch.set_visible(False)
    low, high = panel.get_ylim()
    panel.set_ylim(low - 0.28 * (high - low), high)  # room for the bars below the line


def _name(group: dict[str, Estimate]) -> str:
    return "log prob" if "before_answer_A" in group else "logit of P"


def _draw_parts(panel: Axes, groups: Sequence[dict[str, Estimate]]) -> None:
    """Each part starts where the one before it ended; intervals are of the part alone, at its own end."""
    draw_zero(panel)
    ticks: dict[float, str] = {}
    x = 0.0
    for group in groups:
        start = 0.0
        for i, (name, estimate) in enumerate(group.items()):
            whole = i == len(group) - 1
            base = 0.0 if whole else start
            style: dict[str, Any] = {"color": "0.75", "hatch": "...."} if whole else {"color": COLORS[i]}
            panel.bar(x, estimate.value, bottom=base, width=0.75, label=name, edgecolor="0.3", linewidth=0.5, **style)
            ends = stack_ends([estimate]) + base
            draw_bars(panel, [x], [base + estimate.value], ends, linewidth=1.0, color="black", zorder=3)
            start += 0.0 if whole else estimate.value
            if not whole:
                panel.hlines(start, x + 0.375, x + 0.625, color="0.3", linewidth=0.5)
            ticks[x] = {**PLACES, **PATHS}.get(name, "sum")
            x += 1
        middle = x - (len(group) + 1) / 2
        panel.text(
            middle, 1.02, _name(group), ha="center", va="bottom", fontsize=7, transform=panel.get_xaxis_transform()
        )
        x += 0.6
    panel.set_xticks(list(ticks), list(ticks.values()), rotation=35, ha="right", rotation_mode="anchor")
    if not groups:
        write_empty(panel, "no parts")
    elif few := note_few(estimate for group in groups for estimate in group.values()):
        write_note(panel, few)
