"""What is to be scored: short fixed sequences of tokens, each after its prompt, under any number of conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from completions_lp.model.caches import LastPrompts
from completions_lp.model.loading import Model
from completions_lp.model.memory import Room
from completions_lp.model.reading import Watch
from completions_lp.records import Condition, Prompt, SteeringVector


@dataclass(frozen=True, eq=False)
class Task:
    """Sequences to score, and what is read on the way."""

    model: Model
    prompts: Sequence[Prompt]
    of_prompt: Int[np.ndarray, " sequence"]
    """The prompt that each sequence follows."""
    said: Sequence[Sequence[int]]
    """Its token ids."""
    vectors: Mapping[str, SteeringVector]
    conditions: Sequence[Condition]
    room: Room
    batch_size: int | None = None
    """Prompts per pass (sequences per pass in plain rows), overriding the memory's choice."""
    watch: Sequence[Watch] | None = None
    """By prompt, which tokens would complete its answers; None to leave that out."""
    divergences: bool = False
    """Whether to compare whole distributions: entropy and KL both ways."""
    exact: bool = False
    """Whether all that is read travels as it is from a server: odds are made of it, which show the last digit."""
    last: LastPrompts = field(default_factory=LastPrompts)
    """Keys and values of the prompts of the pass before, which the next one may need again."""

    def describe(self, sequence: int) -> tuple[str, str]:
        """A sequence for a message: the id of its prompt, and in words."""
        prompt = self.prompts[self.of_prompt[sequence]]
        size = f"{len(prompt.token_ids)} tokens, {len(self.said[sequence])} after it,"
        return prompt.id, f"prompt {prompt.id!r} of {size}"


@dataclass(frozen=True, eq=False)
class Reduced:
    """What a pass leaves of some sequences, in nats; past a sequence's end it means nothing."""

    logprob: Float[np.ndarray, "variant sequence token"]
    """Log prob of each token, unsteered first."""
    answers: Float[np.ndarray, "variant sequence token side"] | None = None
    """Log prob that this token completes each of the answers; None unless watched."""
    entropy: Float[np.ndarray, "sequence token"] | None = None
    """Entropy of the unsteered distribution of this token; None without divergences."""
    kl: Float[np.ndarray, "variant sequence token"] | None = None
    """KL(unsteered || variant) of this token's distribution; None unless asked for."""
    kl_reverse: Float[np.ndarray, "variant sequence token"] | None = None
    """KL(variant || unsteered)."""


Pass = tuple[Sequence[int], Sequence[int], Reduced]
"""Numbers of the sequences, of the conditions, and what the pass left: unsteered, then under these conditions."""
