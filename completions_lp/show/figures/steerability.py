"""Propensity curves and steerability, prompt by prompt (Tan et al. 2024, arXiv 2407.12404)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from completions_lp.records import Estimate, Report, Slope
from completions_lp.show.figures.axes import (
    draw_zero,
    label_axes,
    tick_layers,
    tick_multipliers,
    write_empty,
    write_note,
)
from completions_lp.show.figures.layers import LAYER
from completions_lp.show.figures.marks import draw_bars, draw_line
from completions_lp.show.figures.page import BLUE, RED, WIDE, Page, Sheet
from completions_lp.show.figures.part import Cell, Part, stack_ends, tidy_estimate
from completions_lp.show.figures.picks import LayerView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import count, name_layers, note_few, say_intervals, write_estimate

BEFORE, PROPENSITY = "logit_diff", "logit_diff_steered"
RESPONSES = ("logit_diff_change", PROPENSITY)
"""Quantities whose slope over the multiplier is the steerability: they differ by a constant of each prompt."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Logit diffs over the multipliers, 0 among them; prompts without a read-out are left out."""

    prompt_ids: tuple[str, ...]
    multipliers: Float[np.ndarray, " multiplier"]
    values: Float[np.ndarray, "prompt multiplier"]
    """In nats."""


@dataclass(frozen=True, eq=False, repr=False)
class Steerability(LayerView):
    """Left: each prompt's logit diff against the multiplier, with their mean. Right: the mean slope by layer."""

    question = "Is every prompt steered the same way?"
    sheet = Sheet(2, (WIDE, 2.5), 2)
    curves: Curves | None
    """By prompt; None without a two-choice read-out."""
    means: Mapping[float, Estimate]
    """Mean logit diff by multiplier, the unsteered one at 0."""
    slopes: tuple[Slope, ...]
    """By layer."""

    @classmethod
    def _read(cls, part: Part, cell: Cell | None) -> "Steerability":
        means = {row.condition.multiplier: row.estimate for row in part.at_layer(PROPENSITY, cell)}
        if before := part.at_layer(BEFORE, cell):
            means[0.0] = before[0].estimate
        return cls(part, cell, _read_curves(part, cell), dict(sorted(means.items())), _list_slopes(part.report, cell))

    @property
    def rows(self) -> Table:
        """Curves by prompt, their mean, slopes by layer."""
        table: Table = []
        if (c := self.curves) is not None:
            table = [
                {"part": "prompt", "prompt_id": i, "multiplier": float(m), "value": float(v), "unit": "nats"}
                for i, curve in zip(c.prompt_ids, c.values, strict=True)
                for m, v in zip(c.multipliers, curve, strict=True)
            ]
        table += [{"part": "mean", "multiplier": m, **tidy_estimate(e)} for m, e in self.means.items()]
        for slope in self.slopes:
            numbers = {"below_zero": slope.below_zero, **tidy_estimate(slope.estimate)}
            table.append({"part": "slope", "layer": slope.layer, **numbers})
        return table

    def _describe(self) -> str | list[str]:
        cell, curves = self.cell, self.curves
        if cell is None or curves is None:
            return "Steerability: no two-choice read-out to draw."
        parts = [
            f"Propensity curves at {name_layers(cell.condition)}{cell.why}: logit diff of the two answers (nats) "
            f"against the multiplier, a thin line for each of {count(len(curves.prompt_ids), 'prompt')}; thick: their "
            f"mean, {say_intervals(self.means.values())}."
        ]
        if (here := self._here) is not None:
            known = here.below_zero >= 0
            share = f"; {100 * here.below_zero:.0f} % of the prompts are steered the wrong way" if known else ""
            parts.append(f"Mean slope here: {write_estimate(here.estimate)}{share}.")
        if self.slopes:
            parts.append(
                f"Right: mean least-squares slope per layer, {say_intervals(s.estimate for s in self.slopes)}; "
                "numbers: per cent of prompts whose true slope is below 0, the noise of single slopes shrunken away."
            )
        return parts

    @property
    def _here(self) -> Slope | None:
        """The slope at the layer of the left panel."""
        layer = self.cell.condition.layer if self.cell else None
        return next((slope for slope in self.slopes if slope.layer == layer), None)

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        left, right = panels
        self._draw_curves(left)
        title = name_layers(self.cell.condition) if self.cell else None
        label_axes(left, x="multiplier", y="logit diff of the two answers (nats)", title=title)
        _draw_slopes(right, self.slopes)
        label_axes(right, x=LAYER, y="steerability (nats/multiplier)")

    def _draw_curves(self, panel: Axes) -> None:
        draw_zero(panel)
        if (c := self.curves) is None:
            write_empty(panel, "no two-choice read-out")
            return
        lines = [np.stack([c.multipliers, curve], axis=1) for curve in c.values]
        alpha = 0.7 if len(lines) <= 100 else 0.25
        panel.add_collection(LineCollection(lines, colors="0.72", linewidths=0.5, alpha=alpha, label="prompts"))
        estimates = list(self.means.values())
        draw_line(panel, list(self.means), estimates, color=BLUE, label="mean", zorder=3)
        panel.autoscale_view()
        tick_multipliers(panel, c.multipliers.tolist())
        said = [note_few(estimates)]
        if (here := self._here) is not None:
            said.append(f"mean slope {write_estimate(here.estimate)}")
            said += [f"{100 * here.below_zero:.0f} % of slopes below 0"] if here.below_zero >= 0 else []
        write_note(panel, *said, room=0.09)
        low, high = panel.get_ylim()
        panel.set_ylim(low - 0.12 * (high - low), high)  # the legend stands below all curves
        panel.legend(loc="lower right", ncols=2, borderaxespad=0.1)


def _list_slopes(report: Report, cell: Cell | None) -> tuple[Slope, ...]:
    """Slopes of the logit diff by layer, of the vector shown."""
    for quantity in RESPONSES:
        chosen = [s for s in report.slopes if s.quantity == quantity and s.kind == "target"]
        if cell is not None and chosen:
            mine = [s for s in chosen if s.vector == cell.condition.vector]
            return tuple(sorted(mine, key=lambda slope: slope.layer))
    return ()


def _read_curves(part: Part, cell: Cell | None) -> Curves | None:
    rows = part.at_layer(PROPENSITY, cell)
    if PROPENSITY not in part.report.prompts or not rows:
        return None
    columns = [part.prompts(row.condition) for row in rows]
    multipliers = np.array([0.0, *(row.condition.multiplier for row in rows)])
    curves = np.stack([columns[0][BEFORE], *(c[PROPENSITY] for c in columns)], axis=1)
    order = np.argsort(multipliers)
    known = np.isfinite(curves).all(1)
    ids = tuple(columns[0]["prompt_id"][known].tolist())
    return Curves(ids, multipliers[order], curves[known][:, order]) if ids else None


def _draw_slopes(panel: Axes, slopes: Sequence[Slope]) -> None:
    draw_zero(panel)
    if not slopes:
        write_empty(panel, "no slopes")
        return
    x, y = [s.layer for s in slopes], [s.estimate.value for s in slopes]
    draw_bars(panel, x, y, stack_ends([s.estimate for s in slopes]), color=BLUE, linewidth=1.2)
    panel.plot(x, y, "o", color=BLUE, markersize=4, label="slope")
    panel.margins(x=0.09)  # for the numbers above the outermost layers
    tick_layers(panel, x)
    signed = [s for s in slopes if s.below_zero >= 0]
    said = "per cent: prompts steered the wrong way" if signed else None
    size = 6 if len(slopes) <= 16 else 4
    for s in signed if len(slopes) <= 40 else ():
        top = s.estimate.value if s.estimate.high is None else s.estimate.high
        style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": size, "color": RED}
        text = f"{100 * s.below_zero:.0f} %"
        panel.annotate(text, (s.layer, top), (0, 2), textcoords="offset points", **style)
    write_note(panel, note_few(s.estimate for s in slopes), said)
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.18 * (high - low))
