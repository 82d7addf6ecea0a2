"""The per-prompt table -> means over prompts and completions, changes of means, shares of prompts."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import logit

from completions_lp.quantities import BROKEN, POOLED, PRIMARY, SKEWED, TRUST, find_quantity, name_unit, rank_quantity
from completions_lp.records import BASELINE, Estimate, Inference, ReportRow
from completions_lp.report.controls import take_odd_parts
from completions_lp.report.prompts import UNTOUCHED, Columns
from completions_lp.report.rows import Numbers, hide_estimate
from completions_lp.stats import (
    bootstrap_t_intervals,
    contrast_intervals,
    fixed_prompt_se,
    mean_intervals,
    ratio_intervals,
    share_below_zero,
    start_stream,
)


def average_prompts(
    columns: Columns, *, level: float, seed: int, inference: Mapping[str, Mapping[str, Float[np.ndarray, " condition"]]]
) -> list[Numbers]:
    """Means over prompts."""
    errors = measure_errors(columns)
    numbers = []
    for quantity, values in columns.steered.items():
        if not find_quantity(quantity).summarized:
            continue
        unit = name_unit(quantity)
        if quantity in SKEWED:
            rng = start_stream(seed, "divergences")
            estimates = bootstrap_t_intervals(values, columns.clusters, rng=rng, unit=unit, level=level)
        else:
            estimates = mean_intervals(values, columns.clusters, unit=unit, level=level)
        fields = dict(inference.get(quantity, {}))
        if quantity in errors:
            fields["fixed_se"] = fixed_prompt_se(np.where(np.isfinite(values), errors[quantity], np.nan))
        numbers.append(Numbers(quantity, "macro", estimates, inference=fields))
    return numbers


def measure_errors(columns: Columns) -> dict[str, Float[np.ndarray, "condition prompt"]]:
    """Sampling noise of P(A) on each prompt, as standard errors, where it was measured.

    P(A) before and after come from the same draws, so their change has an error of its own. Where draws of the steered
    model joined the latter, the two errors are added up as if they were independent: conservative.
    """
    if PRIMARY not in columns.steered:
        return {}
    steered, change = columns.steered["p_A_steered_se"], columns.steered["p_A_change_se"]
    apart = np.hypot(columns.unsteered["p_A_se"], steered)
    return {"p_A_steered": steered, PRIMARY: 100 * np.where(np.isfinite(change), change, apart)}


def average_completions(columns: Columns, *, level: float) -> list[Numbers]:
    """Means over completions: the ``micro`` versions of the increases."""
    n, target = columns.counts["n"], columns.counts["n_A"]
    behind = {"A": target, "not_A": n - target, "all": n}
    numbers = []
    for quantity, part in POOLED.items():
        if quantity not in columns.steered:
            continue
        values = columns.steered[quantity]
        weights = np.broadcast_to(behind[part].astype(np.float64), values.shape)
        estimates = ratio_intervals(values * weights, weights, columns.clusters, unit=name_unit(quantity), level=level)
        numbers.append(Numbers(quantity, "micro", estimates))
    return numbers


def contrast_means(columns: Columns, *, level: float) -> list[Numbers]:
    """Changes of the mean P(A) on the log and logit scale: ``marginal``."""
    if PRIMARY not in columns.steered:
        return []
    steered = columns.steered["p_A_steered"]
    before = np.broadcast_to(columns.unsteered["p_A"], steered.shape)
    scales: dict[str, Callable[[np.ndarray], np.ndarray]] = {"log_ratio_A": np.log, "delta_logit_A": logit}
    numbers = []
    for quantity, scale in scales.items():
        estimates = contrast_intervals(before, steered, columns.clusters, scale=scale, unit="nats", level=level)
        numbers.append(Numbers(quantity, "marginal", estimates))
    return numbers


def average_odd(columns: Columns, *, level: float) -> list[Numbers]:
    """Means over prompts of the odd parts."""
    at, odd = take_odd_parts(columns)
    return [
        Numbers(name, "macro", mean_intervals(x, columns.clusters, unit=name_unit(name), level=level), at=at)
        for name, x in (odd.items() if at else ())
    ]


def share_broken(columns: Columns, *, level: float) -> list[Numbers]:
    """Share of the prompts with log probs that are no finite numbers, by condition; none where there is none."""
    broken = columns.steered["n_broken"] > 0
    if not broken.any():
        return []
    every = np.ones(broken.shape, dtype=bool)
    return [_make_shares(BROKEN, broken.mean(-1).tolist(), every, columns, level, "count")]


def count_shares(columns: Columns, *, level: float) -> list[Numbers]:
    """Shares of the prompts that were steered the wrong way, and by trust; no interval is made of them."""
    if columns.trust is None:
        return []
    values, errors = columns.steered[PRIMARY], measure_errors(columns)[PRIMARY]
    both = np.isfinite(values) & np.isfinite(errors)
    found = zip(columns.conditions, values, errors, strict=True)
    below = [share_below_zero(v, e) if c.multiplier else float("nan") for c, v, e in found]  # 0 steers nowhere
    numbers = [_make_shares(f"below_zero_{PRIMARY}", below, both, columns, level, "normal shrinkage")]
    graded = columns.trust != ""
    for name in TRUST:
        with np.errstate(invalid="ignore"):
            share = (columns.trust == name).sum(-1) / np.float64(graded.sum(-1))
        numbers.append(_make_shares(f"share_{name}", share.tolist(), graded, columns, level, "count"))
    return numbers


def _make_shares(
    quantity: str, shares: Sequence[float], among: np.ndarray, columns: Columns, level: float, method: str
) -> Numbers:
    clusters = [len(np.unique(columns.clusters[keep])) for keep in among]
    estimates = [
        Estimate(share, None, None, level, "share", n, g, method)
        for share, n, g in zip(shares, among.sum(-1).tolist(), clusters, strict=True)
    ]
    return Numbers(quantity, "macro", estimates)


def describe_baseline(columns: Columns, *, level: float) -> list[ReportRow]:
    """Rows of the unsteered model."""
    rows = []
    for quantity, values in sorted(columns.unsteered.items(), key=lambda item: rank_quantity(item[0])):
        if not find_quantity(quantity).summarized:
            continue
        (e,) = mean_intervals(values[None], columns.clusters, unit=name_unit(quantity), level=level)
        noise = float(fixed_prompt_se(columns.unsteered["p_A_se"])) if quantity == "p_A" else float("nan")
        if columns.lost_unsteered and quantity not in UNTOUCHED:
            e = hide_estimate(e, columns.lost_unsteered, len(values))
        rows.append(ReportRow(BASELINE, quantity, "macro", e, len(values) - e.n, Inference(fixed_se=noise)))
    return rows
