"""Rectangles of finished work, items by conditions: what is there, what is missing, what it makes together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from completions_lp import store

INDEXED = 256
"""Units of a store at a URL that are made before an index of them is written: as many are looked into, at the most,
where a run was stopped."""


@dataclass(frozen=True, eq=False)
class Block:
    """Some items under some conditions, all of them, by their keys."""

    items: Sequence[str]
    conditions: Sequence[str]
    unsteered: dict[str, np.ndarray]
    """With an axis of items first, then one of tokens (or answers)."""
    steered: dict[str, np.ndarray]
    """With an axis of conditions before these."""

    def fill(self, rows: Sequence[int], part: "Block") -> None:
        """Take over the numbers of some items, those of these rows, under the same conditions."""
        for name, values in part.unsteered.items():
            grid = _ensure(self.unsteered, name, (len(self.items), *values.shape[1:]), values.dtype)
            grid[list(rows)] = values
        for name, values in part.steered.items():
            shape = (len(self.conditions), len(self.items), *values.shape[2:])
            _ensure(self.steered, name, shape, values.dtype)[:, list(rows)] = values

    def cut(self, items: slice, width: int) -> "Block":
        """Some of the items, in a row, at most ``width`` wide."""
        unsteered = {name: values[items, :width] for name, values in self.unsteered.items()}
        steered = {name: values[:, items, :width] for name, values in self.steered.items()}
        return Block(self.items[items], self.conditions, unsteered, steered)


class Shelf:
    """The units of one kind and context that a place has, each a rectangle of items and conditions."""

    def __init__(self, place: store.Place | None, kind: str, context: Mapping[str, Any]) -> None:
        self._place, self._kind, self._context = place, kind, context
        self._units = store.Catalogue() if place is None else store.find_units(place, kind, context)
        self._made: list[store.Covered] = []

    def add(self, unit: store.Unit) -> None:
        """Enter a unit that has been made."""
        self._place = unit.folder
        self._units.add(unit.name, unit.covers)
        if store.is_remote(unit.folder):
            self._made.append(unit.covers)
            if len(self._made) >= INDEXED:
                self.close()

    def close(self) -> None:
        """At a URL, write down what the units that were made cover, by which others find them without opening each."""
        if self._made and self._place is not None:
            store.write_index(self._place, self._kind, self._context, self._made)
            self._made = []

    def list_covered(self, items: Sequence[str]) -> list[store.Covered]:
        """What is covered of these items by units that hold any of them; none of these is read."""
        return self._units.list_covered(items)

    def find(
        self, items: Sequence[str], needed: Callable[[store.Covered], bool] = lambda _: True
    ) -> Iterator[tuple[store.Unit, pa.Table]]:
        """Units that hold any of these items, and what is needed, by name, each with its table.

        Damaged ones are as if not there.
        """
        for name in self._units.find(items, needed):
            found = None if self._place is None else store.read_unit(self._place, name)
            if found is not None and not {*items}.isdisjoint(found[0].covers["items"]):
                yield found


def find_missing(
    blocks: Sequence[Block], items: Sequence[str], conditions: Sequence[str]
) -> list[tuple[list[int], list[int]]]:
    """What no block has, as rectangles: indices of items, and of the conditions that miss just these.

    Conditions of one key, vectors that are equal under two names, are one: the first of them is named.
    """
    there = np.zeros((len(conditions), len(items)), dtype=bool)
    for block in blocks:
        there |= np.isin(conditions, block.conditions)[:, None] & np.isin(items, block.items)
    groups: dict[bytes, list[int]] = {}
    for c, key in enumerate(conditions):
        if key not in conditions[:c]:
            groups.setdefault(there[c].tobytes(), []).append(c)
    missing = [(np.flatnonzero(~there[group[0]]).tolist(), group) for group in groups.values()]
    return [(some, group) for some, group in missing if some]


def join_blocks(blocks: Sequence[Block], items: Sequence[str], conditions: Sequence[str], *, width: int) -> Block:
    """The arrays of these items and conditions, which the blocks cover; ``width`` tokens, NaN where there is none.

    Unsteered numbers are those of the first block that has the first condition. Log probs of another block are moved
    by the difference of the unsteered ones, which is rounding: increases, differences within one pass, stay what they
    were. Where two blocks have a number, it is that of the later one.
    """
    unsteered: dict[str, np.ndarray] = {}
    steered: dict[str, np.ndarray] = {}
    ordered = sorted(blocks, key=lambda block: conditions[0] not in block.conditions)
    for block, at, rows in reversed([(block, *_match(block.items, items)) for block in ordered]):
        for name, values in block.unsteered.items():
            _put(_ensure(unsteered, name, (len(items), width), values.dtype), at, values[rows])
    for block in ordered:
        at, rows = _match(block.items, items)
        into, of = _match(block.conditions, conditions)
        for name, values in block.steered.items():
            grid = _ensure(steered, name, (len(conditions), len(items), width), values.dtype)
            for c, k in zip(into, of, strict=True):
                moved = values[k, rows]
                if name == "logprob":
                    moved = moved + _measure_shift(unsteered["logprob"][at], block.unsteered["logprob"][rows])
                _put(grid[c], at, moved)
    return Block(items, conditions, unsteered, steered)


def _match(have: Sequence[str], wanted: Sequence[str]) -> tuple[list[int], list[int]]:
    """Where among the wanted those stand that are had, and where each is had."""
    place = {key: k for k, key in enumerate(have)}
    at = [i for i, key in enumerate(wanted) if key in place]
    return at, [place[wanted[i]] for i in at]


def _put(grid: np.ndarray, at: Sequence[int], values: np.ndarray) -> None:
    """Enter rows of another width; what is wider than the grid is of items that are not in it, and NaN in these."""
    width = min(grid.shape[-1], values.shape[-1])
    grid[at, :width] = values[:, :width]


def _measure_shift(known: np.ndarray, own: np.ndarray) -> np.ndarray:
    """What is added to log probs of one pass beside the unsteered ones of another; 0 where these are the same."""
    width = min(known.shape[-1], own.shape[-1])
    shift = np.zeros(own.shape, dtype=own.dtype)
    known, own = known[:, :width], own[:, :width]
    differs = np.isfinite(known) & np.isfinite(own)
    shift[:, :width][differs] = known[differs] - own[differs]
    return shift


def _ensure(grids: dict[str, np.ndarray], name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The array of this name, made where it is missing; NaN is what nothing has come in for."""
    if name not in grids:
        grids[name] = np.full(shape, np.nan, dtype=dtype)
    return grids[name]
