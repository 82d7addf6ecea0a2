"""Completions with the answer against those without it: whole distributions of the increase."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes

from completions_lp.records import Condition, Increases
from completions_lp.show.figures.axes import draw_zero, label_axes, label_panels, write_empty
from completions_lp.show.figures.page import BLUE, COLUMN, RED, WIDE, Page, Sheet, count_columns
from completions_lp.show.figures.part import Cell, Part
from completions_lp.show.figures.picks import LayerView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import count, name_layers, sign

STEPS = 250
"""Steps that a drawn distribution has at most; finer ones are too many for a page."""
X, Y = "log-prob increase, to the answer (nats)", "share of completions"
Curve = tuple[Float[np.ndarray, " step"], Float[np.ndarray, " step"]]
Curves = dict[bool, Curve]
"""Cumulative, of the completions with (True) and without the answer."""


@dataclass(frozen=True, eq=False)
class Dose:
    """The distributions under one condition, and those under the random directions in the same cell."""

    condition: Condition
    curves: Curves
    controls: tuple[Curves, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Distributions(LayerView):
    """Distribution of the increase to the answer at one layer: completions with the answer against the others.

    Cumulative, every prompt with the same total weight; a panel per multiplier; random directions thin and grey.
    """

    question = "Which texts gain: those with the answer, or all?"
    doses: tuple[Dose, ...]
    """By multiplier."""

    @classmethod
    def _read(cls, part: Part, cell: Cell | None) -> "Distributions":
        return cls(part, cell, _list_doses(part.report.increases, cell, part.report.target))

    @property
    def rows(self) -> Table:
        """The curves, step by step; without those of the random directions."""
        table: Table = []
        target = self.part.report.target
        for dose in self.doses:
            place = {name: getattr(dose.condition, name) for name in ("vector", "layer", "multiplier")}
            for gave, curve in dose.curves.items():
                answer = target if gave else f"not {target}"
                table += [
                    {**place, "answer": answer, "increase": float(x), "share": float(y), "unit": "nats"}
                    for x, y in zip(*curve, strict=True)
                ]
        return table

    def _describe(self) -> str | list[str]:
        increases = self.part.report.increases
        if self.cell is None or increases is None or not self.doses:
            return "Distributions of the increase: no completions to draw."
        completions = increases.completions
        offered = int(completions.offered(self.part.report.target).sum())
        parts = [
            f"Distribution of the log-prob increase to the answer (nats) at {name_layers(self.cell.condition)}, "
            f"cumulative: completions that gave {self.part.answer} (solid) against the others (dashed), "
            f"{int(completions.counts.sum())} draws of {count(offered, 'prompt')}, each prompt with the same weight. "
            "Distributions, so without intervals."
        ]
        if n := self.part.count_directions():
            parts.append(f"Thin grey: the same under each of {n} random directions.")
        return [*parts, self._say_cut()]

    def _say_cut(self) -> str:
        """How much of the curves lies outside the axes; empty where nothing does."""
        shares = {
            "curve": [_find_outside(dose.curves, dose) for dose in self.doses],
            "grey one": [_find_outside(curves, dose) for dose in self.doses for curves in dose.controls],
        }
        most = {name: max(found, default=0.0) for name, found in shares.items()}
        said = [f"{100 * share:.2g} % of a {name}" for name, share in most.items() if share > 0]
        return f"Far tails are cut: at most {' and '.join(said)} lie outside the axes." if said else ""

    def _plan(self, *, new: bool) -> Sheet:
        n = max(1, len(self.doses))
        columns = count_columns(n)
        size = (COLUMN, 2.4) if n == 1 else (WIDE, 0.95 + 1.45 * -(-n // columns))
        return Sheet(n, size, columns, {"sharey": True})

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        for panel, dose in zip(panels, self.doses, strict=False):
            _draw_panel(panel, dose, self.part.target)
            label_axes(panel, title=f"multiplier {sign(dose.condition.multiplier)}")
        if not self.doses:
            write_empty(panels[0], "no completions with increases")
        elif page is None:
            panels[0].legend()
        else:
            page.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        label_panels(page, panels, x=X, y=Y)


def _list_doses(increases: Increases | None, cell: Cell | None, target: str) -> tuple[Dose, ...]:
    """The multipliers of the cell's layer that there are completions for."""
    if cell is None or increases is None or not len(increases.completions):
        return ()
    at, found = cell.condition, []
    hit = increases.completions.hits(target)
    offered = increases.completions.offered(target)[increases.completions.prompt_index]

    def trace(condition: Condition) -> Curves:
        values = increases.increase_to_answer[increases.conditions.index(condition)]
        return {gave: _accumulate(increases, values, offered & (hit == gave)) for gave in (True, False)}

    for c in sorted(increases.conditions, key=lambda c: c.multiplier):
        if (c.vector, c.layers, c.positions) == (at.vector, at.layers, at.positions) and not c.is_neutral:
            controls = [d for d in increases.conditions if d.kind == "random" and _place(d) == _place(c)]
            found.append(Dose(c, trace(c), tuple(trace(d) for d in controls)))
    return tuple(found)


def _place(condition: Condition) -> tuple[object, ...]:
    return condition.layers, condition.operation, condition.asked, condition.positions


def _accumulate(
    increases: Increases, values: Float[np.ndarray, " completion"], chosen: Bool[np.ndarray, " completion"]
) -> Curve:
    """Values in order with the share of draws up to each, prompts weighing the same; at most ``STEPS`` of them."""
    keep = np.flatnonzero(chosen & np.isfinite(values))
    index, counts = increases.completions.prompt_index[keep], increases.completions.counts[keep]
    if not len(keep):
        return np.empty(0), np.empty(0)
    total = np.bincount(index, weights=counts)
    weights = counts / total[index] / (total > 0).sum()
    order = np.argsort(values[keep], kind="stable")
    x, y = values[keep][order], np.cumsum(weights[order])
    if len(x) > STEPS:
        at = np.unique(np.searchsorted(y, np.linspace(0, 1, STEPS)).clip(max=len(x) - 1))
        x, y = x[at], y[at]
    return x, y


def _draw_panel(panel: Axes, dose: Dose, target: str) -> None:
    draw_zero(panel, vertical=True)
    looks: dict[bool, dict[str, Any]] = {
        True: {"color": BLUE, "linestyle": "-"},
        False: {"color": RED, "linestyle": (0, (3.5, 1.2))},
    }
    for i, control in enumerate(dose.controls):
        for gave, curve in control.items():
            label = "random directions" if gave and i == 0 else "_random"
            panel.step(*curve, where="post", color="0.75", lw=0.4, ls=looks[gave]["linestyle"], label=label)
    for gave, curve in dose.curves.items():
        label = target if gave else f"not {target}"
        panel.step(*curve, where="post", linewidth=1.3, label=label, **looks[gave])
    panel.set_ylim(-0.02, 1.02)
    panel.set_xlim(*_find_ends(dose.curves))


def _find_ends(traced: Curves) -> tuple[float, float]:
    """The ends of an axis that leaves the outermost hundredth of each curve outside, but for 5 % of room.

    Single texts far out would flatten all others.
    """
    curves = [curve for curve in traced.values() if len(curve[0])]
    low, high = (
        np.array([x[min(int(np.searchsorted(y, share)), len(x) - 1)] for x, y in curves]) for share in (0.01, 0.99)
    )
    ends = float(low.min(initial=0.0)), float(high.max(initial=0.0))
    room = 0.05 * (ends[1] - ends[0]) or 1.0
    return ends[0] - room, ends[1] + room


def _find_outside(curves: Curves, dose: Dose) -> float:
    """The largest share of one of some curves that the axis of a dose's panel leaves out."""
    low, high = _find_ends(dose.curves)
    shares = [float(np.diff(y, prepend=0.0)[(x < low) | (x > high)].sum()) for x, y in curves.values()]
    return max(shares, default=0.0)
