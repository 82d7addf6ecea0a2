"""The best cell of a sweep: chosen here, by one rule.

It has the largest mean change of P(A), else of the headline, else of the logit diff; the smallest where all
multipliers are negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from completions_lp.quantities import HEADLINE, JUDGED, find_quantity, list_missing
from completions_lp.records import Best, InputError, Positions, Report, ReportRow
from completions_lp.report.prompts import Columns
from completions_lp.report.sweep import Sweep
from completions_lp.stats import BestCell, measure_spread, promise_sign


@dataclass(frozen=True, eq=False)
class Choice:
    """The best of some cells, as the index of its condition, and the prompts on which it is told."""

    cell: int
    told: Bool[np.ndarray, " prompt"]
    """Those that had no say in it; all of them where it is chosen on all."""
    held_out: bool
    frequency: float = float("nan")
    """Share of the resamples in which it is the best; NaN where it is chosen on all prompts."""


def find_best(columns: Columns, sweep: Sweep) -> Best | None:
    """The best cell of a sweep by its primary quantity, chosen on one half of the clusters where that can be."""
    found = choose_cell(columns, sweep.cells, sweep.primary, sweep.best.get(sweep.primary))
    if found is None:
        return None
    n, condition = len(sweep.cells), columns.conditions[found.cell]
    return Best(condition, sweep.primary, found.held_out, n, found.frequency)


def choose_cell(columns: Columns, cells: Sequence[int], quantity: str, halved: BestCell | None = None) -> Choice | None:
    """The best of some conditions, by index: as ``halved`` chose it among them, where the other half has a value there.

    Otherwise by the mean over all prompts; None where none has a value.
    """
    if not cells or quantity not in columns.steered:
        return None
    values = columns.steered[quantity][list(cells)]
    if halved is not None and np.isfinite(values[halved.cell][~halved.chosen_by]).any():
        return Choice(cells[halved.cell], ~halved.chosen_by, True, float(halved.frequency[halved.cell]))
    means = measure_spread(values, columns.clusters)[0]
    means = promise_sign([columns.conditions[i].multiplier for i in cells]) * means
    if not np.isfinite(means).any():
        return None
    return Choice(cells[int(np.nanargmax(means))], np.ones(len(columns.clusters), dtype=bool), False)


def find_primary(report: Report) -> str:
    """The quantity that a report is judged by: the first of ``JUDGED`` that is known, or else the headline."""
    if report.best is not None:
        return report.best.quantity
    known = {row.quantity for row in report.rows if np.isfinite(row.estimate.value)}
    return next((name for name in JUDGED if name in known), HEADLINE)


def pick_best(
    report: Report,
    quantity: str | None = None,
    *,
    layers: Sequence[int] = (),
    multipliers: Sequence[float] = (),
    positions: Positions | None = None,
) -> Best:
    """The best cell by a quantity among some layers, multipliers and positions: the report's own, if it is of these.

    By default by the quantity that the report is judged by, among all layers, multipliers and positions.

    Raises:
        InputError: There is no such quantity or no such cell of the target vector, or none has a value; or it is over
            whole completions, and they are not scored through their end.
    """
    quantity = quantity or find_primary(report)
    find_quantity(quantity)
    check_scored(report, quantity)
    rows = [row for row in report.table(quantity) if not row.condition.is_neutral]
    if not rows:
        known = dict.fromkeys(row.quantity for row in report.rows if row.condition.kind == "target")
        raise InputError(f"this report has no {quantity!r} of a steered cell; it has {', '.join(known)}")
    chosen = [row for row in rows if _matches(row, layers, multipliers, positions)]
    if not chosen:
        cells = ", ".join(f"{row.condition.site}:{row.condition.multiplier:+g}" for row in rows)
        raise InputError(f"there is no such cell of the target vector; the cells (layer:multiplier) are {cells}")
    best = report.best
    if best is not None and best.quantity == quantity and best.condition in [row.condition for row in chosen]:
        return best if len(chosen) == best.n_cells else replace(best, n_cells=len(chosen))
    sign = promise_sign([row.condition.multiplier for row in chosen])
    defined = [row for row in chosen if np.isfinite(row.estimate.value)]
    if not defined:
        raise InputError(f"{quantity} is undefined on every prompt in the cells asked for")
    row = max(defined, key=lambda row: sign * row.estimate.value)
    return Best(row.condition, quantity, False, len(chosen))


def check_scored(report: Report, *quantities: str) -> None:
    """Raise InputError for a quantity over whole completions where these are not scored through their end."""
    for quantity in quantities:
        if quantity in list_missing(report.through):
            raise InputError(
                f"{quantity} is over whole completions, and here they are scored through the {report.through} only: "
                "`completions-lp run --out DIR --set scoring.through=end` scores all of them"
            )


def _matches(row: ReportRow, layers: Sequence[int], multipliers: Sequence[float], positions: Positions | None) -> bool:
    cell = row.condition
    return (
        (not layers or cell.layer in layers)
        and (not multipliers or cell.multiplier in multipliers)
        and positions in (None, cell.positions)
    )
