"""Promote and suppress: what steering does to the answer and to all others (Pres et al. 2024, arXiv 2410.17245)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from completions_lp.quantities import HEADLINE
from completions_lp.records import ReportRow
from completions_lp.show.figures.axes import draw_zero, label_axes, write_empty, write_note
from completions_lp.show.figures.marks import draw_bars
from completions_lp.show.figures.page import BLUE, GREY, Page
from completions_lp.show.figures.part import Cell, Part, stack_ends, tidy_cell, tidy_estimate
from completions_lp.show.figures.picks import CellView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import count, name_cell, name_target, note_few, say_intervals

A, OTHERS = HEADLINE, "increase_to_answer_not_A"


@dataclass(frozen=True, eq=False, repr=False)
class Promotion(CellView):
    """Every prompt as a point: the increase of the other completions (across) and of those with the answer (up).

    Up and left is steering; down and left is damage to both; on the diagonal the vector does not tell them apart.
    """

    question = "Does steering promote the answer, or move all texts alike?"
    prompt_ids: tuple[str, ...]
    """The prompts with both kinds of completions."""
    across: Float[np.ndarray, " prompt"]
    """Their increase of the other completions, in nats."""
    up: Float[np.ndarray, " prompt"]
    """Their increase of the completions with the answer, in nats."""
    means: tuple[ReportRow, ...]
    """Over prompts: of the others, and of those with the answer; fewer where the report lacks them."""

    @classmethod
    def _read(cls, part: Part, cell: Cell | None) -> "Promotion":
        columns, nothing = part.prompts(cell, known=(A, OTHERS)), np.empty(0)
        if cell is None or not columns:
            return cls(part, cell, (), nothing, nothing, ())
        found = [part.by_condition(name) for name in (OTHERS, A)]
        means = tuple(rows[cell.condition] for rows in found if cell.condition in rows)
        return cls(part, cell, tuple(columns["prompt_id"].tolist()), columns[OTHERS], columns[A], means)

    @property
    def rows(self) -> Table:
        """A row per prompt, then the two means."""
        if self.cell is None or not self.prompt_ids:
            return []
        place = tidy_cell(self.cell)
        table: Table = [
            {**place, "part": "prompt", "prompt_id": i, OTHERS: float(across), A: float(up), "unit": "nats"}
            for i, across, up in zip(self.prompt_ids, self.across, self.up, strict=True)
        ]
        return table + [{**place, "part": f"mean of {r.quantity}", **tidy_estimate(r.estimate)} for r in self.means]

    def _describe(self) -> str | list[str]:
        cell = self.cell
        if cell is None or not self.prompt_ids:
            return "Promote and suppress: nothing to draw."
        said = say_intervals(row.estimate for row in self.means)
        return [
            f"Promote and suppress at {name_cell(cell.condition)}{cell.why}: {self.part.say(A)}, against that of "
            f"the other completions (nats), a circle for each of {count(len(self.prompt_ids), 'prompt')} with both. "
            "Dashed: the diagonal, on which steering does not tell them apart.",
            f"Square: means over prompts, {said} both ways." if self.means else "",
        ]

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        (panel,) = panels
        draw_zero(panel)
        draw_zero(panel, vertical=True)
        title = name_cell(self.cell.condition) if self.cell else None
        axis = "log-prob increase of {} completions (nats)"
        label_axes(panel, x=axis.format("other"), y=axis.format(self.part.target), title=title)
        if not self.prompt_ids:
            write_empty(panel, f"no per-prompt {self.part.say(A)}\nand {self.part.say(OTHERS)}")
            return
        style: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": GREY, "markeredgewidth": 0.7}
        panel.plot(self.across, self.up, "o", markersize=3, label="prompts", **style)
        self._draw_mean(panel)
        _name_quadrants(panel, name_target(self.part.report.target, limit=10))
        panel.legend(loc="upper right", handletextpad=0.1, framealpha=1.0)

    def _draw_mean(self, panel: Axes) -> None:
        if len(self.means) < 2:
            return
        across, up = (row.estimate for row in self.means)
        style: dict[str, Any] = {"color": BLUE, "linewidth": 1.4, "zorder": 3}
        draw_bars(panel, [across.value], [up.value], stack_ends([up]), **style)
        draw_bars(panel, [across.value], [up.value], stack_ends([across]), vertical=False, **style)
        panel.plot(across.value, up.value, "s", color=BLUE, markersize=5, label="mean", zorder=3)
        write_note(panel, note_few([across, up]), low=True)


def _name_quadrants(panel: Axes, target: str) -> None:
    """The diagonal, and what the corners mean."""
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    panel.set_xlim(min(left, -0.1 * (right - left)), max(right, 0.1 * (right - left)))
    room = 0.12 * (top - bottom)  # below and above, for words and legend: points are drawn under neither
    panel.set_ylim(min(bottom - room, -room), top + 1.5 * room)
    panel.axline((0, 0), slope=1, color="0.5", linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    style: dict[str, Any] = {"transform": panel.transAxes, "fontsize": 6.5, "color": "0.35", "style": "italic"}
    style["bbox"] = {"facecolor": panel.get_facecolor(), "edgecolor": "none", "pad": 1}  # on top of the diagonal
    panel.text(0.02, 0.97, f"promotes {target},\nsuppresses others", ha="left", va="top", **style)
    panel.text(0.02, 0.02, "suppresses both", ha="left", va="bottom", **style)
