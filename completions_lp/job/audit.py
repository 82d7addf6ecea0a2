"""A run directory -> the audit of its labels: from stored completions and token scores, without the network."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from completions_lp import store
from completions_lp.job.config import make_config
from completions_lp.job.places import find_place
from completions_lp.job.results import load
from completions_lp.records import Completions, Condition, InputError, Labelling, Report, TokenScores
from completions_lp.report.labels import (
    EXAMPLES,
    MOVED,
    Readable,
    RuleEffect,
    compare_rules,
    count_labels,
    find_ambiguous,
    find_disagreements,
    list_rules,
    measure_rule,
    name_rule,
    relabel,
)
from completions_lp.sample.pieces import is_plain_text
from completions_lp.show.text.labels import LabelAudit
from completions_lp.work import keys
from completions_lp.work.cover import Block, Shelf, find_missing, join_blocks

HELD = 2**25
"""Scores of single tokens that are held at once, but for a prompt that has more."""


def audit_labels(
    folder: str | Path, *, rules: Mapping[str, Labelling] | None = None, examples: int = EXAMPLES
) -> LabelAudit:
    """What other label rules would have called the completions of a run, and how far its headline hangs on the rule.

    No model is needed; the tokenizer is, where a token has written no text, as special ones do, which a tag of a
    thinking part may be.

    Args:
        folder: The run directory, scored.
        rules: Further rules to compare with, by whatever name; beside the run's own, and those of ``list_rules``.
        examples: Completions to keep of each pair of rules that disagree.

    Returns:
        ``counts``, ``disagreements`` and ``effects`` (the average increase to the answer, in nats, and the change of
        P(A) by labels, in percentage points: means over prompts, and what each less that of the run's own rule is), all
        of them in ``rows``; printed, it is their tables.

    Raises:
        InputError: It is not a run directory, or not scored.
    """
    folder = Path(folder)
    report = load(folder)
    completions = report.increases.completions if report.increases is not None else None
    if completions is None:  # which no stored report lacks
        raise InputError(f"{folder}: has no completions; run its stages first")
    every = {**list_rules(completions), **(rules or {})}
    own, notes = next(iter(every)), list[str]()
    readable = _read_completions(report, completions, notes)
    by_rule = {
        rule: completions if rule == own else relabel(completions, labelling, readable)
        for rule, labelling in every.items()
    }
    counts = [
        count_labels(rule, said, find_ambiguous(said.labelling, readable), target=report.target)
        for rule, said in by_rule.items()
    ]
    effects = _measure_effects(folder, report, by_rule, notes)
    disagreements = tuple(find_disagreements(by_rule, examples=examples))
    best = None if report.best is None else report.best.condition
    return LabelAudit(report.target, tuple(counts), disagreements, effects, best, tuple(notes))


def name_asked(labelling: Labelling) -> str:
    """What a rule that was asked for is called beside the others."""
    return f"{name_rule(labelling)} (asked)"


def _read_completions(report: Report, completions: Completions, notes: list[str]) -> Readable:
    """By stored pieces of text, or where these do not tell, by the run's tokenizer."""
    pairs = zip(completions.pieces, completions.ended.tolist(), strict=True)
    if all(is_plain_text(pieces, ended=ended) for pieces, ended in pairs):
        return Readable.of(completions)
    from completions_lp.model import load_tokenizer  # which imports torch

    asked = make_config(report.info["config"]).model
    try:
        return Readable.of(completions, load_tokenizer(asked.name, revision=asked.revision))
    except (InputError, OSError) as error:
        notes.append(f"tokens without text may be special ones, and there is no tokenizer to tell: {error}")
        return Readable.of(completions)


def _measure_effects(
    folder: Path, report: Report, by_rule: Mapping[str, Completions], notes: list[str]
) -> tuple[RuleEffect, ...]:
    """The numbers by every rule in the cells of the target vector; none where token scores are not there."""
    completions = next(iter(by_rule.values()))
    if report.increases is None or not completions.sampling.is_ancestral:
        notes.append("completions were not drawn by plain sampling, of which alone P(A) is estimated: no numbers")
        return ()
    conditions = [c for c in report.increases.conditions if c.kind == "target" and not c.is_neutral]
    reach = completions.count_scored(report.through)
    short = [rule for rule, said in by_rule.items() if (said.count_scored(report.through) > reach).any()]
    for rule in short:
        notes.append(f'{rule}: needs tokens that were not scored ([scoring] through = "{report.through}"): no numbers')
    parts: dict[str, list[dict[str, Any]]] = {rule: [] for rule in by_rule if rule not in short}
    try:
        for prompts, scores in _read_scores(folder, report, completions, conditions):
            for rule, found in parts.items():
                found.append(measure_rule(scores, by_rule[rule].select(prompts), target=report.target))
    except _Missing:
        notes.append(f"token scores are not in {folder / 'units'}, as of a report that was saved: no numbers")
        return ()
    values = {
        rule: {name: np.concatenate([part[name] for part in found], axis=1) for name in MOVED}
        for rule, found in parts.items()
    }
    return compare_rules(values, conditions, [prompt.cluster for prompt in completions.prompts])


class _Missing(Exception):  # noqa: N818
    """A score that is needed is in no unit."""


def _read_scores(
    folder: Path, report: Report, completions: Completions, conditions: Sequence[Condition]
) -> Iterator[tuple[list[int], TokenScores]]:
    """The scores of a few prompts at a time, by their numbers, from the units that the score stage has used."""
    place = find_place(make_config(report.info["config"]), folder) or folder
    units = store.open_units(place, "scores", report.info["stages"]["score"].get("units", ()))
    if not units:
        raise _Missing
    vectors = store.read_vectors(folder)
    names = [keys.key_condition(condition, vectors) for condition in conditions]
    shelf = Shelf(None, "scores", {})
    for unit in units:
        shelf.add(unit)
    target = report.target if completions.labelling.is_by_token else None
    width = completions.token_ids.shape[1]
    sizes = np.bincount(completions.prompt_index) * width * max(1, len(conditions))
    for prompts in np.split(np.arange(len(sizes)), np.flatnonzero(np.diff(np.cumsum(sizes) // HELD)) + 1):
        part = completions.select(prompts.tolist())
        items = keys.key_completions(part, target, report.through)
        blocks = []
        for unit, table in shelf.find(items, lambda covers: not {*names}.isdisjoint(covers["conditions"])):
            rows = unit.covers["items"]
            blocks.append(Block(rows, unit.covers["conditions"], *store.read_sequences(table, len(rows))))
        if find_missing(blocks, items, names):
            raise _Missing
        found = join_blocks(blocks, items, names, width=width)
        arrays: dict[str, Any] = {"baseline": found.unsteered["logprob"], "logprob": found.steered["logprob"]}
        yield prompts.tolist(), TokenScores(part, tuple(conditions), **arrays, through=report.through)
