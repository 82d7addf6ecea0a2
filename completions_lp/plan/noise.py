"""How well a quantity is known on each single prompt: the standard error from the prompt's own completions."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from completions_lp.quantities import HEADLINE, PRIMARY, QUANTITIES, find_quantity
from completions_lp.records import Condition, Increases, InputError, Measures, Report
from completions_lp.stats import average_by_group

AVERAGED = {
    HEADLINE: ("increase_to_answer", (True,)),
    "increase_A": ("increase", (True,)),
    "increase_to_answer_not_A": ("increase_to_answer", (False,)),
    "increase_not_A": ("increase", (False,)),
    "increase_all": ("increase", (True, False)),
    "before_answer_A": ("before_answer", (True,)),
    "at_answer_A": ("at_answer", (True,)),
    "after_answer_A": ("after_answer", (True,)),
}
"""Means over completions: of which part of ``Increases``, and whether over those with the target, without, or both."""
KNOWN = tuple(name for name, quantity in QUANTITIES.items() if quantity.noise)
"""All quantities whose noise on a prompt is known; of the two-choice read-out there is none, since nothing is drawn."""


def measure_noise(
    report: Report, measures: Measures, quantity: str, condition: Condition
) -> tuple[Float[np.ndarray, " prompt"], Float[np.ndarray, " prompt"]]:
    """Values of a quantity by prompt, and the standard error of each from its own completions.

    A change of P(A) has an error of its own, from the same draws; where further draws joined the steered one, the two
    errors are added up as if they were independent. On the scales of logs, by the delta method.

    Raises:
        InputError: The noise of the quantity is not known, or the report has no completions behind it.
    """
    noise = find_quantity(quantity).noise
    if not noise:
        raise InputError(f"the noise of {quantity!r} on a prompt is not known; it is known of {', '.join(KNOWN)}")
    increases = report.increases
    if increases is None:
        raise InputError("this report has no completions behind it; load it from its run directory")
    place = increases.conditions.index(condition)
    size = len(increases.completions.prompts)
    values: np.ndarray = np.asarray(report.prompts[quantity][place * size : (place + 1) * size], dtype=np.float64)
    if noise == "none":
        return values, np.zeros(size)
    if noise == "probability":
        return values, _spread_probability(measures, quantity, measures.conditions.index(condition))
    if quantity == "difference_A_not_A":
        parts = (HEADLINE, "increase_to_answer_not_A")
        errors = [_spread_average(increases, report.target, place, *AVERAGED[part]) for part in parts]
        return values, np.hypot(*errors)
    return values, _spread_average(increases, report.target, place, *AVERAGED[quantity])


def _spread_probability(measures: Measures, quantity: str, place: int) -> Float[np.ndarray, " prompt"]:
    """Standard errors of P(A) under a condition and of its changes, from those of both and of their difference."""
    names = ("p_A_steered", "p_A_steered_se", "p_A_change_se")
    q, after, change = (measures.steered[name][place] for name in names)
    p, before = measures.unsteered["p_A"], measures.unsteered["p_A_se"]
    if quantity == "p_A_steered":
        return np.asarray(after)
    common = np.where(np.isfinite(change), (before**2 + after**2 - change**2) / 2, 0.0)  # covariance of the two
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (_DERIVATIVES[quantity](x) for x in (p, q))
        return np.asarray(np.sqrt(np.maximum((a * before) ** 2 + (b * after) ** 2 - 2 * a * b * common, 0.0)))


_DERIVATIVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    PRIMARY: lambda p: np.full_like(p, 100.0),
    "log_ratio_A": lambda p: 1 / p,
    "delta_logit_A": lambda p: 1 / (p * (1 - p)),
}
"""Of the scale on which a change of P(A) is told."""


def _spread_average(
    increases: Increases, target: str, place: int, part: str, kept: tuple[bool, ...]
) -> Float[np.ndarray, " prompt"]:
    """Standard error of each prompt's mean over its completions, sd/√n; of a single one, by the pooled sd."""
    completions = increases.completions
    index, counts, size = completions.prompt_index, completions.counts, len(completions.prompts)
    hit, offered = completions.hits(target), completions.offered(target)[index]
    where = np.isin(hit, kept) & offered
    values = getattr(increases, part)[place]
    mean = average_by_group(values, counts, index, size, where=where)
    variance = average_by_group((values - mean[index]) ** 2, counts, index, size, where=where)
    n = np.bincount(index[where], weights=counts[where], minlength=size)
    several = n > 1
    pooled = (n * variance)[several].sum() / (n[several] - 1).sum() if several.any() else np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(np.where(several, variance / (n - 1), np.where(n == 1, pooled, np.nan))))
