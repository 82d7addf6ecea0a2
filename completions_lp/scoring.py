"""Completions x conditions -> Scores: how likely the same token ids are, unsteered and under every condition.

Work goes by batches of prompts. A batch's completions are packed into prefix trees and the whole layer x multiplier
grid is one forward pass (``model.wavefront``), the unsteered model being its first rows; where memory forbids it,
the list of conditions is split, and then the trees. A model on which that is not exact is scored layer by layer in
plain rows, unsteered and steered side by side (``score_rows``), which is also the slow twin.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
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
    run_wavefront,
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
    engine: Engine = "auto",
    progress: bool = True,
) -> Scores:
    """Log probs of the stored token ids under the unsteered model and under every condition.

    Args:
        model: The model that said them.
        completions: What it said.
        vectors: The vectors that the conditions name.
        conditions: Which vector, at which layer, how strong, at which positions; see ``make_conditions``.
        memory_budget: GiB that a pass may take; by default a quarter of the free memory.
        batch_size: Prompts per pass (completions per pass in plain rows), overriding the memory's choice.
        engine: How work is shared, see ``model.engine``; it changes the time, not the numbers.
        progress: Show a bar.

    Returns:
        Per-token log probs in nats. A condition's are the unsteered ones plus the difference between its rows and the
        unsteered rows *of the same pass*, so that what rounding the batch's shape brings cancels.

    Raises:
        InputError: A condition names an unknown vector or layer, or a vector does not fit the model.
    """
    check_conditions(model, vectors, conditions)
    scores = _Table(completions, len(conditions), np.float64 if model.exact_dtype == torch.float64 else np.float32)
    by_name = {vector.name: vector for vector in vectors}
    with tqdm(total=len(completions) * max(1, len(conditions)), desc="score", unit="row", disable=not progress) as bar:
        run = _score_trees if pick_engine(model, engine) == "tree" else _score_rows
        for rows, indices, unsteered, steered in run(
            model, completions, by_name, conditions, find_budget(model, memory_budget), batch_size
        ):
            scores.add(rows, indices, unsteered, steered)
            bar.update(len(rows) * max(1, len(indices)))
    return Scores(completions, tuple(conditions), scores.baseline, scores.logprob)


class _Table:
    """The scores as they come in."""

    def __init__(self, completions: Completions, n_conditions: int, dtype: type) -> None:
        self.mask = completions.mask
        self.baseline = np.full(self.mask.shape, np.nan, dtype=dtype)
        self.logprob = np.full((n_conditions, *self.mask.shape), np.nan, dtype=dtype)

    def add(
        self,
        rows: Int[np.ndarray, " row"],
        indices: Sequence[int],
        unsteered: Float[np.ndarray, "row token"],
        steered: Float[np.ndarray, "condition row token"],
    ) -> None:
        """One pass. The first one that holds a completion gives its baseline; differences are within the pass."""
        width = unsteered.shape[-1]
        mask = self.mask[rows, :width]
        known = self.baseline[rows, :width]
        known = np.where(np.isnan(known) & mask, unsteered, known)
        self.baseline[rows, :width] = known
        for index, values in zip(indices, steered, strict=True):
            self.logprob[index, rows, :width] = known + np.where(mask, values - unsteered, np.nan)


_Pass = tuple[np.ndarray, Sequence[int], np.ndarray, np.ndarray]
"""Rows of the completions, indices of the conditions, unsteered and steered log probs."""


def _score_trees(
    model: Model,
    completions: Completions,
    vectors: Mapping[str, SteeringVector],
    conditions: Sequence[Condition],
    budget: int,
    batch_size: int | None,
) -> Iterator[_Pass]:
    """Whole grids by prefix trees: batches of prompts, each with all conditions that fit."""
    rows_of = [np.flatnonzero(completions.prompt_index == i) for i in range(len(completions.prompts))]
    said = [[completions.token_ids[r, : completions.lengths[r]].tolist() for r in rows] for rows in rows_of]
    prompts = [prompt.token_ids for prompt in completions.prompts]
    for positions in dict.fromkeys(c.positions for c in conditions) or ("completion",):
        chosen = [i for i, c in enumerate(conditions) if c.positions == positions]
        plan = plan_wavefronts(
            model, prompts, said, len(chosen), budget=budget, whole=positions == "all", batch_size=batch_size
        )
        for batch in plan:
            picked = [conditions[i] for i in chosen]
            part = [[said[i][k] for k in kept] for i, kept in batch]
            used = [prompts[i] for i, _ in batch]
            for indices, values in run_wavefront(
                model, used, part, vectors, picked, budget=budget, whole=positions == "all"
            ):
                for (i, kept), value in zip(batch, values, strict=True):
                    yield rows_of[i][kept], [chosen[k] for k in indices], value[0], value[1:]


def _score_rows(
    model: Model,
    completions: Completions,
    vectors: Mapping[str, SteeringVector],
    conditions: Sequence[Condition],
    budget: int,
    batch_size: int | None,
) -> Iterator[_Pass]:
    """Plain rows: batches of completions and, inside one, layer by layer, each with the unsteered rows beside it."""
    passes = group_conditions(conditions)
    for rows in _plan_rows(model, completions, max(map(len, passes), default=1), budget, batch_size):
        batch = _Rows(model, completions, rows)
        for indices in passes or [[]]:
            unsteered, steered = batch.score(vectors, [conditions[i] for i in indices])
            yield rows, indices, unsteered, steered


def _plan_rows(
    model: Model, completions: Completions, n_conditions: int, budget: int, batch_size: int | None
) -> Iterator[Int[np.ndarray, " row"]]:
    """Completions that go together: those of neighbouring prompts, prompts of similar length side by side."""
    lengths = np.array([len(prompt.token_ids) for prompt in completions.prompts])
    past = lengths[completions.prompt_index]
    order = np.lexsort((completions.lengths, completions.prompt_index, -past))
    width = int(completions.token_ids.shape[1])
    fit = count_rows(model, budget, tokens=width, logits=width, past=int(past.max(initial=0)))
    size = batch_size or max(1, fit // (1 + n_conditions))
    for start in range(0, len(order), size):
        yield order[start : start + size]


class _Rows:
    """Some completions on the device, with the prompts that they follow."""

    def __init__(self, model: Model, completions: Completions, rows: Int[np.ndarray, " row"]) -> None:
        used, of_prompt = np.unique(completions.prompt_index[rows], return_inverse=True)
        prompts = [completions.prompts[i].token_ids for i in used]
        said = [completions.token_ids[row, : completions.lengths[row]].tolist() for row in rows]
        self.model = model
        self.variants = Variants(model, prompts, torch.from_numpy(of_prompt))
        self.targets, mask = pad_right(said, model.device)
        self.shape = mask.shape
        last = torch.tensor([prompts[i][-1] for i in of_prompt], device=model.device)
        self.tokens = torch.cat([last[:, None], self.targets[:, :-1]], 1)

    def score(
        self, vectors: Mapping[str, SteeringVector], conditions: Sequence[Condition]
    ) -> tuple[Float[np.ndarray, "completion token"], Float[np.ndarray, "condition completion token"]]:
        """Log probs of one pass: without steering, and under the conditions of a layer."""
        variants = 1 + len(conditions)
        prefix, steering = self.variants.steer(vectors, conditions)
        logprob = score_next(
            self.model, prefix, self.tokens.repeat(variants, 1), self.targets.repeat(variants, 1), steering=steering
        )
        values = logprob.view(variants, *self.shape).cpu().numpy()
        return values[0], values[1:]
