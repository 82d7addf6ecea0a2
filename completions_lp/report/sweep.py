"""Many cells at once: what still stands when a sweep over layers and multipliers has been looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from completions_lp.quantities import HEADLINE, JUDGED, SWEPT
from completions_lp.report.controls import compare_directions, find_sweep, rank_sweep
from completions_lp.report.prompts import Columns
from completions_lp.stats import (
    BestCell,
    adjust_false_discovery,
    adjust_holm,
    bootstrap_t_intervals,
    choose_best_cell,
    max_t_band,
    mean_t,
    measure_spread,
    start_stream,
)


@dataclass(frozen=True, eq=False)
class Sweep:
    """The inference on the sweep's cells, and which of them are best."""

    cells: list[int]
    """The sweep, as indices of conditions, without what is left out because log probs are no finite numbers."""
    inference: dict[str, dict[str, Float[np.ndarray, " condition"]]]
    """By swept quantity, fields of ``Inference``."""
    best: dict[str, BestCell]
    """By swept quantity, its best among ``cells``; none for a quantity without a value. All on the same halves."""
    primary: str
    """The quantity that the sweep is judged by: the first of ``JUDGED`` that is known."""
    p_rank: float
    """The whole sweep against the random directions, by the primary quantity."""


def study_sweep(columns: Columns, *, level: float, seed: int) -> Sweep:
    """Everything that is asked of a sweep, by swept quantity."""
    lost, p_rank = columns.count_lost(), float("nan")
    cells = [i for i in find_sweep(columns.conditions) if not lost[i]]
    inference: dict[str, dict[str, Float[np.ndarray, " condition"]]] = {}
    best: dict[str, BestCell] = {}
    on = np.array([not condition.is_neutral for condition in columns.conditions], dtype=bool)
    multipliers = [columns.conditions[i].multiplier for i in cells]
    swept = [quantity for quantity in SWEPT if quantity in columns.steered]
    known = [quantity for quantity in JUDGED if np.isfinite(columns.steered.get(quantity, np.nan)).any()]
    primary = known[0] if known else HEADLINE
    for quantity in swept:
        _, p_t = mean_t(columns.steered[quantity], columns.clusters)
        inference[quantity] = {"p_t": np.where(on, p_t, np.nan)}  # multiplier 0 leaves rounding, which is no effect
        if not cells:
            continue
        means = measure_spread(columns.steered[quantity], columns.clusters)[0]
        found = _test_cells(columns, quantity, cells, level=level, seed=seed)
        found |= compare_directions(means, columns.conditions, cells, level=level, lost=lost)
        found["p_holm"], found["p_bh"] = adjust_holm(p_t[cells]), adjust_false_discovery(p_t[cells])
        values, halves = columns.steered[quantity][cells], start_stream(seed, "halves")  # the same for every quantity
        chosen = choose_best_cell(values, columns.clusters, multipliers, rng=halves)
        if chosen is not None:
            best[quantity], found["selection_frequency"] = chosen, chosen.frequency
        for name, x in found.items():
            inference[quantity][name] = np.full(len(columns.conditions), np.nan)
            inference[quantity][name][cells] = x
        if quantity == primary:
            p_rank = rank_sweep(means, columns.conditions, cells, lost)
    return Sweep(cells, inference, best, primary, p_rank)


def _test_cells(
    columns: Columns, quantity: str, cells: Sequence[int], *, level: float, seed: int
) -> dict[str, Float[np.ndarray, " cell"]]:
    values, clusters = columns.steered[quantity][list(cells)], columns.clusters
    band = max_t_band(values, clusters, rng=start_stream(seed, "signs"), level=level)
    boot = bootstrap_t_intervals(values, clusters, rng=start_stream(seed, "limits"), unit="", level=level)
    limits = [(np.nan, np.nan) if e.low is None or e.high is None else (e.low, e.high) for e in boot]
    low, high = np.array(limits).T
    return {
        **{"boot_low": low, "boot_high": high, "band_low": band.low, "band_high": band.high},
        **{"p_signflip": band.p_alone, "p_max_t": band.p},
    }
