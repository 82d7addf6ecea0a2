"""Efficacy against damage: what the effect costs in the rest of the text."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from completions_lp.records import Kind, Report, ReportRow
from completions_lp.show.figures.cells import (
    Table,
    count_directions,
    find_red,
    select_by_condition,
    select_rows,
    stack_ends,
    tidy_rows,
)
from completions_lp.show.figures.marks import draw_bars, make_styles
from completions_lp.show.figures.page import (
    COLUMN,
    GREY,
    STYLE,
    draw_zero,
    label_axes,
    open_axes,
    scale_log,
    write_empty,
    write_note,
)
from completions_lp.show.figures.words import describe, describe_unit, note_few, say_crosses, sign

DAMAGE = "kl_per_token"
Pair = tuple[ReportRow, ReportRow]


def plot_damage(report: Report, *, quantity: str = "delta_p_A", axes: Axes | None = None) -> Figure:
    """Efficacy against damage: one marker per layer and multiplier, with its intervals both ways.

    Triangles point the way the multiplier pushes and grow with it; lightness is the layer; hollow ones are not to be
    trusted. Grey dots are the random directions; the stepped line joins the cells that none beats on both axes.

    Args:
        report: What to draw.
        quantity: The effect; its damage is KL(unsteered ‖ steered) per token.
        axes: Draw here instead of on a new page.
    """
    pairs = _pair(report, quantity)
    with mpl.rc_context(STYLE):
        figure, (panel,) = open_axes(axes, 1, size=(COLUMN, 3.0))
        draw_zero(panel)
        cloud = _pair(report, quantity, kind="random")
        panel.plot(*_read(cloud), ".", color="0.72", markersize=2.5, zorder=1.1, label="random directions")
        if pairs:
            _draw(panel, report, pairs)
            scale_log(panel, "x")
        unit = pairs[0][1].estimate.unit if pairs else "pp"
        x = f"{describe(report, DAMAGE)} (nats/token)"
        label_axes(panel, x=x, y=describe_unit(report, quantity, unit))
        if not pairs:
            write_empty(panel, f"no {quantity!r} and {DAMAGE!r}")
        elif few := note_few(row.estimate for pair in pairs for row in pair):
            write_note(panel, few)
        return figure


def tabulate_damage(report: Report, *, quantity: str = "delta_p_A") -> Table:
    """The numbers behind ``plot_damage``: a row per cell, the damage in its own columns."""
    pairs = _pair(report, quantity)
    front, red = _find_front(pairs), find_red(report)
    table = []
    for kind in ("target", "random"):
        for cost, gain in pairs if kind == "target" else _pair(report, quantity, kind="random"):
            e = cost.estimate
            damage = {DAMAGE: e.value, f"{DAMAGE}_low": e.low, f"{DAMAGE}_high": e.high}
            untrusted = gain.condition in red
            table += tidy_rows([gain], **damage, untrusted=untrusted, on_front=(cost, gain) in front)
    return table


def caption_damage(report: Report, *, quantity: str = "delta_p_A") -> str:
    """What ``plot_damage`` shows."""
    pairs = _pair(report, quantity)
    if not pairs:
        return f"Efficacy against damage: no {quantity!r} with {DAMAGE!r} to draw."
    what = describe(report, quantity).replace("\n", " ")
    costs, gains = ([pair[i].estimate for pair in pairs] for i in (0, 1))
    parts = [
        f"Efficacy against damage: {what} ({gains[0].unit}) against KL(unsteered ‖ steered) per token (nats, log "
        "scale), means over prompts; a triangle per layer (lightness) and multiplier (direction and size). "
        f"{say_crosses(costs, gains)} Stepped line: the cells that "
        "no other beats on both axes."
    ]
    if _pair(report, quantity, kind="random"):
        parts.append(f"Grey dots: {count_directions(report)} random directions of the same norm, in every cell.")
    if find_red(report) & {gain.condition for _, gain in pairs}:
        parts.append("Hollow: more than 10 % of the prompts are red.")
    return " ".join(parts)


def _pair(report: Report, quantity: str, *, kind: Kind = "target") -> list[Pair]:
    """Damage and effect of the same cell, where both have a place on the axes."""
    cost = select_by_condition(report, DAMAGE, kind=kind)
    gains = select_rows(report, quantity) if kind == "target" else report.table(quantity, kind=kind)
    pairs = [(cost[row.condition], row) for row in gains if row.condition in cost and row.condition.multiplier != 0]
    return [(c, g) for c, g in pairs if c.estimate.value > 0 and np.isfinite(g.estimate.value)]


def _find_front(pairs: Sequence[Pair]) -> list[Pair]:
    """The cells than which none has less damage and more effect, by damage; no steering at all has none of either."""
    front: list[Pair] = []
    most = 0.0
    for cost, gain in sorted(pairs, key=lambda pair: (pair[0].estimate.value, -pair[1].estimate.value)):
        if gain.estimate.value > most:
            front.append((cost, gain))
            most = gain.estimate.value
    return front


def _read(pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    return [cost.estimate.value for cost, _ in pairs], [gain.estimate.value for _, gain in pairs]


def _draw(panel: Axes, report: Report, pairs: Sequence[Pair]) -> None:
    x, y = _read(pairs)
    ends = [stack_ends([pair[i].estimate for pair in pairs]) for i in (0, 1)]
    draw_bars(panel, x, y, ends[1])
    draw_bars(panel, x, y, np.where(ends[0] > 0, ends[0], np.nan), vertical=False)
    front = _find_front(pairs)
    panel.step(*_read(front), where="post", color="black", linewidth=0.9, zorder=1.9, label="front")
    layers = sorted({gain.condition.layer for _, gain in pairs})
    strongest = max(abs(gain.condition.multiplier) for _, gain in pairs)
    colors = dict(zip(layers, [style["color"] for style in make_styles(len(layers))], strict=True))
    red = find_red(report)
    for cost, gain in pairs:
        c, color = gain.condition, colors[gain.condition.layer]
        panel.plot(
            cost.estimate.value,
            gain.estimate.value,
            marker="^" if c.multiplier > 0 else "v",
            markersize=2.5 + 4 * abs(c.multiplier) / strongest,
            markerfacecolor="white" if c in red else color,
            markeredgecolor=color,
            markeredgewidth=0.8,
            zorder=2,
            label=f"_layer {c.layer}, {c.multiplier:+g}",
        )
    _name(
        panel,
        colors,
        [gain.condition.multiplier for _, gain in pairs],
        strongest,
        cloud=bool(_pair(report, pairs[0][1].quantity, kind="random")),
    )


def _name(
    panel: Axes, colors: dict[int, object], multipliers: Sequence[float], strongest: float, *, cloud: bool
) -> None:
    """Legend of layers by lightness (a few of them where they are many) and of multipliers by triangle."""
    shown = list(colors)[:: 1 + len(colors) // 7]
    marks = [Line2D([], [], ls="none", marker="o", ms=4, color=colors[n], label=f"layer {n}") for n in shown]  # type: ignore[arg-type]
    distinct = sorted(set(multipliers))
    for m in distinct if len(distinct) <= 4 else [distinct[0], distinct[-1]]:
        size = 2.5 + 4 * abs(m) / strongest
        style = {"marker": "^" if m > 0 else "v", "ms": size, "color": GREY}
        marks.append(Line2D([], [], ls="none", label=f"multiplier {sign(m)}", **style))  # type: ignore[arg-type]
    if cloud:
        marks.append(Line2D([], [], ls="none", marker=".", ms=3, color="0.72", label="random"))
    marks.append(Line2D([], [], color="black", lw=0.9, label="front"))
    panel.legend(
        handles=marks, ncols=3, loc="lower center", bbox_to_anchor=(0.45, 1.0), columnspacing=0.8, handletextpad=0.2
    )
