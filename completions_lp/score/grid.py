"""Completions x conditions -> TokenScores: how likely the same token ids are, unsteered and under every condition.

Work goes by batches of prompts. A batch's completions are packed into prefix trees and the whole layer x multiplier
grid is one forward pass (``model.wavefront``), the unsteered model being its first rows; where memory forbids it,
the list of conditions is split, and then the trees. A model on which that is not exact is scored layer by layer in
plain rows, unsteered and steered side by side (``score_rows``), which is also the slow twin.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from tqdm import tqdm

from completions_lp.model import (
    Engine,
    Model,
    Reader,
    Reduced,
    Variants,
    Watch,
    check_conditions,
    count_rows,
    find_budget,
    group_conditions,
    pad_right,
    pick_engine,
    plan_wavefronts,
    run_wavefront,
    score_next,
    stack_answers,
)
from completions_lp.records import Completions, Condition, SteeringVector, TokenScores, pick_letters
from completions_lp.sample.labels import Labeller


def score_tokens(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    conditions: Sequence[Condition],
    *,
    target: str | None = None,
    kl: bool = False,
    memory_budget: float | None = None,
    batch_size: int | None = None,
    engine: Engine = "auto",
    progress: bool = True,
) -> TokenScores:
    """Log probs of the stored token ids under the unsteered model and under every condition.

    Args:
        model: The model that said them.
        completions: What it said.
        vectors: The vectors that the conditions name.
        conditions: Which vector, at which layer, how strong, at which positions; see ``make_conditions``.
        target: Also read, at each token, the log prob that it completes this answer (a letter, or ``"matching"``) and
            the one it is compared with.
        kl: Also read, at each token, the entropy of the unsteered distribution and its divergences from the steered
            one, both ways; see the benchmark for what it costs.
        memory_budget: GiB that a pass may take; by default a quarter of the free memory.
        batch_size: Prompts per pass (completions per pass in plain rows), overriding the memory's choice.
        engine: How work is shared, see ``model.engine``; it changes the time, not the numbers.
        progress: Show a bar.

    Returns:
        Per-token numbers in nats. A condition's log probs are the unsteered ones plus the difference between its rows
        and the unsteered rows *of the same pass*, so that what rounding the batch's shape brings cancels.

    Raises:
        InputError: A condition names an unknown vector or layer, a vector does not fit the model, or no prompt offers
            the target.
    """
    check_conditions(model, vectors, conditions)
    watch = None if target is None else _watch_answers(model, completions, target)
    dtype = np.float64 if model.exact_dtype == torch.float64 else np.float32
    table = _Table(completions.mask, len(conditions), dtype, answers=watch is not None, kl=kl)
    by_name = {vector.name: vector for vector in vectors}
    job = _Job(model, completions, by_name, conditions, watch, kl, find_budget(model, memory_budget), batch_size)
    with tqdm(total=len(completions) * max(1, len(conditions)), desc="score", unit="row", disable=not progress) as bar:
        for rows, indices, found in _score_trees(job) if pick_engine(model, engine) == "tree" else _score_rows(job):
            table.add(rows, indices, found)
            bar.update(len(rows) * max(1, len(indices)))
    return TokenScores(completions, tuple(conditions), **table.arrays)


@dataclass(frozen=True, eq=False)
class _Job:
    """What a scoring pass needs to know."""

    model: Model
    completions: Completions
    vectors: Mapping[str, SteeringVector]
    conditions: Sequence[Condition]
    watch: Sequence[Watch] | None
    kl: bool
    budget: int
    batch_size: int | None


_Pass = tuple[np.ndarray, Sequence[int], Reduced]
"""Rows of the completions, indices of the conditions, and what the pass left of them."""


class _Table:
    """The scores as they come in; NaN where nothing has come in, and past a completion's end."""

    def __init__(self, mask: Bool[np.ndarray, "row token"], n: int, dtype: type, *, answers: bool, kl: bool) -> None:
        self.mask = mask
        shapes: dict[str, tuple[int, ...]] = {"baseline": mask.shape, "logprob": (n, *mask.shape)}
        if kl:
            shapes |= {"entropy": mask.shape, "kl": (n, *mask.shape), "kl_reverse": (n, *mask.shape)}
        if answers:
            shapes |= {"baseline_answers": (*mask.shape, 2), "answers": (n, *mask.shape, 2)}
        self.arrays: dict[str, Any] = {name: np.full(shape, np.nan, dtype=dtype) for name, shape in shapes.items()}

    def add(self, rows: Int[np.ndarray, " row"], indices: Sequence[int], found: Reduced) -> None:
        """One pass. The first one that holds a completion gives its baseline; differences are within the pass."""
        width = found.logprob.shape[-1]
        mask = self.mask[rows, :width]
        known = self.arrays["baseline"][rows, :width]
        known = np.where(np.isnan(known) & mask, found.logprob[0], known)
        self.arrays["baseline"][rows, :width] = known
        for place, index in enumerate(indices, start=1):
            change = np.where(mask, found.logprob[place] - found.logprob[0], np.nan)
            self.arrays["logprob"][index, rows, :width] = known + change
            for name, values in (("kl", found.kl), ("kl_reverse", found.kl_reverse)):
                if values is not None:  # a divergence is at least 0; what rounding leaves below is 0
                    self.arrays[name][index, rows, :width] = np.where(mask, values[place].clip(min=0), np.nan)
            if found.answers is not None:
                self.arrays["answers"][index, rows, :width] = np.where(mask[..., None], found.answers[place], np.nan)
        if found.entropy is not None:
            self.arrays["entropy"][rows, :width] = np.where(mask, found.entropy, np.nan)
        if found.answers is not None:
            answers = np.where(mask[..., None], found.answers[0], np.nan)
            self.arrays["baseline_answers"][rows, :width] = answers


def _watch_answers(model: Model, completions: Completions, target: str) -> list[Watch] | None:
    """By prompt, which tokens complete the target and the other answer; None where the label's rule cannot tell."""
    labeller = Labeller(model.tokenizer, completions.labelling)
    pairs = pick_letters(completions.prompts, target)
    if labeller.completing_tokens((), letter=pairs[0][0]) is None:
        return None

    def watch(pair: tuple[str, str]) -> Watch:
        return lambda said: [labeller.completing_tokens(said, letter=letter) for letter in pair]

    return [watch(pair) for pair in pairs]


def _score_trees(job: _Job) -> Iterator[_Pass]:
    """Whole grids by prefix trees: batches of prompts, each with all conditions that fit."""
    model, completions = job.model, job.completions
    rows_of = [np.flatnonzero(completions.prompt_index == i) for i in range(len(completions.prompts))]
    said = [[completions.token_ids[r, : completions.lengths[r]].tolist() for r in rows] for rows in rows_of]
    prompts = [prompt.token_ids for prompt in completions.prompts]
    for positions in dict.fromkeys(c.positions for c in job.conditions) or ("completion",):
        whole = positions == "all"
        chosen = [i for i, c in enumerate(job.conditions) if c.positions == positions]
        plan = plan_wavefronts(
            model, prompts, said, len(chosen), budget=job.budget, whole=whole, batch_size=job.batch_size
        )
        for batch in plan:
            passes = run_wavefront(
                model,
                [prompts[i] for i, _ in batch],
                [[said[i][k] for k in kept] for i, kept in batch],
                job.vectors,
                [job.conditions[i] for i in chosen],
                budget=job.budget,
                whole=whole,
                watch=None if job.watch is None else [job.watch[i] for i, _ in batch],
                divergences=job.kl,
            )
            for indices, found in passes:
                for (i, kept), reduced in zip(batch, found, strict=True):
                    yield rows_of[i][kept], [chosen[k] for k in indices], reduced


def _score_rows(job: _Job) -> Iterator[_Pass]:
    """Plain rows: batches of completions and, inside one, layer by layer, each with the unsteered rows beside it."""
    passes = group_conditions(job.conditions)
    most = max(map(len, passes), default=1)
    for rows in _plan_rows(job.model, job.completions, most, job.budget, job.batch_size):
        batch = _Rows(job, rows)
        for indices in passes or [[]]:
            yield rows, indices, batch.score([job.conditions[i] for i in indices])


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

    def __init__(self, job: _Job, rows: Int[np.ndarray, " row"]) -> None:
        model, completions = job.model, job.completions
        used, of_prompt = np.unique(completions.prompt_index[rows], return_inverse=True)
        prompts = [completions.prompts[i].token_ids for i in used]
        said = [completions.token_ids[row, : completions.lengths[row]].tolist() for row in rows]
        self.job = job
        self.variants = Variants(model, prompts, torch.from_numpy(of_prompt))
        targets, _ = pad_right(said, model.device)
        last = torch.tensor([prompts[i][-1] for i in of_prompt], device=model.device)
        self.tokens = torch.cat([last[:, None], targets[:, :-1]], 1)
        n, width = self.tokens.shape
        answers = None
        if job.watch is not None:
            watch = [job.watch[i] for i in completions.prompt_index[rows]]
            prefixes = [[tuple(ids[:t]) for t in range(len(ids))] for ids in said]
            answers = stack_answers(watch, prefixes, width, model.device)
        nodes = torch.arange(width, device=model.device).repeat(n, 1)
        self.reader = Reader(n, nodes, targets, answers, divergences=job.kl)

    def score(self, conditions: Sequence[Condition]) -> Reduced:
        """One pass: without steering, and under the conditions of a layer."""
        variants = 1 + len(conditions)
        prefix, steering = self.variants.steer(self.job.vectors, conditions)
        found = score_next(self.job.model, prefix, self.tokens.repeat(variants, 1), self.reader, steering=steering)
        n = len(self.tokens)
        arrays = {name: v.view(len(v) // n, n, *v.shape[1:]).numpy() for name, v in found.items()}
        entropy = arrays["entropy"][0] if "entropy" in arrays else None
        return Reduced(arrays["logprob"], arrays.get("answers"), entropy, arrays.get("kl"), arrays.get("kl_reverse"))
