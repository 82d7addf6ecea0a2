"""Prompt by prompt: the answer's probability with and without steering."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit, logit

from completions_lp.records import Report
from completions_lp.show.figures.cells import Cell, Table, pick_cell, select_by_condition, select_prompts, title_cell
from completions_lp.show.figures.marks import draw_bars
from completions_lp.show.figures.page import (
    BLUE,
    COLUMN,
    GREY,
    RED,
    STYLE,
    YELLOW,
    draw_zero,
    label_axes,
    open_axes,
    print_plainly,
    write_empty,
    write_note,
)
from completions_lp.show.figures.words import count, describe_unit, make_plain, name_cell

TRUST: dict[str, dict[str, Any]] = {
    "certified": {"marker": "o", "facecolor": BLUE, "edgecolor": BLUE},
    "green": {"marker": "D", "facecolor": YELLOW, "edgecolor": "#8A6A10"},
    "red": {"marker": "X", "facecolor": "white", "edgecolor": RED},
}
"""How far an estimate can be trusted, as marker and colour."""
EDGE = 0.002
"""Probabilities nearer to 0 or 1 than this are drawn at the edge of the logit axis."""
TICKS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.995)
COLUMNS = ("p_A", "p_A_steered", "log_ratio_A", "n_A", "trust")
BARS = ("p_A_se", "p_A_low", "p_A_high", "p_A_steered_se", "p_A_steered_low", "p_A_steered_high")


def plot_prompts(
    report: Report,
    *,
    layer: int | None = None,
    multiplier: float | None = None,
    change: bool = False,
    axes: Axes | None = None,
) -> Figure:
    """Every prompt as a point: P(A) unsteered against steered, or its log ratio against what it was.

    Args:
        report: What to draw.
        layer: Which layer; with ``multiplier`` left out too, the cell picked by ``pick_cell``.
        multiplier: Which multiplier.
        change: Draw the log ratio against P(A), with the ceiling −log P(A) that no prompt can pass.
        axes: Draw here instead of on a new page.
    """
    cell = pick_cell(report, layer=layer, multiplier=multiplier)
    columns = _read(report, cell)
    with mpl.rc_context(STYLE):
        figure, (panel,) = open_axes(axes, 1, size=(COLUMN, 2.9 if change else 3.2))
        if not columns:
            write_empty(panel, "no per-prompt P(A)")
        elif change:
            _draw_change(panel, columns)
        else:
            _draw_paired(panel, columns)
            _draw_histogram(panel, report, cell, columns)
        label = make_plain(report.target, limit=16)
        y = describe_unit(report, "log_ratio_A", "nats") if change else f"P({label}), steered"
        title = title_cell(report, cell)
        label_axes(panel, x=f"P({label}), unsteered", y=y, title=title)
        return figure


def tabulate_prompts(
    report: Report, *, layer: int | None = None, multiplier: float | None = None, change: bool = False
) -> Table:
    """The numbers behind ``plot_prompts``: a row per prompt, the same for both versions."""
    cell = pick_cell(report, layer=layer, multiplier=multiplier)
    columns = _read(report, cell)
    if cell is None or not columns:
        return []
    c = cell.condition
    place = {"vector": c.vector, "layer": c.layer, "multiplier": c.multiplier}
    names = [name for name in ("prompt_id", "cluster", *COLUMNS, *BARS) if name in columns]
    return [
        {**place, **{name: columns[name][i] for name in names}, "unit": "probability"}
        for i in range(len(columns["p_A"]))
    ]


def caption_prompts(
    report: Report, *, layer: int | None = None, multiplier: float | None = None, change: bool = False
) -> str:
    """What ``plot_prompts`` shows."""
    cell = pick_cell(report, layer=layer, multiplier=multiplier)
    columns = _read(report, cell)
    if cell is None or not columns:
        return "Prompt by prompt: no per-prompt P(A) to draw."
    c, target = cell.condition, make_plain(report.target, limit=16)
    reason = f" ({cell.reason})" if cell.reason else ""
    axes = (
        f"log ratio (nats) of P({target}) against P({target})" if change else f"P({target}) steered against unsteered"
    )
    parts = [
        f"Prompt by prompt at {name_cell(c)}{reason}: {axes}, "
        f"{count(len(columns['p_A']), 'prompt')}; areas grow with the completions that gave the answer."
    ]
    counts = {name: int((columns["trust"] == name).sum()) for name in TRUST}
    parts.append("Trust: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n) + " (hollow crosses: red).")
    if change:
        parts.append("Grey curve: the ceiling −log P, where the steered probability is 1.")
    else:
        parts.append(
            "Bars: deterministic bounds where they certify the estimate, else ± one standard error. "
            f"Axes are logit; probabilities within {EDGE:g} of 0 or 1 stand at the edge. Inset: the log ratios"
            + (f", {_say_shrunken(report, cell)}." if _say_shrunken(report, cell) else ".")
        )
    return " ".join(parts)


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


def _read(report: Report, cell: Cell | None) -> dict[str, np.ndarray]:
    """The prompts with an unsteered and a steered probability; empty where there is none."""
    columns = select_prompts(report, cell.condition) if cell else {}
    if any(name not in columns for name in COLUMNS):
        return {}
    known = np.isfinite(columns["p_A"]) & np.isfinite(columns["p_A_steered"])
    return {name: values[known] for name, values in columns.items()} if known.any() else {}


def _draw_paired(panel: Axes, columns: Mapping[str, np.ndarray]) -> None:
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
    up = bool(np.mean(y > x) >= 0.5)
    panel.legend(loc="upper left" if up else "lower right", handletextpad=0.1, borderaxespad=0.1)


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


def _draw_histogram(panel: Axes, report: Report, cell: Cell | None, columns: Mapping[str, np.ndarray]) -> None:
    """The log ratios in a corner that the points leave free, with the share of prompts steered the wrong way."""
    ratios = columns["log_ratio_A"][np.isfinite(columns["log_ratio_A"])]
    if len(ratios) < 2:
        write_note(panel, "1 prompt: no distribution", low=True)
        return
    above: Bool[np.ndarray, " prompt"] = columns["p_A_steered"] > columns["p_A"]
    corner = (0.62, 0.13, 0.36, 0.2) if above.mean() >= 0.5 else (0.12, 0.56, 0.36, 0.2)
    inset = panel.inset_axes(corner)
    inset.hist(ratios, bins=min(20, 5 + len(ratios) // 5), color="0.6", linewidth=0)
    draw_zero(inset, vertical=True)
    inset.set_yticks([])
    inset.spines["left"].set_visible(False)
    inset.patch.set_alpha(0.0)
    label_axes(inset, x="log ratio (nats)")
    inset.xaxis.label.set_fontsize(6)
    inset.tick_params(labelsize=6, length=2)
    share = _say_shrunken(report, cell)
    if share:
        inset.set_title(share, fontsize=6)


def _say_shrunken(report: Report, cell: Cell | None) -> str:
    """The share of prompts that the vector truly steers the wrong way, where the report has it."""
    rows = select_by_condition(report, "below_zero_delta_p_A")
    if cell is None or cell.condition not in rows or not np.isfinite(rows[cell.condition].estimate.value):
        return ""
    return f"{100 * rows[cell.condition].estimate.value:.0f} % below 0 (shrunken)"


def _draw_change(panel: Axes, columns: Mapping[str, np.ndarray]) -> None:
    x, y = columns["p_A"], columns["log_ratio_A"]
    draw_zero(panel)
    grid = np.linspace(0.005, 1, 200)
    panel.plot(grid, -np.log(grid), color=GREY, linewidth=1, zorder=1, label="ceiling −log P")
    draw_points(panel, x, y, columns)
    top, bottom = (np.nanmax(y, initial=0.0), np.nanmin(y, initial=0.0))
    panel.set_ylim(bottom - 0.1 * (top - bottom) - 0.1, top + 0.35 * (top - bottom) + 0.1)
    panel.set_xlim(0, 1)
    panel.legend(loc="upper right", handletextpad=0.3)
