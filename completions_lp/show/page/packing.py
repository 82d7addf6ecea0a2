"""What a page is made of -> blocks, and what must be left out for them to fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from completions_lp.records import Condition
from completions_lp.show.page.blocks import Blocks
from completions_lp.show.page.grids import make_condition
from completions_lp.show.page.reading import DECIMALS, PER_PROMPT, TRUST, UNSTEERED, RunData

_GROUP = 40
"""Prompts whose completions lie in one block."""
_CONDITION = ("vector", "kind", "layer", "multiplier", "positions")
_WORDS = ("quantity", "weighting", "unit", "method", "split")


@dataclass(frozen=True, eq=False)
class Packed:
    """The blocks of a page, what their numbers mean, and what was left out, in sentences."""

    blocks: Blocks
    meta: dict[str, Any]
    left_out: tuple[str, ...]


def pack_run(data: RunData, room: int) -> Packed:
    """Pack as much of a run as ``room`` characters hold.

    What does not fit is left out in this order: token colours under controls; the completions under controls; prompts,
    of which a random subset (by the run's seed) stays. The summary is always whole.
    """
    every = np.arange(len(data.said.prompts))
    packed = _pack(data, every)
    left_out = []
    control = {i for i, condition in enumerate(list_conditions(data)) if condition.kind != "target"}
    for prefix, what in (("tokens", "token colours"), ("parts", "completions' increases")):
        names = [f"{prefix}:{i}" for i in sorted(control) if f"{prefix}:{i}" in packed.blocks.texts]
        dropped = 0
        while packed.blocks.size > room and dropped < len(names):
            dropped += 1
            packed.blocks.drop(names[-dropped])
        if dropped:
            left_out.append(f"the {what} under {dropped} of the {len(names)} conditions of control vectors")
    here = set(packed.blocks.texts)
    kept = len(every)
    while packed.blocks.size > room and kept > 1:
        kept = max(1, int(0.95 * kept * min(room / packed.blocks.size, 1.0)))
        seed = int(data.info.get("seed") or 0)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(every))[:kept])
        packed = _pack(data, chosen, only=here)
    if kept < len(every):
        left_out.append(f"{len(every) - kept} of {len(every)} prompts: {kept} drawn at random (seed {seed}) are here")
    return Packed(packed.blocks, packed.meta, tuple(left_out))


def list_conditions(data: RunData) -> tuple[Condition, ...]:
    """The steered conditions of a page: those that were scored, then any others that the summary has."""
    rows = data.summary.select([n for n in data.summary.column_names if n in _CONDITION])
    summed = (make_condition(row) for row in rows.group_by(rows.column_names).aggregate([]).to_pylist())
    return tuple(dict.fromkeys([*data.conditions, *(c for c in summed if c.kind != "baseline")]))


def _pack(data: RunData, chosen: Int[np.ndarray, " chosen"], *, only: set[str] | None = None) -> Packed:
    blocks, said = Blocks(), data.said
    conditions = list_conditions(data)
    labels = sorted(set(said.label))
    spread = [np.arange(said.starts[i], said.starts[i + 1]) for i in chosen]
    rows = np.concatenate([*spread, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    blocks.add("summary", _pack_summary(data, conditions))
    blocks.add("prompts", _pack_prompts(data, chosen))
    codes = np.array([labels.index(label) for label in said.label], dtype=np.uint8)
    for group, start in enumerate(range(0, len(chosen), _GROUP)):
        blocks.add(f"texts:{group}", _pack_texts(data, np.concatenate(spread[start : start + _GROUP]), codes))
    for i in range(len(data.conditions)):
        values = {name: grid[i][chosen] for name, grid in data.steered.items()}
        blocks.add(f"prompts:{i}", {**values, "trust": data.trust[i][chosen]})
        if only is None or f"parts:{i}" in only:
            blocks.add(f"parts:{i}", {name: grid[i][rows] for name, grid in data.parts.items()})
    tokens = _expand(said.token_starts, rows)
    for values, condition in zip(data.increases, data.coloured, strict=True):
        i = conditions.index(condition)
        if only is None or f"tokens:{i}" in only:
            blocks.add(f"tokens:{i}", {"increase": values[tokens]})
    return Packed(blocks, _describe(data, conditions, chosen, labels), ())


def _describe(
    data: RunData, conditions: Sequence[Condition], chosen: Int[np.ndarray, " chosen"], labels: list[str]
) -> dict[str, Any]:
    """What the page's scripts must know before they inflate a block."""
    return {
        "conditions": [[c.vector, c.kind, c.layer, c.multiplier, c.positions] for c in conditions],
        "coloured": [conditions.index(condition) for condition in data.coloured],
        "labels": labels,
        "trust": list(TRUST),
        "decimals": DECIMALS,
        "group": _GROUP,
        "per_prompt": {name: PER_PROMPT[name] for name in data.steered},
        "unsteered": {name: UNSTEERED[name] for name in data.unsteered},
        "n_prompts": len(chosen),
        "n_prompts_all": len(data.said.prompts),
        "has_cuts": data.said.has_cuts,
        "target": data.info.get("config", {}).get("label", {}).get("target", "A"),
    }


def _pack_summary(data: RunData, conditions: Sequence[Condition]) -> dict[str, Any]:
    """The summary in columns: the condition's place (-1: unsteered), words as codes, all numbers as they are."""
    table = data.summary
    place = {condition: i for i, condition in enumerate(conditions)}
    keys = table.select([n for n in table.column_names if n in _CONDITION]).to_pylist()
    columns: dict[str, Any] = {
        "condition": np.array([place.get(make_condition(key), -1) for key in keys], dtype=np.int32)
    }
    words: dict[str, list[str]] = {}
    for name in table.column_names:
        if name in _WORDS:
            values = [value or "" for value in table[name].to_pylist()]
            words[name] = list(dict.fromkeys(values))
            codes = {word: i for i, word in enumerate(words[name])}
            columns[name] = np.array([codes[value] for value in values], dtype=np.int32)
        elif name not in _CONDITION and not pa.types.is_nested(table[name].type):
            columns[name] = np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)
    return {"words": words, **columns}


def _pack_prompts(data: RunData, chosen: Int[np.ndarray, " chosen"]) -> dict[str, Any]:
    prompts = [data.said.prompts[i] for i in chosen]
    words = {name: [prompt.get(name) for prompt in prompts] for name in ("id", "text", "cluster", "matching")}
    sizes = np.diff(data.said.starts)[chosen].astype(np.int32)
    tokens = np.diff(data.said.token_starts[data.said.starts])[chosen].astype(np.int32)
    return {
        "words": words,
        "size": sizes,
        "n_tokens": tokens,
        **{name: grid[chosen] for name, grid in data.unsteered.items()},
    }


def _pack_texts(data: RunData, rows: Int[np.ndarray, " chosen"], codes: Any) -> dict[str, Any]:
    tokens = _expand(data.said.token_starts, rows)
    return {
        "text": [data.said.text[row] for row in rows],
        "label": codes[rows],
        **{name: values[rows] for name, values in data.said.numbers.items()},
        **{f"token_{name.removeprefix('token_')}": values[tokens] for name, values in data.said.tokens.items()},
    }


def _expand(starts: Int[np.ndarray, " start"], rows: Int[np.ndarray, " chosen"]) -> Int[np.ndarray, " token"]:
    """The places of all tokens of some completions."""
    lengths = (starts[1:] - starts[:-1])[rows]
    first = np.repeat(starts[:-1][rows] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths) if len(rows) else 0
    return np.asarray(np.arange(lengths.sum()) + first, dtype=np.int64)
