"""Report -> the result in one sentence."""

import numpy as np

from completions_lp.quantities import HEADLINE, PRIMARY
from completions_lp.records import Condition, Estimate, Report, ReportRow
from completions_lp.show.text.text import Lookup, format_estimate


def format_sentence(report: Report) -> str:
    """The result in one sentence (numbers.md §6), of the sweep's best cell.

    The cell was chosen on one half of the prompts and the numbers are of the other half; where no half could be held
    back, the sentence says so. Without P(A) it is about the headline.
    """
    lookup = Lookup.of(report)
    held = [row for row in report.rows if row.quantity == PRIMARY and row.split == "report"]
    swept = [row for row in report.table(PRIMARY) if row.condition.multiplier != 0]
    known = [row for row in swept if np.isfinite(row.estimate.value)]
    if held and np.isfinite(held[0].estimate.value):
        return f"{_tell(report, lookup, held[0])} {_tell_choice(held[0], len(swept))}"
    if known:
        best = max(known, key=lambda row: row.estimate.value)
        return f"{_tell(report, lookup, best)} {_name(best.condition)}, the largest of {len(swept)} and chosen for it."
    return _tell_headline(report)


def name_target(report: Report) -> str:
    """The target as a sentence names it."""
    return "behaviour-matching" if report.target == "matching" else repr(report.target)


def _tell(report: Report, lookup: Lookup, row: ReportRow) -> str:
    def find(quantity: str) -> Estimate | None:
        found = lookup.find(row.condition, quantity, split=row.split)
        return None if found is None or np.isnan(found.estimate.value) else found.estimate

    answer = "matching answer" if report.target == "matching" else report.target
    window = "" if report.increases is None else f"≤{report.increases.completions.labelling.within}"
    parts = [f"ΔP({answer}{window})={_write(row.estimate, 'pp')} ({_describe(row.estimate)}; {_compare(lookup, row)})"]
    increase, ratio = find(HEADLINE), find("log_ratio_A")
    if increase is not None:
        text = f"log-prob increase of {name_target(report)} completions {_write(increase, 'nats')}"
        text += "" if ratio is None else f", a lower bound on the mean log P-ratio {format_estimate(ratio)}"
        parts.append(text)
    kl, red = find("kl_per_token"), find("share_red")
    parts.append("KL(p‖q) not read" if kl is None else f"KL(p‖q)={kl.value:.3g} nats/token")
    parts += [] if red is None else [f"{red.value:.0%} of prompts red"]
    return "; ".join(parts) + "."


def _write(estimate: Estimate, unit: str) -> str:
    """``+0.53 nats [+0.41, +0.65]``."""
    value, _, limits = format_estimate(estimate).partition(" ")
    return f"{value} {unit} {limits}".rstrip()


def _describe(e: Estimate) -> str:
    """Kind and size of what the interval is over."""
    behind = f"N={e.n} prompts" if e.n == e.n_clusters else f"N={e.n} prompts in {e.n_clusters} clusters"
    return f"no interval, {behind}" if e.low is None else f"{e.level:.0%} {e.method}, {behind}"


def _compare(lookup: Lookup, row: ReportRow) -> str:
    """Where it lies among the random directions."""
    c = row.condition
    same = {
        (r.layer, r.multiplier, r.positions, r.vector)
        for r, q, *_ in lookup.rows
        if r.kind == "random" and q == PRIMARY
    }
    n = sum(cell[:3] == (c.layer, c.multiplier, c.positions) for cell in same)
    i = row.inference
    if not n:
        return "not compared with random directions"
    if np.isnan(i.p_rank):
        return f"R={n} same-norm random directions, no p-value"
    band = f"[{i.random_low:+.2f}, {i.random_high:+.2f}]"
    return f"{row.estimate.level:.0%} of R={n} same-norm random directions within {band}, rank p={i.p_rank:.2g}"


def _tell_choice(row: ReportRow, n_cells: int) -> str:
    frequency = row.inference.selection_frequency
    stable = "" if np.isnan(frequency) else f"; it is the best in {frequency:.0%} of resamples"
    return (
        f"{_name(row.condition)}, chosen among {n_cells} on one half of the prompts and reported here on the other "
        f"half{stable}."
    )


def _name(condition: Condition) -> str:
    return f"This is layer {condition.layer}, multiplier {condition.multiplier:+g}"


def _tell_headline(report: Report) -> str:
    rows = [row for row in report.table(HEADLINE) if np.isfinite(row.estimate.value)]
    if not rows:
        return "No prompt has a completion with the target answer: the average increase is undefined."
    rows = [row for row in rows if row.condition.multiplier != 0] or rows
    best = max(rows, key=lambda row: row.estimate.value)
    e, c = best.estimate, best.condition
    inside = "no interval" if e.low is None else f"{e.level:.0%} {e.method} interval over {e.n_clusters} clusters"
    if e.n_clusters == e.n and e.low is not None:
        inside = f"{e.level:.0%} {e.method} interval over {e.n} prompts"
    return (
        f"Log prob of the {name_target(report)} completions, to the answer: {format_estimate(e)} nats ({inside}) at "
        f"layer {c.layer}, multiplier {c.multiplier:+g}, the largest of {len(rows)} conditions and chosen for it."
    )
