"""PrefOdds and UtilOdds over the multiplier (arXiv 2602.02343), beside what the sampled completions say of the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from completions_lp.records import Estimate, ReportRow
from completions_lp.show.figures.axes import draw_zero, label_axes, tick_multipliers, write_empty, write_note
from completions_lp.show.figures.doses import add_origin
from completions_lp.show.figures.marks import draw_line, draw_rivals
from completions_lp.show.figures.page import BLUE, RED, WIDE, Page, Sheet
from completions_lp.show.figures.part import Cell, Part, tidy_row
from completions_lp.show.figures.picks import LayerView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import name_layers, note_few, say_intervals

PAIRS = (("pref_odds_change", "log_odds_change_A_B"), ("util_odds_change", "log_odds_change_answered"))
"""By panel: what the read-out says, and what the completions say of the same."""


@dataclass(frozen=True, eq=False, repr=False)
class Odds(LayerView):
    """The read-out beside the sampled metric over the multipliers at one layer: for the same prompts and vector.

    Left: which answer, the change of the log odds of the target against the others. Right: whether any, the change of
    the log odds of an answer against everything else. The read-out (circles) sees the first answer position alone, the
    completions (squares) the whole window.
    """

    question = "Does steering change which answer is given, or whether any is?"
    sheet = Sheet(2, (WIDE, 2.6), columns=2)
    series: Mapping[str, Sequence[ReportRow]]
    """By quantity, rows over the multipliers, with the origin where it was not measured."""
    rivals: Mapping[str, Sequence[ReportRow]]
    """By quantity of the read-out, rows of the rivals."""

    @classmethod
    def _read(cls, part: Part, cell: Cell | None) -> "Odds":
        series = {name: add_origin(part.at_layer(name, cell)) for pair in PAIRS for name in pair}
        return cls(part, cell, series, {name: part.list_rivals(name) for name, _ in PAIRS})

    @property
    def rows(self) -> Table:
        """A row per quantity and multiplier."""
        return [tidy_row(row) for rows in (*self.series.values(), *self.rivals.values()) for row in rows]

    def _describe(self) -> str | list[str]:
        if self.cell is None or not self._drawn:
            return "PrefOdds and UtilOdds: nothing to draw."
        return [
            f"PrefOdds and UtilOdds at {name_layers(self.cell.condition)}{self.cell.why}, changes by steering in nats, "
            f"means over prompts. Left: log odds of {self.part.answer} against the other choices; right: log odds of "
            "any choice against everything else. Circles: the read-out, one forward pass at the first answer position; "
            "squares: the completions, over the window, of the two answers that are compared. "
            f"Ribbons: {say_intervals(self._drawn)}. At multiplier 0 all are 0 by definition.",
            self.part.warn_red(row.condition for _, name in PAIRS for row in self.series[name]),
            *(
                f"{title}. {self.part.say_rivals(self.rivals[name])}" if self.rivals[name] else ""
                for title, (name, _) in zip(("Left, read-out", "Right, read-out"), PAIRS, strict=True)
            ),
        ]

    @property
    def _drawn(self) -> list[Estimate]:
        return [row.estimate for rows in self.series.values() for row in rows if row.condition.multiplier]

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        for panel, pair, title in zip(panels, PAIRS, ("PrefOdds: which answer", "UtilOdds: any answer"), strict=True):
            draw_zero(panel)
            looks = ("read-out", BLUE, "o"), ("completions", RED, "s")
            drawn: list[ReportRow] = []
            for name, (label, color, marker) in zip(pair, looks, strict=True):
                rows = self.series[name]
                if rows:
                    x, estimates = [row.condition.multiplier for row in rows], [row.estimate for row in rows]
                    hollow = [name == pair[1] and row.condition in self.part.red for row in rows]
                    draw_line(panel, x, estimates, label=label, color=color, marker=marker, hollow=hollow, ribbon=True)
                    drawn += rows
            draw_rivals(panel, self.rivals[pair[0]])
            tick_multipliers(panel, {row.condition.multiplier for row in drawn})
            label_axes(panel, x="multiplier", y="change of log odds (nats)", title=title)
            if not drawn:
                write_empty(panel, f"no {self.part.say(pair[0])}\nor {self.part.say(pair[1])}")
                continue
            write_note(panel, note_few(row.estimate for row in drawn if row.condition.multiplier))
            panel.legend()
