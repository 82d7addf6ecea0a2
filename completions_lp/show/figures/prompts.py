"""Prompt by prompt: the answer's probability with and without steering."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from scipy.special import expit, logit

from completions_lp.quantities import PRIMARY, TRUST_COLORS
from completions_lp.records import Positions, Report
from completions_lp.show.figures.axes import draw_zero, label_axes, print_plainly, write_empty, write_note
from completions_lp.show.figures.marks import draw_bars
from completions_lp.show.figures.page import COLUMN, GREY, Page, Sheet
from completions_lp.show.figures.part import Cell, Part, tidy_cell
from completions_lp.show.figures.picks import PlaceView
from completions_lp.show.figures.view import Table
from completions_lp.show.figures.words import count, name_cell

TRUST: dict[str, dict[str, Any]] = {
    "certified": {"marker": "o", "facecolor": TRUST_COLORS["certified"], "edgecolor": TRUST_COLORS["certified"]},
    "green": {"marker": "D", "facecolor": TRUST_COLORS["green"], "edgecolor": TRUST_COLORS["green"]},
    "red": {"marker": "X", "facecolor": "white", "edgecolor": TRUST_COLORS["red"]},
}
"""How far an estimate can be trusted, as marker and colour."""
EDGE = 0.002
"""Probabilities nearer to 0 or 1 than this are drawn at the edge of the logit axis."""
TICKS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.995)
RATIO = "log_ratio_A"
COLUMNS = ("p_A", "p_A_steered", RATIO, "n_A", "trust")
BARS = ("p_A_se", "p_A_low", "p_A_high", "p_A_steered_se", "p_A_steered_low", "p_A_steered_high")


@dataclass(frozen=True, eq=False, repr=False)
class PromptEffects(PlaceView):
    """Every prompt as a point: P(A) unsteered against steered, or its log ratio against what it was."""

    question = "Which prompts does the vector steer?"
    columns: Mapping[str, np.ndarray]
    """Of the prompts with an unsteered and a steered probability; empty where there is none."""
    wrong_way: str
    """The share of prompts that the vector truly steers the wrong way, in words; empty where it is not known."""
    change: bool
    """Whether the log ratio is drawn, with the ceiling −log P(A) that no prompt can pass."""

    @classmethod
    def of(
        cls,
        report: Report,
        *,
        layer: int | None = None,
        multiplier: float | None = None,
        change: bool = False,
        positions: Positions | None = None,
    ) -> "PromptEffects":
        """Pick what is shown; InputError where there is no such cell, or no such positions.

        The best cell is the default. With ``change``, the log ratio against P(A), with its ceiling −log P(A).
        """
        part = Part.of(report, positions)
        cell = part.pick_cell(layer=layer, multiplier=multiplier)
        columns = part.prompts(cell, known=("p_A", "p_A_steered"))
        columns = columns if columns.keys() >= set(COLUMNS) else {}
        return cls(part, cell, columns, _say_wrong_way(part, cell), change)

    @property
    def rows(self) -> Table:
        """A row per prompt, the same for both versions."""
        if self.cell is None or not self.columns:
            return []
        place, columns = tidy_cell(self.cell), self.columns
        names = [name for name in ("prompt_id", "cluster", *COLUMNS, *BARS) if name in columns]
        return [
            {**place, **{name: columns[name][i] for name in names}, "unit": "probability"}
            for i in range(len(columns["p_A"]))
        ]

    def _describe(self) -> str | list[str]:
        cell, p = self.cell, f"P({self.part.target})"
        if cell is None or not self.columns:
            return "Prompt by prompt: no per-prompt P(A) to draw."
        axes = f"log ratio (nats) of {p} against the unsteered {p}" if self.change else f"{p} steered against unsteered"
        trust = self.columns["trust"]
        counts = {name: int((trust == name).sum()) for name in TRUST}
        parts = [
            f"Prompt by prompt at {name_cell(cell.condition)}{cell.why}: {axes}, {count(len(trust), 'prompt')}; areas "
            "grow with the completions that gave the answer.",
            "Trust: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n) + " (hollow crosses: red).",
        ]
        if self.change:
            parts.append("Grey curve: the ceiling −log P, where the steered probability is 1.")
        else:
            parts.append(
                "Bars: deterministic bounds where they certify the estimate, else ± one standard error. Axes are "
                f"logit; probabilities within {EDGE:g} of 0 or 1 stand at the edge. Inset: the log ratios"
                + (f", {self.wrong_way}." if self.wrong_way else ".")
            )
        return parts

    def _ask(self) -> str:
        return "How far does each prompt move, and how far could it?" if self.change else self.question

    def _plan(self, *, new: bool) -> Sheet:
        return Sheet(1, (COLUMN, 2.9 if self.change else 3.2))

    def _draw(self, panels: list[Axes], page: Page | None) -> None:
        (panel,) = panels
        p = f"P({self.part.target})"
        y = self.part.label(RATIO, "nats") if self.change else f"{p}, steered"
        label_axes(panel, x=f"{p}, unsteered", y=y, title=self.part.title(self.cell))
        if not self.columns:
            write_empty(panel, "no per-prompt P(A)")
        elif self.change:
            self._draw_change(panel)
        else:
            self._draw_paired(panel)
            self._draw_histogram(panel)

    def _draw_paired(self, panel: Axes) -> None:
        columns = self.columns
        x, y = (_clip(columns[name]) for name in ("p_A", "p_A_steered"))
        for name, vertical in (("p_A_steered", True), ("p_A", False)):
            draw_bars(panel, x, y, _find_ends(columns, name), vertical=vertical, linewidth=0.6, color="0.65")
        panel.plot([EDGE, 1 - EDGE], [EDGE, 1 - EDGE], color="0.3", linewidth=0.6, zorder=1, label="_diagonal")
        draw_points(panel, x, y, columns)
        ends = _limit([x, y])
        for axis, scale, limit in (
            (panel.xaxis, panel.set_xscale, panel.set_xlim),
            (panel.yaxis, panel.set_yscale, panel.set_ylim),
        ):
            scale("logit")
            limit(*ends)
            axis.set_major_locator(mpl.ticker.FixedLocator([tick for tick in TICKS if ends[0] <= tick <= ends[1]]))
            axis.set_minor_locator(mpl.ticker.NullLocator())
            print_plainly(axis)
        style: dict[str, Any] = {"loc": "upper left" if self._rises else "lower right"}
        panel.legend(handletextpad=0.1, borderaxespad=0.1, **style)

    @property
    def _rises(self) -> bool:
        """Whether most points lie above the diagonal, and leave the corner below free."""
        x, y = (_clip(self.columns[name]) for name in ("p_A", "p_A_steered"))
        return bool(np.mean(y > x) >= 0.5)

    def _draw_histogram(self, panel: Axes) -> None:
        """The log ratios in a corner that the points leave free, with the share of prompts steered the wrong way."""
        ratios = self.columns[RATIO][np.isfinite(self.columns[RATIO])]
        if len(ratios) < 2:
            write_note(panel, "1 prompt: no distribution", low=True)
            return
        inset = panel.inset_axes((0.62, 0.13, 0.36, 0.2) if self._rises else (0.12, 0.56, 0.36, 0.2))
        inset.hist(ratios, bins=min(20, 5 + len(ratios) // 5), color="0.6", linewidth=0)
        draw_zero(inset, vertical=True)
        inset.set_yticks([])
        inset.spines["left"].set_visible(False)
        inset.patch.set_alpha(0.0)
        label_axes(inset, x="log ratio (nats)")
        inset.xaxis.label.set_fontsize(6)
        inset.tick_params(labelsize=6, length=2)
        if self.wrong_way:
            inset.set_title(self.wrong_way, fontsize=6)

    def _draw_change(self, panel: Axes) -> None:
        x, y = self.columns["p_A"], self.columns[RATIO]
        draw_zero(panel)
        grid = np.linspace(0.005, 1, 200)
        panel.plot(grid, -np.log(grid), color=GREY, linewidth=1, zorder=1, label="ceiling −log P")
        draw_points(panel, x, y, self.columns)
        top, bottom = (np.nanmax(y, initial=0.0), np.nanmin(y, initial=0.0))
        panel.set_ylim(bottom - 0.1 * (top - bottom) - 0.1, top + 0.35 * (top - bottom) + 0.1)
        panel.set_xlim(0, 1)
        panel.legend(loc="upper right", handletextpad=0.3)


def draw_points(panel: Axes, x: Any, y: Any, columns: Mapping[str, np.ndarray]) -> None:
    """One marker a prompt: its area by the completions that gave the answer, its shape and colour by trust."""
    known = np.isfinite(x) & np.isfinite(y)
    most = max(1.0, float(columns["n_A"].max(initial=0)))
    size = 2.2 + 3.6 * np.sqrt(columns["n_A"] / most)
    for name, style in TRUST.items():
        chosen = known & (columns["trust"] == name)
        if chosen.any():
            at = x[chosen], y[chosen]
            panel.scatter(*at, s=size[chosen] ** 2, lw=0.7, zorder=2.5, clip_on=False, label=name, **style)


def _say_wrong_way(part: Part, cell: Cell | None) -> str:
    row = part.by_condition(f"below_zero_{PRIMARY}").get(cell.condition) if cell else None
    if row is None or not np.isfinite(row.estimate.value):
        return ""
    return f"{100 * row.estimate.value:.0f} % steered the wrong way"


def _find_ends(columns: Mapping[str, np.ndarray], name: str) -> list[Float[np.ndarray, " prompt"]]:
    """Bounds where they certify the estimate, else one standard error each way (numbers.md §3.4)."""
    missing = np.full(len(columns["p_A"]), np.nan)
    se, low, high = (columns.get(f"{name}_{end}", missing) for end in ("se", "low", "high"))
    certified = columns["trust"] == "certified"
    value = columns[name]
    return [_clip(np.where(certified, bound, value + step * se)) for bound, step in ((low, -1), (high, 1))]


def _limit(sides: Sequence[Float[np.ndarray, " prompt"]]) -> tuple[float, float]:
    """The same ends for both axes: around all points, with some room, and never so near that a whim looks large."""
    both = logit(np.concatenate(sides))
    low, high = float(both.min()) - 0.6, float(both.max()) + 0.6
    low, high = min(low, (low + high) / 2 - 2), max(high, (low + high) / 2 + 2)
    edge = float(logit(EDGE))
    return float(expit(max(low, edge))), float(expit(min(high, -edge)))


def _clip(values: Float[np.ndarray, " prompt"]) -> Float[np.ndarray, " prompt"]:
    return np.asarray(np.clip(values, EDGE, 1 - EDGE))
