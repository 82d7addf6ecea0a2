"""Prompts x conditions -> the two-choice read-out: the logit diff at the first answer position, without ``generate``.

Where a file writes its answers as `` (A)``, the prompt is continued with the tokens that both answers share, `` (``,
and read at the token that tells them apart. Both answers come from the same logits, so the difference of their log
probs is their logit diff; their summed probability, the mass, says how much of the model's answer the two letters are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from completions_lp.model import (
    Engine,
    Model,
    Variants,
    check_conditions,
    count_rows,
    find_budget,
    group_conditions,
    pad_right,
    pick_engine,
    plan_wavefronts,
    read_next,
    run_wavefront,
)
from completions_lp.prompts import first_difference
from completions_lp.records import Choices, Condition, Prompt, SteeringVector, pick_letters


def read_choices(
    model: Model,
    prompts: Sequence[Prompt],
    vectors: Sequence[SteeringVector],
    conditions: Sequence[Condition],
    *,
    target: str = "matching",
    memory_budget: float | None = None,
    batch_size: int | None = None,
    engine: Engine = "auto",
    progress: bool = True,
) -> Choices:
    """Log probs, in nats, of each prompt's two answers at the first answer position, unsteered and steered.

    Args:
        model: The model.
        prompts: Two-choice prompts.
        vectors: The vectors that the conditions name.
        conditions: Which vector, at which layer, how strong, at which positions.
        target: The answer that the logit diff is for: a letter, or ``"matching"`` for each prompt's own.
        memory_budget: GiB that a pass may take; by default a quarter of the free memory.
        batch_size: Prompts per batch, overriding the memory's choice.
        engine: How work is shared, see ``model.engine``; it changes the time, not the numbers.
        progress: Show a bar.

    Raises:
        InputError: The tokenizer cannot tell two answers apart, no prompt offers the target, or a condition cannot be
            computed on this model.
    """
    check_conditions(model, vectors, conditions)
    letters = pick_letters(prompts, target)
    baseline = np.full((len(prompts), 2), np.nan)
    logprob = np.full((len(conditions), len(prompts), 2), np.nan)
    by_name = {vector.name: vector for vector in vectors}
    job = _Job(model, prompts, letters, by_name, conditions, find_budget(model, memory_budget), batch_size)
    total = len(prompts) * max(1, len(conditions))
    with tqdm(total=total, desc="choices", unit="row", disable=not progress) as bar:
        for rows, indices, values in _read_trees(job) if pick_engine(model, engine) == "tree" else _read_rows(job):
            baseline[rows] = np.where(np.isnan(baseline[rows]), values[0], baseline[rows])
            for index, steered in zip(indices, values[1:], strict=True):
                logprob[index, rows] = baseline[rows] + (steered - values[0])
            bar.update(len(rows) * max(1, len(indices)))
    return Choices(tuple(prompts), letters, tuple(conditions), baseline, logprob)


_Pass = tuple[list[int], Sequence[int], Float[np.ndarray, "variant prompt 2"]]
"""Prompts, indices of the conditions, log probs of the two answers: unsteered, then steered."""


@dataclass(frozen=True, eq=False)
class _Job:
    """What a pass needs to know."""

    model: Model
    prompts: Sequence[Prompt]
    letters: Sequence[tuple[str, str]]
    vectors: Mapping[str, SteeringVector]
    conditions: Sequence[Condition]
    budget: int
    batch_size: int | None


def _read_trees(job: _Job) -> Iterator[_Pass]:
    """The two answers as two short completions of each prompt, under the whole grid in one pass."""
    model, said = job.model, []
    for prompt, pair in zip(job.prompts, job.letters, strict=True):
        first, second, shared = first_difference(prompt, pair[0], model.tokenizer)
        said.append([[*shared, first], [*shared, second]])
    ids = [prompt.token_ids for prompt in job.prompts]
    for positions in dict.fromkeys(c.positions for c in job.conditions) or ("completion",):
        chosen = [i for i, c in enumerate(job.conditions) if c.positions == positions]
        picked, whole = [job.conditions[i] for i in chosen], positions == "all"
        common: dict[str, Any] = {"budget": job.budget, "whole": whole}
        for batch in plan_wavefronts(
            model, ids, said, len(chosen), batch_size=job.batch_size, keep_together=True, **common
        ):
            rows = [i for i, _ in batch]
            part = [said[i] for i in rows]
            for indices, found in run_wavefront(model, [ids[i] for i in rows], part, job.vectors, picked, **common):
                last = [v.logprob[:, :, len(s[0]) - 1] for v, s in zip(found, part, strict=True)]
                yield rows, [chosen[k] for k in indices], np.stack(last, 1).astype(np.float64)


def _read_rows(job: _Job) -> Iterator[_Pass]:
    """Plain rows: batches of prompts and, inside one, layer by layer, each with the unsteered rows beside it."""
    model, prompts = job.model, job.prompts
    passes = group_conditions(job.conditions)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].token_ids))
    past = len(prompts[order[0]].token_ids)
    fit = count_rows(model, job.budget, tokens=past, logits=2, past=past)
    size = job.batch_size or max(1, fit // (1 + max(map(len, passes), default=1)))
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        batch = _Rows(model, [prompts[i] for i in rows], [job.letters[i] for i in rows])
        for indices in passes or [[]]:
            yield rows, indices, batch.read(job.vectors, [job.conditions[i] for i in indices])


class _Rows:
    """Some prompts on the device, continued up to the token that tells their answers apart."""

    def __init__(self, model: Model, prompts: Sequence[Prompt], letters: Sequence[tuple[str, str]]) -> None:
        self.model = model
        found = [
            [first_difference(prompt, letter, model.tokenizer) for letter in pair]
            for prompt, pair in zip(prompts, letters, strict=True)
        ]
        self.answers = torch.tensor([[first[0], second[0]] for first, second in found], device=model.device)
        shared = [(prompt.token_ids[-1], *first[2]) for prompt, (first, _) in zip(prompts, found, strict=True)]
        self.tokens, mask = pad_right(shared, model.device)
        self.lengths = mask.sum(1)
        self.variants = Variants(model, [prompt.token_ids for prompt in prompts], torch.arange(len(prompts)))

    def read(
        self, vectors: Mapping[str, SteeringVector], conditions: Sequence[Condition]
    ) -> Float[np.ndarray, "variant prompt 2"]:
        """Log probs of the two answers, without steering first, then under each condition of a layer."""
        n = 1 + len(conditions)
        prefix, steering = self.variants.steer(vectors, conditions)
        logits, _ = read_next(
            self.model, prefix, self.tokens.repeat(n, 1), lengths=self.lengths.repeat(n), steering=steering
        )
        logprob = logits.gather(1, self.answers.repeat(n, 1)) - logits.logsumexp(-1, keepdim=True)
        return logprob.view(n, -1, 2).cpu().double().numpy()
