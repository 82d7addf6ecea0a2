"""Conditions -> what is added to which rows: by variant, the whole batch unsteered, then under each condition."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from jaxtyping import Int
from torch import Tensor

from completions_lp.model.loading import Model
from completions_lp.model.network import Prefix, Steering, prefill
from completions_lp.records import Condition, SteeringVector


def group_conditions(conditions: Sequence[Condition]) -> list[list[int]]:
    """Indices of the conditions that share a pass (same layers, same positions), layer by layer."""

    def key(i: int) -> tuple[tuple[int, ...], str]:
        return conditions[i].layers, conditions[i].positions

    return [list(group) for _, group in groupby(sorted(range(len(conditions)), key=key), key=key)]


class Variants:
    """Prompts that went through the network once, to be continued by rows (of ``of_prompt``) under conditions."""

    def __init__(self, model: Model, prompts: Sequence[Sequence[int]], of_prompt: Int[Tensor, " row"]) -> None:
        self.model = model
        self.past = [prompt[:-1] for prompt in prompts]
        self.of_prompt = of_prompt.to(model.device)
        self.unsteered = prefill(model, self.past)

    def steer(
        self, vectors: Mapping[str, SteeringVector], conditions: Sequence[Condition]
    ) -> tuple[Prefix, Steering | None]:
        """Prefix and steering of ``(1 + conditions) * rows`` rows; what acts on prompts runs them under each."""
        if not conditions:
            return self.unsteered.select(self.of_prompt), None
        each, variants = Steering.under(self.model, vectors, conditions), 1 + len(conditions)
        steering = each.repeat(len(self.of_prompt))
        if not each.on_prompt:
            return self.unsteered.select(self.of_prompt.repeat(variants)), steering
        n = len(self.past)
        steered = prefill(self.model, self.past * variants, steering=each.repeat(n))
        offsets = torch.arange(variants, device=self.model.device)[:, None] * n
        return steered.select((self.of_prompt[None] + offsets).reshape(-1)), steering
