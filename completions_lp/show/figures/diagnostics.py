"""The instrument's own checks, for the appendix: can the numbers be believed?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from completions_lp.quantities import PRIMARY
from completions_lp.records import Positions, Report
from completions_lp.show.figures.axes import draw_zero, label_axes, scale_log, tick_multipliers, write_empty, write_note
from completions_lp.show.figures.marks import draw_bars
from completions_lp.show.figures.page import BLUE, GREY, RED, WIDE, Page, Sheet
from completions_lp.show.figures.part import Cell, Part
from completions_lp.show.figures.picks import PlaceView
from completions_lp.show.figures.prompts import TRUST
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import sign
from completions_lp.stats.bounds import MEAN_WEIGHT, MIN_ESS

SAMPLER = "excess_surprisal"
LOW, HIGH = "mean_weight_low", "mean_weight_high"
VALIDATION = ("p_A_steered", "share", "low", "high", "trust")
"""What a row of a validation table needs: the estimate, the share of steered draws with its interval, the trust."""
_ABOVE: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.56, 0.98), "columnspacing": 0.8}
_ABOVE |= {"handletextpad": 0.3}
DASHED: dict[str, Any] = {"linewidth": 0.6, "linestyle": (0, (4, 2))}


@dataclass(frozen=True, eq=False)
class Column:
    """One per-prompt quantity over the multipliers of a layer."""

    prompts: Mapping[float, tuple[np.ndarray, np.ndarray]]
    """By multiplier, ids and values of the prompts for which it is defined."""
    means: Mapping[float, float]


@dataclass(frozen=True, eq=False, repr=False)
class Diagnostics(PlaceView):
    """Up to six checks: estimator, effective draws, weights, trust, sampler, null of the random directions."""

    question = "Can the numbers be believed?"
    validation: tuple[Mapping[str, Any], ...]
    """Rows of prompts that offer the target: the others have no grade of trust."""
    columns: Mapping[str, Column]
    """By quantity: effective draws, and the mean weights."""
    shares: Mapping[str, Mapping[float, float]]
    """By grade of trust, the share of the prompts at each multiplier."""
    surprisal: tuple[np.ndarray, Float[np.ndarray, " prompt"]]
    """Prompts and their excess surprisal, which no condition changes, in order."""
    p_values: Float[np.ndarray, " cell"]
    """Of the random directions, in order."""

    @classmethod
    def of(
        cls,
        report: Report,
        *,
        layer: int | None = None,
        validation: Sequence[Mapping[str, Any]] = (),
        positions: Positions | None = None,
    ) -> "Diagnostics":
        """Pick what is shown; InputError where there is no such layer, or no such positions.

        The layer whose weights are shown and the positions are those of the report's best cell by default. Rows of
        ``validation`` have ``p_A_steered``, ``trust`` and, from draws of the steered model itself, ``share`` with the
        ends ``low`` and ``high`` of its Clopper–Pearson interval.
        """
        part = Part.of(report, positions)
        cell = part.pick_cell(layer=layer)
        graded = tuple(row for row in validation if row["trust"] in TRUST)
        columns = {name: _read_column(part, cell, name) for name in ("ess", LOW, HIGH)}
        shares = {
            name: {row.condition.multiplier: row.estimate.value for row in part.at_layer(f"share_{name}", cell)}
            for name in TRUST
        }
        p = [row.inference.p_t for row in part.report.table(PRIMARY, kind="random")]
        p_values = np.sort([value for value in p if np.isfinite(value)])
        return cls(part, cell, graded, columns, shares, _read_surprisal(part.report), p_values)

    @property
    def rows(self) -> Table:
        """Rows named by their panel, (a) to (f)."""
        table: Table = [
            {"panel": "a", "prompt_id": row.get("prompt_id"), **{n: row[n] for n in VALIDATION}}
            for row in self.validation
        ]
        for name, column in self.columns.items():
            for multiplier, found in column.prompts.items():
                common = {"panel": "b" if name == "ess" else "c", "quantity": name, "multiplier": multiplier}
                table += [{**common, "prompt_id": i, "value": v} for i, v in zip(*found, strict=True)]
        for name, shares in self.shares.items():
            common = {"panel": "d", "quantity": f"share_{name}"}
            table += [{**common, "multiplier": m, "value": v} for m, v in shares.items()]
        common = {"panel": "e", "quantity": SAMPLER}
        table += [{**common, "prompt_id": i, "value": v} for i, v in zip(*self.surprisal, strict=True)]
        return table + [{"panel": "f", "quantity": "p_t", "value": float(p)} for p in self.p_values]

    def _describe(self) -> str | list[str]:
        parts = ["Checks."]
        if self.validation:
            parts.append(
                f"(a) Steered P({self.part.target}) estimated from the unsteered draws against its share among "
                f"{len(self.validation)} sets of draws of the steered model itself, with Clopper–Pearson intervals; "
                "markers by trust."
            )
        if self.cell is not None:
            parts.append(
                "(b) Least effective number of draws and (c) least and largest mean weight of each prompt at layer "
                f"{self.cell.condition.layer}; lines: means over prompts; dashed: what an estimate needs to be green. "
                "(d) Trust in the estimates there, as shares of the prompts."
            )
        z = self.part.report.checks.get("sampler_z", np.nan)
        if len(self.surprisal[0]):
            said = f", z = {z:+.2f}" if np.isfinite(z) else ""
            parts.append(
                f"(e) Sampler test: surprisal less entropy of each prompt's draws (nats), 0 where sound{said}."
            )
        if n := len(self.p_values):
            parts.append(
                f"(f) p-values (t over prompts) of {self.part.count_directions()} random directions in {n} cells in "
                "all: above the diagonal, a test over prompts alone finds too much."
            )
        return [*parts, *self._say_left_out()] if self.cell is not None else parts

    @property
    def letters(self) -> str:
        """The panels that there is something to draw in; all but the first and the last where there is nothing."""
        there = {
            "a": len(self.validation),
            "b": len(self.columns["ess"].prompts),
            "c": len(self.columns[LOW].prompts),
            "d": sum(map(len, self.shares.values())),
            "e": len(self.surprisal[0]),
            "f": len(self.p_values),
        }
        return "".join(letter for letter, n in there.items() if n) or "bcde"

    def _plan(self, *, new: bool) -> Sheet:
        n = len(self.letters)
        columns = 2 if n in (2, 4) else min(3, n)
        return Sheet(n, (WIDE, 2.1 * -(-n // columns)), columns)

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        checks = {"a": self._draw_validation, "b": self._draw_ess, "c": self._draw_weights}
        checks |= {"d": self._draw_trust, "e": self._draw_sampler, "f": self._draw_null}
        for letter, panel in zip(self.letters, panels, strict=True):
            checks[letter](panel)
            panel.set_title(f"({letter})", loc="left", fontweight="bold")

    def _say_left_out(self) -> list[str]:
        """What is not drawn, and how it would be had."""
        steered = sum(row.estimate.value * row.estimate.n for row in self.part.at_layer("n_steered", self.cell))
        joined = f"; {steered:.0f} draws of the steered model at this layer joined its estimates" if steered > 0 else ""
        parts = []
        if not self.validation:
            parts.append(
                "(a), estimates against draws of the steered model kept apart from them, is left out: none were made "
                f"(`completions-lp plan RUN_DIR --validate`){joined}."
            )
        if not len(self.p_values):
            parts.append("(f), p-values of random directions, is left out: there are none.")
        return parts

    def _draw_validation(self, panel: Axes) -> None:
        panel.plot([0, 1], [0, 1], color="0.3", linewidth=0.6, zorder=1, label="_diagonal")
        for name, style in TRUST.items():
            rows = [row for row in self.validation if row["trust"] == name]
            x, y = ([row[column] for row in rows] for column in ("p_A_steered", "share"))
            draw_bars(panel, x, y, [[row[end] for row in rows] for end in ("low", "high")], color="0.7")
            panel.scatter(x, y, s=9, linewidth=0.7, zorder=2, label=name if rows else "_none", **style)
        label_axes(panel, x=f"P({self.part.target}) steered, estimated", y="share of steered draws")
        panel.set(xlim=(0, 1), ylim=(0, 1))
        panel.legend(handletextpad=0.1)

    def _draw_column(self, panel: Axes, name: str, **style: Any) -> bool:
        """Prompts as points and their mean as a line, over the multipliers; whether there are any."""
        column = self.columns[name]
        for m, (_, values) in column.prompts.items():
            panel.plot([m] * len(values), values, ".", markersize=2.5, color="0.65", zorder=1.5, label="_prompts")
        x = sorted(column.means)
        panel.plot(x, [column.means[m] for m in x], markersize=3.5, **style)
        tick_multipliers(panel, x)
        return bool(column.prompts)

    def _draw_ess(self, panel: Axes) -> None:
        drawn = self._draw_column(panel, "ess", color=BLUE, marker="o", label="mean")
        panel.axhline(MIN_ESS, color="0.3", **DASHED)
        label_axes(panel, x="multiplier", y="least effective draws")
        if drawn:
            scale_log(panel, "y")
        else:
            write_empty(panel, "no effective draws")

    def _draw_weights(self, panel: Axes) -> None:
        low = self._draw_column(panel, LOW, color=BLUE, marker="v", label="least")
        high = self._draw_column(panel, HIGH, color=RED, marker="^", label="largest")
        for end in MEAN_WEIGHT:
            panel.axhline(end, color="0.3", **DASHED)
        label_axes(panel, x="multiplier", y="mean weight (1 where sound)")
        if low and high:
            scale_log(panel, "y")
            panel.legend(ncols=2, **_ABOVE)
        else:
            write_empty(panel, "no mean weights")

    def _draw_trust(self, panel: Axes) -> None:
        multipliers = sorted(set().union(*self.shares.values()))
        at, under = np.arange(len(multipliers)), np.zeros(len(multipliers))
        for name, shares in self.shares.items():
            values = np.array([shares.get(m, 0.0) for m in multipliers])
            look = {"facecolor": TRUST[name]["facecolor"], "edgecolor": TRUST[name]["edgecolor"], "linewidth": 0.5}
            panel.bar(at, values, bottom=under, width=0.8, hatch="xxxx" if name == "red" else None, label=name, **look)
            under = under + values
        label_axes(panel, x="multiplier", y="share of prompts")
        panel.set_ylim(0, 1)
        panel.set_xticks(at, [sign(m) for m in multipliers])
        if not multipliers:
            write_empty(panel, "no trust")
            return
        panel.tick_params(axis="x", labelsize=7 if len(multipliers) <= 6 else 5)
        panel.legend(ncols=3, fontsize=6, handlelength=1, **_ABOVE)

    def _draw_sampler(self, panel: Axes) -> None:
        values = self.surprisal[1]
        draw_zero(panel)
        panel.plot(np.arange(1, len(values) + 1), values, ".", color=BLUE, markersize=3, label="prompts")
        label_axes(panel, x="prompts, sorted", y="surprise beyond expectation (nats)")
        z = self.part.report.checks.get("sampler_z", np.nan)
        if not len(values):
            whole = self.part.report.through == "end"
            write_empty(panel, "no sampler test" + ("" if whole else ":\ncompletions are not\nscored to their end"))
        elif np.isfinite(z):
            write_note(panel, f"z = {sign(z, digits=2)}")

    def _draw_null(self, panel: Axes) -> None:
        p = self.p_values
        panel.plot([0, 1], [0, 1], color="0.3", linewidth=0.6, zorder=1, label="_diagonal")
        panel.step(p, np.arange(1, len(p) + 1) / len(p), where="post", color=BLUE, label="random directions")
        panel.axvline(0.05, color=GREY, **DASHED)
        panel.set(xlim=(0, 1), ylim=(0, 1))
        label_axes(panel, x="p-value (t over prompts)", y="share of random cells")


def _read_column(part: Part, cell: Cell | None, name: str) -> Column:
    prompts: dict[float, tuple[np.ndarray, np.ndarray]] = {}
    for row in part.at_layer(PRIMARY, cell) if name in part.report.prompts else ():
        columns = part.prompts(row.condition)
        known = np.isfinite(columns[name])
        prompts[row.condition.multiplier] = columns["prompt_id"][known], columns[name][known]
    means = {row.condition.multiplier: row.estimate.value for row in part.at_layer(name, cell)}
    return Column(prompts, means)


def _read_surprisal(report: Report) -> tuple[np.ndarray, Float[np.ndarray, " prompt"]]:
    columns = report.prompts
    if SAMPLER not in columns or not len(columns[SAMPLER]):
        return np.empty(0, dtype=object), np.empty(0)
    ids, first = np.unique(np.asarray(columns["prompt_id"]), return_index=True)
    values = np.asarray(columns[SAMPLER])[first]
    order = np.argsort(values)
    return ids[order][np.isfinite(values[order])], values[order][np.isfinite(values[order])]
