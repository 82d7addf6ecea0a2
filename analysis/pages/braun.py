"""What predicts how well a vector steers? Braun et al. 2025 (arXiv 2505.22637) on the four studies.

Two things are known from the pairs alone: how well their differences agree in direction, and how far their two sides
lie apart along the vector. Beside them stands what the vectors do: the slope of each question's log odds against the
multiplier, at the same share of the residual stream for all. A point is a behaviour, a layer, and a way to read pairs.

    python analysis/pages/braun.py STUDY_DIR [QUESTIONS]
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from blocks import make_table, show, show_interval, write_block
from studies import (
    BLUE,
    RED,
    Columns,
    average,
    correlate,
    describe_run,
    find_studies,
    find_vector,
    in_style,
    keep,
    load_answers,
    load_network,
    load_questions,
    number_clusters,
    pick_questions,
    read_config,
    resample,
    save_figure,
    say_behaviour,
    start_figure,
)

import completions_lp as clp
from completions_lp.model import read_norms
from completions_lp.records import Condition
from completions_lp.steer.vectors import read_differences

PAGE = "braun"
LAYERS = (5, 8, 11, 14, 17, 20, 23, 26)
SHARE = 0.1
"""How long what is added is, of the residual stream's mean length at the last prompt token: with either sign."""
READINGS = ("answer", "letter")
"""How pairs are read: over the answer written out, or at the letter of the two-choice question, as the paper does."""
N_LETTERS = 100
"""Pairs that are read at the letter: the first ones, half of which match with (A)."""
CAPTION = (
    "What contrast pairs say of their vector against what it does: the mean cosine of their differences with it, and "
    "how far their sides lie apart along it (d′, held out), against the mean slope of the log odds of the matching "
    "answer, nats for a tenth of the residual stream. A point for each behaviour, layer and way to read the pairs."
)
PREDICTORS = {"pair_cosine": "agreement of pairs (cosine)", "d_prime": "separation (d′)"}


def find_slopes(odds: np.ndarray, doses: np.ndarray) -> np.ndarray:
    """Least-squares slopes of `odds` [dose, prompt] against doses: Tan et al.'s steerability of each sample."""
    centred = doses - doses.mean()
    return np.asarray(centred @ odds / (centred @ centred))


def compare_pairs(differences: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The cosine of each difference [pair, d_model] with a direction."""
    lengths = np.linalg.norm(differences, axis=1) * np.linalg.norm(direction)
    return np.asarray(differences @ direction / np.where(lengths > 0, lengths, np.nan))


def measure(model: Any, run: Path, name: str, limit: int | None) -> Columns:
    """A row for each reading, layer and question: the slope, and what the pairs said of the vector beforehand."""
    config = read_config(run)
    asked = load_questions(run, model.tokenizer)
    picked = pick_questions(asked)[:limit]
    answers = load_answers(config["prompts"]["path"], model.tokenizer)
    prompts, pairs = [asked[i] for i in picked], [answers[i] for i in picked]
    own = read_differences(model, pairs, layers=LAYERS, progress=False).values
    norms = read_norms(model, [p.token_ids for p in prompts], [len(p.token_ids) - 1 for p in prompts], LAYERS).mean(1)
    letters = clp.load_pairs(config["vector"]["pairs"], model.tokenizer, template="chat", limit=N_LETTERS)
    vectors = {
        "answer": replace(find_vector(run), name="answer"),
        "letter": clp.extract_vector(model, letters, name="letter", layers=LAYERS, progress=False),
    }
    conditions = list_conditions(vectors, dict(zip(LAYERS, norms, strict=True)))
    choices = clp.read_choices(model, prompts, list(vectors.values()), conditions)
    odds, rows = choices.logprob[..., 0] - choices.logprob[..., 1], []
    before = choices.baseline[:, 0] - choices.baseline[:, 1]
    for i in range(0, len(conditions), 2):
        reading, layer = conditions[i].vector, conditions[i].layer
        slopes = find_slopes(np.stack([odds[i], before, odds[i + 1]]), np.array([-1.0, 0.0, 1.0]))
        cosines = compare_pairs(own[LAYERS.index(layer)], vectors[reading].directions[layer])
        quality = vectors[reading].quality[layer]
        rows += [
            (name, reading, layer, p.id, p.cluster, slope, cosine, before[k], quality.pair_cosine, quality.d_prime)
            for k, (p, slope, cosine) in enumerate(zip(prompts, slopes, cosines, strict=True))
        ]
    names = ("behaviour", "reading", "layer", "prompt", "cluster", "slope", "own_cosine", "odds", *PREDICTORS)
    return {key: np.array(column) for key, column in zip(names, zip(*rows, strict=True), strict=True)}


def list_conditions(vectors: Mapping[str, clp.SteeringVector], norms: Mapping[int, float]) -> list[Condition]:
    """Each vector at each layer with either sign, at one share of the residual stream; minus before plus."""
    found = []
    for vector in vectors.values():
        for layer, norm in norms.items():
            size = SHARE * norm / float(np.linalg.norm(vector.directions[layer]))
            found += clp.make_conditions([vector], layers=[layer], multipliers=[-size, size])
    return found


def summarize(columns: Columns) -> list[dict[str, Any]]:
    """A point for each behaviour, reading and layer: its predictors, the mean slope, and who is steered backwards."""
    keys = sorted(set(zip(columns["reading"], columns["behaviour"], columns["layer"], strict=True)))
    points = []
    for reading, behaviour, layer in keys:
        here = (columns["reading"] == reading) & (columns["behaviour"] == behaviour) & (columns["layer"] == layer)
        slope = columns["slope"][here]
        points.append(
            {
                "reading": reading,
                "behaviour": behaviour,
                "layer": int(layer),
                **{name: float(columns[name][here][0]) for name in PREDICTORS},
                "slope": float(slope.mean()),
                "reliability": float(slope.mean() / slope.std(ddof=1)),
                "backwards": float((slope < 0).mean()),
            }
        )
    return points


def predict(points: list[dict[str, Any]], name: str, of: str) -> float:
    """Spearman's correlation of a predictor with what the vectors do, over points."""
    return correlate(np.array([p[name] for p in points]), np.array([p[of] for p in points]), ranks=True)


def tabulate(points: list[dict[str, Any]]) -> str:
    """Predictors against effect: over all points of a reading, over layers within behaviours, over behaviours."""
    rows = []
    for reading in READINGS:
        some = [p for p in points if p["reading"] == reading]
        names = list(dict.fromkeys(p["behaviour"] for p in some))
        means = [
            {key: np.mean([p[key] for p in some if p["behaviour"] == name]) for key in (*PREDICTORS, "slope")}
            for name in names
        ]
        for predictor, words in PREDICTORS.items():
            within = [predict([p for p in some if p["behaviour"] == name], predictor, "slope") for name in names]
            cells = [predict(some, predictor, "slope"), float(np.nanmean(within)), predict(means, predictor, "slope")]
            cells += [predict(some, predictor, "reliability")]
            rows.append([f"read at the {reading}: {words}", *(show(cell) for cell in cells)])
    over = len({(p["behaviour"], p["layer"]) for p in points})
    columns = ["predictor", f"all {over} points", "layers within a behaviour", "behaviours", "mean ÷ sd of slopes"]
    return make_table(columns, rows)


def tabulate_prompts(columns: Columns, points: list[dict[str, Any]], rng: np.random.Generator) -> str:
    """Within behaviours, at one layer: does a question steer well whose own pair lies along the vector?"""
    rows = []
    for point in (p for p in points if p["layer"] == find_layer(points, p["behaviour"])):
        here = np.all([columns[key] == point[key] for key in ("reading", "behaviour", "layer")], axis=0)
        x, y = columns["own_cosine"][here], columns["slope"][here]
        clusters = number_clusters(columns["cluster"][here])
        found = resample(lambda i, x=x, y=y: correlate(x[i], y[i], ranks=True), clusters, rng=rng)  # type: ignore[misc]
        known = [show(point["pair_cosine"], signed=False), show(point["d_prime"], 1)]
        steered = [show_interval(*average(y, clusters), 3), f"{100 * point['backwards']:.0f} %"]
        rows.append([say_behaviour(point["behaviour"]), point["reading"], point["layer"], *known, *steered])
        rows[-1].append(show_interval(*found))
    titles = ["behaviour", "pairs read at", "layer", "agreement", "d′", "slope, nats", "steered backwards"]
    return make_table([*titles, "own cosine with slope"], sorted(rows, key=lambda row: row[0]))


def find_layer(points: list[dict[str, Any]], behaviour: str) -> int:
    """The layer at which the two sides of written answers lie furthest apart."""
    some = [p for p in points if (p["reading"], p["behaviour"]) == ("answer", behaviour)]
    return int(max(some, key=lambda p: p["d_prime"])["layer"])


def word(points: list[dict[str, Any]]) -> str:
    """What was found, in words."""
    said = []
    for reading in READINGS:
        some = [p for p in points if p["reading"] == reading]
        slope, backwards = (np.mean([p[key] for p in some]) for key in ("slope", "backwards"))
        both = " and ".join(f"{show(predict(some, key, 'slope'))} ({words})" for key, words in PREDICTORS.items())
        said.append(
            f"Of vectors read at the {reading}, the rank correlations with the slope, over behaviours and layers, are "
            f"{both}. "
            f"Their mean slope is {show(float(slope), 3)} nats for a tenth of the residual stream, and "
            f"{100 * backwards:.0f} % of the questions are steered backwards."
        )
    return " ".join(said)


@in_style
def draw(points: list[dict[str, Any]]) -> None:
    """Both predictors against the slope; a mark for each behaviour, a colour for each reading."""
    figure = start_figure(2.5)
    panels = figure.subplots(1, 2, sharey=True)
    marks = dict(zip(dict.fromkeys(p["behaviour"] for p in points), "os^D", strict=False))
    for panel, (predictor, words) in zip(panels, PREDICTORS.items(), strict=True):
        for p in points:
            colour = RED if p["reading"] == "letter" else BLUE
            panel.plot(p[predictor], p["slope"], marks[p["behaviour"]], color=colour, markersize=3, alpha=0.8, mew=0)
        panel.axhline(0, color="0.6", linewidth=0.7, zorder=0)
        panel.set_xlabel(words)
    panels[0].set_ylabel("slope of the log odds, nats")
    panels[1].set_xscale("symlog", linthresh=3)
    panels[1].set_xticks([-30, -3, 0, 3], ["−30", "−3", "0", "3"])
    shown = [
        panels[0].plot([], [], mark, color="0.4", markersize=3, label=say_behaviour(n))[0] for n, mark in marks.items()
    ]
    shown += [
        panels[0].plot([], [], "s", color=c, markersize=4, label=f"read at the {r}")[0]
        for r, c in (("answer", BLUE), ("letter", RED))
    ]
    figure.legend(handles=shown, loc="outside lower center", ncols=3, frameon=False, handletextpad=0.1)
    figure.suptitle("Do the pairs tell how well a vector steers?", x=0.01, ha="left", fontsize=8)
    save_figure(figure, PAGE, points, CAPTION)


def main(folder: Path, limit: int | None = None) -> None:
    """Ask the model what is not yet known; write the blocks and the figure."""
    runs, tables = find_studies(folder), []
    model: Any = None

    def ask(name: str, run: Path) -> Columns:
        nonlocal model
        model = model or load_network(runs)
        return measure(model, run, name, limit)

    for name, run in runs.items():
        follows = {**describe_run(run), "layers": LAYERS, "share": SHARE, "letters": N_LETTERS, "limit": limit}
        tables.append(keep(folder, f"{PAGE}-{name}", follows, partial(ask, name, run)))
    columns = {key: np.concatenate([table[key] for table in tables]) for key in tables[0]}
    points = summarize(columns)
    write_block(PAGE, "predictors", tabulate(points))
    write_block(PAGE, "prompts", tabulate_prompts(columns, points, np.random.default_rng(0)))
    write_block(PAGE, "findings", word(points))
    draw(points)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
