"""The layer sweep: an effect by the layer at which the vector is added."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from completions_lp.records import Kind, Positions, Report, ReportRow
from completions_lp.show.escape import printable
from completions_lp.show.figures.axes import draw_zero, label_axes, label_panels, tick_layers, write_empty, write_note
from completions_lp.show.figures.marks import (
    draw_controls,
    draw_line,
    draw_ribbon,
    draw_rivals,
    list_rival_marks,
    make_styles,
)
from completions_lp.show.figures.page import BAND, BLUE, COLUMN, GREY, WIDE, Page, Sheet, count_columns
from completions_lp.show.figures.part import Part, stack_ends, tidy_row
from completions_lp.show.figures.picks import PartView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import note_few, say_intervals, sign

MANY = 12
"""More layers than this get finer marks."""
LETTERS = 18
"""Of a legend, to an inch."""
LAYER = "layer at whose output the vector is added"


@dataclass(frozen=True, eq=False, repr=False)
class LayerSweep(PartView):
    """The layer sweep: a panel per multiplier, or on the caller's axes one line per multiplier.

    A panel has the mean over prompts, its pointwise interval (dark), the simultaneous band (light), the band of the
    random directions (grey; of few of them, a line each) and hollow markers where more than a tenth of the prompts are
    red. Of several vectors, the others have a line each beside it.
    """

    question = "At which layers does the vector steer?"
    quantity: str
    cells: tuple[ReportRow, ...]
    """By layer and multiplier."""
    rivals: tuple[ReportRow, ...] = ()
    others: tuple[ReportRow, ...] = ()
    """Those of the run's further vectors."""
    random: tuple[ReportRow, ...] = ()
    """Those of random directions, where there are too few for a band."""

    @classmethod
    def of(
        cls,
        report: Report,
        *,
        quantity: str | None = None,
        kind: Kind = "target",
        vector: str | None = None,
        positions: Positions | None = None,
    ) -> "LayerSweep":
        """Pick what is shown; InputError where there is no such quantity, vector or positions.

        By default the quantity is the change of P(A), in percentage points, where it was measured, else the average
        log-prob increase; the vector is the first of its kind; the positions are those of the report's best cell.
        """
        part = Part.of(report, positions)
        quantity = part.pick_quantity(quantity)
        cells = tuple(part.select(quantity, kind=kind, vector=vector))
        several = kind == "target" and vector is None
        others, random = (part.list_all(quantity, name) if several else () for name in ("further", "random"))
        banded = any(np.isfinite(row.inference.random_low) for row in cells)
        return cls(part, quantity, cells, tuple(part.list_rivals(quantity)), others, () if banded else random)

    @property
    def multipliers(self) -> list[float]:
        """Those of the sweep, in order; with doses in another unit, the doses."""
        return sorted({row.condition.asked for row in self.cells})

    @property
    def rows(self) -> Table:
        """A row per layer and multiplier, then those of further vectors and random directions, then one per rival."""
        cells = [*self.cells, *self.others, *self.random, *self.rivals]
        names, red = ("band_low", "band_high", "random_low", "random_high"), self.part.red
        ends = [{name: getattr(row.inference, name) for name in names} for row in cells]
        return [tidy_row(r, **e, untrusted=r.condition in red) for r, e in zip(cells, ends, strict=True)]

    def _describe(self) -> str | list[str]:
        rows, what = self.cells, self.part.say(self.quantity)
        if not rows:
            return f"Layer sweep: no {self.part.say(self.quantity)} to draw."
        parts = [
            f"Layer sweep: {what} ({rows[0].estimate.unit}) by the {LAYER}; mean over prompts.",
            f"Ribbon, pointwise: {say_intervals(row.estimate for row in rows)}.",
        ]
        if len(rows) > 1 and any(np.isfinite(row.inference.band_low) for row in rows):
            parts.append(
                f"Light ribbon: simultaneous max-T band over the {len(rows)} cells of the sweep (approximate); a best "
                "cell picked by eye is covered by it, not by the dark one."
            )
        if any(np.isfinite(row.inference.random_low) for row in rows):
            parts.append(f"Grey: central 95 % of {self.part.count_directions()} random directions {self.part.same}.")
        if self.others:
            names = " and ".join(printable(name) for name in self._styles)
            parts.append(f"Further lines, with their own ribbons: {names}, {self.part.alike}.")
        if self.random:
            n = len({row.condition.vector for row in self.random})
            parts.append(f"Thin grey lines: {n} random direction{'s' * (n > 1)} {self.part.same}.")
        if self.part.any_red(row.condition for row in (*rows, *self.others)):
            parts.append("Hollow: more than 10 % of the prompts are red, the estimate is not to be trusted there.")
        return [*parts, self.part.say_rivals(self.rivals)]

    def _plan(self, *, new: bool) -> Sheet:
        n = len(self.multipliers)
        if not new or n <= 1:
            return Sheet(1, (COLUMN, 2.6))
        columns = count_columns(n)
        return Sheet(n, (WIDE, 0.9 + 1.45 * -(-n // columns)), columns, {"sharex": True, "sharey": True})

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        multipliers = self.multipliers
        if page is None and len(multipliers) > 1:
            self._draw_together(panels[0], multipliers)
        else:
            for panel, multiplier in zip(panels, multipliers, strict=False):
                self._draw_beside(panel, multiplier)
                self._draw_panel(panel, [row for row in self.cells if row.condition.asked == multiplier])
                label_axes(panel, title=f"{self.part.scale} {sign(multiplier)}")
        self._label(panels, page)
        if page is not None and self.cells:
            self._explain(page, columns=3 if len(panels) == 1 else 5)

    def _hollow(self, rows: Sequence[ReportRow]) -> list[bool]:
        return [row.condition in self.part.red for row in rows]

    def _draw_panel(self, panel: Axes, rows: Sequence[ReportRow]) -> None:
        """One multiplier, with all that bears on whether its line means anything."""
        layers, estimates = [row.condition.layer for row in rows], [row.estimate for row in rows]
        draw_controls(panel, layers, rows)
        draw_rivals(panel, self.rivals)
        band = np.array([(row.inference.band_low, row.inference.band_high) for row in rows]).T
        draw_ribbon(panel, layers, band, color=BLUE, alpha=0.16)
        draw_ribbon(panel, layers, stack_ends(estimates), color=BLUE, alpha=0.35)
        style: dict[str, Any] = {"markersize": 1.8, "linewidth": 0.8} if len(rows) > MANY else {}
        style |= {"label": "mean", "hollow": self._hollow(rows), "ribbon": False}
        draw_line(panel, layers, estimates, color=BLUE, **style)

    @property
    def _styles(self) -> dict[str, Any]:
        """How the line of each further vector is drawn."""
        names = list(dict.fromkeys(row.condition.vector for row in self.others))
        return dict(zip(names, make_styles(len(names) + 1)[1:], strict=True))

    def _draw_beside(self, panel: Axes, multiplier: float) -> None:
        """What stands beside the vector: random directions, and further vectors."""
        for name in dict.fromkeys(row.condition.vector for row in self.random):
            rows = [r for r in self.random if (r.condition.vector, r.condition.asked) == (name, multiplier)]
            values = [row.estimate.value for row in rows]
            panel.plot([row.condition.layer for row in rows], values, color=GREY, linewidth=0.6, zorder=1)
        for name, style in self._styles.items():
            rows = [r for r in self.others if (r.condition.vector, r.condition.asked) == (name, multiplier)]
            layers, estimates = [row.condition.layer for row in rows], [row.estimate for row in rows]
            small: dict[str, Any] = {"markersize": 1.8, "linewidth": 0.8} if len(rows) > MANY else {}
            draw_line(panel, layers, estimates, label=name, hollow=self._hollow(rows), **{**style, **small})

    def _draw_together(self, panel: Axes, multipliers: Sequence[float]) -> None:
        for multiplier, style in zip(multipliers, make_styles(len(multipliers)), strict=True):
            rows = [row for row in self.cells if row.condition.asked == multiplier]
            layers, estimates = [row.condition.layer for row in rows], [row.estimate for row in rows]
            draw_line(panel, layers, estimates, label=sign(multiplier), hollow=self._hollow(rows), **style)
        panel.legend(title=self.part.scale, ncols=min(4, len(multipliers)))

    def _explain(self, page: Page, *, columns: int) -> None:
        """A legend above the panels, of what is really in them."""
        rows = self.cells
        own = printable(rows[0].condition.vector, limit=24) if self.others else "mean"
        marks: list[Any] = [Line2D([], [], color=BLUE, marker="o", markersize=3.5, label=own)]
        look: dict[str, Any] = {"markersize": 3.5, "linewidth": 1.2}
        marks += [
            Line2D([], [], label=printable(name, limit=24), **{**look, **style}) for name, style in self._styles.items()
        ]
        if self.random:
            marks.append(Line2D([], [], color=GREY, linewidth=0.6, label="random"))
        if any(row.estimate.low is not None for row in rows):
            marks.append(Patch(color=BLUE, alpha=0.35, linewidth=0, label="interval"))
        if any(np.isfinite(row.inference.band_low) for row in rows):
            marks.append(Patch(color=BLUE, alpha=0.16, linewidth=0, label="whole sweep"))
        if any(np.isfinite(row.inference.random_low) for row in rows):
            marks.append(Patch(color=BAND, linewidth=0, label="random"))
        if self.part.any_red(row.condition for row in (*rows, *self.others)):
            hollow: dict[str, Any] = {"markerfacecolor": "white", "markersize": 3.5, "color": BLUE}
            marks.append(Line2D([], [], linestyle="none", marker="o", label="over 10 % red", **hollow))
        marks += list_rival_marks(self.rivals)
        longest = max(len(str(mark.get_label())) for mark in marks)
        fits = max(1, int(LETTERS * page.get_size_inches()[0] / (longest + 7)))
        page.legend(handles=marks, loc="outside upper center", ncols=min(columns, fits, len(marks)))

    def _label(self, panels: Sequence[Axes], page: Page | None) -> None:
        rows = self.cells
        for panel in panels:
            draw_zero(panel)
            tick_layers(panel, [row.condition.layer for row in rows])
        y = self.part.label(self.quantity, rows[0].estimate.unit if rows else "nats")
        if rows:
            write_note(panels[0], note_few(row.estimate for row in rows))
        else:
            write_empty(panels[0], f"no {self.part.say(self.quantity)}")
        label_panels(page, panels, x=LAYER, y=y)
