"""What is said of doses: whether any was large enough to tell, and which could not be reached."""

from collections.abc import Mapping, Sequence

import numpy as np

from completions_lp.records import Condition, Dose, Report
from completions_lp.report.controls import find_sweep
from completions_lp.report.prompts import Columns
from completions_lp.stats import measure_spread

LEAST_KL = 0.05
"""Nats per token: where no cell of a vector costs as much, no effect cannot be told from no dose."""


def find_largest(columns: Columns) -> tuple[Condition | None, float]:
    """The cell of the target vector with the largest KL per token, and that; NaN where it is not known."""
    cells = find_sweep(columns.conditions)
    if not cells or "kl_per_token" not in columns.steered:
        return None, float("nan")
    means = measure_spread(columns.steered["kl_per_token"][cells], columns.clusters)[0]
    if not np.isfinite(means).any():
        return None, float("nan")
    k = int(np.nanargmax(means))
    return columns.conditions[cells[k]], float(means[k])


def tell_doses(columns: Columns, doses: Sequence[Dose]) -> list[str]:
    """Sentences about doses, each with what to do."""
    told = []
    missing = [dose for dose in doses if dose.reason]
    if missing:
        asked, first = sum(not dose.condition.is_neutral for dose in doses), missing[0]
        told.append(
            f"{len(missing)} of {asked} cells are missing, since no multiplier gives the KL per token that was asked "
            f"for: {first.condition.vector}, layer {first.condition.site}, {first.condition.dose:+g}: {first.reason}"
            f"{'; doses.csv has the others' * (len(missing) > 1)}; ask for smaller doses, or leave these layers out"
        )
    cell, largest = find_largest(columns)
    if cell is not None and largest < LEAST_KL:
        size = {dose.condition: dose.relative for dose in doses}.get(cell, float("nan"))
        relative = f", a relative dose of {size:.2g}" if np.isfinite(size) else ""
        solved = ', or set [scoring] unit = "kl" and multipliers = [-0.1, 0.1], which solves for them'
        if cell.operation == "clamp":  # which takes no unit but its own
            solved = ""
        told.append(
            f"the largest dose is {largest:.2g} nats per token ({cell.place}{relative}), under {LEAST_KL:g}: no effect "
            f"cannot be told from no dose; try larger [scoring] multipliers{solved}"
        )
    return told


def name_doses(report: Report) -> str:
    """What a sweep's doses are: ``multiplier``, or the unit in which they were asked for."""
    unit = next((dose.unit for dose in report.doses), "vector")
    return {"vector": "multiplier", "residual": "relative dose", "kl": "KL dose (nats/token)"}[unit]


def say_same(report: Report) -> str:
    """What random directions have in common with the vector: ``of the same norm``, or ``at the same KL``."""
    return "at the same KL" if "KL" in name_doses(report) else "of the same norm"


def index_doses(report: Report) -> Mapping[Condition, dict[str, float]]:
    """By condition, the columns of its dose: ``relative_dose``, and the mean ``kl_per_token`` over all prompts."""
    found: dict[Condition, dict[str, float]] = {}
    for dose in report.doses:
        found.setdefault(dose.condition, {})["relative_dose"] = dose.relative
    for row in report.table("kl_per_token", kind=None):
        found.setdefault(row.condition, {})["kl_per_token"] = row.estimate.value
    return found
