"""The best cell of a sweep: chosen here, by one rule.

It has the largest mean change of P(A), else of the headline; the smallest where all multipliers are negative.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from completions_lp.quantities import HEADLINE, PRIMARY, find_quantity, list_missing
from completions_lp.records import Best, InputError, Positions, Report, ReportRow
from completions_lp.report.prompts import Columns
from completions_lp.report.sweep import Sweep
from completions_lp.stats import measure_spread, promise_sign


def find_best(columns: Columns, sweep: Sweep) -> Best | None:
    """The best cell of a sweep by its primary quantity, chosen on one half of the clusters where that can be."""
    conditions = [columns.conditions[i] for i in sweep.cells]
    chosen = sweep.best.get(sweep.primary)
    if chosen is not None:
        told = columns.steered[sweep.primary][sweep.cells[chosen.cell]][~chosen.chosen_by]
        if np.isfinite(told).any():
            frequency = float(chosen.frequency[chosen.cell])
            return Best(conditions[chosen.cell], sweep.primary, True, len(conditions), frequency)
    if not conditions or sweep.primary not in columns.steered:
        return None
    means = measure_spread(columns.steered[sweep.primary][sweep.cells], columns.clusters)[0]
    means = promise_sign([c.multiplier for c in conditions]) * means
    if not np.isfinite(means).any():
        return None
    return Best(conditions[int(np.nanargmax(means))], sweep.primary, False, len(conditions))


def find_primary(report: Report) -> str:
    """The quantity that a report is judged by: the change of P(A), or the headline where that is not known."""
    if report.best is not None:
        return report.best.quantity
    known = {row.quantity for row in report.rows if np.isfinite(row.estimate.value)}
    return PRIMARY if PRIMARY in known else HEADLINE


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
