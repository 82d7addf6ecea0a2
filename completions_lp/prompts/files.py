"""Files and hub datasets -> rows, each with the place where a person finds it."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    import datasets

    kind = path.suffix.lower()
    with tempfile.TemporaryDirectory() as cache, _silence(datasets):  # a lasting cache may serve an older state
        read = getattr(datasets.Dataset, READERS[kind])
        try:
            rows = list(read(str(path), cache_dir=cache, keep_in_memory=True))
        except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
            raise InputError(_find_fault(path) or f"{path}: not readable as {kind[1:]}: {_cause(error)}") from None
    if kind == ".jsonl":
        lines = path.read_text(encoding="utf-8").split("\n")
        places = [f"line {number}" for number, line in enumerate(lines, start=1) if line.strip()]
    else:
        places = [f"row {number + 1}" for number in range(len(rows))]
    return [Row(fields, f"{path}, {place}") for fields, place in zip(rows, places, strict=True)]


def _read_hub(name: str, split: str, revision: str | None) -> list[Row]:
    import datasets

    try:
        table = datasets.load_dataset(name, split=split, revision=revision)
    except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
        raise InputError(
            f"{name!r} is neither a local file nor a dataset that the hub gives: {_cause(error)}"
        ) from None
    return [Row(fields, f"{name}[{split}], row {i + 1}") for i, fields in enumerate(table)]


def _find_fault(path: Path) -> str | None:
    """Which line of a JSON file is at fault, and why: the reader itself only says that one is."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return f"{path}: not UTF-8 text (byte {error.start})"
    if path.suffix.lower() not in (".json", ".jsonl"):
        return None
    whole = path.suffix.lower() == ".json" and text.lstrip().startswith("[")
    for start, piece in [(1, text)] if whole else enumerate(text.split("\n"), start=1):
        if not piece.strip():
            continue
        try:
            value = json.loads(piece)
        except json.JSONDecodeError as error:
            return f"{path}, line {start + error.lineno - 1}: not valid JSON: {error.msg} (column {error.colno})"
        for i, row in enumerate(value if whole else [value]):
            if not isinstance(row, dict):
                place = f"item {i + 1}" if whole else f"line {start}"
                return f"{path}, {place}: expected an object with named fields, got {type(row).__name__}"
    return None


def _cause(error: BaseException) -> str:
    message = str(error.__cause__ or error)
    return message.splitlines()[0] if message else type(error).__name__


@contextmanager
def _silence(datasets: Any) -> Iterator[None]:
    """Switch the progress bars of ``datasets`` off, and back to what they were."""
    was_on = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if was_on:
            datasets.enable_progress_bars()
