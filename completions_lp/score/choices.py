"""Prompts x conditions -> the two-choice read-out: the logit diff at the first answer position, without ``generate``.

A prompt's two answers are scored as two short completions, up to the token that tells them apart. Where a file writes
its answers as `` (A)``, the tokens that both share, `` (``, are said but do not count. Both answers come from the same
logits, so the difference of their log probs is their logit diff; their summed probability, the mass, says how much of
the model's answer the two letters are.
"""

from collections.abc import Sequence

import numpy as np

from completions_lp.model import Engine, Model, Room, Task, check_conditions
from completions_lp.prompts import first_difference
from completions_lp.records import Choices, Condition, Prompt, SteeringVector, pick_letters
from completions_lp.score.grid import score_task


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

    The logit diff is for ``target``, a letter, or ``"matching"`` for each prompt's own. A pass may take
    ``memory_budget`` GiB, by default a quarter of the machine's memory; ``batch_size``, prompts per pass (answers per
    pass in plain rows), overrides that. ``engine``, see ``model.engine``, changes the time, not the numbers.

    Raises:
        OutOfRoom: A prompt does not fit in memory alone.
        InputError: The tokenizer cannot tell two answers apart, no prompt offers the target, or a condition cannot be
            computed on this model.
    """
    check_conditions(model, vectors, conditions)
    letters = pick_letters(prompts, target)
    said: list[list[int]] = []
    for prompt, (letter, _) in zip(prompts, letters, strict=True):
        first, second, shared = first_difference(prompt, letter, model.tokenizer)
        said += [[*shared, first], [*shared, second]]
    of_prompt, by_name = np.repeat(np.arange(len(prompts)), 2), {vector.name: vector for vector in vectors}
    room = Room.find(model, memory_budget)
    task = Task(model, prompts, of_prompt, said, by_name, conditions, room, batch_size)
    last = np.array([len(ids) - 1 for ids in said])
    arrays = score_task(task, np.float64, engine=engine, progress=progress, title="choices")
    # Laid out as stored tables are read: what is computed from them is the same to the last bit.
    at = np.arange(len(said)), last
    baseline, logprob = (np.ascontiguousarray(arrays[name][..., *at]) for name in ("baseline", "logprob"))
    shape = len(conditions), len(prompts), 2
    return Choices(tuple(prompts), letters, tuple(conditions), baseline.reshape(shape[1:]), logprob.reshape(shape))
