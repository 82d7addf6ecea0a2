"""Token scores, and what is read at places <-> the arrays of a block: rows of completions, then rows of places."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.records import Completions, Condition, Through, TokenScores
from completions_lp.work.cover import Block

Arrays = dict[str, np.ndarray]
_ANSWERS = ("answer", "other")
"""Names of the log probs that a token completes the target answer, and the other one."""


def split_scores(scores: TokenScores) -> tuple[Arrays, Arrays]:
    """The arrays of token scores as a block has them: unsteered, and under each condition."""
    unsteered: dict[str, Any] = {"logprob": scores.baseline, "entropy": scores.entropy}
    steered: dict[str, Any] = {"logprob": scores.logprob, "kl": scores.kl, "kl_reverse": scores.kl_reverse}
    if scores.answers is not None and scores.baseline_answers is not None:
        for side, name in enumerate(_ANSWERS):
            unsteered[name], steered[name] = scores.baseline_answers[..., side], scores.answers[..., side]
    unsteered, steered = ({k: v for k, v in part.items() if v is not None} for part in (unsteered, steered))
    return unsteered, steered


def stack_places(
    unsteered: Arrays,
    steered: Arrays,
    read: Float[np.ndarray, "place choice"],
    read_steered: Float[np.ndarray, "condition place choice"],
) -> tuple[Arrays, Arrays]:
    """Rows of places below those of completions, as wide as the wider ones; they have log probs alone."""
    width, n = max(read.shape[-1], unsteered["logprob"].shape[-1]), read.shape[0]

    def stack(arrays: Arrays, below: np.ndarray) -> Arrays:
        found = {}
        for name, values in arrays.items():
            lead, rows = values.shape[:-2], values.shape[-2]
            found[name] = np.full((*lead, rows + n, width), np.nan, dtype=values.dtype)
            found[name][..., :rows, : values.shape[-1]] = values
            if name == "logprob":
                found[name][..., rows:, : below.shape[-1]] = below
        return found

    return stack(unsteered, read), stack(steered, read_steered)


def join_scores(
    completions: Completions, conditions: Sequence[Condition], found: Block, through: Through
) -> TokenScores:
    """The scores of completions from the block that holds them."""
    unsteered, steered = found.unsteered, found.steered
    answers: dict[str, Any] = {}
    if _ANSWERS[0] in steered:
        answers["baseline_answers"] = np.stack([unsteered[name] for name in _ANSWERS], -1)
        answers["answers"] = np.stack([steered[name] for name in _ANSWERS], -1)
    return TokenScores(
        completions,
        tuple(conditions),
        unsteered["logprob"],
        steered["logprob"],
        entropy=unsteered.get("entropy"),
        kl=steered.get("kl"),
        kl_reverse=steered.get("kl_reverse"),
        through=through,
        **answers,
    )
