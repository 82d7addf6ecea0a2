"""Increases, choices and measures -> Report: means over prompts with their uncertainty, one row a number."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from scipy.special import logit

from completions_lp.quantities import POOLED, PRIMARY, SKEWED, TRUST, find_quantity, name_unit, rank_quantity
from completions_lp.records import (
    BASELINE,
    Choices,
    Estimate,
    Increases,
    Inference,
    Measures,
    ProfileRow,
    Report,
    ReportRow,
    Scores,
    TokenScores,
)
from completions_lp.report.best import find_best
from completions_lp.report.caveats import count_red, list_caveats
from completions_lp.report.checks import check_run
from completions_lp.report.controls import compare_directions, take_odd_parts
from completions_lp.report.prompts import Columns, collect_columns, tabulate
from completions_lp.report.slopes import fit_slopes
from completions_lp.report.sweep import Sweep, study_sweep
from completions_lp.score.profile import summarize_profile
from completions_lp.score.sums import sum_tokens
from completions_lp.stats import (
    bootstrap_t_intervals,
    contrast_intervals,
    fixed_prompt_se,
    mean_intervals,
    mean_t,
    measure_spread,
    ratio_intervals,
    share_below_zero,
    start_stream,
)


def summarize(
    scores: Scores | Increases | TokenScores,
    choices: Choices | None = None,
    measures: Measures | None = None,
    *,
    target: str = "matching",
    level: float = 0.95,
    seed: int = 0,
    profile: Sequence[ProfileRow] = (),
) -> Report:
    """How the steering vector changes the answer: every number of the paper, with its uncertainty and its checks.

    Args:
        scores: Log probs of the completions, unsteered and steered: as ``score_completions`` gives them, which brings
            measures and profile along; or per token, or summed as they are stored.
        choices: The two-choice read-out of the same prompts and conditions, if it is to stand beside them.
        measures: What single tokens tell about the same prompts and conditions, for the same target: P(A), divergences.
        target: The answer: a letter, or ``"matching"`` for each prompt's own behaviour-matching one.
        level: Coverage of the intervals.
        seed: Of the resamples, the flipped signs and the halves.
        profile: Passed on to the report.

    Returns:
        Rows per condition, macro (means over prompts with t intervals over clusters; bootstrap-t for divergences) in
        nats unless said.

        From scores: ``increase_to_answer_A`` (the headline: through the answer's token), ``increase_A`` (over the whole
        completion), ``increase_not_A``, ``increase_to_answer_not_A``, ``difference_A_not_A``, ``increase_all`` (an
        estimate of −KL, so at most 0 up to noise), ``before_answer_A``, ``at_answer_A``, ``after_answer_A`` (these
        three sum to ``increase_A``); pooled over completions as ``micro``; their share of draws ``share_A``.

        From choices: ``logit_diff``, ``logit_diff_steered``, ``logit_diff_change``, ``mass``, ``mass_steered``
        (probabilities).

        From measures: ``p_A_steered`` (probability), ``delta_p_A`` (percentage points), ``log_ratio_A``,
        ``delta_logit_A`` (both also ``marginal``: of the means over prompts), ``increase_to_answer_A_rb``,
        ``bound_gap``, ``kl``, ``kl_per_token``, ``kl_reverse``, ``answer_share``, ``reasoning_share``,
        ``log_odds_change_A_B`` and the rest of ``Measures``; trust as shares of the prompts. ``NAME_odd`` is
        [f(m) − f(−m)]/2. What steering does not touch stands in rows of ``BASELINE``.

        The quantities of a sweep (``SWEPT``) carry the further tests of ``Inference``. Rows with ``split="report"`` are
        of one half of the clusters, about cells that the other half chose: each swept quantity in its own best cell,
        with a ``selection_frequency``; and, without one, every other macro quantity in the cell that is best by
        ``delta_p_A`` (by the headline, where P(A) is not known).

    Raises:
        InputError: No prompt offers the target, or the records are of other prompts or conditions.
    """
    if isinstance(scores, Scores):
        increases, measures = scores.increases, scores.measures
        profile = profile or summarize_profile(scores.profile, level=level)
    else:
        increases = sum_tokens(scores) if isinstance(scores, TokenScores) else scores
    columns = collect_columns(increases, choices, measures, target=target)
    sweep = study_sweep(columns, level=level, seed=seed)
    numbers = [
        *_average(columns, level=level, seed=seed, inference=sweep.inference),
        *_pool(columns, level=level),
        *_contrast(columns, level=level),
        *_take_odd(columns, level=level),
        *_count_shares(columns, level=level),
    ]
    numbers.sort(key=lambda one: rank_quantity(one.quantity))
    rows = [*make_rows(columns, numbers), *_describe_baseline(columns, level=level)]
    rows += report_held_out(columns, sweep, level=level, seed=seed)
    findings = check_run(increases, columns, measures)
    red, graded = count_red(columns)
    return Report(
        target=target,
        rows=tuple(rows),
        prompts=tabulate(columns, increases.completions),
        checks={
            **findings.checks,
            "share_red": red / graded if graded else float("nan"),
            "p_rank_sweep": sweep.p_rank,
        },
        warnings=(*findings.warnings, *list_caveats(increases, columns, rows)),
        errors=findings.errors,
        profile=tuple(profile),
        slopes=fit_slopes(columns, level=level),
        best=find_best(columns, sweep),
        increases=increases,
        measures=measures,
        choices=choices,
    )


@dataclass(frozen=True, eq=False)
class Numbers:
    """One quantity in one weighting, under some conditions."""

    quantity: str
    weighting: str
    estimates: Sequence[Estimate]
    at: Sequence[int] | None = None
    """The conditions, by index; None for all."""
    inference: Mapping[str, Float[np.ndarray, " estimate"]] = field(default_factory=dict)
    """Fields of ``Inference``."""


def make_rows(columns: Columns, numbers: Sequence[Numbers]) -> list[ReportRow]:
    """Rows by condition, in the order of the numbers."""
    rows: list[list[ReportRow]] = [[] for _ in columns.conditions]
    size = len(columns.clusters)
    for one in numbers:
        fields = {name: values.tolist() for name, values in one.inference.items()}
        for i, (c, e) in enumerate(zip(one.at or range(len(rows)), one.estimates, strict=True)):
            inference = Inference(**{name: values[i] for name, values in fields.items()})
            rows[c].append(ReportRow(columns.conditions[c], one.quantity, one.weighting, e, size - e.n, inference))
    return [row for some in rows for row in some]


def report_held_out(columns: Columns, sweep: Sweep, *, level: float, seed: int) -> list[ReportRow]:
    """Best cells on the clusters that had no say in their choice; none where no cluster is left.

    First every swept quantity in its own best cell, with how often it is the best; then, in the cell that is best by
    the primary quantity, everything else.
    """
    halves = [best.chosen_by for best in sweep.best.values()]
    if not halves or halves[0].all():
        return []
    told = ~halves[0]
    inference = {}
    for quantity in sweep.inference:
        values, clusters = columns.steered[quantity][:, told], columns.clusters[told]
        means = measure_spread(values, clusters)[0]
        inference[quantity] = compare_directions(means, columns.conditions, sweep.cells, level=level)
        inference[quantity]["p_t"] = mean_t(values[sweep.cells], clusters)[1]
    rows = {}
    for cell in {best.cell for best in sweep.best.values()}:
        one = columns.select(conditions=[sweep.cells[cell]], prompts=told)
        here = {name: {field: x[[cell]] for field, x in fields.items()} for name, fields in inference.items()}
        numbers = [*_average(one, level=level, seed=seed, inference=here), *_count_shares(one, level=level)]
        rows[cell] = {row.quantity: replace(row, split="report") for row in make_rows(one, numbers)}
    found = []
    for quantity, best in sweep.best.items():
        row = rows[best.cell].pop(quantity)
        frequency = float(best.frequency[best.cell])
        found.append(replace(row, inference=replace(row.inference, selection_frequency=frequency)))
    return [*found, *(rows[sweep.best[sweep.primary].cell].values() if sweep.primary in sweep.best else ())]


def _average(
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

    P(A) before and after come from the same draws and as a rule rise and fall together, so their change has an error of
    its own. Where draws of the steered model joined the latter, it is not known, and the two errors are added up as if
    they were independent: conservative.
    """
    if PRIMARY not in columns.steered:
        return {}
    steered, change = columns.steered["p_A_steered_se"], columns.steered["p_A_change_se"]
    apart = np.hypot(columns.unsteered["p_A_se"], steered)
    return {"p_A_steered": steered, PRIMARY: 100 * np.where(np.isfinite(change), change, apart)}


def _pool(columns: Columns, *, level: float) -> list[Numbers]:
    """Means over completions: the ``micro`` versions of the increases."""
    n, target = columns.counts["n"], columns.counts["n_A"]
    behind = {"A": target, "not_A": n - target, "all": n}
    numbers = []
    for quantity, part in POOLED.items():
        values = columns.steered[quantity]
        weights = np.broadcast_to(behind[part].astype(np.float64), values.shape)
        estimates = ratio_intervals(values * weights, weights, columns.clusters, unit=name_unit(quantity), level=level)
        numbers.append(Numbers(quantity, "micro", estimates))
    return numbers


def _contrast(columns: Columns, *, level: float) -> list[Numbers]:
    """Changes of the mean P(A) on the log and logit scale: ``marginal``."""
    if PRIMARY not in columns.steered:
        return []
    steered = columns.steered["p_A_steered"]
    before = np.broadcast_to(columns.unsteered["p_A"], steered.shape)
    scales: dict[str, Callable[[np.ndarray], np.ndarray]] = {"log_ratio_A": np.log, "delta_logit_A": logit}
    return [
        Numbers(
            quantity,
            "marginal",
            contrast_intervals(before, steered, columns.clusters, scale=scale, unit="nats", level=level),
        )
        for quantity, scale in scales.items()
    ]


def _take_odd(columns: Columns, *, level: float) -> list[Numbers]:
    at, odd = take_odd_parts(columns)
    return [
        Numbers(
            quantity, "macro", mean_intervals(values, columns.clusters, unit=name_unit(quantity), level=level), at=at
        )
        for quantity, values in odd.items()
        if at
    ]


def _count_shares(columns: Columns, *, level: float) -> list[Numbers]:
    """Shares of the prompts, of which no interval is made: steered the wrong way, and by trust."""
    if columns.trust is None:
        return []
    values, errors = columns.steered[PRIMARY], measure_errors(columns)[PRIMARY]
    both = np.isfinite(values) & np.isfinite(errors)
    below = [share_below_zero(v, e) for v, e in zip(values, errors, strict=True)]
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


def _describe_baseline(columns: Columns, *, level: float) -> list[ReportRow]:
    """Rows of the unsteered model."""
    rows = []
    for quantity, values in sorted(columns.unsteered.items(), key=lambda item: rank_quantity(item[0])):
        if not find_quantity(quantity).summarized:
            continue
        (e,) = mean_intervals(values[None], columns.clusters, unit=name_unit(quantity), level=level)
        noise = float(fixed_prompt_se(columns.unsteered["p_A_se"])) if quantity == "p_A" else float("nan")
        rows.append(ReportRow(BASELINE, quantity, "macro", e, len(values) - e.n, Inference(fixed_se=noise)))
    return rows
