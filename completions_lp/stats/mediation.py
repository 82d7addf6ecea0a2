"""How much of the change of P(A) is in the answer itself, and how much in the text that leads to it.

Two hybrids of the unsteered model p and the steered q split it: "answer only" takes the probability of answering A from
q and all other tokens from p, "reasoning only" the reverse (the steered text, read by the unsteered model). Their
prefix weights are exact, so samples of p or q tell their P(A), too (numbers.md §3.5).
"""

import numpy as np
from jaxtyping import Float
from scipy.special import logit

from completions_lp.stats.steps import ByCondition, BySampler, ByToken, Drawn, Steps, Unsteered, pool_log_weight
from completions_lp.stats.survival import estimate_probability


def estimate_hybrids(
    steps: Steps,
    logprob: Unsteered,
    logprob_steered: ByToken,
    log_hazard: Unsteered,
    log_hazard_steered: ByToken,
    samplers: BySampler | None = None,
    draws: Drawn | None = None,
) -> tuple[ByCondition, ByCondition]:
    """P(A within K) with only the answer steered, and with only the tokens before it steered.

    A hybrid draws A with probability h^a and any other token v with (1 − h^a) b(v)/(1 − h^b); (a, b) is (q, p) for the
    answer and (p, q) for the reasoning. It has the survival estimator with the hybrid's weights. Log probs of tokens,
    and that the next one completes A, are in nats; ``samplers`` and ``draws`` as for ``pool_log_weight``, by default
    the unsteered model alone. Source: numbers.md §3.5.
    """
    if samplers is None or draws is None:
        samplers, draws = logprob[None], np.array([steps.draws])
    stays = _log_stay(logprob_steered, log_hazard_steered) - _log_stay(logprob, log_hazard)
    answer = pool_log_weight(steps, logprob + stays, samplers, draws)
    reasoning = pool_log_weight(steps, logprob_steered - stays, samplers, draws)
    unsteered = np.broadcast_to(log_hazard, log_hazard_steered.shape)
    return (estimate_probability(steps, answer, log_hazard_steered), estimate_probability(steps, reasoning, unsteered))


def _log_stay(
    logprob: Float[np.ndarray, "*lead completion token"], log_hazard: Float[np.ndarray, "*lead completion token"]
) -> Float[np.ndarray, "*lead completion token"]:
    """Log prob, in float64, that the next token does not complete A, at tokens that did not."""
    stay = -np.expm1(np.minimum(log_hazard, 0.0), dtype=np.float64)
    # The token drawn is among those that do not, so 1 − h is at least its probability, whatever the rounding.
    inside = np.maximum(stay, np.exp(logprob, dtype=np.float64))
    with np.errstate(divide="ignore"):
        return np.where(inside == 0, logprob, np.log(inside))


def split_change(
    unsteered: Float[np.ndarray, "*lead"],
    answer_only: Float[np.ndarray, "*lead"],
    reasoning_only: Float[np.ndarray, "*lead"],
    steered: Float[np.ndarray, "*lead"],
) -> tuple[Float[np.ndarray, "*lead"], Float[np.ndarray, "*lead"]]:
    """The change of logit P(A) as the sum of an answer share and a reasoning share (Shapley values), in nats.

    Answer: ½[(g_answer − g_unsteered) + (g_steered − g_reasoning)] with g = logit P(A); reasoning: the rest. NaN where
    a probability is 0 or 1. Source: numbers.md §3.5.
    """
    inside = [np.where((p > 0) & (p < 1), p, np.nan) for p in (unsteered, answer_only, reasoning_only, steered)]
    none, answer, reasoning, both = (logit(p) for p in inside)
    share = np.asarray((answer - none + both - reasoning) / 2)
    return share, np.asarray(both - none - share)
