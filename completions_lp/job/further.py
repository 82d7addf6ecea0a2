"""Several vectors in one run: [[vector]] tables, or a list of paths. The first is the run's own, the others further."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from completions_lp.records import InputError

FURTHER = "further"
"""The section in which a configuration keeps all vectors but the first."""


def split_vectors(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values in which [vector] is the first of those that are given, and the others are ``further``.

    A list of paths stands for as many vectors that have all other keys in common.

    Raises:
        InputError: There is none, or paths share a name.
    """
    given = values.get("vector")
    tables = list(given) if isinstance(given, list | tuple) else [given]
    spread = [one for table in tables for one in _spread(table)]
    if not spread:
        raise InputError("[[vector]] has no table and no path; give at least one, or leave it out for the default")
    if len(tables) == len(spread) == 1 and not isinstance(given, list | tuple):
        return {**values, **({} if spread == [None] else {"vector": spread[0]})}
    return {**values, "vector": spread[0], FURTHER: spread[1:]}


def _spread(table: Any) -> Iterator[Any]:
    paths = table.get("path") if isinstance(table, Mapping) else None
    if not isinstance(paths, list | tuple):
        yield table
        return
    if table.get("name") is not None and len(paths) > 1:
        raise InputError(
            f"[vector] path lists {len(paths)} files, and they cannot all be called {str(table['name'])[:80]!r}: leave "
            "name out, or write a [[vector]] table for each"
        )
    for path in paths:
        yield {**table, "path": path}


def check_distinct(names: Sequence[str]) -> None:
    """Raise InputError where two vectors of a run would have one name."""
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(
            f"{names.count(twice[0])} vectors are called {twice[0]!r}: names tell them apart; write a [[vector]] table "
            'for each, with a name = "..." of its own'
        )


def name_pairs(name: str | None, pairs: str) -> str:
    """What a vector of contrast pairs is called: as it is told, or after the file of its pairs."""
    return name or Path(pairs).stem
