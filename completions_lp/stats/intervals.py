"""Prompt-level numbers -> means over prompts, with intervals and tests over clusters.

The cluster is the unit of resampling, by default the prompt itself. Prompts with an undefined number are left out.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr, stdtr, stdtrit

from completions_lp.records import Estimate

Clusters = Int[np.ndarray, " prompt"]
"""The cluster of each prompt, as an index."""
ByPrompt = Float[np.ndarray, "cell prompt"]
"""One number per cell and prompt; NaN where it is undefined, which leaves the prompt out of that cell."""
ByCell = Float[np.ndarray, " cell"]
Sizes = Int[np.ndarray, " cell"]
Sums = Float[np.ndarray, "cell cluster"]
MIN_CLUSTERS = 6
"""Below this a population interval promises what it cannot keep (no two-sided p < .05 exists by sign flips)."""
FEW_CLUSTERS = 20
"""Below this an interval is wide and leans on normality: it is told, and no plan asks for fewer."""
EPS = float(np.finfo(np.float64).eps)


def average_by_group(
    values: Float[np.ndarray, "*lead item"],
    weights: Float[np.ndarray, " item"] | Int[np.ndarray, " item"],
    groups: Int[np.ndarray, " item"],
    n_groups: int,
    *,
    where: Bool[np.ndarray, " item"] | None = None,
) -> Float[np.ndarray, "*lead {n_groups}"]:
    """Weighted mean of each group's items (those of ``where``), in float64; NaN with no item or a NaN among them."""
    keep = np.ones(len(groups), dtype=bool) if where is None else where
    shape = (*values.shape[:-1], n_groups)
    total = np.bincount(groups[keep], weights=weights[keep], minlength=n_groups)
    flat = values[..., keep].reshape(math.prod(shape[:-1]), int(keep.sum())).astype(np.float64)
    sums = np.zeros((len(flat), n_groups))
    for i, row in enumerate(flat):
        sums[i] = np.bincount(groups[keep], weights=row * weights[keep], minlength=n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums / total).reshape(shape)


def sum_by_cluster(
    values: Float[np.ndarray, "*lead prompt"], clusters: Clusters
) -> tuple[Float[np.ndarray, "*lead cluster"], Float[np.ndarray, "*lead cluster"]]:
    """Sum of the defined values of each cluster, in the order of index, and how many; both 0 where there are none."""
    if values.shape[-1] == 0:
        return np.zeros(values.shape), np.zeros(values.shape)
    order = np.argsort(clusters, kind="stable")
    starts = np.unique(clusters[order], return_index=True)[1]
    known = np.isfinite(values)[..., order]
    sums = np.add.reduceat(np.where(known, values[..., order], 0.0), starts, axis=-1, dtype=np.float64)
    return sums, np.add.reduceat(known, starts, axis=-1, dtype=np.float64)


def measure_spread(
    values: Float[np.ndarray, "*lead prompt"], clusters: Clusters
) -> tuple[Float[np.ndarray, "*lead"], Float[np.ndarray, "*lead"], Int[np.ndarray, "*lead"], Int[np.ndarray, "*lead"]]:
    """Mean over prompts, its cluster-robust standard error, and the prompts and clusters behind them.

    SE² = G/(G−1) Σ_g (Σ_{i∈g} (y_i − ȳ))² / N², for singletons sd²/N (Cameron, Gelbach and Miller 2008; Miller 2024,
    arXiv 2411.00640). The error is NaN with fewer than two clusters, or where all values are equal but for rounding.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.isfinite(values)
        n = known.sum(-1)
        mean = np.where(known, values, 0.0).sum(-1, dtype=np.float64) / n
        sums, sizes = sum_by_cluster(values - mean[..., None], clusters)
        g = (sizes > 0).sum(-1)
        se = np.sqrt(g / (g - 1) * (sums**2).sum(-1)) / n
        rounding = EPS * np.abs(np.where(known, values, 0.0)).max(-1, initial=0.0)
        return np.asarray(mean), np.where(se > rounding, se, np.nan), np.asarray(n), np.asarray(g)


def mean_intervals(values: ByPrompt, clusters: Clusters, *, unit: str, level: float = 0.95) -> tuple[Estimate, ...]:
    """Means over prompts, cell by cell, with t intervals over clusters (prompts, where each is its own cluster).

    ``None`` below 6 clusters; else t(G−1) with the error of ``measure_spread`` (``ttest_1samp`` for single prompts).
    """
    mean, se, n, g = measure_spread(values, clusters)
    method = np.where(g == n, "t", "cluster t").tolist()
    return bracket(mean, se, df=(g - 1).astype(np.float64), level=level, unit=unit, n=n, g=g, method=method)


def mean_interval(
    values: Float[np.ndarray, " prompt"], clusters: Clusters, *, unit: str, level: float = 0.95
) -> Estimate:
    """``mean_intervals`` of a single cell."""
    return mean_intervals(values[None], clusters, unit=unit, level=level)[0]


def bracket(
    value: ByCell, se: ByCell, *, df: ByCell, level: float, unit: str, n: Sizes, g: Sizes, method: Sequence[str]
) -> tuple[Estimate, ...]:
    """Estimates with their t intervals; bare points where the standard error is undefined or the clusters are few."""
    known = (g >= MIN_CLUSTERS) & np.isfinite(se) & np.isfinite(value)
    half = stdtrit(np.where(known, df, 1.0), 0.5 + level / 2) * np.where(known, se, np.nan)
    columns = (x.tolist() for x in (known, value, value - half, value + half, n, g, se, df))
    return tuple(
        Estimate(v, low, high, level, unit, n, g, name, s, d)
        if known
        else Estimate(v, None, None, level, unit, n, g, name)
        for known, v, low, high, n, g, s, d, name in zip(*columns, method, strict=True)
    )


def mean_t(
    values: Float[np.ndarray, "*lead prompt"], clusters: Clusters
) -> tuple[Float[np.ndarray, "*lead"], Float[np.ndarray, "*lead"]]:
    """Student's t of the mean over prompts against 0, and its two-sided p-value with G − 1 degrees of freedom.

    For single prompts ``scipy.stats.ttest_1samp``. NaN where the spread is unknown, p also with fewer than 6 clusters.
    """
    mean, se, _, g = measure_spread(values, clusters)
    t = mean / se
    p = 2 * stdtr(np.maximum(g - 1, 1), -np.abs(t))
    return np.asarray(t), np.where(g >= MIN_CLUSTERS, p, np.nan)


def fixed_prompt_se(se: Float[np.ndarray, "*lead prompt"]) -> Float[np.ndarray, "*lead"]:
    """Standard error of a mean over just these prompts, from each prompt's own sampling noise: √(Σ se_i²)/N.

    It is about these prompts, not others; a prompt without a standard error is left out. Source: numbers.md §4.
    """
    known = np.isfinite(se)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(np.where(known, se**2, 0.0).sum(-1)) / known.sum(-1))


def difference_interval(
    first: Float[np.ndarray, " prompt1"],
    second: Float[np.ndarray, " prompt2"],
    clusters1: Int[np.ndarray, " prompt1"],
    clusters2: Int[np.ndarray, " prompt2"],
    *,
    unit: str,
    level: float = 0.95,
) -> Estimate:
    """Mean of the second set of prompts less that of the first, two independent samples: Welch's t over clusters.

    With one prompt per cluster this is ``scipy.stats.ttest_ind(equal_var=False)``. No interval where either has fewer
    than 6 clusters; ``n`` and ``n_clusters`` add both. Source: Welch 1947.
    """
    (mean1, se1, n1, g1), (mean2, se2, n2, g2) = measure_spread(first, clusters1), measure_spread(second, clusters2)
    se = np.sqrt(se1**2 + se2**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        df = se**4 / (se1**4 / (g1 - 1) + se2**4 / (g2 - 1))
    enough = np.where(np.minimum(g1, g2) >= MIN_CLUSTERS, se, np.nan)
    one = [np.atleast_1d(x) for x in (mean2 - mean1, enough, df, n1 + n2, g1 + g2)]
    return bracket(one[0], one[1], df=one[2], level=level, unit=unit, n=one[3], g=one[4], method=["Welch t"])[0]


def share_below_zero(values: Float[np.ndarray, " prompt"], se: Float[np.ndarray, " prompt"]) -> float:
    """Share of the prompts that are truly steered the wrong way, after shrinking away their sampling noise.

    Counting estimates below 0 counts noise, too. Here true values are normal with the estimates' mean and their
    variance less the mean se²; the share is the mean posterior probability below 0, mean Φ(−μ̃_i/σ̃_i). Where noise
    explains all the spread, every prompt has the common mean. A prompt without a value or an error is left out; NaN
    with fewer than two. Source: numbers.md §4; Tan et al. 2024 (arXiv 2407.12404) for the quantity.
    """
    keep = np.isfinite(values) & np.isfinite(se)
    y, noise = values[keep].astype(np.float64), se[keep].astype(np.float64) ** 2
    if len(y) < 2:
        return float("nan")
    between = max(float(y.var(ddof=1) - noise.mean()), 0.0)
    spread = between + noise
    trust = np.divide(between, spread, out=np.ones_like(y), where=spread > 0)
    centre = y.mean() + trust * (y - y.mean())
    sd = np.sqrt(trust * noise)
    below = np.where(centre < 0, 1.0, np.where(centre > 0, 0.0, 0.5))
    z = np.divide(-centre, sd, out=np.zeros_like(y), where=sd > 0)
    return float(np.where(sd > 0, ndtr(z), below).mean())
