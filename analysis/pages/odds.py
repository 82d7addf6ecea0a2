"""PrefOdds and UtilOdds over the multiplier: "Why steering works" (Xu et al. 2026, arXiv 2602.02343).

Of two answers that are asked for, PrefOdds is the log odds of the matching one against the other, and UtilOdds the log
odds of either against everything else: which answer, and whether any. Means over questions in both orders.

    python analysis/pages/odds.py STUDY_DIR [QUESTIONS]
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from blocks import make_table, show, show_interval, write_block
from readouts import VECTORS, Curve, choose_curves, read_studies, tell_size
from studies import COLOURS, average, in_style, save_figure, say_behaviour, start_figure

from completions_lp.report.choices import take_log_odds

PAGE = "odds"
LINEAR = 0.2
"""Up to here, in either direction, a line is fitted to the mean PrefOdds: their linear phase."""
TOLD = (-0.8, -0.2, 0.2, 0.8)
CAPTION = (
    "PrefOdds, the log odds of the matching letter against the other, and UtilOdds, those of either letter against all "
    "other tokens, as changes from the unsteered model, over how long what is added is (a share of the residual "
    "stream). Means over questions in both orders of their answers. Left: the vector read at the letter; right: over "
    "the written answer."
)
Curves = Mapping[tuple[str, str], tuple[int, Curve]]


def take_preference(curve: Curve) -> np.ndarray:
    """[dose, prompt], PrefOdds = L_n - L_p: the other answer's loss less the matching one's, nats."""
    return curve.odds


def take_utility(curve: Curve) -> np.ndarray:
    """[dose, prompt], UtilOdds = log M / (1 - M) with M = e^-L_p + e^-L_n, nats; NaN where nothing else is left."""
    return take_log_odds(np.logaddexp(curve.matching, curve.other))


def change(values: np.ndarray, doses: np.ndarray) -> np.ndarray:
    """[dose, prompt], less the unsteered values."""
    return np.asarray(values - values[np.flatnonzero(doses == 0)[0]])


def fit_line(doses: np.ndarray, means: np.ndarray) -> tuple[float, float]:
    """Slope and R² of the least-squares line; R² is NaN where the means do not vary."""
    slope, start = np.polyfit(doses, means, 1)
    total = ((means - means.mean()) ** 2).sum()
    rest = ((means - slope * doses - start) ** 2).sum()
    return float(slope), float(1 - rest / total) if total > 0 else np.nan


def tabulate(curves: Curves) -> str:
    """Changes of both at some doses."""
    rows = []
    for (name, vector), (layer, curve) in curves.items():
        for words, values in (("PrefOdds", take_preference(curve)), ("UtilOdds", take_utility(curve))):
            moved = change(values, curve.doses)
            at = [int(np.flatnonzero(np.isclose(curve.doses, dose))[0]) for dose in TOLD]
            cells = [show_interval(*average(moved[i], curve.clusters)) for i in at]
            start = show(float(np.nanmean(values[curve.doses == 0])))
            rows.append([f"{say_behaviour(name)}, {vector}", layer, words, start, *cells])
    return make_table(["behaviour, pairs read at the", "layer", "", "unsteered", *map(_say_dose, TOLD)], rows)


def _say_dose(dose: float) -> str:
    return f"change at {show(dose, 1)}"


def measure(curve: Curve) -> dict[str, float]:
    """What the two curves of means look like."""
    doses = curve.doses
    preference = change(take_preference(curve), doses).mean(1)
    utility = np.nanmean(change(take_utility(curve), doses), axis=1)
    near = np.abs(doses) <= LINEAR + 1e-9
    _, fit = fit_line(doses[near], preference[near])
    return {
        "fit": fit,
        "best": float(doses[np.argmax(utility)]),
        "lost": float(-np.mean([utility[0], utility[-1]])),
        "monotone": float((np.diff(preference) > 0).all()),
        "range": float(preference[-1] - preference[0]),
    }


def word(curves: Curves) -> str:
    """What was found, in words."""
    said = []
    for vector in ("letter", "answer"):
        mine = {name: measure(curve) for (name, v), (_, curve) in curves.items() if v == vector}
        n, best = len(mine), [one["best"] for one in mine.values()]
        at = ", ".join(
            f"{say_behaviour(name)} {show(one['best'], 1, signed=one['best'] != 0)}" for name, one in mine.items()
        )
        fits = [one["fit"] for one in mine.values()]
        said.append(
            f"**Pairs read at the {vector}.** PrefOdds rises at every step from the lowest dose to the highest in "
            f"{sum(one['monotone'] > 0 for one in mine.values())} of {n} behaviours; between doses −{LINEAR} and "
            f"{LINEAR} a line has an R² of {min(fits):.2f} to {max(fits):.2f}. UtilOdds is highest at the unsteered "
            f"model in {sum(abs(x) < 1e-9 for x in best)} of {n} behaviours, and within ±{LINEAR} of it in "
            f"{sum(abs(x) <= LINEAR + 1e-9 for x in best)} (dose of the maximum: {at}). At the outermost doses the "
            f"mean of both sides has lost {min(one['lost'] for one in mine.values()):.1f} to "
            f"{max(one['lost'] for one in mine.values()):.1f} nats of UtilOdds."
        )
    said.append(tell_size(curve for _, curve in curves.values()))
    return "\n\n".join(said).replace(" -", " −")


@in_style
def draw(curves: Curves) -> None:
    """PrefOdds above, UtilOdds below; a column for each vector."""
    names = list(dict.fromkeys(name for name, _ in curves))
    figure = start_figure(3.4)
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    rows = []
    for column, vector in enumerate(reversed(VECTORS)):
        for name in names:
            layer, curve = curves[name, vector]
            for row, (words, values) in enumerate(
                (("PrefOdds", take_preference(curve)), ("UtilOdds", take_utility(curve)))
            ):
                moved = change(values, curve.doses)
                ends = np.array([average(one, curve.clusters) for one in moved])
                panel, style = panels[row, column], {"color": COLOURS[name], "linewidth": 1, "markersize": 3}
                panel.plot(curve.doses, ends[:, 0], ".-", label=say_behaviour(name), **style)
                place = {"quantity": words, "behaviour": name, "vector": vector, "layer": layer}
                rows += [
                    {**place, "dose": dose, "value": end[0], "low": end[1], "high": end[2]}
                    for dose, end in zip(curve.doses.tolist(), ends, strict=True)
                ]
        panels[0, column].set_title(f"pairs read at the {vector}", loc="left", fontsize=7)
        panels[1, column].set_xlabel("dose")
    for panel in panels.flat:
        panel.axhline(0, color="0.6", linewidth=0.7, zorder=0)
        panel.axvline(0, color="0.6", linewidth=0.7, zorder=0)
    panels[0, 0].set_ylabel("Δ PrefOdds, nats")
    panels[1, 0].set_ylabel("Δ UtilOdds, nats")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle("Which answer, and whether any?", x=0.01, ha="left", fontsize=8)
    save_figure(figure, PAGE, rows, CAPTION)


def main(folder: Path, limit: int | None = None) -> None:
    """Ask the model what is not yet known; write the blocks and the figure."""
    curves = choose_curves(read_studies(folder, limit), swapped=True)
    write_block(PAGE, "table", tabulate(curves))
    write_block(PAGE, "findings", word(curves))
    draw(curves)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
