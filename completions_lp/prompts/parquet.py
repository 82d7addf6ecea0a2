"""Parquet files -> rows, of the columns that are asked for, as they are stored: nothing is decoded, nothing followed.

A file of a few kilobytes can hold gigabytes. How much is read is bounded twice: by what the file says of itself, before
anything is read, and by what is read, some rows at a time.
"""

import math
import string
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from completions_lp.records import InputError, describe_cause, is_failing
from completions_lp.records.sources import find_file

MOST_ROWS = 10_000_000
MOST_BYTES = 2**30
"""Of the columns that are read, decompressed: 1 GiB."""
PARTS = ("prompt", "response", "role", "content", "from", "value", "text", "label", *string.ascii_uppercase)
"""What is read of a column of records, or of lists of them: sides of a pair, turns of a chat, choices by letter."""


def read_parquet(path: Path, wanted: Collection[str]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The rows of a Parquet file with those columns of the ``wanted`` ones that it has; and the names of all columns.

    A column that is neither text nor numbers, nor a list or a record of these, is not read; its type stands behind its
    name.
    """
    path = find_file(path)
    try:
        with pa.parquet.ParquetFile(path) as file:
            chosen, names = choose_columns(file.schema_arrow, wanted)
            rows = _read(file, path, chosen)
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        what = "cannot be read" if is_failing(error) else "not a Parquet file"
        raise InputError(f"{path}: {what}: {describe_cause(error)}") from None
    return rows, names


def choose_columns(schema: pa.Schema, wanted: Collection[str]) -> tuple[list[str], tuple[str, ...]]:
    """The paths of the leaves to read, and the names of all columns; behind one that cannot be read, its type."""
    chosen, names = [], []
    twice = [name for name in wanted if len(schema.get_all_field_indices(name)) > 1]
    if twice:
        raise ValueError(f"the column {sorted(twice)[0]!r} stands twice in it; rename one")
    for field in schema:
        leaves = [f"{field.name}.{part}" if part else field.name for part in _list_parts(field.type)]
        names.append(field.name if leaves else f"{field.name} ({str(field.type)[:40]}, which is not read)")
        chosen += leaves if field.name in wanted else []
    return chosen, tuple(names)


def list_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows of a table, a number that is NaN (as pandas writes a missing one) taken for missing."""
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float) and math.isnan(value):
                row[name] = None
    return rows


def _is_plain(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    return any(check(kind) for check in (*checks, pa.types.is_boolean, pa.types.is_null))


def _list_parts(kind: Any) -> list[str]:
    """What can be read of a type: "" is all of it; of records, and of lists of them, their parts."""
    inner = kind.value_type if _is_list(kind) else kind
    if pa.types.is_struct(inner):
        parts = [inner.field(i) for i in range(inner.num_fields)]
        plain = [part.name for part in parts if _is_plain(part.type.value_type if _is_list(part.type) else part.type)]
        return [name for name in plain if name in PARTS]
    return [""] if _is_plain(inner) else []


def _is_list(kind: Any) -> bool:
    return any(check(kind) for check in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _is_of(path: str, chosen: Collection[str]) -> bool:
    """Whether a leaf of the file, such as ``messages.list.element.role``, is of what is chosen: ``messages.role``."""
    first, *inner = path.split(".")
    wanted = {path, first, *(f"{first}.{name}" for name in inner)}
    return not wanted.isdisjoint(chosen)


def _read(file: Any, path: Path, chosen: list[str]) -> list[dict[str, Any]]:
    meta, rows = file.metadata, []
    if meta.num_rows > MOST_ROWS:
        raise InputError(f"{path}: has {meta.num_rows} rows; at most {MOST_ROWS} are read: split the file")
    if not chosen:
        return [{}] if meta.num_rows else []  # which is told to lack its fields
    leaves = [file.schema.column(i).path for i in range(len(file.schema))]
    leaves = [leaf for leaf in leaves if _is_of(leaf, chosen)]
    largest, total = 1, 0
    for group in range(meta.num_row_groups):
        columns = [meta.row_group(group).column(i) for i in range(meta.num_columns)]
        sizes = [column.total_uncompressed_size for column in columns if column.path_in_schema in leaves]
        largest, total = max(largest, *sizes), total + sum(sizes)
    _check_size(path, total)
    total = 0
    # A value may be as long as its chunk, in every row: so many rows at once fit into the bound whatever they hold.
    at_once = max(1, min(65_536, MOST_BYTES // (largest * len(leaves))))
    for batch in file.iter_batches(at_once, columns=leaves, use_threads=False):
        total += batch.nbytes
        _check_size(path, total)
        batch.validate(full=True)  # text that is not UTF-8
        rows += list_rows(pa.Table.from_batches([batch]))
    return rows


def _check_size(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise InputError(f"{path}: the columns to read take more than {MOST_BYTES} bytes decompressed: split the file")
