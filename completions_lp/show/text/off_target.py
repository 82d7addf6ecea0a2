"""Off-target sets in words: the table of effect against collateral damage, and a line for each set."""

from collections.abc import Sequence

import numpy as np

from completions_lp.quantities import PRIMARY, find_quantity, name_unit
from completions_lp.records import Condition, OffTargetRow, Report
from completions_lp.report.off_target import QUANTITIES
from completions_lp.show.escape import printable
from completions_lp.show.text.numbers import DASH, format_estimate
from completions_lp.show.text.tables import Column
from completions_lp.show.text.words import name_cell

OFF_TARGET = "Effect against collateral damage"
OFF_TARGET_WORDS = (
    "The same vector in the same cells on prompts that it is not about, each set sampled, scored and read out by "
    "itself. *Effect* is the cell's on the run's own prompts; the other columns are of the set, with intervals over "
    "its prompts: the change of the probability of its own answer, its increases, its divergence, and the change of "
    "the accuracy of the greedy two-choice answer."
)
_TOLD = (PRIMARY, "greedy_change", "kl_per_token")
"""What the line of a set tells."""

Place = tuple[Condition, str]


def group_sets(report: Report) -> dict[Place, dict[str, OffTargetRow]]:
    """The rows by cell and set, then by quantity."""
    found: dict[Place, dict[str, OffTargetRow]] = {}
    for row in report.off_target:
        found.setdefault((row.condition, row.name), {})[row.quantity] = row
    return found


def list_off_target(report: Report) -> list[Column]:
    """A line for each cell and set; none without sets."""
    groups = group_sets(report)
    if not groups:
        return []
    rows = list(groups.values())
    first = [next(iter(group.values())) for group in rows]
    head = f"effect: {find_quantity(first[0].effect_quantity).head}"
    columns = [
        Column("set", tuple(name for _, name in groups), foreign=True),
        Column("layer", tuple(condition.site for condition, _ in groups)),
        Column("mult", tuple(f"{condition.multiplier:+g}" for condition, _ in groups)),
        Column(head, tuple(format_estimate(row.effect) for row in first)),
    ]
    for quantity in QUANTITIES:
        cells = tuple(format_estimate(group[quantity].estimate) if quantity in group else "" for group in rows)
        if any(cell not in ("", DASH) for cell in cells):
            columns.append(Column(find_quantity(quantity).head, cells))
    most = tuple(str(max(row.estimate.n + row.n_dropped for row in group.values())) for group in rows)
    return [*columns, Column("prompts", most)]


def say_off_target(report: Report) -> list[str]:
    """A line for each set, of the report's best cell, or else of the first that was scored."""
    groups = group_sets(report)
    best = None if report.best is None else report.best.condition
    found = []
    for name in dict.fromkeys(name for _, name in groups):
        cells = [condition for condition, other in groups if other == name]
        condition = best if best in cells and best is not None else cells[0]
        found.append(_say_set(condition, name, list(groups[condition, name].values())))
    return found


def _say_set(condition: Condition, name: str, rows: Sequence[OffTargetRow]) -> str:
    told = []
    for row in rows:
        if row.quantity in _TOLD and np.isfinite(row.estimate.value):
            unit = name_unit(row.quantity)
            value, _, limits = format_estimate(row.estimate).partition(" ")
            head = find_quantity(row.quantity).head.removesuffix(f" {unit}")
            told.append(f"{head} {value} {unit} {limits}".rstrip())
    return f"Off target, {printable(name)} ({name_cell(condition)}): {', '.join(told) or DASH}."
