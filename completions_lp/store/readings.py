"""What is read at the end of reasonings <-> its table, one block of rows per condition, the unsteered model's first."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from completions_lp.records import BASELINE, Completions, InputError, Readings
from completions_lp.records.readings import TENTHS
from completions_lp.store.columns import pick_columns, read_lists, to_lists
from completions_lp.store.completions import completion_ids
from completions_lp.store.files import read_table, write_table
from completions_lp.store.keys import KEYS, arrange_rows, condition_columns, find_completions


def write_readings(folder: Path, readings: Readings) -> None:
    """Write ``readings.parquet``: one row per condition and distinct completion, the unsteered model's first."""
    completions, conditions = readings.completions, (BASELINE, *readings.conditions)
    repeat = len(conditions)
    prompts = [completions.prompts[i] for i in completions.prompt_index]
    values = np.concatenate([readings.baseline[None], readings.logprob]).reshape(-1, readings.baseline.shape[-1])
    mask = np.arange(values.shape[-1]) < np.tile([len(prompt.letters) for prompt in prompts], repeat)[:, None]
    tenths = np.concatenate([np.full((1, len(completions), TENTHS), np.nan), readings.tenths])
    known = np.repeat(np.arange(repeat) > 0, len(completions))
    write_table(
        folder / "readings.parquet",
        {
            "prompt_id": np.tile(np.array([prompt.id for prompt in prompts], dtype=object), repeat),
            "completion_id": np.tile(completion_ids(completions), repeat),
            **condition_columns(conditions, len(completions)),
            "n_read": np.tile(readings.at, repeat),
            "n_settled": np.tile(readings.through, repeat),
            "logprob_settled": np.concatenate([readings.reach[None], readings.steered_reach]).reshape(-1),
            "letters": pa.array([list(prompt.letters) for prompt in prompts] * repeat, pa.list_(pa.string())),
            "logprobs": to_lists(values, mask),
            "tenths": to_lists(tenths.reshape(-1, TENTHS), np.repeat(known, TENTHS).reshape(-1, TENTHS)),
            "mass": np.nansum(np.where(mask, np.exp(values), 0.0), -1),
        },
    )


def read_readings(folder: Path, completions: Completions) -> Readings:
    """Read what a run read at the end of these completions' reasoning.

    Raises:
        InputError: The table is missing, or was changed since it was written.
    """
    path = folder / "readings.parquet"
    kinds = {"completion_id": "whole", "n_read": "whole", "n_settled": "whole", "logprob_settled": "number"}
    table = pick_columns(
        path, read_table(path, "score"), "score", KEYS | kinds | dict.fromkeys(("logprobs", "tenths"), "numbers")
    )
    found, rows = arrange_rows(path, table, find_completions(table, completions), len(completions))
    if BASELINE not in found:
        raise InputError(f"{path}: has no rows of the unsteered model; run the score stage again")
    first = found.index(BASELINE)
    steered = [i for i in range(len(found)) if i != first]
    lengths = np.array([len(completions.prompts[i].letters) for i in completions.prompt_index], dtype=np.int64)
    logprob = read_lists(path, table["logprobs"], rows, lengths)
    reach = table["logprob_settled"].to_numpy()[rows]
    at, through = (table[name].to_numpy()[rows[first]].astype(np.int64) for name in ("n_read", "n_settled"))
    if not bool(((at >= 0) & (at <= completions.lengths) & (through >= 0) & (through <= completions.lengths)).all()):
        raise InputError(f"{path}: reads behind more tokens than a completion has; run the score stage again")
    return Readings(
        completions,
        tuple(found[i] for i in steered),
        at,
        through,
        reach[first],
        reach[steered],
        logprob[first],
        logprob[steered],
        read_lists(path, table["tenths"], rows[steered], np.full(len(completions), TENTHS)),
    )
