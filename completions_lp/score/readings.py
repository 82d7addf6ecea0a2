"""Scores and what is read at the end of reasonings -> Readings."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from completions_lp.records import Completions, Readings, Through, Tokenizer, TokenScores
from completions_lp.records.readings import TENTHS
from completions_lp.score.places import Endings, Place, find_endings

Scored = tuple[TokenScores, Readings | None]
"""Scores of single tokens, and what was read at the end of reasonings, if that was asked for."""
Work = Callable[
    [Sequence[Place]],
    tuple[TokenScores, Float[np.ndarray, "place choice"], Float[np.ndarray, "condition place choice"]],
]
"""Scores completions, and reads at some places in the same passes."""


def score_endings(
    completions: Completions, work: Work, tokenizer: Tokenizer | None, *, cue: str = "", through: Through = "end"
) -> Scored:
    """The scores of completions and, if a tokenizer is given, what is read at the end of their reasoning."""
    if tokenizer is None:
        return work(())[0], None
    endings = find_endings(tokenizer, completions, cue=cue, through=through)
    scores, unsteered, steered = work(endings.places)
    return scores, make_readings(scores, endings, unsteered, steered)


def make_readings(
    scores: TokenScores,
    endings: Endings,
    unsteered: Float[np.ndarray, "place choice"],
    steered: Float[np.ndarray, "condition place choice"],
) -> Readings:
    """The readings of scored completions, from those of the distinct places at which their reasoning ends.

    Sums are in float64; NaN where a token's log prob is no finite number.
    """
    completions = scores.completions
    choices = max((len(prompt.letters) for prompt in completions.prompts), default=0)
    token = np.arange(completions.token_ids.shape[1])
    settled = token < endings.through[:, None]
    reach = np.where(settled, scores.baseline, 0.0).sum(-1, dtype=np.float64)
    increase = scores.increase.astype(np.float64)
    change = np.where(settled, increase, 0.0).sum(-1)
    return Readings(
        completions,
        scores.conditions,
        endings.at,
        endings.through,
        reach,
        reach + change,
        unsteered[endings.index, :choices].astype(np.float64),
        steered[:, endings.index, :choices].astype(np.float64),
        _sum_tenths(increase, endings.at),
    )


def _sum_tenths(
    increase: Float[np.ndarray, "condition completion token"], ends: Int[np.ndarray, " completion"]
) -> Float[np.ndarray, "condition completion 10"]:
    """Increase in each tenth of the tokens before the end, in nats; NaN where there is none."""
    n = np.maximum(ends, 1)[:, None]
    token = np.arange(increase.shape[-1])
    inside = np.where(token < ends[:, None], increase, 0.0)
    # Of each token, the share that lies in a tenth, one tenth at a time: all at once are ten times the tokens.
    shares = (
        np.clip(np.minimum(token + 1, n * (k + 1) / TENTHS) - np.maximum(token, n * k / TENTHS), 0.0, 1.0)
        for k in range(TENTHS)
    )
    tenths = np.stack([np.einsum("cst,st->cs", inside, share) for share in shares], -1)
    return np.asarray(tenths + np.where(ends > 0, 0.0, np.nan)[:, None])
