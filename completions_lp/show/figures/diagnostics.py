"""The instrument's own checks, for the appendix: can the numbers be believed?"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from completions_lp.records import Report
from completions_lp.show.figures.cells import (
    Cell,
    Table,
    count_directions,
    pick_cell,
    select_by_condition,
    select_prompts,
    select_rows,
)
from completions_lp.show.figures.marks import draw_bars
from completions_lp.show.figures.page import (
    BLUE,
    GREY,
    RED,
    STYLE,
    WIDE,
    Panels,
    draw_zero,
    label_axes,
    open_axes,
    scale_log,
    write_empty,
    write_note,
)
from completions_lp.show.figures.prompts import TRUST
from completions_lp.show.figures.words import make_plain, sign
from completions_lp.stats.bounds import MEAN_WEIGHT, MIN_ESS

SAMPLER = "excess_surprisal"
EFFECT = "delta_p_A"
VALIDATION = ("p_A_steered", "share", "low", "high", "trust")
"""What a row of a validation table needs: the estimate, the share of steered draws with its interval, the trust."""


def plot_diagnostics(
    report: Report,
    *,
    layer: int | None = None,
    validation: Sequence[dict[str, Any]] = (),
    axes: Panels | None = None,
) -> Figure:
    """Six checks: the estimator, effective draws, weights, trust, the sampler, and the null of the random directions.

    Args:
        report: What to draw.
        layer: The layer whose weights are shown; that of the cell picked by ``pick_cell`` by default.
        validation: Rows with ``p_A_steered``, ``trust`` and, from draws of the steered model itself, ``share``
            with the ends ``low`` and ``high`` of its Clopper–Pearson interval.
        axes: Draw on these six axes instead of on a new page.
    """
    cell = pick_cell(report, layer=layer)
    with mpl.rc_context(STYLE):
        figure, panels = open_axes(axes, 6, size=(WIDE, 4.2), columns=3)
        _draw_validation(panels[0], validation, report)
        _draw_ess(panels[1], report, cell)
        _draw_weights(panels[2], report, cell)
        _draw_trust(panels[3], report, cell)
        _draw_sampler(panels[4], report)
        _draw_null(panels[5], report)
        for letter, panel in zip("abcdef", panels, strict=True):
            panel.set_title(f"({letter})", loc="left", fontweight="bold")
        return figure


def tabulate_diagnostics(
    report: Report, *, layer: int | None = None, validation: Sequence[dict[str, Any]] = ()
) -> Table:
    """The numbers behind ``plot_diagnostics``, named by their panel."""
    table: Table = [
        {"panel": "a", "prompt_id": row.get("prompt_id"), **{n: row[n] for n in VALIDATION}}
        for row in _list_graded(validation)
    ]
    for panel, names in (("b", ("ess",)), ("c", ("mean_weight_low", "mean_weight_high"))):
        for name in names:
            for multiplier, ids, values in _by_multiplier(report, pick_cell(report, layer=layer), name):
                common = {"panel": panel, "quantity": name, "multiplier": multiplier}
                table += [{**common, "prompt_id": i, "value": v} for i, v in zip(ids, values, strict=True)]
    for name in TRUST:
        shares = _read_shares(report, pick_cell(report, layer=layer), f"share_{name}")
        table += [{"panel": "d", "quantity": f"share_{name}", "multiplier": m, "value": v} for m, v in shares.items()]
    ids, values = _read_sampler(report)
    table += [{"panel": "e", "quantity": SAMPLER, "prompt_id": i, "value": v} for i, v in zip(ids, values, strict=True)]
    table += [{"panel": "f", "quantity": "p_t", "value": float(p)} for p in _read_null(report)]
    return table


def caption_diagnostics(report: Report, *, layer: int | None = None, validation: Sequence[dict[str, Any]] = ()) -> str:
    """What ``plot_diagnostics`` shows."""
    cell, target = pick_cell(report, layer=layer), make_plain(report.target, limit=16)
    parts = ["Checks."]
    checked = len(_list_graded(validation))
    if checked:
        parts.append(
            f"(a) Steered P({target}) estimated from the unsteered draws against its share among {checked} "
            "sets of draws of the steered model itself, with Clopper–Pearson intervals; markers by trust."
        )
    if cell is not None:
        parts.append(
            f"(b) Least effective number of draws and (c) least and largest mean weight of each prompt at layer "
            f"{cell.condition.layer}; lines: means over prompts; dashed: what an estimate needs to be green. (d) Trust "
            "in the estimates there, as shares of the prompts."
        )
    z = report.checks.get("sampler_z", np.nan)
    if len(_read_sampler(report)[0]):
        said = f", z = {z:+.2f}" if np.isfinite(z) else ""
        parts.append(f"(e) Sampler test: surprisal less entropy of each prompt's draws (nats), 0 where sound{said}.")
    n = len(_read_null(report))
    if n:
        parts.append(
            f"(f) p-values (t over prompts) of {count_directions(report)} random directions in {n} cells in all: above "
            "the diagonal, a test over prompts alone finds too much."
        )
    return " ".join(parts)


def _list_graded(validation: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of prompts that offer the target: the others have no grade of trust."""
    return [row for row in validation if row["trust"] in TRUST]


def _draw_validation(panel: Axes, validation: Sequence[dict[str, Any]], report: Report) -> None:
    validation = _list_graded(validation)
    if validation:
        panel.plot([0, 1], [0, 1], color="0.3", linewidth=0.6, zorder=1, label="_diagonal")
    for name, style in TRUST.items():
        rows = [row for row in validation if row["trust"] == name]
        x, y = ([row[column] for row in rows] for column in ("p_A_steered", "share"))
        draw_bars(panel, x, y, [[row[end] for row in rows] for end in ("low", "high")], color="0.7")
        panel.scatter(x, y, s=9, linewidth=0.7, zorder=2, label=name if rows else "_none", **style)
    target = make_plain(report.target, limit=16)
    label_axes(panel, x=f"P({target}) steered, estimated", y="share of steered draws")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    if validation:
        panel.legend(handletextpad=0.1)
    else:
        write_empty(panel, "no steered draws\nto compare with")


def _by_multiplier(report: Report, cell: Cell | None, name: str) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Per multiplier of the cell's layer: prompts and their values of one column, where it is defined."""
    if cell is None or name not in report.prompts:
        return []
    found = []
    for row in select_rows(report, EFFECT):
        if row.condition.layer == cell.condition.layer:
            columns = select_prompts(report, row.condition)
            known = np.isfinite(columns[name])
            found.append((row.condition.multiplier, columns["prompt_id"][known], columns[name][known]))
    return found


def _draw_column(panel: Axes, report: Report, cell: Cell | None, name: str, **style: Any) -> bool:
    """Prompts as points and their mean as a line, over the multipliers; whether there are any."""
    found = _by_multiplier(report, cell, name)
    for multiplier, _, values in found:
        panel.plot([multiplier] * len(values), values, ".", markersize=2.5, color="0.65", zorder=1.5, label="_prompts")
    means = {
        c.multiplier: row.estimate.value
        for c, row in select_by_condition(report, name, kind="target").items()
        if cell is not None and c.layer == cell.condition.layer and c.multiplier != 0
    }
    panel.plot(sorted(means), [means[m] for m in sorted(means)], markersize=3.5, **style)
    return bool(found)


def _draw_ess(panel: Axes, report: Report, cell: Cell | None) -> None:
    drawn = _draw_column(panel, report, cell, "ess", color=BLUE, marker="o", label="mean")
    panel.axhline(MIN_ESS, color="0.3", linewidth=0.6, linestyle=(0, (4, 2)))
    label_axes(panel, x="multiplier", y="least effective draws")
    if drawn:
        scale_log(panel, "y")
    else:
        write_empty(panel, "no 'ess'")


def _draw_weights(panel: Axes, report: Report, cell: Cell | None) -> None:
    low = _draw_column(panel, report, cell, "mean_weight_low", color=BLUE, marker="v", label="least")
    high = _draw_column(panel, report, cell, "mean_weight_high", color=RED, marker="^", label="largest")
    for end in MEAN_WEIGHT:
        panel.axhline(end, color="0.3", linewidth=0.6, linestyle=(0, (4, 2)))
    label_axes(panel, x="multiplier", y="mean weight (1 where sound)")
    if low and high:
        scale_log(panel, "y")
        panel.legend()
    else:
        write_empty(panel, "no mean weights")


def _read_shares(report: Report, cell: Cell | None, name: str) -> dict[float, float]:
    """Share of the prompts with a grade of trust, by multiplier of the cell's layer."""
    rows = [
        row for row in select_rows(report, name) if cell is not None and row.condition.layer == cell.condition.layer
    ]
    return {row.condition.multiplier: row.estimate.value for row in rows}


def _draw_trust(panel: Axes, report: Report, cell: Cell | None) -> None:
    grades = {name: _read_shares(report, cell, f"share_{name}") for name in TRUST}
    multipliers = sorted(set().union(*grades.values()))
    at, under = np.arange(len(multipliers)), np.zeros(len(multipliers))
    for name, shares in grades.items():
        values = np.array([shares.get(m, 0.0) for m in multipliers])
        look = {"facecolor": TRUST[name]["facecolor"], "edgecolor": TRUST[name]["edgecolor"], "linewidth": 0.5}
        panel.bar(at, values, bottom=under, width=0.8, hatch="xxxx" if name == "red" else None, label=name, **look)
        under = under + values
    label_axes(panel, x="multiplier", y="share of prompts")
    panel.set_ylim(0, 1)
    panel.set_xticks(at, [sign(m) for m in multipliers])
    if multipliers:
        panel.tick_params(axis="x", labelsize=7 if len(multipliers) <= 6 else 5)
        panel.legend(
            loc="lower center",
            bbox_to_anchor=(0.56, 0.98),
            ncols=3,
            fontsize=6,
            handlelength=1,
            columnspacing=0.8,
            handletextpad=0.3,
        )
    else:
        write_empty(panel, "no trust")


def _read_sampler(report: Report) -> tuple[np.ndarray, np.ndarray]:
    """Prompts and their excess surprisal, which no condition changes, in order."""
    columns = report.prompts
    if SAMPLER not in columns or not len(columns[SAMPLER]):
        return np.empty(0, dtype=object), np.empty(0)
    ids, first = np.unique(np.asarray(columns["prompt_id"]), return_index=True)
    values = np.asarray(columns[SAMPLER])[first]
    order = np.argsort(values)
    return ids[order][np.isfinite(values[order])], values[order][np.isfinite(values[order])]


def _draw_sampler(panel: Axes, report: Report) -> None:
    values = _read_sampler(report)[1]
    draw_zero(panel)
    panel.plot(np.arange(1, len(values) + 1), values, ".", color=BLUE, markersize=3, label="prompts")
    label_axes(panel, x="prompts, in order", y="surprisal − entropy (nats)")
    z = report.checks.get("sampler_z", np.nan)
    if not len(values):
        write_empty(panel, f"no {SAMPLER!r}")
    elif np.isfinite(z):
        write_note(panel, f"z = {sign(z, digits=2)}")


def _read_null(report: Report) -> Float[np.ndarray, " cell"]:
    rows = report.table(EFFECT, kind="random")
    return np.sort([row.inference.p_t for row in rows if np.isfinite(row.inference.p_t)])


def _draw_null(panel: Axes, report: Report) -> None:
    p = _read_null(report)
    panel.plot([0, 1], [0, 1], color="0.3", linewidth=0.6, zorder=1, label="_diagonal")
    if len(p):
        panel.step(p, np.arange(1, len(p) + 1) / len(p), where="post", color=BLUE, label="random directions")
    else:
        write_empty(panel, "no p-values of\nrandom directions")
    panel.axvline(0.05, color=GREY, linewidth=0.6, linestyle=(0, (4, 2)))
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    label_axes(panel, x="p-value (t over prompts)", y="share of random cells")
