"""What the visited texts prove about P(A within K), whatever was not visited; and when an estimate can be trusted."""

import numpy as np
from jaxtyping import Shaped

from completions_lp.stats.steps import ByCondition, ByToken, Steps
from completions_lp.stats.survival import Survival

CERTIFIED_WIDTH = 0.05
"""Bounds as narrow as this settle the matter without any estimate: 2 standard deviations of a share of 400 draws.

numbers.md §3.4 has 0.1. On the embedded model, estimates with bounds 0.05 to 0.1 apart were off by up to 0.12."""
MIN_ESS = 20.0
"""Fewer effective draws than this at a step that matters, and the estimate is red (numbers.md §3.4)."""
MEAN_WEIGHT = (0.8, 1.25)
"""A mean weight outside of this says that a fifth of the texts that steering makes likely were missed, or as many were
seen too often; numbers.md §3.4 has 0.74 to 1.35. The thresholds were chosen on half of the embedded model's prompts
(for the other half see analysis/README.md, *How far to trust a flag*). There, mean weights off by more than a factor of
1.8 went with a bias past the standard error; else estimates were as good as their errors say, with 15 or 50 effective
draws. Asking for more makes green scarcer, not truer: the noise that is left is in ``p_A_steered_se``."""
MIN_SURVIVING = 0.05
"""Steps that fewer texts than this reach cannot move P(A) by more, so they are not asked for a mean weight."""


def bound_probability(steps: Steps, logprob: ByToken, log_hazard: ByToken) -> tuple[ByCondition, ByCondition]:
    """Bounds on P(A within K) that hold for certain, however the completions were chosen: lower and upper.

    Σ_u q(u) h(u) over the distinct visited prefixes u without an answer ≤ P(A) ≤ 1 − Σ_x q(x) over the distinct texts
    that came to a stop without A. An estimate is clipped into them. ``logprob`` is that of each token under the
    conditions, ``log_hazard`` that the next token completes A, in nats. Source: numbers.md §3.4, P4.
    """
    before = steps.sum_before(logprob)
    low = np.exp(before[:, steps.first] + log_hazard[:, steps.first]).sum(-1)
    return _close(steps, logprob, low)


def bound_by_texts(steps: Steps, logprob: ByToken) -> tuple[ByCondition, ByCondition]:
    """Bounds from whole texts alone, for answers that no single token decides: Σ_x q(x) over the visited texts with A.

    The upper bound is that of ``bound_probability``, the lower one at most as high. Source: numbers.md §12.
    """
    return _close(steps, logprob, np.exp(steps.sum_open(logprob)[:, steps.reached]).sum(-1))


def _close(steps: Steps, logprob: ByToken, low: ByCondition) -> tuple[ByCondition, ByCondition]:
    """The lower bound and 1 less the probability of the texts that came to a stop without A, in order."""
    missed = np.exp(steps.sum_open(logprob)[:, steps.without]).sum(-1)
    low = np.clip(low, 0.0, 1.0)
    return low, np.clip(1 - missed, low, 1.0)


def grade_trust(
    low: ByCondition,
    high: ByCondition,
    survival: Survival,
    *,
    certified_width: float = CERTIFIED_WIDTH,
    min_ess: float = MIN_ESS,
    mean_weight: tuple[float, float] = MEAN_WEIGHT,
    min_surviving: float = MIN_SURVIVING,
) -> Shaped[np.ndarray, " condition"]:
    """How far the estimate of P(A within K) can be trusted: ``certified``, ``green`` or ``red``.

    Certified: the bounds are at most ``certified_width`` apart. Green: at every step that more than ``min_surviving``
    of the texts reach, at least ``min_ess`` effective draws and a mean weight within ``mean_weight``. Else red: draw
    from the steered model. Source: numbers.md §3.4, thresholds from a trained model (§13).
    """
    counts = survival.surviving > min_surviving
    enough = ~counts | (survival.ess >= min_ess)
    balanced = ~counts | ((survival.mean_weight >= mean_weight[0]) & (survival.mean_weight <= mean_weight[1]))
    green = (enough & balanced).all(-1)
    # An estimate from a single draw or of a step without draws is NaN or 0 here, so red.
    return np.where(high - low <= certified_width, "certified", np.where(green, "green", "red"))
