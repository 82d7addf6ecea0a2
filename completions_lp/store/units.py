"""Work units <-> ``units/KIND/CONTEXT/NAME.parquet``: what a run has finished, each by what its numbers depend on.

The folder's name stands for everything that all units in it have in common, the file's for what it covers; both are
written out in the file's metadata. A unit is there whole or not at all, and never changed. A damaged one, cut short by
whatever came after us, counts as not there. One that the system cannot read, as the disk fails or gives no permission,
is an error: it may be whole, and its work is not done again in silence.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from completions_lp.records import InputError, describe_cause, is_failing
from completions_lp.store.files import make_folder, refuse_failing, remove_file, replace_file

FOLDER = "units"
_META = b"completions_lp"
_NAME = re.compile(r"[0-9a-f]{32}")

Covered = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Unit:
    """A unit that is there: its name within the run directory, and what it covers."""

    folder: Path
    name: str
    covers: Covered
    spent: Mapping[str, int | float]
    """What it took: ``tokens`` and ``passes`` of the network, ``seconds``."""
    columns: Sequence[Sequence[str]]
    """Names and types of the columns of its table, which no checksum of a page protects."""

    def read(self) -> pa.Table | None:
        """Its table; None where the file is damaged; raises InputError where the system cannot read it."""
        path = self.folder / self.name
        try:
            # read_table would do, and handle signals by itself meanwhile, SIGTERM maybe as SIGINT.
            with pa.parquet.ParquetFile(path, page_checksum_verification=True) as file:
                table = file.read()
        except (pa.ArrowException, OSError) as error:
            _refuse_unreadable(path, error)
            return None
        return table if _list_columns(table) == self.columns else None


def write_unit(
    folder: Path,
    kind: str,
    context: Mapping[str, Any],
    covers: Covered,
    table: pa.Table,
    *,
    spent: Mapping[str, int | float],
) -> Unit:
    """Commit a unit; it is on the disk when this returns."""
    described = {"kind": kind, "context": context, "covers": covers, "spent": spent, "columns": _list_columns(table)}
    text = json.dumps(described, sort_keys=True)
    place = folder / FOLDER / kind / hash_value(context)
    make_folder(place)
    path = place / f"{hash_value(covers)}.parquet"
    with replace_file(path) as file:
        named = table.replace_schema_metadata({_META: text.encode()})
        texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
        pa.parquet.write_table(
            named, file, compression="zstd", compression_level=1, use_dictionary=texts, write_page_checksum=True
        )
    return Unit(folder, path.relative_to(folder).as_posix(), covers, spent, _list_columns(table))


def find_units(folder: Path, kind: str, context: Mapping[str, Any]) -> list[Unit]:
    """The units of a kind whose numbers depend on the same, by name; damaged ones are left out."""
    place = folder / FOLDER / kind / hash_value(context)
    return [unit for path in sorted(place.glob("*.parquet")) for unit in _look_into(folder, path)]


def open_units(folder: Path, kind: str, names: Sequence[str]) -> list[Unit]:
    """Those of a kind among units that are named; damaged ones, and names that are none of ours, are left out."""
    ours = [name for name in list_units(folder) if name in {*names} and name.startswith(f"{FOLDER}/{kind}/")]
    return [unit for name in ours for unit in _look_into(folder, folder / name)]


def list_units(folder: Path) -> list[str]:
    """The names of all units of a run directory, whatever they are of."""
    paths = (folder / FOLDER).glob("*/*/*.parquet")
    ours = [path for path in paths if _NAME.fullmatch(path.stem) and _NAME.fullmatch(path.parent.name)]
    return sorted(path.relative_to(folder).as_posix() for path in ours)


def remove_units(folder: Path, names: Sequence[str]) -> int:
    """Remove units, and the folders that are empty then; returns the bytes that this frees."""
    freed = 0
    for path in (folder / name for name in names):
        with refuse_failing(path, "removed"):
            freed += path.stat().st_size
            remove_file(path)
            for parent in list(path.parents)[:3]:
                if not any(parent.iterdir()):
                    parent.rmdir()
    return freed


def hash_value(value: Any) -> str:
    """32 hexadecimal digits that stand for a value as JSON has it."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _look_into(folder: Path, path: Path) -> Iterator[Unit]:
    try:
        described = json.loads((pa.parquet.read_schema(path).metadata or {})[_META])
        covers, spent, columns = (described[name] for name in ("covers", "spent", "columns"))
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        _refuse_unreadable(path, error)
        return
    if isinstance(covers, dict) and hash_value(covers) == path.stem:
        yield Unit(folder, path.relative_to(folder).as_posix(), covers, spent, columns)


def _refuse_unreadable(path: Path, error: Exception) -> None:
    if is_failing(error) and not isinstance(error, FileNotFoundError | IsADirectoryError):  # which is no unit
        raise InputError(
            f"{path}: cannot be read: {describe_cause(error)}; once it can, the same command goes on; if it is lost, "
            "remove it, and its work is done again"
        ) from None


def _list_columns(table: pa.Table) -> list[list[str]]:
    types = {field.name: field.type for field in table.schema}
    lists = {name: f"list of {kind.value_type}" for name, kind in types.items() if pa.types.is_list(kind)}
    return [[name, lists.get(name, str(kind))] for name, kind in types.items()]  # what a list calls its parts varies
