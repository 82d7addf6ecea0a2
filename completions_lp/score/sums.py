"""TokenScores -> Increases: sums over tokens, and what must hold of them in every run."""

import numpy as np
from jaxtyping import Bool, Float

from completions_lp.records import Increases, TokenScores


def find_broken(
    baseline: Float[np.ndarray, "completion token"],
    logprob: Float[np.ndarray, "condition completion token"],
    mask: Bool[np.ndarray, "completion token"],
) -> Bool[np.ndarray, "condition completion"]:
    """Completions with a token whose log prob is no finite number, unsteered or under the condition."""
    return np.asarray((mask & ~(np.isfinite(baseline) & np.isfinite(logprob))).any(-1))


def sum_tokens(scores: TokenScores) -> Increases:
    """Sum the scores over each completion's tokens, whole and before, at and after the answer. Sums are in float64.

    Through the answer is through the last token that bears on the label: by a rule that is no first passage, all of the
    window. All increases of a completion are NaN under a condition where a token's log prob is no finite number. What
    takes tokens that are not scored is NaN: the increase of a whole completion that goes on, and its part after the
    answer.
    """
    completions, mask = scores.completions, scores.mask
    token = np.arange(completions.token_ids.shape[1])
    answer = completions.answer_index[:, None]
    answered = answer >= 0
    decided = answered & completions.labelling.is_first_passage  # else by the window as a whole
    last = np.where(decided, answer, completions.window - 1)
    delta = np.where(mask, scores.increase, 0.0).astype(np.float64)
    delta[find_broken(scores.baseline, scores.logprob, mask)] = np.nan
    unscored = np.where(mask.sum(-1) == completions.lengths, 0.0, np.nan)

    def total(keep: Bool[np.ndarray, "completion token"]) -> Float[np.ndarray, "condition completion"]:
        return np.asarray(np.einsum("cst,st->cs", delta, keep.astype(np.float64)))

    undefined = np.where(answered[:, 0], 0.0, np.nan)
    reasoning = np.full(len(completions), -1) if completions.reasoning is None else completions.reasoning
    known = np.where((reasoning >= 0) & (reasoning <= mask.sum(-1)), 0.0, np.nan)
    return Increases(
        completions=completions,
        conditions=scores.conditions,
        baseline=_sum_baseline(scores),
        increase=delta.sum(-1) + unscored,
        increase_to_answer=total(token <= last),
        before_answer=total(token < answer) + undefined,
        at_answer=total(token == answer) + undefined,
        after_answer=total((token > answer) & answered) + undefined + unscored,
        through=scores.through,
        in_reasoning=total(token < reasoning[:, None]) + known,
    )


def _sum_baseline(scores: TokenScores) -> Float[np.ndarray, " completion"]:
    """Unsteered log prob of what is scored of each completion; NaN where that of a token is no finite number."""
    known = np.where(scores.mask, scores.baseline, 0.0)
    finite = np.isfinite(known)
    sums = np.where(finite, known, 0.0).sum(-1, dtype=np.float64)
    return np.where(finite.all(-1), sums, np.nan)


def check_increases(increases: Increases) -> dict[str, float]:
    """What must hold in every run, as numbers.

    ``noise_floor``: the largest |increase| of a completion under multiplier 0, in nats (NaN without such a condition);
    through its answer or the window, where it is not scored through its end. ``sampler_gap``: the largest difference,
    per completion, between the log prob when it was drawn and when it was scored, of the tokens that are scored, and
    ``sampler_gap_rms`` their root mean square (NaN without completions). All are rounding where the instrument works.
    """
    zero = [i for i, condition in enumerate(increases.conditions) if condition.is_neutral]
    completions = increases.completions
    scored = np.arange(completions.logprob.shape[1]) < completions.count_scored(increases.through)[:, None]
    gap = increases.baseline - np.where(scored, completions.logprob, 0.0).sum(-1, dtype=np.float64)
    moved = np.where(increases.is_whole, increases.increase, increases.increase_to_answer)
    return {
        "noise_floor": float(np.abs(moved[zero]).max(initial=0.0)) if zero else float("nan"),
        "sampler_gap": float(np.abs(gap).max()) if len(gap) else float("nan"),
        "sampler_gap_rms": float(np.sqrt(np.square(gap).mean())) if len(gap) else float("nan"),
    }
