"""Doses <-> ``doses.parquet`` and ``doses.csv``: one row per condition, those that could not be reached among them."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from completions_lp.records import Dose, InputError
from completions_lp.store.files import read_table, write_rows, write_table
from completions_lp.store.keys import CONDITION_KINDS, make_condition

Rows = Sequence[Mapping[str, Any]]

_TEXT, _REAL, _WHOLE = pa.string(), pa.float64(), pa.int64()
DOSES = pa.schema(
    {
        **{"vector": _TEXT, "kind": _TEXT, "layer": _WHOLE, "layers": _TEXT, "operation": _TEXT, "positions": _TEXT},
        **{"dose": _REAL, "unit": _TEXT, "multiplier": _REAL, "relative_dose": _REAL},
        **{"kl_per_token": _REAL, "kl_se": _REAL, "n_prompts": _WHOLE, "reason": _TEXT},
    }
)
_KINDS = {**CONDITION_KINDS, "unit": "text", "n_prompts": "whole", "reason": "text"}
_KINDS |= dict.fromkeys(("relative_dose", "kl_per_token", "kl_se"), "number")


def write_doses(folder: Path, doses: Sequence[Dose], *, escape: Callable[[Rows], Rows]) -> None:
    """Write both; ``escape`` makes rows safe for a CSV file."""
    rows = []
    for dose in doses:
        row = {**dose.condition.columns, "unit": dose.unit, "n_prompts": dose.n_prompts, "reason": dose.reason}
        numbers = {"relative_dose": dose.relative, "kl_per_token": dose.kl_per_token, "kl_se": dose.kl_se}
        if dose.reason:
            numbers["multiplier"] = math.nan
        rows.append({**row, **{name: None if math.isnan(value) else value for name, value in numbers.items()}})
    table = pa.Table.from_pylist(rows, schema=DOSES)
    write_table(folder / "doses.parquet", table)
    write_rows(folder / "doses.csv", escape(table.to_pylist()), names=table.column_names)


def read_doses(folder: Path) -> tuple[Dose, ...]:
    """Read ``doses.parquet``; none where a run of an earlier version wrote none.

    Raises:
        InputError: It was changed since it was written.
    """
    path = folder / "doses.parquet"
    if not path.is_file():
        return ()
    found = []
    for row in read_table(path, "score", _KINDS).to_pylist():
        if row["unit"] not in ("vector", "residual", "kl"):
            raise InputError(
                f"{path}: unit {row['unit']!r} is none of vector, residual and kl; run the score stage again"
            )
        if row["reason"]:
            row["multiplier"] = row["dose"]
        try:
            condition = make_condition(row)
        except InputError as error:
            raise InputError(f"{path}: {error}; run the score stage again") from None
        numbers = row["relative_dose"], row["kl_per_token"], row["kl_se"]
        found.append(Dose(condition, row["unit"], *numbers, row["n_prompts"], row["reason"]))
    return tuple(found)
