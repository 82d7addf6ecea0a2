"""Validation by direct draws: what the steered model itself says in a few cells, beside the estimates."""

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from completions_lp.model import Model
from completions_lp.plan.validation import Validation, check_estimates
from completions_lp.records import Completions, Condition, InputError, Measures, SteeringVector
from completions_lp.sample.draws import draw_steered

SEED_OFFSET = 2**32
"""Added to the run's seed, so that a check shares no draw with its estimate (a top-up draws under the run's own)."""


def validate_cells(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    measures: Measures,
    conditions: Sequence[Condition],
    *,
    target: str,
    draws: int = 50,
    memory_budget: float | None = None,
    progress: bool = True,
) -> Validation:
    """Draw from the steered model itself and count the target, beside what was estimated (numbers.md P11).

    Args:
        model: The model.
        completions: What it said without steering: how it was drawn and labelled.
        vectors: The vectors that the conditions name.
        measures: What was estimated, of the same prompts.
        conditions: The conditions to check, among those of the measures.
        target: The answer that the measures are of.
        draws: Completions of the steered model per prompt and condition; their random numbers serve nothing else.
        memory_budget: GiB that a pass may take; by default a quarter of the machine's memory.
        progress: Show a bar.

    Raises:
        InputError: A condition was not measured, there is none, or the completions are not plain samples.
    """
    if not completions.sampling.is_ancestral:
        raise InputError(
            "P(A) under steering is estimated from plain samples only, and this run has others (temperature, top_p, "
            "top_k or greedy): there is nothing to check"
        )
    if draws < 1:
        raise InputError(f"draws is {draws}; at least 1 is needed")
    missing = [c for c in conditions if c not in measures.conditions]
    if missing or not conditions:
        raise InputError(f"no estimate to check for {missing[0] if missing else 'no condition'}")
    options: dict[str, Any] = {"seed": completions.sampling.seed + SEED_OFFSET, "memory_budget": memory_budget}
    drawn = {
        c: draw_steered(model, completions, vectors, c, draws, progress=False, **options)
        for c in tqdm(conditions, desc="validate", unit="condition", disable=not progress)
    }
    return check_estimates(measures, drawn, target=target)
