"""What several label rules call the completions of a run -> tables and tidy rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from completions_lp.quantities import find_quantity
from completions_lp.records import Condition, Estimate
from completions_lp.report.labels import MOVED, Disagreement, RuleCount, RuleEffect
from completions_lp.show.escape import printable
from completions_lp.show.text.numbers import DASH, format_estimate
from completions_lp.show.text.tables import Column, draw_table, wrap_text
from completions_lp.show.text.words import name_cell, name_target

ANSWERS = 6
"""As many answers have a column of their own; of more, the target and the others have one each."""
PAIRS = 6
"""As many pairs of rules are shown without being asked for all, those with the run's own first."""
TEXT = 90
"""Characters of an example."""


@dataclass(frozen=True, eq=False, repr=False)
class LabelAudit:
    """The completions of a run by several label rules; ``print`` shows its tables."""

    target: str
    counts: tuple[RuleCount, ...]
    """By rule, the run's own first."""
    disagreements: tuple[Disagreement, ...]
    effects: tuple[RuleEffect, ...]
    """Empty where there are no token scores; rules that need tokens which were not scored have none."""
    best: Condition | None
    """The best cell of the run's own report."""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"LabelAudit({len(self.counts)} rules, {self.counts[0].draws} draws)"

    def __str__(self) -> str:
        return format_labels(self)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Tidy rows, by ``table``: ``labels`` (draws by rule and answer), ``pairs`` and ``examples``, ``effects``."""
        return [*_list_counts(self.counts), *_list_pairs(self.disagreements), *_list_effects(self.effects)]


def format_labels(audit: LabelAudit, *, everything: bool = False, width: int | None = None) -> str:
    """The tables: what each rule calls the draws, where rules disagree, and how far the headline moves.

    With ``everything`` all pairs of rules and all cells, not the first few and the best one.
    """
    own, total = audit.counts[0], audit.counts[0].draws
    parts = [
        wrap_text(f"A: {name_target(audit.target)}. {total} draws; the run's own rule is {own.rule}.", width=width),
        draw_table(_count_columns(audit.counts), width=width),
        wrap_text("ambiguous: the rule finds two answers or more in the window.", width=width),
        *_format_pairs(audit.disagreements, everything=everything, width=width),
        *_format_effects(audit, everything=everything, width=width),
        *[wrap_text(f"Note: {note}.", width=width) for note in audit.notes],
    ]
    return "\n\n".join(parts)


def _count_columns(counts: Sequence[RuleCount]) -> list[Column]:
    def write(n: int | None, total: int) -> str:
        return DASH if n is None else f"{n} ({n / total:.0%})"

    columns = [
        Column("rule", tuple(c.rule for c in counts), foreign=True),
        Column("A", tuple(write(c.target, c.draws) for c in counts)),
    ]
    letters = list(counts[0].answers)
    if len(letters) <= ANSWERS:
        columns += [
            Column(f'"{printable(letter)}"', tuple(write(c.answers[letter], c.draws) for c in counts))
            for letter in letters
        ]
    else:
        columns.append(Column("other answers", tuple(write(c.draws - c.none - c.target, c.draws) for c in counts)))
    columns.append(Column("none", tuple(write(c.none, c.draws) for c in counts)))
    return [*columns, Column("ambiguous", tuple(write(c.ambiguous, c.draws) for c in counts))]


def _format_pairs(pairs: Sequence[Disagreement], *, everything: bool, width: int | None) -> list[str]:
    if not pairs:
        return [wrap_text("All rules agree on every draw.", width=width)]
    shown = pairs if everything else pairs[:PAIRS]
    told = []
    for pair in shown:
        differ = f"{_count(pair.draws, 'draw')} ({pair.draws / pair.total:.0%}) differ"
        head = f"{pair.first} against {pair.second}: {differ}"
        lines = [
            f"  {_name(e.first)} against {_name(e.second)}, {_count(e.count, 'draw')} of "
            f'{printable(e.prompt_id, limit=24)}: "{printable(e.text, limit=TEXT)}"'
            for e in pair.examples
        ]
        told.append("\n".join([wrap_text(head, width=width), *lines]))
    left = len(pairs) - len(shown)
    return [*told, *([wrap_text(f"{_count(left, 'more pair')} of rules: --all.", width=width)] if left else [])]


def _format_effects(audit: LabelAudit, *, everything: bool, width: int | None) -> list[str]:
    cells = list(dict.fromkeys(effect.condition for effect in audit.effects))
    if not cells:
        return []
    told = [
        "Means over prompts; moved: less that of the run's own rule, over the prompts on which both have a value. P(A) "
        "is by labels alone, before steering a share of draws and under it of weights, so that all rules are alike; "
        "the report has a better estimate where single tokens complete the answer."
    ]
    best = [audit.best] if audit.best in cells else cells[:1]
    tables = []
    for cell in cells if everything else best:
        here = {(e.rule, e.quantity): e for e in audit.effects if e.condition == cell}
        rules = list(dict.fromkeys(rule for rule, _ in here))
        columns = [Column("rule", tuple(rules), foreign=True)]
        for name in MOVED:
            found = [here[rule, name] for rule in rules]
            columns.append(Column(find_quantity(name).head, tuple(format_estimate(e.estimate) for e in found)))
            moved = tuple(DASH if e is found[0] else format_estimate(e.moved, signed=True) for e in found)
            columns.append(Column("moved", moved))
            if len({e.estimate.n for e in found}) > 1:
                columns.append(Column("prompts", tuple(str(e.estimate.n) for e in found)))
        tables.append(f"{name_cell(cell)}\n{draw_table(columns, width=width)}")
    return [*tables, wrap_text(" ".join(told), width=width)]


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _name(label: str) -> str:
    return f'"{printable(label)}"' if label else "none"


def _list_counts(counts: Sequence[RuleCount]) -> list[dict[str, Any]]:
    rows = []
    for c in counts:
        found = {**c.answers, "": c.none}
        numbers = [("answer", label, n) for label, n in found.items()] + [("target", None, c.target)]
        numbers += [] if c.ambiguous is None else [("ambiguous", None, c.ambiguous)]
        rows += [
            {"table": "labels", "rule": c.rule, "what": what, "label": label, "draws": n, "total": c.draws}
            for what, label, n in numbers
        ]
    return rows


def _list_pairs(pairs: Sequence[Disagreement]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        named = {"rule": pair.first, "second": pair.second}
        rows.append({"table": "pairs", **named, "draws": pair.draws, "total": pair.total})
        rows += [{"table": "examples", **named, "prompt_id": e.prompt_id, "text": e.text, "label": e.first,
                  "second_label": e.second, "draws": e.count} for e in pair.examples]  # fmt: skip
    return rows


def _list_effects(effects: Sequence[RuleEffect]) -> list[dict[str, Any]]:
    def tell(estimate: Estimate, prefix: str) -> dict[str, Any]:
        return {f"{prefix}{name}": getattr(estimate, name) for name in ("value", "low", "high", "n")}

    return [
        {
            **{"table": "effects", "rule": e.rule, "quantity": e.quantity, "unit": e.estimate.unit},
            **{name: getattr(e.condition, name) for name in ("vector", "layer", "multiplier", "positions")},
            **tell(e.estimate, ""),
            **tell(e.moved, "moved_"),
        }
        for e in effects
        if not np.isnan(e.estimate.value)
    ]
