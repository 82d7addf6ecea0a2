"""Numbers -> Estimates. Pure numpy and scipy; every function says what it estimates and from where the formula is.

Within a prompt: ``steps`` (where the answer was still to come), ``survival`` (P(A) without steered samples), ``bounds``
(what is proven of it, and when to trust it), ``increases`` (with the next token averaged out), ``mediation`` (answer or
reasoning). Over prompts: ``intervals``, ``resampling``. Over conditions: ``sweeps``, ``directions``.
"""

from completions_lp.stats.bounds import bound_probability, grade_trust
from completions_lp.stats.directions import (
    MIN_DIRECTIONS,
    band_of_directions,
    predict_from_directions,
    rank_against_directions,
)
from completions_lp.stats.increases import (
    average_excess_surprisal,
    estimate_increase,
    estimate_kl,
    estimate_reverse_kl,
)
from completions_lp.stats.intervals import (
    MIN_CLUSTERS,
    average_by_group,
    fixed_prompt_se,
    flip_signs,
    mean_interval,
    mean_t,
    measure_spread,
)
from completions_lp.stats.mediation import estimate_hybrids, split_change
from completions_lp.stats.resampling import bootstrap_t_intervals, contrast_interval, ratio_interval
from completions_lp.stats.steps import Steps, follow_steps, pool_log_weight
from completions_lp.stats.survival import Survival, estimate_incidence, estimate_probability, estimate_survival
from completions_lp.stats.sweeps import (
    Band,
    BestCell,
    adjust_false_discovery,
    adjust_holm,
    max_t_band,
    report_best_cell,
    share_below_zero,
)

__all__ = [
    "MIN_CLUSTERS",
    "MIN_DIRECTIONS",
    "Band",
    "BestCell",
    "Steps",
    "Survival",
    "adjust_false_discovery",
    "adjust_holm",
    "average_by_group",
    "average_excess_surprisal",
    "band_of_directions",
    "bootstrap_t_intervals",
    "bound_probability",
    "contrast_interval",
    "estimate_hybrids",
    "estimate_incidence",
    "estimate_increase",
    "estimate_kl",
    "estimate_probability",
    "estimate_reverse_kl",
    "estimate_survival",
    "fixed_prompt_se",
    "flip_signs",
    "follow_steps",
    "grade_trust",
    "max_t_band",
    "mean_interval",
    "mean_t",
    "measure_spread",
    "pool_log_weight",
    "predict_from_directions",
    "rank_against_directions",
    "ratio_interval",
    "report_best_cell",
    "share_below_zero",
    "split_change",
]
