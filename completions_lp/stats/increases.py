"""Log-prob increases and divergences of one prompt with the sampling of the next token averaged out.

Each is the exact mean over the next token, given those before it, not the one drawn ("Rao–Blackwell"): as a rule far
less noisy (numbers.md §3.3, exception: O4; Amini, Vieira and Cotterell 2025, arXiv 2504.10637).
"""

import numpy as np

from completions_lp.stats.steps import ByCondition, ByToken, Counts, Mask, Steps, Unsteered


def estimate_increase(
    steps: Steps, log_weight: ByToken, log_hazard: Unsteered, log_hazard_steered: ByToken
) -> ByCondition:
    """Mean log-prob increase through the answer over the texts that give A, in nats, from every text's every prefix.

    [Σ_t Ŝ_{t−1} mean(h_t (log W_t + log h^q_t − log h_t))] / P(A), means over the draws without A before t: defined for
    a prompt none of whose completions gave A, NaN where the unsteered model never gives it. The completing tokens count
    as one symbol, so it is at least the token-level mean, and at most log(P_q(A)/P_p(A)). ``log_weight`` is
    ``steps.sum_before(logq − logp)``; the hazards are log probs that the next token completes A. Source: numbers.md P5.
    """
    hazard = steps.read_hazard(log_hazard)
    alive = steps.counts[:, None] * steps.without_target
    total = alive.sum(0)
    share = np.divide(alive, total, out=np.zeros_like(hazard), where=total > 0) * hazard
    surviving = np.cumprod(np.insert(1 - share.sum(0), 0, 1.0))
    share *= surviving[:-1]
    used = share > 0
    with np.errstate(invalid="ignore"):
        gain = log_weight[:, used] + log_hazard_steered[:, used] - log_hazard[used]
        return np.asarray(gain @ share[used] / np.float64(1 - surviving[-1]))


def estimate_kl(counts: Counts, mask: Mask, kl: ByToken) -> ByCondition:
    """KL(p‖q) of the unsteered from the steered distribution of texts, in nats per completion.

    The mean over the draws of Σ_t KL(p_t‖q_t), which is ``kl``, in nats. ``mask`` has the tokens of the text: all, or
    those up to the answer. Over the mean number of tokens it is nats per token. Source: numbers.md §3.3.
    """
    return np.asarray(np.einsum("cst,s->c", np.where(mask, kl, 0.0), counts) / counts.sum())


def estimate_reverse_kl(counts: Counts, mask: Mask, log_ratio: ByToken, kl_reverse: ByToken) -> ByCondition:
    """KL(q‖p) of the steered from the unsteered distribution of texts, in nats per completion.

    The mean of Σ_t W_t KL(q_t‖p_t) over the tokens of ``mask``; log W_t is the sum of ``log_ratio``, logq − logp,
    before t. Unbiased, and noisy where steering is strong; infinite where the weights overflow. Source: numbers.md
    §3.3.
    """
    log_weight = np.zeros(log_ratio.shape)
    np.cumsum(np.where(mask, log_ratio, 0.0)[..., :-1], axis=-1, out=log_weight[..., 1:])
    top = log_weight.max(axis=(1, 2), keepdims=True)
    weighted = np.exp(log_weight - top) * np.where(mask, kl_reverse, 0.0)
    sums = np.einsum("cst,s->c", weighted, counts)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(sums == 0, 0.0, np.exp(top[:, 0, 0]) * sums / counts.sum())
