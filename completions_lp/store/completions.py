"""Completions <-> ``questions.parquet`` and ``completions.parquet``."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from completions_lp.records import Completions, Condition, Labelling, Prompt, Sampling
from completions_lp.store.files import read_table, write_table


def write_completions(folder: Path, completions: Completions) -> None:
    """Write ``questions.parquet`` and ``completions.parquet``."""
    prompts = completions.prompts
    questions = {"prompt_id": [p.id for p in prompts]}
    for name in _prompt_fields():
        questions[name] = [getattr(p, name) for p in prompts]
    write_table(folder / "questions.parquet", questions)
    rows = range(len(completions))
    lengths = completions.lengths
    write_table(
        folder / "completions.parquet",
        {
            "prompt_id": [prompts[i].id for i in completions.prompt_index],
            "cluster": [prompts[i].cluster for i in completions.prompt_index],
            "completion_id": completion_ids(completions),
            "count": completions.counts,
            "token_ids": pa.array(
                [completions.token_ids[i, : lengths[i]].tolist() for i in rows], type=pa.list_(pa.int32())
            ),
            "text": list(completions.text),
            "pieces": pa.array([list(pieces) for pieces in completions.pieces], type=pa.list_(pa.string())),
            "ended": completions.ended,
            "label": _name_labels(completions),
            "answer_index": completions.answer_index,
            "logprob": np.where(completions.mask, completions.logprob, 0.0).sum(-1, dtype=np.float64),
            "token_logprob": [completions.logprob[i, : lengths[i]].tolist() for i in rows],
        },
    )


def read_completions(folder: Path, *, sampling: Sampling, labelling: Labelling) -> Completions:
    """Read the prompts and completions of a run; how they were made is in its configuration."""
    questions = read_table(folder / "questions.parquet", "sample")
    names = _prompt_fields()
    rows: list[dict[str, Any]] = [
        {name: tuple(row[name]) if isinstance(row[name], list) else row[name] for name in ("prompt_id", *names)}
        for row in questions.to_pylist()
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
        rows = range(len(completions))
        names = [completions.prompts[i].id for i in completions.prompt_index]
        ids = [completions.token_ids[i, : completions.lengths[i]].tolist() for i in rows]
        columns = {
            "prompt_id": names,
            **{name: [value] * len(completions) for name, value in asdict(condition).items()},
            "count": completions.counts,
            "token_ids": pa.array(ids, type=pa.list_(pa.int32())),
            "text": list(completions.text),
            "ended": completions.ended,
            "label": _name_labels(completions),
            "answer_index": completions.answer_index,
            "logprob": np.where(completions.mask, completions.logprob, 0.0).sum(-1, dtype=np.float64),
        }
        tables.append(pa.table(columns))
    write_table(folder / "steered.parquet", pa.concat_tables(tables))


def completion_ids(completions: Completions) -> np.ndarray:
    """The number of each completion within its prompt, from 0."""
    seen: dict[int, int] = {}
    ids = np.empty(len(completions), dtype=np.int32)
    for row, prompt in enumerate(completions.prompt_index.tolist()):
        ids[row] = seen.get(prompt, 0)
        seen[prompt] = int(ids[row]) + 1
    return ids


def _name_labels(completions: Completions) -> pa.Array:
    """The answer that each completion gave; missing where it gave none."""
    return pa.array([label or None for label in completions.label.tolist()], type=pa.string())


def _prompt_fields() -> list[str]:
    return [item.name for item in fields(Prompt) if item.name != "id"]
