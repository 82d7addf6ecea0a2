"""P(A within K) under any condition, from the unsteered samples alone: hazards, weighted and multiplied up.

At each step the mean probability that the next token completes A, over the texts still without A, weighted by how much
likelier steering made them: less noisy than importance sampling (numbers.md §3.2).
"""

from dataclasses import dataclass

import numpy as np

from completions_lp.stats.steps import ByCondition, ByStep, ByText, ByToken, Mask, Steps


@dataclass(frozen=True, eq=False)
class Survival:
    """An estimate of P(A within K), and by step what tells whether to believe it."""

    probability: ByCondition
    se: ByCondition
    """Sampling noise of this prompt's estimate (influence function); too small where rare branches were not seen."""
    surviving: ByStep
    """Estimated probability of no A before this token."""
    ess: ByStep
    """Effective draws (ΣcW)²/ΣcW² among those without A before this token."""
    mean_weight: ByStep
    """Weight of the texts without A, over ``surviving``: 1 where nothing that matters went unseen."""
    influence: ByText | None = None
    """What a draw of each completion moves ``probability`` by, times the number of draws."""


def estimate_survival(steps: Steps, log_weight: ByToken, log_hazard: ByToken) -> Survival:
    """P(A within K), the survival ("Kaplan–Meier") estimator.

    ĥ_t = Σ c W_t h_t / Σ c W_t over the texts without A before t, and P(A) = 1 − Π_t (1 − ĥ_t). Bias is O(1/S). Its
    standard error is sd(IF)/√S with IF_s = (1 − P) Σ_t W_st (h_st − ĥ_t) / [mean(W_t) (1 − ĥ_t)]; NaN for a single
    draw. Source: numbers.md P3.

    Args:
        steps: The completions of one prompt.
        log_weight: log W_t of the tokens before each token, in nats: ``steps.sum_before(logq − logp)``, zeros for the
            unsteered model, or ``pool_log_weight``.
        log_hazard: Log prob, under the condition, that the next token completes A, in nats.
    """
    weight, top = _scale(steps.without_target, log_weight)
    hazard = steps.read_hazard(log_hazard)
    total = np.einsum("cst,s->ct", weight, steps.counts)
    rate = _average(weight, hazard, steps, total)
    influence = _find_influence(weight, hazard, rate, total, steps)
    surviving = np.cumprod(np.insert(1 - rate, 0, 1.0, axis=-1), axis=-1)
    squares = np.einsum("cst,cst,s->ct", weight, weight, steps.counts)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean_weight = np.exp(top + np.log(total / steps.draws) - np.log(surviving[:, :-1]))
    return Survival(
        probability=1 - surviving[:, -1],
        se=_spread(influence, steps),
        surviving=surviving[:, :-1],
        ess=np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0),
        mean_weight=mean_weight,
        influence=influence,
    )


def estimate_change_error(steps: Steps, before: Survival, after: Survival) -> ByCondition:
    """Standard error of the change of P(A) between two estimates from the same draws, the first of a single condition.

    sd(IF_after − IF_before)/√S: what moves both alike cancels, so it is as a rule far below the two errors' sum.
    """
    if before.influence is None or after.influence is None:
        return np.full(len(after.probability), np.nan)
    return _spread(after.influence - before.influence, steps)


def estimate_probability(steps: Steps, log_weight: ByToken, log_hazard: ByToken) -> ByCondition:
    """P(A within K) alone: ``estimate_survival(...).probability``, at a third of the cost."""
    weight, _ = _scale(steps.without_target, log_weight)
    total = np.einsum("cst,s->ct", weight, steps.counts)
    rate = _average(weight, steps.read_hazard(log_hazard), steps, total)
    return np.asarray(1 - np.prod(1 - rate, axis=-1))


def estimate_incidence(
    steps: Steps, log_weight: ByToken, log_hazard: ByToken, log_hazard_other: ByToken
) -> tuple[ByCondition, ByCondition]:
    """P(A first) and P(B first) within K as competing risks, the Aalen–Johansen estimator.

    F_A = Σ_t Ŝ_{t−1} ĥ^A_t with Ŝ_t = Π (1 − ĥ^A − ĥ^B) over the texts with neither before t; likewise F_B.
    Their sum is the mass on the two answers. Arguments as for ``estimate_survival``. Source: numbers.md §3.2.
    """
    weight, _ = _scale(steps.without_either, log_weight)
    total = np.einsum("cst,s->ct", weight, steps.counts)
    rate = _average(weight, steps.read_hazard(log_hazard), steps, total)
    rate_other = _average(weight, steps.read_hazard(log_hazard_other), steps, total)
    left = np.maximum(1 - rate - rate_other, 0.0)
    surviving = np.cumprod(np.insert(left, 0, 1.0, axis=-1), axis=-1)[:, :-1]
    return (surviving * rate).sum(-1), (surviving * rate_other).sum(-1)


def estimate_share(steps: Steps, log_weight: ByText) -> Survival:
    """P(A within K) where no single token's probability of completing A is known: self-normalised importance sampling.

    Σ c w 1_A / Σ c w with the weights of the texts through their stop (``weigh_texts``, in nats); its standard error by
    the delta method, ESS and mean weight of the one step that there is. Use ``estimate_survival`` wherever it can be
    had: this is several times noisier (numbers.md §3.1, §3.2).
    """
    top = log_weight.max(-1, keepdims=True)
    top[~np.isfinite(top)] = 0.0
    weight = np.exp(log_weight - top)
    total = weight @ steps.counts
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = (weight @ (steps.counts * steps.target)) / total
        influence = weight * (steps.target - share[:, None]) * (steps.draws / total)[:, None]
        ess = total**2 / (weight**2 @ steps.counts)
        mean_weight = np.exp(top[:, 0] + np.log(total / steps.draws))
    surviving = np.ones((len(total), 1))
    return Survival(share, _spread(influence, steps), surviving, ess[:, None], mean_weight[:, None], influence)


def _scale(alive: Mask, log_weight: ByToken) -> tuple[ByToken, ByStep]:
    """Weights of the texts at risk, divided by the largest of their step, and the log of that largest."""
    masked = np.where(alive, log_weight, -np.inf)
    top = masked.max(axis=1)
    top[~np.isfinite(top)] = 0.0  # nobody is left, or nobody whom the condition allows
    masked -= top[:, None]
    return np.exp(masked, out=masked), top


def _average(weight: ByToken, values: ByToken, steps: Steps, total: ByStep) -> ByStep:
    """Weighted mean over the draws at each step; 0 where none is left."""
    sums = np.einsum("cst,cst,s->ct", weight, values, steps.counts)
    return np.asarray(np.divide(sums, total, out=np.zeros_like(total), where=total > 0))


def _find_influence(weight: ByToken, hazard: ByToken, rate: ByStep, total: ByStep, steps: Steps) -> ByText:
    """Influence of a draw of each completion on P(A)."""
    # (1 − P)/(1 − ĥ_t) as the product of the other steps' factors: finite where ĥ_t is 1.
    factors = np.insert(1 - rate, (0, rate.shape[1]), 1.0, axis=-1)
    before, after = np.cumprod(factors, axis=-1), np.cumprod(factors[:, ::-1], axis=-1)[:, ::-1]
    scale = np.divide(steps.draws, total, out=np.zeros_like(total), where=total > 0)
    scale *= before[:, :-2] * after[:, 2:]
    whole = np.einsum("cst,cst,ct->cs", weight, hazard, scale)
    return np.asarray(whole - np.einsum("cst,ct->cs", weight, scale * rate))


def _spread(influence: ByText, steps: Steps) -> ByCondition:
    """Standard error by the influence function, sd(IF)/√S; NaN for a single draw."""
    if steps.draws <= 1:
        return np.full(len(influence), np.nan)
    return np.asarray(np.sqrt((influence**2 @ steps.counts) / (steps.draws * (steps.draws - 1))))
