"""Numbers -> text: one estimate, and tables of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from completions_lp.records import Condition, Estimate, Report, ReportRow

DASH = "–"
"""An undefined value."""


@dataclass(frozen=True, eq=False)
class Lookup:
    """The rows of a report, found without a search."""

    rows: dict[tuple[Condition, str, str, str], ReportRow]

    @classmethod
    def of(cls, report: Report) -> "Lookup":
        """Index a report."""
        return cls({(row.condition, row.quantity, row.weighting, row.split): row for row in report.rows})

    def find(
        self, condition: Condition, quantity: str, *, weighting: str = "macro", split: str = "all"
    ) -> ReportRow | None:
        """The row of one quantity, if there is one."""
        return self.rows.get((condition, quantity, weighting, split))

    def value(self, condition: Condition, quantity: str) -> float:
        """The macro value; NaN where there is none."""
        row = self.find(condition, quantity)
        return float("nan") if row is None else row.estimate.value


Show = Callable[[Lookup, Condition], str]
"""What stands in a cell of a table."""


def number(quantity: str, *, weighting: str = "macro", interval: bool = True) -> Show:
    """A column of estimates."""

    def show(lookup: Lookup, condition: Condition) -> str:
        row = lookup.find(condition, quantity, weighting=weighting)
        return "" if row is None else format_estimate(row.estimate, interval=interval)

    return show


def inference(quantity: str, *fields: str, form: str) -> Show:
    """A column of fields of ``Inference``, written by a format string; empty where one is unknown."""

    def show(lookup: Lookup, condition: Condition) -> str:
        row = lookup.find(condition, quantity)
        values = [getattr(row.inference, name) for name in fields] if row is not None else [np.nan]
        return "" if np.isnan(values).any() else form.format(*values)

    return show


def p_value(quantity: str, name: str) -> Show:
    """A column of p-values, by their field of ``Inference``."""

    def show(lookup: Lookup, condition: Condition) -> str:
        row = lookup.find(condition, quantity)
        return "" if row is None else format_p(getattr(row.inference, name))

    return show


def draw_table(lookup: Lookup, conditions: Sequence[Condition], columns: dict[str, Show]) -> str:
    """One line per condition; columns without any number are left out, and so are names that never change."""
    names: dict[str, Show] = {
        "vector": lambda _, c: printable(c.vector),
        "positions": lambda _, c: c.positions,
        "layer": lambda _, c: str(c.layer),
        "mult": lambda _, c: f"{c.multiplier:+g}",
    }
    for name in ("vector", "positions"):
        if len({getattr(c, name) for c in conditions}) <= 1:
            del names[name]
    lines = [[show(lookup, c) for show in (names | columns).values()] for c in conditions]
    titles = [*names, *columns]
    kept = [i for i in range(len(titles)) if i < len(names) or any(line[i] not in ("", DASH) for line in lines)]
    return align([[line[i] for i in kept] for line in (titles, *lines)])


def format_estimate(estimate: Estimate, *, interval: bool = True) -> str:
    """``+0.53 [+0.41, +0.65]``; a missing interval is not written, an undefined value is a dash."""
    if np.isnan(estimate.value):
        return DASH
    form = {
        "probability": "{:.3f}",
        "share": "{:.0%}",
        "pp": "{:+.2f}",
        "nats/token": "{:.4f}",
        "draws": "{:.1f}",
        "tokens": "{:.1f}",
        "ratio": "{:.2f}",
    }.get(estimate.unit, "{:+.3f}")
    text = form.format(estimate.value)
    if interval and estimate.low is not None and estimate.high is not None:
        text += f" [{form.format(estimate.low)}, {form.format(estimate.high)}]"
    return text


def format_p(p: float) -> str:
    """``0.031``, ``<.001``; empty where there is none."""
    if np.isnan(p):
        return ""
    return "<.001" if p < 0.0005 else f"{p:.3f}"


def align(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def printable(text: str) -> str:
    """Text of files and models with its control characters made visible: none may reach a terminal as they are."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
