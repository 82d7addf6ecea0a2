"""The two-choice questions of the studies, read out over layers and doses: once, for every page that shows them.

Two vectors of the same pairs stand side by side. *answer* is the study's own, read over the answer written out;
*letter* is read at the letter of the two-choice question, as CAA does. What is added is as long as a share of the
residual stream, so that doses mean the same to both and at every layer.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from studies import (
    Columns,
    describe_run,
    find_studies,
    find_vector,
    keep,
    load_network,
    load_questions,
    number_clusters,
    read_config,
)

import completions_lp as clp
from completions_lp.model import read_norms
from completions_lp.records import Condition

VECTORS = ("answer", "letter")
LAYERS = (8, 16, 24)
"""Where all doses are read, and each question in both orders of its answers."""
DOSES = (-0.8, -0.4, -0.2, -0.1, 0.1, 0.2, 0.4, 0.8)
"""How long what is added is, of the residual stream's mean length at the last prompt token; minus turns it around."""
SWEPT = (-0.2, 0.2)
"""Doses that are read at every layer, each question in its own order alone."""


@dataclass(frozen=True)
class Curve:
    """What one vector at one layer makes of a behaviour's questions; log probs in nats."""

    doses: np.ndarray
    """Upwards, 0 among them."""
    multipliers: np.ndarray
    """What the doses are as multiples of the vector."""
    matching: np.ndarray
    """[dose, prompt], log prob of the matching letter."""
    other: np.ndarray
    """[dose, prompt], log prob of the other letter."""
    first: np.ndarray
    """[prompt], whether the matching answer is the first, (A)."""
    question: np.ndarray
    """[prompt], the question that is asked, by number: both orders have one."""
    clusters: np.ndarray
    """[prompt], its topic as an index."""

    @property
    def odds(self) -> np.ndarray:
        """[dose, prompt], log odds of the matching letter against the other, nats."""
        return np.asarray(self.matching - self.other)

    @property
    def probability(self) -> np.ndarray:
        """[dose, prompt], the matching letter's share of the probability of both: p_matching / (p_A + p_B)."""
        return np.asarray(1 / (1 + np.exp(-self.odds)))

    def near(self, limit: float) -> "Curve":
        """The doses up to a limit, in either direction."""
        kept = np.abs(self.doses) <= limit + 1e-9
        cut = {name: getattr(self, name)[kept] for name in ("doses", "multipliers", "matching", "other")}
        return replace(self, **cut)


def read_studies(folder: Path, limit: int | None = None) -> dict[str, Columns]:
    """By behaviour, a row for each condition and prompt: as kept, or asked of the model; of the first questions."""
    runs = find_studies(folder)

    @cache
    def load() -> Any:
        return load_network(runs)

    settings = {"layers": LAYERS, "doses": DOSES, "swept": SWEPT, "limit": limit}
    found = {}
    for name, run in runs.items():
        make = partial(_read_study, load, run, limit)
        found[name] = keep(folder, f"readout-{name}", {**describe_run(run), **settings}, make)
    return found


def _read_study(load: Callable[[], Any], run: Path, limit: int | None) -> Columns:
    model, config = load(), read_config(run)
    asked = load_questions(run, model.tokenizer, swap=True, limit=limit)
    own = [prompt for prompt in asked if not prompt.twin]
    layers = range(model.n_layers)
    norms = read_norms(model, [p.token_ids for p in own], [len(p.token_ids) - 1 for p in own], list(layers)).mean(1)
    pairs = clp.load_pairs(config["vector"]["pairs"], model.tokenizer, template="chat")
    vectors = [
        replace(find_vector(run), name="answer"),
        clp.extract_vector(model, pairs, name="letter", progress=False),
    ]
    everywhere = list_conditions(vectors, norms, [layer for layer in layers if layer not in LAYERS], SWEPT)
    tables = [
        _read(model, prompts, vectors, conditions, norms)
        for prompts, conditions in ((asked, list_conditions(vectors, norms, LAYERS, DOSES)), (own, everywhere))
    ]
    return {key: np.concatenate([table[key] for table in tables]) for key in tables[0]}


def list_conditions(
    vectors: Sequence[clp.SteeringVector], norms: np.ndarray, layers: Sequence[int], doses: Sequence[float]
) -> list[Condition]:
    """Each vector at each layer, as long as these shares of the stream's length there: `norms` [layer]."""
    found: list[Condition] = []
    for vector in vectors:
        for layer in layers:
            scale = float(norms[layer] / np.linalg.norm(vector.directions[layer]))
            found += clp.make_conditions([vector], layers=[layer], multipliers=[dose * scale for dose in doses])
    return found


def _read(
    model: Any,
    prompts: Sequence[clp.Prompt],
    vectors: Sequence[clp.SteeringVector],
    conditions: Sequence[Condition],
    norms: np.ndarray,
) -> Columns:
    """A row for each condition and prompt; the unsteered model's have the vector "" and layer -1."""
    choices = clp.read_choices(model, prompts, vectors, conditions)
    lengths = {(v.name, layer): float(np.linalg.norm(d)) for v in vectors for layer, d in v.directions.items()}
    places = [("", -1, 0.0, 0.0)] + [
        (c.vector, c.layer, c.multiplier, c.multiplier * lengths[c.vector, c.layer] / norms[c.layer])
        for c in conditions
    ]
    logprob = np.concatenate([choices.baseline[None], choices.logprob])
    each = {key: np.array(values) for key, values in zip(PLACE, zip(*places, strict=True), strict=True)}
    question = number_clusters([prompt.twin or prompt.id for prompt in prompts])
    of_prompt = {
        "prompt": np.array([prompt.id for prompt in prompts]),
        "question": question,
        "cluster": np.array([prompt.cluster for prompt in prompts]),
        "swapped": np.array([bool(prompt.twin) for prompt in prompts]),
        "first": np.array([prompt.matching == prompt.letters[0] for prompt in prompts]),
    }
    return {
        **{key: np.repeat(values, len(prompts)) for key, values in each.items()},
        **{key: np.tile(values, len(places)) for key, values in of_prompt.items()},
        "matching": logprob[..., 0].ravel(),
        "other": logprob[..., 1].ravel(),
    }


PLACE = ("vector", "layer", "multiplier", "dose")


def pick_curve(columns: Columns, vector: str, layer: int, *, swapped: bool) -> Curve:
    """What was read of a vector at a layer, and unsteered; with `swapped`, each question in both orders."""
    kept = np.ones(len(columns["dose"]), dtype=bool) if swapped else ~columns["swapped"].astype(bool)
    steered = np.flatnonzero(kept & (columns["vector"] == vector) & (columns["layer"] == layer))
    unsteered = np.flatnonzero(kept & (columns["vector"] == ""))
    doses, prompts = np.round(columns["dose"], 6), list(dict.fromkeys(columns["prompt"][steered]))
    row: dict[tuple[str, float], int] = {}
    for i in (*steered, *unsteered):  # the unsteered model was read with each set of conditions: the first counts
        row.setdefault((columns["prompt"][i], float(doses[i])), int(i))
    found = sorted({dose for _, dose in row})
    rows = np.array([[row[prompt, dose] for prompt in prompts] for dose in found])
    return Curve(
        doses=np.array(found),
        multipliers=columns["multiplier"][rows[:, 0]],
        matching=columns["matching"][rows],
        other=columns["other"][rows],
        first=columns["first"][rows[0]].astype(bool),
        question=columns["question"][rows[0]],
        clusters=number_clusters(columns["cluster"][rows[0]]),
    )


def list_layers(columns: Columns) -> list[int]:
    """All layers that were swept."""
    return sorted(set(columns["layer"][columns["vector"] != ""].tolist()))


def choose_layers(effects: np.ndarray) -> list[int]:
    """For each behaviour, the place of the layer at which the *others* have the largest mean effect.

    `effects` is [behaviour, layer]. So no behaviour's number stands where it was itself looked for; one that is alone
    has its own largest.
    """
    n = len(effects)
    means = [np.delete(effects, i, axis=0).mean(0) if n > 1 else effects[0] for i in range(n)]
    return [int(np.argmax(mean)) for mean in means]


def choose_curves(tables: dict[str, Columns], *, swapped: bool) -> dict[tuple[str, str], tuple[int, Curve]]:
    """By behaviour and vector: of the layers with all doses, the one where the others move furthest; and its curve."""
    found = {}
    for vector in VECTORS:
        curves = {name: [pick_curve(t, vector, at, swapped=swapped) for at in LAYERS] for name, t in tables.items()}
        effects = np.array([[measure_reach(curve) for curve in row] for row in curves.values()])
        for name, place in zip(tables, choose_layers(effects), strict=True):
            found[name, vector] = LAYERS[place], curves[name][place]
    return found


def measure_reach(curve: Curve) -> float:
    """How far the probability of the matching letter goes from one swept dose to the other, on average."""
    low, high = (int(np.flatnonzero(np.isclose(curve.doses, dose))[0]) for dose in SWEPT)
    return float((curve.probability[high] - curve.probability[low]).mean())


def tell_size(curves: Iterable[Curve]) -> str:
    """How many questions and topics stand behind the numbers of a page."""
    sizes = {(len(set(curve.question.tolist())), len(set(curve.clusters.tolist()))) for curve in curves}
    each = " or ".join(f"{questions} questions of {topics} topics" for questions, topics in sorted(sizes))
    return f"All of it is over {each} for each behaviour."
