"""Completions <-> ``questions.parquet`` and ``completions.parquet``."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from completions_lp.records import Completions, Condition, Labelling, Prompt, Sampling
from completions_lp.store.files import read_table, write_table

PROMPT = tuple(item.name for item in fields(Prompt) if item.name != "id")
"""The columns of ``questions.parquet`` beside ``prompt_id``."""


def write_completions(folder: Path, completions: Completions) -> None:
    """Write ``questions.parquet`` and ``completions.parquet``."""
    prompts = completions.prompts
    questions = {"prompt_id": [p.id for p in prompts]}
    write_table(
        folder / "questions.parquet", questions | {name: [getattr(p, name) for p in prompts] for name in PROMPT}
    )
    write_table(folder / "completions.parquet", _list_columns(completions))


def read_completions(folder: Path, *, sampling: Sampling, labelling: Labelling) -> Completions:
    """Read the prompts and completions of a run; how they were made is in its configuration."""
    questions = read_table(folder / "questions.parquet", "sample")
    rows: list[dict[str, Any]] = [
        {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        for row in questions.select(["prompt_id", *PROMPT]).to_pylist()
    ]
    prompts = tuple(Prompt(id=row.pop("prompt_id"), **row) for row in rows)
    table = read_table(folder / "completions.parquet", "sample").to_pydict()
    place = {prompt.id: i for i, prompt in enumerate(prompts)}
    lengths = np.array([len(ids) for ids in table["token_ids"]], dtype=np.int32)
    token_ids = np.full((len(lengths), lengths.max(initial=0)), -1, dtype=np.int32)
    logprob = np.full(token_ids.shape, np.nan)
    for i, (ids, values) in enumerate(zip(table["token_ids"], table["token_logprob"], strict=True)):
        token_ids[i, : len(ids)] = ids
        logprob[i, : len(ids)] = values
    return Completions(
        prompts=prompts,
        prompt_index=np.array([place[i] for i in table["prompt_id"]], dtype=np.int32),
        token_ids=token_ids,
        lengths=lengths,
        counts=np.array(table["count"], dtype=np.int32),
        ended=np.array(table["ended"], dtype=bool),
        label=np.array([label or "" for label in table["label"]], dtype=np.str_),
        answer_index=np.array(table["answer_index"], dtype=np.int32),
        logprob=logprob,
        text=tuple(table["text"]),
        pieces=tuple(map(tuple, table["pieces"])),
        sampling=sampling,
        labelling=labelling,
    )


def write_steered(folder: Path, drawn: Mapping[Condition, Completions]) -> None:
    """Write ``steered.parquet``: what the steered model itself said, where it was drawn to top up, by condition."""
    tables = []
    for condition, completions in drawn.items():
        columns = _list_columns(completions)
        for name in ("cluster", "completion_id", "pieces", "token_logprob"):
            del columns[name]
        repeated = {name: [value] * len(completions) for name, value in asdict(condition).items()}
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
        "logprob": np.where(completions.mask, completions.logprob, 0.0).sum(-1, dtype=np.float64),
        "token_logprob": [row[tokens].tolist() for row, tokens in zip(completions.logprob, said, strict=True)],
    }
