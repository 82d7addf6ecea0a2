"""Differences between runs -> a table and tidy rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from completions_lp.quantities import find_quantity
from completions_lp.records import Condition, Through
from completions_lp.report.comparison import Difference
from completions_lp.show.escape import printable
from completions_lp.show.text.numbers import format_estimate
from completions_lp.show.text.tables import Column, draw_table, wrap_text
from completions_lp.show.text.words import name_target

ROWS = 12
"""As many lines are shown of a run without being asked for all."""


def format_comparison(
    differences: Sequence[Difference],
    *,
    targets: Mapping[str, str] | None = None,
    through: Mapping[str, Through] | None = None,
    everything: bool = False,
    width: int | None = None,
) -> str:
    """For every further run, one line per cell and quantity: both means, and the second less the first.

    Where prompts are shared, all three are over these; else each mean is over its own run's. ``targets`` says what A is
    in each run, by its name, and ``through`` how far its completions are scored. With ``everything`` every line,
    instead of at most 12 a run: the best cells, which come first in the differences of ``compare_reports``, then the
    cells that differ most.
    """
    runs = list(dict.fromkeys(d.second for d in differences))
    parts = [wrap_text(line, width=width) for line in [*_say_targets(targets or {}), *_say_scored(through or {})]]
    for run in runs:
        here = [d for d in differences if d.second == run]
        shown = here if everything else pick_differences(here)
        parts += [wrap_text(f"first: {here[0].first}\nsecond: {run}", width=width), ""]
        parts += [draw_table(_list_columns(shown), width=width), ""]
        parts.append(wrap_text(_say_prompts(shown), width=width))
        if len(shown) < len(here):
            order = "Best cell against best cell, then the cells that differ most."
            parts.append(wrap_text(f"{order} {len(here) - len(shown)} more: --all.", width=width))
    return "\n".join(parts)


def pick_differences(differences: Sequence[Difference]) -> list[Difference]:
    """The first cells' lines, then the lines of the cells whose first quantity differs most."""
    by_cell: dict[tuple[Condition, Condition], list[Difference]] = {}
    for d in differences:
        by_cell.setdefault(d.cells, []).append(d)
    best, *others = by_cell.values()

    def rank(found: list[Difference]) -> float:
        value = found[0].difference.value
        return np.inf if np.isnan(value) else -abs(value)

    room = max(ROWS - len(best), 0)
    return [*best, *[d for found in sorted(others, key=rank) for d in found[:1]][:room]]


def tabulate_comparison(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """The same as tidy rows: names, both cells, both runs' own means, those over shared prompts, and the difference."""
    rows = []
    for d in differences:
        row: dict[str, Any] = {"first": d.first, "second": d.second, "quantity": d.quantity, "paired": d.paired}
        for side, cell in zip(("first", "second"), d.cells, strict=True):
            row |= {f"{side}_{name}": value for name, value in asdict(cell).items()}
        for side, estimate in zip(("first", "second", "difference"), (*d.values, d.difference), strict=True):
            row |= {f"{side}_{name}": getattr(estimate, name) for name in ("value", "low", "high", "n", "n_clusters")}
        for side, mean in zip(("first", "second"), d.shared or (None, None), strict=True):
            row |= {f"{side}_shared_{name}": getattr(mean, name, None) for name in ("value", "low", "high")}
        rows.append(row | {"unit": d.difference.unit, "level": d.difference.level, "method": d.difference.method})
    return rows


def _list_columns(shown: Sequence[Difference]) -> list[Column]:
    counts = tuple(map(_count, shown))
    return [
        Column("cell", tuple(" vs ".join(dict.fromkeys(map(_name, d.cells))) for d in shown)),
        Column("quantity", tuple(find_quantity(d.quantity).head for d in shown)),
        Column("first", tuple(format_estimate((d.shared or d.values)[0]) for d in shown)),
        Column("second", tuple(format_estimate((d.shared or d.values)[1]) for d in shown)),
        Column("second - first", tuple(format_estimate(d.difference, signed=True) for d in shown)),
        *([Column("prompts", counts)] if len(set(counts)) > 1 else []),
    ]


def _count(d: Difference) -> str:
    """The prompts that a line is over."""
    return f"{d.difference.n} shared" if d.paired else f"{d.values[0].n} and {d.values[1].n}"


def _say_prompts(shown: Sequence[Difference]) -> str:
    """Over which prompts the numbers are: in words where they are the same in all lines."""
    if len(set(map(_count, shown))) > 1:
        return (
            "Prompts: shared are those that both runs asked, over which both means and their difference are, prompt by "
            "prompt; else each mean is over its own run's prompts, as independent samples."
        )
    first, second = (value.n for value in shown[0].values)
    if not shown[0].paired:
        return f"The means are over {first} prompts of the first and {second} of the second run: independent samples."
    text = f"Both means and their difference are over the {shown[0].difference.n} prompts that both runs asked"
    if first == second == shown[0].difference.n:
        return f"{text}."
    return f"{text}; over its own prompts, {first} and {second}, each run's report has other means."


def _say_targets(targets: Mapping[str, str]) -> list[str]:
    if len(set(targets.values())) == 1:
        return [f"A: {name_target(next(iter(targets.values())))}."]
    told = [f"A of {printable(run)}: {name_target(target)}." for run, target in targets.items()]
    return [*told, "The runs measure different answers: their numbers are not of one thing."] if told else []


def _say_scored(through: Mapping[str, Through]) -> list[str]:
    """That some runs lack what is over whole completions, and so the table does."""
    if set(through.values()) <= {"end"}:
        return []
    told = ", ".join(f"{printable(run)} through the {where}" for run, where in through.items())
    return [f"Completions are scored: {told}. What is over whole completions is compared only where both have it."]


def _name(condition: Condition) -> str:
    if condition.kind == "rival":
        return f"rival {printable(condition.vector)}"
    return f"layer{'s' if condition.beyond else ''} {condition.site}, {condition.multiplier:+g}"
