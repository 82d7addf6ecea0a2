"""Chain of thought: where in the reasoning the log prob moves, and what is answered at its end, by whose reasoning."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from completions_lp.records import BASELINE, Estimate
from completions_lp.report.readings import PLACES
from completions_lp.show.figures.axes import draw_zero, label_axes, write_empty, write_note
from completions_lp.show.figures.marks import draw_bars, draw_line
from completions_lp.show.figures.page import BLUE, GREY, RED, WIDE, YELLOW, Page, Sheet
from completions_lp.show.figures.part import Cell, Part, stack_ends, tidy_cell, tidy_estimate
from completions_lp.show.figures.picks import CellView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import name_cell, note_few, say_intervals

CELLS = {
    "read_A": "neither",
    "read_A_answer_only": "answer",
    "read_A_reasoning_only": "reasoning",
    "read_A_steered": "both",
}
"""What is steered."""
COLORS = (GREY, BLUE, YELLOW, RED)
RED_SHARE = 0.1
"""More prompts than this whose steered reasonings are not to be trusted, and what is made of these is drawn hollow."""


@dataclass(frozen=True, eq=False, repr=False)
class Reasoning(CellView):
    """Where in the reasoning the log prob moves, and what is answered at its end.

    Left: the log-prob increase in each tenth of the reasoning, over the completions that gave the answer; the tenths
    sum to the increase of the whole reasoning. Right: the probability of the answer at the end of the reasoning, with
    neither, the answer alone, the reasoning alone, or both steered.
    """

    question = "Does steering act on the reasoning, or on the answer?"
    sheet = Sheet(2, (WIDE, 2.4), 2, {"width_ratios": [1.5, 1]})
    tenths: Mapping[str, Estimate]
    ends: Mapping[str, Estimate]
    trusted: bool
    """Whether the weights tell enough of the steered model's reasonings."""

    @classmethod
    def _read(cls, part: Part, cell: Cell | None) -> "Reasoning":
        found = {name: part.by_condition(name) for name in (*PLACES, *CELLS, "read_red")}

        def pick(names: tuple[str, ...]) -> dict[str, Estimate]:
            places = {name: BASELINE if name == "read_A" or cell is None else cell.condition for name in names}
            rows = {name: found[name].get(place) for name, place in places.items()}
            return {name: row.estimate for name, row in rows.items() if cell is not None and row is not None}

        red = pick(("read_red",))
        return cls(part, cell, pick(PLACES), pick(tuple(CELLS)), not any(e.value > RED_SHARE for e in red.values()))

    @property
    def rows(self) -> Table:
        """A row per tenth, then one per cell of the right panel."""
        if self.cell is None:
            return []
        place = tidy_cell(self.cell)
        return [{**place, "quantity": name, **tidy_estimate(e)} for name, e in {**self.tenths, **self.ends}.items()]

    def _describe(self) -> str | list[str]:
        if self.cell is None or not self.ends:
            return "Reasoning: nothing to draw, since no answers were read at its end ([scoring] readings)."
        target = self.part.target
        return [
            f"Chain of thought at {name_cell(self.cell.condition)}{self.cell.why}.",
            f"Left: log-prob increase in each tenth of the reasoning of the {target} completions, in nats; "
            f"{say_intervals(self.tenths.values())}.",
            f"Right: probability of {self.part.answer} right behind the reasoning, means over reasonings, then over "
            "prompts: reasonings of the unsteered or, by weights, of the steered model, read by either; "
            f"{say_intervals(self.ends.values())}.",
            "" if self.trusted else "Hollow: on more than 10 % of the prompts the weights tell too little.",
        ]

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        left, right = panels
        draw_zero(left)
        if self.tenths:
            draw_line(left, range(1, len(self.tenths) + 1), [*self.tenths.values()], color=BLUE, label="increase")
            write_note(left, note_few(self.tenths.values()))
        else:
            write_empty(left, "no reasoning was read")
        left.margins(y=0.16)  # room for a note
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        label_axes(left, x="tenth of the reasoning", y="increase (nats)", title=self.part.title(self.cell))
        for x, (name, estimate) in enumerate(self.ends.items()):
            color = COLORS[list(CELLS).index(name)]
            hollow = not self.trusted and name in ("read_A_reasoning_only", "read_A_steered")
            right.plot(
                [x], [estimate.value], "o", color=color, markerfacecolor="white" if hollow else color, label=name
            )
            draw_bars(right, [x], [estimate.value], stack_ends([estimate]), linewidth=1.2, color=color)
        if not self.ends:
            write_empty(right, "no answers were read")
        right.set_xticks(range(len(self.ends)), [CELLS[name] for name in self.ends])
        right.margins(x=0.15)
        label_axes(right, x="steered", y=f"P({self.part.target} | reasoning)", title="at the end of the reasoning")
