"""What a number depends on, hashed: the keys of work units, by which finished work is found again.

A unit's context is what all its numbers depend on; an item's key is what tells it from the others of one context. What
cannot change a number stands in none of them: the memory budget, the run directory, a condition's name or kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from completions_lp.records import (
    BASELINE,
    Completions,
    Condition,
    Labelling,
    Prompt,
    Sampling,
    SteeringVector,
    Through,
    find_edit,
)
from completions_lp.score.places import Place
from completions_lp.store.units import hash_value
from completions_lp.work.hashes import hash_array
from completions_lp.work.machine import list_versions

FORMAT = 1
"""Raised with every change of this package after which old units hold other numbers, or hold them otherwise."""
STEERED = 2
"""The same for steered draws alone: 2 since those of models without a cache are steered at all that they have said."""
READ_OUT = 2
"""The same for the two-choice read-out alone: 2 since all answers on offer are read, in all their spellings."""
_NETWORK = ("weights", "config", "dtype", "residual")
_LIBRARIES = ("torch", "transformers", "nnsight")


def describe_network(model: Mapping[str, Any]) -> dict[str, Any]:
    """The part of every context: the network as ``Model.describe`` has it, the kind of device, what runs it."""
    versions = list_versions()
    return {
        "format": FORMAT,
        **{name: model.get(name) for name in _NETWORK},
        "device": str(model["device"]).partition(":")[0],
        **{name: versions[name] for name in _LIBRARIES},
    }


def describe_draws(
    model: Mapping[str, Any], sampling: Sampling, vectors: Sequence[SteeringVector], condition: Condition
) -> dict[str, Any]:
    """The context of draws: how often is no part of it, since fewer draws are the first of more."""
    how = {
        name: getattr(sampling, name) for name in ("max_new_tokens", "temperature", "top_p", "top_k", "greedy", "seed")
    }
    if not sampling.is_ancestral:  # of which units of earlier versions do not have the sampler's own log probs
        how["sampler"] = True
    steered = None if condition == BASELINE else [condition.vector, key_condition(condition, vectors), STEERED]
    return {**describe_network(model), **how, "condition": steered}


def describe_scores(
    model: Mapping[str, Any], labelling: Labelling, *, watch: bool, kl: bool, through: Through = "end"
) -> dict[str, Any]:
    """The context of token scores; with ``watch`` it says which tokens complete an answer."""
    rule = [model["tokenizer"], labelling.rule, labelling.pattern] if watch else None
    cut = {} if through == "end" else {"through": through}  # which units of whole completions have never named
    return {**describe_network(model), "rule": rule, "kl": kl, **cut}


def describe_choices(model: Mapping[str, Any]) -> dict[str, Any]:
    """The context of the two-choice read-out."""
    return {**describe_network(model), "tokenizer": model["tokenizer"], "read_out": READ_OUT}


def describe_prompt(prompt: Prompt) -> dict[str, Any]:
    """All of a prompt; a twin's name alone has it, since prompts of earlier versions have none."""
    return {name: value for name, value in asdict(prompt).items() if name != "twin" or value}


def key_prompt(prompt: Prompt) -> str:
    """Of a prompt that is drawn from: its tokens, and the id, which names its random numbers."""
    return hash_value([prompt.id, list(prompt.token_ids)])


def key_question(prompt: Prompt, target: str) -> str:
    """Of a prompt whose answers are read: its id and tokens, which two are compared, all, and how they are written."""
    asked = [prompt.pair(target), prompt.letters, prompt.answer_format]
    return hash_value([prompt.id, list(prompt.token_ids), *asked])


def key_completions(completions: Completions, target: str | None, through: Through = "end") -> list[str]:
    """Of each completion: its prompt by id and tokens, its own tokens, and the two answers that are watched for.

    Where not all of its tokens are scored, also how many are: that hangs on the window and on where the answer stands.
    """
    asked = [
        hash_value([prompt.id, list(prompt.token_ids), None if target is None else prompt.pair(target)])
        for prompt in completions.prompts
    ]
    said = [ids[:n].tolist() for ids, n in zip(completions.token_ids, completions.lengths, strict=True)]
    rows = zip(completions.prompt_index, said, completions.count_scored(through).tolist(), strict=True)
    return [hash_value([asked[i], ids, *([] if n == len(ids) else [n])]) for i, ids, n in rows]


def key_place(place: Place) -> str:
    """Of a place where answers are read: its prompt, what is said before it, and which tokens are read there."""
    asked = [place.prompt.id, list(place.prompt.token_ids), place.prompt.letters, list(place.said)]
    return hash_value([*asked, [None if side is None else asdict(side) for side in place.sides]])


def key_condition(condition: Condition, vectors: Sequence[SteeringVector]) -> str:
    """Of a condition: what is added, where, and how strongly; one key for all that add nothing."""
    if not condition.steers:
        return hash_value(None)
    vector = next(vector for vector in vectors if vector.name == condition.vector)
    how = [float(condition.multiplier) + 0.0, condition.positions]
    if condition.is_plain:
        return hash_value([hash_array(vector.directions[condition.layer]), int(condition.layer), *how])
    edits = [(int(layer), find_edit(vector, condition, layer)) for layer in condition.layers]
    done = [[layer, hash_array(edit.added), hash_array(edit.unit), float(edit.share)] for layer, edit in edits]
    return hash_value([done, *how])
