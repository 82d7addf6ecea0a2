"""How well the vector is known, and what is said to predict where it steers, beside what it does: layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from completions_lp.records import Positions, Report, ReportRow, VectorQuality
from completions_lp.show.figures.axes import draw_zero, label_axes, tick_layers, write_empty, write_note
from completions_lp.show.figures.layers import LAYER
from completions_lp.show.figures.marks import draw_line
from completions_lp.show.figures.page import BLUE, RED, WIDE, YELLOW, Page, Sheet
from completions_lp.show.figures.part import Part, tidy_row
from completions_lp.show.figures.picks import PartView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import describe, note_few, say_intervals, sign

SHARES = {
    "split_half_cosine": ("split-half cosine", "o", BLUE),
    "pair_cosine": ("pair cosine", "s", RED),
    "lens_accuracy": ("lens accuracy", "^", YELLOW),
}
"""What is between 0 and 1, or nearly so: label, marker, colour."""


@dataclass(frozen=True, eq=False, repr=False)
class Quality(PartView):
    """Left: cosines and lens accuracy. Middle: d'. Right: the effect, at the best cell's dose; all by layer."""

    question = "Is the vector known best where it steers best?"
    sheet = Sheet(3, (WIDE, 2.5), 3)
    quantity: str
    cells: tuple[ReportRow, ...]
    """The effect by layer."""
    quality: Mapping[int, VectorQuality]

    @classmethod
    def of(cls, report: Report, *, quantity: str | None = None, positions: Positions | None = None) -> "Quality":
        """Pick what is shown; InputError where there is no such quantity or positions.

        By default the effect is the change of P(A), in percentage points, where it was measured, else the average
        log-prob increase.
        """
        part = Part.of(report, positions)
        quantity = part.pick_quantity(quantity)
        best = None if report.best is None else report.best.condition.asked
        rows = part.select(quantity)
        best = rows[-1].condition.asked if rows and best is None else best
        return cls(part, quantity, tuple(r for r in rows if r.condition.asked == best), report.quality)

    @property
    def rows(self) -> Table:
        """A row per layer of the vector, then one per layer of the effect."""
        known = [{"part": "quality", "layer": layer, **vars(q)} for layer, q in sorted(self.quality.items())]
        return known + [{"part": "effect", **tidy_row(row)} for row in self.cells] if known else []

    def _describe(self) -> str | list[str]:
        if not self.quality:
            return "Quality of the vector: nothing to draw; its file does not say how well it is known."
        parts = [
            "Quality of the vector by layer. Left: cosine between the vectors of two halves of the pairs, mean cosine "
            "of the pairs' differences with their mean, and lens accuracy (A_lin): the share of the pairs at which "
            "final norm and head, reading the layer's stream right before the answer, find the positive one likeliest. "
            "Middle: d′ of the two sides along the vector, each pair held out."
        ]
        if self.cells:
            row = self.cells[0]
            said = say_intervals(one.estimate for one in self.cells)
            parts.append(
                f"Right: {self.part.say(self.quantity)} ({row.estimate.unit}) at {self.part.scale} "
                f"{sign(row.condition.asked)} by the {LAYER}, {said}."
            )
            parts.append(self.part.warn_red(one.condition for one in self.cells))
        return parts

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        left, middle, right = panels
        layers = sorted(self.quality)
        _draw_shares(left, self.quality, layers)
        label_axes(left, x="layer", y="cosine, or share of pairs")
        apart = [self.quality[layer].d_prime for layer in layers]
        if np.isfinite(apart).any():
            draw_zero(middle)
            middle.plot(layers, apart, "o-", color=BLUE, markersize=3.5, linewidth=1.2, label="d′")
            tick_layers(middle, layers)
        else:
            write_empty(middle, "no d′")
        label_axes(middle, x="layer", y="d′ along the vector (held out)")
        self._draw_effect(right)

    def _draw_effect(self, panel: Axes) -> None:
        draw_zero(panel)
        if not self.cells:
            write_empty(panel, "no effects")
            return
        x, estimates = [row.condition.layer for row in self.cells], [row.estimate for row in self.cells]
        hollow = [row.condition in self.part.red for row in self.cells]
        draw_line(panel, x, estimates, color=BLUE, label="mean", hollow=hollow)
        tick_layers(panel, x)
        write_note(panel, note_few(estimates))
        title = f"{self.part.scale} {sign(self.cells[0].condition.asked)}"
        label_axes(
            panel, x="layer", y=f"{describe(self.quantity, self.part.report.target)} ({estimates[0].unit})", title=title
        )


def _draw_shares(panel: Axes, quality: Mapping[int, VectorQuality], layers: Sequence[int]) -> None:
    drawn = False
    for name, (label, marker, color) in SHARES.items():
        y = [getattr(quality[layer], name) for layer in layers]
        if y and np.isfinite(y).any():
            panel.plot(layers, y, f"{marker}-", color=color, markersize=3.5, linewidth=1.0, label=label)
            drawn = True
    if not drawn:
        write_empty(panel, "no quality")
        return
    panel.set_ylim(min(0.0, panel.get_ylim()[0]) - 0.02, 1.04)
    tick_layers(panel, layers)
    panel.legend(loc="best")
