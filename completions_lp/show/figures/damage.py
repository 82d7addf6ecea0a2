"""Efficacy against damage: what the effect costs in the rest of the text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from completions_lp.quantities import PRIMARY
from completions_lp.records import Kind, Positions, Report, ReportRow
from completions_lp.show.figures.axes import draw_zero, label_axes, scale_log, write_empty, write_note
from completions_lp.show.figures.marks import draw_bars, draw_cells, name_cells
from completions_lp.show.figures.page import Page
from completions_lp.show.figures.part import Part, stack_ends, tidy_row
from completions_lp.show.figures.picks import PartView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import note_few, say_crosses

DAMAGE = "kl_per_token"
Pair = tuple[ReportRow, ReportRow]


@dataclass(frozen=True, eq=False, repr=False)
class Damage(PartView):
    """Efficacy against damage: one marker per layer and multiplier, with its intervals both ways.

    Triangles point the way the multiplier pushes and grow with it; lightness is the layer; hollow ones are not to be
    trusted. Grey dots are the random directions; the stepped line joins the cells that none beats on both axes.
    """

    question = "What does the effect cost in the rest of the text?"
    quantity: str
    pairs: tuple[Pair, ...]
    """Damage and effect of each cell."""
    cloud: tuple[Pair, ...]
    """The same of the random directions."""

    @classmethod
    def of(cls, report: Report, *, quantity: str = PRIMARY, positions: Positions | None = None) -> "Damage":
        """Pick what is shown; InputError where there is no such quantity, or no such positions.

        The positions are by default the best cell's; the damage is KL(unsteered ‖ steered) per token.
        """
        part = Part.of(report, positions)
        quantity = part.pick_quantity(quantity)
        return cls(part, quantity, _pair(part, quantity, "target"), _pair(part, quantity, "random"))

    @property
    def rows(self) -> Table:
        """A row per cell, of the target's and then of the random directions; the damage has its own columns."""
        table: Table = []
        for cost, gain in (*self.pairs, *self.cloud):
            e = cost.estimate
            damage = {DAMAGE: e.value, f"{DAMAGE}_low": e.low, f"{DAMAGE}_high": e.high}
            marks = {"untrusted": gain.condition in self.part.red, "on_front": (cost, gain) in self._front}
            table.append(tidy_row(gain, **damage, **marks))
        return table

    @property
    def _front(self) -> list[Pair]:
        return _find_front(self.pairs)

    def _describe(self) -> str | list[str]:
        if not self.pairs:
            return f"Efficacy against damage: no {self.part.say(self.quantity)} with {self.part.say(DAMAGE)} to draw."
        costs, gains = ([pair[i].estimate for pair in self.pairs] for i in (0, 1))
        parts = [
            f"Efficacy against damage: {self.part.say(self.quantity)} ({gains[0].unit}) against KL(unsteered ‖ "
            "steered) per token (nats, log scale), means over prompts; a triangle per layer (lightness) and "
            f"multiplier (direction and size). {say_crosses(costs, gains)}"
        ]
        if len(self._front) > 1:
            parts.append("Stepped line: the cells that no other beats on both axes.")
        if self.cloud:
            n = self.part.count_directions()
            parts.append(f"Grey dots: {n} random directions {self.part.same}, in every cell.")
        parts.append(self.part.warn_red(gain.condition for _, gain in self.pairs))
        return parts

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        (panel,) = panels
        draw_zero(panel)
        panel.plot(*_read(self.cloud), ".", color="0.72", markersize=2.5, zorder=1.1, label="random directions")
        unit = self.pairs[0][1].estimate.unit if self.pairs else "pp"
        label_axes(panel, x=self.part.label(DAMAGE, "nats/token"), y=self.part.label(self.quantity, unit))
        if not self.pairs:
            write_empty(panel, f"no {self.part.say(self.quantity)} and {self.part.say(DAMAGE)}")
            return
        ends = [stack_ends([pair[i].estimate for pair in self.pairs]) for i in (0, 1)]
        draw_bars(panel, *_read(self.pairs), ends[1])
        draw_bars(panel, *_read(self.pairs), np.where(ends[0] > 0, ends[0], np.nan), vertical=False)
        if len(self._front) > 1:  # through one cell there is no line
            panel.step(*_read(self._front), where="post", color="black", linewidth=0.9, zorder=1.9, label="front")
        self._draw_marks(panel)
        scale_log(panel, "x")
        write_note(panel, note_few(row.estimate for pair in self.pairs for row in pair))

    def _draw_marks(self, panel: Axes) -> None:
        places = {gain.condition: (cost.estimate.value, gain.estimate.value) for cost, gain in self.pairs}
        draw_cells(panel, places, self.part.red)
        nothing: dict[str, Any] = {"xdata": [], "ydata": []}
        more = []
        if self.cloud:
            more.append(Line2D(**nothing, linestyle="none", marker=".", ms=3, color="0.72", label="random"))
        if len(self._front) > 1:
            more.append(Line2D(**nothing, color="black", lw=0.9, label="front"))
        name_cells(panel, list(places), more)


def _pair(part: Part, quantity: str, kind: Kind) -> tuple[Pair, ...]:
    """Damage and effect of the same cell, where both have a place on the axes."""
    cost = part.by_condition(DAMAGE, kind=kind)
    gains = part.select(quantity) if kind == "target" else part.report.table(quantity, kind=kind)
    pairs = ((cost[row.condition], row) for row in gains if row.condition in cost and not row.condition.is_neutral)
    return tuple((c, g) for c, g in pairs if c.estimate.value > 0 and np.isfinite(g.estimate.value))


def _find_front(pairs: Sequence[Pair]) -> list[Pair]:
    """The cells than which none has less damage and more effect, by damage; no steering at all has none of either."""
    front: list[Pair] = []
    most = 0.0
    for cost, gain in sorted(pairs, key=lambda pair: (pair[0].estimate.value, -pair[1].estimate.value)):
        if gain.estimate.value > most:
            front.append((cost, gain))
            most = gain.estimate.value
    return front


def _read(pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    return [cost.estimate.value for cost, _ in pairs], [gain.estimate.value for _, gain in pairs]
