"""Conditions -> what is added to which rows: by variant, the whole batch unsteered, then under each condition."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import torch
from jaxtyping import Int
from torch import Tensor

from completions_lp.model.loading import Model
from completions_lp.model.network import Prefix, Steering, prefill
from completions_lp.records import Condition, SteeringVector


def group_conditions(conditions: Sequence[Condition]) -> list[list[int]]:
    """Indices of the conditions that share a pass (same layer, same positions), layer by layer."""

    def key(i: int) -> tuple[int, str]:
        return conditions[i].layer, conditions[i].positions

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
        """Prefix and steering of ``(1 + conditions) * rows`` rows; ``"all"`` runs prompts under each condition."""
        if not conditions:
            return self.unsteered.select(self.of_prompt), None
        each = Steering.under(self.model, vectors, conditions)
        variants = torch.cat([torch.zeros_like(each.added[:1]), each.added])
        steering = replace(each, added=variants.repeat_interleave(len(self.of_prompt), 0))
        if each.positions == "completion":
            return self.unsteered.select(self.of_prompt.repeat(len(variants))), steering
        n = len(self.past)
        steered = prefill(
            self.model, self.past * len(variants), steering=replace(each, added=variants.repeat_interleave(n, 0))
        )
        offsets = torch.arange(len(variants), device=self.model.device)[:, None] * n
        return steered.select((self.of_prompt[None] + offsets).reshape(-1)), steering
