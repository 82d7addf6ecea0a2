"""Report -> LaTeX: tables of the booktabs package, one line per cell, with intervals and a note that explains them."""

from collections.abc import Sequence

import numpy as np

from completions_lp.quantities import CHOSEN, HEADLINE, PRIMARY, find_quantity
from completions_lp.records import Condition, Estimate, InputError, Kind, Report, ReportRow
from completions_lp.report.doses import index_doses
from completions_lp.show.escape import escape_latex
from completions_lp.show.text.numbers import DASH, Lookup, format_estimate
from completions_lp.show.text.words import name_target

QUANTITIES = (PRIMARY, "log_ratio_A", HEADLINE, "kl_per_token")
READ_OUT = (CHOSEN, "p_choice_steered", "mass_steered")
"""Of a report that has the two-choice read-out alone."""
SIGNIFICANT = 0.05


def format_latex(
    report: Report, quantities: Sequence[str] = QUANTITIES, *, kind: Kind = "target", weighting: str = "macro"
) -> str:
    r"""A ``tabular`` with a line per layer and multiplier; needs ``\usepackage{booktabs}``.

    Beside the multiplier stand the relative dose and KL per token, as far as they are known: a multiplier alone says
    little. Beside the target vectors stand the rivals. Quantities that the report lacks are left out. A missing
    interval is not written, an undefined value is a dash, and a star marks p < .05 after max-T over the sweep. Raises
    InputError where the report has none of the quantities.
    """
    lookup = Lookup.of(report)
    known = {row.quantity for row in report.rows if row.condition.kind == kind and row.weighting == weighting}
    if quantities == QUANTITIES and known.isdisjoint(QUANTITIES):
        quantities = READ_OUT
    shown = [quantity for quantity in quantities if quantity in known]
    if not shown:
        wanted = f"{weighting} {' or '.join(quantities)} of {kind} vectors"
        raise InputError(f"no {wanted}; there are {', '.join(sorted(known))}")
    cells = list(dict.fromkeys(row.condition for row in report.rows if row.condition.kind == kind))
    cells = sorted((c for c in cells if not c.is_neutral), key=lambda c: (c.vector, c.layers, c.multiplier))
    several = len({c.vector for c in cells}) > 1
    cells += dict.fromkeys(r.condition for r in report.rows if kind == "target" and r.condition.kind == "rival")
    doses = _write_doses(report, cells, cost="kl_per_token" not in shown)
    head = [*(["vector"] if several else []), "layer", "multiplier", *doses, *map(_write_head, shown)]
    rows = [[lookup.find(c, quantity, weighting=weighting) for quantity in shown] for c in cells]
    lines = []
    for c, found in zip(cells, rows, strict=True):
        names = [*([escape_latex(c.vector)] if several else []), c.site, f"${c.multiplier:+.4g}$"]
        names += [column.get(c, "--") for column in doses.values()]
        if c.kind == "rival":
            names = [rf"\multicolumn{{{len(names)}}}{{l}}{{{escape_latex(c.vector)} (rival)}}"]
        lines.append([*names, *map(_write_cell, found)])
    note = f"$P$: probability of {escape_latex(name_target(report.target))}. "
    note += _say_intervals([row.estimate for column in zip(*rows, strict=True) for row in column if row is not None])
    if any("^{*}" in cell for line in lines for cell in line):
        note += f" $^{{*}}$: $p < {SIGNIFICANT:g}$, adjusted for the whole sweep by max-T."
    return format_booktabs(head, lines, note=note, group=1 if several else 0)


def _write_doses(report: Report, cells: Sequence[Condition], *, cost: bool) -> dict[str, dict[Condition, str]]:
    """By the head of each column that is known, what the multipliers of cells come to; with what they ``cost``."""
    known = index_doses(report)
    asked = {c: float(c.dose or 0.0) for c in cells} if any(c.dose != c.multiplier for c in cells) else {}
    columns = {"dose": {c: f"${value:+.3g}$" for c, value in asked.items()}}
    heads = {"relative_dose": r"$\lVert mv\rVert/\lVert h\rVert$"}
    for name, head in {**heads, **({"kl_per_token": _write_head("kl_per_token")} if cost else {})}.items():
        values = {c: known.get(c, {}).get(name, np.nan) for c in cells}
        columns[head] = {c: f"${value:.2g}$" for c, value in values.items() if np.isfinite(value)}
    return {head: column for head, column in columns.items() if column}


def format_booktabs(
    head: Sequence[str], lines: Sequence[Sequence[str]], *, note: str = "", group: int | None = None
) -> str:
    r"""A ``tabular`` from cells that are LaTeX already; for plain text use ``escape_latex`` first.

    ``note`` stands below the table, in small print. A little space stands wherever the column ``group``, or one to its
    left, changes; None for none.
    """
    rows = []
    for before, line in zip([None, *lines], lines, strict=False):
        if group is not None and before is not None and list(before[: group + 1]) != list(line[: group + 1]):
            rows.append(r"\addlinespace")
        rows.append(" & ".join(line) + r" \\")
    below = [rf"\multicolumn{{{len(head)}}}{{l}}{{\footnotesize {note}}} \\"] if note else []
    head_line = " & ".join(head) + r" \\"
    begin = [rf"\begin{{tabular}}{{{'r' * len(head)}}}", r"\toprule", head_line, r"\midrule"]
    return "\n".join([*begin, *rows, r"\bottomrule", *below, r"\end{tabular}", ""])


def _write_head(name: str) -> str:
    quantity = find_quantity(name)
    return f"{quantity.latex or escape_latex(quantity.head)} ({escape_latex(quantity.unit)})"


def _write_cell(row: ReportRow | None) -> str:
    if row is None:
        return ""
    if np.isnan(row.estimate.value):
        return escape_latex(DASH)
    star = "^{*}" if row.inference.p_max_t < SIGNIFICANT else ""
    value, _, ends = format_estimate(row.estimate).replace("%", r"\%").partition(" ")
    return f"${value}{star}$" + (f" ${ends}$" if ends else "")


def _say_intervals(estimates: Sequence[Estimate]) -> str:
    """What the brackets are, from the numbers that have them."""
    drawn = [e for e in estimates if e.low is not None]
    if not drawn:
        return "No intervals: too few prompts."
    methods = " and ".join(sorted({escape_latex(e.method) for e in drawn}))
    prompts, clusters = [sorted({getattr(e, name) for e in drawn}) for name in ("n", "n_clusters")]
    over = f"{_span(prompts)} prompts" + ("" if prompts == clusters else f" in {_span(clusters)} clusters")
    return rf"Means over {over}; brackets: {drawn[0].level * 100:g}\,\% {methods} intervals."


def _span(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}--{numbers[-1]}"
