"""Intervals by leaving out or redrawing clusters: pooled ratios, contrasts of marginals, skewed quantities."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from completions_lp.records import Estimate
from completions_lp.stats.intervals import EPS, MIN_CLUSTERS, bracket, measure_spread, sum_by_cluster


def ratio_interval(
    numerators: Float[np.ndarray, " prompt"],
    denominators: Float[np.ndarray, " prompt"],
    clusters: Int[np.ndarray, " prompt"],
    *,
    unit: str,
    level: float = 0.95,
) -> Estimate:
    """The pooled ("micro") ratio Σs/Σn over prompts: delete-one-cluster jackknife, t with G* − 1 degrees of freedom.

    G* = (Σn)²/Σn² over clusters is how many equal clusters the unequal ones are worth. Source: STATISTICS §4, §9.4.

    Args:
        numerators: Sum over the completions concerned, per prompt.
        denominators: How many completions those are; a prompt with none is left out.
        clusters: The cluster of each prompt, as an index.
        unit: Unit of the ratio, for the record.
        level: Coverage of the interval.
    """
    keep = np.isfinite(numerators) & (denominators > 0)
    parts = np.stack([numerators, denominators])[:, keep]
    sums, _ = sum_by_cluster(parts, clusters[keep])
    weights = sums[1]
    effective = float(weights.sum() ** 2 / np.sum(weights**2)) if len(weights) else 0.0
    value, se = _jackknife(sums, lambda total: total[0] / total[1])
    n, g = int(keep.sum()), len(weights)
    return bracket(value, se, df=effective - 1, level=level, unit=unit, n=n, g=g, method="jackknife t(G*-1)")


def contrast_interval(
    before: Float[np.ndarray, " prompt"],
    after: Float[np.ndarray, " prompt"],
    clusters: Int[np.ndarray, " prompt"],
    *,
    scale: Callable[[np.ndarray], np.ndarray],
    unit: str,
    level: float = 0.95,
) -> Estimate:
    """Change of a mean over prompts on another scale, g(mean of after) − g(mean of before): jackknife, t(G − 1).

    With ``np.log`` this is the log ratio of the marginal probabilities, with ``scipy.special.logit`` their Δlogit; it
    says something else than the mean of the prompts' own log ratios (STATISTICS I7). Source: STATISTICS §4.

    Args:
        before: Probability of A without steering, per prompt.
        after: Probability of A under the condition; a prompt for which either is NaN is left out.
        clusters: The cluster of each prompt, as an index.
        scale: The scale g.
        unit: Unit of the change, for the record.
        level: Coverage of the interval.

    Returns:
        The change, NaN where g is infinite at either mean.
    """
    keep = np.isfinite(before) & np.isfinite(after)
    parts = np.stack([before, after, np.ones_like(before)])[:, keep]
    sums, _ = sum_by_cluster(parts, clusters[keep])
    value, se = _jackknife(sums, lambda total: scale(total[1] / total[2]) - scale(total[0] / total[2]))
    n, g = int(keep.sum()), sums.shape[-1]
    return bracket(value, se, df=g - 1, level=level, unit=unit, n=n, g=g, method="jackknife t")


def _jackknife(
    sums: Float[np.ndarray, "part cluster"], statistic: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """A function of sums over clusters, and its delete-one-cluster standard error: SE² = (G−1)/G Σ (θ_(g) − θ̄)²."""
    g = sums.shape[-1]
    total = sums.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(total))
        if not np.isfinite(value) or g < 2:
            return (value if np.isfinite(value) else float("nan")), float("nan")
        without = np.asarray(statistic(total[:, None] - sums))
        se = float(np.sqrt((g - 1) / g * np.sum((without - without.mean()) ** 2)))
    return value, se if se > g * EPS * max(abs(value), 1.0) else float("nan")


def bootstrap_t_intervals(
    values: Float[np.ndarray, "condition prompt"],
    clusters: Int[np.ndarray, " prompt"],
    *,
    rng: np.random.Generator,
    unit: str,
    level: float = 0.95,
    n_resamples: int = 1999,
) -> tuple[Estimate, ...]:
    """Means over prompts with bootstrap-t intervals, for skewed quantities such as KL; one set of resamples for all.

    Clusters are drawn with replacement, the same ones in every condition; T = (mean* − mean)/se* with the
    cluster-robust se* of the resample, and the interval is [mean − Q(1−α/2) se, mean − Q(α/2) se]. Resamples without
    spread are left out. Source: STATISTICS P7.

    Args:
        values: One number per condition and prompt; NaN where it is undefined.
        clusters: The cluster of each prompt, as an index.
        rng: The stream of the resamples.
        unit: Unit of the values, for the record.
        level: Coverage of the intervals.
        n_resamples: Resamples, of all clusters each.
    """
    mean, se, n, g = measure_spread(values, clusters)
    sums, sizes = sum_by_cluster(values - mean[:, None], clusters)  # centred: T does not change, cancellation does
    total = sums.shape[-1]
    times = rng.multinomial(total, np.full(total, 1 / total), size=n_resamples).astype(np.float64) if total else None
    estimates = []
    for c in range(len(values)):
        low, high = None, None
        if times is not None and g[c] >= MIN_CLUSTERS and np.isfinite(se[c]):
            drawn = _studentize(times, sums[c], sizes[c])
            upper, lower = np.nanquantile(drawn, [0.5 + level / 2, 0.5 - level / 2])
            low, high = float(mean[c] - upper * se[c]), float(mean[c] - lower * se[c])
        estimates.append(Estimate(float(mean[c]), low, high, level, unit, int(n[c]), int(g[c]), "bootstrap t"))
    return tuple(estimates)


def _studentize(
    times: Float[np.ndarray, "resample cluster"],
    sums: Float[np.ndarray, " cluster"],
    sizes: Float[np.ndarray, " cluster"],
) -> Float[np.ndarray, " resample"]:
    """Student's t of each resample; NaN where it has no spread. ``times`` says how often each cluster was drawn."""
    parts = np.stack([sums, sizes, sizes > 0, sums**2, sums * sizes, sizes**2])
    s, n, g, ss, sn, nn = (times @ parts.T).T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = s / n
        residual = ss - 2 * mean * sn + mean**2 * nn
        se = np.sqrt(g / (g - 1) * np.maximum(residual, 0.0)) / n
        return np.where(residual > 1e-12 * ss, mean / se, np.nan)
