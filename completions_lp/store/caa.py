"""The two-choice read-out <-> results as CAA's own scripts write and plot them: a JSON list per layer and multiplier.

The facts are of nrimsky/CAA (arXiv 2312.06681): ``steering_settings.py`` names the files,
``prompting_with_steering.py`` fills them, ``plot_results.py`` reads them. ``a_prob`` and ``b_prob`` are probabilities
of the *letters* A and B at the first answer position, out of the whole vocabulary, whichever of the two matches the
behaviour.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.records import BASELINE, Choices, Condition, InputError, describe_cause, read_text

LETTERS = ("A", "B")
FIELDS = ("question", "answer_matching_behavior", "answer_not_matching_behavior", "a_prob", "b_prob")
KEYS = (
    *("layer", "multiplier", "behavior", "type", "system_prompt", "override_vector", "override_vector_model"),
    *("use_base_model", "model_size", "override_model_weights_path"),
)
"""What a file's name says, in CAA's order; what is not set is not in the name."""
_KEY = re.compile(rf"(?:^|_)({'|'.join(KEYS)})=")
_NAME = re.compile(r"[\w.-]{1,80}", re.ASCII)
_LETTER = re.compile(r"\s*\(?([A-Z])\)?\s*")
MOST = 1_000_000
"""Items of a file."""


@dataclass(frozen=True)
class Item:
    """One question of a result file."""

    question: str
    matching: str
    """The letter that goes with the behaviour."""
    not_matching: str
    probs: tuple[float, float]
    """Of A and of B."""


@dataclass(frozen=True)
class Result:
    """One result file: its name's settings and its items."""

    path: Path
    settings: Mapping[str, str]
    items: tuple[Item, ...]

    @property
    def layer(self) -> int:
        """The block whose output is steered."""
        return int(self.settings["layer"])

    @property
    def multiplier(self) -> float:
        """What the vector is multiplied with."""
        return float(self.settings["multiplier"])


def pack_results(choices: Choices, *, behavior: str, model_size: str) -> dict[str, bytes]:
    """The files of a read-out by name: one per condition, and one of multiplier 0 per layer, the unsteered model's.

    Raises:
        InputError: The answers of a prompt are not A and B, a probability is none, two conditions would share a file,
            or a name has signs that CAA's file names cannot hold.
    """
    for value, what in ((behavior, "behaviour"), (model_size, "model size")):
        if not _NAME.fullmatch(value):
            raise InputError(
                f"{what} {value[:80]!r} becomes part of CAA's file names: name one of letters, digits, dots and dashes"
            )
    _check_letters(choices)
    layers = sorted({condition.layer for condition in choices.conditions})
    arrays = [(layer, 0.0, BASELINE, choices.baseline) for layer in layers]
    arrays += [(c.layer, c.multiplier, c, x) for c, x in zip(choices.conditions, choices.logprob, strict=True)]
    files: dict[str, bytes] = {}
    for layer, multiplier, condition, logprob in arrays:
        name = name_file(
            layer=layer,
            multiplier=float(multiplier),
            behavior=behavior,
            type="ab",
            use_base_model=False,
            model_size=model_size,
        )
        if name in files:
            raise InputError(f"two conditions would be the file {name}: {condition.place}; export one of them")
        files[name] = (json.dumps(_list_items(choices, condition, logprob), indent=4) + "\n").encode()
    return files


def name_file(**settings: Any) -> str:
    """What CAA calls the file of these settings."""
    told = [f"{key}={str(settings[key]).replace('/', '-')}" for key in KEYS if settings.get(key) is not None]
    return f"results_{'_'.join(told)}.json"


def _check_letters(choices: Choices) -> None:
    wrong = [
        f"{prompt.id} ({prompt.matching}, {prompt.not_matching})"
        for prompt in choices.prompts
        if {prompt.matching, prompt.not_matching} != set(LETTERS)
    ]
    if wrong:
        raise InputError(
            f"CAA's results have a_prob and b_prob alone, and {len(wrong)} of {len(choices.prompts)} prompts compare "
            f"other answers: {', '.join(wrong[:3])}. Run prompts whose two answers are A and B, or export lm-eval's "
            "samples (--format lm-eval)"
        )


def _list_items(choices: Choices, condition: Condition, logprob: Float[np.ndarray, "prompt 2"]) -> list[dict[str, Any]]:
    """A condition's items; log probs stand as the pair of letters that each prompt compares."""
    items = []
    for prompt, pair, values in zip(choices.prompts, choices.letters, logprob, strict=True):
        probs = dict(zip(pair, np.exp(values).tolist(), strict=True))
        total = sum(probs.values())
        if not (math.isfinite(total) and total > 0):
            raise InputError(
                f"prompt {prompt.id!r}, {condition.place if condition.steers else 'unsteered'}: P(A) + P(B) is "
                f"{total:g}, by which CAA's plots would divide; leave that condition or prompt out of the run"
            )
        answers = f"({prompt.matching})", f"({prompt.not_matching})"
        items.append(dict(zip(FIELDS, (prompt.text, *answers, probs["A"], probs["B"]), strict=True)))
    return items


def parse_name(name: str) -> dict[str, str]:
    """What a file's name says; empty where it is no result of CAA."""
    if not (name.startswith("results_") and name.endswith(".json")):
        return {}
    body = name.removeprefix("results_").removesuffix(".json")
    found = list(_KEY.finditer(body))
    ends = [*(one.start() for one in found[1:]), len(body)]
    settings = {one[1]: body[one.end() : end] for one, end in zip(found, ends, strict=True)}
    return settings if {"layer", "multiplier", "type"} <= settings.keys() else {}


def read_result(path: Path) -> Result:
    """Read one result file of type ab.

    Raises:
        InputError: Its name has no layer or multiplier, or it holds no list of items with two probabilities each.
    """
    settings = parse_name(path.name)
    if not re.fullmatch(r"\d{1,4}", settings.get("layer", "")):
        raise InputError(f"{path}: its name says no layer; CAA's files are called results_layer=13_multiplier=1.0_...")
    try:
        finite = math.isfinite(float(settings["multiplier"]))
    except ValueError:
        finite = False
    if not finite:
        raise InputError(f"{path}: its name's multiplier {settings['multiplier'][:40]!r} is no finite number")
    try:
        rows = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {describe_cause(error)}") from None
    if not isinstance(rows, list) or not 0 < len(rows) <= MOST:
        raise InputError(f"{path}: needs a list of 1 to {MOST} items, as CAA's scripts write it")
    return Result(path, settings, tuple(_read_item(path, i, row) for i, row in enumerate(rows, start=1)))


def _read_item(path: Path, number: int, row: Any) -> Item:
    where = f"{path}, item {number}"
    lacking = [name for name in FIELDS if not isinstance(row, dict) or name not in row]
    if lacking:
        raise InputError(f"{where}: has no {', '.join(lacking)}; an item of type ab has {', '.join(FIELDS)}")
    if not isinstance(row["question"], str):
        raise InputError(f"{where}: question is {type(row['question']).__name__}; it is a text")
    letters = []
    for name in FIELDS[1:3]:
        found = _LETTER.fullmatch(row[name]) if isinstance(row[name], str) else None
        if found is None:
            raise InputError(f"{where}: {name} is {str(row[name])[:40]!r}; it is a letter such as '(A)'")
        letters.append(found[1])
    return Item(row["question"], letters[0], letters[1], _read_probs(where, row))


def _read_probs(where: str, row: Mapping[str, Any]) -> tuple[float, float]:
    a, b = (row[name] for name in FIELDS[3:])
    for name, value in zip(FIELDS[3:], (a, b), strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"{where}: {name} is {str(value)[:40]!r}; it is a probability, from 0 to 1")
    if a + b > 1.01:  # half precision rounds each to three digits
        raise InputError(f"{where}: a_prob + b_prob is {a + b:g}; both are out of one distribution, at most 1")
    return float(a), float(b)


def list_results(folder: Path) -> Sequence[Path]:
    """Files in a folder that are named as CAA's results are, of any type.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no folder; name the one with CAA's results, such as results/sycophancy")
    return sorted(path for path in folder.iterdir() if parse_name(path.name))
