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
from completions_lp.show.figures.page import BLUE, COLUMN, RED, YELLOW, Page, Sheet
from completions_lp.show.figures.part import Cell, Part, stack_ends, tidy_estimate, tidy_row
from completions_lp.show.figures.picks import LayerView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import name_layers, note_few, say_intervals, write_estimate

RATIO, BOUND, OTHERS, DAMAGE = "log_ratio_A", HEADLINE, "increase_to_answer_not_A", "kl"
ASIDE = 0.012
"""By how much of the axis the bars of −KL are moved: those of the other completions, often as long, would hide them."""


@dataclass(frozen=True, eq=False, repr=False)
class DoseResponse(LayerView):
    """Dose and response at one layer: the log ratio of P(A), its bound from the A completions, and the gap between.

    The gap is KL(unsteered ‖ steered) among the texts that give A (numbers.md I2); beside them the other completions
    (dashed) and −KL over all (dotted), the random directions (grey) and the slope over multipliers.
    """

    question = "How does the effect grow with the dose?"
    sheet = Sheet(1, (COLUMN, 3.1))
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
        dotted, moved = (
            ("; dotted: −KL over all", " (those of −KL moved to the right)") if self.series[DAMAGE] else ("", "")
        )
        parts = [
            f"Dose and response at {name_layers(cell.condition)}{cell.why}, in nats, means over prompts. Circles: log "
            f"ratio of steered and unsteered P({target}); squares: log-prob increase of the {target} completions, to "
            "the answer, a lower bound on it; the shaded gap estimates the divergence of the steered from the "
            f"unsteered texts among those with the answer. Dashed: other completions{dotted}. Ribbons and bars{moved}: "
            f"{say_intervals(self._drawn)}. At multiplier 0 all are 0 by definition."
        ]
        if (slope := self.slope) is not None:
            parts.append(
                f"Long dashes: mean slope of the {self.part.say(slope.quantity)} (least squares per prompt over "
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
        (panel,) = panels
        draw_zero(panel)
        self._draw_lines(panel)
        draw_rivals(panel, self.rivals)
        self._draw_slope(panel)
        tick_multipliers(panel, {row.condition.multiplier for rows in self.series.values() for row in rows})
        label_axes(panel, x="multiplier", y="nats", title=name_layers(self.cell.condition) if self.cell else None)
        if not self._drawn:
            write_empty(panel, f"no {self.part.say(RATIO)} or {self.part.say(BOUND)}")
            return
        slope = self.slope
        said = f"mean slope {write_estimate(slope.estimate)}" if slope else None
        write_note(panel, note_few(self._drawn), said, room=0.08)
        if page is None:
            panel.legend(columnspacing=1.0)
        else:  # below, where it hides nothing
            handles, labels = panel.get_legend_handles_labels()
            page.legend(handles, labels, loc="outside lower center", ncols=2, columnspacing=1.0)

    def _draw_lines(self, panel: Axes) -> None:
        """The random directions, the gap between ratio and bound, and a line per quantity."""
        series, target = self.series, self.part.target
        draw_controls(panel, _list_doses(series[RATIO]), series[RATIO])
        if series[RATIO] and len(series[RATIO]) == len(series[BOUND]):
            ratio, bound = ([row.estimate.value for row in series[name]] for name in (RATIO, BOUND))
            style: dict[str, Any] = {"color": YELLOW, "alpha": 0.45, "linewidth": 0, "zorder": 1.2, "label": "gap"}
            panel.fill_between(_list_doses(series[RATIO]), bound, ratio, **style)
        looks: dict[str, tuple[str, dict[str, Any]]] = {
            RATIO: (f"log ratio of P({target})", {"color": BLUE, "marker": "o"}),
            BOUND: (f"{target} completions (bound)", {"color": RED, "marker": "s"}),
            OTHERS: ("other completions", {"color": "0.25", "marker": "^", "linestyle": (0, (4, 1.5))}),
            DAMAGE: ("−KL, all", {"color": "0.25", "marker": "", "linestyle": (0, (1, 1.2))}),
        }
        for name, (label, look) in looks.items():
            rows = series[name]
            if rows:
                x, estimates = _list_doses(rows), [_negate(r.estimate) if name == DAMAGE else r.estimate for r in rows]
                look |= {"ribbon": name in (RATIO, BOUND)}
                look |= {"hollow": [row.condition in self.part.red for row in rows]} if name == RATIO else {}
                line = draw_line(panel, x, estimates, label=label, **look)
                if name not in (RATIO, BOUND):
                    aside = ASIDE * (max(x) - min(x)) if name == DAMAGE else 0.0
                    draw_bars(panel, np.add(x, aside), [], stack_ends(estimates), color=line.get_color())

    def _draw_slope(self, panel: Axes) -> None:
        if self.slope is not None:
            reach = 0.6 * max(abs(row.condition.multiplier) for row in [*self.series[RATIO], *self.series[BOUND]])
            ends = np.array([-reach, reach])
            style: dict[str, Any] = {"color": "0.3", "lw": 0.7, "dashes": (8, 3), "label": "mean slope"}
            panel.plot(ends, self.slope.estimate.value * ends, **style)


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
