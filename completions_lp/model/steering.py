"""Conditions -> what is added to which rows: by variant, the whole batch unsteered, then under each condition."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import torch
from jaxtyping import Int
from torch import Tensor

from completions_lp.model.loading import Model
from completions_lp.model.network import Prefix, Steering, prefill
from completions_lp.records import Condition, InputError, SteeringVector


def check_conditions(model: Model, vectors: Sequence[SteeringVector], conditions: Sequence[Condition]) -> None:
    """Raise InputError unless every condition can be computed on this model."""
    by_name = {vector.name: vector for vector in vectors}
    if len(by_name) < len(vectors):
        raise InputError(f"two vectors have the same name; names: {', '.join(vector.name for vector in vectors)}")
    for vector in vectors:
        if vector.d_model != model.d_model:
            raise InputError(
                f"vector {vector.name!r} has size {vector.d_model}, but the residual stream of {model.name} has "
                f"{model.d_model}; use a vector that was made with this model"
            )
    model.check_layers([condition.layer for condition in conditions])
    for condition in conditions:
        if condition.vector not in by_name:
            raise InputError(f"a condition names vector {condition.vector!r}; there are {', '.join(by_name) or 'none'}")
        if condition.layer not in by_name[condition.vector].directions:
            layers = ", ".join(map(str, by_name[condition.vector].directions))
            raise InputError(f"vector {condition.vector!r} has no layer {condition.layer}; it has layers {layers}")
        if condition.multiplier != 0 and not by_name[condition.vector].directions[condition.layer].any():
            raise InputError(
                f"vector {condition.vector!r} is zero at layer {condition.layer}, so it steers nothing there; leave "
                "the layer out of [scoring] layers"
            )


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
