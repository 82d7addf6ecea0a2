"""The rows of a long table by their keys: one row per condition and item, in whatever order they stand."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute
from jaxtyping import Int

from completions_lp.records import Completions, Condition, InputError, Prompt
from completions_lp.records.base import Kind, Operation

CONDITION_KINDS = {
    "vector": "text",
    "kind": "text",
    "layer": "whole",
    "multiplier": "number",
    "positions": "text",
    "operation": "text",
    "layers": "text",
    "dose": "number",
}
"""The columns that name a condition, by kind; ``layers`` has all that are steered, such as ``10,11,12``."""
CONDITION = tuple(CONDITION_KINDS)
CONDITION_TYPES = {
    name: {"text": pa.string(), "whole": pa.int64(), "number": pa.float64()}[kind]
    for name, kind in CONDITION_KINDS.items()
}
"""The same by the types of tables that a report writes."""
LAYERS = re.compile(r"-1|[0-9]{1,4}(,[0-9]{1,4})*")
KEYS = {"prompt_id": "text", **CONDITION_KINDS}
"""The columns that name a prompt and a condition, by kind."""


def condition_columns(conditions: Sequence[Condition], repeat: int) -> dict[str, np.ndarray]:
    """Columns that name the condition, ``repeat`` rows of each."""
    columns = {}
    for name in CONDITION:
        values = [condition.columns[name] for condition in conditions]
        dtype = {"layer": np.int16, "multiplier": np.float64, "dose": np.float64}.get(name, object)
        columns[name] = np.repeat(np.array(values, dtype=dtype), repeat)
    return columns


def find_conditions(table: pa.Table) -> tuple[tuple[Condition, ...], Int[np.ndarray, " row"]]:
    """The conditions of a table, in the order in which they first stand in it, and the number of each row's own."""
    code = np.zeros(table.num_rows, dtype=np.int64)
    for name in CONDITION:
        column = table[name].combine_chunks().dictionary_encode()
        if code.max(initial=0) > 2**31:  # of five columns that all have millions of values: no code may wrap around
            code = np.unique(code, return_inverse=True)[1]
        code = code * (len(column.dictionary) + 1) + column.indices.to_numpy(zero_copy_only=False)
    _, first, number = np.unique(code, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    rows = table.select(CONDITION).take(pa.array(np.sort(first))).to_pylist()
    return tuple(make_condition(row) for row in rows), rank[number.reshape(-1)]


def make_condition(row: Mapping[str, Any]) -> Condition:
    """The condition that a row names; raises InputError where there is none such."""
    values = {name: row[name] for name in CONDITION}
    for name, known in (("kind", get_args(Kind)), ("operation", get_args(Operation))):
        if values[name] not in known:
            raise InputError(f"{name} {values[name]!r} is none of {', '.join(known)}: it was changed by hand")
    layers = values.pop("layers")
    if LAYERS.fullmatch(layers) is None or int(layers.partition(",")[0]) != values["layer"]:
        raise InputError(f"layers {layers!r} do not begin with layer {values['layer']}: it was changed by hand")
    return Condition(**values, beyond=tuple(map(int, layers.split(",")[1:])))


def find_prompts(table: pa.Table, prompts: Sequence[Prompt]) -> Int[np.ndarray, " row"]:
    """The place of each row's prompt; -1 where it is none of these."""
    ids = pa.array([prompt.id for prompt in prompts], type=pa.string())
    places = pa.compute.index_in(table["prompt_id"].cast(pa.string()), value_set=ids)
    return np.asarray(pa.compute.fill_null(places, -1).to_numpy(), dtype=np.int64)


def find_completions(table: pa.Table, completions: Completions) -> Int[np.ndarray, " row"]:
    """The place of each row's completion, by its prompt and its number within the prompt; -1 where there is none."""
    prompt, number = find_prompts(table, completions.prompts), table["completion_id"].to_numpy().astype(np.int64)
    sizes = np.bincount(completions.prompt_index, minlength=len(completions.prompts))
    known = (prompt >= 0) & (number >= 0)
    known &= number < np.where(known, sizes[prompt], 0)
    order = np.argsort(completions.prompt_index, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
    return np.where(known, order[np.where(known, starts[prompt] + number, 0)], -1)


def arrange_rows(
    path: Path, table: pa.Table, items: Int[np.ndarray, " row"], n_items: int, wanted: Sequence[Condition] | None = None
) -> tuple[tuple[Condition, ...], Int[np.ndarray, "condition item"]]:
    """The conditions, by default those of the table, and which row holds each of them and each item.

    ``items`` has the number of each row's item, such as its completion; -1 for none. Raises InputError where a row is
    missing, stands twice, or is of another item or condition.
    """
    try:
        found, condition = find_conditions(table)
    except InputError as error:
        raise InputError(f"{path}: {error}; run the stage that made it again") from None
    if wanted is not None and found != tuple(wanted):
        places = {c: i for i, c in enumerate(wanted)}
        condition = np.array([places.get(c, -1) for c in found], dtype=np.int64)[condition]
        found = tuple(wanted)
    place = np.where((items < 0) | (condition < 0), -1, condition * n_items + items)
    size = len(found) * n_items
    if len(place) != size or not np.array_equal(np.sort(place), np.arange(size)):
        raise InputError(
            f"{path}: has {len(place)} rows where {len(found)} conditions x {n_items} rows are needed, each once: rows "
            "were lost, doubled or changed since they were written; run the stage that made it again"
        )
    rows = np.empty(size, dtype=np.int64)
    rows[place] = np.arange(size)
    return found, rows.reshape(len(found), n_items)
