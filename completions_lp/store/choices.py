"""The two-choice read-out <-> its table, one block of rows per condition, the unsteered model's first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from completions_lp.records import BASELINE, Choices, Condition, Increases, InputError
from completions_lp.store.columns import pick_columns, read_lists, to_lists
from completions_lp.store.files import read_table, write_table
from completions_lp.store.keys import KEYS, arrange_rows, condition_columns, find_conditions, find_prompts

PAIR = ("logprob_A", "logprob_B")
PAIR_WHOLE = ("logprob_A_whole", "logprob_B_whole")
EVERY = ("logprobs", "logprobs_whole")
"""Columns with a list for all answers, in the order of ``letters``."""


def write_choices(folder: Path, choices: Choices) -> None:
    """Write ``choices.parquet``: the unsteered rows first, then one row per condition and prompt."""
    conditions = (BASELINE, *choices.conditions)
    repeat = len(conditions)
    pair = _stack(choices, "logprob")
    columns: dict[str, Any] = {
        "prompt_id": np.tile(np.array([p.id for p in choices.prompts], dtype=object), repeat),
        **condition_columns(conditions, len(choices.prompts)),
        "letter_1": np.tile(np.array([pair[0] for pair in choices.letters], dtype=object), repeat),
        "letter_2": np.tile(np.array([pair[1] for pair in choices.letters], dtype=object), repeat),
        "logit_diff": pair[:, 0] - pair[:, 1],
        **{name: pair[:, i] for i, name in enumerate(PAIR)},
    }
    if choices.offered is None:
        columns["mass"] = np.exp(pair).sum(-1)
    else:
        columns |= _list_all(choices, repeat)
    write_table(folder / "choices.parquet", columns)


def _list_all(choices: Choices, repeat: int) -> dict[str, Any]:
    """The columns of all answers on offer."""
    offered = choices.offered or ()
    every, whole, whole_pair = (_stack(choices, name) for name in ("logprob_all", "all_whole", "whole"))
    lengths = np.tile([len(letters) for letters in offered], repeat)
    mask = np.arange(every.shape[1]) < lengths[:, None]
    p = np.where(mask, np.exp(every), 0.0)
    mass = p.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = p / mass[:, None]
    return {
        "mass": mass,
        **{name: whole_pair[:, i] for i, name in enumerate(PAIR_WHOLE)},
        "letters": pa.array([list(letters) for letters in offered] * repeat, pa.list_(pa.string())),
        **{name: to_lists(values, mask) for name, values in zip(EVERY, (every, whole), strict=True)},
        "p_choices": to_lists(share, mask),
    }


def read_choices(folder: Path, increases: Increases) -> Choices:
    """Read the two-choice read-out of a run, of the prompts and conditions of its scores.

    Tables of earlier versions have the two answers that are compared alone.
    """
    path, prompts, conditions = folder / "choices.parquet", increases.completions.prompts, increases.conditions
    table = read_table(path, "score")
    # A table of earlier versions has none of these; one that lacks some of them was changed.
    is_complete = not {"letters", *PAIR_WHOLE, *EVERY}.isdisjoint(table.column_names)
    kinds = {"letter_1": "text", "letter_2": "text", **dict.fromkeys(PAIR, "number")}
    if is_complete:
        kinds |= {"letters": "texts", **dict.fromkeys(PAIR_WHOLE, "number"), **dict.fromkeys(EVERY, "numbers")}
    table = pick_columns(path, table, "score", KEYS | kinds)
    items = find_prompts(table, prompts)
    _, rows = arrange_rows(path, table, items, len(prompts), (BASELINE, *conditions))
    letters = [np.array(table[f"letter_{number}"].to_pylist(), dtype=object)[rows[0]] for number in (1, 2)]
    extra: dict[str, Any] = {}
    if is_complete:
        extra["offered"] = _read_offered(path, table, rows[0], list(zip(*letters, strict=True)))
        lengths = np.array([len(names) for names in extra["offered"]], dtype=np.int64)
        whole = _read_pair(table, PAIR_WHOLE, rows)
        extra |= {"baseline_whole": whole[0], "whole": whole[1:]}
        for name, column in zip(("logprob_all", "all_whole"), EVERY, strict=True):
            values = read_lists(path, table[column], rows, lengths)
            extra |= {Choices.name_unsteered(name): values[0], name: values[1:]}
    logprob = _read_pair(table, PAIR, rows)
    return Choices(tuple(prompts), tuple(zip(*letters, strict=True)), conditions, logprob[0], logprob[1:], **extra)


def read_conditions(folder: Path) -> tuple[Condition, ...]:
    """The conditions of the read-out, for results of other tools, whose scores name none."""
    path = folder / "choices.parquet"
    table = pick_columns(path, read_table(path, "score"), "score", KEYS)
    return tuple(condition for condition in find_conditions(table)[0] if condition != BASELINE)


def _stack(choices: Choices, name: str) -> Float[np.ndarray, "row value"]:
    """An array by condition with its unsteered twin before it, a row per condition and prompt."""
    values = np.concatenate([getattr(choices, Choices.name_unsteered(name))[None], getattr(choices, name)])
    return np.asarray(values.reshape(-1, values.shape[-1]))


def _read_offered(
    path: Path, table: pa.Table, rows: Int[np.ndarray, " prompt"], pairs: Sequence[tuple[str, str]]
) -> tuple[tuple[str, ...], ...]:
    """By prompt, the letters that the lists are of."""
    given = tuple(tuple(names) for names in table["letters"].take(pa.array(rows)).to_pylist())
    for names, pair in zip(given, pairs, strict=True):
        if not {*pair} <= {*names} or len({*names}) < len(names):
            raise InputError(
                f"{path}: the letters {', '.join(names)[:80]!r} are not of a prompt whose answers {pair[0]!r} and "
                f"{pair[1]!r} are compared: they were changed since they were written; run the score stage again"
            )
    return given


def _read_pair(
    table: pa.Table, names: tuple[str, ...], rows: Int[np.ndarray, "condition prompt"]
) -> Float[np.ndarray, "condition prompt 2"]:
    return np.stack([table[name].to_numpy()[rows] for name in names], -1)
