"""Columns of the tables of a report: a number, further inference on it, a count; their words are of ``quantities``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from completions_lp.quantities import TRUST, find_quantity
from completions_lp.records import Condition, Report, ReportRow
from completions_lp.show.text.numbers import DASH, Lookup, format_estimate, format_limits, format_number, format_p
from completions_lp.show.text.tables import Column

MARK = ">"
"""Stands before the best cell."""


@dataclass(frozen=True)
class Show:
    """What a column shows of a condition."""

    head: str
    write: Callable[[Lookup, Condition], str]
    quantity: str = ""
    """The one that explains it, if any."""


def number(quantity: str, *, weighting: str = "macro", interval: bool = True) -> Show:
    """A column of estimates."""
    head = find_quantity(quantity).head
    head = head if weighting == "macro" else f"{head}, {weighting}"
    show = _show(head, quantity, lambda row: format_estimate(row.estimate, interval=interval), weighting)
    return replace(show, quantity=quantity)


def numbers(*quantities: str) -> list[Show]:
    """Columns of estimates with their intervals."""
    return [number(quantity) for quantity in quantities]


def values(*quantities: str) -> list[Show]:
    """Columns of estimates alone."""
    return [number(quantity, interval=False) for quantity in quantities]


def limits(head: str, quantity: str, low: str, high: str) -> Show:
    """A column of two limits, by their fields of ``Inference``."""

    def write(row: ReportRow) -> str:
        return format_limits(getattr(row.inference, low), getattr(row.inference, high), row.estimate.unit)

    return _show(head, quantity, write)


def spread(head: str, quantity: str, mean: str, sd: str) -> Show:
    """A column of a mean and a standard deviation, by their fields of ``Inference``."""

    def write(row: ReportRow) -> str:
        if np.isnan(getattr(row.inference, mean)):
            return ""
        middle, wide = (format_number(getattr(row.inference, name), row.estimate.unit) for name in (mean, sd))
        return f"{middle} ± {wide.removeprefix('+')}"

    return _show(head, quantity, write)


def p_value(head: str, quantity: str, name: str) -> Show:
    """A column of p-values, by their field of ``Inference``."""
    return _show(head, quantity, lambda row: format_p(getattr(row.inference, name)))


def frequency(head: str, quantity: str) -> Show:
    """How often a cell is the best when clusters are resampled."""

    def write(row: ReportRow) -> str:
        share = row.inference.selection_frequency
        return "" if np.isnan(share) else f"{share:.0%}"

    return _show(head, quantity, write)


def count(quantity: str) -> Show:
    """Prompts behind a quantity."""
    return _show("prompts", quantity, lambda row: str(row.estimate.n))


def trust() -> Show:
    """Percent of the prompts by trust."""

    def write(lookup: Lookup, condition: Condition) -> str:
        shares = [lookup.value(condition, f"share_{name}") for name in TRUST]
        return "" if np.isnan(shares).any() else "/".join(f"{100 * share:.0f}" for share in shares) + " %"

    return Show("certified/green/red", write)


def list_columns(
    report: Report, conditions: Sequence[Condition], shows: Sequence[Show]
) -> tuple[list[Column], list[Show]]:
    """The columns of some conditions, and which shows are among them.

    Columns without any number are left out, and so are names that never change. The best cell is marked.
    """
    lookup, best = Lookup.of(report), report.best
    marks = Column("", tuple(MARK if best is not None and c == best.condition else "" for c in conditions))
    vectors = Column("vector", tuple(c.vector for c in conditions), foreign=True)
    positions = Column("positions", tuple(c.positions for c in conditions))
    names = [marks] if any(marks.cells) else []
    names += [column for column in (vectors, positions) if len(set(column.cells)) > 1]
    names.append(Column("layer", tuple(str(c.layer) for c in conditions)))
    names.append(Column("mult", tuple(f"{c.multiplier:+g}" for c in conditions)))
    written = [Column(show.head, tuple(show.write(lookup, c) for c in conditions)) for show in shows]
    kept = [i for i, column in enumerate(written) if any(cell not in ("", DASH) for cell in column.cells)]
    return [*names, *(written[i] for i in kept)], [shows[i] for i in kept]


def _show(head: str, quantity: str, write: Callable[[ReportRow], str], weighting: str = "macro") -> Show:
    """A column that is written from the row of a quantity, and empty where there is none."""

    def find(lookup: Lookup, condition: Condition) -> str:
        row = lookup.find(condition, quantity, weighting=weighting)
        return "" if row is None else write(row)

    return Show(head, find)
