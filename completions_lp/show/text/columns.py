"""Columns of the tables of a report: a number, further inference on it, a count; their words are of ``quantities``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from completions_lp.quantities import TRUST, find_quantity
from completions_lp.records import Condition, Report
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

    def write(lookup: Lookup, condition: Condition) -> str:
        row = lookup.find(condition, quantity, weighting=weighting)
        return "" if row is None else format_estimate(row.estimate, interval=interval)

    head = find_quantity(quantity).head
    return Show(head if weighting == "macro" else f"{head}, {weighting}", write, quantity)


def limits(head: str, quantity: str, low: str, high: str) -> Show:
    """A column of two limits, by their fields of ``Inference``."""

    def write(lookup: Lookup, condition: Condition) -> str:
        row = lookup.find(condition, quantity)
        if row is None:
            return ""
        return format_limits(getattr(row.inference, low), getattr(row.inference, high), row.estimate.unit)

    return Show(head, write)


def spread(head: str, quantity: str, mean: str, sd: str) -> Show:
    """A column of a mean and a standard deviation, by their fields of ``Inference``."""

    def write(lookup: Lookup, condition: Condition) -> str:
        row = lookup.find(condition, quantity)
        if row is None or np.isnan(getattr(row.inference, mean)):
            return ""
        middle, wide = (format_number(getattr(row.inference, name), row.estimate.unit) for name in (mean, sd))
        return f"{middle} ± {wide.removeprefix('+')}"

    return Show(head, write)


def p_value(head: str, quantity: str, name: str) -> Show:
    """A column of p-values, by their field of ``Inference``."""

    def write(lookup: Lookup, condition: Condition) -> str:
        row = lookup.find(condition, quantity)
        return "" if row is None else format_p(getattr(row.inference, name))

    return Show(head, write)


def frequency(head: str, quantity: str) -> Show:
    """How often a cell is the best when clusters are resampled."""

    def write(lookup: Lookup, condition: Condition) -> str:
        row = lookup.find(condition, quantity)
        share = np.nan if row is None else row.inference.selection_frequency
        return "" if np.isnan(share) else f"{share:.0%}"

    return Show(head, write)


def count(quantity: str) -> Show:
    """Prompts behind a quantity."""

    def write(lookup: Lookup, condition: Condition) -> str:
        row = lookup.find(condition, quantity)
        return "" if row is None else str(row.estimate.n)

    return Show("prompts", write)


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
    names = [
        Column("", tuple(MARK if best is not None and c == best.condition else "" for c in conditions)),
        Column("vector", tuple(c.vector for c in conditions), foreign=True),
        Column("positions", tuple(c.positions for c in conditions)),
    ]
    names = [names[0], *(column for column in names[1:] if len(set(column.cells)) > 1)]
    names += [Column("layer", tuple(str(c.layer) for c in conditions))]
    names += [Column("mult", tuple(f"{c.multiplier:+g}" for c in conditions))]
    written = [Column(show.head, tuple(show.write(lookup, c) for c in conditions)) for show in shows]
    kept = [i for i, column in enumerate(written) if any(cell not in ("", DASH) for cell in column.cells)]
    names = names if any(names[0].cells) else names[1:]
    return [*names, *(written[i] for i in kept)], [shows[i] for i in kept]
