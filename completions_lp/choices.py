"""Prompts x conditions -> the two-choice read-out: the logit diff at the first answer position, without ``generate``.

Where a file writes its answers as `` (A)``, the prompt is continued with the tokens that both answers share, `` (``,
and read at the token that tells them apart. Both answers come from the same logits, so the difference of their log
probs is their logit diff; their summed probability, the mass, says how much of the model's answer the two letters are.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from completions_lp.model import (
    Model,
    Variants,
    check_conditions,
    count_rows,
    find_budget,
    group_conditions,
    pad_right,
    read_next,
)
from completions_lp.prompts import first_difference
from completions_lp.records import Choices, Condition, InputError, Prompt, SteeringVector


def read_choices(
    model: Model,
    prompts: Sequence[Prompt],
    vectors: Sequence[SteeringVector],
    conditions: Sequence[Condition],
    *,
    target: str = "A",
    memory_budget: float | None = None,
    batch_size: int | None = None,
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
        progress: Show a bar.

    Raises:
        InputError: The tokenizer cannot tell two answers apart, no prompt offers the target, or a condition cannot be
            computed on this model.
    """
    check_conditions(model, vectors, conditions)
    letters = pick_letters(prompts, target)
    baseline = np.full((len(prompts), 2), np.nan)
    logprob = np.full((len(conditions), len(prompts), 2), np.nan)
    passes = group_conditions(conditions)
    by_name = {vector.name: vector for vector in vectors}
    with tqdm(total=len(prompts) * max(1, len(passes)), desc="choices", unit="prompt", disable=not progress) as bar:
        for rows in _plan_batches(model, prompts, max(map(len, passes), default=1), memory_budget, batch_size):
            batch = _Batch(model, [prompts[i] for i in rows], [letters[i] for i in rows])
            for indices in passes or [[]]:
                values = batch.read(by_name, [conditions[i] for i in indices])
                baseline[rows] = np.where(np.isnan(baseline[rows]), values[0], baseline[rows])
                logprob[np.ix_(indices, rows)] = baseline[rows] + (values[1:] - values[0])
                bar.update(len(rows))
    return Choices(tuple(prompts), letters, tuple(conditions), baseline, logprob)


def pick_letters(prompts: Sequence[Prompt], target: str) -> tuple[tuple[str, str], ...]:
    """By prompt: the target answer (``"matching"`` means each prompt's own) and the one it is compared with.

    A prompt whose two answers do not include the target keeps its own two, the matching one first; what the report
    says of the target leaves that prompt out.

    Raises:
        InputError: No prompt offers the target.
    """
    if target != "matching" and not any(target in (prompt.matching, prompt.not_matching) for prompt in prompts):
        offered = sorted({letter for prompt in prompts for letter in (prompt.matching, prompt.not_matching)})
        raise InputError(
            f"target {target!r} is an answer of no prompt; theirs are {', '.join(offered)}. "
            "Name one of them, or 'matching' for each prompt's own"
        )
    first = [prompt.not_matching if prompt.not_matching == target else prompt.matching for prompt in prompts]
    return tuple((letter, prompt.other(letter)) for letter, prompt in zip(first, prompts, strict=True))


def _plan_batches(
    model: Model, prompts: Sequence[Prompt], n_conditions: int, memory_budget: float | None, batch_size: int | None
) -> Iterator[list[int]]:
    """Prompts that go together, longest first."""
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].token_ids))
    past = len(prompts[order[0]].token_ids)
    fit = count_rows(model, find_budget(model, memory_budget), tokens=past, logits=2, past=past)
    size = batch_size or max(1, fit // (1 + n_conditions))
    for start in range(0, len(order), size):
        yield order[start : start + size]


class _Batch:
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
