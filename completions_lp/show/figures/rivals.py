"""Steering and its rivals on the very same completions: each one's effect, and what steering does beyond it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from completions_lp.records import Positions, Report, ReportRow, RivalRow
from completions_lp.report.best import pick_best
from completions_lp.show.figures.axes import label_axes, name_places, write_empty, write_note
from completions_lp.show.figures.marks import draw_bars
from completions_lp.show.figures.page import BLUE, WIDE, YELLOW, Page, Sheet
from completions_lp.show.figures.part import Cell, Part, stack_ends, tidy_estimate, tidy_row
from completions_lp.show.figures.picks import PlaceView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import name_cell, name_rival, note_few, say_intervals


@dataclass(frozen=True, eq=False, repr=False)
class Rivals(PlaceView):
    """A cell of the vector and the rivals, a line each: left their effects, right steering less each rival.

    Over all prompts; the difference is paired by prompt. Where the cell was chosen on one half of the prompts, the
    difference is over the other half.
    """

    question = "Does steering do more than its rivals?"
    quantity: str
    effects: tuple[ReportRow, ...]
    """Of the cell, then of each rival."""
    differences: tuple[RivalRow, ...]
    """In the order of the rivals."""

    @classmethod
    def of(
        cls,
        report: Report,
        *,
        quantity: str | None = None,
        layer: int | None = None,
        multiplier: float | None = None,
        positions: Positions | None = None,
    ) -> "Rivals":
        """Pick what is shown; InputError where there is no such quantity, cell or positions.

        By default the change of P(A), where it was measured, else the average increase, in the best cell.
        """
        part = Part.of(report, positions)
        quantity = part.pick_quantity(quantity)
        cell, rivals = part.pick_cell(layer=layer, multiplier=multiplier), part.list_rivals(quantity)
        if cell is None or not rivals:
            return cls(part, cell, quantity, (), ())
        own = part.by_condition(quantity)[cell.condition]
        return cls(part, cell, quantity, (own, *rivals), _find_differences(report, quantity, cell, rivals))

    @property
    def rows(self) -> Table:
        """A row per effect, then one per difference, which says of which rival."""
        table = [tidy_row(row, rival=None, split="all") for row in self.effects]
        for row in self.differences:
            place = {name: getattr(row.condition, name) for name in ("vector", "kind", "layer", "multiplier")}
            names = {"quantity": f"{row.quantity}, steering less rival", "weighting": "macro"}
            last = {"rival": row.rival.vector, "split": row.split}
            table.append({**place, **names, **tidy_estimate(row.difference), **last})
        return table

    def _describe(self) -> str | list[str]:
        if self.cell is None or not self.effects:
            return f"Steering and its rivals: no rival with {self.part.say(self.quantity)} to draw."
        parts = [
            f"Steering and its rivals on the very same completions: {self.part.say(self.quantity)} "
            f"({self.effects[0].estimate.unit}), means over prompts. Left: {name_cell(self.cell.condition)}"
            f"{self.cell.why} and each rival; bars: {say_intervals(row.estimate for row in self.effects)}."
        ]
        if self.differences:
            half = ", on the half of them that did not choose the cell" if self.differences[0].split == "report" else ""
            bars = say_intervals(row.difference for row in self.differences)
            parts.append(f"Right: steering less the rival, prompt by prompt{half}; bars: {bars}.")
        parts.append(self.part.warn_red(row.condition for row in self.effects))
        return parts

    def _plan(self, *, new: bool) -> Sheet:
        return Sheet(2, (WIDE, 0.9 + 0.28 * max(len(self.effects), 2)), columns=2)

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        left, right = panels
        if self.cell is None or not self.effects:
            for panel in panels:
                write_empty(panel, "no rival")
            return
        rivals = self.effects[1:]
        unit = self.effects[0].estimate.unit
        hollow = [row.condition in self.part.red for row in self.effects]
        places = np.arange(len(self.effects))[::-1]
        colors = [BLUE, *[YELLOW] * len(rivals)]
        ends = stack_ends([row.estimate for row in self.effects])
        draw_bars(left, [row.estimate.value for row in self.effects], places, ends, vertical=False)
        for row, place, color, untrusted in zip(self.effects, places, colors, hollow, strict=True):
            style: dict[str, Any] = {"color": color, "markerfacecolor": "white" if untrusted else color}
            left.plot(row.estimate.value, place, "o", markersize=4, **style)
        names = [name_cell(self.cell.condition), *(name_rival(row.condition) for row in rivals)]
        name_places(left, places, names)
        label_axes(left, x=self.part.label(self.quantity, unit), title="effect")
        at = {row.condition: place for row, place in zip(self.effects, places, strict=True)}
        shown = [row for row in self.differences if np.isfinite(row.difference.value)]
        if shown:
            here = [at[row.rival] for row in shown]
            values = [row.difference.value for row in shown]
            draw_bars(right, values, here, stack_ends([row.difference for row in shown]), vertical=False)
            right.plot(values, here, "o", markersize=4, color="black")
        name_places(right, places[1:], [f"less {name}" for name in names[1:]])
        right.set_ylim(left.get_ylim())
        label_axes(right, x=f"difference ({unit})", title="steering less rival")
        for panel in panels:
            panel.axvline(0, color="0.6", linewidth=0.6, zorder=0.7)
        write_note(right, note_few(row.difference for row in shown))


def _find_differences(report: Report, quantity: str, cell: Cell, rivals: list[ReportRow]) -> tuple[RivalRow, ...]:
    """Of the cell, by rival: on the held-out half where the cell is the report's own best, chosen on the other."""
    known = {row.condition for row in rivals}
    rows = [r for r in report.rivals if r.condition == cell.condition and r.quantity == quantity and r.rival in known]
    best = None if report.best is None else pick_best(report)
    held = best is not None and best.held_out and best.condition == cell.condition
    chosen = [row for row in rows if row.split == ("report" if held else "all")]
    return tuple(chosen or rows)
