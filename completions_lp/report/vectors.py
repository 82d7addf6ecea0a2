"""Vectors side by side on the same completions: each in its own best cell, and what one does less another."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from completions_lp.quantities import name_unit
from completions_lp.records import Best, Condition, VectorRow
from completions_lp.report.best import Choice, choose_cell
from completions_lp.report.prompts import Columns
from completions_lp.report.rivals import QUANTITIES
from completions_lp.report.sweep import Sweep
from completions_lp.stats import choose_best_cell, mean_intervals, start_stream

COMPARED = (*QUANTITIES, "kl_per_token")
"""Of which the difference is told."""


def list_compared(conditions: Sequence[Condition]) -> list[str]:
    """The vectors that a run compares, its own first; none where it has but one."""
    names = list(dict.fromkeys(c.vector for c in conditions if c.kind == "further"))
    own = [c.vector for c in conditions if c.kind == "target"][:1]
    return [*own, *names] if own and names else []


def compare_vectors(
    columns: Columns,
    sweep: Sweep,
    best: Best | None,
    *,
    missing: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
) -> tuple[VectorRow, ...]:
    """Each vector in its own best cell, and every pair of vectors: the later less the earlier, paired by prompt.

    Every vector's best cell is chosen by the quantity that the sweep is judged by, as that of the report is: on the
    same half of the clusters, and told on the other (``split="report"``), so that none owes anything to the choice; on
    all of them where that half says nothing of a best cell. The means of a row are over the prompts on which both
    have a value; t intervals over clusters. A row without ``against`` is of one vector alone.
    """
    if best is None:
        return ()
    sets = [_list_cells(columns, name) for name in list_compared(columns.conditions)]
    known = [c for cells in sets if (c := _choose(columns, cells, sweep.primary, seed)) is not None]
    if not all(choice.held_out for choice in known):
        known = [c for cells in sets if (c := choose_cell(columns, cells, sweep.primary)) is not None]
    found = []
    for quantity in (name for name in COMPARED if name in columns.steered and name not in missing):
        found += [_describe(columns, one, None, quantity, level) for one in known]
        found += [_describe(columns, later, first, quantity, level) for first, later in combinations(known, 2)]
    return tuple(found)


def _choose(columns: Columns, cells: Sequence[int], quantity: str, seed: int) -> Choice | None:
    """The best cell of a vector, on the halves of the sweep."""
    if not cells or quantity not in columns.steered:
        return None
    values, multipliers = columns.steered[quantity][list(cells)], [columns.conditions[i].multiplier for i in cells]
    halved = choose_best_cell(values, columns.clusters, multipliers, rng=start_stream(seed, "halves"))
    return choose_cell(columns, cells, quantity, halved)


def _list_cells(columns: Columns, vector: str) -> list[int]:
    lost = columns.count_lost()
    return [i for i, c in enumerate(columns.conditions) if c.vector == vector and not c.is_neutral and not lost[i]]


def _describe(columns: Columns, one: Choice, against: Choice | None, quantity: str, level: float) -> VectorRow:
    values, clusters = columns.steered[quantity][:, one.told], columns.clusters[one.told]
    own, unit = values[one.cell], name_unit(quantity)
    other = np.full(own.shape, np.nan) if against is None else values[against.cell]
    both = np.isfinite(own) & (np.isfinite(other) | (against is None))
    rows = np.where(both, np.stack([own, other, own - other]), np.nan)
    value, reference, difference = mean_intervals(rows, clusters, unit=unit, level=level)
    return VectorRow(
        condition=columns.conditions[one.cell],
        against=None if against is None else columns.conditions[against.cell],
        quantity=quantity,
        value=value,
        reference=None if against is None else reference,
        difference=None if against is None else difference,
        n_dropped=int((~both).sum()),
        split="report" if one.held_out else "all",
    )
