"""The work of a run in units: what is finished is found again, what is missing is done, each unit committed at once.

A unit is a batch of prompts, and for scores the conditions that are missing for it. Which prompts go together follows
from the work alone, not from memory, from what is there already or from who does it: a run that was stopped and goes on
makes the same passes, and so the same numbers to the last bit, as one that was not, and so does one with many workers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from completions_lp import store
from completions_lp.records import (
    BASELINE,
    Choices,
    Completions,
    Condition,
    Draw,
    InputError,
    Prompt,
    Sampling,
    SteeringVector,
    Through,
    TokenScores,
)
from completions_lp.sample.completions import join_draws, join_seeds
from completions_lp.score.choices import make_choices
from completions_lp.score.places import Place
from completions_lp.work.arrays import join_scores
from completions_lp.work.asking import Asking
from completions_lp.work.cover import Block, Shelf, join_blocks
from completions_lp.work.requests import DrawRequest, GridRequest, Part, Request
from completions_lp.work.tasks import Done

Advance = Callable[[int], object]
_Drawn = tuple[int, int, list[Draw]]
"""Draws in a row: the number of the first sample, the one past the last, and they."""


@dataclass
class Units(Asking):
    """Does work in units, and keeps them in a run directory, if there is one."""

    folder: store.Place | None
    """The run directory, or a store."""
    used: dict[str, Mapping[str, int | float]] = field(default_factory=dict)
    """By name, the units that were made or found, and what each took."""
    made: set[str] = field(default_factory=set)
    """Names of those that were made."""
    _shelves: dict[str, Shelf] = field(default_factory=dict)
    _failed: dict[str, InputError] = field(default_factory=dict)
    """By what they would have covered, units that had no room or no numbers for a prompt."""

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
        requests = self.ask_draws(prompts, sampling, vectors=vectors, condition=condition)
        self.prepare(requests, "sample")
        by_seed = [self._draw_seed(request, advance) for request in requests]
        return join_seeds(by_seed, sampling.n) if sampling.seeds else by_seed[0]

    def _draw_seed(self, request: DrawRequest, advance: Advance) -> list[list[Draw]]:
        shelf, n = self._open_shelf(request), request.sampling.draws
        there: dict[str, list[_Drawn]] = {}

        def enter(covers: store.Covered, table: pa.Table) -> None:
            drawn = store.read_draws(table)
            for item in covers["items"]:
                there.setdefault(item, []).append((covers["samples"][0], covers["samples"][1], drawn[item]))

        first: InputError | None = None
        for batch in request.batches:
            known = []
            for unit, table in shelf.find([request.items[i] for i in batch], lambda covers: covers["samples"][0] < n):
                known.append(unit.covers)
                enter(unit.covers, table)
                self.used[unit.name] = unit.spent
            for part in request.list_missing(batch, known):
                table = self._work(part)
                if isinstance(table, InputError):
                    first = first or table
                else:
                    enter(part.covers, table)
            advance(len(batch))
        if first is not None:
            raise first
        runs = {item: sorted(drawn, key=lambda run: run[:2]) for item, drawn in there.items()}
        return [join_draws([draws for *_, draws in runs[item]], n) for item in request.items]

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
        asked: dict[str, Any] = {"target": target, "kl": kl, "through": through}
        (request,) = Asking.ask_scores(self, completions, places, vectors, conditions, **asked)
        self.prepare([request], "score")
        width, choices = completions.token_ids.shape[1], max((len(place.sides) for place in places), default=0)
        found, n = self._cover(request, max(width, choices), advance), len(completions)
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
        (request,) = Asking.ask_choices(self, prompts, vectors, conditions, target=target)
        self.prepare([request], "choices")
        found = self._cover(request, max(request.lengths), advance)
        read = (part["logprob"] for part in (found.unsteered, found.steered))
        return make_choices(prompts, target, conditions, *(x.reshape(*x.shape[:-1], -1, 2) for x in read))

    def close(self) -> None:
        """Have what was made found by others, too, where it is in a store at a URL."""
        for shelf in self._shelves.values():
            shelf.close()

    def prepare(self, requests: Iterable[Request], title: str) -> None:
        """With many hands, do all that is missing of these at once: whoever asks for one of them finds it there.

        What fails for a prompt is told when it is asked for.
        """
        if not self.hands.many:
            return
        for part, done in self.hands.do(list(self._list_missing(requests)), title):
            if isinstance(done, InputError):
                self._failed[_name(part)] = done
            else:
                self._commit(part, done)

    def _list_missing(self, requests: Iterable[Request]) -> Iterator[Part]:
        """Each part once, though several requests may ask for the same."""
        promised: dict[tuple[str, str], list[store.Covered]] = {}
        for request in requests:
            shelf, name = self._open_shelf(request), _name_shelf(request)
            for batch in request.batches:
                items = [request.items[i] for i in batch]
                there = [*shelf.list_covered(items), *(c for item in items for c in promised.get((name, item), ()))]
                for part in request.list_missing(batch, there):
                    for item in part.covers["items"]:
                        promised.setdefault((name, item), []).append(part.covers)
                    yield part

    def _cover(self, request: GridRequest, width: int, advance: Advance) -> Block:
        """All that is asked for: what is there, and what is missing once it is done; ``width`` tokens wide."""
        shelf, whole = self._open_shelf(request), Block(request.items, request.keys, {}, {})
        wanted, first = set(request.keys), None
        for batch in request.batches:
            items, blocks = [request.items[i] for i in batch], []
            for unit, table in shelf.find(items, lambda covers: not wanted.isdisjoint(covers["conditions"])):
                blocks.append(_make_block(unit.covers, table))
                self.used[unit.name] = unit.spent
            for part in request.list_missing(batch, [vars(block) for block in blocks]):
                table = self._work(part)
                if isinstance(table, InputError):
                    first = first or table
                else:
                    blocks.append(_make_block(part.covers, table))
            if first is None:
                whole.fill(batch, join_blocks(blocks, items, request.keys, width=width))
            advance(len(batch) * max(1, len(request.keys)))
        if first is not None:
            raise first
        return whole

    def _work(self, part: Part) -> pa.Table | InputError:
        """Do and commit a unit; or what has failed of it, which the other units of a request do not wait for."""
        known = self._failed.get(_name(part))
        if known is not None:
            return known
        ((_, done),) = self.hands.do([part], part.request.kind)
        if isinstance(done, InputError):
            return done
        self._commit(part, done)
        return done.table

    def _commit(self, part: Part, done: Done) -> None:
        if self.folder is not None:
            request = part.request
            unit = store.write_unit(
                self.folder, request.kind, request.context, part.covers, done.table, spent=done.spent
            )
            self.used[unit.name] = done.spent
            self.made.add(unit.name)
            self._open_shelf(request).add(unit)

    def _open_shelf(self, request: Request) -> Shelf:
        """The units of a kind and context, looked for in the folder once: a top-up asks for every red condition."""
        name = _name_shelf(request)
        if name not in self._shelves:
            self._shelves[name] = Shelf(self.folder, request.kind, request.context)
        return self._shelves[name]


def _name_shelf(request: Request) -> str:
    return f"{request.kind}/{store.hash_value(request.context)}"


def _name(part: Part) -> str:
    return f"{_name_shelf(part.request)}/{store.hash_value(part.covers)}"


def _make_block(covers: store.Covered, table: pa.Table) -> Block:
    return Block(covers["items"], covers["conditions"], *store.read_sequences(table, len(covers["items"])))
