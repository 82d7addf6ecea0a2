"""Whether two tokenizers write the same texts with the same ids, and what differs, value by value."""

import json
from collections.abc import Mapping
from typing import Any

from completions_lp.records import InputError

SHOWN = 3
"""Tokens that a message names; of more it says how many."""
RULES = ("normalizer", "pre_tokenizer", "decoder")
"""What a tokenizer does with a text beside its vocabulary, as tokenizer.json has it; merges are of its model."""


def compare_tokenizers(own: Any, other: Any) -> list[str]:
    """What differs between two tokenizers of transformers or of ``tokenizers``, in words; empty where they are alike.

    What they call the end of a text, or the template of a chat, may differ: ids mean the same all the same.
    """
    mine, theirs = own.get_vocab(), other.get_vocab()
    told = []
    if len(mine) != len(theirs):
        told.append(f"{len(mine)} tokens in the run's own, {len(theirs)} in the rival's")
    told += _compare_vocabularies(mine, theirs)
    rules, others = _read_rules(own), _read_rules(other)
    if rules and others:
        told += [
            f"its {name} is {_cut(others.get(name))}, the run's own {_cut(rules.get(name))}"
            for name in RULES
            if rules.get(name) != others.get(name)
        ]
        if not told and (rules.get("model") or {}).get("merges") != (others.get("model") or {}).get("merges"):
            told.append("its merges are others")
    return told


def check_tokenizers(where: str, own: Any, other: Any) -> None:
    """Raise InputError, with what differs, unless two tokenizers write the same texts with the same ids."""
    differences = compare_tokenizers(own, other)
    if differences:
        raise InputError(
            f"{where} has another tokenizer, by which the same ids are other texts: {'; '.join(differences)}. Only a "
            "model with the run's own tokenizer can be its rival"
        )


def _compare_vocabularies(mine: Mapping[str, int], theirs: Mapping[str, int]) -> list[str]:
    """Ids that stand for different tokens."""
    names = {place: token for token, place in theirs.items()}
    differing = sorted((place, token) for token, place in mine.items() if theirs.get(token) != place)
    if not differing:
        return []
    shown = ", ".join(f"id {place} is {token!r} and {names.get(place)!r}" for place, token in differing[:SHOWN])
    more = f" and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
    return [f"{shown}{more} (the run's own and the rival's)"]


def _read_rules(tokenizer: Any) -> dict[str, Any]:
    """A tokenizer as tokenizer.json has it; empty for one that is not made of it."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        return {}
    rules: dict[str, Any] = json.loads(backend.to_str())
    return rules


def _cut(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"
