"""What stands in and around axes: labels, drawn as they stand, notes, ticks and scales."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from completions_lp.show.figures.page import STYLE, Page

SMALLEST = 4.5
"""Points of the smallest label."""


def label_axes(axes: Axes, *, x: str | None = None, y: str | None = None, title: str | None = None) -> None:
    """Set labels, drawn as they stand also on axes that were made elsewhere."""
    as_is: dict[str, Any] = {"parse_math": False, "usetex": False}
    size = STYLE["axes.labelsize"]  # that of axes made elsewhere was set when they were made
    if x is not None:
        axes.set_xlabel(x, fontsize=size, **as_is)
    if y is not None:
        axes.set_ylabel(y, fontsize=size, **as_is)
    if title is not None:
        axes.set_title(title, **as_is)
    axes.tick_params(labelsize=STYLE["xtick.labelsize"])


def label_panels(page: Page | None, panels: Sequence[Axes], *, x: str, y: str) -> None:
    """The same labels for all panels: once for a page of several, else on each."""
    shared = page is not None and len(panels) > 1
    for panel in panels:
        label_axes(panel, **({} if shared else {"x": x, "y": y}))
    if page is not None and shared:
        size = page.get_size_inches() * page.dpi
        for text, room in ((page.supxlabel(x, fontsize=8), size[0]), (page.supylabel(y, fontsize=8), size[1])):
            _fit(text, float(room))


def fit_labels(panels: Sequence[Axes]) -> None:
    """Break labels that are longer than their panel in two, and shrink what is too long even then: nothing is cut."""
    figure = panels[0].get_figure(root=True)
    for _ in range(3):  # a second line of one label leaves less room for the others
        if isinstance(figure, Page) and (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)  # only now do panels have their sizes
        changed = [_fit(panel.yaxis.label, float(panel.bbox.height)) for panel in panels]
        changed += [_fit(panel.xaxis.label, float(panel.bbox.width)) for panel in panels]
        if not any(changed):
            return


def _fit(text: Text, room: float) -> bool:
    """Make a label, along its own direction, at most this many pixels long; whether it had to be changed."""
    words = text.get_text()
    if _measure(text) <= room:
        return False
    for lines in (2, 3):
        text.set_text(_break(words, lines))
        if _measure(text) <= room:
            return True
    text.set_fontsize(max(SMALLEST, 0.97 * float(text.get_fontsize()) * room / _measure(text)))
    return True


def _break(words: str, lines: int) -> str:
    """A label in so many lines of about the same length; what stands in brackets stays together."""
    whole = re.sub(r"\([^)]*\)", lambda found: found[0].replace(" ", "\u00a0"), words.replace("\n", " "))
    widths = range(-(-len(whole) // lines), len(whole) + 1)
    tried = (textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False) for width in widths)
    return "\n".join(next(found for found in tried if len(found) <= lines)).replace("\u00a0", " ")


def _measure(text: Text) -> float:
    box = text.get_window_extent()
    return float(box.height if text.get_rotation() == 90 else box.width) if text.get_text() else 0.0


def write_note(axes: Axes, *texts: str | None, low: bool = False, room: float = 0.0) -> None:
    """Remarks, a line each, in the upper left of the axes, or (``low``) in their lower right; none without a text.

    They never change the layout, but may get ``room`` above what is drawn: per line, as a share of the axes' height.
    """
    lines = [text for text in texts if text]
    if not lines:
        return
    bottom, top = axes.get_ylim()
    if room:
        axes.set_ylim(bottom, top + room * len(lines) * (top - bottom))
    place: dict[str, Any] = {"x": 0.02, "y": 0.98, "ha": "left", "va": "top"}
    if low:
        place = {"x": 0.98, "y": 0.02, "ha": "right", "va": "bottom"}
    note = axes.text(
        s="\n".join(lines), transform=axes.transAxes, fontsize=7, style="italic", color="0.3", zorder=4, **place
    )
    note.set_in_layout(False)


def name_places(axes: Axes, places: Any, names: Sequence[str]) -> None:
    """Names along the vertical axis, as they stand: a "$" in one is no formula, whatever the settings are later."""
    axes.set_yticks(places, names)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)


def write_empty(axes: Axes, text: str) -> None:
    """What is missing, in the middle of axes that stay empty."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "color": "0.3"}
    under = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 2}
    note = axes.text(0.5, 0.5, text, transform=axes.transAxes, bbox=under, **style)
    note.set_in_layout(False)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_zero(axes: Axes, *, vertical: bool = False) -> None:
    """The line of no effect."""
    (axes.axvline if vertical else axes.axhline)(0, color="0.3", linewidth=0.6, zorder=1)


def tick_layers(axes: Axes, layers: Sequence[int]) -> None:
    """Ticks at whole layers, each where they are few."""
    distinct = sorted(set(layers))
    if len(distinct) == 1:
        axes.set_xlim(distinct[0] - 1, distinct[0] + 1)
    if 0 < len(distinct) <= 12:
        axes.set_xticks(distinct)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def tick_multipliers(axes: Axes, multipliers: Iterable[float]) -> None:
    """Ticks at the multipliers and nowhere else, each with its sign; where they are close, not each has its number."""
    distinct = sorted(set(multipliers))
    if not distinct:
        return
    room = (distinct[-1] - distinct[0]) / (8 if all(m == float(f"{m:.2g}") for m in distinct) else 5)
    named: list[float] = []
    for m in sorted(distinct, key=lambda m: (m not in (distinct[0], distinct[-1]), m != 0, abs(m))):
        if all(abs(m - other) >= room for other in named):
            named.append(m)
    axes.set_xticks(distinct, [(f"{m:+.3g}".replace("-", "−") if m else "0") * (m in named) for m in distinct])


def scale_log(axes: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis with plain numbers: more of them within a decade, the fewer decades there are."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis, (low, high) = (axes.xaxis, axes.get_xlim()) if which == "x" else (axes.yaxis, axes.get_ylim())
    steps = (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0) if high < 10 * low else (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps))
    print_plainly(axis)


def print_plainly(axis: Any) -> None:
    """Tick labels as plain numbers, with a true minus, on an axis whose own formatter would write formulas."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
