"""Surprisal less entropy of one prompt's completions: whether they were drawn from what is scored."""

import numpy as np
from jaxtyping import Bool, Float, Int


def average_excess_surprisal(
    counts: Int[np.ndarray, " completion"] | Float[np.ndarray, " completion"],
    mask: Bool[np.ndarray, "completion token"],
    logprob: Float[np.ndarray, "completion token"],
    entropy: Float[np.ndarray, "completion token"],
) -> float:
    """Mean over the draws of Σ_t (−log p_t(x_t) − H(p_t)), in nats: the sampler test of one prompt.

    Its expectation is 0 if the texts were drawn token by token from the very distribution that is scored; a
    temperature, a nucleus or another tokenisation shows. Source: numbers.md §2e, P12.

    Args:
        counts: Draws of each completion.
        mask: The tokens that belong to the text.
        logprob: Unsteered log prob of each token, in nats.
        entropy: Entropy of the unsteered next-token distribution at each token, in nats.
    """
    return float(np.where(mask, -logprob - entropy, 0.0).sum(-1) @ counts / counts.sum())


def estimate_excess_error(
    counts: Int[np.ndarray, " completion"] | Float[np.ndarray, " completion"],
    mask: Bool[np.ndarray, "completion token"],
    logprob: Float[np.ndarray, "completion token"],
    entropy: Float[np.ndarray, "completion token"],
) -> float:
    """Standard error, in nats, of ``average_excess_surprisal`` in a sound run, from the same draws.

    With e_t = −log p_t(x_t) − H(p_t), Σ_t e_t is a martingale from 0, so its variance is E Σ_t e_t²: less noisy than
    the spread of the sums. Where no rare token happens to be drawn that is far too small, and the mean too sure of
    itself; so the variance is never taken below E Σ_t e_t² p_t/(1 − p_t), what the entropy proves of it: the token
    drawn and all others taken as one, at the mean surprisal that the entropy leaves them, vary by that much already.

    Args:
        counts: Draws of each completion.
        mask: The tokens that belong to the text.
        logprob: Unsteered log prob of each token, in nats.
        entropy: Entropy of the unsteered next-token distribution at each token, in nats.
    """
    square = np.where(mask, logprob + entropy, 0.0) ** 2
    logp = np.where(mask & (logprob < 0), logprob, -np.inf)
    proven = square * np.exp(logp) / -np.expm1(logp)
    draws = counts.sum()
    return float(np.sqrt(np.maximum(*(part.sum(-1) @ counts / draws for part in (square, proven))) / draws))
