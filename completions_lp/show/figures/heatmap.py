"""The sweep as a map: layer by multiplier."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from completions_lp.records import Positions, Report, ReportRow
from completions_lp.show.figures.axes import label_axes, write_empty
from completions_lp.show.figures.layers import LAYER
from completions_lp.show.figures.page import COLUMN, WIDE, Page, Sheet
from completions_lp.show.figures.part import Part, tidy_row
from completions_lp.show.figures.picks import PartView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import count, name_cell, sign, write_estimate

# Dark on the side below zero and of middling grey above it, so that the signs differ in print without colour, too.
COLORS = LinearSegmentedColormap.from_list(
    "effect", [(0, "#1B0F4F"), (0.25, "#5566B8"), (0.5, "#FFFFFF"), (0.75, "#F6CB8C"), (1, "#DD8418")]
)
SIGNIFICANT = 0.05
STEPS = (1, 2, 5, 10, 20, 50, 100, 1000)
"""Every so many layers are named."""
WIDEST = 9
"""Cells side by side in which a number can be read."""


@dataclass(frozen=True, eq=False, repr=False)
class Heatmap(PartView):
    """The whole sweep: colour is the effect, centred on 0; dots are significant, barred cells are not to be trusted."""

    question = "Which layer and which dose steer most?"
    quantity: str
    cells: tuple[ReportRow, ...]
    """By layer and multiplier."""
    chosen: ReportRow | None
    """The cell chosen on one half of the prompts, as estimated on the other half."""

    @classmethod
    def of(cls, report: Report, *, quantity: str | None = None, positions: Positions | None = None) -> "Heatmap":
        """Pick what is shown; InputError where there is no such quantity, or no such positions.

        Quantity and positions are those of ``LayerSweep``; only swept quantities have p-values and a chosen cell.
        """
        part = Part.of(report, positions)
        quantity = part.pick_quantity(quantity)
        chosen = (row for row in part.report.rows if row.quantity == quantity and row.split == "report")
        return cls(part, quantity, tuple(part.select(quantity)), next(chosen, None))

    @property
    def layers(self) -> list[int]:
        """Those of the sweep, in order."""
        return sorted({row.condition.layer for row in self.cells})

    @property
    def multipliers(self) -> list[float]:
        """Those of the sweep, in order; with doses in another unit, the doses."""
        return sorted({row.condition.asked for row in self.cells})

    @property
    def rows(self) -> Table:
        """A row per layer and multiplier."""
        red, is_chosen = self.part.red, self._is_chosen
        return [
            tidy_row(row, p_max_t=row.inference.p_max_t, untrusted=row.condition in red, chosen=is_chosen(row))
            for row in self.cells
        ]

    def _describe(self) -> str | list[str]:
        rows, what = self.cells, self.part.say(self.quantity)
        if not rows:
            return f"Layers by multipliers: no {self.part.say(self.quantity)} to draw."
        n = max(row.estimate.n for row in rows)
        parts = [f"The sweep: {what} ({rows[0].estimate.unit}), mean over {count(n, 'prompt')}; white is 0."]
        if any(np.isfinite(row.inference.p_max_t) for row in rows):
            parts.append(f"Dots: p < {SIGNIFICANT:g}, adjusted for all {len(rows)} cells by max-T.")
        parts.append(self.part.warn_red((row.condition for row in rows), "Barred below"))
        missing = sum(not np.isfinite(row.estimate.value) for row in rows)
        if missing:
            parts.append(f"Grey: no value ({count(missing, 'cell')}).")
        if self.chosen is not None and self.chosen.estimate.n:
            c, e = self.chosen.condition, self.chosen.estimate
            method = f", {e.level:.0%} {e.method} interval".replace("%", " %") if e.low is not None else ""
            parts.append(
                f"Outlined: the cell chosen on half of the prompts ({name_cell(c)}); "
                f"on the {e.n} others it is {write_estimate(e, digits=1 if e.unit == 'pp' else 2)}{method}."
            )
        return parts

    def _is_chosen(self, row: ReportRow) -> bool:
        return self.chosen is not None and self.chosen.condition == row.condition

    def _plan(self, *, new: bool) -> Sheet:
        width = COLUMN if len(self.layers) <= WIDEST else WIDE
        return Sheet(1, (width, 1.0 + 0.24 * max(5, len(self.multipliers))))

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        (panel,) = panels
        layers, multipliers = self.layers, self.multipliers
        label_axes(panel, x=LAYER, y=self.part.scale)
        if not self.cells:
            write_empty(panel, f"no {self.part.say(self.quantity)}")
            return
        limit = self._draw_map(panel)
        for row in self.cells:
            self._mark(panel, row, limit)
        shown = range(0, len(layers), next(step for step in STEPS if len(layers) <= 20 * step))
        panel.set_xticks(shown, [str(layers[i]) for i in shown])
        panel.set_yticks(range(len(multipliers)), [sign(m) for m in multipliers])
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)

    def _find_place(self, row: ReportRow) -> tuple[int, int]:
        return self.layers.index(row.condition.layer), self.multipliers.index(row.condition.asked)

    def _draw_map(self, panel: Axes) -> float:
        """The colours and their bar; returns the value of the strongest one."""
        grid = np.full((len(self.multipliers), len(self.layers)), np.nan)
        for row in self.cells:
            x, y = self._find_place(row)
            grid[y, x] = row.estimate.value
        limit = float(np.nanmax(np.abs(grid), initial=0.0)) or 1.0
        panel.set_facecolor("0.8")
        edges = np.arange(len(self.layers) + 1) - 0.5, np.arange(len(self.multipliers) + 1) - 0.5
        number = len(self.layers) <= WIDEST
        mesh = panel.pcolormesh(
            *edges, grid, cmap=COLORS, vmin=-limit, vmax=limit, edgecolor="white", linewidth=0.5 * number
        )
        bar = panel.figure.colorbar(mesh, ax=panel, pad=0.02, aspect=25)
        bar.outline.set_linewidth(0.5)
        label = self.part.label(self.quantity, self.cells[0].estimate.unit)
        bar.set_label(label, parse_math=False, usetex=False)
        return limit

    def _mark(self, panel: Axes, row: ReportRow, limit: float) -> None:
        """The cell's bar, outline, number where there is room for one, and dot."""
        x, y = self._find_place(row)
        number = len(self.layers) <= WIDEST
        ink = "white" if row.estimate.value < -0.4 * limit else "black"
        if row.condition in self.part.red:
            strip = Rectangle((x - 0.42, y - 0.44), 0.84, 0.14, facecolor=ink, linewidth=0, label="_untrusted")
            panel.add_patch(strip)
        if self._is_chosen(row):
            _frame(panel, x, y, linewidth=1.6, edgecolor="black", zorder=3)
        if number and np.isfinite(row.estimate.value):
            text = sign(row.estimate.value, digits=0 if row.estimate.unit == "pp" else 1)
            panel.text(x, y + 0.08, text, ha="center", va="center", fontsize=6, color=ink)
        if row.inference.p_max_t < SIGNIFICANT:
            shift, size = (0.36, 2.2) if number else (0.0, min(2.2, 66 / len(self.layers)))
            panel.plot(x + shift, y + 0.8 * shift, marker="o", markersize=size, color=ink, label="_significant")


def _frame(panel: Axes, x: int, y: int, **style: Any) -> None:
    panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, **style))
