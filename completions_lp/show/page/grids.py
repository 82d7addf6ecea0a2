"""Long tables (one row per condition and item) -> quantised arrays [condition, item], one row group at a time."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Int, Shaped

from completions_lp.records import Condition, InputError
from completions_lp.show.page.blocks import MISSING, quantise
from completions_lp.store import CONDITION

_STRINGS = ["prompt_id", "vector", "kind", "positions", "trust"]
Locate = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""From the key columns of some rows (``prompt_id`` as places of prompts) to each row's place among the items, or -1."""


class LongTable:
    """A Parquet file with one row per condition and item; its conditions are known before its numbers are read."""

    def __init__(self, path: Path, stage: str, prompts: Mapping[str, int]) -> None:
        """Open the file; raises InputError where it is missing, naming the stage that makes it, or unreadable.

        Args:
            path: The file.
            stage: The stage that writes it.
            prompts: The place of every prompt by its id; rows of others are passed over.
        """
        if not path.is_file():
            raise InputError(f"{path.parent}: no {path.name}; run the {stage} stage first")
        try:
            self.names: set[str] = set(pa.parquet.read_schema(path).names)
            words = [name for name in _STRINGS if name in self.names]
            self._file = pa.parquet.ParquetFile(path, read_dictionary=words)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a Parquet file: {error}") from None
        self._prompts = prompts
        self._spans = [self._list_spans(i) for i in range(self._file.num_row_groups)]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The steered conditions, in the file's order."""
        found = (condition for spans in self._spans for condition, _, _ in spans)
        return tuple(dict.fromkeys(c for c in found if c.kind != "baseline"))

    def read(
        self,
        columns: Mapping[str, int],
        conditions: Sequence[Condition],
        size: int,
        *,
        keys: Sequence[str] = ("prompt_id",),
        locate: Locate = lambda rows: rows["prompt_id"],
    ) -> dict[str, Int[np.ndarray, "condition item"]]:
        """Read numeric columns as arrays ``[condition, item]``.

        Args:
            columns: Decimals to keep, by name of column; names that the file lacks are left out.
            conditions: The conditions to read, in the order wanted.
            size: Number of items.
            keys: Columns that ``locate`` needs.
            locate: Finds each row's place among the items.

        Returns:
            Whole numbers of ``10 ** -decimals``; ``MISSING`` where the file has no number.
        """
        names = [name for name in columns if name in self.names]
        grids = {name: np.full((len(conditions), size), MISSING, dtype=np.int32) for name in names}
        for table, spans in self._groups(conditions, [*keys, *names]):
            place = locate({key: self._decode(key, table[key]) for key in keys})
            for row, start, stop in spans:
                here = place[start:stop]
                for name in names:
                    values = quantise(table[name][start:stop].to_numpy(), columns[name])
                    grids[name][row, here[here >= 0]] = values[here >= 0]
        return grids

    def read_codes(
        self, column: str, conditions: Sequence[Condition], size: int, *, words: Sequence[str]
    ) -> Shaped[np.ndarray, "condition item"]:
        """Read a column of words, one row per prompt, as places in ``words``; their number where it is none of them."""
        grid = np.full((len(conditions), size), len(words), dtype=np.uint8)
        if column not in self.names:
            return grid
        codes = {word: i for i, word in enumerate(words)}
        for table, spans in self._groups(conditions, ["prompt_id", column]):
            place = self._decode("prompt_id", table["prompt_id"])
            values = np.array([codes.get(word, len(words)) for word in table[column].to_pylist()], dtype=np.uint8)
            for row, start, stop in spans:
                here = place[start:stop]
                grid[row, here[here >= 0]] = values[start:stop][here >= 0]
        return grid

    def _groups(self, conditions: Sequence[Condition], columns: list[str]) -> Any:
        """Row groups that hold any of the conditions, with the runs of rows of each."""
        wanted = {condition: i for i, condition in enumerate(conditions)}
        for group, spans in enumerate(self._spans):
            chosen = [(wanted[c], start, stop) for c, start, stop in spans if c in wanted]
            if chosen:
                yield self._file.read_row_group(group, columns=columns), chosen

    def _decode(self, name: str, column: Any) -> np.ndarray:
        if name != "prompt_id":
            return np.asarray(column.to_numpy())
        index, words = _encode(column)
        places = np.array([*(self._prompts.get(word, -1) for word in words), -1], dtype=np.int64)
        return np.asarray(places[index])

    def _list_spans(self, group: int) -> list[tuple[Condition, int, int]]:
        """Runs of rows of one condition in a row group."""
        names = [name for name in CONDITION if name in self.names]
        table = self._file.read_row_group(group, columns=names)
        changed = np.zeros(max(table.num_rows - 1, 0), dtype=bool)
        for name in names:
            values = _encode(table[name])[0] if name in _STRINGS else table[name].to_numpy()
            changed |= values[1:] != values[:-1]
        starts = [0, *(np.flatnonzero(changed) + 1).tolist()] if table.num_rows else []
        rows = table.take(pa.array(starts, type=pa.int64())).to_pylist()
        stops = [stop for _, stop in pairwise([*starts, table.num_rows])]
        return [(make_condition(row), start, stop) for row, start, stop in zip(rows, starts, stops, strict=True)]


def make_condition(row: Mapping[str, Any]) -> Condition:
    """The condition that a row is about."""
    return Condition(
        vector=row["vector"] or "",
        kind=row["kind"],
        layer=int(row["layer"]),
        multiplier=float(row["multiplier"]),
        positions=row.get("positions") or "completion",
    )


def _encode(column: Any) -> tuple[Int[np.ndarray, " row"], list[str]]:
    """A column of strings as codes and the words that they stand for; a missing string is code -1."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], pa.string()).dictionary_encode()
    index = np.asarray(array.indices.fill_null(-1).to_numpy(zero_copy_only=False))
    return index, array.dictionary.to_pylist()
