"""Files and hub datasets -> rows, each with the place where a person finds it."""

import csv
import io
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from completions_lp.records import InputError

READERS = {".json": "from_json", ".jsonl": "from_json", ".csv": "from_csv", ".parquet": "from_parquet"}


@dataclass(frozen=True)
class Row:
    """One row of a file or dataset, and its place for error messages."""

    fields: Mapping[str, Any]
    where: str


def read_rows(source: str | Path, *, split: str = "train", revision: str | None = None) -> list[Row]:
    """All rows of a ``.json``, ``.jsonl``, ``.csv`` or ``.parquet`` file, or of a hub dataset.

    Raises:
        InputError: The source is missing, malformed or empty; for JSON with the line at fault.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() in READERS:
        return _read_file(path)
    if path.exists() or str(source).startswith((".", "/", "~")) or str(source).count("/") > 1:
        found = "not a file of a known kind" if path.exists() else "no such file"
        raise InputError(f"{source}: {found}; prompts and pairs are {', '.join(READERS)} files or hub datasets")
    return _read_hub(str(source), split, revision)


def _read_file(path: Path) -> list[Row]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not path.read_bytes().strip():
        raise InputError(f"{path}: the file is empty")
    kind = path.suffix.lower()
    places = {".csv": _check_csv, ".parquet": _check_parquet}.get(kind, _check_json)(path)
    if not places:
        raise InputError(f"{path}: the file has no rows")
    import datasets

    # Empty cells stay empty text: pandas would also take an answer such as "None" or "NA" for a missing one.
    options = {"keep_default_na": False} if kind == ".csv" else {}
    with tempfile.TemporaryDirectory() as cache, _silence(datasets):  # a lasting cache may serve an older state
        read = getattr(datasets.Dataset, READERS[kind])
        try:
            rows = list(read(str(path), cache_dir=cache, keep_in_memory=True, **options))
        except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
            raise InputError(f"{path}: not readable as {kind[1:]}: {_cause(error)}") from None
    return [Row(fields, f"{path}, {place}") for fields, place in zip(rows, places, strict=True)]


def _read_hub(name: str, split: str, revision: str | None) -> list[Row]:
    import datasets

    try:
        with _silence(datasets):
            table = datasets.load_dataset(name, split=split, revision=revision)
    except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
        raise InputError(
            f"{name!r} is neither a local file nor a dataset that the hub gives: {_cause(error)}"
        ) from None
    return [Row(fields, f"{name}[{split}], row {i + 1}") for i, fields in enumerate(table)]


def _check_json(path: Path) -> list[str]:
    """The place of every row; raises InputError at the first that is none: the reader only says that there is one."""
    text = _read_text(path)
    if path.suffix.lower() == ".json":
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":  # else these are JSON Lines under another name
                raise _not_json(path, 1, error) from None
        else:
            values = value if isinstance(value, list) else [value]
            return [_check_object(path, f"row {i}", row) for i, row in enumerate(values, start=1)]
    places = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            places.append(_check_object(path, f"line {number}", json.loads(line)))
        except json.JSONDecodeError as error:
            raise _not_json(path, number, error) from None
    return places


def _check_object(path: Path, place: str, row: Any) -> str:
    if not isinstance(row, dict):
        raise InputError(f"{path}, {place}: expected an object with named fields, got {type(row).__name__}")
    return place


def _not_json(path: Path, line: int, error: json.JSONDecodeError) -> InputError:
    return InputError(f"{path}, line {line + error.lineno - 1}: not valid JSON: {error.msg} (column {error.colno})")


def _check_csv(path: Path) -> list[str]:
    """The place of every row; raises InputError at the first of another length than the header, which would shift."""
    reader = csv.reader(io.StringIO(_read_text(path), newline=""))
    header = next(reader)
    places: list[str] = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            raise InputError(
                f"{path}, line {reader.line_num}: {len(cells)} cells where the header has {len(header)}; quote a cell "
                "that has commas or line breaks"
            )
        places.append(f"row {len(places) + 1}")
    return places


def _check_parquet(path: Path) -> list[str]:
    try:
        n = pyarrow.parquet.read_metadata(path).num_rows
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a Parquet file: {error}") from None
    return [f"row {number + 1}" for number in range(n)]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from None


def _cause(error: BaseException) -> str:
    message = str(error.__cause__ or error)
    return message.splitlines()[0] if message else type(error).__name__


@contextmanager
def _silence(datasets: Any) -> Iterator[None]:
    """Switch the progress bars and the log of ``datasets`` off, and back: its errors are ours to tell."""
    was_on, level = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if was_on:
            datasets.enable_progress_bars()
