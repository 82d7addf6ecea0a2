"""Completions x conditions -> TokenScores: how likely the same token ids are, unsteered and under every condition.

Work goes by batches of prompts. A batch's completions are packed into prefix trees and the whole layer x multiplier
grid is one forward pass (``model.wavefront``), the unsteered model being its first rows; where memory forbids it,
the list of conditions is split, and then the trees. A model on which that is not exact is scored layer by layer in
plain rows, unsteered and steered side by side (``model.rows``), which is also the slow twin.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from tqdm import tqdm

from completions_lp.model import (
    Engine,
    Model,
    Reduced,
    Room,
    Task,
    Watch,
    check_conditions,
    pick_engine,
    score_rows,
    score_trees,
)
from completions_lp.records import Completions, Condition, SteeringVector, Through, TokenScores, pick_letters
from completions_lp.sample.labels import Labeller

Advance = Callable[[int], object]


def score_tokens(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    conditions: Sequence[Condition],
    *,
    target: str | None = None,
    kl: bool = False,
    through: Through = "end",
    memory_budget: float | None = None,
    batch_size: int | None = None,
    engine: Engine = "auto",
    progress: bool = True,
    advance: Advance | None = None,
) -> TokenScores:
    """Log probs, in nats, of the stored token ids under the unsteered model and under every condition.

    A condition's log probs are the unsteered ones plus the difference between its rows and the unsteered rows *of the
    same pass*, so that what rounding the batch's shape brings cancels. With ``target``, also the log prob that each
    token completes this answer (a letter, or ``"matching"``) and the one it is compared with; with ``kl``, also the
    entropy of the unsteered distribution at each token and its divergences from the steered one, both ways. Tokens past
    what is scored ``through`` (``Completions.count_scored``) never enter the network, and have no scores. ``advance``
    gets the number of rows that are done, as they are, in place of a bar. The other options are those of
    ``read_choices``.

    Raises:
        OutOfRoom: A completion of a prompt does not fit in memory alone.
        InputError: A condition names an unknown vector or layer, a vector does not fit the model, or no prompt offers
            the target.
    """
    check_conditions(model, vectors, conditions)
    task = Task(
        model,
        completions.prompts,
        completions.prompt_index,
        [ids[:n].tolist() for ids, n in zip(completions.token_ids, completions.count_scored(through), strict=True)],
        {vector.name: vector for vector in vectors},
        conditions,
        Room.find(model, memory_budget),
        batch_size,
        watch=None if target is None else _watch_answers(model, completions, target),
        divergences=kl,
    )
    dtype = np.float64 if model.exact_dtype == torch.float64 else np.float32
    width = completions.token_ids.shape[1]
    arrays = score_task(task, dtype, engine=engine, progress=progress, width=width, advance=advance)
    return TokenScores(completions, tuple(conditions), **arrays, through=through)


def score_task(
    task: Task,
    dtype: type,
    *,
    engine: Engine,
    progress: bool,
    width: int = 0,
    title: str = "score",
    advance: Advance | None = None,
) -> dict[str, Any]:
    """The arrays of ``TokenScores`` for the sequences of a task, at least ``width`` tokens wide, in a precision."""
    lengths = np.array([len(ids) for ids in task.said], dtype=int)
    mask = np.arange(max(width, lengths.max(initial=0))) < lengths[:, None]
    n = len(task.conditions)
    table = _Table(mask, n, dtype, answers=task.watch is not None, kl=task.divergences)
    score = score_trees if pick_engine(task.model, engine) == "tree" else score_rows
    with tqdm(total=len(mask) * max(1, n), desc=title, unit="row", disable=not progress or advance is not None) as bar:
        for rows, indices, found in score(task):
            table.add(np.array(rows), indices, found)
            (advance or bar.update)(len(rows) * max(1, len(indices)))
    return table.arrays


class _Table:
    """The scores as they come in; NaN where nothing has come in, and past a sequence's end."""

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
        logprob = found.logprob.astype(self.arrays["baseline"].dtype, copy=False)
        width = logprob.shape[-1]
        mask = self.mask[rows, :width]
        known = self.arrays["baseline"][rows, :width]
        known = np.where(np.isnan(known) & mask, logprob[0], known)
        self.arrays["baseline"][rows, :width] = known
        if found.entropy is not None:
            self.arrays["entropy"][rows, :width] = np.where(mask, found.entropy, np.nan)
        if found.answers is not None:
            answers = np.where(mask[..., None], found.answers, np.nan)
            self.arrays["baseline_answers"][rows, :width] = answers[0]
        for place, index in enumerate(indices, start=1):
            with np.errstate(invalid="ignore"):  # two infinite log probs have no difference: NaN
                change = np.where(mask, logprob[place] - logprob[0], np.nan)
                self.arrays["logprob"][index, rows, :width] = known + change
            for name, values in (("kl", found.kl), ("kl_reverse", found.kl_reverse)):
                if values is not None:  # a divergence is at least 0; what rounding leaves below is 0
                    self.arrays[name][index, rows, :width] = np.where(mask, values[place].clip(min=0), np.nan)
            if found.answers is not None:
                self.arrays["answers"][index, rows, :width] = answers[place]


def _watch_answers(model: Model, completions: Completions, target: str) -> list[Watch] | None:
    """By prompt, which tokens complete the target and the other answer; None where the label's rule cannot tell."""
    if not completions.labelling.is_by_token:
        return None
    pairs = pick_letters(completions.prompts, target)
    labeller = Labeller(model.tokenizer, completions.labelling)

    def watch(pair: tuple[str, str]) -> Watch:
        return lambda said: [labeller.completing_tokens(said, letter=letter) for letter in pair]

    return [watch(pair) for pair in pairs]
