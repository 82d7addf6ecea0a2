"""How often the target answer was given."""

import numpy as np

from completions_lp.records import Completions, pick_letters


def count_answers(completions: Completions, *, target: str) -> dict[str, np.ndarray]:
    """Per prompt: draws ``n``, distinct ones ``n_unique``, those that gave the target ``n_A``, their ``share_A``.

    Raises:
        InputError: No prompt offers the target.
    """
    pick_letters(completions.prompts, target)
    size = len(completions.prompts)
    hit = completions.hits(target)
    index, counts = completions.prompt_index, completions.counts
    n = np.bincount(index, weights=counts, minlength=size)
    n_target = np.bincount(index[hit], weights=counts[hit], minlength=size)
    with np.errstate(invalid="ignore"):
        share = np.where(completions.offered(target), n_target / n, np.nan)
    return {
        "n": n.astype(np.int64),
        "n_unique": np.bincount(index, minlength=size),
        "n_A": n_target.astype(np.int64),
        "share_A": share,
    }
