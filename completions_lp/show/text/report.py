"""Report -> ``report.md``."""

from collections.abc import Mapping

import numpy as np

from completions_lp.records import BASELINE, Report, VectorQuality
from completions_lp.show.text import blocks
from completions_lp.show.text.sentence import format_sentence, name_target
from completions_lp.show.text.text import Lookup, format_estimate, printable

EXPLAINED = {
    "At a glance": "Means over prompts of per-prompt means; brackets are the interval over prompts. *ΔP(A)* is the "
    "change of the probability of the answer within the window, *red* the share of prompts on which it cannot be "
    "trusted. *To the answer* is the log-prob increase of the completions that gave the answer, through its token, in "
    "nats: a lower bound on the *log ratio* of P(A). *KL/token* is what steering changes in all. *Logit diff* is the "
    "change of the two-choice read-out, *mass* the steered probability of the two answers there; *n* counts the "
    "prompts with such a completion.",
    "How much": "*ΔP(A)* in percentage points; *log ratio* is the mean over prompts of log P(A) steered over "
    "unsteered, *Δlogit, marginal* the change of the logit of the mean P(A) (jackknife); *log A:B* the change of the "
    "log odds of the two answers, in nats; *answered* the steered probability that either is given; then the percent "
    "of prompts whose P(A) is certified, green or red.",
    "The average increase and its bound": "In nats. *Next token averaged* is the same with the drawing of the next "
    "token averaged out, *gap* how far it lies below the *log ratio*; *micro* pools completions instead of averaging "
    "prompts.",
    "Whole completions and divergences": "In nats; *all* estimates −KL and is at most 0 up to noise. Intervals of KL "
    "are bootstrap-t.",
    "The two-choice read-out": "Logit diffs in nats; *mass* is the probability of the two answers.",
    "Where the gain is": "In nats: before, at and after the answer's token, which sum to *whole, A*; and the change of "
    "logit P(A) as the share of the answer itself and of the text before it.",
    "Controls": "*Odd part* is [f(m) − f(−m)]/2, in which second-order damage cancels. *Random* is the same number "
    "under random directions of the same norm; p-values are one-sided, towards what the multiplier's sign promises.",
    "The sweep": "*Band of all cells* covers all means at once (max-T, approximate); *max-T* and *Holm* allow for all "
    "cells, *BH* is for a list to explore; *best in* is how often a cell is the best when clusters are resampled.",
    "Dose and response": "Least-squares slope over the multipliers, prompt by prompt, per unit of multiplier; *below "
    "0* is the share of prompts with a slope below 0, sampling noise shrunken away.",
    "The vector": "How well a mean over so many pairs is known.",
}
"""What each block shows."""


def format_report(report: Report, *, title: str, quality: Mapping[int, VectorQuality]) -> str:
    """The whole of ``report.md``; what failed comes first."""
    warnings = [f"- {printable(warning)}" for warning in report.warnings]
    parts = [
        *(f"ERROR: {printable(error)}" for error in report.errors),
        f"# {printable(title)}",
        format_sentence(report),
        *(["**Read this first**", "\n".join(warnings)] if warnings else []),
        "## The run",
        "\n".join(f"- {line}" for line in [*describe_run(report), format_checks(report)]),
    ]
    for heading, text, table in _list_blocks(report, quality):
        parts += [f"## {heading}", text, f"```\n{table}\n```"] if table else []
    return "\n\n".join(parts) + "\n"


def format_checks(report: Report) -> str:
    """The instrument's own checks, in one line."""

    def tell(name: str, form: str) -> str:
        value = report.checks.get(name, float("nan"))
        return "not measured" if np.isnan(value) else form.format(value)

    floor, gap = tell("noise_floor", "{:.1e} nats"), tell("sampler_gap", "{:.1e} nats")
    sampler, everything = tell("sampler_z", "z = {:+.1f}"), tell("all_completions_z", "largest t = {:+.1f}")
    return (
        f"Noise floor (largest change under multiplier 0): {floor}; sampled against scored log probs: {gap}; sampler "
        f"test (surprisal minus entropy): {sampler}; mean increase of all completions, at most 0: {everything}; share "
        f"of the target by labels less by tokens: {tell('label_gap', '{:+.3f}')}."
    )


def describe_run(report: Report) -> list[str]:
    """What was measured on what, line by line."""
    if report.increases is None:
        return [f"target {name_target(report)}"]
    completions, columns = report.increases.completions, report.prompts
    sampling, labelling, size = completions.sampling, completions.labelling, len(completions.prompts)
    lookup, clusters = Lookup.of(report), len({p.cluster for p in completions.prompts})
    share = lookup.find(BASELINE, "share_A")
    offered = 0 if share is None else share.estimate.n
    drawn = "greedy" if sampling.greedy else f"temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, top_k "
    drawn += "" if sampling.greedy else ("off" if sampling.top_k == 0 else str(sampling.top_k))
    kinds = sorted({c.positions for c in report.increases.conditions})
    lines = [
        f"target {name_target(report)}, by first passage within the first {labelling.within} tokens (rule "
        f"{labelling.rule}); {offered} of {size} prompts offer it",
        f"{sampling.draws} completions a prompt of up to {sampling.max_new_tokens} tokens, {drawn}, seed "
        f"{sampling.seed}; steered positions: {', '.join(kinds)}",
        f"{clusters} clusters of prompts, the unit of all intervals"
        if clusters < size
        else "each prompt is its own cluster",
    ]
    counts, n, unique = (np.asarray(columns.get(name, []))[:size] for name in ("n_A", "n", "n_unique"))
    if len(counts) and n.sum():
        lines.append(
            f"completions with the target, by prompt: {counts.min()} to {counts.max()}, median {np.median(counts):g}; "
            f"prompts without any: {(counts == 0).sum()}; distinct ones: {unique.sum() / n.sum():.0%} of the draws"
        )
    for name, words in (("p_A", "unsteered P(A)"), ("answered", "unsteered probability that either answer is given")):
        row = lookup.find(BASELINE, name)
        if row is not None and np.isfinite(row.estimate.value):
            lines.append(f"{words}: {format_estimate(row.estimate)}")
    return lines


def _list_blocks(report: Report, quality: Mapping[int, VectorQuality]) -> list[tuple[str, str, str]]:
    """Heading, explanation and table of every block; one without anything to show has no table."""
    rank = report.checks.get("p_rank_sweep", float("nan"))
    swept = f" Rank p of the whole sweep, every direction at its own best cell: {rank:.3f}." if rank == rank else ""
    tables = {
        "At a glance": blocks.format_table(report),
        "How much": blocks.format_primary(report),
        "The average increase and its bound": blocks.format_increases(report),
        "Whole completions and divergences": blocks.format_divergences(report),
        "The two-choice read-out": blocks.format_choices(report),
        "Where the gain is": blocks.format_places(report),
        "Controls": blocks.format_controls(report),
        "The sweep": blocks.format_sweep(report),
        "Dose and response": blocks.format_slopes(report),
        "The vector": blocks.format_quality(quality) if quality else "",
    }
    return [(name, EXPLAINED[name] + (swept if name == "Controls" else ""), table) for name, table in tables.items()]
