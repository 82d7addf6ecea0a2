"""Report -> what to look at first, for a terminal: the cells that steer most, and those that damage."""

from collections.abc import Sequence

import numpy as np

from completions_lp.quantities import find_quantity
from completions_lp.records import Condition, Report
from completions_lp.report.best import find_primary
from completions_lp.show.text.blocks import format_quality_line, list_first, list_shown
from completions_lp.show.text.columns import list_columns
from completions_lp.show.text.numbers import Lookup
from completions_lp.show.text.off_target import say_off_target
from completions_lp.show.text.report import format_checks
from completions_lp.show.text.rivals import say_rivals
from completions_lp.show.text.seeds import say_seeds
from completions_lp.show.text.sentence import format_sentence, tell_reasoning, tell_swaps
from completions_lp.show.text.tables import draw_table, wrap_text
from completions_lp.show.text.vectors import say_vectors
from completions_lp.show.text.words import MARK, say_scored, say_target, say_units
from completions_lp.stats import promise_sign

ROWS = 12
"""As many cells are shown without being asked for all."""
DAMAGED = 4
"""Of them, as many are there for their damage."""


def format_overview(report: Report, *, title: str, everything: bool = False, width: int | None = None) -> str:
    """What ``run`` and ``report`` print: what is wrong first, then the table, the sentence and the checks.

    ``title`` says what was measured on what; with ``everything`` the table has every cell.
    """
    told = [format_sentence(report), *say_vectors(report), *say_rivals(report), *say_off_target(report)]
    told += [*filter(None, [tell_swaps(report), say_seeds(report), tell_reasoning(report), say_scored(report)])]
    told += [format_quality_line(report.quality), format_checks(report)]
    parts = [wrap_text(title, width=width), *_list_warnings(report, width), ""]
    parts += [format_table(report, everything=everything, width=width), ""]
    return "\n".join([*parts, *(wrap_text(text, width=width) for text in told)])


def format_table(report: Report, *, everything: bool = False, width: int | None = None) -> str:
    """What A is and a line per cell: all with ``everything``, else at most 12, by most steering, then most damage."""
    every = list_shown(report)
    shown, rivals = [c for c in every if c.steers], [c for c in every if not c.steers]
    first, damaged = (shown, []) if everything or len(shown) <= ROWS else pick_cells(report, shown)
    columns, shows = list_columns(report, [*first, *damaged, *rivals], list_first(report))
    gaps = [len(part) - 1 for part, after in ((first, damaged), ([*first, *damaged], rivals)) if after]
    below = [_tell_marked(report), _tell_chosen(report, shown, first, damaged)]
    if any(show.quantity == "share_red" for show in shows):
        meaning = find_quantity("share_red").meaning
        below.append(f"Red: {meaning[:1].lower()}{meaning[1:]}")
    words = [wrap_text(text, width=width) for text in below if text]
    head = wrap_text(f"{say_target(report)} {say_units(report)}", width=width)
    return "\n".join([head, "", draw_table(columns, width=width, gaps=gaps), "", *words]).rstrip()


def pick_cells(report: Report, shown: Sequence[Condition]) -> tuple[list[Condition], list[Condition]]:
    """The cells that steer most, the best one first, and of the others those that damage most, where that is known."""
    lookup, quantity, best = Lookup.of(report), find_primary(report), report.best
    steered = [c for c in shown if not c.is_neutral]
    sign = promise_sign([c.multiplier for c in steered])
    order = sorted(steered, key=lambda c: (best is None or c != best.condition, *_rank(lookup, c, quantity, sign)))
    damage, worse = _name_damage(report)
    if not damage:
        return order[:ROWS], []
    first = order[: ROWS - DAMAGED]
    others = sorted((c for c in steered if c not in first), key=lambda c: _rank(lookup, c, damage, worse))
    return first, others[:DAMAGED]


def _rank(lookup: Lookup, condition: Condition, quantity: str, sign: float) -> tuple[bool, float]:
    """The largest first, undefined values last."""
    value = lookup.value(condition, quantity)
    return bool(np.isnan(value)), -sign * value


def _name_damage(report: Report) -> tuple[str, float]:
    """What tells damage, and the sign of more of it: KL, or the increase of all completions, which estimates −KL.

    Empty where completions are not scored through their end: neither is known.
    """
    if report.through != "end":
        return "", 0.0
    known = any(row.quantity == "kl_per_token" and np.isfinite(row.estimate.value) for row in report.rows)
    return ("kl_per_token", 1.0) if known else ("increase_all", -1.0)


def _tell_marked(report: Report) -> str:
    best = report.best
    if best is None:
        return ""
    on = "chosen on one half of the prompts; its line is of all of them" if best.held_out else "chosen on all prompts"
    return f"{MARK} the best of {best.n_cells} cells (layers times multipliers) by {_name(best.quantity)}, {on}."


def _tell_chosen(
    report: Report, shown: Sequence[Condition], first: Sequence[Condition], damaged: Sequence[Condition]
) -> str:
    """Which cells stand there, and how to see the others."""
    left = len(shown) - len(first) - len(damaged)
    if not left and not damaged:
        return ""
    effect = _name(find_primary(report))
    steered = [c for c in shown if not c.is_neutral]
    most = "largest" if promise_sign([c.multiplier for c in steered]) > 0 else "smallest"
    then = f", then the {len(damaged)} most damaged ones ({_name(_name_damage(report)[0])})" if damaged else ""
    told = f"First the {len(first)} cells with the {most} {effect}{then}."
    return told if not left else f"{told} {left} more: --all, everything=True, report.md or summary.csv."


def _list_warnings(report: Report, width: int | None) -> list[str]:
    errors = [wrap_text(f"ERROR: {error}", width=width, rest="  ") for error in report.errors]
    return [*errors, *(wrap_text(text, width=width, first="! ", rest="  ") for text in report.warnings)]


def _name(quantity: str) -> str:
    """The head of its column, without the unit."""
    return find_quantity(quantity).head.removesuffix(f" {find_quantity(quantity).unit}")
