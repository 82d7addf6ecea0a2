"""Reports -> Comparison: models, vectors or prompt sets side by side, with intervals on the differences.

Prompt by prompt where two runs asked the same ones (the same ids), which is far narrower; else as independent samples.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from completions_lp.quantities import HEADLINE, PRIMARY, find_quantity, list_missing, name_unit
from completions_lp.records import Condition, Estimate, InputError, Report
from completions_lp.report.best import check_scored
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
    shared: tuple[Estimate, Estimate] | None
    """Each run's mean over the prompts that both asked and on which both have a value: their difference is
    ``difference``. None where too few are shared."""
    difference: Estimate
    """Prompt by prompt over those prompts; else of the own means, as of independent samples."""

    @property
    def paired(self) -> bool:
        """Whether the difference is taken prompt by prompt, over the prompts that both asked."""
        return self.shared is not None


def compare_reports(
    reports: Mapping[str, Report], *, quantities: Sequence[str] = QUANTITIES, level: float = 0.95
) -> tuple[Difference, ...]:
    """Every run against the first one: cell by cell where both have the cell, and best cell against best cell.

    ``reports`` are by the name of the run. Differences of per-prompt quantities in their own units, of those that both
    runs have: t intervals over the shared clusters where at least 6 are shared, else Welch's over both sets. The best
    cell of a run is its own, chosen by ``delta_p_A`` (or the headline) on half of its clusters.

    Raises:
        InputError: There is no such quantity, fewer than two reports, or nothing that they share.
    """
    for quantity in quantities:
        find_quantity(quantity)
    if len(reports) < 2:
        raise InputError(f"got {len(reports)} run to compare; at least two are needed")
    (first, base), *others = reports.items()
    found: list[Difference] = []
    for second, report in others:
        for pair in _match_cells(base, report):
            found += _compare_cells((first, second), (base, report), pair, quantities, level)
    if not found:
        for report in reports.values():
            check_scored(report, *quantities)
        raise InputError(
            f"{first} shares no quantity and no cell (kind, layer, multiplier, positions) with {', '.join(reports)}"
        )
    return tuple(found)


def _match_cells(one: Report, other: Report) -> list[tuple[Condition, Condition]]:
    """Best against best first, then equal cells of the target vectors, and rivals, in the first report's order."""
    cells = {_name_cell(condition): condition for condition in _list_cells(other)}
    pairs = [] if one.best is None or other.best is None else [(one.best.condition, other.best.condition)]
    units = [{dose.unit for dose in report.doses} or {"vector"} for report in (one, other)]
    alike = [c for c in _list_cells(one) if _name_cell(c) in cells and (units[0] == units[1] or not c.steers)]
    same = [(c, cells[_name_cell(c)]) for c in alike]
    return [*pairs, *(pair for pair in same if pair not in pairs)]


def _list_cells(report: Report) -> list[Condition]:
    cells = dict.fromkeys(row.condition for row in report.rows)
    return [cell for cell in cells if cell.kind in ("target", "rival") and not cell.is_neutral]


def _name_cell(condition: Condition) -> tuple[object, ...]:
    """What cells of two runs are matched by, the dose in whatever unit; of a rival its name, which is nowhere else."""
    if condition.kind == "rival":
        return condition.kind, condition.vector
    return condition.kind, *condition.cell


def _compare_cells(
    names: tuple[str, str],
    reports: tuple[Report, Report],
    cells: tuple[Condition, Condition],
    quantities: Sequence[str],
    level: float,
) -> list[Difference]:
    found = []
    for quantity in quantities:
        if any(quantity not in report.prompts or quantity in list_missing(report.through) for report in reports):
            continue
        one, other = (_read_prompts(report, cell, quantity) for report, cell in zip(reports, cells, strict=True))
        options: dict[str, Any] = {"unit": name_unit(quantity), "level": level}
        (first, groups), (second, others) = _split(one, one), _split(other, other)
        values = mean_interval(first, groups, **options), mean_interval(second, others, **options)
        both = [k for k, (value, _) in one.items() if k in other and np.isfinite(value + other[k][0])]
        if len({one[k][1] for k in both}) < MIN_CLUSTERS:
            difference = difference_interval(first, second, groups, others, **options)
            found.append(Difference(*names, cells, quantity, values, None, difference))
            continue
        (first, groups), (second, _) = _split(one, both), _split(other, both)
        shared = mean_interval(first, groups, **options), mean_interval(second, groups, **options)
        difference = mean_interval(second - first, groups, **options)
        found.append(Difference(*names, cells, quantity, values, shared, difference))
    return found


def _read_prompts(report: Report, cell: Condition, quantity: str) -> dict[str, tuple[float, str]]:
    """Value and cluster by prompt id; no value at all where the cell is left out of the report."""
    table = report.prompts
    here = np.logical_and.reduce(
        [np.asarray(table[name]) == value for name, value in cell.columns.items() if name in table]
    )
    lost = bool((np.asarray(table["n_broken"])[here] > 0).any()) if "n_broken" in table else False
    columns = (np.asarray(table[name])[here].tolist() for name in ("prompt_id", quantity, "cluster"))
    return {
        prompt: (float("nan") if lost else float(value), str(cluster))
        for prompt, value, cluster in zip(*columns, strict=True)
    }


def _split(
    side: Mapping[str, tuple[float, str]], chosen: Iterable[str]
) -> tuple[Float[np.ndarray, " prompt"], Int[np.ndarray, " prompt"]]:
    """Values of some prompts, and their clusters as indices."""
    pairs = [side[k] for k in chosen]
    clusters = np.array([cluster for _, cluster in pairs], dtype=object).astype(str)
    return np.array([value for value, _ in pairs], dtype=np.float64), np.unique(clusters, return_inverse=True)[1]
