"""The work of a run in units: what is finished is found again, what is missing is done, each unit committed at once.

A unit is a batch of prompts, and for scores the conditions that are missing for it. Which prompts go together follows
from the work alone, not from memory or from what is there already: a run that was stopped and goes on makes the same
passes, and so the same numbers to the last bit, as one that was not.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from completions_lp import store
from completions_lp.job import keys
from completions_lp.job.arrays import Arrays, join_scores, split_scores, stack_places
from completions_lp.job.batches import measure_unit, split_work
from completions_lp.job.cover import Block, Shelf, find_missing, join_blocks
from completions_lp.model import Model
from completions_lp.records import (
    BASELINE,
    Choices,
    Completions,
    Condition,
    Draw,
    Prompt,
    Sampling,
    SteeringVector,
    Through,
    TokenScores,
)
from completions_lp.sample.completions import join_draws, join_seeds
from completions_lp.sample.draws import draw_samples
from completions_lp.score.choices import list_sides, make_choices, read_choices
from completions_lp.score.grid import score_places
from completions_lp.score.places import Place

Advance = Callable[[int], object]
_Run = tuple[int, int, list[Draw]]
"""Draws in a row: the number of the first sample, the one past the last, and they."""


@dataclass
class Units:
    """Does work in units, and keeps them in a run directory, if there is one."""

    open_model: Callable[[], Model]
    """Called when there is work for the network, and only then."""
    model: Mapping[str, Any]
    """What ``Model.describe`` says of it."""
    folder: store.Place | None = None
    """The run directory, or a store."""
    memory_budget: float | None = None
    used: dict[str, Mapping[str, int | float]] = field(default_factory=dict)
    """By name, the units that were made or found, and what each took."""
    made: set[str] = field(default_factory=set)
    """Names of those that were made."""
    _shelves: dict[str, Shelf] = field(default_factory=dict)

    def draw(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        vectors: Sequence[SteeringVector] = (),
        condition: Condition = BASELINE,
        advance: Advance = lambda _: None,
    ) -> list[list[Draw]]:
        """The draws of every prompt, as ``draw_samples`` has them; those that are there are not drawn again.

        Each of several seeds has the units of a run with that seed alone.
        """
        options: dict[str, Any] = {"vectors": vectors, "condition": condition, "advance": advance}
        by_seed = [self._draw_seed(prompts, one, **options) for one in sampling.split()]
        return join_seeds(by_seed, sampling.n) if sampling.seeds else by_seed[0]

    def _draw_seed(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        vectors: Sequence[SteeringVector],
        condition: Condition,
        advance: Advance,
    ) -> list[list[Draw]]:
        context = keys.describe_draws(self.model, sampling, vectors, condition)
        names = [keys.key_prompt(prompt) for prompt in prompts]
        there, size = self._find_draws(context, set(names), sampling.draws), measure_unit(self.model)
        for batch in split_work(prompts, [sampling.draws * sampling.max_new_tokens] * len(prompts), size):
            groups: dict[int, list[int]] = {}
            for i in batch:
                groups.setdefault(_reach(there.get(names[i], ())), []).append(i)
            for first, members in sorted(groups.items()):
                if first < sampling.draws:
                    chosen, items = [prompts[i] for i in members], [names[i] for i in members]
                    with self._unit("draws", context) as commit:
                        drawn = draw_samples(
                            self.open_model(),
                            chosen,
                            sampling,
                            first=first,
                            vectors=vectors,
                            condition=condition,
                            memory_budget=self.memory_budget,
                        )
                        table = store.tabulate_draws(items, [prompt.id for prompt in chosen], drawn)
                        commit({"items": items, "samples": [first, sampling.draws]}, table)
                    for i, draws in zip(members, drawn, strict=True):
                        there.setdefault(names[i], []).append((first, sampling.draws, draws))
            advance(len(batch))
        return [join_draws([draws for *_, draws in there[name]], sampling.draws) for name in names]

    def score(
        self,
        completions: Completions,
        vectors: Sequence[SteeringVector],
        conditions: Sequence[Condition],
        *,
        target: str,
        kl: bool = False,
        through: Through = "end",
        advance: Advance = lambda _: None,
    ) -> TokenScores:
        """The scores of every completion under every condition, as ``score_tokens`` has them.

        Under a single condition that steers nothing, they are the unsteered ones.
        """
        asked: dict[str, Any] = {"target": target, "kl": kl, "through": through, "advance": advance}
        return self.score_places(completions, (), vectors, conditions, **asked)[0]

    def score_places(
        self,
        completions: Completions,
        places: Sequence[Place],
        vectors: Sequence[SteeringVector],
        conditions: Sequence[Condition],
        *,
        target: str,
        kl: bool = False,
        through: Through = "end",
        advance: Advance = lambda _: None,
    ) -> tuple[TokenScores, Float[np.ndarray, "place choice"], Float[np.ndarray, "condition place choice"]]:
        """The same, and what is read at places after prompts of the completions, as ``score_places`` has them."""
        watch, n = completions.labelling.is_by_token, len(completions)

        def work(rows: Sequence[int], chosen: Sequence[Condition]) -> tuple[Any, Any]:
            part = completions.take([row for row in rows if row < n])
            offered = any(prompt.offers(target) for prompt in part.prompts)
            options: dict[str, Any] = {"target": target if offered else "matching", "kl": kl, "through": through}
            at = [places[row - n] for row in rows if row >= n]
            steering = [condition for condition in chosen if condition.steers]
            found = score_places(self.open_model(), part, at, vectors, steering, **options, **self._quiet)
            # Rows of completions come first, whatever batch they are of.
            unsteered, steered = stack_places(*split_scores(found[0]), *found[1:])
            return unsteered, steered if steering else _repeat(unsteered)

        index = {prompt.id: i for i, prompt in enumerate(completions.prompts)}
        rows = [completions.rows_of(i).tolist() for i in range(len(completions.prompts))]
        read: list[list[int]] = [[] for _ in rows]
        for k, place in enumerate(places):
            read[index[place.prompt.id]].append(n + k)
        scored = completions.count_scored(through)
        sizes = [
            (int(scored[some].sum()) + len(at)) * (1 + len(conditions)) for some, at in zip(rows, read, strict=True)
        ]
        batches = list(split_work(completions.prompts, sizes, measure_unit(self.model)))
        lengths = [*scored.tolist(), *(len(place.sides) for place in places)]
        task = Task(
            kind="scores",
            context=keys.describe_scores(self.model, completions.labelling, watch=watch, kl=kl, through=through),
            items=[
                *keys.key_completions(completions, target if watch else None, through),
                *map(keys.key_place, places),
            ],
            ids=[*(completions.prompts[i].id for i in completions.prompt_index), *(p.prompt.id for p in places)],
            lengths=lengths,
            conditions=conditions,
            keys=[keys.key_condition(condition, vectors) for condition in conditions],
            batches=[[row for part in (rows, read) for i in batch for row in part[i]] for batch in batches],
            work=work,
        )
        width, choices = completions.token_ids.shape[1], max((len(place.sides) for place in places), default=0)
        found = self._cover(task, max(width, choices), advance)
        scores = join_scores(completions, conditions, found.cut(slice(n), width), through)
        at = found.cut(slice(n, None), choices)
        if not places:
            return scores, np.empty((0, 0)), np.empty((len(conditions), 0, 0))
        return scores, at.unsteered["logprob"], at.steered["logprob"]

    def read(
        self,
        prompts: Sequence[Prompt],
        vectors: Sequence[SteeringVector],
        conditions: Sequence[Condition],
        *,
        target: str,
        advance: Advance = lambda _: None,
    ) -> Choices:
        """The two-choice read-out, as ``read_choices`` has it."""

        def work(some: Sequence[int], chosen: Sequence[Condition]) -> tuple[Any, Any]:
            part = [prompts[i] for i in some]
            read = target if any(prompt.offers(target) for prompt in part) else "matching"
            steering = [condition for condition in chosen if condition.steers]
            choices = read_choices(self.open_model(), part, vectors, steering, target=read, **self._quiet)
            unsteered, steered = ({"logprob": _flatten(side)} for side in list_sides(choices))
            return unsteered, steered if steering else _repeat(unsteered)

        lengths = [2 * (2 + len(prompt.letters)) for prompt in prompts]
        # About a token for four letters: answers may be sentences, all of which are read.
        tokens = [sum(1 + len(letter) // 4 for letter in prompt.letters) for prompt in prompts]
        sizes = [n * (1 + len(conditions)) for n in tokens]

        task = Task(
            kind="choices",
            context=keys.describe_choices(self.model),
            items=[keys.key_question(prompt, target) for prompt in prompts],
            ids=[prompt.id for prompt in prompts],
            lengths=lengths,
            conditions=conditions,
            keys=[keys.key_condition(condition, vectors) for condition in conditions],
            batches=list(split_work(prompts, sizes, measure_unit(self.model))),
            work=work,
        )
        found = self._cover(task, max(lengths), advance)
        read = (part["logprob"] for part in (found.unsteered, found.steered))
        return make_choices(prompts, target, conditions, *(x.reshape(*x.shape[:-1], -1, 2) for x in read))

    def close(self) -> None:
        """Have what was made found by others, too, where it is in a store at a URL."""
        for shelf in self._shelves.values():
            shelf.close()

    @property
    def _quiet(self) -> dict[str, Any]:
        return {"memory_budget": self.memory_budget, "progress": False}

    def _find_draws(self, context: Mapping[str, Any], names: set[str], n: int) -> dict[str, list[_Run]]:
        """Those of the first ``n`` draws that are there, by the key of their prompt, maybe with later ones."""
        there: dict[str, list[_Run]] = {}
        shelf = self._open_shelf("draws", context)
        for unit, table in shelf.find(sorted(names), lambda covers: covers["samples"][0] < n):
            first, last = unit.covers["samples"]
            drawn = store.read_draws(table)
            for item in unit.covers["items"]:
                there.setdefault(item, []).append((first, last, drawn[item]))
            self.used[unit.name] = unit.spent
        return {item: sorted(runs, key=lambda run: run[:2]) for item, runs in there.items()}

    def _cover(self, task: "Task", width: int, advance: Advance) -> Block:
        """All that a task asks for: what is there, and what is missing once it is done; ``width`` tokens wide."""
        shelf, whole = self._open_shelf(task.kind, task.context), Block(task.items, task.keys, {}, {})
        wanted = set(task.keys)
        for batch in task.batches:
            items, blocks = [task.items[i] for i in batch], []
            for unit, table in shelf.find(items, lambda covers: not wanted.isdisjoint(covers["conditions"])):
                arrays = store.read_sequences(table, len(unit.covers["items"]))
                blocks.append(Block(unit.covers["items"], unit.covers["conditions"], *arrays))
                self.used[unit.name] = unit.spent
            for some, columns in find_missing(blocks, items, task.keys):
                blocks.append(self._work(task, [batch[k] for k in some], columns))
            whole.fill(batch, join_blocks(blocks, items, task.keys, width=width))
            advance(len(batch) * max(1, len(task.keys)))
        return whole

    def _work(self, task: "Task", some: Sequence[int], columns: Sequence[int]) -> Block:
        """Do some items under some conditions, and commit them."""
        chosen = [task.conditions[c] for c in columns]
        items, named = [task.items[i] for i in some], [task.keys[c] for c in columns]
        with self._unit(task.kind, task.context) as commit:
            block = Block(items, named, *task.work(some, chosen))
            ids, lengths = [task.ids[i] for i in some], [task.lengths[i] for i in some]
            table = store.tabulate_sequences(items, ids, lengths, chosen, block.unsteered, block.steered)
            commit({"items": items, "conditions": named}, table)
        return block

    @contextmanager
    def _unit(self, kind: str, context: Mapping[str, Any]) -> Iterator[Callable[[store.Covered, pa.Table], None]]:
        """The work of one unit, timed and counted, and what commits it."""
        start, before = time.perf_counter(), replace(self.open_model().usage)

        def commit(covers: store.Covered, table: pa.Table) -> None:
            used, seconds = self.open_model().usage, time.perf_counter() - start
            spent = {
                "tokens": used.tokens - before.tokens,
                "passes": used.passes - before.passes,
                "seconds": round(seconds, 4),
            }
            if self.folder is not None:
                unit = store.write_unit(self.folder, kind, context, covers, table, spent=spent)
                self.used[unit.name] = spent
                self.made.add(unit.name)
                self._open_shelf(kind, context).add(unit)

        yield commit

    def _open_shelf(self, kind: str, context: Mapping[str, Any]) -> Shelf:
        """The units of a kind and context, looked for in the folder once: a top-up asks for every red condition."""
        name = f"{kind}/{store.hash_value(context)}"
        if name not in self._shelves:
            self._shelves[name] = Shelf(self.folder, kind, context)
        return self._shelves[name]


@dataclass(frozen=True, eq=False)
class Task:
    """Sequences under conditions, and how to do some of them."""

    kind: str
    context: Mapping[str, Any]
    items: Sequence[str]
    """Keys of the sequences."""
    ids: Sequence[str]
    """Their prompts', for people."""
    lengths: Sequence[int]
    conditions: Sequence[Condition]
    keys: Sequence[str]
    """Of the conditions."""
    batches: Sequence[Sequence[int]]
    """Which sequences go together."""
    work: Callable[[Sequence[int], Sequence[Condition]], tuple[Arrays, Arrays]]
    """What is read of some sequences, unsteered and under some conditions."""


def _reach(runs: Sequence[_Run]) -> int:
    """How many draws are there from number 0 on without a gap."""
    reach = 0
    for first, last, _ in runs:
        if first <= reach:
            reach = max(reach, last)
    return reach


def _flatten(values: Float[np.ndarray, "*place side 2"]) -> Float[np.ndarray, "*place value"]:
    return values.reshape(*values.shape[:-2], values.shape[-2] * values.shape[-1])


def _repeat(unsteered: Arrays) -> Arrays:
    """The unsteered numbers as those of a condition that steers nothing."""
    return {name: values[None] for name, values in unsteered.items()}
