"""Propensity curves, steerability and what of it is the letter's: Tan et al. 2024 (arXiv 2407.12404).

A question's propensity is the logit of the matching answer less that of the other; its steerability the least-squares
slope of that over the multipliers. Each question is asked in both orders of its answers, so that what follows the
letter can be told from what follows the behaviour.

    python analysis/pages/tan.py STUDY_DIR [QUESTIONS]
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from blocks import make_table, show, show_interval, write_block
from readouts import VECTORS, Curve, choose_curves, read_studies, tell_size
from studies import BLUE, RED, average, in_style, resample, save_figure, say_behaviour, start_figure

from completions_lp.report.slopes import fit_lines
from completions_lp.stats import share_below_zero

PAGE = "tan"
FURTHEST = 0.4
"""Doses that the slopes are fitted over, in either direction."""
UNIT = 0.1
"""Slopes are per tenth of the residual stream's length."""
CAPTION = (
    "Propensity curves: the mean log odds of the matching letter against how long what is added is, as a share of the "
    "residual stream. Blue: questions whose matching answer is (A), red: (B); each question is in both lines, once in "
    "each order of its answers. Solid: the vector read over the written answer; dashed: the one read at the letter."
)
Curves = Mapping[tuple[str, str], tuple[int, Curve]]


def fit_steerability(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """By prompt: the slope in nats per tenth of the stream, and its standard error."""
    slope, error = fit_lines(curve.doses / UNIT, curve.odds)
    return slope, error


def explain_by_position(slope: np.ndarray, first: np.ndarray) -> float:
    """Share of the slopes' variance between samples with the matching answer first and those with it second.

    Between the two means, of the total sum of squares; NaN where one side has none, or nothing varies.
    """
    total = ((slope - slope.mean()) ** 2).sum()
    if first.all() or not first.any() or total == 0:
        return np.nan
    between = sum(side.sum() * (slope[side].mean() - slope.mean()) ** 2 for side in (first, ~first))
    return float(between / total)


def average_orders(slope: np.ndarray, question: np.ndarray) -> np.ndarray:
    """By question, the mean of both orders: what follows the behaviour."""
    return np.bincount(question, slope) / np.bincount(question)


def split_parts(slope: np.ndarray, first: np.ndarray, question: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By question: what of the slope follows the behaviour, and what follows the letter A.

    Half of the sum, and half of the difference, of its slopes with the matching answer first and second.
    """
    one, two = (np.bincount(question[side], slope[side]) for side in (first, ~first))
    return (one + two) / 2, (one - two) / 2


def summarize(curve: Curve, rng: np.random.Generator) -> dict[str, tuple[float, float, float]]:
    """Steerability of one vector on one behaviour; each with its interval over topics, where it has one."""
    slope, error = fit_steerability(curve)
    behaviour, letter = split_parts(slope, curve.first, curve.question)
    topics = np.zeros(len(behaviour), dtype=int)
    topics[curve.question] = curve.clusters
    explained = resample(lambda i: explain_by_position(slope[i], curve.first[i]), curve.clusters, rng=rng)
    anti = resample(lambda i: float((slope[i] < 0).mean()), curve.clusters, rng=rng)
    shrunken = share_below_zero(slope, error)
    fair = float((average_orders(slope, curve.question) < 0).mean())
    return {
        "slope": average(slope, curve.clusters),
        "below": tuple(100 * x for x in anti),
        "shrunken": (100 * shrunken, np.nan, np.nan),
        "fair": (100 * fair, np.nan, np.nan),
        "explained": tuple(100 * x for x in explained),
        "behaviour": average(behaviour, topics),
        "letter": average(letter, topics),
    }  # type: ignore[return-value]


def tabulate(curves: Curves, found: Mapping[tuple[str, str], Mapping[str, tuple[float, float, float]]]) -> str:
    """A row for each behaviour and vector."""
    rows = []
    for (name, vector), (layer, _) in curves.items():
        one = found[name, vector]
        rows.append([f"{say_behaviour(name)}, {vector}", layer, show_interval(*one["slope"])])
        rows[-1] += [show_interval(*one["letter"])]
        rows[-1] += [_say_share(*one[key]) for key in ("below", "shrunken", "fair", "explained")]
    columns = ["behaviour, pairs read at the", "layer", "steerability", "its part that follows (A)"]
    columns += ["anti-steerable, %", "shrunken, %", "both orders averaged, %", "variance by position, %"]
    return make_table(columns, rows)


def _say_share(value: float, low: float, high: float) -> str:
    """A per cent, which needs no sign."""
    if not np.isfinite(low):
        return show(value, 0, signed=False)
    return f"{show(value, 0, signed=False)} [{show(low, 0, signed=False)}, {show(high, 0, signed=False)}]"


def word(curves: Curves, found: Mapping[tuple[str, str], Mapping[str, tuple[float, float, float]]]) -> str:
    """What was found, in words."""
    said = []
    for vector in ("letter", "answer"):
        mine = [one for (_, v), one in found.items() if v == vector]
        up, down = sum(one["slope"][1] > 0 for one in mine), sum(one["slope"][2] < 0 for one in mine)
        below, shrunken, fair, explained = (
            [one[key][0] for one in mine] for key in ("below", "shrunken", "fair", "explained")
        )
        larger = sum(abs(one["letter"][0]) > abs(one["behaviour"][0]) for one in mine)
        said.append(
            f"**Pairs read at the {vector}.** Mean steerability is above zero, by its interval, in {up} of {len(mine)} "
            f"behaviours and below in {down}. Between {min(below):.0f} and {max(below):.0f} % of the samples are "
            f"anti-steerable; shrinking away the noise of single slopes leaves {min(shrunken):.0f} to "
            f"{max(shrunken):.0f} %, and the mean of both orders of a question {min(fair):.0f} to {max(fair):.0f} %. "
            f"The answer's position explains {min(explained):.0f} to {max(explained):.0f} % of the variance of "
            f"steerability, and what follows the letter is larger than what follows the behaviour in {larger} of "
            f"{len(mine)}."
        )
    said.append(tell_size(curve for _, curve in curves.values()))
    return "\n\n".join(said)


@in_style
def draw(curves: Curves) -> None:
    """A panel for each behaviour."""
    names = list(dict.fromkeys(name for name, _ in curves))
    height = (len(names) + 1) // 2
    figure = start_figure(1.0 + 1.2 * height)
    panels = figure.subplots(height, 2, sharex=True, squeeze=False)
    rows = []
    for panel in panels.flat[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(panels.flat, names, strict=False):
        for vector, line in zip(VECTORS, ("-", "--"), strict=True):
            layer, curve = curves[name, vector]
            for letter, colour, side in (("A", BLUE, curve.first), ("B", RED, ~curve.first)):
                mean = curve.odds[:, side].mean(1)
                label = f"matching is ({letter}), {vector}"
                panel.plot(curve.doses, mean, line, color=colour, marker=".", markersize=3, linewidth=1, label=label)
                place = {"behaviour": name, "vector": vector, "layer": layer, "matching": letter}
                rows += [{**place, "dose": d, "odds": m} for d, m in zip(curve.doses.tolist(), mean, strict=True)]
        panel.axhline(0, color="0.6", linewidth=0.7, zorder=0)
        panel.axvline(0, color="0.6", linewidth=0.7, zorder=0)
        panel.set_title(say_behaviour(name), loc="left", fontsize=7)
    for panel in panels[-1]:
        panel.set_xlabel("dose")
    for panel in panels[:, 0]:
        panel.set_ylabel("log odds, nats")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle("Do the odds follow the behaviour, or the letter?", x=0.01, ha="left", fontsize=8)
    save_figure(figure, PAGE, rows, CAPTION)


def main(folder: Path, limit: int | None = None) -> None:
    """Ask the model what is not yet known; write the blocks and the figure."""
    chosen = choose_curves(read_studies(folder, limit), swapped=True)
    curves = {key: (layer, curve.near(FURTHEST)) for key, (layer, curve) in chosen.items()}
    rng = np.random.default_rng(0)
    found = {key: summarize(curve, rng) for key, (_, curve) in curves.items()}
    write_block(PAGE, "table", tabulate(curves, found))
    write_block(PAGE, "findings", word(curves, found))
    draw(curves)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
