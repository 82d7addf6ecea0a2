"""TokenScores -> Increases: sums over tokens, and what must hold of them in every run."""

import numpy as np
from jaxtyping import Bool, Float

from completions_lp.records import Increases, TokenScores


def sum_tokens(scores: TokenScores) -> Increases:
    """Sum the scores over each completion's tokens, whole and before, at and after the answer. Sums are in float64."""
    completions = scores.completions
    token = np.arange(completions.token_ids.shape[1])
    answer = completions.answer_index[:, None]
    answered = answer >= 0
    last = np.where(answered, answer, completions.labelling.within - 1)
    delta = np.where(completions.mask, scores.increase, 0.0).astype(np.float64)

    def total(keep: Bool[np.ndarray, "completion token"]) -> Float[np.ndarray, "condition completion"]:
        return np.asarray(np.einsum("cst,st->cs", delta, keep.astype(np.float64)))

    undefined = np.where(answered[:, 0], 0.0, np.nan)
    return Increases(
        completions=completions,
        conditions=scores.conditions,
        baseline=np.where(completions.mask, scores.baseline, 0.0).sum(-1, dtype=np.float64),
        increase=delta.sum(-1),
        increase_to_answer=total(token <= last),
        before_answer=total(token < answer) + undefined,
        at_answer=total(token == answer) + undefined,
        after_answer=total((token > answer) & answered) + undefined,
    )


def check_increases(increases: Increases) -> dict[str, float]:
    """What must hold in every run, as numbers.

    ``noise_floor``: the largest |increase| of a completion under multiplier 0, in nats (NaN without such a condition).
    ``sampler_gap``: the largest difference, per completion, between the log prob when it was drawn and when it was
    scored. Both are rounding where the instrument works.
    """
    zero = [i for i, condition in enumerate(increases.conditions) if condition.multiplier == 0]
    completions = increases.completions
    gap = increases.baseline - np.where(completions.mask, completions.logprob, 0.0).sum(-1, dtype=np.float64)
    return {
        "noise_floor": float(np.abs(increases.increase[zero]).max(initial=0.0)) if zero else float("nan"),
        "sampler_gap": float(np.abs(gap).max(initial=0.0)),
    }
