"""Whole files or none: everything is written under another name and moved into place once it is there."""

import csv
import hashlib
import io
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from completions_lp.records import InputError, describe_cause, is_failing
from completions_lp.store.columns import pick_columns

ROWS = 2**20
"""Rows of a table that are made at a time, about: those of a row group of Parquet."""
PARTIAL = ".partial"
"""How the name ends of a file that is not whole yet."""
_UMASK = os.umask(0)
os.umask(_UMASK)  # it can only be read by setting it


class Vanished(InputError):  # noqa: N818
    """A file went away before it was in its place: another process took it for one that was left half-written."""


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its place in one step once all of it is on the disk, and not at all if that fails.

    It is written under another name of its own beside it, where no link is followed. Raises InputError where it cannot
    be written: the disk is full, say, or the folder read-only.
    """
    with refuse_failing(path):
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
        partial = Path(name)
        try:
            with _Aside(number) as file:
                yield file
                os.fsync(number)
            partial.chmod(0o666 & ~_UMASK)  # as any new file has it; mkstemp gives it to nobody else
            try:
                os.replace(partial, path)  # noqa: PTH105  atomic, also over an existing file
            except FileNotFoundError:
                raise Vanished(f"{path}: cannot be written: another process has removed it on the way") from None
        except BaseException:
            with suppress(OSError):  # where it cannot be removed either, the next process to hold the run does it
                partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def refuse_failing(path: Path, what: str = "written") -> Iterator[None]:
    """Let an error of the file system be an InputError of one line: which file, and what cannot be done with it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be {what}: {error.strerror or error}") from None


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, that the disk remembers; raises InputError where it cannot be made."""
    with refuse_failing(folder, "made"):
        missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there; raises InputError where it cannot be removed."""
    with refuse_failing(path, "removed"):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the disk remember the names in a folder; on Windows, where folders cannot be opened, it does by itself."""
    if os.name == "nt":
        return
    try:
        number = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written to and not read: there is no way to do it
        return
    try:
        os.fsync(number)
    finally:
        os.close(number)


class _Aside(io.FileIO):
    """The file that is being written: the one place where bytes of a run directory go to the disk."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "wb")

    def write(self, data: Any) -> int:
        """All of it, or an error; what the system takes in parts goes out in parts."""
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view):
            written += super().write(view[written:]) or 0
        return written


def write_table(path: Path, columns: Mapping[str, Any] | pa.Table) -> None:
    """Write columns as a Parquet file."""
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    with replace_file(path) as file:
        pa.parquet.write_table(table, file, compression="zstd")


@contextmanager
def append_table(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write columns as a Parquet file in parts; the file is there once all are written, and not at all if one fails."""
    writer: Any = None
    with ExitStack() as opened:

        def append(columns: Mapping[str, Any]) -> None:
            nonlocal writer
            table = pa.table(dict(columns))
            if writer is None:
                file = opened.enter_context(replace_file(path))
                writer = opened.enter_context(pa.parquet.ParquetWriter(file, table.schema, compression="zstd"))
            writer.write_table(table)

        yield append


def write_blocks(path: Path, n: int, size: int, make: Callable[[slice], Mapping[str, Any]]) -> None:
    """Write ``n`` blocks of ``size`` rows each as one Parquet file, the columns of a few blocks made at a time.

    Of a table with millions of rows, which are mostly names that repeat, no more than about ``ROWS`` are in memory
    beside what they are made of; a smaller one is made and written at once.
    """
    together = max(1, ROWS // max(1, size))
    with append_table(path) as append:
        for start in range(0, max(1, n), together):
            append(make(slice(start, start + together)))


def write_text(path: Path, text: str) -> None:
    """Write a text file, in a folder that is made where it is missing."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole, in a folder that is made where it is missing."""
    make_folder(path.parent)
    with replace_file(path) as file:
        file.write(data)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], *, names: Sequence[str] = ()) -> None:
    """Write tidy rows as a CSV file, by default with the names of all of them; what is missing or undefined is empty.

    Raises:
        InputError: The file cannot be written.
    """
    names = names or list(dict.fromkeys(name for row in rows for name in row))

    def show(value: Any) -> Any:
        return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value

    lines = io.StringIO(newline="")
    writer = csv.writer(lines)
    writer.writerow(names)
    writer.writerows([show(row.get(name)) for name in names] for row in rows)
    write_text(path, lines.getvalue())


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes; raises InputError where it cannot be read."""
    with refuse_failing(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        what = "cannot be read" if is_failing(error) else "not a Parquet file"
        raise InputError(f"{path}: {what}: {describe_cause(error)}") from None


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
