"""What single tokens tell about each prompt: probabilities of the answer, divergences, and how far to trust them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int, Shaped

from completions_lp.records.base import freeze, require
from completions_lp.records.prompts import Prompt
from completions_lp.records.steering import Condition


@dataclass(frozen=True, eq=False, repr=False)
class Measures:
    """Per-prompt estimates that need the scores of single tokens: made when scoring, kept for every later report.

    ``A`` in a name is the target answer, ``B`` the other one. Probabilities are of the answer within the window,
    divergences in nats. NaN where a prompt does not offer the target, or what is needed was not read.
    """

    prompts: tuple[Prompt, ...]
    conditions: tuple[Condition, ...]
    unsteered: Mapping[str, Float[np.ndarray, " prompt"]]
    steered: Mapping[str, Float[np.ndarray, "condition prompt"]]
    trust: Shaped[np.ndarray, "condition prompt"]
    """How far ``p_A_steered`` can be trusted: certified, green or red; empty where the target is not on offer, or
    log probs are no finite numbers."""

    UNSTEERED = (
        *("p_A", "p_A_se", "p_A_low", "p_A_high", "first_A", "first_B"),
        *("n_tokens", "excess_surprisal", "excess_surprisal_se"),
    )
    """Survival estimate of P(A) with its standard error and bounds; P(A before B) and P(B before A) as competing risks;
    mean tokens per completion; the sampler test's mean of surprisal minus entropy with its standard error."""
    STEERED = (
        *("p_A_steered", "p_A_steered_se", "p_A_steered_low", "p_A_steered_high", "p_A_change_se"),
        *("first_A_steered", "first_B_steered", "p_A_answer_only", "p_A_reasoning_only", "increase_to_answer_A_rb"),
        *("kl", "kl_reverse", "ess", "mean_weight_low", "mean_weight_high", "n_steered", "n_broken"),
    )
    """The same under the condition; the standard error of ``p_A_steered`` − ``p_A``, which are from the same draws (NaN
    where further draws joined the former); P(A) with only the answer, only the text before it steered; the increase
    with the next token averaged out; KL(unsteered || steered) and its reverse per completion; the smallest effective
    number of draws and the range of mean weights over the steps that trust is judged by; draws from the steered model
    that joined the estimate; draws of which a token's log prob, with or without steering, is no finite number: with one
    of them, nothing else is known of the prompt under the condition, and all but these two counts is NaN."""

    def __repr__(self) -> str:
        return f"Measures({len(self.conditions)} conditions x {len(self.prompts)} prompts)"

    def __post_init__(self) -> None:
        for names, values in ((self.UNSTEERED, self.unsteered), (self.STEERED, self.steered)):
            require(set(names) == set(values), f"measures: got {sorted(values)}, needs {sorted(names)}")
        n, c = len(self.prompts), len(self.conditions)
        shapes = {name: values.shape for name, values in {**self.unsteered, **self.steered}.items()}
        for name, got in {**shapes, "trust": self.trust.shape}.items():
            want = (n,) if name in self.unsteered else (c, n)
            require(got == want, f"measures: {name} has shape {got}, needs {want}")
        freeze(self, "trust")
        for name in ("unsteered", "steered"):
            frozen = {key: values.view() for key, values in getattr(self, name).items()}
            for values in frozen.values():
                values.flags.writeable = False
            object.__setattr__(self, name, MappingProxyType(frozen))

    @classmethod
    def join(cls, parts: Sequence["Measures"]) -> "Measures":
        """Measures of several sets of prompts under the same conditions, one after the other."""
        first = parts[0]
        require(all(p.conditions == first.conditions for p in parts), "measures of different conditions do not join")
        return cls(
            tuple(prompt for part in parts for prompt in part.prompts),
            first.conditions,
            {name: np.concatenate([p.unsteered[name] for p in parts]) for name in cls.UNSTEERED},
            {name: np.concatenate([p.steered[name] for p in parts], axis=1) for name in cls.STEERED},
            np.concatenate([p.trust for p in parts], axis=1),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """Where the gain is: per prompt, the mean increase of the tokens at each place relative to the answer's."""

    prompts: tuple[Prompt, ...]
    conditions: tuple[Condition, ...]
    offsets: Int[np.ndarray, " offset"]
    """0 is the token that completes the answer."""
    increase: Float[np.ndarray, "condition prompt offset"]
    """Mean over the draws that gave the target and have a token there, in nats; NaN where there is none."""
    n: Int[np.ndarray, "prompt offset"]
    """Those draws."""

    def __repr__(self) -> str:
        return f"Profile({len(self.conditions)} conditions x {len(self.prompts)} prompts x {len(self.offsets)} places)"

    def __post_init__(self) -> None:
        freeze(self, "offsets", "increase", "n")
        want = (len(self.conditions), len(self.prompts), len(self.offsets))
        require(self.increase.shape == want, f"profile: increase has shape {self.increase.shape}, needs {want}")
        require(self.n.shape == want[1:], f"profile: n has shape {self.n.shape}, needs {want[1:]}")

    @classmethod
    def join(cls, parts: Sequence["Profile"]) -> "Profile":
        """Profiles of several sets of prompts under the same conditions, one after the other."""
        first = parts[0]
        require(all(p.conditions == first.conditions for p in parts), "profiles of different conditions do not join")
        return cls(
            tuple(prompt for part in parts for prompt in part.prompts),
            first.conditions,
            first.offsets,
            np.concatenate([p.increase for p in parts], axis=1),
            np.concatenate([p.n for p in parts]),
        )
