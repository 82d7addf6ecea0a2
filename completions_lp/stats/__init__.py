"""Numbers -> Estimates. Pure numpy and scipy; every function says what it estimates and from where the formula is.

Within a prompt: ``steps``, ``survival``, ``bounds``, ``increases``, ``mediation``, ``readings``, ``surprisal``. Over
prompts: ``intervals``, ``resampling``. Over conditions: ``sweeps``, ``directions``, ``rounding``.
"""

from completions_lp.stats.bounds import MIN_SURVIVING, bound_by_texts, bound_probability, grade_trust
from completions_lp.stats.directions import (
    MIN_DIRECTIONS,
    band_of_directions,
    predict_from_directions,
    rank_against_directions,
)
from completions_lp.stats.increases import estimate_increase, estimate_kl, estimate_reverse_kl
from completions_lp.stats.intervals import (
    FEW_CLUSTERS,
    MIN_CLUSTERS,
    average_by_group,
    difference_interval,
    fixed_prompt_se,
    mean_interval,
    mean_intervals,
    mean_t,
    measure_spread,
    share_below_zero,
)
from completions_lp.stats.mediation import estimate_hybrids, split_change
from completions_lp.stats.readings import Cells, average_readings, split_readings
from completions_lp.stats.resampling import bootstrap_t_intervals, contrast_intervals, ratio_intervals, start_stream
from completions_lp.stats.rounding import join_signs
from completions_lp.stats.steps import Steps, follow_steps, pool_log_weight, weigh_texts
from completions_lp.stats.surprisal import average_excess_surprisal, estimate_excess_error
from completions_lp.stats.survival import (
    Survival,
    estimate_change_error,
    estimate_incidence,
    estimate_probability,
    estimate_share,
    estimate_survival,
)
from completions_lp.stats.sweeps import (
    Band,
    BestCell,
    adjust_false_discovery,
    adjust_holm,
    choose_best_cell,
    max_t_band,
    promise_sign,
)

__all__ = [
    "FEW_CLUSTERS", "MIN_CLUSTERS", "MIN_DIRECTIONS", "MIN_SURVIVING", "Band", "BestCell", "Cells", "Steps",
    "Survival", "adjust_false_discovery", "adjust_holm", "average_by_group", "average_excess_surprisal",
    "average_readings", "band_of_directions", "bootstrap_t_intervals", "bound_by_texts", "bound_probability",
    "choose_best_cell", "contrast_intervals", "difference_interval", "estimate_change_error", "estimate_excess_error",
    "estimate_hybrids", "estimate_incidence", "estimate_increase", "estimate_kl", "estimate_probability",
    "estimate_reverse_kl", "estimate_share", "estimate_survival", "fixed_prompt_se", "follow_steps", "grade_trust",
    "join_signs", "max_t_band", "mean_interval", "mean_intervals", "mean_t", "measure_spread", "pool_log_weight",
    "predict_from_directions", "promise_sign", "rank_against_directions", "ratio_intervals", "share_below_zero",
    "split_change", "split_readings", "start_stream", "weigh_texts",
]  # fmt: skip
