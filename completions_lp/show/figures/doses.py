"""Dose and response: how the effect grows with the multiplier at one layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from completions_lp.quantities import HEADLINE
from completions_lp.records import Estimate, Inference, Report, ReportRow, Slope
from completions_lp.show.figures.axes import (
    draw_zero,
    label_axes,
    tick_multipliers,
    write_empty,
    write_note,
)
from completions_lp.show.figures.marks import draw_bars, draw_controls, draw_line, draw_rivals
from completions_lp.show.figures.page import BLUE, COLUMN, RED, Page, Sheet
from completions_lp.show.figures.part import Cell, Part, stack_ends, tidy_estimate, tidy_row
from completions_lp.show.figures.picks import LayerView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import name_layers, note_few, say_intervals, write_estimate

RATIO, BOUND, OTHERS, DAMAGE = "log_ratio_A", HEADLINE, "increase_to_answer_not_A", "kl"
ASIDE = 0.012
"""By how much of the axis the bars of −KL are moved: those of the other completions, often as long, would hide them."""


@dataclass(frozen=True, eq=False, repr=False)
class DoseResponse(LayerView):
    """Dose and response at one layer: above, the log ratio of P(A) and its bound from the A completions.

    Between the two is KL(unsteered ‖ steered) among the texts that give A (numbers.md I2). Grey are random directions.
    Below is what it costs: the log prob of the other completions, and −KL over all.
    """

    question = "How does the effect grow with the dose?"
    sheet = Sheet(2, (COLUMN, 3.9), 1, {"sharex": True, "height_ratios": [1.7, 1]})
    series: Mapping[str, Sequence[ReportRow]]
    """By quantity, rows over the multipliers, with the origin where it was not measured."""
    slope: Slope | None
    """Of the log ratio at this layer, or else of its bound."""
    rivals: Sequence[ReportRow] = ()
    """Under each rival the log ratio, or else its bound."""

    @classmethod
    def _read(cls, part: Part, cell: Cell | None) -> "DoseResponse":
        series = {name: add_origin(part.at_layer(name, cell)) for name in (RATIO, BOUND, OTHERS, DAMAGE)}
        return cls(
            part, cell, series, _find_slope(part.report, cell), part.list_rivals(RATIO) or part.list_rivals(BOUND)
        )

    @property
    def rows(self) -> Table:
        """A row per quantity and multiplier; the slope is one without a multiplier."""
        table = [
            tidy_row(row, random_low=row.inference.random_low, random_high=row.inference.random_high)
            for rows in (*self.series.values(), self.rivals)
            for row in rows
        ]
        if (slope := self.slope) is not None:
            place = {"vector": slope.vector, "kind": slope.kind, "layer": slope.layer, "multiplier": None}
            names = {"quantity": f"slope of {slope.quantity}", "weighting": "macro"}
            table.append({**place, **names, **tidy_estimate(slope.estimate), "random_low": None, "random_high": None})
        return table

    def _describe(self) -> str | list[str]:
        cell, target = self.cell, self.part.target
        if cell is None:
            return "Dose and response: nothing to draw."
        costs = "; dotted: −KL over all completions" if self.series[DAMAGE] else ""
        parts = [
            f"Dose and response at {name_layers(cell.condition)}{cell.why}, in nats, means over prompts. Above, "
            f"circles: log ratio of steered and unsteered P({target}); squares: log-prob increase of the {target} "
            "completions, to the answer, a lower bound on it; between the two is the divergence of the steered from "
            "the unsteered texts among those with the answer. Below, dashed: increase of the other completions"
            f"{costs}. Ribbon and "
            f"bars: {say_intervals(self._drawn)}. At multiplier 0 all are 0 by definition."
        ]
        if (slope := self.slope) is not None:
            parts.append(
                f"Mean slope of the {self.part.say(slope.quantity)} (least squares per prompt over "
                f"multipliers {_span(slope.multipliers)}): {write_estimate(slope.estimate)}."
            )
        parts.append(self.part.warn_red(row.condition for row in self.series[RATIO]))
        told = self.part.say_rivals(self.rivals)
        parts += [f"{told[:-1]} ({self.part.say(self.rivals[0].quantity)})."] if told else []
        if any(np.isfinite(row.inference.random_low) for row in self.series[RATIO]):
            n = self.part.count_directions()
            parts.append(f"Grey: log ratio under the central 95 % of {n} random directions.")
        return parts

    @property
    def _drawn(self) -> list[Estimate]:
        return [row.estimate for rows in self.series.values() for row in rows if row.condition.multiplier]

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        above, below = panels
        self._draw_effect(above)
        self._draw_costs(below)
        for panel in panels:
            draw_zero(panel)
            tick_multipliers(panel, {row.condition.multiplier for rows in self.series.values() for row in rows})
        label_axes(above, y="nats", title=name_layers(self.cell.condition) if self.cell else None)
        label_axes(below, x="multiplier", y="nats")
        if not self._drawn:
            write_empty(above, f"no {self.part.say(RATIO)} or {self.part.say(BOUND)}")
            return
        slope = self.slope
        said = f"mean slope {write_estimate(slope.estimate)}" if slope else None
        write_note(above, note_few(self._drawn), said, room=0.08)
        if page is None:
            for panel in panels:
                panel.legend(columnspacing=1.0)
        else:  # below, where it hides nothing
            handles = [handle for panel in panels for handle in panel.get_legend_handles_labels()[0]]
            page.legend(handles=handles, loc="outside lower center", ncols=2, columnspacing=1.0)

    def _draw_effect(self, panel: Axes) -> None:
        """The random directions, the log ratio with its ribbon, and its bound with bars."""
        series, target = self.series, self.part.target
        draw_controls(panel, _list_doses(series[RATIO]), series[RATIO])
        looks: dict[str, tuple[str, dict[str, Any]]] = {
            RATIO: (f"log ratio of P({target})", {"color": BLUE, "marker": "o"}),
            BOUND: (f"{target} completions (bound)", {"color": RED, "marker": "s", "linestyle": (0, (4, 1.5))}),
        }
        for name, (label, look) in looks.items():
            if rows := series[name]:
                x, estimates = _list_doses(rows), [row.estimate for row in rows]
                hollow = [row.condition in self.part.red for row in rows] if name == RATIO else ()
                draw_line(panel, x, estimates, label=label, hollow=hollow, ribbon=name == RATIO, **look)
                if name == BOUND:
                    draw_bars(panel, x, [], stack_ends(estimates), color=RED)
        draw_rivals(panel, self.rivals)

    def _draw_costs(self, panel: Axes) -> None:
        """What becomes of the other completions, and of all of them."""
        looks: dict[str, tuple[str, dict[str, Any]]] = {
            OTHERS: ("other completions", {"marker": "^", "linestyle": (0, (4, 1.5))}),
            DAMAGE: ("−KL, all", {"marker": "", "linestyle": (0, (1, 1.2))}),
        }
        for name, (label, look) in looks.items():
            if rows := self.series[name]:
                x, estimates = _list_doses(rows), [_negate(r.estimate) if name == DAMAGE else r.estimate for r in rows]
                draw_line(panel, x, estimates, label=label, color="0.25", ribbon=False, **look)
                aside = ASIDE * (max(x) - min(x)) if name == DAMAGE else 0.0
                draw_bars(panel, np.add(x, aside), [], stack_ends(estimates), color="0.25")


def add_origin(rows: Sequence[ReportRow]) -> list[ReportRow]:
    """The rows of one quantity with multiplier 0 among them, where everything is 0 by definition.

    Of a clamp there is no such row: at 0, too, the component is set.
    """
    if not rows or rows[0].condition.operation == "clamp":
        return list(rows)
    first = rows[0]
    at, unit = first.condition, first.estimate.unit
    origin = at.without_dose
    nothing = Estimate(0.0, None, None, first.estimate.level, unit, 0, 0, "definition")
    known = np.isfinite(first.inference.random_low)
    inference = Inference(random_low=0.0, random_high=0.0) if known else Inference()
    middle = ReportRow(origin, first.quantity, "macro", nothing, 0, inference)
    return sorted([*rows, middle], key=lambda row: row.condition.multiplier)


def _find_slope(report: Report, cell: Cell | None) -> Slope | None:
    if cell is None:
        return None
    at = cell.condition
    slopes = {s.quantity: s for s in report.slopes if (s.vector, s.kind, s.layer) == (at.vector, at.kind, at.layer)}
    return slopes.get(RATIO, slopes.get(BOUND))


def _negate(estimate: Estimate) -> Estimate:
    e = estimate
    low, high = (None, None) if e.low is None or e.high is None else (-e.high, -e.low)
    return Estimate(-e.value, low, high, e.level, e.unit, e.n, e.n_clusters, e.method)


def _list_doses(rows: Sequence[ReportRow]) -> list[float]:
    return [row.condition.multiplier for row in rows]


def _span(multipliers: Sequence[float]) -> str:
    return f"{min(multipliers):+g} to {max(multipliers):+g}".replace("-", "−")
