"""Which answer is the target of each prompt, and how often it was given."""

import numpy as np
from jaxtyping import Bool

from completions_lp.records import Completions, InputError


def resolve_target(completions: Completions, target: str) -> tuple[str, ...]:
    """The target answer of every prompt; raises InputError if no prompt offers it."""
    prompts = completions.prompts
    if target == "matching":
        return tuple(prompt.matching for prompt in prompts)
    if not any(target in prompt.letters for prompt in prompts):
        offered = ", ".join(sorted({letter for prompt in prompts for letter in prompt.letters}))
        raise InputError(f"target {target!r} is an answer of no prompt; they offer {offered}, or 'matching'")
    return (target,) * len(prompts)


def is_offered(completions: Completions, target: str) -> Bool[np.ndarray, " prompt"]:
    """Which prompts offer the target answer."""
    wanted = resolve_target(completions, target)
    return np.array([letter in p.letters for letter, p in zip(wanted, completions.prompts, strict=True)], dtype=bool)


def is_target(completions: Completions, target: str) -> Bool[np.ndarray, " completion"]:
    """Which completions gave the target answer."""
    wanted = np.array(resolve_target(completions, target), dtype=str)
    return np.asarray(completions.label == wanted[completions.prompt_index])


def count_answers(completions: Completions, *, target: str = "A") -> dict[str, np.ndarray]:
    """Per prompt: draws ``n``, distinct ones ``n_unique``, those that gave the target ``n_A``, their ``share_A``."""
    size = len(completions.prompts)
    hit = is_target(completions, target)
    index, counts = completions.prompt_index, completions.counts
    n = np.bincount(index, weights=counts, minlength=size)
    n_target = np.bincount(index[hit], weights=counts[hit], minlength=size)
    with np.errstate(invalid="ignore"):
        share = np.where(is_offered(completions, target), n_target / n, np.nan)
    return {
        "n": n.astype(np.int64),
        "n_unique": np.bincount(index, minlength=size),
        "n_A": n_target.astype(np.int64),
        "share_A": share,
    }
