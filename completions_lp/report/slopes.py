"""Dose and response: how much a quantity changes per unit of multiplier, prompt by prompt, then over prompts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from completions_lp.quantities import name_unit
from completions_lp.records import Condition, Slope
from completions_lp.report.choices import Steered
from completions_lp.report.prompts import Columns
from completions_lp.stats import mean_interval, share_below_zero

SLOPED = ("log_ratio_A", "logit_diff_change")


def fit_slopes(columns: Columns, *, level: float = 0.95) -> tuple[Slope, ...]:
    """Least-squares slopes over the multipliers, 0 among them, where nothing changes by definition.

    One number per prompt, so one test per layer instead of one per multiplier; near 0 the slope of the log ratio is
    also that of the headline, without its loss to damage (numbers.md I6). By vector, layer, positions and quantity; a
    prompt on which the quantity is undefined at any multiplier is left out, and so is a multiplier with log probs that
    are no finite numbers. ``below_zero`` needs three multipliers, 0
    included: with two, no prompt shows its own noise. Source: numbers.md §5; Tan et al. 2024 (arXiv 2407.12404).
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, c in enumerate(columns.conditions):
        if c.steers and not c.is_neutral and c.operation != "clamp" and not columns.count_lost()[i]:
            groups.setdefault((c.vector, c.kind, c.layers, c.positions, c.operation), []).append(i)
    return tuple(
        _fit_group([columns.conditions[i] for i in at], columns.steered[quantity][at], columns, quantity, level)
        for at in groups.values()
        for quantity in SLOPED
        if quantity in columns.steered
    )


def fit_lines(
    multipliers: Float[np.ndarray, " dose"], values: Float[np.ndarray, "dose prompt"]
) -> tuple[Float[np.ndarray, " prompt"], Float[np.ndarray, " prompt"]]:
    """Slope of each prompt's least-squares line, intercept included, and its standard error; NaN with two doses."""
    x = multipliers - multipliers.mean()
    y = values - values.mean(0)
    slope = x @ y / (x @ x)
    with np.errstate(invalid="ignore", divide="ignore"):
        se = np.sqrt(((y - np.outer(x, slope)) ** 2).sum(0) / np.float64(len(x) - 2) / (x @ x))
    return slope, se if len(x) > 2 else np.full(slope.shape, np.nan)


def _fit_group(
    conditions: Sequence[Condition], values: Steered, columns: Columns, quantity: str, level: float
) -> Slope:
    multipliers = np.array([0.0, *(c.multiplier for c in conditions)])
    slope, se = fit_lines(multipliers, np.concatenate([np.zeros((1, values.shape[1])), values]))
    first, unit = conditions[0], f"{name_unit(quantity)}/multiplier"
    estimate = mean_interval(slope, columns.clusters, unit=unit, level=level)
    doses = tuple(sorted(multipliers.tolist()))
    place = (first.vector, first.kind, first.layer, first.positions)
    return Slope(*place, quantity, estimate, share_below_zero(slope, se), doses, first.operation, first.every_layer)
