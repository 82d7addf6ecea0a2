"""Blocks of text with numbers: written by the scripts beside this one, shown by the documentation.

A script computes, words its findings with the numbers in them, and writes each piece to
`analysis/results/PAGE/BLOCK.md`. A page of the documentation shows it between two marks,
`<!-- results: PAGE/BLOCK -->` and `<!-- end -->`; `docs/results.py` puts it there, and a test fails where page and
result differ. So no number is typed by hand.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "analysis/results"
FIGURES = ROOT / "analysis/figures"


def write_block(page: str, block: str, text: str) -> None:
    """Keep a block of Markdown for a page, and print it."""
    path = RESULTS / page / f"{block}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.strip() + "\n", encoding="utf-8")
    print(text.strip(), end="\n\n")


def make_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table: numbers, and what is written as numbers, to the right, the first column to the left."""
    lines = [[str(cell) for cell in row] for row in rows]
    marks = ["---"] + ["---:"] * (len(columns) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in ([*columns], marks, *lines))


def show(value: float, digits: int = 2, *, signed: bool = True) -> str:
    """A number as a reader wants it: a sign, a true minus, a dash for what is not defined."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text.replace("-", "−")


def show_interval(estimate: float, low: float, high: float, digits: int = 2) -> str:
    """An estimate with its interval: +1.2 [+0.3, +2.1]."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return show(estimate, digits)
    return f"{show(estimate, digits)} [{show(low, digits)}, {show(high, digits)}]"
