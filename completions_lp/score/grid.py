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
from jaxtyping import Bool, Float, Int
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
    score_remotely,
    score_rows,
    score_trees,
)
from completions_lp.records import Completions, Condition, SteeringVector, Through, TokenScores, pick_letters
from completions_lp.sample.labels import Labeller
from completions_lp.score.places import Place, PlaceReader

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
    options: dict[str, Any] = {"memory_budget": memory_budget, "batch_size": batch_size, "engine": engine}
    asked: dict[str, Any] = {"target": target, "kl": kl, "through": through, "progress": progress, "advance": advance}
    return score_places(model, completions, (), vectors, conditions, **options, **asked)[0]


def score_places(
    model: Model,
    completions: Completions,
    places: Sequence[Place],
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
) -> tuple[TokenScores, Float[np.ndarray, "place choice"], Float[np.ndarray, "condition place choice"]]:
    """The scores of completions, as ``score_tokens``, and in the same passes what is read at some places.

    That is the log prob, in nats, of each answer of the place's prompt right there, in any spelling: unsteered, and
    under each condition (the unsteered one plus a difference within a pass). What places share with each other and with
    completions is computed once. There may be places alone.
    """
    check_conditions(model, vectors, conditions)
    reader, n = PlaceReader(places), len(completions)
    asked = {p.id: p for p in (*completions.prompts, *(place.prompt for place in places))}
    of_prompt = [completions.prompts[i].id for i in completions.prompt_index]
    of_prompt += [reader.places[k].prompt.id for k, _ in reader.heads]
    number = {name: i for i, name in enumerate(asked)}
    scored = zip(completions.token_ids, completions.count_scored(through), strict=True)
    rule = None if target is None or not n else _watch_answers(model, completions, target)
    task = Task(
        model,
        tuple(asked.values()),
        np.array([number[name] for name in of_prompt], dtype=np.int64),
        [*(ids[:size].tolist() for ids, size in scored), *reader.sequences],
        {vector.name: vector for vector in vectors},
        conditions,
        Room.find(model, memory_budget),
        batch_size,
        watch=rule if not places else _watch_both(list(asked), rule, reader),
        divergences=kl,
    )
    dtype = np.float64 if model.exact_dtype == torch.float64 else np.float32
    own, width = 2 * (rule is not None), completions.token_ids.shape[1]
    options: dict[str, Any] = {"engine": engine, "progress": progress, "width": width, "advance": advance}
    arrays = score_task(task, dtype, sides=own + reader.width, paired=own, **options)
    kept = {name: values[..., :n, :width] for name, values in arrays.items() if "answers" not in name}
    if rule is not None:
        kept |= {name: arrays[name][..., :n, :width, :own] for name in ("baseline_answers", "answers")}
    read = [np.empty((*lead, 0, 0)) for lead in ((), (len(conditions),))]
    if places:
        pairs = (("baseline", "baseline_answers"), ("logprob", "answers"))
        read = [reader.read(arrays[name][..., n:, :], arrays[told][..., n:, :, own:]) for name, told in pairs]
    return TokenScores(completions, tuple(conditions), **kept, through=through), read[0], read[1]


def score_task(
    task: Task,
    dtype: type,
    *,
    engine: Engine,
    progress: bool,
    width: int = 0,
    title: str = "score",
    advance: Advance | None = None,
    sides: int = 2,
    paired: int | None = None,
) -> dict[str, Any]:
    """The arrays of ``TokenScores`` for the sequences of a task, at least ``width`` tokens wide, in a precision.

    ``sides`` is the most answers that are watched for at once. Log probs of those from number ``paired`` on are, like
    those of the tokens, the unsteered ones plus a difference within one pass; by default of none.
    """
    lengths = np.array([len(ids) for ids in task.said], dtype=int)
    mask = np.arange(max(width, lengths.max(initial=0))) < lengths[:, None]
    n = len(task.conditions)
    watched = 0 if task.watch is None else sides
    first = watched if paired is None else paired
    table = _Table(mask, n, dtype, sides=watched, paired=first, kl=task.divergences)
    score = {"tree": score_trees, "rows": score_rows, "server": score_remotely}[pick_engine(task.model, engine)]
    with tqdm(total=len(mask) * max(1, n), desc=title, unit="row", disable=not progress or advance is not None) as bar:
        for rows, indices, found in score(task):
            table.add(np.array(rows), indices, found)
            (advance or bar.update)(len(rows) * max(1, len(indices)))
    return table.arrays


class _Table:
    """The scores as they come in; NaN where nothing has come in, and past a sequence's end."""

    def __init__(
        self, mask: Bool[np.ndarray, "row token"], n: int, dtype: type, *, sides: int, paired: int, kl: bool
    ) -> None:
        self.mask, self.paired = mask, paired
        shapes: dict[str, tuple[int, ...]] = {"baseline": mask.shape, "logprob": (n, *mask.shape)}
        if kl:
            shapes |= {"entropy": mask.shape, "kl": (n, *mask.shape), "kl_reverse": (n, *mask.shape)}
        if sides:
            shapes |= {"baseline_answers": (*mask.shape, sides), "answers": (n, *mask.shape, sides)}
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
            self._add_answers(rows, indices, found.answers)
        for place, index in enumerate(indices, start=1):
            with np.errstate(invalid="ignore"):  # two infinite log probs have no difference: NaN
                change = np.where(mask, logprob[place] - logprob[0], np.nan)
                self.arrays["logprob"][index, rows, :width] = known + change
            for name, values in (("kl", found.kl), ("kl_reverse", found.kl_reverse)):
                if values is not None:  # a divergence is at least 0; what rounding leaves below is 0
                    self.arrays[name][index, rows, :width] = np.where(mask, values[place].clip(min=0), np.nan)

    def _add_answers(
        self,
        rows: Int[np.ndarray, " row"],
        indices: Sequence[int],
        found: Float[np.ndarray, "variant row token side"],
    ) -> None:
        """The log probs of the answers in one pass; -inf where no token completes one."""
        width, sides = found.shape[2:]
        baseline, steered = self.arrays["baseline_answers"], self.arrays["answers"]
        answers = np.where(self.mask[rows, :width, None], found.astype(baseline.dtype, copy=False), np.nan)
        alone = min(self.paired, sides)
        baseline[rows, :width, :alone] = answers[0, ..., :alone]
        steered[np.array(indices, dtype=int)[:, None], rows, :width, :alone] = answers[1:, ..., :alone]
        if alone == sides:
            return
        known, answers = baseline[rows, :width, alone:sides], answers[..., alone:]
        known = np.where(np.isnan(known), answers[0], known)
        baseline[rows, :width, alone:sides] = known
        for place, index in enumerate(indices, start=1):
            with np.errstate(invalid="ignore"):
                change = np.where(np.isneginf(answers[0]), answers[place], answers[place] - answers[0])
            steered[index, rows, :width, alone:sides] = known + change


def _watch_both(prompts: Sequence[str], rule: Sequence[Watch] | None, reader: PlaceReader) -> list[Watch]:
    """By prompt, what completes an answer by the label rule, where it tells, and what is read at places."""
    nothing: list[Any] = [None] * reader.width
    own = [] if rule is None else [None, None]

    def watch(i: int, name: str) -> Watch:
        told, look = reader.watched.get(name, {}), None if rule is None or i >= len(rule) else rule[i]
        return lambda said: [*(own if look is None else look(said)), *told.get(said, nothing)]

    return [watch(i, name) for i, name in enumerate(prompts)]


def _watch_answers(model: Model, completions: Completions, target: str) -> list[Watch] | None:
    """By prompt, which tokens complete the target and the other answer; None where the label's rule cannot tell."""
    if not completions.labelling.is_by_token:
        return None
    pairs = pick_letters(completions.prompts, target)
    labeller = Labeller(model.tokenizer, completions.labelling)

    def watch(pair: tuple[str, str]) -> Watch:
        return lambda said: [labeller.completing_tokens(said, letter=letter) for letter in pair]

    return [watch(pair) for pair in pairs]
