"""Numbers -> Estimates. Pure numpy and scipy; every function says what it estimates and from where the formula is."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats as scipy_stats

from completions_lp.records import Estimate

MIN_CLUSTERS = 6
"""Below this a population interval promises what it cannot keep (no two-sided p < .05 exists by sign flips)."""


def average_by_group(
    values: Float[np.ndarray, "*lead item"],
    weights: Float[np.ndarray, " item"] | Int[np.ndarray, " item"],
    groups: Int[np.ndarray, " item"],
    n_groups: int,
    *,
    where: Bool[np.ndarray, " item"] | None = None,
) -> Float[np.ndarray, "*lead {n_groups}"]:
    """Weighted mean of the items of each group; NaN for a group without items.

    Sums are taken in float64. ``where`` restricts the mean to some items; a NaN among the remaining values makes its
    group NaN.
    """
    keep = np.ones(len(groups), dtype=bool) if where is None else where
    shape = (*values.shape[:-1], n_groups)
    total = np.bincount(groups[keep], weights=weights[keep], minlength=n_groups)
    flat = values[..., keep].reshape(-1, int(keep.sum())).astype(np.float64)
    sums = np.zeros((len(flat), n_groups))
    for i, row in enumerate(flat):
        sums[i] = np.bincount(groups[keep], weights=row * weights[keep], minlength=n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums / total).reshape(shape)


def mean_interval(
    values: Float[np.ndarray, " prompt"],
    clusters: Int[np.ndarray, " prompt"],
    *,
    unit: str,
    level: float = 0.95,
) -> Estimate:
    """Mean over prompts with a t interval over clusters (prompts, where each prompt is its own cluster).

    Args:
        values: One number per prompt; NaN where it is undefined, which drops the prompt.
        clusters: The cluster of each prompt, as an index.
        unit: Unit of the values, for the record.
        level: Coverage of the interval.

    Returns:
        The mean; its interval is ``None`` with fewer than 6 clusters. With one prompt per cluster this is the interval
        of ``scipy.stats.ttest_1samp``; else the variance is the cluster-robust one of the mean with G/(G−1) and
        t(G−1) (Cameron, Gelbach and Miller 2008; Miller 2024, arXiv 2411.00640).
    """
    keep = np.isfinite(values)
    x = values[keep].astype(np.float64)
    n = len(x)
    names, inverse = np.unique(clusters[keep], return_inverse=True)
    g = len(names)
    method = "t" if g == n else "cluster t"
    if n == 0:
        return Estimate(float("nan"), None, None, level, unit, 0, 0, method)
    mean = float(x.mean())
    if g < MIN_CLUSTERS:
        return Estimate(mean, None, None, level, unit, n, g, method)
    sums = np.bincount(inverse, weights=x - mean, minlength=g)
    se = float(np.sqrt(g / (g - 1) * np.sum(sums**2)) / n)
    # Every prompt says the same but for rounding (multiplier 0): no width is known, which is not width zero.
    if se <= np.finfo(np.float64).eps * np.abs(x).max():
        return Estimate(mean, None, None, level, unit, n, g, method)
    half = float(scipy_stats.t.ppf(0.5 + level / 2, g - 1)) * se
    return Estimate(mean, mean - half, mean + half, level, unit, n, g, method)
