"""What a stored table must have: the columns that a reader needs, each of the right kind, nothing missing.

Run directories are opened by other programs, and edited. What another program may rightly have changed is read: the
order of rows and columns, further columns, a missing number for an undefined one, a wider type.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from jaxtyping import Bool, Float, Int

from completions_lp.records import InputError, describe_cause

KINDS = {
    "text": ("text", pa.string()),
    "whole": ("whole numbers", pa.int64()),
    "number": ("numbers", pa.float64()),
    "truth": ("true or false", pa.bool_()),
    "texts": ("lists of text", pa.list_(pa.string())),
    "wholes": ("lists of whole numbers", pa.list_(pa.int64())),
    "numbers": ("lists of numbers", pa.list_(pa.float64())),
}
"""What a column may hold, in words, and the type that readers get it in. A kind that ends in ``?`` may lack values; a
number that is missing is NaN in any case."""


def pick_columns(path: Path, table: pa.Table, stage: str, columns: Mapping[str, str]) -> pa.Table:
    """The columns that are needed, by name and kind, in that order and of one type a kind.

    Raises:
        InputError: One is missing, stands twice, is of another kind, or lacks values that it needs.
    """
    table, picked = _complete(table), {}
    for name, kind in columns.items():
        places = table.schema.get_all_field_indices(name)
        if len(places) != 1:
            found = "no column" if not places else "more than one column"
            raise _refuse(path, f"has {found} {name!r}", stage)
        column = table.column(places[0])
        words, wanted = KINDS[kind.rstrip("?")]
        if not _is_of(column.type, wanted):
            raise _refuse(path, f"column {name!r} holds {str(column.type)[:80]} where {words} are needed", stage)
        try:
            column = column.cast(wanted)
        except pa.ArrowException as error:
            raise _refuse(path, f"column {name!r} holds no {words}: {describe_cause(error)}", stage) from None
        if pa.types.is_floating(wanted):
            column = pa.compute.fill_null(column, float("nan"))
        inner = pa.compute.list_flatten(column).null_count if pa.types.is_list(wanted) else 0
        missing = column.null_count or (inner and kind != "numbers")
        if missing and not kind.endswith("?"):
            raise _refuse(path, f"column {name!r} lacks values where {words} are needed", stage)
        picked[name] = column
    return pa.table(picked)


def _complete(table: pa.Table) -> pa.Table:
    """The table with the columns of conditions that earlier versions did not write, since one thing alone was done."""
    if any(table.column_names.count(name) != 1 for name in ("layer", "multiplier")):
        return table  # of no conditions; or what is told
    layer, multiplier = table["layer"], table["multiplier"]
    if not pa.types.is_integer(layer.type):
        return table  # which is told
    added = pa.array(["add"] * table.num_rows, pa.string())
    later = {"operation": added, "layers": layer.cast(pa.string()), "dose": multiplier}
    if not later.keys() & set(table.column_names):  # where one of them is lost, that is told
        for name, column in later.items():
            table = table.append_column(name, column)
    return table


def _refuse(path: Path, what: str, stage: str) -> InputError:
    return InputError(f"{path}: {what}: it was changed since it was written; run the {stage} stage again")


def _is_of(kind: Any, wanted: Any) -> bool:
    """Whether values of a type are of the kind of another: no text is taken for a number, no fraction for a count."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_null(kind):
        return True  # which is told by the values that it lacks
    if types.is_list(wanted):
        return (types.is_list(kind) or types.is_large_list(kind)) and _is_of(kind.value_type, wanted.value_type)
    if types.is_string(wanted):
        return bool(types.is_string(kind) or types.is_large_string(kind))
    if types.is_floating(wanted):
        return bool(types.is_floating(kind) or types.is_integer(kind))
    return bool(types.is_integer(kind) if types.is_integer(wanted) else types.is_boolean(kind))


def to_lists(values: Float[np.ndarray, "row value"], mask: Bool[np.ndarray, "row value"]) -> pa.ListArray:
    """A column with a list a row: its values where the mask is true, which is from the first on."""
    offsets = np.concatenate([[0], np.cumsum(mask.sum(-1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[mask]))


def read_lists(
    path: Path, column: pa.ChunkedArray, rows: Int[np.ndarray, "condition item"], lengths: Int[np.ndarray, " item"]
) -> Float[np.ndarray, "condition item value"]:
    """A list column as an array, NaN past an item's last value; raises InputError where lists have other lengths."""
    lists = column.combine_chunks().take(pa.array(rows.reshape(-1)))
    want = np.tile(lengths, len(rows))
    if not np.array_equal(lists.value_lengths().to_numpy(zero_copy_only=False), want):
        raise InputError(
            f"{path}: lists that do not have a number for each of a prompt's letters; run the score stage again"
        )
    mask = np.arange(lengths.max(initial=0)) < want[:, None]
    values = np.full(mask.shape, np.nan)
    values[mask] = lists.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(*rows.shape, -1)
