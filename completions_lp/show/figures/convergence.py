"""How many contrast pairs a vector needs: one estimate from many against several from few."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from completions_lp.quantities import PRIMARY, find_quantity
from completions_lp.records import Estimate, InputError, Report
from completions_lp.show.figures.axes import draw_zero, label_axes, print_plainly, write_empty, write_note
from completions_lp.show.figures.marks import draw_bars
from completions_lp.show.figures.page import BLUE, RED, WIDE, Page, Sheet
from completions_lp.show.figures.part import stack_ends, tidy_estimate
from completions_lp.show.figures.view import Table, View
from completions_lp.show.figures.words import describe, note_few, say_intervals, say_target, sign


@dataclass(frozen=True)
class Batch:
    """A vector made from some of the contrast pairs, and what it does."""

    n_pairs: int
    number: int
    """0-based; batches of the same size share no pair."""
    split_half_cosine: float
    """Mean cosine between the means of two halves of its pairs; NaN for a single pair."""
    cosine_to_rest: float
    """Cosine with the mean of the pairs that are not in it; NaN where none are left."""
    effect: Estimate


@dataclass(frozen=True, repr=False)
class Convergence(View):
    """Vectors from batches, at one layer and multiplier. Left: how well the pairs fix them; right: their effects."""

    question = "How many contrast pairs does the vector need?"
    sheet = Sheet(2, (WIDE, 2.5), 2)
    vector: str
    layer: int
    multiplier: float
    quantity: str
    """What the effect is."""
    target: str
    batches: tuple[Batch, ...]

    @classmethod
    def of(cls, report: Report, batches: Sequence[Batch], *, quantity: str = PRIMARY) -> "Convergence":
        """Vectors from parts of the pairs of the report's run; ``batches`` are their effects in its best cell.

        Raises:
            InputError: There is no such quantity, or the report has no best cell.
        """
        if report.best is None:
            raise InputError("no best cell; a report needs two prompts or more and a multiplier other than 0 for one")
        c = report.best.condition
        return cls(c.vector, c.layer, c.multiplier, find_quantity(quantity).name, report.target, tuple(batches))

    @property
    def rows(self) -> Table:
        """A row per vector."""
        place = {name: getattr(self, name) for name in ("vector", "layer", "multiplier", "quantity")}
        names = ("n_pairs", "number", "split_half_cosine", "cosine_to_rest")
        return [
            {**place, **{name: getattr(batch, name) for name in names}, **tidy_estimate(batch.effect)}
            for batch in self.batches
        ]

    @property
    def caption(self) -> str:
        """What is drawn."""
        if not self.batches:
            return "Convergence: no vectors to draw."
        what = describe(self.quantity, self.target).replace("\n", " ")
        sizes = ", ".join(f"{sum(b.n_pairs == n for b in self.batches)} of {n}" for n in _list_sizes(self.batches))
        return (
            f"{self.question} Convergence of the vector with the contrast pairs in its mean, at layer {self.layer}; "
            f"batches without common pairs ({sizes} pairs). Left: circles, cosine between the means of two halves of a "
            f"batch (split-half); crosses, with the mean of all other pairs. Right: {what} "
            f"({self.batches[0].effect.unit}) of each batch's vector at multiplier {sign(self.multiplier)}, "
            f"{say_intervals(b.effect for b in self.batches)}; bars are over prompts for a given vector, the scatter "
            f"of the points is what the choice of pairs adds. {say_target(self.target)}"
        )

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        left, right = panels
        if self.batches:
            _draw_cosines(left, self.batches)
            _draw_effects(right, self.batches)
            write_note(right, note_few(batch.effect for batch in self.batches))
        else:
            write_empty(left, "no vectors")
        x = "contrast pairs in the mean"
        label_axes(left, x=x, y="cosine", title=f"layer {self.layer}")
        unit = self.batches[0].effect.unit if self.batches else find_quantity(self.quantity).unit
        y = f"{describe(self.quantity, self.target)} ({unit})"
        label_axes(right, x=x, y=y, title=f"layer {self.layer}, multiplier {sign(self.multiplier)}")


def _list_sizes(batches: tuple[Batch, ...]) -> list[int]:
    return sorted({batch.n_pairs for batch in batches})


def _spread(batches: tuple[Batch, ...]) -> list[float]:
    """Where each batch stands on the logarithmic axis: beside its fellows of the same size."""
    places = []
    for batch in batches:
        fellows = sum(other.n_pairs == batch.n_pairs for other in batches)
        shift = 0.0 if fellows == 1 else batch.number / (fellows - 1) - 0.5
        places.append(batch.n_pairs * 2 ** (0.45 * shift))
    return places


def _draw_cosines(panel: Axes, batches: tuple[Batch, ...]) -> None:
    x = _spread(batches)
    looks = {"split_half_cosine": ("split-half", "o", BLUE), "cosine_to_rest": ("with all other pairs", "x", RED)}
    for name, (label, marker, color) in looks.items():
        y = [getattr(batch, name) for batch in batches]
        if np.isfinite(y).any():
            panel.plot(x, y, marker, color=color, markersize=3.5, markeredgewidth=0.9, label=label)
    _scale(panel, batches)
    if not panel.get_lines():
        write_empty(panel, "no cosine: single pairs")
        return
    panel.set_ylim(None, 1.02)
    panel.legend(loc="lower right", handletextpad=0.1)


def _draw_effects(panel: Axes, batches: tuple[Batch, ...]) -> None:
    x, y = _spread(batches), [batch.effect.value for batch in batches]
    draw_zero(panel)
    draw_bars(panel, x, y, stack_ends([batch.effect for batch in batches]), color="0.6", linewidth=0.8)
    panel.plot(x, y, "o", color=BLUE, markersize=3.5, label="vectors")
    _scale(panel, batches)


def _scale(panel: Axes, batches: tuple[Batch, ...]) -> None:
    sizes = _list_sizes(batches)
    panel.set_xscale("log")
    panel.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    panel.set_xticks(sizes)
    panel.minorticks_off()
    print_plainly(panel.xaxis)
