"""``tokens.parquet`` -> the increases of single tokens, by the ids that its rows name, whatever their order."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from completions_lp.records import Completions, Condition, InputError, TokenIncreases
from completions_lp.store.columns import pick_columns
from completions_lp.store.files import refuse_broken
from completions_lp.store.keys import KEYS, find_completions, find_conditions

KINDS = {**KEYS, "completion_id": "whole", "token": "whole", "increase": "number"}
"""What is read of ``tokens.parquet``."""


def read_token_increases(
    folder: Path, completions: Completions, known: Sequence[Condition] | None = None
) -> TokenIncreases | None:
    """Read the token increases of some completions under every condition kept, by row group; None where none is.

    Raises:
        InputError: The table was changed since it was written, or has a condition that is not among the ``known`` ones.
    """
    path = folder / "tokens.parquet"
    if not path.is_file():
        return None
    found: dict[Condition, np.ndarray] = {}
    with refuse_broken(path), pa.parquet.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if name in KINDS]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns)
            table.validate(full=True)
            _add_rows(path, found, pick_columns(path, table, "score", KINDS), completions)
    if known is not None:  # those of a report, from which the direction that tells the rounding is set apart
        found = {condition: grid for condition, grid in found.items() if condition.kind != "rounding"}
    other = [condition for condition in found if known is not None and condition not in known]
    if other:
        raise InputError(f"{path}: has {other[0]}, which scores.parquet does not have; run the score stage again")
    empty = np.empty((0, *completions.token_ids.shape), dtype=np.float32)
    return TokenIncreases(tuple(found), np.stack([*found.values()]) if found else empty)


def _add_rows(path: Path, found: dict[Condition, np.ndarray], table: pa.Table, completions: Completions) -> None:
    """Put the rows of a table at their places in the grids of their conditions."""
    try:
        conditions, number = find_conditions(table)
    except InputError as error:
        raise InputError(f"{path}: {error}; run the score stage again") from None
    completion = find_completions(table, completions)
    token, increase = table["token"].to_numpy(), table["increase"].to_numpy()
    if not ((token >= 0) & (token < np.where(completion < 0, token + 1, completions.lengths[completion]))).all():
        raise InputError(f"{path}: has tokens that their completions do not have; run the score stage again")
    for i, condition in enumerate(conditions):
        grid = found.setdefault(condition, np.full(completions.token_ids.shape, np.nan, dtype=np.float32))
        here = (number == i) & (completion >= 0)
        grid[completion[here], token[here]] = increase[here]
