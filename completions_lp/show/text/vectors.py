"""Several vectors in words: the table of their best cells side by side, and a line for each further one."""

from collections.abc import Sequence

import numpy as np

from completions_lp.quantities import HEADLINE, find_quantity, name_unit
from completions_lp.records import Estimate, Report, VectorRow
from completions_lp.report.best import find_primary
from completions_lp.show.escape import printable
from completions_lp.show.text.numbers import DASH, format_estimate
from completions_lp.show.text.tables import Column
from completions_lp.show.text.words import name_cell

VECTORS = "Vectors side by side"
VECTORS_WORDS = (
    "On the very same completions, each vector in its own best cell. All best cells are chosen by the same quantity, "
    "and where that can be on one half of the prompts, the same for all, and told on the other. *Less the first* is "
    "the difference from the first vector in its best cell, prompt by prompt; vectors.csv has those of all pairs. "
    "Different cells may be at different doses: KL per token stands beside them."
)


def list_vectors(report: Report) -> list[Column]:
    """A line per vector: its best cell, what it does there, and the difference from the first; none with one vector."""
    alone = _pick(report, find_primary(report), against=None)
    if not alone:
        return []
    columns = [
        Column("vector", tuple(row.condition.vector for row in alone), foreign=True),
        Column("best cell", tuple(name_cell(row.condition) for row in alone)),
    ]
    first = alone[0].condition.vector
    for quantity in dict.fromkeys((find_primary(report), HEADLINE)):
        known = {row.condition.vector: row for row in _pick(report, quantity, against=None)}
        less = {row.condition.vector: row for row in _pick(report, quantity, against=first)}
        head = find_quantity(quantity).head
        cells = [known.get(row.condition.vector) for row in alone]
        columns.append(Column(head, tuple(DASH if r is None else _write(r.value) for r in cells)))
        differences = [less.get(row.condition.vector) for row in alone]
        columns.append(
            Column("less the first", tuple(DASH if r is None else _write(r.difference) for r in differences))
        )
    kl = {row.condition.vector: row for row in _pick(report, "kl_per_token", against=None)}
    if kl:
        cells = [kl.get(row.condition.vector) for row in alone]
        head = find_quantity("kl_per_token").head
        columns.append(Column(head, tuple(DASH if r is None else format_estimate(r.value) for r in cells)))
    return [*columns, Column("prompts", tuple(str(row.value.n) for row in alone))]


def say_vectors(report: Report) -> list[str]:
    """A line for each further vector: its best cell, what it does there, and how that differs from the first one's."""
    quantity = find_primary(report)
    alone = _pick(report, quantity, against=None)
    if not alone:
        return []
    less = {row.condition.vector: row for row in _pick(report, quantity, against=alone[0].condition.vector)}
    return [_say_vector(row, less.get(row.condition.vector)) for row in alone[1:]]


def _say_vector(row: VectorRow, less: VectorRow | None) -> str:
    half = ", on the held-out half" if row.split == "report" else ""
    quantity = find_quantity(row.quantity)
    name = quantity.head.removesuffix(f" {name_unit(row.quantity)}")
    told = f"Vector {printable(row.condition.vector)}: {name} {_measure(row.value, row.quantity)} at "
    told += name_cell(row.condition)
    if less is None or less.against is None or less.difference is None or not np.isfinite(less.difference.value):
        return f"{told}{half}."
    first = f"{printable(less.against.vector)} ({name_cell(less.against)})"
    return f"{told}; less {first} {_measure(less.difference, row.quantity)} (paired by prompt{half})."


def _pick(report: Report, quantity: str, *, against: str | None) -> Sequence[VectorRow]:
    rows = [row for row in report.vectors if row.quantity == quantity and np.isfinite(row.value.value)]
    return [row for row in rows if (None if row.against is None else row.against.vector) == against]


def _write(estimate: Estimate | None) -> str:
    return DASH if estimate is None else format_estimate(estimate, signed=True)


def _measure(estimate: Estimate, quantity: str) -> str:
    """``+0.53 nats [+0.41, +0.65]``."""
    value, _, limits = _write(estimate).partition(" ")
    return f"{value} {name_unit(quantity)} {limits}".rstrip()
