"""Makes text of files and models safe to show: in a terminal, Markdown, LaTeX, CSV and HTML. All of it passes here."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from completions_lp.records import is_plain, show_sign

__all__ = ["escape_cell", "escape_html", "escape_latex", "escape_markdown", "escape_rows", "escape_text"]
__all__ += ["is_plain", "printable"]

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "–": "--",
    "…": r"\ldots{}",
    "‖": r"$\Vert$",
    "Δ": r"$\Delta$",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}
_MARKDOWN = frozenset("\\`*_{}[]<>#|~!")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What makes a spreadsheet take a cell for a formula."""


def escape_text(text: str) -> str:
    """Text for a terminal: control and format characters become visible, line breaks stay."""
    return "".join(c if c == "\n" else show_sign(c) for c in text)


def printable(text: str, *, limit: int | None = None) -> str:
    """Text for a terminal on one line, cut to ``limit`` characters with an ellipsis."""
    shown = "".join(map(show_sign, text))
    return shown if limit is None or len(shown) <= limit else f"{shown[: limit - 1]}…"


def escape_markdown(text: str) -> str:
    """Text for Markdown, on one line: nothing in it is markup, HTML included."""
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in printable(text))


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it, on one line: nothing in it is a command."""
    return "".join(_LATEX.get(c, c) for c in printable(text))


def escape_html(text: str) -> str:
    """Text where HTML has text or an attribute's value: no markup, what is not seen becomes visible."""
    return html.escape(escape_text(text))


def escape_cell(text: str) -> str:
    """Text for a cell of a CSV file that no spreadsheet takes for a formula: such a cell begins with an apostrophe."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def escape_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tidy rows for a CSV file, their texts by ``escape_cell``."""
    return [{k: escape_cell(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
