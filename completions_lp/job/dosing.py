"""Doses -> multipliers: how long the residual stream is, and which multiplier costs the nats per token asked for.

Both are measured on the unsteered completions of a few prompts, chosen by the run's seed. Every score of a run hangs on
them, so this comes first of the score stage.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Int

from completions_lp.job.config import Config
from completions_lp.model import Model, check_conditions, read_norms
from completions_lp.records import Completions, Condition, Dose, Prompt, SteeringVector
from completions_lp.report.prompts import derive_measures
from completions_lp.score.measures import measure_completions
from completions_lp.stats import measure_spread
from completions_lp.stats.dosing import Solved, solve_doses
from completions_lp.store import hash_value
from completions_lp.work.keys import key_completions

PLACES = 16
"""Tokens of each prompt's completions at which the stream is measured."""
TOGETHER = 2048
"""Tokens that are read in one pass, unless one text has more."""
FIRST = 0.1
"""The relative dose at which a search begins."""

Norms = dict[int, float]
"""By layer, the mean norm of the unsteered residual stream over the steered positions."""


def choose_prompts(prompts: Sequence[Prompt], config: Config) -> list[int]:
    """The prompts on which doses are settled, as indices: at random by seed and name, in whatever order they stand."""
    chance = [hash_value([config.sampling.seed, prompt.id]) for prompt in prompts]
    return sorted(sorted(range(len(prompts)), key=chance.__getitem__)[: config.scoring.dose_prompts])


def find_norms(run: Any, sample: Completions) -> Norms:
    """How long the residual stream is at every layer, measured once; kept in ``run.json``."""
    positions, seed = run.config.scoring.positions, run.config.sampling.seed
    said = key_completions(sample, None), sample.counts.tolist()  # however it is labelled
    of = hash_value([dict(run.describe_network()), *said, positions, seed])
    known = run.info.get("norms", {})
    if known.get("of") != of:
        texts, index = draw_places(sample, Condition("", "target", 0, 1.0, positions), seed=seed)
        mean = run.ask(_read_norms, texts, index).tolist()
        known = run.info["norms"] = {"of": of, "mean": mean, "n_tokens": len(texts), "prompts": len(sample.prompts)}
    return dict(enumerate(known["mean"]))


def draw_places(sample: Completions, condition: Condition, *, seed: int) -> tuple[list[list[int]], list[int]]:
    """Texts, each to be read at one token: steered positions of the unsteered completions, at random by prompt.

    Every steered token of every draw is as likely, up to the last that a token follows.
    """
    texts, index = list[list[int]](), list[int]()
    for i, prompt in enumerate(sample.prompts):
        rng = np.random.default_rng([seed, int(hash_value(prompt.id)[:15], 16)])
        places, weights = list[tuple[int, int]](), list[int]()
        start, stop = condition.find_acting(len(prompt.token_ids))
        for row in sample.rows_of(i).tolist():
            end = len(prompt.token_ids) + int(sample.lengths[row]) - 1
            here = range(start, end if stop is None else min(stop, end))
            places += [(row, at) for at in here]
            weights += [int(sample.counts[row])] * len(here)
        if places:
            share = np.array(weights) / sum(weights)
            for k in rng.choice(len(places), size=PLACES, p=share).tolist():
                row, at = places[k]
                said = sample.token_ids[row, : int(sample.lengths[row])].tolist()
                texts.append([*prompt.token_ids, *said][: at + 1])
                index.append(at)
    return texts, index


def _read_norms(model: Model, texts: list[list[int]], index: list[int]) -> Float[np.ndarray, " layer"]:
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    batches: list[list[int]] = [[]]
    for i in order:
        if batches[-1] and (len(batches[-1]) + 1) * len(texts[i]) > TOGETHER:
            batches.append([])
        batches[-1].append(i)
    layers = range(model.n_layers)
    read = [read_norms(model, [texts[i] for i in some], [index[i] for i in some], layers) for some in batches]
    mean: Float[np.ndarray, " layer"] = np.concatenate(read, axis=1).mean(1)
    return mean


def find_relative(condition: Condition, vector: SteeringVector, norms: Norms) -> float:
    """|m v| over |h| at the lowest layer that is steered; NaN where nothing is added."""
    norm = norms.get(condition.layer, 0.0)
    if condition.operation != "add" or not norm > 0:
        return float("nan")
    return abs(condition.multiplier) * float(np.linalg.norm(vector.directions[condition.layer])) / norm


def settle_doses(
    run: Any, completions: Completions, vectors: Sequence[SteeringVector], asked: Sequence[Condition]
) -> tuple[tuple[Condition, ...], tuple[Dose, ...]]:
    """The conditions of a run with their multipliers, and their doses, from the completions of a few of its prompts.

    Raises:
        InputError: A condition cannot be computed on the model.
    """
    chosen = [completions.prompts[i] for i in choose_prompts(completions.prompts, run.config)]
    run.ask(check_conditions, vectors, [condition for condition in asked if condition.steers])

    def pick(prompts: Sequence[Prompt]) -> Completions:
        names = {prompt.id for prompt in prompts}
        return completions.select([i for i, p in enumerate(completions.prompts) if p.id in names])

    def settle(prompts: Sequence[Prompt]) -> tuple[tuple[Condition, ...], tuple[Dose, ...]]:
        return Dosing(run, vectors).settle(asked, pick(prompts), norms)

    norms = run.spare(chosen, lambda prompts: find_norms(run, pick(prompts)))
    with run.time("dose"):
        return cast(tuple[tuple[Condition, ...], tuple[Dose, ...]], run.spare(chosen, settle))


@dataclass(eq=False)
class Dosing:
    """Settles the conditions of a run, given as its configuration asks for them: multipliers that are doses."""

    run: Any
    """A ``Ledger``, with units that are open."""
    vectors: Sequence[SteeringVector]

    def settle(
        self, conditions: Sequence[Condition], sample: Completions, norms: Norms
    ) -> tuple[tuple[Condition, ...], tuple[Dose, ...]]:
        """The conditions with their true multipliers, less those that cannot be reached, and the dose of each."""
        unit = self.run.config.scoring.unit
        steering = [c for c in conditions if c.steers and c.kind != "rounding"]
        asked = [c for c in steering if not c.is_neutral]
        told: dict[str, Any] = {"unit": unit, "n_prompts": len(sample.prompts)}
        doses = {c: Dose(c, relative=self._find_relative(c, norms), **told) for c in steering}
        if unit == "residual":
            for c in asked:
                settled = _dose(c, c.multiplier / self._find_relative(replace(c, multiplier=1.0), norms))
                doses[c] = Dose(settled, relative=abs(c.multiplier), **told)
        elif unit == "kl":
            for c, (found, se) in self._solve(asked, norms, sample).items():
                told |= {"kl_per_token": found.reached, "kl_se": se, "reason": found.reason}
                settled = c if found.reason else _dose(c, float(np.copysign(found.multiplier, c.multiplier)))
                relative = float("nan") if found.reason else self._find_relative(settled, norms)
                doses[c] = Dose(settled, relative=relative, **told)
        lost = {c for c, dose in doses.items() if dose.reason}
        kept = tuple(doses[c].condition if c in doses else c for c in conditions if c not in lost)
        return kept, tuple(doses.values())

    def _find_relative(self, condition: Condition, norms: Norms) -> float:
        vector = next(vector for vector in self.vectors if vector.name == condition.vector)
        return find_relative(condition, vector, norms)

    def _solve(
        self, asked: Sequence[Condition], norms: Norms, sample: Completions
    ) -> dict[Condition, tuple[Solved, float]]:
        """The multiplier of each, without its sign, and the standard error of the KL per token there.

        Conditions that differ in nothing but their dose are of one curve.
        """
        shape = {c: replace(c, multiplier=float(np.sign(c.multiplier)), dose=0.0) for c in asked}
        shapes = list(dict.fromkeys(shape.values()))
        errors: dict[tuple[int, float], float] = {}
        rounds = itertools.count(1)

        def measure(at: Int[np.ndarray, " point"], size: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
            points = list(zip(at.tolist(), size.tolist(), strict=True))
            tried = [_dose(shapes[i], shapes[i].multiplier * m) for i, m in points]
            mean, se = self._measure(tried, sample, f"dose, round {next(rounds)}")
            errors.update(zip(points, se.tolist(), strict=True))
            return mean

        wanted = [(shapes.index(shape[c]), abs(c.multiplier)) for c in asked]
        first = [self._find_relative(one, norms) for one in shapes]
        start = np.array([FIRST / one if one > 0 else 1.0 for one in first])  # an ablation begins with all of it
        found, n_rounds = solve_doses(measure, wanted, start=start)
        missing = [{**c.columns, "reason": s.reason} for c, s in zip(asked, found, strict=True) if s.reason]
        self.run.info["doses"] = {"prompts": [p.id for p in sample.prompts], "rounds": n_rounds, "missing": missing}
        at = zip(asked, wanted, found, strict=True)
        return {c: (s, errors.get((i, s.multiplier), float("nan"))) for c, (i, _), s in at}

    def _measure(
        self, tried: Sequence[Condition], sample: Completions, title: str
    ) -> tuple[Float[np.ndarray, " condition"], Float[np.ndarray, " condition"]]:
        """KL per token under some conditions, as the report has it: the mean over prompts, and its standard error."""
        run, target = self.run, self.run.config.label.target
        asked: dict[str, Any] = {"target": target, "kl": True}
        with run.watch(title, len(sample) * len(tried), "row") as advance:
            scores = run.units.score(sample, self.vectors, tried, advance=advance, **asked)
        values = derive_measures(measure_completions(scores, target=target))["kl_per_token"]
        clusters = np.unique([prompt.cluster for prompt in sample.prompts], return_inverse=True)[1]
        mean, se, _, _ = measure_spread(values, clusters)
        return np.where(np.isfinite(values).all(-1), mean, np.nan), se


def _dose(condition: Condition, multiplier: float) -> Condition:
    """The condition at another multiplier, with the dose as it was asked for."""
    return replace(condition, multiplier=float(multiplier), dose=condition.dose)
