"""Increases, measures, tokens and choices <-> their tables, one block of rows per condition."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from completions_lp.records import BASELINE, Choices, Completions, Condition, Increases, Measures, Prompt, TokenScores
from completions_lp.store.completions import completion_ids
from completions_lp.store.files import append_table, read_table, write_table

CONDITION = ("vector", "kind", "layer", "multiplier", "positions")


def write_increases(folder: Path, increases: Increases) -> None:
    """Write ``scores.parquet``: one row per condition and distinct completion."""
    completions, conditions = increases.completions, increases.conditions
    names = [completions.prompts[i].id for i in completions.prompt_index]
    write_table(
        folder / "scores.parquet",
        {
            "prompt_id": np.tile(np.array(names, dtype=object), len(conditions)),
            "completion_id": np.tile(completion_ids(completions), len(conditions)),
            **condition_columns(conditions, len(completions)),
            "logprob": increases.logprob.reshape(-1),
            **{part: getattr(increases, part).reshape(-1) for part in Increases.PARTS},
        },
    )


def read_increases(folder: Path, completions: Completions) -> Increases:
    """Read the scores of a run, which stand in the order of its completions under each condition."""
    table = read_table(folder / "scores.parquet", "score")
    n = len(completions)
    conditions = read_conditions(table, n)
    shape = (len(conditions), n)
    parts = {part: table[part].to_numpy().reshape(shape) for part in Increases.PARTS}
    baseline = (table["logprob"].to_numpy().reshape(shape) - parts["increase"])[0]
    return Increases(completions, conditions, baseline, **parts)


def write_measures(folder: Path, measures: Measures) -> None:
    """Write ``measures.parquet``: one row per condition and prompt, what was measured without steering repeated."""
    repeat = len(measures.conditions)
    write_table(
        folder / "measures.parquet",
        {
            "prompt_id": np.tile(np.array([p.id for p in measures.prompts], dtype=object), repeat),
            **condition_columns(measures.conditions, len(measures.prompts)),
            **{name: np.tile(values, repeat) for name, values in measures.unsteered.items()},
            **{name: values.reshape(-1) for name, values in measures.steered.items()},
            "trust": measures.trust.reshape(-1).astype(object),
        },
    )


def read_measures(folder: Path, prompts: Sequence[Prompt]) -> Measures:
    """Read the measures of a run; a column that an earlier version did not write is NaN."""
    table = read_table(folder / "measures.parquet", "score")
    n = len(prompts)
    conditions = read_conditions(table, n)
    shape = (len(conditions), n)
    return Measures(
        tuple(prompts),
        conditions,
        {name: table[name].to_numpy()[:n] for name in Measures.UNSTEERED},
        {
            name: table[name].to_numpy().reshape(shape) if name in table.column_names else np.full(shape, np.nan)
            for name in Measures.STEERED
        },
        np.array(table["trust"].to_pylist()).reshape(shape),
    )


@contextmanager
def open_tokens(folder: Path) -> Iterator[Callable[[TokenScores], None]]:
    """Write ``tokens.parquet`` a part at a time: one row per token and condition, with whatever was read at each token.

    ``answer_logprob`` and ``other_logprob`` are the steered log probs that the token completes the target answer and
    the other one, ``answer_baseline`` and ``other_baseline`` the unsteered ones; ``entropy`` is the unsteered one.
    Every part holds some prompts whole, with all that is read of them.
    """
    with append_table(folder / "tokens.parquet") as append:
        yield lambda scores: append(_list_tokens(scores))


def _list_tokens(scores: TokenScores) -> dict[str, np.ndarray]:
    completions, conditions = scores.completions, scores.conditions
    row, token = np.nonzero(completions.mask)
    names = np.array([prompt.id for prompt in completions.prompts], dtype=object)
    repeat = len(conditions)
    return {
        "prompt_id": np.tile(names[completions.prompt_index[row]], repeat),
        "completion_id": np.tile(completion_ids(completions)[row], repeat),
        "token": np.tile(token.astype(np.int32), repeat),
        "token_id": np.tile(completions.token_ids[row, token], repeat),
        **condition_columns(conditions, len(row)),
        "logprob": scores.logprob[:, row, token].reshape(-1),
        "increase": scores.increase[:, row, token].reshape(-1),
        **_read_columns(scores, row, token),
    }


def _read_columns(scores: TokenScores, row: np.ndarray, token: np.ndarray) -> dict[str, np.ndarray]:
    """What was read at each token beside its own log prob, where it was."""
    repeat, columns = len(scores.conditions), {}
    for name in ("kl", "kl_reverse"):
        if getattr(scores, name) is not None:
            columns[name] = getattr(scores, name)[:, row, token].reshape(-1)
    if scores.entropy is not None:
        columns["entropy"] = np.tile(scores.entropy[row, token], repeat)
    if scores.answers is not None and scores.baseline_answers is not None:
        for side, name in enumerate(("answer", "other")):
            columns[f"{name}_logprob"] = scores.answers[:, row, token, side].reshape(-1)
            columns[f"{name}_baseline"] = np.tile(scores.baseline_answers[row, token, side], repeat)
    return columns


def write_choices(folder: Path, choices: Choices) -> None:
    """Write ``choices.parquet``: the unsteered rows first, then one row per condition and prompt."""
    conditions = (BASELINE, *choices.conditions)
    logprob = np.concatenate([choices.baseline[None], choices.logprob]).reshape(-1, 2)
    repeat = len(conditions)
    write_table(
        folder / "choices.parquet",
        {
            "prompt_id": np.tile(np.array([p.id for p in choices.prompts], dtype=object), repeat),
            **condition_columns(conditions, len(choices.prompts)),
            "letter_1": np.tile(np.array([pair[0] for pair in choices.letters], dtype=object), repeat),
            "letter_2": np.tile(np.array([pair[1] for pair in choices.letters], dtype=object), repeat),
            "logit_diff": logprob[:, 0] - logprob[:, 1],
            "logprob_A": logprob[:, 0],
            "logprob_B": logprob[:, 1],
            "mass": np.exp(logprob).sum(-1),
        },
    )


def read_choices(folder: Path, prompts: Sequence[Prompt]) -> Choices:
    """Read the two-choice read-out of a run."""
    table = read_table(folder / "choices.parquet", "score")
    n = len(prompts)
    letters = table.slice(0, n).select(["letter_1", "letter_2"]).to_pylist()
    logprob = np.stack([table[f"logprob_{letter}"].to_numpy() for letter in "AB"], -1).reshape(-1, n, 2)
    return Choices(
        tuple(prompts),
        tuple((row["letter_1"], row["letter_2"]) for row in letters),
        read_conditions(table, n)[1:],
        logprob[0],
        logprob[1:],
    )


def condition_columns(conditions: Sequence[Condition], repeat: int) -> dict[str, np.ndarray]:
    """Columns that name the condition, ``repeat`` rows of each."""
    columns = {}
    for name in CONDITION:
        values = [getattr(condition, name) for condition in conditions]
        dtype = {"layer": np.int16, "multiplier": np.float64}.get(name, object)
        columns[name] = np.repeat(np.array(values, dtype=dtype), repeat)
    return columns


def read_conditions(table: pa.Table, repeat: int) -> tuple[Condition, ...]:
    """The conditions of a table that has ``repeat`` rows of each, one after the other."""
    first = table.select(CONDITION).take(pa.array(np.arange(0, table.num_rows, repeat)))
    return tuple(Condition(**row) for row in first.to_pylist())
