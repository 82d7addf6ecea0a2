"""What units hold <-> their tables: draws, and what was read at the tokens of fixed sequences under conditions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from completions_lp.records import BASELINE, Condition, Draw
from completions_lp.store.keys import KEYS, condition_columns

_NAMES = ("item", *KEYS)
"""Columns that say whose numbers a row has."""


def tabulate_draws(items: Sequence[str], ids: Sequence[str], drawn: Sequence[Sequence[Draw]]) -> pa.Table:
    """One row per distinct completion: its prompt by key and by id, the samples that drew it, its tokens."""
    flat = [(i, draw) for i, draws in enumerate(drawn) for draw in draws]
    return pa.table(
        {
            "item": pa.array([items[i] for i, _ in flat], pa.string()),
            "prompt_id": pa.array([ids[i] for i, _ in flat], pa.string()),
            "samples": pa.array([list(draw.samples) for _, draw in flat], pa.list_(pa.int32())),
            "token_ids": pa.array([list(draw.token_ids) for _, draw in flat], pa.list_(pa.int32())),
            "token_logprob": pa.array([list(draw.logprob) for _, draw in flat], pa.list_(pa.float64())),
            "ended": pa.array([draw.ended for _, draw in flat], pa.bool_()),
            "token_sampler_logprob": pa.array(
                [None if draw.sampler_logprob is None else list(draw.sampler_logprob) for _, draw in flat],
                pa.list_(pa.float64()),
            ),
        }
    )


def read_draws(table: pa.Table) -> dict[str, list[Draw]]:
    """The draws of a table by the key of their prompt."""
    found: dict[str, list[Draw]] = {}
    for row in table.to_pylist():
        sampler = row.get("token_sampler_logprob")  # which units of earlier versions do not have
        draw = Draw(row["token_ids"], row["token_logprob"], row["samples"], row["ended"], sampler)
        found.setdefault(row["item"], []).append(draw)
    return found


def tabulate_sequences(
    items: Sequence[str],
    ids: Sequence[str],
    lengths: Sequence[int],
    conditions: Sequence[Condition],
    unsteered: Mapping[str, Float[np.ndarray, "item token"]],
    steered: Mapping[str, Float[np.ndarray, "condition item token"]],
) -> pa.Table:
    """One row per condition and item, the unsteered model's first; what was read at its tokens stands in lists.

    An array that either has not is null in its rows.
    """
    every, n = (BASELINE, *conditions), len(items)
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    columns: dict[str, Any] = {
        "item": pa.array(list(items) * len(every), pa.string()),
        "prompt_id": pa.array(list(ids) * len(every), pa.string()),
        **condition_columns(every, n),
    }
    for name in dict.fromkeys((*unsteered, *steered)):
        kept = [unsteered[name][None]] if name in unsteered else []
        values = np.concatenate([*kept, *([steered[name]] if name in steered else [])])[:, :, : mask.shape[1]][:, mask]
        offsets = (np.arange(len(values))[:, None] * values.shape[1] + starts).reshape(-1).tolist()
        missing = [None] * (n * (len(every) - len(values)))
        offsets = [*offsets, *missing] if name in unsteered else [*missing, *offsets]
        lists = pa.array([*offsets, values.size], pa.int32())
        columns[name] = pa.ListArray.from_arrays(lists, pa.array(values.reshape(-1)))
    return pa.table(columns)


def read_sequences(
    table: pa.Table, n_items: int
) -> tuple[dict[str, Float[np.ndarray, "item token"]], dict[str, Float[np.ndarray, "condition item token"]]]:
    """What a table has of its items: unsteered, and under its conditions; NaN past an item's end."""
    logprob = table["logprob"].combine_chunks()
    lengths = logprob.value_lengths().to_numpy(zero_copy_only=False)[:n_items]
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    unsteered, steered = {}, {}
    for name in table.column_names:
        if name in _NAMES:
            continue
        lists = table[name].combine_chunks()
        values = lists.flatten().to_numpy(zero_copy_only=False)
        grid = np.full((len(values) // max(1, int(mask.sum())), *mask.shape), np.nan, dtype=values.dtype)
        grid[:, mask] = values.reshape(len(grid), -1)
        if lists[0].is_valid:
            unsteered[name] = grid[0]
        if lists[-1].is_valid and len(lists) > n_items:
            steered[name] = grid[1:] if name in unsteered else grid
    return unsteered, steered
