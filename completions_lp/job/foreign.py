"""Results of other tools as a run of ours: CAA's A/B probabilities per layer and multiplier.

What their files lack is absent here: no completion was drawn, so nothing is known of what the model says by itself, of
P(A) within a window or of divergences. What they have makes the two-choice quantities, with intervals over prompts.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.records import (
    Choices,
    Completions,
    Condition,
    Increases,
    InputError,
    Labelling,
    Prompt,
    Report,
    Sampling,
)
from completions_lp.report import summarize
from completions_lp.store.caa import LETTERS, Item, Result, list_results, parse_name, read_result

UNSET = "none"
"""Of a setting: that a file's name does not have it."""
APART = 0.01
"""How far files of multiplier 0 may differ in a probability: half precision and other batches move it by less."""
NO_TOKENS = (0,)
"""In place of a prompt's tokens: the files have texts, and nothing is asked of a network about them."""


def import_results(folder: str | Path, *, only: Mapping[str, str] | None = None, name: str = "") -> Report:
    """The report of a folder of CAA's result files (``results_layer=13_multiplier=1.0_..._type=ab_....json``).

    Its conditions are the files, one per layer and multiplier; those of multiplier 0 are the unsteered model. Target is
    each question's matching answer. ``save`` makes a run directory of it, of which figures and comparisons are made.

    Args:
        folder: Such as ``results/sycophancy`` of CAA's repository; files of other types are passed over.
        only: Settings of the files' names, such as ``{"model_size": "7b", "system_prompt": "none"}``, where the folder
            has files of several; ``none`` for a setting that the name does not have.
        name: What the vector is called; the behaviour by default.

    Raises:
        InputError: The folder has no such files, or files of several settings; two are of one layer and multiplier;
            they are of different questions; or one is damaged.
    """
    results, settings, notes = _read_results(Path(folder), dict(only or {}))
    unsteered = [result for result in results if result.multiplier == 0]
    steered = sorted((r for r in results if r.multiplier != 0), key=lambda r: (r.layer, r.multiplier))
    if not steered:
        raise InputError(f"{folder}: has files of multiplier 0 alone, which is the unsteered model")
    kept = _pick_items(results, notes)
    prompts = _make_prompts(kept)
    notes += _check_unsteered(unsteered)
    vector = name or settings["behavior"] or "CAA"
    conditions = tuple(Condition(vector, "target", r.layer, r.multiplier) for r in steered)
    choices = Choices(
        prompts=prompts,
        letters=tuple((p.matching, p.not_matching) for p in prompts),
        conditions=conditions,
        baseline=_read_pairs(unsteered[0], kept) if unsteered else np.full((len(prompts), 2), np.nan),
        logprob=np.stack([_read_pairs(result, kept) for result in steered]),
    )
    report = summarize(_draw_none(prompts, conditions), choices)
    return _tell_origin(report, Path(folder), settings, notes)


def _read_results(folder: Path, only: Mapping[str, str]) -> tuple[list[Result], dict[str, str], list[str]]:
    """The files of one set of settings, read."""
    paths = list_results(folder)
    named = {path: parse_name(path.name) for path in paths}
    chosen = {path: told for path, told in named.items() if told["type"] == "ab"}
    if not chosen:
        raise InputError(
            f"{folder}: none of its {len(list(folder.iterdir()))} files is called as CAA calls its results of type ab "
            "(results_layer=13_multiplier=1.0_behavior=sycophancy_type=ab_use_base_model=False_model_size=7b.json)"
        )
    varied = {
        path: {k: v for k, v in told.items() if k not in ("layer", "multiplier")} for path, told in chosen.items()
    }
    keys = sorted({key for told in varied.values() for key in told})
    if unknown := sorted(set(only) - set(keys) - {"system_prompt", "override_vector", "override_vector_model"}):
        raise InputError(f"no file of {folder} has the setting {unknown[0]!r}; settings there are {', '.join(keys)}")
    matching = {p: t for p, t in varied.items() if all(t.get(key, UNSET) == value for key, value in only.items())}
    if not matching:
        raise InputError(f"{folder}: no file has {', '.join(f'{k}={v}' for k, v in only.items())}")
    for key in keys:
        values = sorted({told.get(key, UNSET) for told in matching.values()})
        if len(values) > 1:
            raise InputError(
                f"{folder}: files differ in {key} ({', '.join(values)}), and a report is of one: say which, --only "
                f"{key}={values[0]}"
            )
    results = [read_result(path) for path in matching]
    seen: dict[tuple[int, float], Path] = {}
    for result in results:
        other = seen.setdefault((result.layer, result.multiplier), result.path)
        if other != result.path:
            raise InputError(f"{other.name} and {result.path.name} are of one layer and multiplier; remove one")
    settings = {"behavior": "", "model_size": "", **next(iter(matching.values()))}
    passed = len(paths) - len(chosen)
    notes = [f"{passed} files of other types than ab are passed over"] if passed else []
    return results, settings, notes


def _pick_items(results: Sequence[Result], notes: list[str]) -> dict[int, Item]:
    """The items that are told, by their place in every file.

    Raises:
        InputError: Two files are of different questions, or no question has the answers A and B.
    """
    first = results[0]
    asked = [(item.question, item.matching, item.not_matching) for item in first.items]
    for other in results[1:]:
        theirs = [(item.question, item.matching, item.not_matching) for item in other.items]
        if theirs != asked:
            at = next((i for i, pair in enumerate(zip(asked, theirs, strict=False), 1) if pair[0] != pair[1]), None)
            where = f"{len(asked)} and {len(theirs)} of them" if at is None else f"item {at} differs"
            raise InputError(
                f"{first.path.name} and {other.path.name} are of different questions ({where}); a report is of files "
                "made on the same questions in the same order"
            )
    kept = {i: item for i, item in enumerate(first.items) if {item.matching, item.not_matching} == set(LETTERS)}
    if not kept:
        raise InputError(
            f"{first.path}: no question has the answers A and B, of which alone the files have probabilities"
        )
    if lost := len(first.items) - len(kept):
        notes.append(
            f"{lost} of {len(first.items)} questions are left out: their answers are not A and B, and the files have "
            "no other probabilities. CAA's own average counts those whose matching answer is another letter as 0"
        )
    return kept


def _make_prompts(items: Mapping[int, Item]) -> tuple[Prompt, ...]:
    prompts: list[Prompt] = []
    seen: dict[str, int] = {}
    for item in items.values():
        identity = hashlib.sha256(item.question.encode(errors="surrogatepass")).hexdigest()[:10]
        seen[identity] = seen.get(identity, 0) + 1
        unique = identity if seen[identity] == 1 else f"{identity}-{seen[identity]}"
        letters = item.matching, item.not_matching
        prompts.append(Prompt(unique, item.question, NO_TOKENS, LETTERS, *letters, cluster=identity))
    return tuple(prompts)


def _read_pairs(result: Result, kept: Mapping[int, Item]) -> Float[np.ndarray, "prompt 2"]:
    """Log probs of each question's matching and other letter; -inf where half precision left nothing of one."""
    probs = np.array([result.items[i].probs for i in kept])
    turned = np.array([item.matching == "B" for item in kept.values()])
    with np.errstate(divide="ignore"):
        return np.log(np.where(turned[:, None], probs[:, ::-1], probs))


def _check_unsteered(results: Sequence[Result]) -> list[str]:
    """What to say of the files of multiplier 0, which are all of the unsteered model."""
    if not results:
        return ["no file is of multiplier 0: nothing is known of the unsteered model, and no change by steering"]
    probs = [np.array([item.probs for item in result.items]) for result in results]
    gaps = [float(np.abs(other - probs[0]).max()) for other in probs[1:]]
    if max(gaps, default=0.0) <= APART:
        return []
    return [
        f"files of multiplier 0 differ by up to {max(gaps):.2g} in a probability, though nothing is added; that of "
        f"layer {results[0].layer} is taken for the unsteered model"
    ]


def _draw_none(prompts: tuple[Prompt, ...], conditions: tuple[Condition, ...]) -> Increases:
    """No completions of these prompts, and no increases."""
    none = np.zeros(0, dtype=np.int32)
    completions = Completions(
        prompts=prompts,
        prompt_index=none,
        token_ids=np.zeros((0, 1), dtype=np.int32),
        lengths=none,
        counts=none,
        ended=np.zeros(0, dtype=bool),
        label=np.zeros(0, dtype=np.str_),
        answer_index=none,
        logprob=np.zeros((0, 1)),
        text=(),
        pieces=(),
        sampling=Sampling(),
        labelling=Labelling(),
    )
    return Increases.of_none(completions, conditions)


def _tell_origin(report: Report, folder: Path, settings: Mapping[str, str], notes: Sequence[str]) -> Report:
    """The report with what is known of how it was made."""
    base = "base" if settings.get("use_base_model") == "True" else "chat"
    model = f"CAA's {settings['model_size']} {base} model" if settings["model_size"] else "CAA's model"
    config: dict[str, Any] = {"model": {"name": model}, "prompts": {"path": settings["behavior"] or folder.name}}
    info = {"config": config, "imported": {"format": "caa", "folder": folder.name, "settings": dict(settings)}}
    return replace(report, info=info, warnings=(*report.warnings, *notes))
