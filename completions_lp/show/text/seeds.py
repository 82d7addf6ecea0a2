"""The seeds of a run in words: which were drawn, and how far the numbers of the best cell differ between them."""

from completions_lp.quantities import HEADLINE, PRIMARY, find_quantity
from completions_lp.records import Report, ReportRow, Sampling
from completions_lp.show.text.numbers import Lookup, format_number
from completions_lp.show.text.words import name_answer


def say_drawn(sampling: Sampling) -> str:
    """How many completions of a prompt there are, and by which seeds: ``100 completions a prompt``, ``seed 0``."""
    if not sampling.seeds:
        return f"seed {sampling.seed}"
    listed = ", ".join(map(str, sampling.seeds))
    if len(sampling.seeds) == 1:
        return f"seed {listed}"
    return f"{sampling.n} for each of the seeds {listed} (controls and resamples: seed {sampling.seed})"


def say_seeds(report: Report) -> str:
    """How far the main numbers of the best cell differ between seeds, beside their intervals; empty with one seed."""
    if report.best is None or not report.seeds:
        return ""
    lookup, condition = Lookup.of(report), report.best.condition
    rows = [lookup.find(condition, quantity) for quantity in (PRIMARY, HEADLINE)]
    told = [_tell(report, row) for row in rows if row is not None and row.inference.n_seeds > 1]
    if not told:
        return ""
    n = len({one.seed for one in report.seeds})
    return f"Between {n} seeds, in the best cell: {'; '.join(told)}.{_tell_mended(report)}"


def _tell(report: Report, row: ReportRow) -> str:
    quantity, e = find_quantity(row.quantity), row.estimate
    key = row.condition, row.quantity
    values = [one.value for one in report.seeds if (one.condition, one.quantity) == key]
    each = ", ".join(format_number(value, e.unit) for value in values)
    name = " ".join(quantity.label.replace("{A}", name_answer(report.target)).split())
    told = f"{name} sd {row.inference.seed_sd:.2g} {quantity.unit} ({each})"
    if e.low is None or e.high is None:
        return told
    return f"{told}, the interval's half width is {(e.high - e.low) / 2:.2g}"


def _tell_mended(report: Report) -> str:
    """That the change of P(A) is not told by seed, where draws of the steered model have joined it."""
    best, measures = report.best, report.measures
    if best is None or measures is None or best.condition not in measures.conditions:
        return ""
    if not (measures.steered["n_steered"][measures.conditions.index(best.condition)] > 0).any():
        return ""
    return " P(A) under steering is not told by seed there: draws of the steered model, which are of none, have joined."
