"""Does the sampled metric agree with the two-choice read-out?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from completions_lp.records import Estimate, Positions, Report, ReportRow
from completions_lp.show.figures.axes import draw_zero, label_axes, write_empty, write_note
from completions_lp.show.figures.marks import draw_bars, draw_cells, name_cells
from completions_lp.show.figures.page import GREY, Page
from completions_lp.show.figures.part import Part, stack_ends
from completions_lp.show.figures.picks import PlaceView
from completions_lp.show.figures.prompts import draw_points
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import count, note_few, say_crosses, sign

CHOICE = "logit_diff_change"
SAMPLED = "log_odds_change_A_B"
AGREEMENT = "agreement_logit_diff"
"""Correlation over prompts of the sampled metric with the read-out, per cell; drawn where the report has it."""
Pair = tuple[ReportRow, ReportRow]


@dataclass(frozen=True, eq=False, repr=False)
class Agreement(PlaceView):
    """The sampled metric against the change of the two-choice logit diff: all cells, or the prompts of one.

    Both are in nats and equal where every completion answers at once with one of the two letters (numbers.md I5); off
    the diagonal is what the first answer position does not show.
    """

    question = "Does sampling agree with the two-choice read-out?"
    quantity: str
    """The sampled metric; of all cells where ``cell`` is None, else of its prompts."""
    pairs: tuple[Pair, ...]
    """Read-out and sampled metric of each cell."""
    columns: dict[str, np.ndarray]
    """Of the prompts that have both, for one cell."""
    correlation: Estimate | None
    """Over the prompts of one cell."""

    @classmethod
    def of(
        cls,
        report: Report,
        *,
        quantity: str = SAMPLED,
        layer: int | None = None,
        multiplier: float | None = None,
        positions: Positions | None = None,
    ) -> "Agreement":
        """Pick all cells, or with a layer or multiplier the prompts of one; InputError where there is no such thing.

        By default ``quantity`` is the change of the log odds of A against B; ``positions`` are the best cell's.
        """
        part = Part.of(report, positions)
        quantity = part.pick_quantity(quantity)
        if layer is None and multiplier is None:
            choices = part.by_condition(CHOICE, kind="target")
            rows = [row for row in part.select(quantity) if row.condition in choices]
            return cls(part, None, quantity, tuple((choices[row.condition], row) for row in rows), {}, None)
        cell = part.pick_cell(layer=layer, multiplier=multiplier)
        row = part.by_condition(AGREEMENT).get(cell.condition) if cell else None
        correlation = row.estimate if row is not None and np.isfinite(row.estimate.value) else None
        return cls(part, cell, quantity, (), part.prompts(cell, known=(CHOICE, quantity)), correlation)

    @property
    def rows(self) -> Table:
        """A row per cell, or per prompt of one."""
        if self.cell is not None:
            names = {"layer": self.cell.condition.layer, "multiplier": self.cell.condition.multiplier, "unit": "nats"}
            found = zip(self.columns.get("prompt_id", ()), *self._xy, strict=True)
            return [{**names, "prompt_id": i, CHOICE: float(a), self.quantity: float(b)} for i, a, b in found]
        table: Table = []
        for choice, sampled in self.pairs:
            c = sampled.condition
            columns = {"vector": c.vector, "layer": c.layer, "multiplier": c.multiplier, "unit": sampled.estimate.unit}
            for name, e in ((CHOICE, choice.estimate), (self.quantity, sampled.estimate)):
                columns |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high}
            table.append({**columns, "n_prompts": sampled.estimate.n})
        return table

    def _describe(self) -> str | list[str]:
        if not self.pairs and not self.columns:
            return f"Agreement: no {self.part.say(self.quantity)} and {self.part.say(CHOICE)} to draw."
        parts = [
            f"Agreement: {self.part.say(self.quantity)}, against the {self.part.say(CHOICE)}, both in nats; dashed: "
            "equality."
        ]
        if self.cell is not None:
            parts.append(f"A point for each of {count(len(self._xy[0]), 'prompt')}; markers by trust.")
            parts.append(f"{self._say_correlation()}." if self.correlation else "")
            return parts
        parts.append(
            f"A triangle for each of {count(len(self.pairs), 'cell')} of layer (lightness) and multiplier (direction "
            "and size)."
        )
        parts.append(say_crosses(*([pair[i].estimate for pair in self.pairs] for i in (0, 1))))
        parts.append(self.part.warn_red(sampled.condition for _, sampled in self.pairs))
        return parts

    @property
    def _xy(self) -> tuple[Float[np.ndarray, " prompt"], Float[np.ndarray, " prompt"]]:
        nothing = np.empty(0)
        return self.columns.get(CHOICE, nothing), self.columns.get(self.quantity, nothing)

    def _say_correlation(self) -> str:
        e = self.correlation
        if e is None:
            return ""
        inside = "" if e.low is None or e.high is None else f" [{sign(e.low, digits=2)}, {sign(e.high, digits=2)}]"
        return f"correlation {sign(e.value, digits=2)}{inside}"

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        (panel,) = panels
        draw_zero(panel)
        draw_zero(panel, vertical=True)
        x, y = self.part.label(CHOICE, "nats"), self.part.label(self.quantity, "nats")
        label_axes(panel, x=x, y=y, title=self.part.title(self.cell))
        if self.pairs:
            self._draw_cells(panel)
        elif self.columns:
            self._draw_prompts(panel)
        else:
            write_empty(panel, f"no {self.part.say(self.quantity)}\nand {self.part.say(CHOICE)}")
            return
        panel.axline((0, 0), slope=1, color="0.4", linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)

    def _draw_cells(self, panel: Axes) -> None:
        ends = [stack_ends([pair[i].estimate for pair in self.pairs]) for i in (0, 1)]
        x, y = ([pair[i].estimate.value for pair in self.pairs] for i in (0, 1))
        draw_bars(panel, x, y, ends[1], color="0.6")
        draw_bars(panel, x, y, ends[0], vertical=False, color="0.6")
        cells = [sampled.condition for _, sampled in self.pairs]
        draw_cells(panel, dict(zip(cells, zip(x, y, strict=True), strict=True)), self.part.red)
        name_cells(panel, cells)
        write_note(panel, note_few(row.estimate for pair in self.pairs for row in pair))

    def _draw_prompts(self, panel: Axes) -> None:
        if "trust" in self.columns:
            draw_points(panel, *self._xy, self.columns)
            panel.legend(loc="lower right", handletextpad=0.1)
        else:
            panel.plot(*self._xy, "o", color=GREY, markersize=3, label="prompts")
        write_note(panel, self._say_correlation())
