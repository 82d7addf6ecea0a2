"""Probability of the matching answer against multiplier and layer, as CAA shows them (Rimsky et al. 2023, 2312.06681).

Their procedure on the four studies: the mean difference at the answer letter over A/B pairs, added at all positions
after the prompt's; the probability of the matching letter, of that of both letters, as a mean over questions. Beside
this vector stands the studies' own, of the same pairs, read over the written answer.

    python analysis/pages/caa.py STUDY_DIR [QUESTIONS]
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from blocks import make_table, show, show_interval, write_block
from readouts import (
    SWEPT,
    VECTORS,
    Curve,
    choose_curves,
    choose_layers,
    list_layers,
    pick_curve,
    read_studies,
    tell_size,
)
from studies import COLOURS, Columns, average, in_style, save_figure, say_behaviour, start_figure

PAGE = "caa"
PUBLISHED = {
    "sycophancy": (0.6367, 0.7567, 0.8140),
    "corrigibility": (0.2627, 0.7114, 0.8427),
}
"""Llama 2 7B Chat, layer 13, multipliers -1, 0, 1, no system prompt: `analysis/BEHAVIOUR/layer=13_..._type=ab_...
_model_size=7b.txt` of github.com/nrimsky/CAA at commit 0becbb4 (corrigible-neutral-HHH for corrigibility)."""
SWEEP_PEAK = (13, 14)
"""Where their stored sweep of sycophancy, same model, has its largest value at multiplier 1, and its least at -1."""
NAMES = {"letter": "read at the letter", "answer": "read over the answer"}
CAPTION = (
    "Above: the mean probability of the matching letter, of that of both, against how long what is added is, as a "
    "share of the residual stream; at the layer, of 8, 16 and 24, that moves the other behaviours most. Below: its "
    "change from dose −0.2 to 0.2, by layer. Left: the vector of the letter, as CAA reads it; right: the one of the "
    "same pairs, read over the written answer."
)
Sweeps = Mapping[tuple[str, str], Mapping[int, Curve]]


def difference(curve: Curve) -> np.ndarray:
    """By question, how far the probability goes from the lower swept dose to the upper one."""
    low, high = (curve.probability[np.flatnonzero(np.isclose(curve.doses, dose))[0]] for dose in SWEPT)
    return np.asarray(high - low)


def sweep(tables: Mapping[str, Columns]) -> Sweeps:
    """By behaviour and vector, each layer's curve over the doses that were read everywhere."""
    return {
        (name, vector): {
            layer: pick_curve(table, vector, layer, swapped=False).near(SWEPT[1]) for layer in list_layers(table)
        }
        for name, table in tables.items()
        for vector in VECTORS
    }


def find_layers(sweeps: Sweeps) -> dict[tuple[str, str], int]:
    """By behaviour and vector, the layer at which the other behaviours are moved furthest."""
    found = {}
    for vector in VECTORS:
        rows = {name: by_layer for (name, v), by_layer in sweeps.items() if v == vector}
        effects = np.array([[difference(curve).mean() for curve in row.values()] for row in rows.values()])
        for (name, row), place in zip(rows.items(), choose_layers(effects), strict=True):
            found[name, vector] = list(row)[place]
    return found


def tabulate(sweeps: Sweeps, layers: Mapping[tuple[str, str], int]) -> str:
    """Ours at the layer that the others chose, and theirs."""
    rows = []
    for (name, vector), by_layer in sweeps.items():
        layer = layers[name, vector]
        curve = by_layer[layer]
        at = [int(np.flatnonzero(np.isclose(curve.doses, dose))[0]) for dose in (SWEPT[0], 0.0, SWEPT[1])]
        means = [show(float(curve.probability[i].mean()), signed=False) for i in at]
        change = show_interval(*average(difference(curve), curve.clusters), digits=3)
        size = show(float(curve.multipliers[at[2]]), 1, signed=False)
        rows.append([f"{say_behaviour(name)}, {NAMES[vector]}", layer, f"±{size}", *means, change])
    for name, values in PUBLISHED.items():
        means = [show(value, signed=False) for value in values]
        rows.append([f"{name}, *theirs*: Llama 2 7B Chat", 13, "±1", *means, show(values[2] - values[0], 3)])
    return make_table(["", "layer", "multipliers", "minus", "0", "plus", "plus less minus"], rows)


def word(sweeps: Sweeps, layers: Mapping[tuple[str, str], int]) -> str:
    """What was found, in words."""
    said = []
    for vector in ("letter", "answer"):
        mine = {name: by_layer for (name, v), by_layer in sweeps.items() if v == vector}
        ends = [average(difference(row[layers[name, vector]]), row[0].clusters) for name, row in mine.items()]
        up, down = sum(end[1] > 0 for end in ends), sum(end[2] < 0 for end in ends)
        means = {name: {at: float(difference(curve).mean()) for at, curve in row.items()} for name, row in mine.items()}
        tops = {name: max(row, key=lambda at, row=row: row[at]) for name, row in means.items()}  # type: ignore[misc]
        peaks = ", ".join(f"{say_behaviour(name)} {top} ({show(means[name][top])})" for name, top in tops.items())
        said.append(
            f"**{NAMES[vector].capitalize()}**: where the layer was chosen by the other behaviours, the probability of "
            f"the matching letter rises from minus to plus in {up} of {len(ends)} behaviours (an interval above zero) "
            f"and falls in {down}. The layers at which each moves furthest, looked for on the same questions and so "
            f"too good, with the change there: {peaks}."
        )
    said.append(
        f"Their stored sweep of sycophancy in Llama 2 7B Chat has its largest value for multiplier 1 at layer "
        f"{SWEEP_PEAK[0]} and its smallest for −1 at layer {SWEEP_PEAK[1]}, of 32: somewhat before the middle."
    )
    said.append(tell_size(row[min(row)] for row in sweeps.values()))
    return "\n\n".join(said)


@in_style
def draw(tables: Mapping[str, Columns], sweeps: Sweeps) -> None:
    """Doses above, layers below; a column for each vector."""
    figure = start_figure(3.4)
    panels = figure.subplots(2, 2, sharey="row")
    curves, rows = choose_curves(dict(tables), swapped=False), []
    for column, vector in enumerate(("letter", "answer")):
        above, below = panels[:, column]
        for name in tables:
            layer, curve = curves[name, vector]
            colour, text = COLOURS[name], say_behaviour(name)
            above.plot(
                curve.doses, curve.probability.mean(1), ".-", color=colour, linewidth=1, markersize=3, label=text
            )
            by_layer = sweeps[name, vector]
            change = [float(difference(one).mean()) for one in by_layer.values()]
            below.plot(list(by_layer), change, ".-", color=colour, linewidth=1, markersize=3)
            rows += _list_points(name, vector, layer, curve, by_layer)
        above.set_title(NAMES[vector], loc="left", fontsize=7)
        below.axhline(0, color="0.6", linewidth=0.7, zorder=0)
        above.axvline(0, color="0.6", linewidth=0.7, zorder=0)
        above.set_xlabel("dose")
        below.set_xlabel("layer")
    panels[0, 0].set_ylabel("P(matching)")
    panels[1, 0].set_ylabel("change, −0.2 to 0.2")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle("Does the matching answer follow dose and layer?", x=0.01, ha="left", fontsize=8)
    save_figure(figure, PAGE, rows, CAPTION)


def _list_points(name: str, vector: str, layer: int, curve: Curve, by_layer: Mapping[int, Curve]) -> list[Any]:
    """The numbers that are drawn."""
    points = [("dose", layer, float(dose), p) for dose, p in zip(curve.doses, curve.probability, strict=True)]
    points += [("layer", at, SWEPT[1], difference(one)) for at, one in by_layer.items()]
    clusters = curve.clusters
    rows = []
    for panel, at, dose, values in points:
        mean, low, high = average(values, clusters)
        rows.append(
            {"panel": panel, "behaviour": name, "vector": vector, "layer": at, "dose": dose}
            | {"value": mean, "low": low, "high": high}
        )
    return rows


def main(folder: Path, limit: int | None = None) -> None:
    """Ask the model what is not yet known; write the blocks and the figure."""
    tables = read_studies(folder, limit)
    sweeps = sweep(tables)
    layers = find_layers(sweeps)
    write_block(PAGE, "table", tabulate(sweeps, layers))
    write_block(PAGE, "findings", word(sweeps, layers))
    draw(tables, sweeps)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
