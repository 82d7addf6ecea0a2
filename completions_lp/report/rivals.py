"""Steering against its rivals: what a cell of the vector does less what a rival does, prompt by prompt."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from completions_lp.quantities import HEADLINE, PRIMARY, name_unit
from completions_lp.records import Best, RivalRow
from completions_lp.report.controls import find_sweep
from completions_lp.report.prompts import Columns
from completions_lp.report.sweep import Sweep
from completions_lp.stats import mean_intervals

QUANTITIES = (PRIMARY, HEADLINE, "log_ratio_A", "increase_all", "logit_diff_change", "pref_odds_change")
"""Of which the difference is told; that of all completions stands for damage, since it estimates −KL."""


def find_rivals(columns: Columns) -> list[int]:
    """The rivals, as indices of conditions."""
    return [i for i, condition in enumerate(columns.conditions) if condition.kind == "rival"]


def compare_rivals(
    columns: Columns, sweep: Sweep, best: Best | None, *, missing: Sequence[str] = (), level: float = 0.95
) -> tuple[RivalRow, ...]:
    """Every cell of the vector less every rival, paired by prompt: means over prompts, t intervals over clusters.

    All three means of a row are over the prompts on which both have a value. The best cell of the sweep comes a second
    time where one half of the clusters chose it, with ``split="report"``: over the other half alone, to which the
    vector owes nothing of its choice, as the rival does not.
    """
    every = np.ones(len(columns.clusters), dtype=bool)
    found = []
    for quantity in (name for name in QUANTITIES if name in columns.steered and name not in missing):
        found += _compare(columns, find_sweep(columns.conditions), quantity, every, level)
        chosen = None if best is None or not best.held_out else sweep.best.get(best.quantity)
        if chosen is not None:
            told = _compare(columns, [sweep.cells[chosen.cell]], quantity, ~chosen.chosen_by, level, split="report")
            found += told
    places = {condition: i for i, condition in enumerate(columns.conditions)}
    return tuple(sorted(found, key=lambda row: (places[row.rival], places[row.condition])))


def _compare(
    columns: Columns,
    cells: Sequence[int],
    quantity: str,
    prompts: Bool[np.ndarray, " prompt"],
    level: float,
    split: str = "all",
) -> list[RivalRow]:
    """One quantity in some cells, on some prompts."""
    values, clusters, unit = columns.steered[quantity][:, prompts], columns.clusters[prompts], name_unit(quantity)
    found = []
    for rival in find_rivals(columns):
        both = np.isfinite(values[list(cells)]) & np.isfinite(values[rival])
        own, other = (np.where(both, x, np.nan) for x in (values[list(cells)], values[rival]))
        means = [mean_intervals(x, clusters, unit=unit, level=level) for x in (own, other, own - other)]
        found += [
            RivalRow(
                rival=columns.conditions[rival],
                condition=columns.conditions[cell],
                quantity=quantity,
                split="report" if split == "report" else "all",
                steered=steered,
                rivalled=rivalled,
                difference=difference,
                n_dropped=values.shape[1] - difference.n,
            )
            for cell, steered, rivalled, difference in zip(cells, *means, strict=True)
        ]
    return found
