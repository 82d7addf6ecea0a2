"""The answer's probability against the multiplier, layer by layer (Rimsky et al. 2023, arXiv 2312.06681)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes

from completions_lp.records import BASELINE, Estimate, Positions, Report, ReportRow
from completions_lp.show.figures.axes import label_axes, tick_multipliers, write_empty, write_note
from completions_lp.show.figures.marks import MANY, draw_line, draw_ribbon, make_styles, name_lines
from completions_lp.show.figures.page import COLUMN, Page, Sheet
from completions_lp.show.figures.part import Part, stack_ends, tidy_row
from completions_lp.show.figures.picks import PartView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import note_few, say_intervals

STEERED = "p_A_steered"
_READ = ("logit_diff", "logit_diff_whole", "p_choice", "pref_odds", "util_odds", "mass", "greedy")
UNSTEERED = {STEERED: "p_A", **{f"{name}_steered": name for name in _READ}}
"""What stands at multiplier 0."""


@dataclass(frozen=True, eq=False, repr=False)
class Probabilities(PartView):
    """P(A) against the multiplier, one line per layer, all through the unsteered probability at 0.

    Unlike a probability restricted to the two letters, P(A) here falls where the model stops answering at all.
    """

    question = "How does the effect of each layer grow with the dose?"
    sheet = Sheet(1, (COLUMN, 2.6))
    quantity: str
    lines: Mapping[int, Sequence[ReportRow]]
    """By layer, rows over the multipliers, each line with the unsteered model at 0."""

    @classmethod
    def of(cls, report: Report, *, quantity: str = STEERED, positions: Positions | None = None) -> "Probabilities":
        """Pick steered probability and positions, the best cell's by default; InputError where there is no such."""
        part = Part.of(report, positions)
        quantity = part.pick_quantity(quantity)
        lines: dict[int, list[ReportRow]] = {}
        for row in part.select(quantity):
            lines.setdefault(row.condition.layer, []).append(row)
        if (before := _find_unsteered(part.report, quantity)) is not None:
            lines = {n: sorted([*rows, before], key=lambda r: r.condition.multiplier) for n, rows in lines.items()}
        return cls(part, quantity, lines)

    @property
    def rows(self) -> Table:
        """A row per layer and multiplier, and one of the unsteered model."""
        distinct = {row.condition: row for rows in self.lines.values() for row in rows}
        return [tidy_row(row, untrusted=condition in self.part.red) for condition, row in distinct.items()]

    def _describe(self) -> str | list[str]:
        if not self.lines:
            return f"Probability against multiplier: no {self.part.say(self.quantity)} to draw."
        drawn, what = self._drawn, self.part.say(self.quantity)
        parts = [f"{what} ({drawn[0].unit}) against the multiplier, a line per layer; means over prompts."]
        if len(self.lines) <= MANY:
            parts.append(f"Ribbons: {say_intervals(drawn)}.")
        else:
            parts.append(f"Too many lines for ribbons; the table beside it has them ({say_intervals(drawn)}).")
        if self.quantity == STEERED:
            parts.append(
                f"P({self.part.target}) is of the answer within the window, of all that the model may say, not of two "
                "letters."
            )
        parts.append(self.part.warn_red(row.condition for rows in self.lines.values() for row in rows))
        return parts

    @property
    def _drawn(self) -> list[Estimate]:
        return [row.estimate for rows in self.lines.values() for row in rows]

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        (panel,) = panels
        for (layer, rows), style in zip(self.lines.items(), make_styles(len(self.lines)), strict=True):
            x, estimates = [row.condition.multiplier for row in rows], [row.estimate for row in rows]
            hollow = [row.condition in self.part.red for row in rows]
            if len(self.lines) <= MANY:
                draw_ribbon(panel, x, stack_ends(estimates), color=style["color"], alpha=0.16)
            draw_line(panel, x, estimates, label=str(layer), hollow=hollow, ribbon=False, **style)
        drawn = self._drawn
        unit = drawn[0].unit if drawn else "probability"
        y = self.part.say(self.quantity) if unit == "probability" else self.part.label(self.quantity, unit)
        label_axes(panel, x="multiplier", y=y)
        tick_multipliers(panel, {row.condition.multiplier for rows in self.lines.values() for row in rows})
        if not drawn:
            write_empty(panel, f"no {self.part.say(self.quantity)}")
            return
        write_note(panel, note_few(drawn))
        name_lines(panel, list(self.lines), title="layer", ncols=2)


def _find_unsteered(report: Report, quantity: str) -> ReportRow | None:
    """The same without steering: a row of the baseline, or the quantity's unsteered twin of any condition."""
    rows = report.table(UNSTEERED.get(quantity, quantity), kind=None)
    row = next((r for r in rows if r.condition == BASELINE), next(iter(rows), None))
    return None if row is None or quantity not in UNSTEERED else replace(row, condition=BASELINE)
