"""How likely it was, per token and summed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from completions_lp.records.base import Through, freeze, require
from completions_lp.records.completions import Completions
from completions_lp.records.measures import Measures, Profile
from completions_lp.records.readings import Readings
from completions_lp.records.steering import Condition


@dataclass(frozen=True, eq=False, repr=False)
class TokenScores:
    """Log prob of every token of every completion, unsteered and under every condition, in nats."""

    completions: Completions
    conditions: tuple[Condition, ...]
    baseline: Float[np.ndarray, "completion token"]
    """Unsteered, by the same code path as the steered rows; NaN past what is scored of a completion."""
    logprob: Float[np.ndarray, "condition completion token"]
    entropy: Float[np.ndarray, "completion token"] | None = None
    """Entropy of the unsteered distribution of each token; with ``kl``."""
    kl: Float[np.ndarray, "condition completion token"] | None = None
    """KL(unsteered || steered) of each token's distribution; None where it was left out."""
    kl_reverse: Float[np.ndarray, "condition completion token"] | None = None
    """KL(steered || unsteered)."""
    baseline_answers: Float[np.ndarray, "completion token 2"] | None = None
    """Unsteered log prob that this token completes the target answer, and the other one; -inf where no token would."""
    answers: Float[np.ndarray, "condition completion token 2"] | None = None
    """The same under each condition; None where no target was given or no single token decides (``is_by_token``)."""
    through: Through = "end"
    """How far completions are scored."""

    def __repr__(self) -> str:
        return f"TokenScores({len(self.conditions)} conditions x {self.completions!r})"

    def __post_init__(self) -> None:
        shape = self.completions.token_ids.shape
        steered = (len(self.conditions), *shape)
        want = {"baseline": shape, "entropy": shape, "baseline_answers": (*shape, 2)}
        want |= {"logprob": steered, "kl": steered, "kl_reverse": steered, "answers": (*steered, 2)}
        for name, needed in want.items():
            if getattr(self, name) is not None:
                freeze(self, name)
                got = getattr(self, name).shape
                require(got == needed, f"scores: {name} has shape {got}, needs {needed}")
        require(len(set(self.conditions)) == len(self.conditions), "scores: a condition occurs twice")

    def select(self, conditions: Sequence[int]) -> "TokenScores":
        """Those of some conditions, by their indices."""
        steered: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[list(conditions)]
            for name in ("logprob", "kl", "kl_reverse", "answers")
        }
        return replace(self, conditions=tuple(self.conditions[c] for c in conditions), **steered)

    @property
    def mask(self) -> Bool[np.ndarray, "completion token"]:
        """True at the tokens that are scored."""
        width = self.completions.token_ids.shape[1]
        return np.asarray(np.arange(width) < self.completions.count_scored(self.through)[:, None])

    @property
    def increase(self) -> Float[np.ndarray, "condition completion token"]:
        """Steered minus unsteered log prob of each token, in nats; NaN where both are infinite."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.logprob - self.baseline)


@dataclass(frozen=True, eq=False, repr=False)
class TokenIncreases:
    """Log-prob increase of every single token under some conditions: what is kept of it for people to look at."""

    conditions: tuple[Condition, ...]
    increase: Float[np.ndarray, "condition completion token"]
    """Steered minus unsteered log prob, in nats, float32; NaN past what is scored of a completion."""

    def __repr__(self) -> str:
        return f"TokenIncreases({len(self.conditions)} conditions x {self.increase.shape[1]} completions)"

    def __post_init__(self) -> None:
        freeze(self, "increase")
        got, want = self.increase.shape[0], len(self.conditions)
        require(got == want, f"token increases: increase has {got} conditions, needs {want}")


@dataclass(frozen=True, eq=False, repr=False)
class Increases:
    """Scores summed over tokens: the log-prob increase of every completion, whole and in parts, in nats, float64."""

    completions: Completions
    conditions: tuple[Condition, ...]
    baseline: Float[np.ndarray, " completion"]
    """Unsteered log prob of what is scored of the completion."""
    increase: Float[np.ndarray, "condition completion"]
    """Steered minus unsteered, over all tokens, an end-of-sequence token included; NaN where not all are scored."""
    increase_to_answer: Float[np.ndarray, "condition completion"]
    """Through the token that completes the answer; without an answer, or by a rule that is no first passage, through
    the end of the window or the text."""
    before_answer: Float[np.ndarray, "condition completion"]
    at_answer: Float[np.ndarray, "condition completion"]
    after_answer: Float[np.ndarray, "condition completion"]
    """Before, at and after the answer's token: they sum to ``increase``, and are NaN without an answer; the last also
    where not all tokens are scored."""
    through: Through = "end"
    """How far completions are scored."""
    in_reasoning: Float[np.ndarray, "condition completion"] = None  # type: ignore[assignment]  # NaN, filled below
    """Over the tokens that are reasoning (``Completions.reasoning``); NaN where that is not known, or not all of them
    are scored."""

    PARTS = ("increase", "increase_to_answer", "before_answer", "at_answer", "after_answer", "in_reasoning")
    ADDED = ("in_reasoning",)
    """What tables of earlier versions have not."""

    def __repr__(self) -> str:
        return f"Increases({len(self.conditions)} conditions x {self.completions!r})"

    def __post_init__(self) -> None:
        want = (len(self.conditions), len(self.completions))
        if getattr(self, "in_reasoning", None) is None:
            object.__setattr__(self, "in_reasoning", np.full(want, np.nan))
        freeze(self, "baseline", *self.PARTS)
        for name in self.PARTS:
            got = getattr(self, name).shape
            require(got == want, f"increases: {name} has shape {got}, needs {want}")
        require(self.baseline.shape == want[1:], f"increases: baseline has shape {self.baseline.shape}")

    @classmethod
    def of_none(cls, completions: Completions, conditions: Sequence[Condition]) -> "Increases":
        """Of prompts without any completion, as the results of other tools have them."""
        require(len(completions) == 0, f"increases of {len(completions)} completions are to be scored")
        none = np.zeros((len(conditions), 0))
        return cls(completions, tuple(conditions), np.zeros(0), none, none, none, none, none)

    @classmethod
    def join(cls, completions: Completions, parts: Sequence["Increases"]) -> "Increases":
        """Increases of several sets of prompts, one after the other, as those of all their ``completions``."""
        first = parts[0]
        require(all(p.conditions == first.conditions for p in parts), "increases of different conditions do not join")
        rows = completions.find_rows([part.completions for part in parts])
        return cls(
            completions,
            first.conditions,
            np.concatenate([part.baseline for part in parts])[rows],
            **{name: np.concatenate([getattr(part, name) for part in parts], axis=1)[:, rows] for name in cls.PARTS},
            through=first.through,
        )

    def of_seed(self, seed: int) -> "Increases":
        """Those of what one seed drew, by its number; see ``Completions.of_seed``."""
        completions = self.completions.of_seed(seed)
        rows = np.flatnonzero(np.asarray(self.completions.seed_counts)[:, seed])
        parts: dict[str, Any] = {name: getattr(self, name)[:, rows] for name in self.PARTS}
        return replace(self, completions=completions, baseline=self.baseline[rows], **parts)

    @property
    def is_whole(self) -> Bool[np.ndarray, " completion"]:
        """Which completions are scored through their end."""
        return np.asarray(self.completions.count_scored(self.through) == self.completions.lengths)

    @property
    def logprob(self) -> Float[np.ndarray, "condition completion"]:
        """Steered log prob of the whole completion; NaN where it is no finite number, or not all of it is scored."""
        return np.asarray(self.baseline + self.increase)


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """What is kept of the scores of single tokens: sums by completion, measures by prompt, and the token profile."""

    increases: Increases
    measures: Measures
    profile: Profile
    tokens: TokenIncreases | None = None
    """Of a few conditions: the best cell's layer."""
    readings: Readings | None = None
    """The answers at the end of each completion's reasoning, where they were read."""
    by_seed: tuple[Measures, ...] = ()
    """The measures of each seed's own draws, in the order of ``sampling.seeds``; empty with one seed."""

    def __repr__(self) -> str:
        return f"Scores({len(self.increases.conditions)} conditions x {self.increases.completions!r})"
