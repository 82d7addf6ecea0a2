"""Reports -> Comparison: models, vectors or prompt sets side by side, with intervals on the differences.

Where two runs asked the same prompts (the same ids), their difference is taken prompt by prompt, which is far narrower
than the difference of two means; else the two sets of prompts are independent samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from completions_lp.quantities import HEADLINE, PRIMARY, name_unit
from completions_lp.records import Condition, Estimate, InputError, Report
from completions_lp.stats import MIN_CLUSTERS, difference_interval, mean_interval

QUANTITIES = (PRIMARY, HEADLINE, "log_ratio_A", "kl_per_token", "logit_diff_change")


@dataclass(frozen=True)
class Difference:
    """One quantity of one cell in two runs: the second less the first."""

    first: str
    second: str
    cells: tuple[Condition, Condition]
    """The two conditions; where each run's own best cell is compared, they differ in more than the vector's name."""
    quantity: str
    values: tuple[Estimate, Estimate]
    """Each run's own mean, over all its prompts."""
    difference: Estimate
    paired: bool
    """Whether prompt by prompt, over the prompts that both asked."""


def compare_reports(
    reports: Mapping[str, Report], *, quantities: Sequence[str] = QUANTITIES, level: float = 0.95
) -> tuple[Difference, ...]:
    """Every run against the first one: cell by cell where both have the cell, and best cell against best cell.

    Args:
        reports: By the name of the run; the first is what the others are compared with.
        quantities: Per-prompt quantities; those that a run lacks are left out.
        level: Coverage of the intervals.

    Returns:
        Differences in each quantity's own unit; t intervals over the shared clusters where at least 6 clusters are
        shared, else Welch's over both sets. The best cell of a run is its own, chosen by ``delta_p_A`` (or the
        headline) on half of its clusters.

    Raises:
        InputError: Fewer than two reports, or nothing that they share.
    """
    if len(reports) < 2:
        raise InputError(f"got {len(reports)} run to compare; at least two are needed")
    (first, base), *others = reports.items()
    found: list[Difference] = []
    for second, report in others:
        for pair in _match_cells(base, report):
            found += _compare_cells((first, second), (base, report), pair, quantities, level)
    if not found:
        raise InputError(
            f"{first} shares no quantity and no cell (kind, layer, multiplier, positions) with {', '.join(reports)}"
        )
    return tuple(found)


def _match_cells(one: Report, other: Report) -> list[tuple[Condition, Condition]]:
    """Best against best first, then equal cells of the target vectors in the first report's order."""
    cells = {_name_cell(condition): condition for condition in _list_cells(other)}
    pairs = [] if one.best is None or other.best is None else [(one.best.condition, other.best.condition)]
    same = [(c, cells[_name_cell(c)]) for c in _list_cells(one) if _name_cell(c) in cells]
    return [*pairs, *(pair for pair in same if pair not in pairs)]


def _list_cells(report: Report) -> list[Condition]:
    cells = dict.fromkeys(row.condition for row in report.rows)
    return [cell for cell in cells if cell.kind == "target" and cell.multiplier != 0]


def _name_cell(condition: Condition) -> tuple[str, int, float, str]:
    return condition.kind, condition.layer, condition.multiplier, condition.positions


def _compare_cells(
    names: tuple[str, str],
    reports: tuple[Report, Report],
    cells: tuple[Condition, Condition],
    quantities: Sequence[str],
    level: float,
) -> list[Difference]:
    found = []
    for quantity in quantities:
        if any(quantity not in report.prompts for report in reports):
            continue
        sides = [_read_prompts(report, cell, quantity) for report, cell in zip(reports, cells, strict=True)]
        shared = [k for k in sides[0] if k in sides[1]]
        paired = len({cluster for k in shared for _, cluster in [sides[0][k]]}) >= MIN_CLUSTERS
        unit = name_unit(quantity)
        values = [np.array([value for value, _ in side.values()]) for side in sides]
        clusters = [_number([cluster for _, cluster in side.values()]) for side in sides]
        means = [mean_interval(v, c, unit=unit, level=level) for v, c in zip(values, clusters, strict=True)]
        if paired:
            change = np.array([sides[1][k][0] - sides[0][k][0] for k in shared])
            groups = _number([sides[0][k][1] for k in shared])
            difference = mean_interval(change, groups, unit=unit, level=level)
        else:
            difference = difference_interval(*values, *clusters, unit=unit, level=level)
        found.append(Difference(*names, cells, quantity, (means[0], means[1]), difference, paired))
    return found


def _read_prompts(report: Report, cell: Condition, quantity: str) -> dict[str, tuple[float, str]]:
    """Value and cluster by prompt id."""
    table = report.prompts
    names = ("vector", "kind", "layer", "multiplier", "positions")
    here = np.logical_and.reduce([np.asarray(table[name]) == getattr(cell, name) for name in names])
    columns = (np.asarray(table[name])[here].tolist() for name in ("prompt_id", quantity, "cluster"))
    return {prompt: (float(value), str(cluster)) for prompt, value, cluster in zip(*columns, strict=True)}


def _number(clusters: Sequence[str]) -> Int[np.ndarray, " prompt"]:
    return np.unique(np.array(clusters, dtype=object).astype(str), return_inverse=True)[1]
