"""Which unit holds what, in little memory: some bytes for each item, and one record for all that units share.

A unit of scores covers some completions under some conditions. There may be a hundred thousand units of a thousand
conditions each, and millions of completions: of each, what is held is a number of 64 bits and that of its unit. Which
exactly a unit covers is read from the unit itself, once it is needed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Covered = Mapping[str, Sequence[Any]]
LATEST = 2**16
"""Items that are held by name before they join the sorted rest."""


class Catalogue:
    """Units of one kind and context, found by the items that they hold."""

    def __init__(self) -> None:
        self.names: list[str] = []
        """Of the units, by number."""
        self._others: list[Covered] = []
        self._shared: dict[str, Covered] = {}
        self._codes = np.empty(0, dtype=np.int64)
        self._units = np.empty(0, dtype=np.int32)
        self._latest: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, covers: Covered) -> None:
        """Enter a unit by its name."""
        rest = {key: value for key, value in covers.items() if key != "items"}
        # Units of one grid cover the same conditions: these are held once.
        self._others.append(self._shared.setdefault(json.dumps(rest, sort_keys=True), rest))
        for item in covers["items"]:
            self._latest.setdefault(hash(item), []).append(len(self.names))
        self.names.append(name)
        if len(self._latest) >= LATEST:
            self._sort()

    def find(self, items: Sequence[str], needed: Callable[[Covered], bool]) -> list[str]:
        """Names, in order, of units that hold any of these items, and what is needed of all but the items.

        One in 10^13 lookups may name a unit that holds none of them.
        """
        return sorted({self.names[unit] for unit in self._look_up(items) if needed(self._others[unit])})

    def list_covered(self, items: Sequence[str]) -> list[Covered]:
        """Of each unit that holds any of these items, which of them, and all else that it covers."""
        found = self._look_up(items)
        return [{**self._others[unit], "items": [items[i] for i in some]} for unit, some in sorted(found.items())]

    def _look_up(self, items: Sequence[str]) -> dict[int, list[int]]:
        """Units by number, and which of the items each holds, by their place."""
        codes = np.array([hash(item) for item in items], dtype=np.int64)
        first, last = (np.searchsorted(self._codes, codes, side=side) for side in ("left", "right"))
        found: dict[int, list[int]] = {}
        for i, code in enumerate(codes.tolist()):
            for unit in {*self._units[first[i] : last[i]].tolist(), *self._latest.get(code, ())}:
                found.setdefault(unit, []).append(i)
        return found

    def _sort(self) -> None:
        codes = [code for code, units in self._latest.items() for _ in units]
        units = [unit for units in self._latest.values() for unit in units]
        every = np.concatenate([self._codes, np.array(codes, dtype=np.int64)])
        order = np.argsort(every, kind="stable")
        self._codes, self._units = every[order], np.concatenate([self._units, np.array(units, dtype=np.int32)])[order]
        self._latest = {}
