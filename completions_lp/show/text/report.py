"""Report -> ``report.md``."""

from collections.abc import Mapping

import numpy as np

from completions_lp.quantities import find_quantity
from completions_lp.records import BASELINE, Report, VectorQuality
from completions_lp.show.escape import escape_markdown
from completions_lp.show.text.blocks import list_blocks
from completions_lp.show.text.numbers import Lookup, format_estimate
from completions_lp.show.text.off_target import say_off_target
from completions_lp.show.text.rivals import say_rivals
from completions_lp.show.text.seeds import say_drawn, say_seeds
from completions_lp.show.text.sentence import format_sentence
from completions_lp.show.text.tables import draw_markdown
from completions_lp.show.text.vectors import say_vectors
from completions_lp.show.text.words import name_target, say_decided, say_rule, say_scored, say_stored, say_units


def format_report(report: Report, *, title: str, quality: Mapping[int, VectorQuality]) -> str:
    """The whole of ``report.md``; what failed comes first."""
    warnings = [f"- {escape_markdown(warning)}" for warning in report.warnings]
    parts = [
        *(f"ERROR: {escape_markdown(error)}" for error in report.errors),
        f"# {escape_markdown(title)}",
        format_sentence(report),
        *map(escape_markdown, [*say_vectors(report), *say_rivals(report), *say_off_target(report)]),
        *filter(None, [say_seeds(report)]),
        *(["**Read this first**", "\n".join(warnings)] if warnings else []),
        "## The run",
        "\n".join(f"- {line}" for line in [*describe_run(report), format_checks(report)]),
    ]
    explained: set[str] = set()
    for block in list_blocks(report, quality):
        new = [find_quantity(name) for name in block.quantities if name not in explained]
        explained |= {quantity.name for quantity in new}
        means = [f"- *{quantity.head}*: {quantity.meaning}" for quantity in new]
        parts += [f"## {block.heading}", *filter(None, [block.words, "\n".join(means)])]
        parts.append(draw_markdown(block.columns))
    return "\n\n".join(parts) + "\n"


def format_checks(report: Report) -> str:
    """The instrument's own checks, in one line."""
    if report.is_undrawn:
        return "Without completions, the instrument's own checks have nothing to measure."

    def tell(name: str, form: str) -> str:
        value = report.checks.get(name, float("nan"))
        return "not measured" if np.isnan(value) else form.format(value)

    floor, gap = tell("noise_floor", "{:.1e} nats"), tell("sampler_gap", "{:.1e} nats")
    sampler, everything = tell("sampler_z", "z = {:+.1f}"), tell("all_completions_z", "largest t = {:+.1f}")
    return (
        f"Noise floor (largest change under multiplier 0): {floor}; rounding (sd of a completion's increase): "
        f"{tell('rounding_sd', '{:.1e} nats')}; sampled against scored log probs: {gap}; sampler "
        f"test (surprisal minus entropy): {sampler}; mean increase of all completions, at most 0: {everything}; share "
        f"of the target by labels less by tokens: {tell('label_gap', '{:+.3f}')}."
    )


def describe_run(report: Report) -> list[str]:
    """What was measured on what, line by line."""
    if report.increases is None or report.is_undrawn:
        alone = "; no completions, but the two-choice read-out alone" if report.is_undrawn else ""
        return [f"A, the target: {name_target(report.target)}{alone}"]
    completions, columns = report.increases.completions, report.prompts
    sampling, labelling, size = completions.sampling, completions.labelling, len(completions.prompts)
    lookup, clusters = Lookup.of(report), len({p.cluster for p in completions.prompts})
    share = lookup.find(BASELINE, "share_A")
    offered = 0 if share is None else share.estimate.n
    drawn = "greedy" if sampling.greedy else f"temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, top_k "
    drawn += "" if sampling.greedy else ("off" if sampling.top_k == 0 else str(sampling.top_k))
    kinds = sorted({c.positions for c in report.increases.conditions})
    done = sorted({c.operation for c in report.increases.conditions if c.steers and not c.is_neutral})
    how = f"; operation: {', '.join(done)}" if done != ["add"] else ""
    lines = [
        f"A, the target: {name_target(report.target)}, {say_rule(labelling)}; {offered} of {size} prompts offer it",
        f"{say_units(report)} *Macro* is a mean of per-prompt means: each prompt counts once",
        f"{sampling.draws} completions a prompt of up to {sampling.max_new_tokens} tokens, {drawn}, "
        f"{say_drawn(sampling)}; steered positions: {', '.join(kinds)}{how}",
        f"{clusters} clusters of prompts, the unit of all intervals"
        if clusters < size
        else "each prompt is its own cluster",
        *filter(None, [say_decided(labelling), say_scored(report), say_stored(report)]),
    ]
    counts, n, unique = (np.asarray(columns.get(name, []))[:size] for name in ("n_A", "n", "n_unique"))
    if len(counts) and n.sum():
        lines.append(
            f"completions with the target, by prompt: {counts.min()} to {counts.max()}, median {np.median(counts):g}; "
            f"prompts without any: {(counts == 0).sum()}; distinct ones: {unique.sum() / n.sum():.0%} of the draws"
        )
    told = {"share_uncommitted": "give no answer by this rule", "share_cut_off": "are cut off before they end"}
    known = {words: lookup.value(BASELINE, name) for name, words in told.items()}
    if shares := [f"{share:.0%} {words}" for words, share in known.items() if np.isfinite(share)]:
        lines.append(f"of the completions {' and '.join(shares)}")
    for name, words in (("p_A", "unsteered P(A)"), ("answered", "unsteered probability that either answer is given")):
        row = lookup.find(BASELINE, name)
        if row is not None and np.isfinite(row.estimate.value):
            lines.append(f"{words}: {format_estimate(row.estimate)}")
    return lines
