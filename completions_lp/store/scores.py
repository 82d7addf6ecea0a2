"""Increases, measures and tokens <-> their tables, one block of rows per condition."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute

from completions_lp.records import Completions, Increases, InputError, Measures, Through, TokenScores
from completions_lp.store.choices import read_conditions
from completions_lp.store.columns import pick_columns
from completions_lp.store.completions import completion_ids
from completions_lp.store.files import append_table, read_table, write_blocks, write_table
from completions_lp.store.keys import KEYS, arrange_rows, condition_columns, find_completions, find_prompts

TRUST = ("certified", "green", "red")
"""How far an estimate can be trusted."""
_MEASURES = {**KEYS, **dict.fromkeys((*Measures.UNSTEERED, *Measures.STEERED), "number"), "trust": "text"}
"""What is read of measures."""


def write_increases(folder: Path, increases: Increases) -> None:
    """Write ``scores.parquet``: one row per condition and distinct completion."""
    completions, conditions = increases.completions, increases.conditions
    scored = completions.count_scored(increases.through).astype(np.int32)
    names = [completions.prompts[i].id for i in completions.prompt_index]
    ids = completion_ids(completions)

    def make(part: slice) -> dict[str, np.ndarray]:
        n = len(conditions[part])
        return {
            "prompt_id": np.tile(np.array(names, dtype=object), n),
            "completion_id": np.tile(ids, n),
            **condition_columns(conditions[part], len(completions)),
            "logprob": (increases.baseline + increases.increase[part]).reshape(-1),
            **{name: getattr(increases, name)[part].reshape(-1) for name in Increases.PARTS},
            "n_scored": np.tile(scored, n),
            "baseline": np.tile(increases.baseline, n),
        }

    write_blocks(folder / "scores.parquet", len(conditions), len(completions), make)


def read_increases(folder: Path, completions: Completions, *, through: Through = "end") -> Increases:
    """Read the scores of a run, each by the completion and the condition that its row names; ``through`` is its own."""
    path = folder / "scores.parquet"
    if not len(completions):
        return Increases.of_none(completions, read_conditions(folder))
    found = read_table(path, "score")
    kept = [part for part in Increases.PARTS if part not in Increases.ADDED or part in found.column_names]
    names = ("logprob", *kept, *(() if through == "end" else ("baseline",)))
    columns = {**KEYS, "completion_id": "whole", **dict.fromkeys(names, "number")}
    table = pick_columns(path, found, "score", columns)
    conditions, rows = arrange_rows(path, table, find_completions(table, completions), len(completions))
    parts = {part: table[part].to_numpy()[rows] for part in kept}
    if through == "end":  # tables of earlier versions have no column of it
        baseline = _find_baseline(table["logprob"].to_numpy()[rows], parts["increase"], completions)
    else:
        baseline = table["baseline"].to_numpy()[rows[0]] if len(rows) else np.zeros(len(completions))
    return Increases(completions, conditions, baseline, **parts, through=through)


def _find_baseline(logprob: np.ndarray, increase: np.ndarray, completions: Completions) -> np.ndarray:
    """Unsteered log probs: of each completion's first condition whose increase is a number, else of the draws."""
    if not len(increase):
        return np.zeros(len(completions))
    finite = np.isfinite(increase)
    at = finite.argmax(0), np.arange(len(completions))
    drawn = np.where(completions.mask, completions.logprob, 0.0).sum(-1, dtype=np.float64)
    return np.asarray(np.where(finite.any(0), logprob[at] - increase[at], drawn))


def write_measures(folder: Path, measures: Measures) -> None:
    """Write ``measures.parquet``: one row per condition and prompt, what was measured without steering repeated."""
    n, size = len(measures.conditions), len(measures.prompts)
    write_blocks(folder / "measures.parquet", n, size, lambda part: _list_measures(measures, part))


def write_seed_measures(folder: Path, by_seed: Sequence[Measures], seeds: Sequence[int]) -> None:
    """Write ``seed_measures.parquet``: the same of each seed's own draws, one seed after the other."""
    parts = [
        pa.table({**_list_measures(part), "seed": np.full(part.trust.size, seed, dtype=np.int64)})
        for part, seed in zip(by_seed, seeds, strict=True)
    ]
    write_table(folder / "seed_measures.parquet", pa.concat_tables(parts))


def _list_measures(measures: Measures, part: slice = slice(None)) -> dict[str, np.ndarray]:
    """Columns of some of the conditions."""
    conditions = measures.conditions[part]
    repeat = len(conditions)
    return {
        "prompt_id": np.tile(np.array([p.id for p in measures.prompts], dtype=object), repeat),
        **condition_columns(conditions, len(measures.prompts)),
        **{name: np.tile(values, repeat) for name, values in measures.unsteered.items()},
        **{name: values[part].reshape(-1) for name, values in measures.steered.items()},
        "trust": measures.trust[part].reshape(-1).astype(object),
    }


def read_measures(folder: Path, increases: Increases) -> Measures:
    """Read the measures of a run, of the prompts and conditions of its scores."""
    path = folder / "measures.parquet"
    return _pick_measures(path, read_table(path, "score", _MEASURES), increases)


def read_seed_measures(folder: Path, increases: Increases) -> tuple[Measures, ...]:
    """Read the measures of each of several seeds; empty where there is one."""
    if increases.completions.seed_counts is None:
        return ()
    path = folder / "seed_measures.parquet"
    table = read_table(path, "score", {**_MEASURES, "seed": "whole"})
    by_seed = [table.filter(pa.compute.equal(table["seed"], seed)) for seed in increases.completions.sampling.seeds]
    return tuple(_pick_measures(path, part, increases) for part in by_seed)


def _pick_measures(path: Path, table: pa.Table, increases: Increases) -> Measures:
    prompts, conditions = increases.completions.prompts, increases.conditions
    grades = set(table["trust"].unique().to_pylist()) - {"", *TRUST}
    if grades:
        raise InputError(f"{path}: trust {min(grades)!r} is none of {', '.join(TRUST)}; run the score stage again")
    _, rows = arrange_rows(path, table, find_prompts(table, prompts), len(prompts), conditions)
    first = rows[0] if len(rows) else np.zeros(0, dtype=np.int64)
    return Measures(
        tuple(prompts),
        conditions,
        {name: table[name].to_numpy()[first] for name in Measures.UNSTEERED},
        {name: table[name].to_numpy()[rows] for name in Measures.STEERED},
        np.array(table["trust"].to_pylist(), dtype=str)[rows],
    )


@contextmanager
def open_tokens(folder: Path) -> Iterator[Callable[[TokenScores], None]]:
    """Write ``tokens.parquet`` a part at a time: one row per token and condition, with whatever was read at each token.

    ``answer_logprob`` and ``other_logprob`` are the steered log probs that the token completes the target answer and
    the other one, ``answer_baseline`` and ``other_baseline`` the unsteered ones; ``entropy`` is the unsteered one.
    Every part holds some prompts whole, with all that is read of them; tokens that are not scored have no row.
    """
    with append_table(folder / "tokens.parquet") as append:
        yield lambda scores: append(_list_tokens(scores))


def _list_tokens(scores: TokenScores) -> dict[str, np.ndarray]:
    completions, conditions = scores.completions, scores.conditions
    row, token = np.nonzero(scores.mask)
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
