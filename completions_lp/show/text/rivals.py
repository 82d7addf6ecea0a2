"""Rivals in words: what they are called, the table of steering beside them, and a line for each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from completions_lp.quantities import HEADLINE, PRIMARY, find_quantity, name_unit
from completions_lp.records import Condition, Estimate, Report, RivalRow
from completions_lp.report.best import find_primary
from completions_lp.show.escape import printable
from completions_lp.show.text.numbers import DASH, format_estimate
from completions_lp.show.text.tables import Column
from completions_lp.show.text.words import name_cell

RIVALS = "Steering and its rivals"
RIVALS_WORDS = (
    "The very same completions under another prompt or another model. *Steering* is the best cell, *rival* the same "
    "quantity under the rival, *steering − rival* their difference prompt by prompt, all three over the prompts on "
    "which both have a value. A rival has no layer and no dose, and took no part in the choice of the cell. Its "
    "divergences are not read; the mean increase of all completions estimates −KL."
)
_KEYS = {
    "system": "system prompt",
    "few_shot": "few shots",
    "template": "template",
    "prepend": "prepended text",
    "model": "another model",
}
"""Keys of a rival in words."""


def describe_rival(info: Mapping[str, Any], name: str) -> str:
    """What kind of rival it is, in a word or two, as far as the run's configuration tells; else empty."""
    sections = (info.get("config") or {}).get("rival") or ()
    section: Mapping[str, Any] = next((one for one in sections if one.get("name") == name), {})
    return " and ".join(words for key, words in _KEYS.items() if section.get(key) not in (None, ""))


def name_rival(report: Report, rival: Condition) -> str:
    """``cautious (system prompt)``."""
    words = describe_rival(report.info, rival.vector)
    return printable(rival.vector) + (f" ({words})" if words else "")


def list_rivals(report: Report) -> list[Column]:
    """The best cell beside every rival, a line for each quantity; none without rivals."""
    shown = pick_rows(report)
    if not shown:
        return []
    return [
        Column("rival", tuple(name_rival(report, row.rival) for row in shown), foreign=True),
        Column("quantity", tuple(find_quantity(row.quantity).head for row in shown)),
        Column("steering", tuple(format_estimate(row.steered) for row in shown)),
        Column("rival's", tuple(format_estimate(row.rivalled) for row in shown)),
        Column("steering − rival", tuple(format_estimate(row.difference, signed=True) for row in shown)),
        Column("prompts", tuple(str(row.difference.n) for row in shown)),
    ]


def say_cell(report: Report) -> str:
    """Which cell stands beside the rivals, and over which prompts; empty without rivals."""
    shown = pick_rows(report)
    if not shown or report.best is None:
        return ""
    half = " on the half of the prompts that had no say in its choice" if shown[0].split == "report" else ""
    return f"The cell is {name_cell(shown[0].condition)}{half}; rivals.csv has all others."


def pick_rows(report: Report) -> list[RivalRow]:
    """The rows of the report's best cell that have a value: on the held-out half, where it was chosen on the other."""
    if report.best is None:
        return []
    split = "report" if report.best.held_out else "all"
    rows = [row for row in report.rivals if row.condition == report.best.condition and row.split == split]
    return [row for row in rows if np.isfinite(row.difference.value)]


def say_rivals(report: Report) -> list[str]:
    """A line for each rival: what it does, and what steering does beyond it."""
    rows = pick_rows(report)
    rivals = list(dict.fromkeys(row.condition for row in report.rows if row.condition.kind == "rival"))
    return [_say_rival(report, rival, [row for row in rows if row.rival == rival]) for rival in rivals]


def _say_rival(report: Report, rival: Condition, rows: Sequence[RivalRow]) -> str:
    name, own = f"Rival {name_rival(report, rival)}", _list_own(report, rival, rows)
    if not own:
        return f"{name}: {_name(find_primary(report))} {DASH}."
    told = f"{name}: {', '.join(f'{_name(quantity)} {_write(e, quantity)}' for quantity, e in own.items())}"
    beyond = [_write(row.difference, row.quantity) for row in rows if row.quantity in own]
    if not beyond:
        return f"{told}."
    half = ", on the held-out half" if rows[0].split == "report" else ""
    cell = f"{name_cell(rows[0].condition)}{half}"
    return f"{told}; steering minus rival {' and '.join(beyond)} (paired by prompt; {cell})."


def _list_own(report: Report, rival: Condition, rows: Sequence[RivalRow]) -> dict[str, Estimate]:
    """What the rival does, by quantity: where it is compared with steering, over the same prompts."""
    found: dict[str, Estimate] = {}
    for quantity in (PRIMARY, HEADLINE):
        compared = [row.rivalled for row in rows if row.quantity == quantity]
        alone = [row.estimate for row in report.table(quantity, kind="rival") if row.condition == rival]
        known = [estimate for estimate in compared or alone if np.isfinite(estimate.value)]
        if known:
            found[quantity] = known[0]
    return found


def _name(quantity: str) -> str:
    """The head of its column, without the unit."""
    return find_quantity(quantity).head.removesuffix(f" {name_unit(quantity)}")


def _write(estimate: Estimate, quantity: str) -> str:
    """``+0.53 nats [+0.41, +0.65]``."""
    value, _, limits = format_estimate(estimate, signed=True).partition(" ")
    return f"{value} {name_unit(quantity)} {limits}".rstrip()
