"""Completions <-> ``questions.parquet`` and ``completions.parquet``."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from completions_lp.records import Completions, Condition, InputError, Labelling, Prompt, Sampling
from completions_lp.store.columns import pick_columns
from completions_lp.store.files import read_table, write_table
from completions_lp.store.keys import find_prompts

PROMPT = tuple(item.name for item in fields(Prompt) if item.name != "id")
"""The columns of ``questions.parquet`` beside ``prompt_id``."""
QUESTIONS = {"prompt_id": "text"} | {
    name: {"token_ids": "wholes", "letters": "texts"}.get(name, "text") for name in PROMPT
}
ADDED = ("twin",)
"""Of these, what tables of earlier versions do not have; a prompt's default stands for it."""
COLUMNS = {
    **{"prompt_id": "text", "completion_id": "whole", "count": "whole", "token_ids": "wholes", "text": "text"},
    **{"pieces": "texts", "ended": "truth", "label": "text?", "answer_index": "whole", "token_logprob": "numbers"},
}
"""What is read of ``completions.parquet``."""
REASONING = "n_reasoning"
DRAWN = {"token_sampler_logprob": "numbers?", "seed_counts": "wholes?"}
"""The same, of what earlier versions do not have, and where it says nothing of its own is missing in every row."""
ADDED_COLUMNS = {REASONING: "whole", **DRAWN}
"""Further ones, which tables of earlier versions do not have."""
LARGEST = 2**31 - 1
"""Of counts and token ids, which are of 32 bits."""


def write_completions(folder: Path, completions: Completions) -> None:
    """Write ``questions.parquet`` and ``completions.parquet``."""
    prompts = completions.prompts
    questions = {"prompt_id": [p.id for p in prompts]}
    write_table(
        folder / "questions.parquet", questions | {name: [getattr(p, name) for p in prompts] for name in PROMPT}
    )
    write_table(folder / "completions.parquet", _list_columns(completions))


def read_completions(folder: Path, *, sampling: Sampling, labelling: Labelling, may_lack: bool = False) -> Completions:
    """Read the prompts and completions of a run; how they were made is in its configuration.

    ``may_lack``: whether it is of another tool's results, without any completion.

    Raises:
        InputError: A table is missing, or was changed since it was written.
    """
    prompts = read_prompts(folder)
    path = folder / "completions.parquet"
    found = read_table(path, "sample")
    columns = COLUMNS | {name: kind for name, kind in ADDED_COLUMNS.items() if name in found.column_names}
    table = _sort_rows(pick_columns(path, found, "sample", columns), prompts).to_pydict()
    if found.num_rows or not may_lack:
        _check_rows(path, {name: values for name, values in table.items() if name not in DRAWN}, prompts)
    place = {prompt.id: i for i, prompt in enumerate(prompts)}
    lengths = np.array([len(ids) for ids in table["token_ids"]], dtype=np.int32)
    token_ids = np.full((len(lengths), lengths.max(initial=0)), -1, dtype=np.int32)
    for i, ids in enumerate(table["token_ids"]):
        token_ids[i, : len(ids)] = ids
    return Completions(
        prompts=prompts,
        prompt_index=np.array([place[i] for i in table["prompt_id"]], dtype=np.int32),
        token_ids=token_ids,
        lengths=lengths,
        counts=np.array(table["count"], dtype=np.int32),
        ended=np.array(table["ended"], dtype=bool),
        label=np.array([label or "" for label in table["label"]], dtype=np.str_),
        answer_index=np.array(table["answer_index"], dtype=np.int32),
        logprob=_fill_tokens(table["token_logprob"], token_ids.shape),
        text=tuple(table["text"]),
        pieces=tuple(map(tuple, table["pieces"])),
        sampling=sampling,
        labelling=labelling,
        reasoning=np.array(table[REASONING], dtype=np.int32) if REASONING in table else None,
        sampler_logprob=None if sampling.is_ancestral else _read_sampler(path, table, token_ids.shape),
        seed_counts=_read_seeds(path, table, sampling) if len(sampling.seeds) > 1 else None,
    )


def _fill_tokens(rows: Sequence[Sequence[float | None]], shape: tuple[int, int]) -> np.ndarray:
    """Numbers of tokens as [completion, token]; NaN where there is none."""
    filled = np.full(shape, np.nan)
    for i, values in enumerate(rows):
        filled[i, : len(values)] = [np.nan if value is None else value for value in values]
    return filled


def _read_sampler(path: Path, table: Mapping[str, list[Any]], shape: tuple[int, int]) -> np.ndarray:
    """Log probs under what was drawn from; NaN where an earlier version has not kept them."""
    rows = [values or [] for values in table.get("token_sampler_logprob", ())]
    if any(values and len(values) != len(ids) for values, ids in zip(rows, table["token_ids"], strict=False)):
        raise InputError(f"{path}: has lists of different lengths: it was changed; run the sample stage again")
    return _fill_tokens(rows, shape)


def _read_seeds(path: Path, table: Mapping[str, list[Any]], sampling: Sampling) -> np.ndarray:
    """How often each seed drew each completion."""
    rows = table.get("seed_counts") or [None]
    seeds = len(sampling.seeds)
    for i, (counts, count) in enumerate(zip(rows, table["count"], strict=False), start=1):
        if counts is None or len(counts) != seeds or min(counts) < 0 or sum(counts) != count:
            raise InputError(
                f"{path}, row {i}: seed_counts is {str(counts)[:80]}, which are no draws of {seeds} seeds that add up "
                f"to count = {count}: it was changed; run the sample stage again"
            )
    return np.array(rows, dtype=np.int32)


def read_prompts(folder: Path) -> tuple[Prompt, ...]:
    """Read ``questions.parquet``: the prompts as asked."""
    path = folder / "questions.parquet"
    found = read_table(path, "sample")
    columns = {name: kind for name, kind in QUESTIONS.items() if name not in ADDED or name in found.column_names}
    table = pick_columns(path, found, "sample", columns)
    if not table.num_rows:
        raise InputError(f"{path}: has no rows; run the sample stage again")
    rows: list[dict[str, Any]] = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        for row in table.to_pylist()
    ]
    if not all(0 <= token <= LARGEST for row in rows for token in row["token_ids"]):
        raise InputError(f"{path}: column 'token_ids' has what is no token id; run the sample stage again")
    ids = [row["prompt_id"] for row in rows]
    if len(set(ids)) < len(ids):
        raise InputError(f"{path}: prompt {max(ids, key=ids.count)!r} stands twice; run the sample stage again")
    try:
        return tuple(Prompt(id=row.pop("prompt_id"), **row) for row in rows)
    except InputError as error:
        raise InputError(f"{path}: {error}: it was changed; run the sample stage again") from None


def _sort_rows(table: pa.Table, prompts: Sequence[Prompt]) -> pa.Table:
    """The rows in the order in which they were written, whatever they have been sorted by since.

    Scores name a completion by its number within its prompt, which is its place among the prompt's rows.
    """
    number = table["completion_id"].to_numpy()
    prompt = find_prompts(table, prompts)
    order = np.lexsort([number, prompt])
    seen = np.empty(len(number), dtype=np.int64)  # the place of each row among its prompt's own
    by_prompt = np.argsort(prompt, kind="stable")
    starts = np.searchsorted(prompt[by_prompt], prompt[by_prompt], side="left")
    seen[by_prompt] = np.arange(len(number)) - starts
    return table if np.array_equal(seen, number) else table.take(pa.array(order))


def _check_rows(path: Path, table: Mapping[str, list[Any]], prompts: Sequence[Prompt]) -> None:
    """Raise InputError where there are no rows, or at the first that no run has written."""
    if not table["prompt_id"]:
        raise InputError(f"{path}: has no rows; run the sample stage again")
    letters = {prompt.id: {*prompt.letters, ""} for prompt in prompts}
    seen: dict[str, int] = {}
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    for i, row in enumerate(rows, start=1):
        name, n, label = row["prompt_id"], len(row["token_ids"]), row["label"] or ""
        number = seen[name] = seen.get(name, -1) + 1
        wrong = {
            f"prompt {name!r}, which is not in questions.parquet": name not in letters,
            "a completion_id that is not its number within its prompt": row["completion_id"] != number,
            "a count below 1 or beyond 32 bits": not 1 <= row["count"] <= LARGEST,
            "no tokens, or ids that are none": not n or not all(0 <= t <= LARGEST for t in row["token_ids"]),
            "lists of different lengths": len(row["token_logprob"]) != n,
            f"label {label!r}, which is no answer of its prompt": label not in letters.get(name, {label}),
            "an answer_index that its label and tokens do not have": not -1 <= row["answer_index"] < n
            or (label == "") != (row["answer_index"] == -1),
            "more tokens of reasoning than tokens": not 0 <= row.get(REASONING, 0) <= n,
        }
        found = [what for what, is_so in wrong.items() if is_so]
        if found:
            raise InputError(f"{path}, row {i}: has {found[0]}: it was changed; run the sample stage again")


def write_steered(folder: Path, drawn: Mapping[Condition, Completions]) -> None:
    """Write ``steered.parquet``: what the steered model itself said, where it was drawn to top up, by condition."""
    tables = []
    for condition, completions in drawn.items():
        columns = _list_columns(completions)
        for name in ("cluster", "completion_id", "pieces", "token_logprob", "sampler_logprob", *DRAWN):
            del columns[name]
        repeated = {name: [value] * len(completions) for name, value in condition.columns.items()}
        tables.append(pa.table({"prompt_id": columns.pop("prompt_id"), **repeated, **columns}))
    write_table(folder / "steered.parquet", pa.concat_tables(tables))


def completion_ids(completions: Completions) -> np.ndarray:
    """The number of each completion within its prompt, from 0."""
    seen: dict[int, int] = {}
    ids = np.empty(len(completions), dtype=np.int32)
    for row, prompt in enumerate(completions.prompt_index.tolist()):
        ids[row] = seen.get(prompt, 0)
        seen[prompt] = int(ids[row]) + 1
    return ids


def _list_columns(completions: Completions) -> dict[str, Any]:
    """The columns of ``completions.parquet``; a completion that gave no answer has no label."""
    prompts = [completions.prompts[i] for i in completions.prompt_index]
    said = [slice(length) for length in completions.lengths]
    ids = [row[tokens].tolist() for row, tokens in zip(completions.token_ids, said, strict=True)]
    own, mask = completions.sampler_logprob, completions.mask
    sampler = [None] * len(said) if own is None else [row[at].tolist() for row, at in zip(own, said, strict=True)]
    return {
        "prompt_id": [prompt.id for prompt in prompts],
        "cluster": [prompt.cluster for prompt in prompts],
        "completion_id": completion_ids(completions),
        "count": completions.counts,
        "token_ids": pa.array(ids, type=pa.list_(pa.int32())),
        "text": list(completions.text),
        "pieces": pa.array([list(pieces) for pieces in completions.pieces], type=pa.list_(pa.string())),
        "ended": completions.ended,
        "label": pa.array([label or None for label in completions.label.tolist()], type=pa.string()),
        "answer_index": completions.answer_index,
        **({} if completions.reasoning is None else {REASONING: completions.reasoning}),
        "logprob": np.where(mask, completions.logprob, 0.0).sum(-1, dtype=np.float64),
        "token_logprob": [row[tokens].tolist() for row, tokens in zip(completions.logprob, said, strict=True)],
        "sampler_logprob": np.where(mask, completions.logprob if own is None else own, 0.0).sum(-1, dtype=np.float64),
        "token_sampler_logprob": pa.array(sampler, type=pa.list_(pa.float64())),
        "seed_counts": pa.array(_list_seeds(completions), type=pa.list_(pa.int32())),
    }


def _list_seeds(completions: Completions) -> list[list[int] | None]:
    counts = completions.seed_counts
    found: list[list[int] | None] = [None] * len(completions) if counts is None else counts.tolist()
    return found
