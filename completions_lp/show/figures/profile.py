"""Where the gain is: token by token around the answer, and split into its parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from completions_lp.records import Estimate, ProfileRow, Report
from completions_lp.show.figures.axes import draw_zero, label_axes, write_empty, write_note
from completions_lp.show.figures.marks import draw_bars, draw_line
from completions_lp.show.figures.page import BAND, BLUE, RED, WIDE, YELLOW, Page, Sheet
from completions_lp.show.figures.part import Cell, Part, stack_ends, tidy_cell, tidy_estimate
from completions_lp.show.figures.picks import CellView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import name_cell, note_few, say_intervals

PLACES = {"before_answer_A": "before", "at_answer_A": "at", "after_answer_A": "after"}
PATHS = {"answer_share": "answer", "reasoning_share": "reasoning"}
SUMS = {"before_answer_A": "increase_A", "answer_share": "delta_logit_A"}
COLORS = (YELLOW, BLUE, RED)
RARE = 0.02
"""Offsets that fewer than this share of the most common one's completions have are left out of the drawing."""


@dataclass(frozen=True, eq=False, repr=False)
class TokenProfile(CellView):
    """Where the gain is, over the completions with the answer: by token position, and as parts of the whole.

    Left: the mean increase of the tokens by their place relative to the answer's, in the middle how many completions
    have such a token. Right: the increase before, at and after the answer, which sum to the whole; and the change of
    logit P(A) as the share of the answer itself and of the reasoning before it.
    """

    question = "Where in the text is the gain?"
    sheet = Sheet(3, (WIDE, 2.4), 3, {"width_ratios": [1.6, 1, 1]})
    offsets: tuple[ProfileRow, ...]
    """By place."""
    groups: tuple[Mapping[str, Estimate], ...]
    """The parts of each split that the report has, by quantity, their sum last."""

    @classmethod
    def _read(cls, part: Part, cell: Cell | None) -> "TokenProfile":
        return cls(part, cell, _list_offsets(part.report, cell), _list_parts(part, cell))

    @property
    def rows(self) -> Table:
        """A row per offset, then one per part."""
        if self.cell is None:
            return []
        place = tidy_cell(self.cell)
        table: Table = []
        for row in self.offsets:
            counted = {**tidy_estimate(row.estimate), "n_completions": row.n_completions}
            table.append({**place, "part": "token", "offset": row.offset, **counted})
        for name, estimate in (item for group in self.groups for item in group.items()):
            table.append({**place, "part": name, "offset": None, **tidy_estimate(estimate), "n_completions": None})
        return table

    def _describe(self) -> str | list[str]:
        cell, target = self.cell, self.part.target
        if cell is None:
            return "Where the gain is: nothing to draw."
        parts = [f"Where the gain is at {name_cell(cell.condition)}{cell.why}, in nats."]
        if self.offsets:
            parts.append(
                f"Left: mean increase of the tokens of the {target} completions by their place relative to the token "
                f"that gives the answer (0); {say_intervals(row.estimate for row in self.offsets)}; middle: "
                f"completions that have such a token, at most {max(row.n_completions for row in self.offsets)}; places "
                f"that under {100 * RARE:g} % of them have are left out."
            )
        if self.part.report.through != "end":
            parts.append("Nothing stands behind the answer: completions are not scored through their end.")
        if self.groups:
            said = say_intervals(estimate for group in self.groups for estimate in group.values())
            parts.append(f"Right: parts stacked one on the other to their sum; {said}.")
        if any("before_answer_A" in group for group in self.groups):
            parts.append("Before, at and after the answer's token sum to the increase of the whole completion.")
        if any("answer_share" in group for group in self.groups):
            parts.append(
                f"Answer and reasoning are Shapley shares of the change of logit P({target}): only the answer, or only "
                "the text before it, steered."
            )
        return parts

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        left, middle, right = panels
        draw_zero(left)
        if self.offsets:
            _draw_offsets(left, self.offsets)
            write_note(left, note_few(row.estimate for row in self.offsets))
            _draw_counts(middle, self.offsets)
        else:
            write_empty(left, "no profile over tokens")
            write_empty(middle, "no completions")
        label_axes(middle, x="token, as on the left", y="completions that have it")
        x = f"token, relative to the one that gives {self.part.answer}"
        label_axes(left, x=x, y="mean increase (nats)", title=self.part.title(self.cell))
        _draw_parts(right, self.groups)
        label_axes(right, y="nats")


def _list_offsets(report: Report, cell: Cell | None) -> tuple[ProfileRow, ...]:
    rows = [row for row in report.profile if cell is not None and row.condition == cell.condition and row.estimate.n]
    most = max((row.n_completions for row in rows), default=0)
    return tuple(sorted((row for row in rows if row.n_completions >= RARE * most), key=lambda row: row.offset))


def _list_parts(part: Part, cell: Cell | None) -> tuple[dict[str, Estimate], ...]:
    groups = []
    for names in (PLACES, PATHS):
        found = {name: part.by_condition(name) for name in (*names, SUMS[next(iter(names))])}
        if cell is not None and all(cell.condition in rows for rows in found.values()):
            groups.append({name: rows[cell.condition].estimate for name, rows in found.items()})
    return tuple(groups)


def _draw_offsets(panel: Axes, rows: Sequence[ProfileRow]) -> None:
    offsets = [row.offset for row in rows]
    draw_line(panel, offsets, [row.estimate for row in rows], color=BLUE, label="mean increase", markersize=2.5)
    panel.axvline(0, color="0.3", linewidth=0.6, linestyle=(0, (2, 2)), zorder=1)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_counts(panel: Axes, rows: Sequence[ProfileRow]) -> None:
    counts = [row.n_completions for row in rows]
    panel.bar([row.offset for row in rows], counts, color=BAND, edgecolor="0.5", linewidth=0.3, width=0.8, label="n")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_parts(panel: Axes, groups: Sequence[Mapping[str, Estimate]]) -> None:
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
        place: dict[str, Any] = {"ha": "center", "va": "bottom", "transform": panel.get_xaxis_transform()}
        name = "log prob" if "before_answer_A" in group else "logit of P"
        panel.text(x - (len(group) + 1) / 2, 1.02, name, fontsize=7, **place)
        x += 0.6
    panel.set_xticks(list(ticks), list(ticks.values()), rotation=35, ha="right", rotation_mode="anchor")
    if not groups:
        write_empty(panel, "no parts")
    else:
        write_note(panel, note_few(estimate for group in groups for estimate in group.values()))
