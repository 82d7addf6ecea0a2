"""Report -> tables, one per question: how much, compared with what, where, and what still stands after a sweep."""

from collections.abc import Mapping

import numpy as np

from completions_lp.quantities import HEADLINE, PRIMARY
from completions_lp.records import Condition, Report, VectorQuality
from completions_lp.show.text.text import (
    DASH,
    Lookup,
    Show,
    align,
    draw_table,
    format_estimate,
    inference,
    number,
    p_value,
    printable,
)

FIRST: dict[str, Show] = {
    "ΔP(A) pp": number(PRIMARY),
    "red": number("share_red"),
    "to the answer": number(HEADLINE),
    "log ratio": number("log_ratio_A", interval=False),
    "KL/token": number("kl_per_token", interval=False),
}
WITHOUT_MEASURES: dict[str, Show] = {
    "to the answer": number(HEADLINE),
    "whole, A": number("increase_A", interval=False),
    "whole, not A": number("increase_not_A", interval=False),
    "whole, all": number("increase_all", interval=False),
}
CHOICE: dict[str, Show] = {
    "logit diff": number("logit_diff_change", interval=False),
    "mass": number("mass_steered", interval=False),
}


def list_conditions(report: Report) -> tuple[Condition, ...]:
    """The steered conditions of a report, in its order."""
    return tuple(dict.fromkeys(row.condition for row in report.rows if row.condition.kind != "baseline"))


def list_shown(report: Report) -> list[Condition]:
    """The conditions that get a line of their own: random and shuffled vectors are told together, as a comparison."""
    conditions = list_conditions(report)
    shown = [c for c in conditions if c.kind not in ("random", "shuffled")]
    return shown or list(conditions)


def format_table(report: Report) -> str:
    """One line per condition: what a reader needs first."""
    lookup = Lookup.of(report)
    first = FIRST if any(row.quantity == PRIMARY for row in report.rows) else WITHOUT_MEASURES
    return draw_table(lookup, list_shown(report), {**first, **CHOICE, "n": _count})


def format_primary(report: Report) -> str:
    """How much more often the answer is given."""
    return _draw(
        report,
        {
            "P(A) steered": number("p_A_steered", interval=False),
            "ΔP(A) pp": number(PRIMARY),
            "log ratio": number("log_ratio_A"),
            "Δlogit, marginal": number("delta_logit_A", weighting="marginal"),
            "log A:B": number("log_odds_change_A_B", interval=False),
            "answered": _answered,
            "cert/green/red": _trust,
            "n": _count_primary,
        },
    )


def format_increases(report: Report) -> str:
    """The average increase beside what it bounds."""
    return _draw(
        report,
        {
            "to the answer": number(HEADLINE),
            "next token averaged": number("increase_to_answer_A_rb"),
            "log ratio": number("log_ratio_A", interval=False),
            "gap": number("bound_gap", interval=False),
            "not A": number("increase_to_answer_not_A"),
            "A − not A": number("difference_A_not_A", interval=False),
            "micro": number(HEADLINE, weighting="micro", interval=False),
            "n": _count,
        },
    )


def format_divergences(report: Report) -> str:
    """Whole completions: what steering costs."""
    return _draw(
        report,
        {
            "whole, A": number("increase_A"),
            "whole, not A": number("increase_not_A", interval=False),
            "whole, all": number("increase_all", interval=False),
            "KL(p‖q)": number("kl"),
            "KL/token": number("kl_per_token"),
            "KL(q‖p)": number("kl_reverse", interval=False),
        },
    )


def format_choices(report: Report) -> str:
    """The two-choice read-out."""
    return _draw(
        report,
        {
            "logit diff": number("logit_diff", interval=False),
            "steered": number("logit_diff_steered", interval=False),
            "change": number("logit_diff_change"),
            "mass": number("mass", interval=False),
            "mass steered": number("mass_steered", interval=False),
        },
    )


def format_places(report: Report) -> str:
    """Where the gain is."""
    return _draw(
        report,
        {
            "before the answer": number("before_answer_A"),
            "at its token": number("at_answer_A"),
            "after it": number("after_answer_A", interval=False),
            "answer share": number("answer_share"),
            "reasoning share": number("reasoning_share"),
        },
    )


def format_controls(report: Report) -> str:
    """The best-known quantity beside the opposite sign, random directions and shuffled labels."""
    quantity = _find_primary(report)
    return _draw(
        report,
        {
            "value": number(quantity, interval=False),
            "odd part": number(f"{quantity}_odd"),
            "random mean ± sd": inference(quantity, "random_mean", "random_sd", form="{:+.3f} ± {:.3f}"),
            "random band": inference(quantity, "random_low", "random_high", form="[{:+.3f}, {:+.3f}]"),
            "rank p": p_value(quantity, "p_rank"),
            "predictive p": p_value(quantity, "p_predictive"),
            "shuffled rank p": p_value(quantity, "p_rank_shuffled"),
        },
        needs=2,
    )


def format_sweep(report: Report) -> str:
    """What still stands when all cells have been looked at."""
    quantity = _find_primary(report)
    return _draw(
        report,
        {
            "value": number(quantity),
            "band of all cells": inference(quantity, "band_low", "band_high", form="[{:+.3f}, {:+.3f}]"),
            "bootstrap-t": inference(quantity, "boot_low", "boot_high", form="[{:+.3f}, {:+.3f}]"),
            "p": p_value(quantity, "p_t"),
            "flips": p_value(quantity, "p_signflip"),
            "max-T": p_value(quantity, "p_max_t"),
            "Holm": p_value(quantity, "p_holm"),
            "BH": p_value(quantity, "p_bh"),
            "best in": inference(quantity, "selection_frequency", form="{:.0%}"),
        },
        needs=2,
    )


def format_slopes(report: Report) -> str:
    """Dose and response, one line per layer and quantity."""
    slopes = [s for s in report.slopes if s.kind not in ("random", "shuffled")]
    if not slopes:
        return ""
    lines = [["vector", "layer", "quantity", "slope", "below 0", "n", "multipliers"]]
    for s in slopes:
        below = DASH if np.isnan(s.below_zero) else f"{s.below_zero:.0%}"
        doses = " ".join(f"{m:g}" for m in s.multipliers)
        cells = [printable(s.vector), str(s.layer), s.quantity, format_estimate(s.estimate), below, str(s.estimate.n)]
        lines.append([*cells, doses])
    return align(lines)


def format_quality(quality: Mapping[int, VectorQuality]) -> str:
    """How well the vector is known, layer by layer."""
    lines = [["layer", "norm", "± s.e.", "split-half cosine"]]
    for layer, q in sorted(quality.items()):
        lines.append([str(layer), f"{q.norm:.3f}", f"{q.norm_se:.3f}", f"{q.split_half_cosine:.3f}"])
    return align(lines)


def format_quality_line(quality: Mapping[int, VectorQuality]) -> str:
    """The same in one line: the weakest layer speaks for all."""
    if not quality:
        return "Vector: read from a file that does not say how well it is known."
    cosine, layer = min((q.split_half_cosine, layer) for layer, q in quality.items())
    worst, at = max((q.norm_se / q.norm if q.norm else np.nan, layer) for layer, q in quality.items())
    return (
        f"Vector: split-half cosine at least {cosine:.3f} (layer {layer}); standard error of its norm at most "
        f"{worst:.1%} (layer {at})."
    )


def _draw(report: Report, columns: dict[str, Show], *, needs: int = 1) -> str:
    """A table of the conditions in which a vector is really added; empty with fewer than ``needs`` columns."""
    lookup = Lookup.of(report)
    shown = [c for c in list_shown(report) if c.multiplier != 0]
    filled = [title for title, show in columns.items() if any(show(lookup, c) not in ("", DASH) for c in shown)]
    return draw_table(lookup, shown, columns) if len(filled) >= needs else ""


def _find_primary(report: Report) -> str:
    return PRIMARY if any(row.quantity == PRIMARY for row in report.rows) else HEADLINE


def _count(lookup: Lookup, condition: Condition) -> str:
    row = lookup.find(condition, HEADLINE)
    return "" if row is None else str(row.estimate.n)


def _count_primary(lookup: Lookup, condition: Condition) -> str:
    row = lookup.find(condition, PRIMARY)
    return "" if row is None else str(row.estimate.n)


def _answered(lookup: Lookup, condition: Condition) -> str:
    """Probability that either answer is given."""
    value = lookup.value(condition, "answered_steered")
    return "" if np.isnan(value) else f"{value:.3f}"


def _trust(lookup: Lookup, condition: Condition) -> str:
    """Percent of the prompts by trust."""
    shares = [lookup.value(condition, f"share_{trust}") for trust in ("certified", "green", "red")]
    return "" if np.isnan(shares).any() else "/".join(f"{100 * share:.0f}" for share in shares) + " %"
