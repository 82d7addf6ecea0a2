"""Which rows and columns of a Report a figure shows: those at the same positions, and the cell that it is about."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.quantities import SWEPT, find_quantity
from completions_lp.records import Condition, Estimate, InputError, Kind, Positions, Report, ReportRow
from completions_lp.report.best import find_primary, pick_best
from completions_lp.report.doses import name_doses, say_same
from completions_lp.show.escape import printable
from completions_lp.show.figures.words import (
    describe,
    name_answer,
    name_cell,
    name_subject,
    name_target,
    say_target,
    write_estimate,
)

RED_SHARE = 0.1
"""More red prompts than this, and a cell is drawn as one not to be trusted."""


@dataclass(frozen=True)
class Cell:
    """The condition that a figure of one cell shows, and how it came to be this one."""

    condition: Condition
    reason: str = ""
    """For the caption; empty where the caller named the cell."""

    @property
    def why(self) -> str:
        """The reason in brackets, behind a space."""
        return f" ({self.reason})" if self.reason else ""


@dataclass(frozen=True, eq=False)
class Part:
    """What of a report may stand side by side, and the unsteered model.

    That is all that is done in one way, at the same positions; and of each layer one condition, by itself or as the
    lowest of a group that is steered at once: axes have one place for a layer.
    """

    report: Report
    """Cut down to it."""
    note: str = ""
    """For the caption, where the report has others, too."""

    @classmethod
    def of(cls, report: Report, positions: Positions | None = None) -> "Part":
        """The part at these positions; by default those of the report's best cell, or else the first that it has.

        Raises:
            InputError: The report has no such positions.
        """
        steered = [row.condition for row in report.rows if row.condition.kind != "baseline"]
        known = list(dict.fromkeys(condition.positions for condition in steered))
        if positions is not None and positions not in known:
            raise InputError(f"no positions {positions!r} in this report; it has {', '.join(known) or 'none'}")
        best = report.best.condition if report.best else next((c for c in steered if not c.is_neutral), None)
        if best is None:
            return cls(report)
        chosen = positions or best.positions
        sites = _pick_sites([c for c in steered if c.positions == chosen], best)

        def is_shown(condition: Condition) -> bool:
            same = condition.operation == best.operation and sites.get(condition.layer) == condition.every_layer
            shown = not condition.steers or condition.is_neutral or same
            return condition.kind == "baseline" or (condition.positions == chosen and shown)

        cut = report if all(map(is_shown, steered)) else _cut(report, is_shown)
        return cls(cut, _say_others(steered, best, chosen, sites))

    @property
    def target(self) -> str:
        """The target answer as it stands in words like P(A)."""
        return name_target(self.report.target)

    @property
    def answer(self) -> str:
        """The target answer, as it is said to be given."""
        return name_answer(self.report.target)

    @cached_property
    def red(self) -> frozenset[Condition]:
        """The cells in which more than a tenth of the prompts are red."""
        rows = self.by_condition("share_red")
        return frozenset(c for c, row in rows.items() if row.estimate.value > RED_SHARE)

    def any_red(self, conditions: Iterable[Condition]) -> bool:
        """Whether one of these cells is not to be trusted."""
        return not self.red.isdisjoint(conditions)

    def warn_red(self, conditions: Iterable[Condition], look: str = "Hollow") -> str:
        """A caption's sentence on the cells that are not to be trusted; empty without any."""
        return f"{look}: more than 10 % of the prompts are red." if self.any_red(conditions) else ""

    def select(self, quantity: str, *, kind: Kind = "target", vector: str | None = None) -> list[ReportRow]:
        """Macro rows of one quantity with steering, for one vector (the first of its kind), by layer and multiplier."""
        rows = [row for row in self.report.table(quantity, kind=kind) if not row.condition.is_neutral]
        names = [row.condition.vector for row in rows]
        if vector is not None and rows and vector not in names:
            raise InputError(f"no {kind} vector {vector!r} in this report; it has {', '.join(sorted(set(names))[:5])}")
        chosen = [row for row in rows if row.condition.vector == (vector or names[0])]
        return sorted(chosen, key=lambda row: (row.condition.layer, row.condition.multiplier))

    def list_all(self, quantity: str, kind: Kind) -> tuple[ReportRow, ...]:
        """Macro rows of one quantity with steering, for all vectors of a kind, by layer and dose."""
        rows = [row for row in self.report.table(quantity, kind=kind) if not row.condition.is_neutral]
        return tuple(sorted(rows, key=lambda row: (row.condition.layer, row.condition.asked)))

    def by_condition(self, quantity: str, *, kind: Kind | None = None) -> dict[Condition, ReportRow]:
        """Macro rows of one quantity, by condition."""
        return {row.condition: row for row in self.report.table(quantity, kind=kind)}

    def at_layer(self, quantity: str, cell: Cell | None) -> list[ReportRow]:
        """Macro rows of one quantity over the multipliers of a cell's layer."""
        layer = None if cell is None else cell.condition.layer
        return [row for row in self.select(quantity) if row.condition.layer == layer]

    def list_rivals(self, quantity: str) -> list[ReportRow]:
        """Macro rows of one quantity under the rivals, which have no layer and no dose; those with a value."""
        return [row for row in self.report.table(quantity, kind="rival") if np.isfinite(row.estimate.value)]

    def say_rivals(self, rows: Iterable[ReportRow]) -> str:
        """A caption's sentence on the rivals that are drawn; empty without any."""
        told = [f"{printable(row.condition.vector)} {write_estimate(row.estimate)}" for row in rows]
        return f"Level lines: the rivals, on the same completions: {'; '.join(told)}." if told else ""

    def prompts(self, cell: Cell | Condition | None, known: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """The per-prompt columns of one condition, empty for none; only prompts with a number in all ``known``."""
        condition = cell.condition if isinstance(cell, Cell) else cell
        columns = {name: np.asarray(values) for name, values in self.report.prompts.items()}
        if not columns or condition is None or not columns.keys() >= set(known):
            return {}
        keep = np.ones(len(columns["layer"]), dtype=bool)
        for name in {"layer", "multiplier", "vector", "operation"} & columns.keys():
            keep &= columns[name] == getattr(condition, name)
        for name in known:
            keep &= np.isfinite(columns[name])
        if known and not keep.any():
            return {}
        return {name: values[keep] for name, values in columns.items()}

    def pick_quantity(self, asked: str | None = None) -> str:
        """The quantity asked for, or the first swept one that the report has: P(A) needs measures.

        Raises:
            InputError: There is no quantity of this name, in this or any report.
        """
        if asked is not None:
            return find_quantity(asked).name
        return next((name for name in SWEPT if self.select(name)), SWEPT[0])

    def pick_cell(self, *, layer: int | None = None, multiplier: float | None = None) -> Cell | None:
        """The best cell of the report, or of the layer or multiplier asked for; None for a report without steering.

        Raises:
            InputError: There is no such layer or multiplier.
        """
        rows = self.select(find_primary(self.report))
        if not rows:
            return None
        asked = [r for r in rows if layer in (None, r.condition.layer) and multiplier in (None, r.condition.multiplier)]
        if asked and (len(asked) == 1 or not any(np.isfinite(row.estimate.value) for row in asked)):
            return Cell(asked[0].condition)
        layers, multipliers = [] if layer is None else [layer], [] if multiplier is None else [multiplier]
        best = pick_best(self.report, layers=layers, multipliers=multipliers)
        if best.held_out:
            return Cell(best.condition, "chosen on the other half of the prompts")
        most = "smallest" if all(row.condition.multiplier < 0 for row in asked) else "largest"
        return Cell(best.condition, f"the {most} {self.say(best.quantity)} of {best.n_cells} cells, and chosen for it")

    def title(self, cell: Cell | None) -> str | None:
        """The title of a figure of one cell, with a warning where its P(A) is not to be trusted."""
        if cell is None:
            return None
        return name_cell(cell.condition) + (", over 10 % red" if cell.condition in self.red else "")

    @property
    def subject(self) -> str:
        """Which model, vector and behaviour the numbers are of."""
        return name_subject(self.report)

    @property
    def scale(self) -> str:
        """What a sweep's doses are, for axes and legends: ``multiplier``, or the unit in which they were asked for."""
        return name_doses(self.report)

    @property
    def alike(self) -> str:
        """What several vectors have in common at one place of an axis: ``at the same KL``."""
        return {"multiplier": "at the same multiplier", "relative dose": "as long"}.get(self.scale, "at the same KL")

    @property
    def same(self) -> str:
        """What random directions have in common with the vector: ``of the same norm``, or ``at the same KL``."""
        return say_same(self.report)

    def count_directions(self) -> int:
        """How many random directions the report has."""
        return len({row.condition.vector for row in self.report.rows if row.condition.kind == "random"})

    def label(self, quantity: str, unit: str) -> str:
        """The label of an axis: the quantity in words and its unit."""
        return f"{describe(quantity, self.report.target)} ({unit})"

    def say(self, quantity: str) -> str:
        """A quantity in words, on one line."""
        return describe(quantity, self.report.target).replace("\n", " ")

    def finish(self, sentences: Iterable[str]) -> str:
        """A caption: these sentences, what the target is, and which positions where there are several."""
        last = (f"{self.subject}." if self.subject else "", say_target(self.report.target), self.note)
        return " ".join([sentence for sentence in (*sentences, *last) if sentence])


def _pick_sites(conditions: Sequence[Condition], best: Condition) -> dict[int, str]:
    """By lowest layer, the layers that are shown of it: those of the best cell, or else the fewest."""
    sites: dict[int, str] = {}
    for condition in sorted(conditions, key=lambda c: (c.every_layer != best.every_layer, len(c.layers))):
        sites.setdefault(condition.layer, condition.every_layer)
    return sites


def _cut(report: Report, is_shown: Callable[[Condition], bool]) -> Report:
    """A report of some of its conditions alone."""
    columns = {name: np.asarray(values) for name, values in report.prompts.items()}
    shown = [c.columns for c in dict.fromkeys(row.condition for row in report.rows) if is_shown(c)]
    names = [name for name in ("vector", "layers", "multiplier", "positions", "operation") if name in columns]
    wanted = {tuple(one[name] for name in names) for one in shown}
    keep = [row in wanted for row in zip(*(columns[name].tolist() for name in names), strict=True)]
    slopes = {(one["vector"], one["layers"], one["positions"], one["operation"]) for one in shown}
    return replace(
        report,
        rows=tuple(row for row in report.rows if is_shown(row.condition)),
        prompts={name: values[np.array(keep)] for name, values in columns.items()},
        profile=tuple(row for row in report.profile if is_shown(row.condition)),
        slopes=tuple(
            s for s in report.slopes if (s.vector, s.layers or str(s.layer), s.positions, s.operation) in slopes
        ),
    )


def _say_others(steered: Sequence[Condition], best: Condition, positions: Positions, sites: dict[int, str]) -> str:
    """A caption's sentences on what is not shown, and on what layers stand for."""
    told = []
    others = dict.fromkeys(c.positions for c in steered if c.positions != positions)
    if others:
        named = ", ".join(f"“{name}”" for name in others)
        told.append(f"Steered at the positions “{positions}”; the report also has {named}.")
    done = dict.fromkeys(c.operation for c in steered if c.steers and not c.is_neutral)
    if len(done) > 1:
        named = ", ".join(f"“{name}”" for name in done if name != best.operation)
        told.append(f"The operation is “{best.operation}”; the report also has {named}.")
    groups = sorted({c.site for c in steered if c.beyond and sites.get(c.layer) == c.every_layer})
    if groups:
        told.append(f"Steered at once: layers {' and '.join(groups)}, each shown as its lowest.")
    hidden = sorted(
        {
            c.site
            for c in steered
            if c.steers and c.positions == positions and sites[c.layer] != c.every_layer and not c.is_neutral
        }
    )
    if hidden:
        told.append(f"Not shown: layers {' and '.join(hidden)}.")
    return " ".join(told)


def stack_ends(estimates: Sequence[Estimate]) -> Float[np.ndarray, "2 cell"]:
    """Lower and upper ends of the intervals; NaN where there is none."""
    ends = [(np.nan, np.nan) if e.low is None or e.high is None else (e.low, e.high) for e in estimates]
    return np.array(ends, dtype=float).reshape(-1, 2).T


def tidy_row(row: ReportRow, **extra: Any) -> dict[str, Any]:
    """A row of a report as one of a tidy table; a missing interval stays None."""
    place = {name: getattr(row.condition, name) for name in ("vector", "kind", "layer", "multiplier")}
    return {**place, "quantity": row.quantity, "weighting": row.weighting, **tidy_estimate(row.estimate), **extra}


def tidy_cell(cell: Cell) -> dict[str, Any]:
    """The columns that say which cell a row is of."""
    return {name: getattr(cell.condition, name) for name in ("vector", "layer", "multiplier")}


def tidy_estimate(estimate: Estimate) -> dict[str, Any]:
    """The columns of one number."""
    names = ("value", "low", "high", "level", "unit", "method")
    columns = {name: getattr(estimate, name) for name in names}
    return {**columns, "n_prompts": estimate.n, "n_clusters": estimate.n_clusters}
