"""Differences between runs -> a table and tidy rows."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from completions_lp.records import Condition
from completions_lp.report.comparison import Difference
from completions_lp.show.text.text import align, format_estimate, printable


def format_comparison(differences: Sequence[Difference]) -> str:
    """One line per cell and quantity: each run's own mean, and the second less the first."""
    lines = [["run", "cell", "quantity", "first", "second", "second - first", "over"]]
    for d in differences:
        over = f"{d.difference.n} shared prompts" if d.paired else f"{d.values[0].n} and {d.values[1].n} prompts"
        cell = " vs ".join(dict.fromkeys(map(_name, d.cells)))
        numbers = [format_estimate(e) for e in (*d.values, d.difference)]
        lines.append([printable(d.second), cell, f"{d.quantity}, {d.difference.unit}", *numbers, over])
    return align(lines)


def tabulate_comparison(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """The same as tidy rows: names, both cells, both means and the difference with their intervals."""
    rows = []
    for d in differences:
        row: dict[str, Any] = {"first": d.first, "second": d.second, "quantity": d.quantity, "paired": d.paired}
        for side, cell in zip(("first", "second"), d.cells, strict=True):
            row |= {f"{side}_{name}": value for name, value in asdict(cell).items()}
        for side, estimate in zip(("first", "second", "difference"), (*d.values, d.difference), strict=True):
            row |= {f"{side}_{name}": getattr(estimate, name) for name in ("value", "low", "high", "n", "n_clusters")}
        rows.append(row | {"unit": d.difference.unit, "level": d.difference.level, "method": d.difference.method})
    return rows


def _name(condition: Condition) -> str:
    return f"layer {condition.layer}, {condition.multiplier:+g}"
