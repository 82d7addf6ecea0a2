"""Which rows and columns of a Report a figure draws."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.quantities import SWEPT
from completions_lp.records import Condition, Estimate, InputError, Kind, Report, ReportRow
from completions_lp.show.figures.words import name_cell

Table = list[dict[str, Any]]
"""The tidy rows behind a figure, one dictionary a row."""
RED_SHARE = 0.1
"""More red prompts than this, and a cell is drawn as one not to be trusted."""


@dataclass(frozen=True)
class Cell:
    """The condition that a figure of one cell shows, and how it came to be this one."""

    condition: Condition
    reason: str
    """For the caption; empty where the caller named the cell."""


def select_rows(report: Report, quantity: str, *, kind: Kind = "target", vector: str | None = None) -> list[ReportRow]:
    """Macro rows of one quantity with steering, for one vector (the first of its kind), by layer and multiplier."""
    rows = [row for row in report.table(quantity, kind=kind) if row.condition.multiplier != 0]
    names = [row.condition.vector for row in rows]
    if vector is not None and rows and vector not in names:
        raise InputError(f"no {kind} vector {vector!r} in this report; it has {', '.join(sorted(set(names))[:5])}")
    chosen = [row for row in rows if row.condition.vector == (vector or names[0])]
    return sorted(chosen, key=lambda row: (row.condition.layer, row.condition.multiplier))


def select_by_condition(report: Report, quantity: str, *, kind: Kind | None = None) -> dict[Condition, ReportRow]:
    """Macro rows of one quantity, by condition."""
    return {row.condition: row for row in report.table(quantity, kind=kind)}


def pick_quantity(report: Report, asked: str | None = None) -> str:
    """The quantity asked for, or the first of ``quantities.SWEPT`` that the report has: P(A) needs measures."""
    return asked or next((name for name in SWEPT if select_rows(report, name)), SWEPT[0])


def pick_cell(report: Report, *, layer: int | None = None, multiplier: float | None = None) -> Cell | None:
    """The cell to show: the one asked for, the one chosen on half of the prompts, or else the largest of the sweep.

    It is the smallest where all multipliers are negative, which promises a decrease. What is largest is judged by the
    first quantity of ``quantities.SWEPT`` that the report has.

    Raises:
        InputError: There is no such layer or multiplier.
    """
    quantity = pick_quantity(report)
    rows = select_rows(report, quantity)
    if not rows:
        return None
    asked = [
        row for row in rows if layer in (None, row.condition.layer) and multiplier in (None, row.condition.multiplier)
    ]
    if not asked:
        layers = ", ".join(str(n) for n in sorted({row.condition.layer for row in rows}))
        multipliers = ", ".join(f"{m:g}" for m in sorted({row.condition.multiplier for row in rows}))
        raise InputError(
            f"no cell at layer {layer}, multiplier {multiplier}; there are layers {layers} and multipliers "
            f"{multipliers}"
        )
    if layer is not None and multiplier is not None:
        return Cell(asked[0].condition, "")
    held_out = find_held_out(report, quantity)
    if held_out is not None and held_out.condition in [row.condition for row in asked]:
        return Cell(held_out.condition, "chosen on the other half of the prompts")
    sign = -1 if all(row.condition.multiplier < 0 for row in asked) else 1
    best = max(asked, key=lambda row: np.nan_to_num(sign * row.estimate.value, nan=-np.inf))
    most = "smallest" if sign < 0 else "largest"
    return Cell(best.condition, f"the {most} {quantity} of {len(asked)} cells, and chosen for it")


def find_held_out(report: Report, quantity: str) -> ReportRow | None:
    """The sweep's best cell by one quantity: chosen on one half of the prompts, estimated on the other."""
    return next((row for row in report.rows if row.quantity == quantity and row.split == "report"), None)


def find_red(report: Report) -> set[Condition]:
    """The cells in which more than a tenth of the prompts are red."""
    return {c for c, row in select_by_condition(report, "share_red").items() if row.estimate.value > RED_SHARE}


def title_cell(report: Report, cell: Cell | None) -> str | None:
    """The title of a figure of one cell, with a warning where its P(A) is not to be trusted."""
    if cell is None:
        return None
    return name_cell(cell.condition) + (", over 10 % red" if cell.condition in find_red(report) else "")


def count_directions(report: Report, kind: Kind = "random") -> int:
    """How many vectors of a kind the report has."""
    return len({row.condition.vector for row in report.rows if row.condition.kind == kind})


def select_prompts(report: Report, condition: Condition) -> dict[str, np.ndarray]:
    """The columns of the per-prompt table for one condition, one entry a prompt; empty where it has none."""
    columns = {name: np.asarray(values) for name, values in report.prompts.items()}
    if not columns:
        return {}
    keep = np.ones(len(columns["layer"]), dtype=bool)
    for name in ("layer", "multiplier", "vector"):
        keep &= columns[name] == getattr(condition, name)
    return {name: values[keep] for name, values in columns.items()}


def stack_ends(estimates: Sequence[Estimate]) -> Float[np.ndarray, "2 cell"]:
    """Lower and upper ends of the intervals; NaN where there is none."""
    ends = [(np.nan, np.nan) if e.low is None or e.high is None else (e.low, e.high) for e in estimates]
    return np.array(ends, dtype=float).reshape(-1, 2).T


def tidy_rows(rows: Iterable[ReportRow], **extra: Any) -> Table:
    """Rows of a report as a tidy table; a missing interval stays None."""
    return [
        {
            "vector": row.condition.vector,
            "kind": row.condition.kind,
            "layer": row.condition.layer,
            "multiplier": row.condition.multiplier,
            "quantity": row.quantity,
            "weighting": row.weighting,
            **tidy_estimate(row.estimate),
            **extra,
        }
        for row in rows
    ]


def tidy_estimate(estimate: Estimate) -> dict[str, Any]:
    """The columns of one number."""
    names = ("value", "low", "high", "level", "unit", "method")
    columns = {name: getattr(estimate, name) for name in names}
    return {**columns, "n_prompts": estimate.n, "n_clusters": estimate.n_clusters}
