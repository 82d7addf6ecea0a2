"""Work units <-> ``units/KIND/CONTEXT/NAME.parquet``: what a run has finished, each by what its numbers depend on.

The folder's name stands for everything that all units in it have in common, the file's for what it covers; both are
written out in the file's metadata. A unit is there whole or not at all, and never changed. A damaged one, cut short by
whatever came after us, counts as not there. One that the system cannot read, as the disk fails or gives no permission,
is an error: it may be whole, and its work is not done again in silence.

At a URL each look into a unit is a request. What units cover stands there in ``NAME.index`` files, too, many units in
each: a copy and no more, since a unit's name is the hash of what it covers, so that an index cannot lie.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from completions_lp.records import InputError, describe_cause, is_failing
from completions_lp.store.catalogue import Catalogue, Covered
from completions_lp.store.files import refuse_failing, remove_file
from completions_lp.store.remote import (
    Place,
    is_remote,
    list_folder,
    list_tree,
    open_source,
    read_file,
    write_file,
)

FOLDER = "units"
_META = b"completions_lp"
_HASH = "[0-9a-f]{32}"
_LARGEST = 2**30
"""Bytes of an index as JSON, at most: another one is none of ours."""


@dataclass(frozen=True)
class Unit:
    """A unit that is there: its name within the place, and what it covers."""

    folder: Place
    name: str
    covers: Covered
    spent: Mapping[str, int | float]
    """What it took: ``tokens`` and ``passes`` of the network, ``seconds``."""

    def read(self) -> pa.Table | None:
        """Its table; None where the file is damaged; raises InputError where the system cannot read it."""
        found = read_unit(self.folder, self.name)
        return None if found is None else found[1]


def write_unit(
    folder: Place,
    kind: str,
    context: Mapping[str, Any],
    covers: Covered,
    table: pa.Table,
    *,
    spent: Mapping[str, int | float],
) -> Unit:
    """Commit a unit; it is on the disk, or at the URL, when this returns."""
    described = {"kind": kind, "context": context, "covers": covers, "spent": spent, "columns": _list_columns(table)}
    text = json.dumps(described, sort_keys=True)
    named = table.replace_schema_metadata({_META: text.encode()})
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    how = {"compression": "zstd", "compression_level": 1, "use_dictionary": texts, "write_page_checksum": True}
    name = f"{_name_folder(kind, context)}/{hash_value(covers)}.parquet"
    write_file(folder / name, lambda file: pa.parquet.write_table(named, file, **how))
    return Unit(folder, name, covers, spent)


def read_unit(folder: Place, name: str) -> tuple[Unit, pa.Table] | None:
    """A unit by its name, with its table, in one look; None where there is none, or a damaged one.

    Raises:
        InputError: The system cannot read it.
    """
    path = folder / name
    try:
        # read_table would do, and handle signals by itself meanwhile, SIGTERM maybe as SIGINT.
        with pa.parquet.ParquetFile(open_source(path), page_checksum_verification=True) as file:
            described = _check_metadata(file.schema_arrow.metadata, path.stem)
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        _refuse_unreadable(path, error)
        return None
    # Names and types of columns are protected by no checksum of a page.
    if described is None or _list_columns(table) != described["columns"]:
        return None
    return Unit(folder, name, described["covers"], described["spent"]), table


def find_units(folder: Place, kind: str, context: Mapping[str, Any]) -> Catalogue:
    """The units of a kind whose numbers depend on the same; those that are seen to be damaged are left out.

    In one listing; then a look into each file of a folder, at a URL into indices and what is in none of them.
    """
    within = _name_folder(kind, context)
    names = list_folder(folder / within)
    found = Catalogue()
    missing = {name.removesuffix(".parquet") for name in names if re.fullmatch(rf"{_HASH}\.parquet", name)}
    indices = [name for name in names if re.fullmatch(rf"{_HASH}\.index", name)] if is_remote(folder) else []
    for index in indices:
        for covers in _read_index(folder / within / index):
            name = hash_value(covers)
            if name in missing:
                missing.remove(name)
                found.add(f"{within}/{name}.parquet", covers)
    for name in sorted(missing):
        seen = _look_into(folder / within / f"{name}.parquet")
        if seen is not None:
            found.add(f"{within}/{name}.parquet", seen)
    return found


def write_index(folder: Place, kind: str, context: Mapping[str, Any], covered: Sequence[Covered]) -> None:
    """Write what some units cover, so that it need not be read from each of them; conditions that are alike once."""
    others: dict[str, int] = {}
    units = []
    for covers in covered:
        rest = json.dumps({key: value for key, value in covers.items() if key != "items"}, sort_keys=True)
        units.append([others.setdefault(rest, len(others)), list(covers["items"])])
    text = json.dumps({"others": list(map(json.loads, others)), "units": units}).encode()
    name = hash_value([hash_value(covers) for covers in covered])
    write_file(folder / _name_folder(kind, context) / f"{name}.index", lambda file: file.write(zlib.compress(text, 1)))


def open_units(folder: Place, kind: str, names: Sequence[str]) -> list[Unit]:
    """Those of a kind among units that are named; damaged ones, and names that are none of ours, are left out."""
    ours = [name for name in sorted({*names}) if re.fullmatch(rf"{FOLDER}/{kind}/{_HASH}/{_HASH}\.parquet", name)]
    found = [(name, _look_into(folder / name)) for name in ours]
    return [Unit(folder, name, covers, {}) for name, covers in found if covers is not None]


def list_units(folder: Place) -> dict[str, int]:
    """The names of all units of a run directory or a store, whatever they are of, in order, with their bytes."""
    found = list_tree(folder / FOLDER)
    ours = [name for name in sorted(found) if re.fullmatch(rf"[^/]+/{_HASH}/{_HASH}\.parquet", name)]
    return {f"{FOLDER}/{name}": found[name] for name in ours}


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


def _name_folder(kind: str, context: Mapping[str, Any]) -> str:
    return f"{FOLDER}/{kind}/{hash_value(context)}"


def _look_into(path: Place) -> Covered | None:
    """What a unit covers; None where there is none, or a damaged one."""
    try:
        found = _check_metadata(pa.parquet.read_schema(open_source(path, tail=True)).metadata, path.stem)
    except (pa.ArrowException, OSError) as error:
        _refuse_unreadable(path, error)
        return None
    return None if found is None else found["covers"]


def _check_metadata(metadata: Mapping[bytes, bytes] | None, name: str) -> dict[str, Any] | None:
    """What a unit says of itself; None where it is not of this name, or no unit."""
    try:
        described: dict[str, Any] = json.loads((metadata or {})[_META])
        covers, known = described["covers"], described.keys() >= {"spent", "columns"}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return described if known and _is_covered(covers) and hash_value(covers) == name else None


def _read_index(path: Place) -> Iterator[Covered]:
    """What units cover by an index; none where it is damaged, as it may be: units say it themselves."""
    content = read_file(path)
    try:
        unpack = zlib.decompressobj()
        text = unpack.decompress(content or b"", _LARGEST)
        said = json.loads(text)
        found = [{**said["others"][number], "items": items} for number, items in said["units"]]
    except (zlib.error, KeyError, ValueError, TypeError, IndexError, RecursionError):
        return
    yield from filter(_is_covered, found)


def _is_covered(covers: Any) -> bool:
    """Whether this can be what a unit covers: items by name, and lists of conditions or samples."""
    if not isinstance(covers, dict) or not all(isinstance(value, list) for value in covers.values()):
        return False
    return "items" in covers and all(isinstance(item, str) for item in covers["items"])


def _refuse_unreadable(path: Place, error: Exception) -> None:
    if is_failing(error) and not isinstance(error, FileNotFoundError | IsADirectoryError):  # which is no unit
        raise InputError(
            f"{path}: cannot be read: {describe_cause(error)}; once it can, the same command goes on; if it is lost, "
            "remove it, and its work is done again"
        ) from None


def _list_columns(table: pa.Table) -> list[list[str]]:
    types = {field.name: field.type for field in table.schema}
    lists = {name: f"list of {kind.value_type}" for name, kind in types.items() if pa.types.is_list(kind)}
    return [[name, lists.get(name, str(kind))] for name, kind in types.items()]  # what a list calls its parts varies
