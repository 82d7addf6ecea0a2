"""What the read-out of the answers on offer found, without ``generate``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.records.base import freeze, require
from completions_lp.records.prompts import Prompt
from completions_lp.records.steering import Condition


@dataclass(frozen=True, eq=False, repr=False)
class Choices:
    """The two-choice read-out: log probs of the answers on offer at the first answer position, without ``generate``.

    Each is the log of the summed probability of all tokens that spell the answer, in nats. The arrays of all answers
    are None in the tables of earlier versions, which have the two that are compared alone, and those as one token each.
    """

    prompts: tuple[Prompt, ...]
    letters: tuple[tuple[str, str], ...]
    """By prompt: the target answer and the one it is compared with."""
    conditions: tuple[Condition, ...]
    baseline: Float[np.ndarray, "prompt 2"]
    logprob: Float[np.ndarray, "condition prompt 2"]
    baseline_whole: Float[np.ndarray, "prompt 2"] | None = None
    """Log prob of all tokens of the two, as the file writes them, from where they part."""
    whole: Float[np.ndarray, "condition prompt 2"] | None = None
    offered: tuple[tuple[str, ...], ...] | None = None
    """By prompt: all answers on offer, in the order of the arrays of all."""
    baseline_all: Float[np.ndarray, "prompt choice"] | None = None
    """Of every answer on offer; NaN past a prompt's last one, and where an answer cannot be told from another."""
    logprob_all: Float[np.ndarray, "condition prompt choice"] | None = None
    baseline_all_whole: Float[np.ndarray, "prompt choice"] | None = None
    """Log prob of all tokens of each, from where all answers part."""
    all_whole: Float[np.ndarray, "condition prompt choice"] | None = None

    STEERED = ("logprob", "whole", "logprob_all", "all_whole")
    """Arrays by condition; each has an unsteered twin, ``baseline`` for ``logprob``."""
    EXTRA = ("baseline_whole", "whole", "offered", "baseline_all", "logprob_all", "baseline_all_whole", "all_whole")
    """What tables of earlier versions have not."""

    def __repr__(self) -> str:
        return f"Choices({len(self.conditions)} conditions x {len(self.prompts)} prompts)"

    def __post_init__(self) -> None:
        lacking = [name for name in self.EXTRA if getattr(self, name) is None]
        require(
            len(lacking) in (0, len(self.EXTRA)), f"choices: {', '.join(lacking)} missing; give all of them or none"
        )
        most = 0 if self.offered is None else max(map(len, self.offered), default=0)
        for name in self.STEERED:
            values = getattr(self, name)
            if values is None:
                continue
            freeze(self, name, self.name_unsteered(name))
            want = (len(self.conditions), len(self.prompts), most if "all" in name else 2)
            require(values.shape == want, f"choices: {name} has shape {values.shape}, needs {want}")
            before = getattr(self, self.name_unsteered(name))
            require(before.shape == want[1:], f"choices: its unsteered twin has shape {before.shape}, needs {want[1:]}")

    @staticmethod
    def name_unsteered(name: str) -> str:
        """The unsteered twin of an array by condition."""
        return "baseline" + {"logprob": "", "whole": "_whole", "logprob_all": "_all", "all_whole": "_all_whole"}[name]

    @property
    def is_complete(self) -> bool:
        """Whether all answers on offer were read, in all their spellings."""
        return self.offered is not None

    def select(self, conditions: Sequence[int]) -> "Choices":
        """Those of some conditions, by their indices."""
        steered: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[list(conditions)]
            for name in self.STEERED
        }
        return replace(self, conditions=tuple(self.conditions[c] for c in conditions), **steered)

    def join(self, other: "Choices") -> "Choices":
        """Those of these prompts under further conditions, too."""
        steered: dict[str, Any] = {
            name: None
            if getattr(self, name) is None or getattr(other, name) is None
            else np.concatenate([getattr(self, name), getattr(other, name)])
            for name in self.STEERED
        }
        return replace(self, conditions=self.conditions + other.conditions, **steered)
