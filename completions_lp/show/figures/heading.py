"""What stands above a figure on a page of its own: its question, and of what its numbers are."""

from typing import Any

from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from completions_lp.show.figures.page import Page

MARGIN = 0.04
"""Inches to the left of the heading, and between its lines."""


def write_heading(page: Page, question: str, subject: str) -> None:
    """Make a page taller by a heading: the question, bold, and in a small line what the numbers are of.

    Panels and legends keep the room that they have without it.
    """
    width, height = page.get_size_inches()
    bold: dict[str, Any] = {"fontsize": 9, "fontweight": "bold"}
    small: dict[str, Any] = {"fontsize": 6.5, "color": "0.3"}
    lines = [(question, bold), (subject, small)]
    words = [page.text(MARGIN / width, 0.5, text, ha="left", va="top", **look) for text, look in lines if text]
    for text in words:
        text.set_parse_math(False)
        _wrap(text, (width - 2 * MARGIN) * page.dpi)
    heights = [text.get_window_extent().height / page.dpi + MARGIN for text in words]
    whole = height + sum(heights) + MARGIN
    page.set_size_inches(width, whole)
    top = whole - MARGIN
    for text, own in zip(words, heights, strict=True):
        text.set_position((MARGIN / width, top / whole))
        top -= own
    above = below = 0.0
    for legend in page.legends:  # once it has an anchor of its own, the layout leaves it no room
        box, upper = legend.get_window_extent(), legend.get_window_extent().y0 > page.bbox.height / 2
        room = box.height + 2.5 * MARGIN * page.dpi
        above, below = (room, below) if upper else (above, room)
        legend.set_bbox_to_anchor((0, 0, 1, top / whole), transform=page.transFigure)
    engine, pixels = page.get_layout_engine(), whole * page.dpi
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, below / pixels, 1, top / whole - (above + below) / pixels))


def _wrap(text: Text, room: float) -> None:
    """Break a text between words, so that no line is longer than this many pixels."""
    lines: list[str] = []
    for word in text.get_text().split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        text.set_text(longer)
        if lines and text.get_window_extent().width <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    text.set_text("\n".join(lines))
