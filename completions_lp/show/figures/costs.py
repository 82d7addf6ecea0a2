"""Effect against cost: what each vector, or the vector at each layer, does at the same KL per token."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from completions_lp.records import Condition, Positions, Report, ReportRow, VectorRow
from completions_lp.report.vectors import list_compared
from completions_lp.show.escape import printable
from completions_lp.show.figures.axes import draw_zero, label_axes, name_places, scale_log, write_empty, write_note
from completions_lp.show.figures.damage import DAMAGE
from completions_lp.show.figures.marks import draw_bars, draw_line, make_styles, name_lines
from completions_lp.show.figures.page import COLUMN, WIDE, Page, Sheet
from completions_lp.show.figures.part import Part, stack_ends, tidy_estimate, tidy_row
from completions_lp.show.figures.picks import PartView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import name_cell, note_few, say_intervals

Point = tuple[ReportRow, ReportRow]
"""Damage and effect of one cell."""
NAME = 20
"""Signs of a vector's name that have room."""


@dataclass(frozen=True)
class Line:
    """The cells of one vector at one place and of one sign, by damage."""

    name: str
    positive: bool
    points: tuple[Point, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Costs(PartView):
    """Effect against KL per token: a line per vector, each where its best cell is, or a line per layer of one vector.

    What lies above one another costs the same. Solid lines are of positive doses, dashed ones of negative; grey dots
    the random directions. With several vectors a second panel has their best cells.
    """

    question = "At the same cost, which layer does most?"
    quantity: str
    lines: tuple[Line, ...]
    cloud: tuple[Point, ...]
    best: tuple[VectorRow, ...]
    """Each vector in its best cell; none with one vector."""

    @classmethod
    def of(cls, report: Report, *, quantity: str | None = None, positions: Positions | None = None) -> "Costs":
        """Pick what is shown; InputError where there is no such quantity, or no such positions.

        By default the change of P(A), where it was measured, else the average increase, at the best cell's positions.
        """
        part = Part.of(report, positions)
        quantity = part.pick_quantity(quantity)
        cost = {row.condition: row for row in report.table(DAMAGE, kind=None)}
        shown = [row for row in report.table(quantity, kind=None) if _is_shown(row, report, positions)]
        points = [(cost[row.condition], row) for row in shown if row.condition in cost]
        points = [(c, g) for c, g in points if c.estimate.value > 0 and np.isfinite(g.estimate.value)]
        best = tuple(row for row in report.vectors if row.quantity == quantity and row.against is None)
        lines = _list_lines(points, {row.condition.vector: row.condition.every_layer for row in best})
        sites = {gain.condition.every_layer for line in lines for _, gain in line.points}
        cloud = [p for p in points if p[1].condition.kind == "random" and p[1].condition.every_layer in sites]
        return cls(part, quantity, lines, tuple(cloud), best)

    @property
    def rows(self) -> Table:
        """A row per cell of the lines, then of the random directions, then per vector's best cell."""
        table: Table = []
        named = [(line.name, point) for line in self.lines for point in line.points]
        for name, (cost, gain) in [*named, *(("random directions", point) for point in self.cloud)]:
            e, c = cost.estimate, gain.condition
            damage = {DAMAGE: e.value, f"{DAMAGE}_low": e.low, f"{DAMAGE}_high": e.high}
            table.append(tidy_row(gain, layers=c.every_layer, dose=c.asked, line=name, split="all", **damage))
        for row in self.best:
            place = {name: getattr(row.condition, name) for name in ("vector", "kind", "layer", "multiplier")}
            names = {"quantity": row.quantity, "weighting": "macro"}
            more = {"layers": row.condition.every_layer, "dose": row.condition.asked, "line": "best cell"}
            table.append({**place, **names, **tidy_estimate(row.value), **more, "split": row.split})
        return table

    def _describe(self) -> str | list[str]:
        if not self.lines:
            return f"Effect against cost: no {self.part.say(self.quantity)} with {self.part.say(DAMAGE)} to draw."
        drawn = [gain.estimate for line in self.lines for _, gain in line.points]
        what = "a line per vector, at the layers of its best cell" if self.best else "a line per layer"
        parts = [
            f"Effect against cost: {self.part.say(self.quantity)} ({drawn[0].unit}) against KL(unsteered ‖ steered) "
            f"per token (nats, log scale), means over prompts; {what}: what stands above one another costs the same. "
            f"Ribbons: {say_intervals(drawn)}."
        ]
        if len({line.positive for line in self.lines}) > 1:
            parts.append("Solid: positive doses; dashed: negative ones.")
        if self.cloud:
            parts.append(f"Grey dots: {self.part.count_directions()} random directions at these layers.")
        if self.best:
            bars = say_intervals(row.value for row in self.best)
            half = ", on the half of the prompts that chose none of them" if self.best[0].split == "report" else ""
            parts.append(f"Right: each vector in its best cell{half}; bars: {bars}.")
        conditions = [gain.condition for line in self.lines for _, gain in line.points]
        return [*parts, self.part.warn_red(conditions)]

    def _ask(self) -> str:
        return "At the same cost, which vector does most?" if self.best else self.question

    def _plan(self, *, new: bool) -> Sheet:
        return Sheet(2, (WIDE, 2.8), columns=2) if self.best else Sheet(1, (COLUMN, 3.0))

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        left = panels[0]
        draw_zero(left)
        unit = self.lines[0].points[0][1].estimate.unit if self.lines else "pp"
        label_axes(left, x=self.part.label(DAMAGE, "nats/token"), y=self.part.label(self.quantity, unit))
        names = list(dict.fromkeys(line.name for line in self.lines))
        styles = dict(zip(names, make_styles(len(names)), strict=True))
        if not self.lines:
            for panel in panels:
                write_empty(panel, f"no {self.part.say(self.quantity)} and {self.part.say(DAMAGE)}")
            return
        left.plot(*_read(self.cloud), ".", color="0.72", markersize=2.5, zorder=1.1, label="_random")
        told: set[str] = set()
        for line in self.lines:
            x, estimates = [c.estimate.value for c, _ in line.points], [g.estimate for _, g in line.points]
            hollow = [gain.condition in self.part.red for _, gain in line.points]
            style = {**styles[line.name], "linestyle": "-" if line.positive else (0, (3, 1.5))}
            label = f"_{line.name}" if line.name in told else line.name
            told.add(line.name)
            draw_line(left, x, estimates, label=label, hollow=hollow, **style)
        scale_log(left, "x")
        if self.best or len(names) > 1:
            self._name(left, names)
        write_note(left, note_few(gain.estimate for line in self.lines for _, gain in line.points))
        if self.best:
            self._draw_best(panels[1], styles)

    def _name(self, panel: Axes, names: Sequence[str]) -> None:
        numbers = [name.removeprefix("layer ") for name in names]
        if not self.best and all(number.isdigit() for number in numbers):
            name_lines(panel, list(map(int, numbers)), title="layer")
        else:
            panel.legend()

    def _draw_best(self, panel: Axes, styles: dict[str, dict[str, Any]]) -> None:
        places = np.arange(len(self.best))[::-1]
        values = [row.value.value for row in self.best]
        draw_bars(panel, values, places, stack_ends([row.value for row in self.best]), vertical=False)
        for row, value, place in zip(self.best, values, places, strict=True):
            color = styles.get(_name(row.condition), {"color": "black"})["color"]
            full = "white" if row.condition in self.part.red else color
            panel.plot(value, place, "o", markersize=4, color=color, markerfacecolor=full)
        name_places(panel, places, [f"{_name(r.condition)}\n{name_cell(r.condition)}" for r in self.best])
        panel.set_ylim(-0.6, len(self.best) - 0.4)
        draw_zero(panel, vertical=True)
        label_axes(panel, x=self.part.label(self.quantity, self.best[0].value.unit), title="best cells")
        write_note(panel, note_few(row.value for row in self.best))


def _is_shown(row: ReportRow, report: Report, positions: Positions | None) -> bool:
    """Whether a cell is steered at these positions, and in the way of the best cell."""
    c, best = row.condition, None if report.best is None else report.best.condition
    if not c.steers or c.is_neutral:
        return False
    wanted = positions or (best.positions if best else c.positions)
    return c.positions == wanted and (best is None or c.operation == best.operation)


def _list_lines(points: Sequence[Point], sites: dict[str, str]) -> tuple[Line, ...]:
    """A line per vector and sign at its site, where several are compared; else per layers of the target and sign."""
    several = len(list_compared([gain.condition for _, gain in points])) > 1 and bool(sites)

    def is_kept(condition: Condition) -> bool:
        return condition.every_layer == sites.get(condition.vector) if several else condition.kind == "target"

    kept = [point for point in points if is_kept(point[1].condition)]
    order = list(sites)

    def sort(point: Point) -> tuple[Any, ...]:
        c = point[1].condition
        first = (order.index(c.vector),) if several else c.layers
        return first, c.multiplier < 0, point[0].estimate.value

    found = []
    for (_, negative), some in groupby(sorted(kept, key=sort), key=lambda point: sort(point)[:2]):
        line = tuple(some)
        c = line[0][1].condition
        found.append(Line(_name(c) if several else f"layer{'s' * bool(c.beyond)} {c.site}", not negative, line))
    return tuple(found)


def _name(condition: Condition) -> str:
    return printable(condition.vector, limit=NAME)


def _read(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [cost.estimate.value for cost, _ in points], [gain.estimate.value for _, gain in points]
