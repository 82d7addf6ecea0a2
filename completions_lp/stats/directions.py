"""The steering vector against random directions: is it better than a vector that means nothing?

A t-test over prompts cannot tell (numbers.md §4: 13–53 % false positives when the vector is itself random); here the
directions are the sample. Every function expects a large value to be the hypothesis: negate what should be small.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import stdtr

from completions_lp.records import InputError

ByCell = Float[np.ndarray, "*cell"]
Directions = Float[np.ndarray, "direction *cell"]
MIN_DIRECTIONS = 19
"""The fewest directions with which a one-sided p of .05 exists; 39 for a two-sided one, 99 for .01."""


def rank_against_directions(value: ByCell, directions: Directions) -> ByCell:
    """One-sided p-value of the vector among R random or shuffled directions: (1 + #{directions ≥ value}) / (R + 1).

    Value and directions are the same estimate in the same cells; NaN where the value or any direction is undefined. For
    a whole sweep compare its maximum over cells with the maximum of each direction. Source: numbers.md §4, P9.

    Raises:
        InputError: Fewer than 19 directions.
    """
    n = _count(directions)
    p = (1 + (directions >= value).sum(0)) / (n + 1)
    return np.where(np.isfinite(value) & np.isfinite(directions).all(0), p, np.nan)


def predict_from_directions(value: ByCell, directions: Directions) -> tuple[ByCell, ByCell]:
    """The vector's estimate as if it were one more direction: t = (y − mean)/(sd √(1 + 1/R)), with R − 1 degrees.

    t and its one-sided p-value; NaN where undefined, or where all directions agree. Source: numbers.md §4, P9.

    Raises:
        InputError: Fewer than 19 directions.
    """
    n = _count(directions)
    sd = directions.std(0, ddof=1)
    known = sd > n * np.finfo(np.float64).eps * np.abs(directions).max(0)  # else they agree but for rounding
    t = np.divide(value - directions.mean(0), sd * np.sqrt(1 + 1 / n), out=np.full(sd.shape, np.nan), where=known)
    return t, np.asarray(stdtr(n - 1, -t))


def band_of_directions(directions: Directions, *, level: float = 0.95) -> tuple[ByCell, ByCell]:
    """The central ``level`` of the directions in each cell, as lower and upper quantiles; NaN where one is undefined.

    Raises:
        InputError: Fewer than 19 directions.
    """
    _count(directions)
    low, high = np.quantile(directions, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray(low), np.asarray(high)


def _count(directions: Directions) -> int:
    if len(directions) < MIN_DIRECTIONS:
        raise InputError(
            f"{len(directions)} directions; a p-value needs at least {MIN_DIRECTIONS}, since with R directions none is "
            "below 1/(R + 1): set controls.random_directions (or shuffled_labels) to 19, better 39 or 99"
        )
    return len(directions)
