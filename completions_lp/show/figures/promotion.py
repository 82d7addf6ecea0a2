"""Promote and suppress: what steering does to the answer and to all others (Pres et al. 2024, arXiv 2410.17245)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from completions_lp.quantities import HEADLINE
from completions_lp.records import Positions, Report, ReportRow
from completions_lp.show.figures.axes import draw_zero, label_axes, write_empty, write_note
from completions_lp.show.figures.marks import draw_bars
from completions_lp.show.figures.page import BLUE, COLUMN, GREY, Page, Sheet
from completions_lp.show.figures.part import Cell, Part, stack_ends, tidy_cell, tidy_estimate
from completions_lp.show.figures.view import Table, View
from completions_lp.show.figures.words import count, name_cell, name_target, note_few, say_intervals

A, OTHERS = HEADLINE, "increase_to_answer_not_A"


@dataclass(frozen=True, eq=False, repr=False)
class Promotion(View):
    """Every prompt as a point: the increase of the other completions (across) and of those with the answer (up).

    Up and left is steering: it promotes the answer and suppresses the others. Down and left is damage to both; the
    diagonal is where it does not tell them apart.
    """

    part: Part
    cell: Cell | None
    prompt_ids: tuple[str, ...]
    """The prompts with both kinds of completions."""
    across: Float[np.ndarray, " prompt"]
    """Their increase of the other completions, in nats."""
    up: Float[np.ndarray, " prompt"]
    """Their increase of the completions with the answer, in nats."""
    means: tuple[ReportRow, ...]
    """Over prompts: of the others, and of those with the answer; fewer where the report lacks them."""

    @classmethod
    def of(
        cls,
        report: Report,
        *,
        layer: int | None = None,
        multiplier: float | None = None,
        positions: Positions | None = None,
    ) -> "Promotion":
        """Pick what is shown; InputError where there is no such cell, or no such positions.

        Args:
            report: What to show.
            layer: Which layer; that of the report's best cell by default.
            multiplier: Which multiplier; that of the report's best cell by default.
            positions: Where the vector is added; by default as in the report's best cell.
        """
        part = Part.of(report, positions)
        cell = part.pick_cell(layer=layer, multiplier=multiplier)
        columns, nothing = part.prompts(cell), np.empty(0)
        if cell is None or A not in columns or OTHERS not in columns:
            return cls(part, cell, (), nothing, nothing, ())
        known = np.isfinite(columns[A]) & np.isfinite(columns[OTHERS])
        found = [part.by_condition(name) for name in (OTHERS, A)]
        means = tuple(rows[cell.condition] for rows in found if cell.condition in rows)
        ids = tuple(columns["prompt_id"][known].tolist())
        return cls(part, cell, ids, columns[OTHERS][known], columns[A][known], means)

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

    @property
    def caption(self) -> str:
        """What is drawn."""
        cell = self.cell
        if cell is None or not self.prompt_ids:
            return "Promote and suppress: nothing to draw."
        reason = f" ({cell.reason})" if cell.reason else ""
        parts = [
            f"Promote and suppress at {name_cell(cell.condition)}{reason}: {self.part.say(A)}, against that of "
            f"the other completions (nats), a circle for each of {count(len(self.prompt_ids), 'prompt')} with both. "
            "Dashed: the diagonal, on which steering does not tell them apart."
        ]
        if self.means:
            said = say_intervals(row.estimate for row in self.means)
            parts.append(f"Square: means over prompts, {said} both ways.")
        return self.part.finish(parts)

    def _plan(self, *, new: bool) -> Sheet:
        return Sheet(1, (COLUMN, 3.0))

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        (panel,) = panels
        draw_zero(panel)
        draw_zero(panel, vertical=True)
        title = name_cell(self.cell.condition) if self.cell else None
        axis = "log-prob increase of {} completions (nats)"
        label_axes(panel, x=axis.format("other"), y=axis.format(self.part.target), title=title)
        if not self.prompt_ids:
            write_empty(panel, f"no per-prompt {A!r}\nand {OTHERS!r}")
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
        if few := note_few([across, up]):
            write_note(panel, few, low=True)


def _name_quadrants(panel: Axes, target: str) -> None:
    """The diagonal, and what the corners mean."""
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    panel.set_xlim(min(left, -0.1 * (right - left)), max(right, 0.1 * (right - left)))
    panel.set_ylim(min(bottom, -0.1 * (top - bottom)), top + 0.18 * (top - bottom))
    panel.axline((0, 0), slope=1, color="0.5", linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    style: dict[str, Any] = {"transform": panel.transAxes, "fontsize": 6.5, "color": "0.35", "style": "italic"}
    panel.text(0.02, 0.97, f"promotes {target},\nsuppresses others", ha="left", va="top", **style)
    panel.text(0.02, 0.02, "suppresses both", ha="left", va="bottom", **style)
