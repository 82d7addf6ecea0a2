"""Files and hub datasets -> rows, each with the place where a person finds it."""

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from completions_lp.prompts.parquet import choose_columns, list_rows, read_parquet
from completions_lp.prompts.text import read_json, read_table
from completions_lp.records import InputError, describe_cause, read_text
from completions_lp.records.sources import find_file

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")
HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
"""Names of hub datasets: OWNER/NAME. A bare name such as ``json`` would let ``datasets`` look for files around it."""


@dataclass(frozen=True)
class Row:
    """One row of a file or dataset, and its place for error messages."""

    fields: Mapping[str, Any]
    where: str
    names: tuple[str, ...] = ()
    """All columns of its file where only some are read; else the fields are all."""

    def list_names(self) -> str:
        """The columns, for error messages."""
        return ", ".join(map(str, self.names or self.fields)) or "none"


def read_rows(
    source: str | Path | Iterable[Mapping[str, Any]],
    columns: Collection[str],
    *,
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
) -> list[Row]:
    """All rows of a ``.json``, ``.jsonl``, ``.csv``, ``.tsv`` or ``.parquet`` file, of a hub dataset, or as given.

    A file is read by plain readers, and exactly the one that is named. Of Parquet files and datasets only the
    ``columns`` are read that they have, as they are stored: no image or sound is opened.

    Raises:
        InputError: The source is missing, malformed, too large or empty; for JSON with the line at fault.
    """
    if not isinstance(source, str | Path):
        return _read_given(source, columns)
    if Path(source).suffix.lower() in SUFFIXES:
        return _read_file(Path(source), columns)
    if not is_of_hub(source):
        known = f"prompts and pairs are {', '.join(SUFFIXES)} files or hub datasets (OWNER/NAME)"
        try:
            find_file(source)
        except InputError as error:
            raise InputError(f"{error}; {known}") from None
        raise InputError(f"{source}: not a file of a known kind; {known}")
    return _read_hub(str(source), columns, subset, split, revision)


def is_of_hub(source: str | Path) -> bool:
    """Whether a source is taken for the name of a hub dataset; else it is a file, or a mistake."""
    path = Path(source)
    return path.suffix.lower() not in SUFFIXES and HUB.fullmatch(str(source)) is not None and not path.exists()


def _read_file(source: Path, columns: Collection[str]) -> list[Row]:
    kind = source.suffix.lower()
    path = find_file(source)
    if kind == ".parquet":
        stored, names = read_parquet(path, columns)
        rows = [Row(fields, f"{path}, row {i}", names) for i, fields in enumerate(stored, start=1)]
    else:
        text = read_text(path)
        if not text.strip():
            raise InputError(f"{path}: the file is empty")
        found = (read_json if kind.startswith(".json") else read_table)(path, text, columns)
        rows = [Row(fields, f"{path}, {place}") for place, fields in found]
    if not rows:
        raise InputError(f"{path}: the file has no rows")
    return rows


def _read_given(source: Any, columns: Collection[str]) -> list[Row]:
    """Rows of a dataset of ``datasets``, of which only the columns are read that are needed, or of mappings."""
    names: tuple[str, ...] = ()
    if hasattr(source, "select_columns") and isinstance(source.column_names, list):
        names = tuple(source.column_names)
        source = source.select_columns([name for name in names if name in columns])
    rows = []
    for i, fields in enumerate(source, start=1):
        if not isinstance(fields, Mapping):
            raise InputError(f"row {i}: expected a dictionary with named fields, got {type(fields).__name__}")
        rows.append(Row(fields, f"row {i}", names))
    if not rows:
        raise InputError("no rows are given; at least one is needed")
    return rows


def _read_hub(name: str, columns: Collection[str], subset: str | None, split: str, revision: str | None) -> list[Row]:
    import datasets

    try:
        with _silence(datasets):
            table = datasets.load_dataset(name, subset, split=split, revision=revision).data.table
        chosen, names = choose_columns(table.schema, columns)
        found = list_rows(table.select(list(dict.fromkeys(leaf.partition(".")[0] for leaf in chosen))))
    except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
        raise InputError(
            f"{name!r} is neither a local file nor a dataset that the hub gives: "
            f"{describe_cause(error.__cause__ or error)}"
        ) from None
    return [Row(fields, f"{name}[{split}], row {i}", names) for i, fields in enumerate(found, start=1)]


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
