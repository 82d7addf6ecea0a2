"""What the model would answer at the end of the reasoning that each completion has: a read-out without ``generate``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from completions_lp.records.base import freeze, require
from completions_lp.records.completions import Completions
from completions_lp.records.steering import Condition

TENTHS = 10
"""Parts of a reasoning, by which it is told where in it the log prob moves."""


@dataclass(frozen=True, eq=False, repr=False)
class Readings:
    """Log probs of all answers at the end of each completion's reasoning, unsteered and under every condition.

    All in nats. Each is the log of the summed probability of all tokens that spell the answer there.
    """

    completions: Completions
    conditions: tuple[Condition, ...]
    at: Int[np.ndarray, " completion"]
    """Tokens of the completion after which its answers are read."""
    through: Int[np.ndarray, " completion"]
    """Tokens of the completion that settle where that is: no later one bears on it."""
    reach: Float[np.ndarray, " completion"]
    """Unsteered log prob of these tokens."""
    steered_reach: Float[np.ndarray, "condition completion"]
    baseline: Float[np.ndarray, "completion choice"]
    """Unsteered log prob of each answer of its prompt, in the order of ``Prompt.letters``; NaN past the last one, and
    where an answer cannot be told from another."""
    logprob: Float[np.ndarray, "condition completion choice"]
    tenths: Float[np.ndarray, "condition completion 10"]
    """Log-prob increase in each tenth of the tokens before: a token that is in two counts in either as far as it is."""

    ARRAYS = ("at", "through", "reach", "steered_reach", "baseline", "logprob", "tenths")
    STEERED = ("steered_reach", "logprob", "tenths")
    """Those of them with an axis of conditions."""

    def __repr__(self) -> str:
        return f"Readings({len(self.conditions)} conditions x {self.completions!r})"

    def __post_init__(self) -> None:
        freeze(self, *self.ARRAYS)
        n, conditions = len(self.completions), len(self.conditions)
        choices = max((len(prompt.letters) for prompt in self.completions.prompts), default=0)
        want = {"at": (n,), "through": (n,), "reach": (n,), "steered_reach": (conditions, n)}
        want |= {"baseline": (n, choices), "logprob": (conditions, n, choices), "tenths": (conditions, n, TENTHS)}
        for name, needed in want.items():
            got = getattr(self, name).shape
            require(got == needed, f"readings: {name} has shape {got}, needs {needed}")

    @classmethod
    def join(cls, completions: Completions, parts: Sequence["Readings"]) -> "Readings":
        """Readings of several sets of prompts, one after the other, as those of all their ``completions``."""
        first, rows = parts[0], completions.find_rows([part.completions for part in parts])
        require(all(p.conditions == first.conditions for p in parts), "readings of different conditions do not join")
        choices = max((part.baseline.shape[-1] for part in parts), default=0)

        def gather(name: str) -> np.ndarray:
            arrays = [getattr(part, name) for part in parts]
            if name in ("baseline", "logprob"):
                wide = [(0, 0)] * (arrays[0].ndim - 1)
                arrays = [np.pad(a, [*wide, (0, choices - a.shape[-1])], constant_values=np.nan) for a in arrays]
            axis = 1 if name in cls.STEERED else 0
            return np.concatenate(arrays, axis=axis).take(rows, axis=axis)

        return cls(completions, first.conditions, **{name: gather(name) for name in cls.ARRAYS})

    def of_seed(self, seed: int) -> "Readings":
        """Those of what one seed drew, by its number; see ``Completions.of_seed``."""
        rows = np.flatnonzero(np.asarray(self.completions.seed_counts)[:, seed])
        parts = {name: getattr(self, name).take(rows, axis=1 if name in self.STEERED else 0) for name in self.ARRAYS}
        return replace(self, completions=self.completions.of_seed(seed), **parts)

    def select(self, conditions: Sequence[int]) -> "Readings":
        """Those of some conditions, by their indices."""
        chosen = list(conditions)
        return replace(
            self,
            conditions=tuple(self.conditions[c] for c in chosen),
            **{name: getattr(self, name)[chosen] for name in self.STEERED},
        )
