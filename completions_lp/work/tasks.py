"""Units of work as data: what is to be done, for whoever has the model at hand. Nothing here knows a run directory.

A task can be pickled, and doing it needs nothing but the model: so it gives the same table wherever it is done.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from completions_lp import store
from completions_lp.model import Model
from completions_lp.records import Completions, Condition, Prompt, Sampling, SteeringVector, Through
from completions_lp.sample.draws import draw_samples
from completions_lp.score.choices import list_sides, read_choices
from completions_lp.score.grid import score_places
from completions_lp.score.places import Place
from completions_lp.work.arrays import Arrays, split_scores, stack_places


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """One unit: some items, under some conditions."""

    kind: str
    context: Mapping[str, Any]
    """What all its numbers depend on."""
    covers: store.Covered
    vectors: tuple[SteeringVector, ...]
    conditions: tuple[Condition, ...]
    memory_budget: float | None

    def run(self, model: Model) -> pa.Table:
        """What the unit holds."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Done:
    """A unit that was done, and what it took: what ``Usage`` counts, and ``seconds``."""

    table: pa.Table
    spent: Mapping[str, int | float]


@dataclass(frozen=True, eq=False, kw_only=True)
class DrawTask(Task):
    """Draws of some prompts, from number ``first`` on, unsteered or under one condition."""

    prompts: tuple[Prompt, ...]
    sampling: Sampling
    first: int

    def run(self, model: Model) -> pa.Table:
        """The table of their distinct completions."""
        drawn = draw_samples(
            model,
            self.prompts,
            self.sampling,
            first=self.first,
            vectors=self.vectors,
            condition=self.conditions[0],
            memory_budget=self.memory_budget,
        )
        return store.tabulate_draws(self.covers["items"], [prompt.id for prompt in self.prompts], drawn)


@dataclass(frozen=True, eq=False, kw_only=True)
class GridTask(Task):
    """Sequences under conditions: what is read at each of their tokens."""

    ids: tuple[str, ...]
    """Of the prompts of the items, for people."""
    lengths: tuple[int, ...]
    target: str

    def run(self, model: Model) -> pa.Table:
        """The table of what is read, unsteered and under the conditions; of none that steers, the unsteered numbers."""
        steering = [condition for condition in self.conditions if condition.steers]
        unsteered, steered = self.read(model, steering)
        steered = steered if steering else {name: values[None] for name, values in unsteered.items()}
        items = self.covers["items"]
        return store.tabulate_sequences(items, self.ids, self.lengths, self.conditions, unsteered, steered)

    def read(self, model: Model, steering: Sequence[Condition]) -> tuple[Arrays, Arrays]:
        """The arrays of the items, in their order: unsteered, and under each condition."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreTask(GridTask):
    """Completions, then places that are read in the same passes."""

    completions: Completions
    places: tuple[Place, ...]
    kl: bool
    through: Through

    def read(self, model: Model, steering: Sequence[Condition]) -> tuple[Arrays, Arrays]:
        """As of any grid."""
        offered = any(prompt.offers(self.target) for prompt in self.completions.prompts)
        found = score_places(
            model,
            self.completions,
            self.places,
            self.vectors,
            steering,
            target=self.target if offered else "matching",
            kl=self.kl,
            through=self.through,
            memory_budget=self.memory_budget,
            progress=False,
        )
        return stack_places(*split_scores(found[0]), *found[1:])


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadTask(GridTask):
    """Prompts, whose answers are read out."""

    prompts: tuple[Prompt, ...]

    def read(self, model: Model, steering: Sequence[Condition]) -> tuple[Arrays, Arrays]:
        """As of any grid."""
        offered = any(prompt.offers(self.target) for prompt in self.prompts)
        choices = read_choices(
            model,
            self.prompts,
            self.vectors,
            steering,
            target=self.target if offered else "matching",
            memory_budget=self.memory_budget,
            progress=False,
        )
        unsteered, steered = ({"logprob": _flatten(side)} for side in list_sides(choices))
        return unsteered, steered


def do_task(model: Model, task: Task) -> Done:
    """Do a unit, timed and counted."""
    start, before = time.perf_counter(), replace(model.usage)
    table = task.run(model)
    spent = {**model.usage.since(before).counts, "seconds": round(time.perf_counter() - start, 4)}
    return Done(table, spent)


def keep_ids(completions: Completions) -> Completions:
    """Completions without their texts, and without what labelled them: what scoring reads of them."""
    labelling, n = completions.labelling, len(completions)
    if callable(labelling.function):
        labelling = replace(labelling, function=labelling.describe()["function"])
    return replace(completions, text=("",) * n, pieces=(("",),) * n, labelling=labelling)


def pick_vectors(vectors: Sequence[SteeringVector], conditions: Sequence[Condition]) -> tuple[SteeringVector, ...]:
    """The directions that conditions add, and no others."""
    needed: dict[str, set[int]] = {}
    for condition in conditions:
        if condition.steers:
            needed.setdefault(condition.vector, set()).update(condition.layers)
    return tuple(_narrow(vector, needed[vector.name]) for vector in vectors if vector.name in needed)


def _narrow(vector: SteeringVector, layers: Collection[int]) -> SteeringVector:
    """Its directions at some layers; all of them where these are zero, which no vector is as a whole."""
    few = {layer: added for layer, added in vector.directions.items() if layer in layers}
    directions = few if any(added.any() for added in few.values()) else vector.directions
    return replace(vector, directions=directions, quality={}, provenance={})


def _flatten(values: Float[np.ndarray, "*place side 2"]) -> Float[np.ndarray, "*place value"]:
    return values.reshape(*values.shape[:-2], values.shape[-2] * values.shape[-1])
