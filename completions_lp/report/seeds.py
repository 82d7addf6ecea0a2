"""The numbers of every seed, as a run with that seed alone has them, and how far they differ between seeds.

The spread between seeds is what sampling alone does to a number, with just these prompts; the interval beside it is
over prompts, and holds sampling noise as well.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from completions_lp.quantities import find_quantity, name_unit, rank_quantity
from completions_lp.records import BASELINE, Condition, Estimate, Increases, Measures, Readings, ReportRow, SeedValue
from completions_lp.report.broken import hide_prompts, leave_out
from completions_lp.report.prompts import Columns, collect_columns, derive_measures
from completions_lp.report.rounding import set_apart
from completions_lp.stats import mean_intervals

_Key = tuple[Condition, str]
UNMENDED = ("kl", "kl_reverse", "kl_per_token", "increase_to_answer_A_rb")
"""Measures that draws of the steered model do not join."""


def measure_seeds(
    increases: Increases, by_seed: Sequence[Measures], readings: Readings | None, columns: Columns, *, target: str
) -> tuple[SeedValue, ...]:
    """Means over prompts (macro) of every seed's own draws, by condition and quantity; nothing without several seeds.

    ``increases`` and ``by_seed``, the measures of each seed, are of all conditions, ``columns`` the pooled ones. A
    number that the pooled draws leave out is NaN, and so is what rests on P(A) under steering in a cell that draws of
    the steered model have joined: they are of no seed.
    """
    if increases.completions.seed_counts is None:
        return ()
    found: dict[_Key, list[SeedValue]] = {}
    for k, seed in enumerate(increases.completions.sampling.seeds):
        measures = by_seed[k] if by_seed else None
        _, _, (part, _, measures), _ = set_apart((increases.of_seed(k), None, measures))
        read = None if readings is None else readings.of_seed(k)
        own = leave_out(hide_prompts(collect_columns(part, None, measures, read, target=target), part))
        mended = set() if measures is None else {*measures.steered, *derive_measures(measures)} - {*UNMENDED}
        for quantity, rows in _average(own).items():
            lost = columns.count_lost(quantity) > 0
            if quantity in mended and "n_steered" in columns.steered:
                lost = lost | (columns.steered["n_steered"] > 0).any(-1)
            for i, (condition, e) in enumerate(rows):
                hidden = condition != BASELINE and lost[i]
                value = float("nan") if hidden else e.value
                found.setdefault((condition, quantity), []).append(
                    SeedValue(condition, quantity, seed, value, e.unit, 0 if hidden else e.n)
                )
    places = {condition: i for i, condition in enumerate((*columns.conditions, BASELINE))}
    order = sorted(found, key=lambda key: (places[key[0]], rank_quantity(key[1])))
    return tuple(value for key in order for value in found[key])


def _average(columns: Columns) -> dict[str, list[tuple[Condition, Estimate]]]:
    """Means over prompts, by quantity: under each condition, or unsteered."""
    averaged = {}
    sides = ((columns.steered, columns.conditions), (columns.unsteered, (BASELINE,)))
    for values, conditions in sides:
        for quantity, x in values.items():
            if find_quantity(quantity).summarized:
                rows = x.reshape(len(conditions), -1)
                means = mean_intervals(rows, columns.clusters, unit=name_unit(quantity))
                averaged[quantity] = list(zip(conditions, means, strict=True))
    return averaged


def mark_seeds(rows: Sequence[ReportRow], values: Sequence[SeedValue]) -> list[ReportRow]:
    """Rows with the spread between seeds: of means over all prompts, where it is known."""
    by_key: dict[_Key, list[float]] = {}
    for one in values:
        by_key.setdefault((one.condition, one.quantity), []).append(one.value)
    marked = []
    for row in rows:
        known = np.array(by_key.get((row.condition, row.quantity), ()), dtype=np.float64)
        known = known[np.isfinite(known)]
        if row.weighting == "macro" and row.split == "all" and len(known):
            sd = float(known.std(ddof=1)) if len(known) > 1 else float("nan")
            row = replace(row, inference=replace(row.inference, seed_sd=sd, n_seeds=float(len(known))))
        marked.append(row)
    return marked
