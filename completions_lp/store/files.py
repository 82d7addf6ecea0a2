"""Whole files or none: everything is written under another name and moved into place once it is there."""

import csv
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from completions_lp.records import InputError, describe_cause
from completions_lp.store.columns import pick_columns


@contextmanager
def _make_whole(path: Path) -> Iterator[Path]:
    """Another name for a file, which moves into place in one step once it is written."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        if partial.exists():
            os.replace(partial, path)  # noqa: PTH105  atomic, also over an existing file
    finally:
        partial.unlink(missing_ok=True)


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make a file under another name, then move it into place in one step."""
    with _make_whole(path) as partial:
        write(partial)


def write_table(path: Path, columns: Mapping[str, Any] | pa.Table) -> None:
    """Write columns as a Parquet file."""
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    replace_file(path, lambda partial: pa.parquet.write_table(table, partial, compression="zstd"))


@contextmanager
def append_table(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write columns as a Parquet file in parts; the file is there once all are written, and not at all if one fails."""
    writer: Any = None
    with _make_whole(path) as partial:

        def append(columns: Mapping[str, Any]) -> None:
            nonlocal writer
            table = pa.table(dict(columns))
            if writer is None:
                writer = pa.parquet.ParquetWriter(partial, table.schema, compression="zstd")
            writer.write_table(table)

        try:
            yield append
        finally:
            if writer is not None:
                writer.close()


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], *, names: Sequence[str] = ()) -> None:
    """Write tidy rows as a CSV file, by default with the names of all of them; what is missing or undefined is empty.

    Raises:
        InputError: The file cannot be written.
    """
    names = names or list(dict.fromkeys(name for row in rows for name in row))

    def show(value: Any) -> Any:
        return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value

    def write(partial: Path) -> None:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows([show(row.get(name)) for name in names] for row in rows)

    try:
        replace_file(path, write)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def read_table(path: Path, stage: str, columns: Mapping[str, str] | None = None) -> pa.Table:
    """Read a Parquet file, of ``columns`` (all by default) those named, each of the kind that ``store.columns`` knows.

    Raises:
        InputError: It is missing or unreadable, or lacks what is needed; with the stage that makes it.
    """
    if not path.is_file():
        raise InputError(f"{path.parent}: no {path.name}; run the {stage} stage first")
    with refuse_broken(path), pa.parquet.ParquetFile(path) as file:
        names = None if columns is None else [name for name in file.schema_arrow.names if name in columns]
        table = file.read(columns=names)
        table.validate(full=True)
    return table if columns is None else pick_columns(path, table, stage, columns)


@contextmanager
def refuse_broken(path: Path) -> Iterator[None]:
    """Let what a Parquet reader says of a broken file, in whichever way, be an InputError of one line."""
    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, KeyError) as error:
        raise InputError(f"{path}: not a Parquet file: {describe_cause(error)}") from None


def to_plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
