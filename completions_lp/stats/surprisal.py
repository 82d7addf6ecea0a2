"""Surprisal less entropy of one prompt's completions: whether they were drawn from what is scored."""

import numpy as np

from completions_lp.stats.steps import Counts, Mask, Unsteered


def average_excess_surprisal(counts: Counts, mask: Mask, logprob: Unsteered, entropy: Unsteered) -> float:
    """Mean over the draws of Σ_t (−log p_t(x_t) − H(p_t)), in nats: the sampler test of one prompt.

    Its expectation is 0 if the texts were drawn token by token from the very distribution that is scored, whose log
    probs and entropies these are; a temperature, a nucleus or another tokenisation shows. Source: numbers.md §2e, P12.
    """
    return float(np.where(mask, -logprob - entropy, 0.0).sum(-1) @ counts / counts.sum())


def estimate_excess_error(counts: Counts, mask: Mask, logprob: Unsteered, entropy: Unsteered) -> float:
    """Standard error, in nats, of ``average_excess_surprisal`` in a sound run, from the same draws.

    With e_t = −log p_t(x_t) − H(p_t), Σ_t e_t is a martingale from 0, of variance E Σ_t e_t²: less noisy than the
    spread of the sums, but far too small where no rare token is drawn. So it is never taken below
    E Σ_t e_t² p_t/(1 − p_t), what the entropy proves of it: the token drawn against all others, at the mean surprisal
    that the entropy leaves them.
    """
    square = np.where(mask, logprob + entropy, 0.0) ** 2
    logp = np.where(mask & (logprob < 0), logprob, -np.inf)
    proven = square * np.exp(logp) / -np.expm1(logp)
    draws = counts.sum()
    return float(np.sqrt(np.maximum(*(part.sum(-1) @ counts / draws for part in (square, proven))) / draws))
