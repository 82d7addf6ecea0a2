"""Scores and choices -> Report: every number of the paper, one row each, with what is checked and told of the run."""

from collections.abc import Sequence

import numpy as np

from completions_lp.quantities import HEADLINE, list_missing, rank_quantity
from completions_lp.records import (
    Best,
    Choices,
    Dose,
    Increases,
    InputError,
    Measures,
    ProfileRow,
    Readings,
    Report,
    ReportRow,
    Scores,
)
from completions_lp.report.averages import (
    average_completions,
    average_odd,
    average_prompts,
    contrast_means,
    count_shares,
    describe_baseline,
    share_broken,
)
from completions_lp.report.best import find_best
from completions_lp.report.broken import hide_profile, hide_prompts, leave_out
from completions_lp.report.caveats import count_red, list_caveats
from completions_lp.report.checks import check_run
from completions_lp.report.doses import find_largest, tell_doses
from completions_lp.report.held_out import report_held_out
from completions_lp.report.prompts import Columns, collect_columns, tabulate
from completions_lp.report.rivals import compare_rivals
from completions_lp.report.rounding import judge_rounding, measure_rounding, set_apart
from completions_lp.report.rows import make_rows
from completions_lp.report.seeds import mark_seeds, measure_seeds
from completions_lp.report.slopes import fit_slopes
from completions_lp.report.swaps import split_effects
from completions_lp.report.sweep import Sweep, study_sweep
from completions_lp.report.vectors import compare_vectors
from completions_lp.score.profile import summarize_profile


def summarize(
    scores: Scores | Increases,
    choices: Choices | None = None,
    measures: Measures | None = None,
    *,
    target: str = "matching",
    readings: Readings | None = None,
    level: float = 0.95,
    seed: int = 0,
    profile: Sequence[ProfileRow] = (),
    by_seed: Sequence[Measures] = (),
    doses: Sequence[Dose] = (),
) -> Report:
    """How the steering vector changes the answer: every number of the paper, with its uncertainty and its checks.

    Args:
        scores: Log probs of the completions, unsteered and steered, as ``score_completions`` gives them; or their sums
            alone, ``Increases``.
        choices: The two-choice read-out of the same prompts and conditions, if it is to stand beside them.
        measures: Beside ``Increases``, what single tokens tell of the same prompts and conditions, for the same target:
            P(A), divergences. ``Scores`` have their own.
        target: The answer: a letter, or ``"matching"`` for each prompt's own behaviour-matching one.
        readings: Beside ``Increases``, the answers at the end of each completion's reasoning, if they were read.
        level: Coverage of the intervals.
        seed: Of the resamples, the flipped signs and the halves.
        profile: Beside ``Increases``, the token profile, which is passed on.
        by_seed: Beside ``Increases``, the measures of each seed's draws, in the order of ``sampling.seeds``; without
            them the spread between seeds is known of the increases alone.
        doses: How strongly each condition steers, in comparable units, if that was measured.

    Returns:
        Rows per condition, of the quantities that ``quantities.QUANTITIES`` explains, as far as the records have what
        they need. ``macro``: means over prompts, with t intervals over clusters (bootstrap-t for divergences);
        ``micro``: increases pooled over completions; ``marginal``: ``log_ratio_A`` and ``delta_logit_A`` of the means
        over prompts. ``NAME_odd`` is [f(m) − f(−m)]/2. What steering does not touch stands in rows of ``BASELINE``.

        The quantities of a sweep (``SWEPT``) carry the further tests of ``Inference``. Rows with ``split="report"`` are
        of one half of the clusters, about cells that the other half chose: each swept quantity in its own best cell,
        with a ``selection_frequency``; and, without one, every other macro quantity in the cell that is best by
        ``delta_p_A`` (by the headline, where P(A) is not known).

        What is over whole completions (``WHOLE``) has no row where they are not scored through their end.

        A condition under which a prompt has log probs that are no finite numbers is left out: its rows have no value
        and say on how many prompts, an error names it, and its ``share_broken`` is a row of its own.

    Raises:
        InputError: No prompt offers the target, the records are of other prompts or conditions, or measures or a
            profile are given beside ``Scores``.
    """
    if isinstance(scores, Scores):
        if measures is not None or profile or by_seed or readings is not None:
            raise InputError(
                "scores bring their own measures, readings and profile: leave them out, or give scores.increases"
            )
        measures, readings, by_seed = scores.measures, scores.readings, scores.by_seed
        profile = summarize_profile(scores.profile, level=level)
    increases = scores.increases if isinstance(scores, Scores) else scores
    collected, whole = collect_columns(increases, choices, measures, readings, target=target), increases
    kept, at, (increases, choices, measures), apart = set_apart((increases, choices, measures))
    rounding = measure_rounding(whole, collected, at, level=level, seed=seed)
    every = np.ones(len(collected.clusters), dtype=bool)
    table = hide_prompts(collected.select(conditions=kept, prompts=every) if at else collected, increases)
    columns = leave_out(table)
    sweep = study_sweep(columns, level=level, seed=seed)
    missing = list_missing(increases.through)
    listed = _list_rows(columns, sweep, level=level, seed=seed)
    seeds = measure_seeds(whole, by_seed, readings, columns, target=target)
    rows = mark_seeds([rounding.mark(row) for row in listed if row.quantity not in missing], seeds)
    best = find_best(columns, sweep)
    findings = check_run(increases, columns, measures, rounding=rounding.sd)
    red, graded = count_red(columns)
    share_red = red / graded if graded else float("nan")
    return Report(
        target=target,
        rows=tuple(rows),
        prompts=tabulate(table, increases.completions),
        checks={
            **findings.checks,
            **rounding.checks,
            "share_red": share_red,
            "largest_kl": find_largest(columns)[1],
            "p_rank_sweep": sweep.p_rank,
        },
        warnings=(*findings.warnings, *tell_doses(columns, doses), *list_caveats(increases, columns, rows)),
        errors=(*findings.errors, *judge_rounding(rounding, increases, _find_headline(rows, best))),
        profile=hide_profile(profile, columns),
        slopes=fit_slopes(columns, level=level),
        swaps=split_effects(columns, increases, target=target, level=level),
        seeds=tuple(one for one in seeds if one.quantity not in missing),
        rivals=compare_rivals(columns, sweep, best, missing=missing, level=level),
        vectors=compare_vectors(columns, sweep, best, missing=missing, level=level, seed=seed),
        doses=tuple(doses),
        best=best,
        increases=increases,
        measures=measures,
        by_seed=tuple(by_seed),
        choices=choices,
        readings=readings,
        rounding=apart,
    )


def _find_headline(rows: Sequence[ReportRow], best: Best | None) -> ReportRow | None:
    """The headline of the best cell, over all prompts."""
    return next(
        (
            row
            for row in rows
            if best is not None
            and (row.condition, row.quantity, row.weighting, row.split) == (best.condition, HEADLINE, "macro", "all")
        ),
        None,
    )


def _list_rows(columns: Columns, sweep: Sweep, *, level: float, seed: int) -> list[ReportRow]:
    """By condition in the order of the quantities, then of the unsteered model, then of the held-out half."""
    numbers = [
        *average_prompts(columns, level=level, seed=seed, inference=sweep.inference),
        *average_completions(columns, level=level),
        *contrast_means(columns, level=level),
        *average_odd(columns, level=level),
        *count_shares(columns, level=level),
        *share_broken(columns, level=level),
    ]
    numbers.sort(key=lambda one: rank_quantity(one.quantity))
    rows = [*make_rows(columns, numbers), *describe_baseline(columns, level=level)]
    return rows + report_held_out(columns, sweep, level=level, seed=seed)
