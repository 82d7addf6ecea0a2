"""Report -> the numbers of the paper."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from completions_lp.records import (
    Condition,
    Estimate,
    Inference,
    InputError,
    OffTargetRow,
    ProfileRow,
    Report,
    RivalRow,
    VectorRow,
)
from completions_lp.store.files import read_table, write_rows, write_table, write_text
from completions_lp.store.keys import CONDITION_TYPES, make_condition

Rows = Sequence[Mapping[str, Any]]

_TEXT, _REAL, _WHOLE = pa.string(), pa.float64(), pa.int64()
_CONDITION = {name: CONDITION_TYPES[name] for name in ("vector", "kind", "layer", "multiplier")}
_VALUE = {"value": _REAL, "low": _REAL, "high": _REAL, "level": _REAL, "unit": _TEXT, "method": _TEXT}
_HOW = {name: kind for name, kind in CONDITION_TYPES.items() if name not in _CONDITION}
_BEHIND = {"n_clusters": _WHOLE, **_HOW, "se": _REAL, "df": _REAL}
_DOSE = {"relative_dose": _REAL, "kl_per_token": _REAL}
"""What a cell costs, beside its multiplier."""
SUMMARY = pa.schema(
    {
        **_CONDITION,
        **{"quantity": _TEXT, "weighting": _TEXT},
        **_VALUE,
        **{"n_prompts": _WHOLE, "n_dropped": _WHOLE},
        **_BEHIND,
        "split": _TEXT,
        **_DOSE,
        **{field.name: _REAL for field in fields(Inference)},
    }
)
"""Columns of the summary; declared, since a column of missing intervals has no type of its own."""
PROFILE = pa.schema({**_CONDITION, "offset": _WHOLE, **_VALUE, "n_prompts": _WHOLE, "n_completions": _WHOLE, **_BEHIND})
_SLOPE = {"vector": _TEXT, "kind": _TEXT, "layer": _WHOLE, "quantity": _TEXT}
_SLOPED = {name: kind for name, kind in _BEHIND.items() if name != "dose"}
SLOPES = pa.schema(
    {**_SLOPE, **_VALUE, "below_zero": _REAL, "n_prompts": _WHOLE, **_SLOPED, "multipliers": pa.list_(_REAL)}
)

SWAPS = pa.schema(
    {
        **{**_CONDITION, "quantity": _TEXT, "part": _TEXT},
        **{**_VALUE, "n_pairs": _WHOLE, "n_dropped": _WHOLE, **_BEHIND, **_DOSE},
    }
)
_MEANS = {"steered": "steered", "rival": "rivalled"}
"""Columns of the two means that a rival's row has beside their difference, and the fields that they are of."""
RIVALS = pa.schema(
    {
        **{"rival": _TEXT, **_CONDITION, "quantity": _TEXT, "split": _TEXT},
        **_VALUE,
        **{f"{name}_{end}": _REAL for name in _MEANS for end in ("value", "low", "high")},
        **{"n_prompts": _WHOLE, "n_dropped": _WHOLE, **_BEHIND, **_DOSE},
    }
)
_AGAINST = {name: kind for name, kind in CONDITION_TYPES.items() if name not in ("kind", "positions")}
VECTORS = pa.schema(
    {
        **{**_CONDITION, "quantity": _TEXT, "split": _TEXT},
        **_VALUE,
        **{f"against_{name}": kind for name, kind in _AGAINST.items()},
        **{f"{name}_{end}": _REAL for name in ("reference", "difference") for end in ("value", "low", "high")},
        **{"n_prompts": _WHOLE, "n_dropped": _WHOLE, **_BEHIND, "difference_se": _REAL, "difference_df": _REAL},
        **_DOSE,
    }
)
OFF_TARGET = pa.schema(
    {
        **{"set": _TEXT, **_CONDITION, "quantity": _TEXT},
        **_VALUE,
        "effect_quantity": _TEXT,
        **{f"effect_{end}": _REAL for end in ("value", "low", "high")},
        **{"n_prompts": _WHOLE, "n_dropped": _WHOLE, **_BEHIND, **_DOSE},
    }
)

SEEDS = pa.schema(
    {
        **_CONDITION,
        "quantity": _TEXT,
        "seed": _WHOLE,
        "value": _REAL,
        "unit": _TEXT,
        "n_prompts": _WHOLE,
        **_HOW,
        **_DOSE,
    }
)


def write_report(
    folder: Path,
    report: Report,
    text: str,
    *,
    doses: Mapping[Condition, Mapping[str, float]],
    escape: Callable[[Rows], Rows],
) -> None:
    """Write ``prompts.parquet``, summary, slopes and, where there are any, swaps, rivals, vectors, seeds, and the text.

    ``doses`` are columns by condition, which stand beside it in every table; ``escape`` makes rows safe for a CSV file.
    """
    write_table(folder / "prompts.parquet", dict(report.prompts))

    def place(condition: Condition) -> dict[str, Any]:
        return {**condition.columns, **_drop_nan(doses.get(condition, {}))}

    rows = [
        {**vars(row), **place(row.condition), **_flatten(row.estimate), **_drop_nan(asdict(row.inference))}
        for row in report.rows
    ]
    _write_both(folder, "summary", pa.Table.from_pylist(rows, schema=SUMMARY), escape)
    slopes = [{**asdict(slope), **_flatten(slope.estimate)} for slope in report.slopes]
    _write_both(folder, "slopes", pa.Table.from_pylist(slopes, schema=SLOPES), escape)
    if report.swaps:
        swaps = [{**vars(swap), **place(swap.condition), **_flatten(swap.estimate, "n_pairs")} for swap in report.swaps]
        _write_both(folder, "swaps", pa.Table.from_pylist(swaps, schema=SWAPS), escape)
    if report.seeds:
        seeds = [{**vars(one), **place(one.condition)} for one in report.seeds]
        _write_both(folder, "seeds", pa.Table.from_pylist(seeds, schema=SEEDS), escape)
    if report.rivals:
        rivals = [{**_flatten_rival(row), **place(row.condition)} for row in report.rivals]
        _write_both(folder, "rivals", pa.Table.from_pylist(rivals, RIVALS), escape)
    if report.vectors:
        vectors = [{**_flatten_vector(row), **place(row.condition)} for row in report.vectors]
        _write_both(folder, "vectors", pa.Table.from_pylist(vectors, VECTORS), escape)
    if report.off_target:
        sets = [{**_flatten_set(row), **place(row.condition)} for row in report.off_target]
        _write_both(folder, "off_target", pa.Table.from_pylist(sets, OFF_TARGET), escape)
    write_text(folder / "report.md", text)


def write_profile(folder: Path, profile: Sequence[ProfileRow]) -> None:
    """Write ``profile.parquet``: the mean increase of the tokens by their place relative to the answer's."""
    rows = [{**vars(row), **row.condition.columns, **_flatten(row.estimate)} for row in profile]
    write_table(folder / "profile.parquet", pa.Table.from_pylist(rows, schema=PROFILE))


def read_profile(folder: Path) -> tuple[ProfileRow, ...]:
    """Read ``profile.parquet``; raises InputError where it is missing or was changed since it was written."""
    path = folder / "profile.parquet"
    kinds = {
        name: {_TEXT: "text", _REAL: "number", _WHOLE: "whole"}[PROFILE.field(name).type] for name in PROFILE.names
    }
    rows = read_table(path, "score", kinds).to_pylist()
    try:
        conditions = [make_condition(row) for row in rows]
    except InputError as error:
        raise InputError(f"{path}: {error}; run the score stage again") from None
    return tuple(
        ProfileRow(condition, row["offset"], _unflatten(row), row["n_completions"])
        for condition, row in zip(conditions, rows, strict=True)
    )


def _flatten(estimate: Estimate, count: str = "n_prompts") -> dict[str, Any]:
    columns = _drop_nan(asdict(estimate))
    return {count if name == "n" else name: value for name, value in columns.items()}


def _flatten_rival(row: RivalRow) -> dict[str, Any]:
    means = {
        f"{name}_{end}": _drop_nan(asdict(getattr(row, mean)))[end]
        for name, mean in _MEANS.items()
        for end in ("value", "low", "high")
    }
    named = {"rival": row.rival.vector, "quantity": row.quantity, "split": row.split, "n_dropped": row.n_dropped}
    return {**named, **_flatten(row.difference), **means}


def _flatten_vector(row: VectorRow) -> dict[str, Any]:
    named = {"quantity": row.quantity, "split": row.split, "n_dropped": row.n_dropped}
    flat = {**named, **_flatten(row.value)}
    if row.against is not None:
        flat |= {f"against_{name}": row.against.columns[name] for name in _AGAINST}
    for name, estimate in (("reference", row.reference), ("difference", row.difference)):
        if estimate is not None:
            flat |= {f"{name}_{end}": value for end, value in _drop_nan(asdict(estimate)).items()}
    return flat


def _flatten_set(row: OffTargetRow) -> dict[str, Any]:
    effect = _drop_nan(asdict(row.effect))
    named = {"set": row.name, "effect_quantity": row.effect_quantity, "n_dropped": row.n_dropped}
    return {
        **{**named, "quantity": row.quantity, **_flatten(row.estimate)},
        **{f"effect_{end}": effect[end] for end in ("value", "low", "high")},
    }


def _unflatten(row: Mapping[str, Any]) -> Estimate:
    names = [field.name for field in fields(Estimate)]
    values = {name: row["n_prompts" if name == "n" else name] for name in names}
    if math.isnan(values["low"]) or math.isnan(values["high"]):
        values |= {"low": None, "high": None}
    return Estimate(**values)


def _drop_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is undefined becomes missing, except for a value itself, which stays NaN."""
    return {
        name: None if name != "value" and isinstance(value, float) and math.isnan(value) else value
        for name, value in values.items()
    }


def _write_both(folder: Path, name: str, table: pa.Table, escape: Callable[[Rows], Rows]) -> None:
    write_table(folder / f"{name}.parquet", table)
    flat = table.drop_columns([f.name for f in table.schema if pa.types.is_list(f.type)])
    write_rows(folder / f"{name}.csv", escape(flat.to_pylist()), names=flat.column_names)
