"""How many contrast pairs a vector needs: one estimate from many against several from few."""

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from completions_lp.records import Estimate
from completions_lp.show.figures.cells import Table, stack_ends, tidy_estimate
from completions_lp.show.figures.marks import draw_bars
from completions_lp.show.figures.page import (
    BLUE,
    RED,
    STYLE,
    WIDE,
    Panels,
    draw_zero,
    label_axes,
    open_axes,
    print_plainly,
    write_empty,
    write_note,
)
from completions_lp.show.figures.words import WORDS, make_plain, note_few, say_intervals, sign


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


@dataclass(frozen=True)
class Convergence:
    """Vectors from batches of several sizes, all added at one layer with one multiplier."""

    vector: str
    layer: int
    multiplier: float
    quantity: str
    """What the effect is."""
    target: str
    batches: tuple[Batch, ...]


def plot_convergence(convergence: Convergence, *, axes: Panels | None = None) -> Figure:
    """Left: how well a vector is known by the pairs behind it. Right: the effect of each vector, batch by batch.

    Args:
        convergence: What to draw.
        axes: Draw on these two axes instead of on a new page.
    """
    batches = convergence.batches
    with mpl.rc_context(STYLE):
        figure, (left, right) = open_axes(axes, 2, size=(WIDE, 2.5), columns=2)
        if batches:
            _draw_cosines(left, batches)
            _draw_effects(right, batches)
            few = note_few(batch.effect for batch in batches)
            if few:
                write_note(right, few)
        else:
            write_empty(left, "no vectors")
        label_axes(left, x="contrast pairs in the mean", y="cosine", title=f"layer {convergence.layer}")
        unit = batches[0].effect.unit if batches else "nats"
        words = WORDS.get(convergence.quantity, convergence.quantity)
        what = words.replace("{A}", make_plain(convergence.target, limit=16))
        title = f"layer {convergence.layer}, multiplier {sign(convergence.multiplier)}"
        label_axes(right, x="contrast pairs in the mean", y=f"{what} ({unit})", title=title)
        return figure


def tabulate_convergence(convergence: Convergence) -> Table:
    """The numbers behind ``plot_convergence``: a row per vector."""
    c = convergence
    place = {"vector": c.vector, "layer": c.layer, "multiplier": c.multiplier, "quantity": c.quantity}
    return [
        {
            **place,
            **{name: getattr(batch, name) for name in ("n_pairs", "number", "split_half_cosine", "cosine_to_rest")},
            **tidy_estimate(batch.effect),
        }
        for batch in c.batches
    ]


def caption_convergence(convergence: Convergence) -> str:
    """What ``plot_convergence`` shows."""
    c = convergence
    if not c.batches:
        return "Convergence: no vectors to draw."
    what = WORDS.get(c.quantity, c.quantity).replace("{A}", make_plain(c.target, limit=16)).replace("\n", " ")
    sizes = ", ".join(f"{sum(b.n_pairs == n for b in c.batches)} of {n}" for n in _list_sizes(c.batches))
    return (
        f"Convergence of the vector with the contrast pairs in its mean, at layer {c.layer}; batches without common "
        f"pairs ({sizes} pairs). Left: circles, cosine between the means of two halves of a batch (split-half); "
        f"crosses, with the mean of all other pairs. Right: {what} ({c.batches[0].effect.unit}) of each batch's vector "
        f"at multiplier {sign(c.multiplier)}, {say_intervals(b.effect for b in c.batches)}; bars are over prompts for "
        "a given vector, the scatter of the points is what the choice of pairs adds."
    )


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
