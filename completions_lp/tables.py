"""Report -> text: the headline table for the terminal and for ``report.md``."""

from collections.abc import Mapping, Sequence

import numpy as np

from completions_lp.records import Condition, Estimate, Report, VectorQuality
from completions_lp.reporting import HEADLINE

COLUMNS = {
    HEADLINE: "to the answer",
    "increase_A": "whole, A",
    "increase_not_A": "whole, not A",
    "increase_all": "whole, all",
    "logit_diff_change": "logit diff",
    "mass_steered": "mass",
}


def format_table(report: Report) -> str:
    """One line per condition: the headline with its interval, and its partners."""
    lines = [["vector", "layer", "mult", *COLUMNS.values(), "n"]]
    for condition in list_conditions(report):
        cells = [_printable(condition.vector), str(condition.layer), f"{condition.multiplier:+g}"]
        known = {r.quantity: r.estimate for r in report.rows if r.condition == condition and r.weighting == "macro"}
        for quantity in COLUMNS:
            estimate = known.get(quantity)
            cells.append("" if estimate is None else format_estimate(estimate, interval=quantity == HEADLINE))
        lines.append([*cells, str(known[HEADLINE].n)])
    return _align(lines)


def list_conditions(report: Report) -> tuple[Condition, ...]:
    """The steered conditions of a report, in its order."""
    return tuple(dict.fromkeys(row.condition for row in report.rows if row.condition.kind != "baseline"))


def format_estimate(estimate: Estimate, *, interval: bool = True) -> str:
    """``+0.53 [+0.41, +0.65]``; a missing interval is not written, an undefined value is a dash."""
    if np.isnan(estimate.value):
        return "–"
    if estimate.unit == "probability":
        return f"{estimate.value:.3f}"
    text = f"{estimate.value:+.3f}"
    if interval and estimate.low is not None and estimate.high is not None:
        text += f" [{estimate.low:+.3f}, {estimate.high:+.3f}]"
    return text


def format_sentence(report: Report) -> str:
    """The headline in one sentence: the condition whose headline is largest, named as the pick of a sweep."""
    rows = [row for row in report.table(HEADLINE) if np.isfinite(row.estimate.value)]
    if not rows:
        return "No prompt has a completion with the target answer: the average increase is undefined."
    best = max(rows, key=lambda row: row.estimate.value)
    e, c = best.estimate, best.condition
    inside = "no interval" if e.low is None else f"{e.level:.0%} {e.method} interval over {e.n_clusters} clusters"
    if e.n_clusters == e.n and e.low is not None:
        inside = f"{e.level:.0%} {e.method} interval over {e.n} prompts"
    return (
        f"Log prob of the {_name_target(report)} completions, to the answer: {format_estimate(e)} nats ({inside}) at "
        f"layer {c.layer}, multiplier {c.multiplier:+g}, the largest of {len(rows)} conditions and chosen for it."
    )


def format_checks(report: Report) -> str:
    """The instrument's own checks, in one line."""
    floor, gap = report.checks["noise_floor"], report.checks["sampler_gap"]
    zero = "not measured" if np.isnan(floor) else f"{floor:.1e} nats"
    return f"Noise floor (largest change under multiplier 0): {zero}; sampled against scored log probs: {gap:.1e} nats."


def format_quality(quality: Mapping[int, VectorQuality]) -> str:
    """How well the vector is known, layer by layer."""
    lines = [["layer", "norm", "± s.e.", "split-half cosine"]]
    for layer, q in sorted(quality.items()):
        lines.append([str(layer), f"{q.norm:.3f}", f"{q.norm_se:.3f}", f"{q.split_half_cosine:.3f}"])
    return _align(lines)


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


def format_report(report: Report, *, title: str, quality: Mapping[int, VectorQuality]) -> str:
    """The whole of ``report.md``."""
    warnings = [f"- {warning}" for warning in report.warnings]
    parts = [
        f"# {_printable(title)}",
        format_sentence(report),
        *(["**Read this first**", "\n".join(warnings)] if warnings else []),
        "## Average log-prob increase",
        "Means over prompts of per-prompt means, in nats; brackets are the interval over prompts; `n` is the number of "
        "prompts with such a completion. *To the answer* ends with the answer's token; *whole* is all tokens; "
        "*all* estimates −KL and is at most 0 up to noise. *Logit diff* is the change of the two-choice read-out, "
        "*mass* the steered probability of the two answers there.",
        f"```\n{format_table(report)}\n```",
        "## Checks",
        format_checks(report),
    ]
    if quality:
        parts += ["## The vector", f"```\n{format_quality(quality)}\n```"]
    return "\n\n".join(parts) + "\n"


def _name_target(report: Report) -> str:
    return "behaviour-matching" if report.target == "matching" else repr(report.target)


def _align(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _printable(text: str) -> str:
    """Text of files and models with its control characters made visible: none may reach a terminal as they are."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
