"""Many cells at once: what still stands when a sweep over layers and multipliers has been looked at.

A cell is a condition, with one number per prompt. The best of 288 cells of pure noise looks significant 98 % of the
time (numbers.md §5); band and p-values allow for that, and a best cell is reported on other prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from completions_lp.stats.intervals import (
    MIN_CLUSTERS,
    ByCell,
    ByPrompt,
    Clusters,
    Sums,
    measure_spread,
    sum_by_cluster,
)

FLIPS = 1000
"""Sets of signs at once, which bounds the memory that they take."""


@dataclass(frozen=True, eq=False)
class Band:
    """Simultaneous intervals and p-values; NaN in cells whose spread is unknown, such as multiplier 0."""

    low: ByCell
    high: ByCell
    p: ByCell
    """Adjusted for all cells: the chance of one such |t| anywhere in the sweep if no cell had an effect."""
    p_alone: ByCell
    """Of each cell alone, by the same flips."""
    critical: float
    """Half-width of the band in standard errors."""


def max_t_band(
    values: ByPrompt, clusters: Clusters, *, rng: np.random.Generator, level: float = 0.95, n_resamples: int = 9999
) -> Band:
    """A band that covers the means of all cells at once, and p-values for each, by flipping signs (max-T).

    All cells of a cluster of prompts flip together, which keeps their correlation. The band's critical value is the
    ``level`` quantile of max |t*| over cells of the centred values; the p-values compare |t| with max |t*| of the
    values as they are, p = (1 + #{max |t*| ≥ |t|})/(B + 1), or exactly where 2^G ≤ n_resamples. Approximate: 5–7 % of
    sweeps without any effect have a p below .05. Source: numbers.md §5, P8; Westfall and Young 1993.
    """
    mean, se, _, g = measure_spread(values, clusters)
    used = np.isfinite(se) & (g >= MIN_CLUSTERS)
    p, p_alone = np.full((2, len(values)), np.nan)
    if not used.any():
        return Band(p, p, p, p_alone, float("nan"))
    signs, exact = _draw_signs(len(np.unique(clusters)), n_resamples, rng)
    sums, sizes = sum_by_cluster(values[used], clusters)
    centred, _ = sum_by_cluster(values[used] - mean[used, None], clusters)
    # The unflipped sample is among its own flips: what rounding puts below it is a tie.
    observed = np.abs(mean[used] / se[used]) * (1 - 1e-9)
    largest, largest_centred, alone = [], [], np.zeros(len(sums))
    for some in np.split(signs, range(FLIPS, len(signs), FLIPS)):
        t = _flip_signs(some, sums, sizes)
        alone += (t >= observed).sum(0)
        largest.append(t.max(-1))
        largest_centred.append(_flip_signs(some, centred, sizes).max(-1))
    critical = float(np.quantile(np.concatenate(largest_centred), level))
    reached = len(signs) - np.searchsorted(np.sort(np.concatenate(largest)), observed)
    extra = 0 if exact else 1
    p[used], p_alone[used] = ((extra + count) / (len(signs) + extra) for count in (reached, alone))
    half = np.where(used, critical * se, np.nan)
    return Band(mean - half, mean + half, p, p_alone, critical)


def _draw_signs(n: int, n_resamples: int, rng: np.random.Generator) -> tuple[Int[np.ndarray, "resample {n}"], bool]:
    """Random signs, or all 2^n sets of them where those are fewer."""
    if 2**n <= n_resamples:
        bits = np.arange(2**n)[:, None] >> np.arange(n) & 1
        return 1 - 2 * bits, True
    return 1 - 2 * rng.integers(0, 2, size=(n_resamples, n), dtype=np.int8), False


def _flip_signs(
    signs: Int[np.ndarray, "resample cluster"], sums: Sums, sizes: Sums
) -> Float[np.ndarray, "resample cell"]:
    """|t| of each cell in each sign-flipped sample, with the flipped sample's own standard error."""
    flips = signs.astype(np.float64)
    n, g = sizes.sum(-1), (sizes > 0).sum(-1)
    total = flips @ sums.T
    mean = total / n
    weighted = total if sizes.max() <= 1 else flips @ (sums * sizes).T
    residual = (sums**2).sum(-1) - 2 * mean * weighted + mean**2 * (sizes**2).sum(-1)
    # All values equal but for a flip that makes them all one sign: t is infinite, and the largest.
    with np.errstate(divide="ignore"):
        return np.asarray(np.abs(mean) / (np.sqrt(g / (g - 1) * np.maximum(residual, 0.0)) / n))


def adjust_holm(p: Float[np.ndarray, "*cell"]) -> Float[np.ndarray, "*cell"]:
    """Holm's (1979) p-values, for the chance of any false claim under any dependence. NaN stays, uncounted."""
    known = np.isfinite(p)
    order = np.argsort(p[known])
    steps = (order.size - np.arange(order.size)) * p[known][order]
    adjusted = np.empty(order.size)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    out = np.full(p.shape, np.nan)
    out[known] = adjusted
    return out


def adjust_false_discovery(p: Float[np.ndarray, "*cell"]) -> Float[np.ndarray, "*cell"]:
    """Benjamini and Hochberg's (1995) p-values, for the share of false claims in a list. NaN stays, uncounted."""
    known = np.isfinite(p)
    order = np.argsort(p[known])
    shares = p[known][order] * (order.size / np.arange(1, order.size + 1))
    adjusted = np.empty(order.size)
    adjusted[order] = np.minimum(np.minimum.accumulate(shares[::-1])[::-1], 1.0)
    out = np.full(p.shape, np.nan)
    out[known] = adjusted
    return out


@dataclass(frozen=True, eq=False)
class BestCell:
    """The best cell of a sweep, chosen on one half of the prompts; what it does is to be reported on the other half."""

    cell: int
    chosen_by: Bool[np.ndarray, " prompt"]
    """The half that chose; the other prompts had no say."""
    frequency: ByCell
    """How often each cell is the best when all clusters are resampled: how stable the choice is."""


def promise_sign(multipliers: Sequence[float]) -> float:
    """Where a sweep looks for its best cell: −1, a decrease, where every multiplier is negative, else +1."""
    return -1.0 if len(multipliers) and max(multipliers) < 0 else 1.0


def choose_best_cell(
    values: ByPrompt,
    clusters: Clusters,
    multipliers: Sequence[float],
    *,
    rng: np.random.Generator,
    n_resamples: int = 200,
) -> BestCell | None:
    """Choose the cell with the largest mean on a random half of the clusters, to be reported on the other half.

    The smallest where ``promise_sign`` says so; ``None`` where no cell has a value on the half that chooses. Clusters
    stay whole. The frequencies are over ``n_resamples`` resamples. Source: numbers.md P10.
    """
    sums, sizes = sum_by_cluster(promise_sign(multipliers) * values, clusters)
    n = sums.shape[-1]
    half = np.zeros(n, dtype=bool)
    half[rng.permutation(n)[: (n + 1) // 2]] = True
    chosen_by = half[np.unique(clusters, return_inverse=True)[1]]
    best = _find_largest(sums[:, half].sum(-1)[None], sizes[:, half].sum(-1)[None])
    if not len(best):
        return None
    times = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(np.float64)
    winners = np.bincount(_find_largest(times @ sums.T, times @ sizes.T), minlength=len(values))
    return BestCell(int(best[0]), chosen_by, winners / max(winners.sum(), 1))


def _find_largest(
    sums: Float[np.ndarray, "resample cell"], sizes: Float[np.ndarray, "resample cell"]
) -> Int[np.ndarray, " defined"]:
    """The cell with the largest mean in each resample in which any cell has one."""
    mean = np.divide(sums, sizes, out=np.full(sums.shape, -np.inf), where=sizes > 0)
    return np.asarray(mean.argmax(-1)[(sizes > 0).any(-1)])
