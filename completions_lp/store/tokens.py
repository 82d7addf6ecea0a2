"""``tokens.parquet`` -> the increases of single tokens, by the ids that its rows name, whatever their order."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from completions_lp.records import Completions, Condition, TokenIncreases
from completions_lp.store.keys import CONDITION, find_completions, find_conditions


def read_token_increases(folder: Path, completions: Completions) -> TokenIncreases | None:
    """Read the token increases of some completions under every condition kept, by row group; None where none is."""
    path = folder / "tokens.parquet"
    if not path.is_file():
        return None
    file = pa.parquet.ParquetFile(path)
    found: dict[Condition, np.ndarray] = {}
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=["prompt_id", "completion_id", "token", "increase", *CONDITION])
        conditions, number = find_conditions(table)
        completion = find_completions(table, completions)
        token, increase = table["token"].to_numpy(), table["increase"].to_numpy()
        for i, condition in enumerate(conditions):
            grid = found.setdefault(condition, np.full(completions.token_ids.shape, np.nan, dtype=np.float32))
            here = (number == i) & (completion >= 0)
            grid[completion[here], token[here]] = increase[here]
    empty = np.empty((0, *completions.token_ids.shape), dtype=np.float32)
    return TokenIncreases(tuple(found), np.stack([*found.values()]) if found else empty)
