"""Columns of the tables of a report: a number, further inference on it, a count; their words are of ``quantities``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np

from completions_lp.quantities import TRUST, find_quantity
from completions_lp.records import Condition, Report, ReportRow
from completions_lp.show.text.numbers import DASH, Lookup, format_estimate, format_limits, format_p
from completions_lp.show.text.tables import Column
from completions_lp.show.text.words import MARK

COST = "kl_per_token"
"""What stands in every table, beside the multiplier."""


@dataclass(frozen=True)
class Show:
    """What a column shows of a condition."""

    head: str
    write: Callable[[Lookup, Condition], str]
    quantity: str = ""
    """The one that explains it, if any."""


def numbers(*quantities: str, weighting: str = "macro", interval: bool = True) -> list[Show]:
    """Columns of estimates, with their intervals."""

    def make(quantity: str) -> Show:
        head = find_quantity(quantity).head + ("" if weighting == "macro" else f", {weighting}")
        show = tell(head, quantity, lambda row: format_estimate(row.estimate, interval=interval), weighting)
        return replace(show, quantity=quantity)

    return list(map(make, quantities))


def values(*quantities: str, weighting: str = "macro") -> list[Show]:
    """Columns of estimates alone."""
    return numbers(*quantities, weighting=weighting, interval=False)


def limits(head: str, quantity: str, low: str, high: str) -> Show:
    """A column of two limits, by their fields of ``Inference``."""
    find = attrgetter(low, high)
    return tell(head, quantity, lambda row: format_limits(*find(row.inference), row.estimate.unit))


def p_values(quantity: str, fields: Mapping[str, str]) -> list[Show]:
    """Columns of p-values: the field of ``Inference`` by the column's head."""

    def make(head: str, name: str) -> Show:
        return tell(head, quantity, lambda row: format_p(getattr(row.inference, name)))

    return [make(head, name) for head, name in fields.items()]


def count(quantity: str) -> Show:
    """Prompts behind a quantity."""
    return tell("prompts", quantity, lambda row: str(row.estimate.n))


def trust() -> Show:
    """Percent of the prompts by trust."""

    def write(lookup: Lookup, condition: Condition) -> str:
        shares = [lookup.value(condition, f"share_{name}") for name in TRUST]
        return "" if np.isnan(shares).any() else "/".join(f"{100 * share:.0f}" for share in shares) + " %"

    return Show("certified/green/red", write)


def list_columns(
    report: Report, conditions: Sequence[Condition], shows: Sequence[Show]
) -> tuple[list[Column], list[Show]]:
    """The columns of some conditions, less empty ones and names that never change, and which shows are there."""
    lookup, best = Lookup.of(report), report.best
    marks = Column("", tuple(MARK if best is not None and c == best.condition else "" for c in conditions))
    vectors = Column("vector", tuple(c.vector for c in conditions), foreign=True)
    how = [Column(name, tuple(getattr(c, name) for c in conditions)) for name in ("positions", "operation")]
    names = [marks] if any(marks.cells) else []
    names += [column for column in (vectors, *how) if len(set(column.cells)) > 1]
    names += [*place_columns(conditions), *dose_columns(report, conditions)]
    written = [(Column(show.head, tuple(show.write(lookup, c) for c in conditions)), show) for show in shows]
    kept = [pair for pair in written if any(cell not in ("", DASH) for cell in pair[0].cells)]
    if kept and all(show.quantity != COST for show in shows):  # what a cell costs stands beside whatever it does
        (cost,) = values(COST)
        column = Column(cost.head, tuple(cost.write(lookup, c) for c in conditions))
        kept = [*([(column, cost)] if any(cell not in ("", DASH) for cell in column.cells) else []), *kept]
    return [*names, *(column for column, _ in kept)], [show for _, show in kept]


def place_columns(conditions: Sequence[Condition]) -> list[Column]:
    """Layer and multiplier, which a rival has not."""
    return [
        Column("layer", tuple(c.site if c.steers else DASH for c in conditions)),
        Column("mult", tuple(f"{c.multiplier:+.4g}" if c.steers else DASH for c in conditions)),
    ]


def dose_columns(report: Report, conditions: Sequence[Condition]) -> list[Column]:
    """What was asked for, where it is not the multiplier, and what that is of the residual stream."""
    asked = tuple(f"{c.dose:+g}" if c.steers and c.dose is not None else DASH for c in conditions)
    own = all(c.dose == c.multiplier for c in conditions if c.steers)
    size = {dose.condition: dose.relative for dose in report.doses}
    known = [size.get(c, float("nan")) for c in conditions]
    relative = Column("|mv|/|h|", tuple(DASH if np.isnan(x) else f"{x:.2g}" for x in known))
    found = [] if own else [Column("dose", asked)]
    return [*found, *([relative] if np.isfinite(known).any() else [])]


def tell(head: str, quantity: str, write: Callable[[ReportRow], str], weighting: str = "macro") -> Show:
    """A column that is written from the row of a quantity, and empty where there is none."""

    def find(lookup: Lookup, condition: Condition) -> str:
        row = lookup.find(condition, quantity, weighting=weighting)
        return "" if row is None else write(row)

    return Show(head, find)
