"""Marks that several figures share: lines with their intervals, ribbons, bands of controls, hollow markers."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D

from completions_lp.records import Condition, Estimate, ReportRow
from completions_lp.show.figures.page import BAND, GREY, YELLOW
from completions_lp.show.figures.part import stack_ends
from completions_lp.show.figures.words import name_rival, sign

MARKERS = "ovs^DPX*<>"
DASHES = ("-", (0, (4, 1)), (0, (1, 1)), (0, (4, 1, 1, 1)))
RIVAL_DASHES = ((0, (6, 2)), (0, (3, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (1.5, 1.5)))
MANY = 9
"""More lines than this cannot be told apart by markers: they are named by a colour bar."""


def draw_line(
    axes: Axes,
    x: Sequence[float | int],
    estimates: Sequence[Estimate],
    *,
    color: Any,
    label: str,
    hollow: Sequence[bool] = (),
    ribbon: bool = True,
    **style: Any,
) -> Line2D:
    """Estimates joined by a line, with their intervals as a ribbon; markers are hollow where they are not trusted."""
    values = [estimate.value for estimate in estimates]
    full = [not untrusted for untrusted in hollow] or [True] * len(values)
    style = {"marker": "o", "markersize": 3.5, "linewidth": 1.2, **style}
    if ribbon:
        draw_ribbon(axes, x, stack_ends(estimates), color=color)
    (line,) = axes.plot(x, values, color=color, label=label, markevery=full, **style)
    if not all(full):
        places = [(at, value) for at, value, filled in zip(x, values, full, strict=True) if not filled]
        edge = {**style, "linestyle": "none", "markerfacecolor": "white", "markeredgewidth": 0.25 * style["markersize"]}
        edge |= {} if style["marker"] else {"marker": "o", "markersize": 2, "markeredgewidth": 0.5}
        axes.plot(*zip(*places, strict=True), color=color, label="_hollow", **edge)
    return line


def draw_ribbon(
    axes: Axes,
    x: Sequence[float | int],
    ends: Float[np.ndarray, "2 cell"],
    *,
    color: Any,
    alpha: float = 0.28,
    **style: Any,
) -> None:
    """An area between lower and upper ends, a bar where a point stands alone, nothing where there is no interval."""
    known = np.isfinite(ends).all(0)
    if not known.any():
        return
    at = np.asarray(x, dtype=float)
    style = {"linewidth": 0, "zorder": 1.5, **style}
    axes.fill_between(at, *np.where(known, ends, np.nan), color=color, alpha=alpha, **style)
    alone = known & ~_has_neighbour(known)
    if alone.any():
        bar = {"alpha": min(1.0, 2 * alpha), "linewidth": 2, "zorder": style["zorder"]}
        axes.vlines(at[alone], *ends[:, alone], color=color, **bar)


def _has_neighbour(known: Bool[np.ndarray, " cell"]) -> Bool[np.ndarray, " cell"]:
    padded = np.concatenate([[False], known, [False]])
    return np.asarray(padded[:-2] | padded[2:])


def draw_controls(axes: Axes, x: Sequence[float | int], rows: Sequence[ReportRow]) -> None:
    """The grey band that holds the central 95 % of the random directions, where there is one."""
    ends = np.array([(row.inference.random_low, row.inference.random_high) for row in rows]).reshape(-1, 2).T
    draw_ribbon(axes, x, ends, color=BAND, alpha=1.0, zorder=0.5, label="random directions")


def draw_rivals(axes: Axes, rows: Sequence[ReportRow]) -> None:
    """A level line for each rival, with its interval as a ribbon: it has no place on an axis of layers or doses."""
    for number, row in enumerate(rows):
        e, dashes = row.estimate, RIVAL_DASHES[number % len(RIVAL_DASHES)]
        if e.low is not None and e.high is not None:
            axes.axhspan(e.low, e.high, color=YELLOW, alpha=0.18, linewidth=0, zorder=0.6)
        style: dict[str, Any] = {"color": YELLOW, "linewidth": 1.0, "linestyle": dashes, "zorder": 1.3}
        axes.axhline(e.value, label=name_rival(row.condition), **style)


def list_rival_marks(rows: Sequence[ReportRow]) -> list[Line2D]:
    """What a legend shows of them."""
    return [
        Line2D([], [], color=YELLOW, lw=1.0, ls=RIVAL_DASHES[i % len(RIVAL_DASHES)], label=name_rival(row.condition))
        for i, row in enumerate(rows)
    ]


def draw_bars(axes: Axes, x: Any, y: Any, ends: Any, *, vertical: bool = True, **style: Any) -> None:
    """Intervals as plain bars through points; nothing where one of their ends is missing."""
    at, low, high = (np.asarray(values, dtype=float) for values in (x if vertical else y, *ends))
    known = np.isfinite(low) & np.isfinite(high) & np.isfinite(at)
    if known.any():
        style = {"linewidth": 0.7, "color": "0.5", "zorder": 1.8, **style}
        (axes.vlines if vertical else axes.hlines)(at[known], low[known], high[known], **style)


def make_styles(n: int) -> list[dict[str, Any]]:
    """``n`` lines that differ in colour (safe for the colour-blind, none of them grey), in marker and in dashes."""
    colors = mpl.colormaps["plasma"](np.linspace(0.0, 0.85, n))
    return [
        {
            "color": tuple(color),
            "marker": MARKERS[i % len(MARKERS)] if n <= MANY else "",
            "linestyle": DASHES[i % len(DASHES)],
        }
        for i, color in enumerate(colors)
    ]


def name_lines(axes: Axes, names: Sequence[float | int], *, title: str, **options: Any) -> None:
    """Say which line is which: a legend, or a colour bar where there are too many lines for one."""
    if len(names) <= MANY:
        axes.legend(title=title, **options)
        return
    colors = mpl.colors.ListedColormap([style["color"] for style in make_styles(len(names))])
    ends = (min(names), max(names))
    bar = axes.figure.colorbar(ScalarMappable(mpl.colors.Normalize(*ends), colors), ax=axes, pad=0.02, aspect=30)
    bar.set_label(title)
    bar.outline.set_linewidth(0.5)


def draw_cells(axes: Axes, places: Mapping[Condition, tuple[float, float]], red: Collection[Condition]) -> None:
    """A triangle per cell: it points the way the multiplier pushes and grows with it; its lightness is the layer.

    Those of ``red`` are hollow.
    """
    colors, strongest = _color_layers(places), _find_strongest(places)
    for c, place in places.items():
        style = {**_point(c.asked, strongest), "markeredgecolor": colors[c.layer], "markeredgewidth": 0.8}
        style["markerfacecolor"] = "white" if c in red else colors[c.layer]
        axes.plot(*place, zorder=2, label=f"_layer {c.layer}, {c.asked:+g}", **style)


def name_cells(axes: Axes, cells: Collection[Condition], more: Sequence[Line2D] = ()) -> None:
    """A legend above the axes of what ``draw_cells`` draws: some of the layers where they are many, the multipliers."""
    none: dict[str, Any] = {"xdata": [], "ydata": [], "linestyle": "none"}
    colors, strongest = _color_layers(cells), _find_strongest(cells)
    shown = list(colors)[:: 1 + len(colors) // 7]
    word = "multiplier" if all(c.asked == c.multiplier for c in cells) else "dose"
    marks = [Line2D(**none, marker="o", ms=4, color=colors[n], label=f"layer {n}") for n in shown]
    distinct = sorted({c.asked for c in cells})
    for m in distinct if len(distinct) <= 4 else [distinct[0], distinct[-1]]:
        marks.append(Line2D(**none, color=GREY, label=f"{word} {sign(m)}", **_point(m, strongest)))
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.45, 1.0)}
    marks += more
    axes.legend(handles=marks, ncols=2 if len(marks) <= 4 else 3, columnspacing=0.8, handletextpad=0.2, **place)


def _color_layers(cells: Collection[Condition]) -> dict[int, Any]:
    layers = sorted({c.layer for c in cells})
    return dict(zip(layers, [style["color"] for style in make_styles(len(layers))], strict=True))


def _find_strongest(cells: Collection[Condition]) -> float:
    return max(abs(c.asked) for c in cells)


def _point(multiplier: float, strongest: float) -> dict[str, Any]:
    """A triangle that points the way the multiplier pushes and grows with it."""
    return {"marker": "^" if multiplier > 0 else "v", "markersize": 2.5 + 4 * abs(multiplier) / strongest}
