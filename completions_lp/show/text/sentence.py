"""Report -> the result in one sentence."""

import numpy as np

from completions_lp.quantities import CHOSEN, HEADLINE, PRIMARY, find_quantity, name_unit
from completions_lp.records import BASELINE, Best, Estimate, Report, ReportRow
from completions_lp.report.doses import say_same
from completions_lp.show.text.numbers import DASH, Lookup, format_estimate
from completions_lp.show.text.words import name_answer, name_cell, name_size
from completions_lp.stats import promise_sign

_SWAPPED = {
    "behaviour": "goes with the behaviour whatever its letter",
    "letter": "with the letter whatever it says",
    "common": "with both answers alike",
}


def format_sentence(report: Report) -> str:
    """The result in one sentence (numbers.md §6), of the sweep's best cell.

    Where one half of the prompts chose the cell, the numbers are of the other half; where none could be held back, the
    sentence says so. Without P(A) it is about the headline.
    """
    best, lookup = report.best, Lookup.of(report)
    split = "report" if best is not None and best.held_out else "all"
    row = None if best is None else lookup.find(best.condition, best.quantity, split=split)
    if best is None or row is None:
        if any(np.isfinite(row.estimate.value) for row in report.rows if row.quantity == HEADLINE):
            return "No cell steers: there is no effect to tell of."
        return "No prompt has a completion with the target answer: the average increase is undefined."
    told = _tell_change(report, lookup, row) if best.quantity == PRIMARY else _tell_increase(report, row)
    return f"{told} {_tell_choice(report, best)}"


def tell_swaps(report: Report) -> str:
    """What of the best cell's effect follows the behaviour and what the letter; empty without questions asked twice."""
    best = report.best
    parts = (
        {}
        if best is None
        else {s.part: s for s in report.swaps if s.condition == best.condition and s.quantity == best.quantity}
    )
    if best is None or not parts:
        return ""
    head, pairs = find_quantity(best.quantity).head, parts["behaviour"].estimate.n
    told = ", ".join(f"{format_estimate(swap.estimate)} {_SWAPPED[part]}" for part, swap in parts.items())
    return f"Of {head}, over {pairs} questions asked in both orders: {told}."


def tell_reasoning(report: Report) -> str:
    """What would be answered at the end of the reasoning, in the sweep's best cell; empty where that was not read."""
    lookup, best = Lookup.of(report), report.best
    if best is None or lookup.find(best.condition, "read_A_answer_only") is None:
        return ""

    def write(quantity: str, *, steered: bool = True) -> str:
        row = lookup.find(best.condition if steered else BASELINE, quantity)
        return DASH if row is None else format_estimate(row.estimate)

    red = lookup.value(best.condition, "read_red")
    split = (
        f"both steered change it by {write('read_A_change')} pp: {write('read_A_by_answer')} by the answer, "
        f"{write('read_A_by_reasoning')} by the reasoning ({red:.0%} of prompts red)"
    )
    return (
        f"Behind the reasoning, P({name_answer(report.target)})={write('read_A', steered=False)}, "
        f"{write('read_A_answer_only')} with the answer steered alone; the mass on all choices is "
        f"{write('read_mass', steered=False)} and {write('read_mass_answer_only')}"
        f"{'' if np.isnan(red) else f'; {split}'}."
    )


def _tell_change(report: Report, lookup: Lookup, row: ReportRow) -> str:
    def find(quantity: str) -> Estimate | None:
        found = lookup.find(row.condition, quantity, split=row.split)
        return None if found is None or np.isnan(found.estimate.value) else found.estimate

    answer = name_answer(report.target)
    within = "all" if report.increases is None else report.increases.completions.labelling.within
    window = "" if within == "all" else f"≤{within}"
    change = f"ΔP({answer}{window})={_write(row.estimate, name_unit(PRIMARY))}"
    parts = [f"{change} ({_describe(row.estimate)}; {_compare(lookup, row, say_same(report))})"]
    increase, ratio = find(HEADLINE), find("log_ratio_A")
    if increase is not None:
        text = f"log-prob increase of completions with the {answer} {_write(increase, name_unit(HEADLINE))}"
        text += "" if ratio is None else f", a lower bound on the mean log P-ratio {format_estimate(ratio)}"
        parts.append(text)
    kl, red = find("kl_per_token"), find("share_red")
    parts.append("KL(p‖q) not read" if kl is None else f"KL(p‖q)={kl.value:.3g} nats/token")
    parts += [] if red is None else [f"{red.value:.0%} of prompts red (not to be trusted)"]
    return "; ".join(parts) + "."


def _tell_increase(report: Report, row: ReportRow) -> str:
    told = f"{_write(row.estimate, name_unit(row.quantity))} ({_describe(row.estimate)})"
    if row.quantity == CHOSEN:
        return f"Log odds of the {name_answer(report.target)} against the other one, at the first place: {told}."
    return f"Log-prob increase of completions with the {name_answer(report.target)}, to the answer: {told}."


def _tell_choice(report: Report, best: Best) -> str:
    cell = f"This is {name_cell(best.condition)}"
    if best.n_cells == 1:
        return f"{cell}, the only cell."
    if best.held_out:
        stable = "" if np.isnan(best.frequency) else f"; it is the best in {best.frequency:.0%} of resamples"
        told = f"{cell}, chosen among {best.n_cells} cells on one half of the prompts"
        return f"{told} and reported here on the other half{stable}."
    steered = [r.condition.multiplier for r in report.table(best.quantity) if not r.condition.is_neutral]
    return f"{cell}, the {'largest' if promise_sign(steered) > 0 else 'smallest'} of {best.n_cells} and chosen for it."


def _write(estimate: Estimate, unit: str) -> str:
    """``+0.53 nats [+0.41, +0.65]``."""
    value, _, limits = format_estimate(estimate).partition(" ")
    return f"{value} {unit} {limits}".rstrip()


def _describe(e: Estimate) -> str:
    """Kind and size of what the interval is over."""
    behind = f"N={name_size(e)}"
    return f"no interval, {behind}" if e.low is None else f"{e.level:.0%} {e.method}, {behind}"


def _compare(lookup: Lookup, row: ReportRow, same: str) -> str:
    """Where it lies among the random directions, which have something in common with the vector."""
    i = row.inference
    known = {c for c, quantity, *_ in lookup.rows if quantity == row.quantity and c.kind == "random"}
    n = sum(c.cell == row.condition.cell for c in known)
    if not n:
        return "not compared with random directions"
    if np.isnan(i.p_rank):
        return f"R={n} random directions {same}, no p-value"
    band = f"[{i.random_low:+.2f}, {i.random_high:+.2f}]"
    return f"{row.estimate.level:.0%} of R={n} random directions {same} within {band}, rank p={i.p_rank:.2g}"
