"""The two-choice read-out against full passes: the log prob of each answer, summed over the ids that spell it."""

from collections.abc import Sequence

import numpy as np

from completions_lp.doctor.case import Case
from completions_lp.doctor.findings import Finding
from completions_lp.doctor.stream import name_cells
from completions_lp.doctor.truth import read_plainly
from completions_lp.records import Condition, InputError, Prompt
from completions_lp.score.choices import read_choices
from completions_lp.score.spelling import Side, spell_answers

PROMPTS = 2


def check_readout(case: Case, target: str) -> Finding:
    """The two answers that are compared, unsteered and under the last condition, on some prompts that are read out."""
    model, name = case.model, "answers read out = full forward"
    asked = [prompt for prompt in case.prompts if prompt.is_read_out and _can_tell(case, prompt, target)][:PROMPTS]
    if not asked:
        return Finding(name, 0.0, model.tolerance, seen="no prompt has answers to be read")
    condition = case.cells[-1]
    vector = case.vectors[condition.vector]
    choices = read_choices(model, asked, [vector], [condition], target=target, progress=False)
    off: list[float] = []
    for i, prompt in enumerate(asked):
        sides = spell_answers(prompt, prompt.pair(target)[0], model.tokenizer).sides[:2]
        for k, side in enumerate(sides):
            if side is not None:
                off.append(abs(float(choices.baseline[i, k]) - _read_side(case, prompt, side, None)))
                off.append(abs(float(choices.logprob[0, i, k]) - _read_side(case, prompt, side, condition)))
    seen = f"{len(asked)} prompts, unsteered and under {name_cells([condition])}"
    return Finding(name, float(np.max(off)), model.tolerance, seen=seen)


def _can_tell(case: Case, prompt: Prompt, target: str) -> bool:
    try:
        spell_answers(prompt, prompt.pair(target)[0], case.model.tokenizer)
    except InputError:
        return False
    return True


def _read_side(case: Case, prompt: Prompt, side: Side, condition: Condition | None) -> float:
    """Log prob that an answer is said: of its tokens up to where it is told apart, and there of all that spell it."""
    vector = None if condition is None else case.vectors[condition.vector]
    text: Sequence[int] = [*prompt.token_ids, *side.written[: side.end]]
    law = read_plainly(case.model, text, len(prompt.token_ids), condition, vector)
    before = sum(float(law[t, side.written[t]]) for t in range(side.start, side.end))
    return before + float(np.logaddexp.reduce(law[side.end, list(side.tokens)]))
