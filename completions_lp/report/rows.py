"""Estimates by condition -> rows of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from completions_lp.quantities import BROKEN
from completions_lp.records import Estimate, Inference, ReportRow
from completions_lp.report.prompts import Columns


@dataclass(frozen=True, eq=False)
class Numbers:
    """One quantity in one weighting, under some conditions."""

    quantity: str
    weighting: str
    estimates: Sequence[Estimate]
    at: Sequence[int] | None = None
    """The conditions, by index; None for all."""
    inference: Mapping[str, Float[np.ndarray, " estimate"]] = field(default_factory=dict)
    """Fields of ``Inference``."""


def make_rows(columns: Columns, numbers: Sequence[Numbers]) -> list[ReportRow]:
    """Rows by condition, in the order of the numbers; what is left out says why."""
    rows: list[list[ReportRow]] = [[] for _ in columns.conditions]
    size = len(columns.clusters)
    for one in numbers:
        fields = {name: values.tolist() for name, values in one.inference.items()}
        lost = columns.count_lost(one.quantity).tolist()
        for i, (c, e) in enumerate(zip(one.at or range(len(rows)), one.estimates, strict=True)):
            if lost[c] and one.quantity != BROKEN:
                e = hide_estimate(e, lost[c], size)
            inference = Inference(**{name: values[i] for name, values in fields.items()})
            rows[c].append(ReportRow(columns.conditions[c], one.quantity, one.weighting, e, size - e.n, inference))
    return [row for some in rows for row in some]


def hide_estimate(estimate: Estimate, lost: int, size: int) -> Estimate:
    """A missing number that says why: on so many of the prompts it is no finite number."""
    method = f"not finite on {lost} of {size} prompts"
    return Estimate(float("nan"), None, None, estimate.level, estimate.unit, 0, 0, method)
