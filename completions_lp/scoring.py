"""Completions x conditions -> Scores: how likely the same token ids are, unsteered and under every condition.

Work goes by batches of completions and, inside one, layer by layer. The rows of a pass are the batch's completions
once without steering and once per condition of the layer, so that the two are computed side by side. Prompts enter
through the prefix cache: once for all conditions where steering starts at the last prompt token
(``positions = "completion"``), once per condition where it acts on the prompt too (``"all"``).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm import tqdm

from completions_lp.model import (
    Model,
    Variants,
    check_conditions,
    count_rows,
    find_budget,
    group_conditions,
    pad_right,
    score_next,
)
from completions_lp.records import Completions, Condition, Positions, Scores, SteeringVector


def make_conditions(
    vectors: Sequence[SteeringVector],
    *,
    layers: Sequence[int] | None = None,
    multipliers: Sequence[float] = (-2.0, -1.0, 1.0, 2.0),
    positions: Positions = "completion",
) -> tuple[Condition, ...]:
    """The grid of vectors x layers x multipliers, layer by layer; ``layers=None`` takes those that a vector has."""
    conditions = [
        Condition(vector.name, vector.kind, layer, float(multiplier), positions)
        for vector in vectors
        for layer in (vector.directions if layers is None else layers)
        for multiplier in multipliers
    ]
    return tuple(sorted(dict.fromkeys(conditions), key=lambda condition: condition.layer))


def score_completions(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    conditions: Sequence[Condition],
    *,
    memory_budget: float | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> Scores:
    """Log probs of the stored token ids under the unsteered model and under every condition.

    Args:
        model: The model that said them.
        completions: What it said.
        vectors: The vectors that the conditions name.
        conditions: Which vector, at which layer, how strong, at which positions; see ``make_conditions``.
        memory_budget: GiB that a pass may take; by default a quarter of the free memory.
        batch_size: Completions per batch, overriding the memory's choice.
        progress: Show a bar.

    Returns:
        Per-token log probs in nats. A condition's are the unsteered ones plus the difference between its rows and the
        unsteered rows *of the same pass*, so that what rounding the batch's shape brings cancels.

    Raises:
        InputError: A condition names an unknown vector or layer, or a vector does not fit the model.
    """
    check_conditions(model, vectors, conditions)
    shape = completions.token_ids.shape
    dtype = np.float64 if model.exact_dtype == torch.float64 else np.float32
    baseline = np.full(shape, np.nan, dtype=dtype)
    logprob = np.full((len(conditions), *shape), np.nan, dtype=dtype)
    passes = group_conditions(conditions)
    by_name = {vector.name: vector for vector in vectors}
    with tqdm(
        total=len(completions) * max(1, len(passes)), desc="score", unit="completion", disable=not progress
    ) as bar:
        for rows in _plan_batches(model, completions, max(map(len, passes), default=1), memory_budget, batch_size):
            batch = _Batch(model, completions, rows)
            for indices in passes or [[]]:
                unsteered, steered = batch.score(by_name, [conditions[i] for i in indices])
                width = unsteered.shape[-1]
                baseline[rows, :width] = np.where(np.isnan(baseline[rows, :width]), unsteered, baseline[rows, :width])
                logprob[np.ix_(indices, rows, range(width))] = baseline[rows, :width] + (steered - unsteered)
                bar.update(len(rows))
    return Scores(completions, tuple(conditions), baseline, logprob)


def _plan_batches(
    model: Model, completions: Completions, n_conditions: int, memory_budget: float | None, batch_size: int | None
) -> Iterator[Int[np.ndarray, " row"]]:
    """Completions that go together: those of neighbouring prompts, prompts of similar length side by side."""
    lengths = np.array([len(prompt.token_ids) for prompt in completions.prompts])
    past = lengths[completions.prompt_index]
    order = np.lexsort((completions.lengths, completions.prompt_index, -past))
    width = int(completions.token_ids.shape[1])
    budget = find_budget(model, memory_budget)
    fit = count_rows(model, budget, tokens=width, logits=width, past=int(past.max(initial=0)))
    size = batch_size or max(1, fit // (1 + n_conditions))
    for start in range(0, len(order), size):
        yield order[start : start + size]


class _Batch:
    """Some completions on the device, with the prompts that they follow."""

    def __init__(self, model: Model, completions: Completions, rows: Int[np.ndarray, " row"]) -> None:
        used, of_prompt = np.unique(completions.prompt_index[rows], return_inverse=True)
        prompts = [completions.prompts[i].token_ids for i in used]
        said = [completions.token_ids[row, : completions.lengths[row]].tolist() for row in rows]
        self.model = model
        self.variants = Variants(model, prompts, torch.from_numpy(of_prompt))
        self.targets, self.mask = pad_right(said, model.device)
        last = torch.tensor([prompts[i][-1] for i in of_prompt], device=model.device)
        self.tokens = torch.cat([last[:, None], self.targets[:, :-1]], 1)

    def score(
        self, vectors: Mapping[str, SteeringVector], conditions: Sequence[Condition]
    ) -> tuple[Float[np.ndarray, "completion token"], Float[np.ndarray, "condition completion token"]]:
        """Log probs of one pass: without steering, and under the conditions of a layer; NaN past the end."""
        variants = 1 + len(conditions)
        prefix, steering = self.variants.steer(vectors, conditions)
        logprob = score_next(
            self.model, prefix, self.tokens.repeat(variants, 1), self.targets.repeat(variants, 1), steering=steering
        )
        logprob = logprob.view(variants, *self.mask.shape).masked_fill(~self.mask, float("nan")).cpu().numpy()
        return logprob[0], logprob[1:]
