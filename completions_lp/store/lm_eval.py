"""The two-choice read-out -> samples as lm-evaluation-harness logs them (``--log_samples``), a file per condition.

The facts are of EleutherAI/lm-evaluation-harness 0.4.13: ``loggers/evaluation_tracker.py`` writes the files,
``evaluator.py`` the samples, ``api/task.py`` the requests of a ``multiple_choice`` task.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.records import BASELINE, Choices, Condition, InputError, Prompt

UNKNOWN = "None"
"""In place of whether an answer is what greedy decoding says: the read-out does not know it."""


def pack_samples(choices: Choices, *, task: str, model: str, date: str) -> dict[str, bytes]:
    """The files by name within their folder: as lm-eval has it a folder per model, which here is one per condition.

    Log likelihoods are of whole answers as the file writes them, from where the answers of a prompt part; what all of
    them begin with stands at the end of the context.

    Raises:
        InputError: The read-out is of an earlier version, which has no whole answers; or an answer could not be read.
    """
    if choices.all_whole is None or choices.baseline_all_whole is None:
        raise InputError(
            "the two-choice read-out of this run is of an earlier version and has no log probs of whole answers; "
            "`completions-lp score DIR` reads them"
        )
    task, model = (re.sub(r"[^\w.-]+", "__", text)[-100:].lstrip(".") or "unnamed" for text in (task, model))
    arrays = [(BASELINE, choices.baseline_all_whole), *zip(choices.conditions, choices.all_whole, strict=True)]
    files = {}
    for condition, logprob in arrays:
        lines = [
            json.dumps(_make_sample(i, prompt, condition, logprob[i]), ensure_ascii=False) + "\n"
            for i, prompt in enumerate(choices.prompts)
        ]
        files[f"{model}__{_name_condition(condition)}/samples_{task}_{date}.jsonl"] = "".join(lines).encode()
    if len(files) < len(arrays):
        raise InputError("two conditions would be one file of samples; export one vector at one place of the text")
    return files


def _name_condition(condition: Condition) -> str:
    return f"layer={condition.layer}_multiplier={condition.multiplier}" if condition.steers else "unsteered"


def _make_sample(
    number: int, prompt: Prompt, condition: Condition, logprob: Float[np.ndarray, " choice"]
) -> dict[str, Any]:
    """One document with its answers' log likelihoods, all numbers in ``resps`` as text, as lm-eval has them."""
    values = logprob[: len(prompt.letters)].tolist()
    if not np.isfinite(values).all():
        raise InputError(
            f"prompt {prompt.id!r}, {condition.place if condition.steers else 'unsteered'}: the log prob of an answer "
            "is no finite number or could not be read (one answer begins another one); leave that prompt out of the run"
        )
    context, answers = split_answers(prompt)
    gold = prompt.letters.index(prompt.matching)
    doc = {"id": prompt.id, "question": prompt.text, "choices": list(answers), "gold": gold}
    responses = [[str(value), UNKNOWN] for value in values]
    requests = {f"gen_args_{i}": {"arg_0": context, "arg_1": answer} for i, answer in enumerate(answers)}
    return {
        **{"doc_id": number, "doc": doc, "target": str(gold), "arguments": requests},
        **{"resps": [[response] for response in responses], "filtered_resps": responses},
        **{"filter": "none", "metrics": ["acc"]},
        **{"doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)), "prompt_hash": _hash(context)},
        **{"target_hash": _hash(str(gold)), "acc": float(int(np.argmax(values)) == gold)},
    }


def split_answers(prompt: Prompt) -> tuple[str, Sequence[str]]:
    """The context and each answer as what follows it: what all answers begin with is part of the context.

    A space stays with the answers, where lm-eval puts it, too.
    """
    written = [prompt.answer_format.replace("{letter}", letter) for letter in prompt.letters]
    first, last = min(written), max(written)  # what these two begin with, all between them do
    shared = first[
        : next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    ].rstrip()
    return prompt.text + shared, [answer[len(shared) :] for answer in written]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
