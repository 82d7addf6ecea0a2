"""Scores of unsteered completions in their window, kept where these tell too little: no top-up scores them again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from completions_lp.records import Completions, Condition, Measures, TokenScores

NAMES = ("baseline", "logprob", "baseline_answers", "answers")
"""What a top-up reads of single tokens."""
STEERED = ("logprob", "answers")
"""Those of them that have an axis of conditions."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Distinct completions of the unsteered and of the steered model, and how often each of them drew them."""

    completions: Completions
    """``counts`` adds both."""
    draws: Int[np.ndarray, "sampler completion"]
    """By the unsteered model, by the steered one."""
    places: Int[np.ndarray, " completion"]
    """Which of its prompt's unsteered completions each is the beginning of, in their order; -1: of none."""


class Windows:
    """By condition and prompt, what the first tokens of the unsteered completions scored, in every red cell."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Condition, str], dict[str, np.ndarray]] = {}

    def keep(self, scores: TokenScores, measures: Measures) -> None:
        """Keep what a top-up will ask for, of some prompts' scores and of what these tell."""
        window = scores.completions.window
        for c, prompt in np.argwhere(measures.trust == "red").tolist():
            condition = scores.conditions[c]
            if not condition.is_neutral:
                rows = scores.completions.rows_of(prompt)
                arrays = {name: getattr(scores, name) for name in NAMES if getattr(scores, name) is not None}
                self._kept[condition, scores.completions.prompts[prompt].id] = {
                    name: (values[c] if name in STEERED else values)[rows, :window] for name, values in arrays.items()
                }

    def pick_new(self, pool: Pool) -> Completions:
        """Those of a pool that are to be scored; where there is none, one of the others, to have the form of scores."""
        return pool.completions.take(np.flatnonzero(pool.places < 0).tolist() or [0])

    def score(
        self, pool: Pool, condition: Condition, score: Callable[[Completions, Condition], TokenScores]
    ) -> TokenScores:
        """The scores of a pool: kept ones, and for completions that the steered model alone has drawn, new ones."""
        completions, new = pool.completions, np.flatnonzero(pool.places < 0)
        frame = score(self.pick_new(pool), condition)
        arrays: dict[str, Any] = {}
        for name in (name for name in NAMES if getattr(frame, name) is not None):
            found = getattr(frame, name)[0] if name in STEERED else getattr(frame, name)
            whole = np.full((*completions.token_ids.shape, *found.shape[2:]), np.nan, dtype=found.dtype)
            whole[new, : found.shape[1]] = found[: len(new)]
            for k, prompt in enumerate(completions.prompts):
                rows = completions.rows_of(k)
                old = rows[pool.places[rows] >= 0]
                kept = self._kept[condition, prompt.id][name]
                whole[old, : kept.shape[1]] = kept[pool.places[old]]
            arrays[name] = whole[None] if name in STEERED else whole
        return replace(frame, completions=completions, **arrays)
