"""JSON, JSON Lines, CSV and TSV files -> rows, each with its place, by the plain readers of the standard library.

What a file says is kept as it says it: every CSV cell is text (``001`` stays ``001``), no number is rounded. What would
go wrong later, such as half of a surrogate pair, which no UTF-8 table can hold, is refused here, with its place.
"""

import csv
import io
import json
import re
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from completions_lp.records import InputError, describe_cause

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape of JSON that half a surrogate pair may come from."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""Of the cells of a table of text; the first is what CSV stands for."""
_limit = threading.Lock()


class _RefusedError(ValueError):
    """JSON that other readers would take one way or another."""


def read_json(path: Path, text: str, columns: Collection[str]) -> list[tuple[str, dict[str, Any]]]:
    """Place and fields of every row: a list of objects, also inside an object, or JSON Lines under either name."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if path.suffix.lower() == ".json":
        try:
            value = _parse(text, f"{path}")
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":  # else these are JSON Lines under another name
                raise _not_json(path, 1, error) from None
        else:
            values = value if isinstance(value, list) else _unwrap(value, columns)
            return [_check_object(path, f"row {i}", row) for i, row in enumerate(values, start=1)]
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _parse(line, f"{path}, line {number}")
        except json.JSONDecodeError as error:
            raise _not_json(path, number, error) from None
        rows.append(_check_object(path, f"line {number}", row))
    return rows


def read_table(path: Path, text: str, columns: Collection[str]) -> list[tuple[str, dict[str, Any]]]:
    """Place and cells of every row of a CSV or TSV; raises InputError at the first of another length than the header.

    The header says what separates cells: see ``find_separator``.
    """
    rows: list[tuple[str, dict[str, Any]]] = []
    with _long_cells(len(text)):
        separator = "\t" if path.suffix.lower() == ".tsv" else find_separator(text, columns)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                twice = next(name for name in header if header.count(name) > 1)
                raise InputError(f"{path}: the column {twice!r} stands twice in the header; rename one")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise InputError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells where the header has {len(header)}; "
                        f"quote a cell that has {SEPARATORS[separator]} or line breaks"
                    )
                rows.append((f"row {len(rows) + 1}", dict(zip(header, cells, strict=True))))
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: not readable as CSV: {describe_cause(error)}") from None
    return rows


def find_separator(text: str, columns: Collection[str]) -> str:
    """What separates the cells of a CSV by its header alone: a comma, unless another sign finds more of the columns.

    Where no sign finds any, that is a comma, too, unless the header has none and another sign.
    """
    found = {}
    for separator in SEPARATORS:
        try:
            header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        except csv.Error:
            header = []  # which the comma will tell
        found[separator] = len({*header} & {*columns}), len(header) > 1
    return max(SEPARATORS, key=lambda separator: found[separator])


def _parse(text: str, where: str) -> Any:
    """A JSON value; raises JSONDecodeError where it is none, InputError where it is one that cannot be kept."""
    try:
        value = json.loads(text, object_pairs_hook=_refuse_doubles, parse_constant=_refuse_constant)
        if SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise InputError(f"{where}: nested too deeply; an object with named fields is needed") from None
    except UnicodeEncodeError:
        raise InputError(f"{where}: has half of a surrogate pair (such as \\ud800), which is no character") from None
    except _RefusedError as error:
        raise InputError(f"{where}: {error}") from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise InputError(f"{where}: has a number of thousands of digits; write it as text") from None
    return value


def _unwrap(value: Any, columns: Collection[str]) -> list[Any]:
    """The rows of ``{"data": [...]}``, whatever its one list of objects is called; else the value is the one row.

    What one of the columns is called, such as the turns of a chat, is no list of rows.
    """
    lists = [
        item
        for name, item in (value.items() if isinstance(value, dict) else ())
        if isinstance(item, list) and item and name not in columns and all(isinstance(row, dict) for row in item)
    ]
    return lists[0] if len(lists) == 1 else [value]


def _refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RefusedError(f"the field {next(n for n in names if names.count(n) > 1)!r} stands twice in an object")
    return fields


def _refuse_constant(name: str) -> Any:
    raise _RefusedError(f"{name} is not JSON; leave the field out or write text")


def _check_object(path: Path, place: str, row: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(row, dict):
        raise InputError(f"{path}, {place}: expected an object with named fields, got {type(row).__name__}")
    return place, row


def _not_json(path: Path, line: int, error: json.JSONDecodeError) -> InputError:
    return InputError(f"{path}, line {line + error.lineno - 1}: not valid JSON: {error.msg} (column {error.colno})")


@contextmanager
def _long_cells(longest: int) -> Iterator[None]:
    """Let ``csv`` read cells of any length, which it does not by default, and set its limit back."""
    with _limit:
        before = csv.field_size_limit(max(longest, 1))
        try:
            yield
        finally:
            csv.field_size_limit(before)
