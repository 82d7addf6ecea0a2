"""Effect against collateral damage: what a vector does to its own prompts, and to those that it is not about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from completions_lp.quantities import PRIMARY
from completions_lp.records import Estimate, OffTargetRow, Positions, Report
from completions_lp.show.escape import printable
from completions_lp.show.figures.axes import label_axes, name_places, write_empty, write_note
from completions_lp.show.figures.marks import draw_bars
from completions_lp.show.figures.page import BLUE, RED, WIDE, Page, Sheet
from completions_lp.show.figures.part import Part, stack_ends, tidy_estimate
from completions_lp.show.figures.picks import PartView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import name_cell, note_few, say_intervals

DAMAGES = ("greedy_change", "kl_per_token")
"""What tells damage to a set, beside the change of the probability of its answer."""


@dataclass(frozen=True, eq=False, repr=False)
class OffTarget(PartView):
    """A line for the run's own prompts and for each set, by cell: effect, change of accuracy, divergence.

    A vector that does its work and no more is far from 0 in the first line of the first panel, and at 0 everywhere
    else.
    """

    question = "What does the vector do to prompts that it is not about?"
    shown: tuple[OffTargetRow, ...]

    @classmethod
    def of(cls, report: Report, *, positions: Positions | None = None) -> "OffTarget":
        """Pick what is shown: all cells of all sets; InputError where the report has no such positions."""
        part = Part.of(report, positions)
        chosen = positions or (report.best.condition.positions if report.best else None)
        return cls(part, tuple(row for row in report.off_target if chosen in (None, row.condition.positions)))

    @property
    def quantities(self) -> tuple[str, ...]:
        """One for each panel: those that a set has a number of."""
        known = {row.quantity for row in self.shown if np.isfinite(row.estimate.value)}
        return tuple(name for name in (PRIMARY, *DAMAGES) if name in known)

    @property
    def rows(self) -> Table:
        """A row per cell, set and quantity; the run's own prompts have no set's name."""
        table: Table = []
        for row in self.shown:
            place = {name: getattr(row.condition, name) for name in ("vector", "kind", "layer", "multiplier")}
            names = {"set": row.name, "quantity": row.quantity}
            own = {"set": None, "quantity": row.effect_quantity, **tidy_estimate(row.effect)}
            if row.quantity in self.quantities:
                table += [{**place, **own}] * ({**place, **own} not in table)
                table.append({**place, **names, **tidy_estimate(row.estimate)})
        return table

    def _describe(self) -> str | list[str]:
        if not self.quantities:
            return "Effect against collateral damage: no off-target set to draw."
        cells = list(dict.fromkeys(name_cell(row.condition) for row in self.shown))
        drawn = [row.estimate for row in self.shown if row.quantity in self.quantities]
        return [
            f"Effect against collateral damage in {'; '.join(cells)}: the run's own prompts (blue), and off-target "
            f"sets (red). Panels: {'; '.join(self.part.say(name) for name in self.quantities)}. Bars: "
            f"{say_intervals([*(row.effect for row in self.shown), *drawn])}."
        ]

    def _plan(self, *, new: bool) -> Sheet:
        lines, panels = len(self._list_lines(PRIMARY)), max(len(self.quantities), 1)
        return Sheet(panels, (WIDE, 0.9 + 0.25 * max(lines, 2)), columns=panels)

    def _list_lines(self, quantity: str) -> list[tuple[str, bool, Estimate | None]]:
        """From top to bottom: name, whether it is of the run's own prompts, and the number."""
        lines: list[tuple[str, bool, Estimate | None]] = []
        cells = list(dict.fromkeys(row.condition for row in self.shown))
        for condition in cells:
            here = [row for row in self.shown if row.condition == condition]
            behind = f" ({name_cell(condition)})" if len(cells) > 1 else ""
            lines.append(
                (f"own prompts{behind}", True, here[0].effect if quantity == here[0].effect_quantity else None)
            )
            for name in dict.fromkeys(row.name for row in here):
                found = [row.estimate for row in here if row.name == name and row.quantity == quantity]
                lines.append((printable(name, limit=24), False, found[0] if found else None))
        return lines

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        if not self.quantities:
            for panel in panels:
                write_empty(panel, "no off-target set")
            return
        for number, (panel, quantity) in enumerate(zip(panels, self.quantities, strict=False)):
            lines = self._list_lines(quantity)
            places = np.arange(len(lines))[::-1]
            drawn = [
                (place, own, e)
                for place, (_, own, e) in zip(places, lines, strict=True)
                if e is not None and np.isfinite(e.value)
            ]
            self._draw_points(panel, drawn)
            panel.axvline(0, color="0.6", linewidth=0.6, zorder=0.7)
            name_places(panel, places, [name for name, *_ in lines] if number == 0 else [""] * len(lines))
            panel.set_ylim(-0.6, len(lines) - 0.4)
            unit = drawn[0][2].unit if drawn else ""
            label_axes(panel, x=self.part.label(quantity, unit))
            write_note(panel, note_few(e for _, _, e in drawn))

    @staticmethod
    def _draw_points(panel: Axes, drawn: Sequence[tuple[Any, bool, Estimate]]) -> None:
        if not drawn:
            return
        values, at = [e.value for _, _, e in drawn], [place for place, _, _ in drawn]
        draw_bars(panel, values, at, stack_ends([e for _, _, e in drawn]), vertical=False)
        for place, own, e in drawn:
            panel.plot(e.value, place, "o", markersize=4, color=BLUE if own else RED)
