"""Tables -> text: for a terminal, as wide as it is, and for Markdown. Text of files and models is escaped here."""

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import StringIO

from rich.box import MARKDOWN
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from completions_lp.show.escape import escape_markdown, escape_text, printable

WIDTH = 120
"""Where no terminal says how wide it is, and ``COLUMNS`` is not set."""
GAP = 2
_TIED = "\N{NO-BREAK SPACE}"
"""Stands inside an interval while cells are folded: its two limits stay on one line."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    head: str
    cells: tuple[str, ...]
    foreign: bool = False
    """Whether its cells are text of a file."""


def find_width() -> int:
    """Columns of the terminal; 120, or ``COLUMNS``, where the output goes elsewhere."""
    return shutil.get_terminal_size((WIDTH, 24)).columns


def wrap_text(text: str, *, width: int | None = None, first: str = "", rest: str = "") -> str:
    """Paragraphs, a line each, with lines broken between words and made safe for a terminal.

    The first line of each paragraph begins with ``first``, its further lines with ``rest``.
    """
    width = max(width or find_width(), len(rest) + 1)
    wrap = textwrap.TextWrapper(width, first, rest, break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrap.fill(line) for line in escape_text(text).splitlines())


def draw_table(columns: Sequence[Column], *, width: int | None = None, gaps: Iterable[int] = ()) -> str:
    """A table for a terminal, numbers to the right.

    Where it is too wide, cells are folded at words, those of the last columns first; where that does not do, the last
    columns are left out, and a line says which. An empty line follows those of ``gaps``, counted from 0.
    """
    width = width or find_width()
    shown = [replace(c, cells=tuple(map(printable, c.cells))) if c.foreign else c for c in columns]
    while (widths := _fit(shown, width)) is None and len(shown) > 1:
        shown.pop()
    table, folded = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style=""), []
    for column, wide in zip(shown, widths or [width], strict=True):
        head, *cells = _fold((column.head, *column.cells), wide)
        table.add_column(Text(head), justify="right", width=wide)
        folded.append(cells)
    for i, line in enumerate(zip(*folded, strict=True)):
        table.add_row(*map(Text, line))
        if i in gaps:
            table.add_row()
    text = _print(table, width)
    left_out = ", ".join(c.head for c in columns[len(shown) :])
    return text if not left_out else f"{text}\n{wrap_text(f'(too narrow for: {left_out})', width=width)}"


def draw_markdown(columns: Sequence[Column]) -> str:
    """The same as a table of Markdown, numbers to the right, that is easy to read as it is."""
    table = Table(box=MARKDOWN)
    for column in columns:
        table.add_column(Text(column.head), justify="right", no_wrap=True)
    cells = [map(escape_markdown, c.cells) if c.foreign else c.cells for c in columns]
    for line in zip(*cells, strict=True):
        table.add_row(*map(Text, line))
    wide = sum(max(map(cell_len, (c.head, *(escape_markdown(x) for x in c.cells)))) + 3 for c in columns) + 1
    head, rule, *lines = _print(table, wide).strip().splitlines()
    return "\n".join([head, rule.replace("-|", ":|"), *lines])


def _print(table: Table, width: int) -> str:
    """Without colours, and without a terminal or a notebook."""
    out = StringIO()
    Console(file=out, width=width, color_system=None, force_jupyter=False, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().split("\n"))


def _fit(columns: Sequence[Column], width: int) -> list[int] | None:
    """The width of each column, folded as far as needed; None where the table is too wide all the same."""
    texts = [(c.head, *c.cells) for c in columns]
    widths = [max(map(cell_len, text)) for text in texts]
    over = sum(widths) + GAP * (len(columns) - 1) - width
    for i in reversed(range(len(columns))):
        least = max((cell_len(word) for text in texts[i] for word in _tie(text).split(" ")), default=0)
        spared = min(max(over, 0), widths[i] - least)
        widths[i], over = widths[i] - spared, over - spared
    return widths if over <= 0 else None


def _fold(cells: Sequence[str], width: int) -> Sequence[str]:
    """Cells broken between words where one is wider; intervals then stand below their numbers in all of them."""
    if max(map(cell_len, cells)) <= width:
        return cells
    wrap = textwrap.TextWrapper(width, break_on_hyphens=False)
    parts = [_tie(cell).replace(" [", "\n[").splitlines() for cell in cells]
    return ["\n".join(wrap.fill(part) for part in lines).replace(_TIED, " ") for lines in parts]


def _tie(cell: str) -> str:
    return cell.replace(", ", f",{_TIED}")
