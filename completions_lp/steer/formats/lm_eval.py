"""lm-eval's steered models: a ``.pt`` dictionary by hook point, or a CSV file of features of sparse autoencoders."""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from completions_lp.records import SteeringVector, describe_cause, read_text
from completions_lp.steer.formats import sae
from completions_lp.steer.formats.pickled import describe, pack, unpack
from completions_lp.steer.formats.source import PICKLED, Asked, Found, Source, as_direction

NAME = "lm-eval"
BLOCK = re.compile(r"(?:.*\.)?(?:layers|h|blocks|block)\.(0|[1-9][0-9]{0,3})")
"""A hook point that is a whole block, whose output is steered."""
COLUMNS = {"feature_index", "steering_coefficient", "sparse_model"}
MOST_ROWS = 10_000
NEEDED = ("steering_vector", "action")


def claims(source: Source) -> bool:
    """Whether it has hook points with steering vectors, or the columns of such a CSV file."""
    if source.suffix == ".csv" and source.place.is_file():
        rows = _read_rows(source)
        return bool(rows) and set(rows[0]) >= COLUMNS
    if source.suffix not in PICKLED:
        return False
    entries = _list_entries(source.pickled)
    return bool(entries) and all(isinstance(entry, dict) and "steering_vector" in entry for _, entry in entries)


def _list_entries(value: Any) -> list[tuple[Any, Any]]:
    """Hook points with what is done there: of a dictionary, or of a list, as lm-eval's own words describe it."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list):
        return [(entry.get("hookpoint") if isinstance(entry, dict) else None, entry) for entry in value]
    return [(None, None)]


def read(source: Source, asked: Asked) -> Found:
    """The directions, times their coefficients where they are added: multiplier 1 is what lm-eval does."""
    if source.suffix == ".csv":
        return _read_table(source)
    directions: dict[int, np.ndarray] = {}
    kept: dict[str, str | int | float] = {}
    for hook, entry in _list_entries(source.pickled):
        if not isinstance(entry, dict) or any(name not in entry for name in NEEDED):
            raise source.error(f"has {describe(source.pickled)}; by hook point it needs {' and '.join(NEEDED)}")
        if entry.get("head_index") is not None:
            raise source.error(
                f"{str(hook)[:60]!r} steers one attention head; only the residual stream is steered here"
            )
        layer = _find_layer(source, str(hook))
        direction = as_direction(
            source.path, f"{str(hook)[:60]!r}", unpack(source.path, str(hook)[:60], entry["steering_vector"])
        )
        directions[layer], told = _scale(source, direction, entry["action"], entry.get("steering_coefficient", 1.0))
        kept |= {f"lm_eval.{layer}": told}
    return Found(directions, _READ_AS, "", kept)


_READ_AS = (
    "hook point layers.L is the output of block L; what is added is multiplied with its coefficient, a clamp is not"
)


def _read_table(source: Source) -> Found:
    """A feature of an autoencoder a row; those of a hub have to lie in a folder here, nothing is fetched."""
    rows = _read_rows(source)
    if not rows or len(rows) > MOST_ROWS or not set(rows[0]) >= COLUMNS:
        raise source.error(f"needs 1 to {MOST_ROWS} rows with the columns {', '.join(sorted(COLUMNS))}")
    directions: dict[int, np.ndarray] = {}
    kept: dict[str, str | int | float] = {}
    for number, row in enumerate(rows, start=2):
        if (row.get("head_index") or "").strip():
            raise source.error(f"line {number} steers one attention head; only the residual stream is steered here")
        folder = _find_folder(source, number, row)
        feature = (row["feature_index"] or "").strip()
        if not feature.isdigit():
            raise source.error(f"line {number} has feature_index {feature[:40]!r}; it is a number from 0 on")
        hook = (row.get("hookpoint") or "").strip()
        layer = (_find_layer(source, hook),) if hook else ()
        found = sae.read(Source(folder), Asked(layer=layer, feature=int(feature)))
        ((at, direction),) = found.directions.items()
        if at in directions:
            raise source.error(
                f"line {number} is of layer {at} again: lm-eval would keep the last one alone; leave one"
            )
        scaled, told = _scale(source, direction, row.get("action") or "add", row["steering_coefficient"])
        directions[at] = scaled
        kept[f"lm_eval.{at}"] = f"{told}, feature {feature} of {(row['sparse_model'] or '')[:80]}"
    return Found(directions, _READ_AS, "", kept)


def _read_rows(source: Source) -> list[dict[str, Any]]:
    try:
        return list(csv.DictReader(io.StringIO(read_text(source.path), newline="")))
    except csv.Error as error:
        raise source.error(f"not a CSV file: {describe_cause(error)}") from None


def _find_folder(source: Source, number: int, row: Mapping[str, str]) -> Path:
    """Where the autoencoder of a row lies: sparsify's in a folder called after the hook point."""
    named = Path((row["sparse_model"] or "").strip())
    inner = (row.get("sae_id") if row.get("loader") == "sae_lens" else row.get("hookpoint")) or ""
    for base in (source.path.parent / named, named):
        for folder in (base / inner, base):
            if inner and ".." not in Path(inner).parts and folder.is_dir():
                return folder
            if not inner and base.is_dir():
                return base
    raise source.error(
        f"line {number} names the autoencoder {str(named)[:80]!r}, which is no folder here: download it, and give its "
        "folder as sparse_model (nothing is fetched)"
    )


def _find_layer(source: Source, hook: str) -> int:
    match = BLOCK.fullmatch(hook)
    if match is None:
        layer = sae.parse_hook(hook)
        if layer is None or layer < 0:
            raise source.error(f"steers {hook[:60]!r}, which is not the output of a block (layers.13)")
        return layer
    return int(match[1])


def _scale(source: Source, direction: np.ndarray, action: Any, coefficient: Any) -> tuple[np.ndarray, str]:
    """What is added: the direction times its coefficient; of a clamp the direction itself."""
    try:
        by = float(coefficient)
    except (TypeError, ValueError):
        by = np.nan
    if not np.isfinite(by):
        raise source.error(f"has steering_coefficient {str(coefficient)[:40]!r}; it is a number")
    if action == "add":
        return direction * by, f"add {by:g}"
    if action != "clamp":
        raise source.error(f"has action {str(action)[:40]!r}; known are add and clamp")
    return direction, f"clamp to {by:g}"


def pack_hooks(vector: SteeringVector, hookpoint: str = "layers.{layer}") -> bytes:
    """Such a dictionary, which adds the vector at every position; ``{layer}`` in a hook point is the block."""
    return pack(
        {
            hookpoint.replace("{layer}", str(layer)): {
                "steering_vector": direction,
                "steering_coefficient": 1.0,
                "action": "add",
                "bias": None,
                "head_index": None,
            }
            for layer, direction in vector.directions.items()
        }
    )
