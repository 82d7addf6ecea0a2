"""Intervals by leaving out or redrawing clusters: pooled ratios, contrasts of marginals, skewed quantities."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from completions_lp.records import Estimate
from completions_lp.stats.intervals import (
    EPS,
    MIN_CLUSTERS,
    ByCell,
    ByPrompt,
    Clusters,
    Sums,
    bracket,
    measure_spread,
    sum_by_cluster,
)

CELLS = 64
"""Cells that are resampled at once, which bounds the memory that it takes."""
Purpose = Literal["divergences", "limits", "signs", "halves"]
_PURPOSES: tuple[Purpose, ...] = ("divergences", "limits", "signs", "halves")


def start_stream(seed: int, purpose: Purpose) -> np.random.Generator:
    """The random stream of one purpose of a report: the same whatever else is computed."""
    return np.random.default_rng([seed, _PURPOSES.index(purpose)])


def ratio_intervals(
    numerators: ByPrompt, denominators: ByPrompt, clusters: Clusters, *, unit: str, level: float = 0.95
) -> tuple[Estimate, ...]:
    """The pooled ("micro") ratio Σs/Σn over prompts: delete-one-cluster jackknife, t with G* − 1 degrees of freedom.

    Numerators are sums over completions, denominators how many; a prompt with none is left out. G* = (Σn)²/Σn² over
    clusters is how many equal clusters the unequal ones are worth. Source: numbers.md §4, §9.4.
    """
    keep = np.isfinite(numerators) & (denominators > 0)
    sums, present = _sum_parts((numerators, denominators), keep, clusters)
    weights = np.where(present, sums[1], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = weights.sum(-1) ** 2 / (weights**2).sum(-1)
    value, se = _jackknife(sums, present, lambda total: total[0] / total[1])
    n, g = keep.sum(-1), present.sum(-1)
    names = ["jackknife t(G*-1)"] * len(value)
    return bracket(value, se, df=effective - 1, level=level, unit=unit, n=n, g=g, method=names)


def contrast_intervals(
    before: ByPrompt,
    after: ByPrompt,
    clusters: Clusters,
    *,
    scale: Callable[[np.ndarray], np.ndarray],
    unit: str,
    level: float = 0.95,
) -> tuple[Estimate, ...]:
    """Change of a mean over prompts on another scale, g(mean of after) − g(mean of before): jackknife, t(G − 1).

    With ``np.log`` as scale g it is the log ratio of the marginal probabilities, with ``scipy.special.logit`` their
    Δlogit, other than the mean of the prompts' own (numbers.md I7). A prompt with a NaN before or after is left out;
    NaN where g is infinite at either mean. Source: numbers.md §4.
    """
    keep = np.isfinite(before) & np.isfinite(after)
    sums, present = _sum_parts((before, after, np.ones_like(before)), keep, clusters)
    value, se = _jackknife(sums, present, lambda total: scale(total[1] / total[2]) - scale(total[0] / total[2]))
    n, g = keep.sum(-1), present.sum(-1)
    df = (g - 1).astype(np.float64)
    return bracket(value, se, df=df, level=level, unit=unit, n=n, g=g, method=["jackknife t"] * len(value))


def _sum_parts(
    parts: tuple[ByPrompt, ...], keep: Bool[np.ndarray, "cell prompt"], clusters: Clusters
) -> tuple[Float[np.ndarray, "part cell cluster"], Bool[np.ndarray, "cell cluster"]]:
    """Sums over the prompts of each cluster that are kept, and which clusters have any."""
    sums, sizes = sum_by_cluster(np.where(keep, np.stack(parts), np.nan), clusters)
    return sums, sizes[0] > 0


def _jackknife(
    sums: Float[np.ndarray, "part cell cluster"],
    present: Bool[np.ndarray, "cell cluster"],
    statistic: Callable[[np.ndarray], np.ndarray],
) -> tuple[ByCell, ByCell]:
    """A function of sums over clusters, and its delete-one-cluster standard error: SE² = (G−1)/G Σ (θ_(g) − θ̄)²."""
    g = present.sum(-1)
    total = sums.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.asarray(statistic(total))
        value = np.where(np.isfinite(value), value, np.nan)
        without = np.where(present, statistic(total[..., None] - sums), 0.0)
        apart = np.where(present, without - (without.sum(-1) / g)[:, None], 0.0)
        se = np.sqrt((g - 1) / g * (apart**2).sum(-1))
        known = (g >= 2) & (se > g * EPS * np.maximum(np.abs(value), 1.0))
    return value, np.where(known, se, np.nan)


def bootstrap_t_intervals(
    values: ByPrompt,
    clusters: Clusters,
    *,
    rng: np.random.Generator,
    unit: str,
    level: float = 0.95,
    n_resamples: int = 1999,
) -> tuple[Estimate, ...]:
    """Means over prompts with bootstrap-t intervals, for skewed quantities such as KL; one set of resamples for all.

    Clusters are drawn with replacement, the same ones in every cell; T = (mean* − mean)/se* with the cluster-robust se*
    of the resample, and the interval is [mean − Q(1−α/2) se, mean − Q(α/2) se]: ``None`` with fewer than 6 clusters,
    and without degrees of freedom. Resamples without spread are left out. Source: numbers.md P7.
    """
    mean, se, n, g = measure_spread(values, clusters)
    sums, sizes = sum_by_cluster(values - mean[:, None], clusters)  # centred: T does not change, cancellation does
    known = (g >= MIN_CLUSTERS) & np.isfinite(se)
    limits = np.full((2, len(values)), np.nan)
    used = np.flatnonzero(known)
    if len(used):
        total = sums.shape[-1]
        times = rng.multinomial(total, np.full(total, 1 / total), size=n_resamples).astype(np.float64)
        for some in np.split(used, range(CELLS, len(used), CELLS)):
            drawn = _studentize(times, sums[some], sizes[some])
            quantiles = np.nanquantile(drawn, [0.5 + level / 2, 0.5 - level / 2], axis=0)
            limits[:, some] = mean[some] - quantiles * se[some]
    columns = (x.tolist() for x in (known, mean, *limits, n, g, se))
    return tuple(
        Estimate(v, low, high, level, unit, n, g, "bootstrap t", s)
        if known
        else Estimate(v, None, None, level, unit, n, g, "bootstrap t")
        for known, v, low, high, n, g, s in zip(*columns, strict=True)
    )


def _studentize(
    times: Float[np.ndarray, "resample cluster"], sums: Sums, sizes: Sums
) -> Float[np.ndarray, "resample cell"]:
    """Student's t of each resample; NaN where it has no spread. ``times`` says how often each cluster was drawn."""
    if (sizes == sizes[:1]).all():
        sizes = sizes[:1]  # as a rule all cells have the same prompts: what is about these alone is needed once
    s, ss, sn = (times @ part.T for part in (sums, sums**2, sums * sizes))
    n, g, nn = (times @ part.T for part in (sizes, (sizes > 0).astype(np.float64), sizes**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = s / n
        residual = ss - 2 * mean * sn + mean**2 * nn
        se = np.sqrt(g / (g - 1) * np.maximum(residual, 0.0)) / n
        return np.where(residual > 1e-12 * ss, mean / se, np.nan)
