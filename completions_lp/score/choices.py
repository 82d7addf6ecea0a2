"""Prompts x conditions -> the two-choice read-out: how likely each answer is said at once, without ``generate``.

A prompt's answers are scored as short completions. Where a file writes them as `` (A)``, the tokens that all share,
`` (``, are said but do not count. An answer is said with the first token that tells it from the others, whichever of
its spellings that is: ``A``, `` A``, ``(A``. All answers come from the same logits, so the difference of two log probs
is their logit diff; their summed probability, the mass, says how much of the model's answer the choices are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.model import Engine, Model, Room, Task, check_conditions
from completions_lp.records import Choices, Condition, Prompt, SteeringVector, pick_letters
from completions_lp.score.grid import score_task
from completions_lp.score.spelling import Spelling, spell_answers


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
    """Log probs, in nats, of each prompt's answers at the first answer position, unsteered and steered.

    The logit diff is for ``target``, a letter, or ``"matching"`` for each prompt's own. A pass may take
    ``memory_budget`` GiB, by default a quarter of the machine's memory; ``batch_size``, prompts per pass (answers per
    pass in plain rows), overrides that. ``engine``, see ``model.engine``, changes the time, not the numbers.

    Raises:
        OutOfRoom: A prompt does not fit in memory alone.
        InputError: The tokenizer cannot tell two compared answers apart, no prompt offers the target, or a condition
            cannot be computed on this model.
    """
    check_conditions(model, vectors, conditions)
    letters = pick_letters(prompts, target)
    spellings = [spell_answers(p, pair[0], model.tokenizer) for p, pair in zip(prompts, letters, strict=True)]
    said = [list(ids) for spelling in spellings for ids in spelling.written]
    of_prompt = np.repeat(np.arange(len(prompts)), [len(spelling.written) for spelling in spellings])
    by_name, room = {vector.name: vector for vector in vectors}, Room.find(model, memory_budget)
    watch = [spelling.watch for spelling in spellings]
    task = Task(model, prompts, of_prompt, said, by_name, conditions, room, batch_size, watch=watch, exact=True)
    sides = max((len(spelling.sides) for spelling in spellings), default=2)
    options: dict[str, Any] = {"engine": engine, "progress": progress, "title": "choices"}
    arrays = score_task(task, np.float64, sides=sides, paired=0, **options)
    before = _sum_sides(spellings, sides, arrays["baseline"][None], arrays["baseline_answers"][None])[0]
    return make_choices(
        prompts, target, conditions, before, _sum_sides(spellings, sides, arrays["logprob"], arrays["answers"])
    )


def make_choices(
    prompts: Sequence[Prompt],
    target: str,
    conditions: Sequence[Condition],
    unsteered: Float[np.ndarray, "prompt side 2"],
    steered: Float[np.ndarray, "condition prompt side 2"],
) -> Choices:
    """Choices from log probs by side: the two that are compared, then every letter; in any spelling, and whole."""

    # Laid out as stored tables are read: what is computed from them is the same to the last bit.
    def cut(arrays: np.ndarray, sides: slice, how: int) -> np.ndarray:
        return np.ascontiguousarray(arrays[..., sides, how])

    pair, every = slice(0, 2), slice(2, 2 + max((len(prompt.letters) for prompt in prompts), default=0))
    return Choices(
        prompts=tuple(prompts),
        letters=pick_letters(prompts, target),
        conditions=tuple(conditions),
        baseline=cut(unsteered, pair, 0),
        logprob=cut(steered, pair, 0),
        baseline_whole=cut(unsteered, pair, 1),
        whole=cut(steered, pair, 1),
        offered=tuple(prompt.letters for prompt in prompts),
        baseline_all=cut(unsteered, every, 0),
        logprob_all=cut(steered, every, 0),
        baseline_all_whole=cut(unsteered, every, 1),
        all_whole=cut(steered, every, 1),
    )


def list_sides(
    choices: Choices,
) -> tuple[Float[np.ndarray, "prompt side 2"], Float[np.ndarray, "condition prompt side 2"]]:
    """What ``make_choices`` makes them from."""
    names = [("logprob", "whole"), ("logprob_all", "all_whole")]

    def join(unsteered: bool) -> np.ndarray:
        arrays = [[getattr(choices, Choices.name_unsteered(n) if unsteered else n) for n in pair] for pair in names]
        return np.concatenate([np.stack(pair, -1) for pair in arrays], -2)

    return join(unsteered=True), join(unsteered=False)


def _sum_sides(
    spellings: Sequence[Spelling],
    width: int,
    logprob: Float[np.ndarray, "condition row token"],
    answers: Float[np.ndarray, "condition row token side"],
) -> Float[np.ndarray, "condition prompt {width} 2"]:
    """Log prob of each side: of its tokens up to where it is told apart and of its spellings there; and of it whole."""
    found = np.full((len(logprob), len(spellings), width, 2), np.nan)
    first = 0
    for i, spelling in enumerate(spellings):
        for k, side in enumerate(spelling.sides):
            if side is not None:
                row, n = first + spelling.row(side), len(side.written)
                found[:, i, k, 0] = logprob[:, row, side.start : side.end].sum(-1) + answers[:, row, side.end, k]
                found[:, i, k, 1] = logprob[:, row, side.start : n].sum(-1)
        first += len(spelling.written)
    return found
