"""What is asked of the network, in batches; which of it is missing, and the tasks that do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from completions_lp import store
from completions_lp.records import Completions, Condition, Prompt, Sampling, SteeringVector, Through
from completions_lp.score.places import Place
from completions_lp.work.batches import count_weights
from completions_lp.work.cover import Block, find_missing
from completions_lp.work.hands import Hands, Piece
from completions_lp.work.tasks import DrawTask, GridTask, ReadTask, ScoreTask, Task, keep_ids

Run = tuple[int, int]
"""Draws in a row: the number of the first sample, and the one past the last."""


@dataclass(frozen=True, eq=False)
class Part(Piece):
    """What is missing of a request and is one unit."""

    request: "Request"
    rows: Sequence[int]
    """Of its items."""
    choice: Sequence[int]
    """Of its conditions; of draws, the first and the one past the last."""

    @property
    def hands(self) -> Hands:
        """Who does it."""
        return self.request.hands

    @property
    def name(self) -> str:
        """What it is, in words."""
        return f"{self.request.kind} of {len(self.rows)}"

    @property
    def covers(self) -> store.Covered:
        """What the unit will cover."""
        return self.request.cover(self.rows, self.choice)

    @property
    def work(self) -> float:
        """Floating-point operations, at most about: what is shared between completions is not known before."""
        return self.request.measure(self.rows, self.choice)

    def make(self) -> Task:
        """The task that does it."""
        return self.request.make(self.rows, self.choice)


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """Items under conditions, in batches that go together."""

    kind: str
    hands: Hands
    """Who does it: those who have its model."""
    model: Mapping[str, Any]
    context: Mapping[str, Any]
    items: Sequence[str]
    """Their keys."""
    batches: Sequence[Sequence[int]]
    sizes: Sequence[int]
    """Tokens of each item."""
    vectors: tuple[SteeringVector, ...]
    conditions: Sequence[Condition]
    memory_budget: float | None = None
    unit: int
    """Tokens times conditions of a unit, at most about."""

    def list_missing(self, batch: Sequence[int], there: Sequence[store.Covered]) -> list[Part]:
        """What of a batch is not covered by what is there."""
        raise NotImplementedError

    def cover(self, rows: Sequence[int], choice: Sequence[int]) -> dict[str, list[Any]]:
        """What a unit of these covers."""
        raise NotImplementedError

    def measure(self, rows: Sequence[int], choice: Sequence[int]) -> float:
        """Floating-point operations of such a unit, at most about."""
        raise NotImplementedError

    def make(self, rows: Sequence[int], choice: Sequence[int]) -> Task:
        """The task of such a unit."""
        raise NotImplementedError

    def _describe(self, rows: Sequence[int], choice: Sequence[int]) -> dict[str, Any]:
        """What every task is told."""
        return {
            "kind": self.kind,
            "context": self.context,
            "covers": self.cover(rows, choice),
            "vectors": self.vectors,
            "memory_budget": self.memory_budget,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class DrawRequest(Request):
    """Draws of prompts, unsteered or under one condition."""

    kind: str = "draws"
    prompts: Sequence[Prompt]
    sampling: Sampling
    """With one seed."""

    def list_missing(self, batch: Sequence[int], there: Sequence[store.Covered]) -> list[Part]:
        """Of each prompt, the draws after those that are there from number 0 on without a gap."""
        runs: dict[str, list[Run]] = {}
        for covers in there:
            for item in covers["items"]:
                runs.setdefault(item, []).append((covers["samples"][0], covers["samples"][1]))
        groups: dict[int, list[int]] = {}
        for i in batch:
            groups.setdefault(_reach(sorted(runs.get(self.items[i], []))), []).append(i)
        last = self.sampling.draws
        return [Part(self, rows, (first, last)) for first, rows in sorted(groups.items()) if first < last]

    def cover(self, rows: Sequence[int], choice: Sequence[int]) -> dict[str, list[Any]]:
        """The prompts, and the numbers of the samples."""
        return {"items": [self.items[i] for i in rows], "samples": list(choice)}

    def measure(self, rows: Sequence[int], choice: Sequence[int]) -> float:
        """As if no two draws shared a token."""
        share = (choice[1] - choice[0]) / self.sampling.draws
        return 2.0 * count_weights(self.model) * share * sum(self.sizes[i] for i in rows)

    def make(self, rows: Sequence[int], choice: Sequence[int]) -> DrawTask:
        """The task that draws them."""
        return DrawTask(
            **self._describe(rows, choice),
            conditions=tuple(self.conditions),
            prompts=tuple(self.prompts[i] for i in rows),
            sampling=self.sampling,
            first=choice[0],
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class GridRequest(Request):
    """Sequences under conditions."""

    ids: Sequence[str]
    """Of the prompt of each item, for people."""
    lengths: Sequence[int]
    """Numbers that are read of each item."""
    keys: Sequence[str]
    """Of the conditions."""
    target: str

    def list_missing(self, batch: Sequence[int], there: Sequence[store.Covered]) -> list[Part]:
        """Rectangles of items and conditions. Of a prompt that is more than a unit, those under some conditions each.

        How many goes by the work alone, so that whoever does them, alone or beside others, does the same.
        """
        items = [self.items[i] for i in batch]
        blocks = [Block(covers["items"], covers["conditions"], {}, {}) for covers in there]
        parts = []
        for some, columns in find_missing(blocks, items, self.keys):
            rows = [batch[k] for k in some]
            n = min(len(columns), -(-sum(self.sizes[i] for i in rows) * (1 + len(columns)) // (2 * self.unit)))
            cuts = [k * len(columns) // max(1, n) for k in range(max(1, n) + 1)]
            parts += [Part(self, rows, columns[a:b]) for a, b in pairwise(cuts)]
        return parts

    def cover(self, rows: Sequence[int], choice: Sequence[int]) -> dict[str, list[Any]]:
        """The sequences, and the conditions."""
        return {"items": [self.items[i] for i in rows], "conditions": [self.keys[c] for c in choice]}

    def measure(self, rows: Sequence[int], choice: Sequence[int]) -> float:
        """As if no two sequences shared a token."""
        return 2.0 * count_weights(self.model) * sum(self.sizes[i] for i in rows) * (1 + len(choice))

    def _describe(self, rows: Sequence[int], choice: Sequence[int]) -> dict[str, Any]:
        return {
            **super()._describe(rows, choice),
            "conditions": tuple(self.conditions[c] for c in choice),
            "ids": tuple(self.ids[i] for i in rows),
            "lengths": tuple(self.lengths[i] for i in rows),
            "target": self.target,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreRequest(GridRequest):
    """Completions, and after them places that are read in the same passes."""

    kind: str = "scores"
    completions: Completions
    places: Sequence[Place]
    kl: bool
    through: Through

    def make(self, rows: Sequence[int], choice: Sequence[int]) -> GridTask:
        """The task that scores them."""
        n = len(self.completions)
        return ScoreTask(
            **self._describe(rows, choice),
            completions=keep_ids(self.completions.take([row for row in rows if row < n])),
            places=tuple(self.places[row - n] for row in rows if row >= n),
            kl=self.kl,
            through=self.through,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadRequest(GridRequest):
    """Prompts, whose answers are read out."""

    kind: str = "choices"
    prompts: Sequence[Prompt] = field(default=())

    def make(self, rows: Sequence[int], choice: Sequence[int]) -> GridTask:
        """The task that reads them out."""
        return ReadTask(**self._describe(rows, choice), prompts=tuple(self.prompts[i] for i in rows))


def _reach(runs: Sequence[Run]) -> int:
    """How many draws are there from number 0 on without a gap."""
    reach = 0
    for first, last in runs:
        if first <= reach:
            reach = max(reach, last)
    return reach
