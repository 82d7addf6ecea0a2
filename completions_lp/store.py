"""Records <-> the run directory. The only writer of files.

Every file is written under another name and moved into place once it is whole. Other programs read these tables: names
and meanings change only with ``SCHEMA_VERSION``. Beside the tables that make the paper, ``questions.parquet`` holds the
prompts as they were asked, so that a later stage needs nothing but the directory.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import safetensors
import safetensors.numpy

from completions_lp.records import (
    BASELINE,
    Choices,
    Completions,
    Condition,
    Increases,
    InputError,
    Labelling,
    Prompt,
    Report,
    Sampling,
    Scores,
    SteeringVector,
    VectorQuality,
)

SCHEMA_VERSION = 1
CONDITION = ("vector", "kind", "layer", "multiplier", "positions")
STAGES = {
    "vector": ("vectors",),
    "sample": ("questions.parquet", "completions.parquet"),
    "score": ("scores.parquet", "tokens.parquet", "choices.parquet"),
    "report": ("prompts.parquet", "summary.parquet", "summary.csv", "report.md"),
}
"""What each stage writes; made anew, it makes what later stages wrote stale."""


_TEXT, _REAL, _WHOLE = pa.string(), pa.float64(), pa.int64()
SUMMARY = pa.schema(
    {
        **{"vector": _TEXT, "kind": _TEXT, "layer": _WHOLE, "multiplier": _REAL, "quantity": _TEXT, "weighting": _TEXT},
        **{"value": _REAL, "low": _REAL, "high": _REAL, "level": _REAL, "unit": _TEXT, "method": _TEXT},
        **{"n_prompts": _WHOLE, "n_dropped": _WHOLE, "n_clusters": _WHOLE, "positions": _TEXT},
    }
)
"""Columns of the summary; declared, since a column of missing intervals has no type of its own."""


def start_run(folder: Path, info: Mapping[str, Any]) -> None:
    """Make the run directory and its ``run.json``; raises InputError where no directory can be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a run directory: {error.strerror}") from None
    write_info(folder, info)


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write ``run.json``; NaN, which JSON does not know, becomes null."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **_plain(info)}, indent=2, ensure_ascii=False, allow_nan=False)
    _replace(folder / "run.json", lambda path: path.write_text(text + "\n", encoding="utf-8"))


def read_info(folder: Path) -> dict[str, Any]:
    """Read ``run.json``; raises InputError where there is none, or one of another schema."""
    path = folder / "run.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder}: not a run directory (no run.json)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    version = info.get("schema_version") if isinstance(info, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path}: schema version {version}; this version of completions_lp reads {SCHEMA_VERSION}")
    return dict(info)


def drop_stale(folder: Path, stage: str) -> None:
    """Remove what this stage and later ones made before it runs anew, so that no stale table is ever read."""
    names = list(STAGES)
    # Completions are the unsteered model's own: a new vector leaves them as they are.
    for name in names[names.index("score" if stage == "vector" else stage) :]:
        for file in STAGES[name]:
            (folder / file).unlink(missing_ok=True)


def write_vectors(folder: Path, vectors: Sequence[SteeringVector]) -> None:
    """Write all vectors of a run; others, of an earlier state of the run, are removed once these are there."""
    written = {write_vector(folder, vector) for vector in vectors}
    for path in (folder / "vectors").glob("*.safetensors"):
        if path not in written:
            path.unlink()


def write_vector(folder: Path, vector: SteeringVector) -> Path:
    """Write ``vectors/NAME.safetensors``: keys ``layer.<L>``, and what the vector is in the metadata."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in vector.name)
    quality = {str(layer): _plain(asdict(q)) for layer, q in vector.quality.items()}
    metadata = {
        "format": "completions_lp/1",
        "name": vector.name,
        "kind": vector.kind,
        "quality": json.dumps(quality),
        **{key: str(value) for key, value in vector.provenance.items()},
    }
    tensors = {f"layer.{layer}": np.ascontiguousarray(d, dtype=np.float32) for layer, d in vector.directions.items()}
    path = folder / "vectors" / f"{safe}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, lambda partial: safetensors.numpy.save_file(tensors, partial, metadata=metadata))
    return path


def read_vector(path: Path) -> SteeringVector:
    """Read a vector file; raises InputError where it is missing or of another format."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dictionary
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: not a safetensors file of a steering vector: {error}") from None
    if not tensors or not all(k.startswith("layer.") and k[6:].isdecimal() for k in tensors):
        raise InputError(f"{path}: needs keys 'layer.0', 'layer.1', …; it has {', '.join(sorted(tensors)[:5])}")
    kind = metadata.pop("kind", "target")
    quality = {
        int(layer): VectorQuality(**{k: math.nan if v is None else v for k, v in values.items()})
        for layer, values in json.loads(metadata.pop("quality", "{}")).items()
    }
    name = metadata.pop("name", path.stem)
    directions = {int(key[6:]): tensor.astype(np.float64) for key, tensor in tensors.items()}
    return SteeringVector(name, kind, directions, quality, metadata)


def read_vectors(folder: Path) -> tuple[SteeringVector, ...]:
    """All vectors of a run, the target first."""
    files = sorted((folder / "vectors").glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no vectors; run the vector stage first")
    return tuple(sorted((read_vector(file) for file in files), key=lambda v: (v.kind != "target", v.name)))


def write_completions(folder: Path, completions: Completions) -> None:
    """Write ``questions.parquet`` and ``completions.parquet``."""
    prompts = completions.prompts
    questions = {"prompt_id": [p.id for p in prompts]}
    for name in _prompt_fields():
        questions[name] = [getattr(p, name) for p in prompts]
    _write_table(folder / "questions.parquet", questions)
    rows = range(len(completions))
    lengths = completions.lengths
    _write_table(
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
            "ended": completions.ended,
            "label": completions.label.tolist(),
            "answer_index": completions.answer_index,
            "logprob": np.where(completions.mask, completions.logprob, 0.0).sum(-1, dtype=np.float64),
            "token_logprob": [completions.logprob[i, : lengths[i]].tolist() for i in rows],
        },
    )


def read_completions(folder: Path, *, sampling: Sampling, labelling: Labelling) -> Completions:
    """Read the prompts and completions of a run; how they were made is in its configuration."""
    questions = _read_table(folder / "questions.parquet", "sample")
    names = _prompt_fields()
    rows: list[dict[str, Any]] = [
        {name: tuple(row[name]) if isinstance(row[name], list) else row[name] for name in ("prompt_id", *names)}
        for row in questions.to_pylist()
    ]
    prompts = tuple(Prompt(id=row.pop("prompt_id"), **row) for row in rows)
    table = _read_table(folder / "completions.parquet", "sample").to_pydict()
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
        label=np.array(table["label"]),
        answer_index=np.array(table["answer_index"], dtype=np.int32),
        logprob=logprob,
        text=tuple(table["text"]),
        sampling=sampling,
        labelling=labelling,
    )


def completion_ids(completions: Completions) -> np.ndarray:
    """The number of each completion within its prompt, from 0."""
    seen: dict[int, int] = {}
    ids = np.empty(len(completions), dtype=np.int32)
    for row, prompt in enumerate(completions.prompt_index.tolist()):
        ids[row] = seen.get(prompt, 0)
        seen[prompt] = int(ids[row]) + 1
    return ids


def write_increases(folder: Path, increases: Increases) -> None:
    """Write ``scores.parquet``: one row per condition and distinct completion."""
    completions, conditions = increases.completions, increases.conditions
    names = [completions.prompts[i].id for i in completions.prompt_index]
    _write_table(
        folder / "scores.parquet",
        {
            "prompt_id": np.tile(np.array(names, dtype=object), len(conditions)),
            "completion_id": np.tile(completion_ids(completions), len(conditions)),
            **_condition_columns(conditions, len(completions)),
            "logprob": increases.logprob.reshape(-1),
            **{part: getattr(increases, part).reshape(-1) for part in Increases.PARTS},
        },
    )


def read_increases(folder: Path, completions: Completions) -> Increases:
    """Read the scores of a run, which stand in the order of its completions under each condition."""
    table = _read_table(folder / "scores.parquet", "score")
    n = len(completions)
    conditions = _read_conditions(table, n)
    shape = (len(conditions), n)
    parts = {part: table[part].to_numpy().reshape(shape) for part in Increases.PARTS}
    baseline = (table["logprob"].to_numpy().reshape(shape) - parts["increase"])[0]
    return Increases(completions, conditions, baseline, **parts)


def write_tokens(folder: Path, scores: Scores) -> None:
    """Write ``tokens.parquet``: one row per token and condition, with whatever was read at each token.

    ``answer_logprob`` and ``other_logprob`` are the steered log probs that the token completes the target answer and
    the other one, ``answer_baseline`` and ``other_baseline`` the unsteered ones; ``entropy`` is the unsteered one.
    """
    completions, conditions = scores.completions, scores.conditions
    row, token = np.nonzero(completions.mask)
    names = np.array([prompt.id for prompt in completions.prompts], dtype=object)
    repeat = len(conditions)
    _write_table(
        folder / "tokens.parquet",
        {
            "prompt_id": np.tile(names[completions.prompt_index[row]], repeat),
            "completion_id": np.tile(completion_ids(completions)[row], repeat),
            "token": np.tile(token.astype(np.int32), repeat),
            "token_id": np.tile(completions.token_ids[row, token], repeat),
            **_condition_columns(conditions, len(row)),
            "logprob": scores.logprob[:, row, token].reshape(-1),
            "increase": scores.increase[:, row, token].reshape(-1),
            **_read_columns(scores, row, token),
        },
    )


def _read_columns(scores: Scores, row: np.ndarray, token: np.ndarray) -> dict[str, np.ndarray]:
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
    _write_table(
        folder / "choices.parquet",
        {
            "prompt_id": np.tile(np.array([p.id for p in choices.prompts], dtype=object), repeat),
            **_condition_columns(conditions, len(choices.prompts)),
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
    table = _read_table(folder / "choices.parquet", "score")
    n = len(prompts)
    letters = table.slice(0, n).select(["letter_1", "letter_2"]).to_pylist()
    logprob = np.stack([table[f"logprob_{letter}"].to_numpy() for letter in "AB"], -1).reshape(-1, n, 2)
    return Choices(
        tuple(prompts),
        tuple((row["letter_1"], row["letter_2"]) for row in letters),
        _read_conditions(table, n)[1:],
        logprob[0],
        logprob[1:],
    )


def write_report(folder: Path, report: Report, text: str) -> None:
    """Write ``prompts.parquet``, ``summary.parquet``, ``summary.csv`` and ``report.md``."""
    _write_table(folder / "prompts.parquet", dict(report.prompts))
    rows = [
        {
            **asdict(row.condition),
            "quantity": row.quantity,
            "weighting": row.weighting,
            "value": row.estimate.value,
            "low": row.estimate.low,
            "high": row.estimate.high,
            "level": row.estimate.level,
            "unit": row.estimate.unit,
            "method": row.estimate.method,
            "n_prompts": row.estimate.n,
            "n_dropped": row.n_dropped,
            "n_clusters": row.estimate.n_clusters,
        }
        for row in report.rows
    ]
    table = pa.Table.from_pylist(rows, schema=SUMMARY)
    _replace(folder / "summary.parquet", lambda path: pa.parquet.write_table(table, path, compression="zstd"))
    _replace(folder / "summary.csv", lambda path: pa.csv.write_csv(table, path))
    _replace(folder / "report.md", lambda path: path.write_text(text, encoding="utf-8"))


def _prompt_fields() -> list[str]:
    return [item.name for item in fields(Prompt) if item.name != "id"]


def _condition_columns(conditions: Sequence[Condition], repeat: int) -> dict[str, np.ndarray]:
    columns = {}
    for name in CONDITION:
        values = [getattr(condition, name) for condition in conditions]
        dtype = {"layer": np.int16, "multiplier": np.float64}.get(name, object)
        columns[name] = np.repeat(np.array(values, dtype=dtype), repeat)
    return columns


def _read_conditions(table: pa.Table, repeat: int) -> tuple[Condition, ...]:
    """The conditions of a table that has ``repeat`` rows of each, one after the other."""
    first = table.select(CONDITION).take(pa.array(np.arange(0, table.num_rows, repeat)))
    return tuple(Condition(**row) for row in first.to_pylist())


def _write_table(path: Path, columns: Mapping[str, Any]) -> None:
    table = pa.table(dict(columns))
    _replace(path, lambda partial: pa.parquet.write_table(table, partial, compression="zstd"))


def _read_table(path: Path, stage: str) -> pa.Table:
    if not path.is_file():
        raise InputError(f"{path.parent}: no {path.name}; run the {stage} stage first")
    try:
        return pa.parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a Parquet file: {error}") from None


def _replace(path: Path, write: Any) -> None:
    """Let ``write`` make a file under another name, then move it into place in one step."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        os.replace(partial, path)  # noqa: PTH105  atomic, also over an existing file
    finally:
        partial.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
