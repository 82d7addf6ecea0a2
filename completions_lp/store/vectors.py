"""SteeringVector <-> ``vectors/NAME.safetensors``."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import TypeVar, cast, get_args

import numpy as np
import safetensors.numpy

from completions_lp.checkpoint.tensors import read_tensors
from completions_lp.records import InputError, Span, SteeringVector, VectorQuality
from completions_lp.records.base import Kind
from completions_lp.store.directory import list_files
from completions_lp.store.files import make_folder, replace_file, to_plain

Record = TypeVar("Record", VectorQuality, Span)
LAYER = re.compile(r"layer\.(0|[1-9][0-9]{0,3})")
"""Names of the tensors of a vector file."""


def write_vectors(folder: Path, vectors: Sequence[SteeringVector]) -> None:
    """Write all vectors of a run.

    Raises:
        InputError: Two vectors have one name, but for upper and lower case.
    """
    files = [name_file(vector.name).casefold() for vector in vectors]  # some file systems know no case
    if len(set(files)) < len(files):
        twice = [vector.name for vector, file in zip(vectors, files, strict=True) if files.count(file) > 1]
        raise InputError(f"the vectors {twice[0]!r} and {twice[1]!r} would be one file: rename one")
    for vector in vectors:
        write_vector(folder, vector)


def write_vector(folder: Path, vector: SteeringVector) -> Path:
    """Write ``vectors/NAME.safetensors`` of a run."""
    return save_vector(folder / name_file(vector.name), vector)


def save_vector(path: Path, vector: SteeringVector) -> Path:
    """Write a vector's file: keys ``layer.<L>``, and what the vector is in the metadata."""
    quality = {str(layer): to_plain(asdict(q)) for layer, q in vector.quality.items()}
    metadata = {
        "format": "completions_lp/1",
        "name": vector.name,
        "kind": vector.kind,
        "quality": json.dumps(quality),
        **({"spans": json.dumps({str(at): asdict(span) for at, span in vector.spans.items()})} if vector.spans else {}),
        **{key: str(value) for key, value in vector.provenance.items()},
    }
    tensors = {f"layer.{layer}": np.ascontiguousarray(d, dtype=np.float32) for layer, d in vector.directions.items()}
    make_folder(path.parent)
    with replace_file(path) as file:
        file.write(safetensors.numpy.save(tensors, metadata=metadata))
    return path


def name_file(name: str) -> str:
    """A vector's file in the run directory, called after it; where that is no file name, with a hash of the name.

    Two names never share one: ``a/b`` and ``a_b`` are both kept.
    """
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
    if safe == name and not name.startswith(".") and len(name.encode()) <= 200:
        return f"vectors/{name}.safetensors"
    return f"vectors/{safe[:40].replace('.', '_')}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.safetensors"


def read_vector(path: Path) -> SteeringVector:
    """Read a vector file; raises InputError where it is missing, of another format, or steers nothing at a layer."""
    vector = _read_vector(path)
    for layer, direction in vector.directions.items():
        if not direction.any():
            raise InputError(
                f"{path}: the vector is zero at layer {layer}, where it steers nothing; leave that layer out"
            )
    return vector


def _read_vector(path: Path) -> SteeringVector:
    metadata, tensors = read_tensors(path)
    if not tensors or not all(map(LAYER.fullmatch, tensors)):
        has = ", ".join(repr(name[:40]) for name in sorted(tensors)[:5]) or "none"
        raise InputError(f"{path}: needs keys 'layer.0', 'layer.1', … (below 10000); it has {has}")
    for key, tensor in tensors.items():
        if tensor.ndim != 1 or not tensor.size:
            raise InputError(f"{path}: {key} has shape {list(tensor.shape)}; a vector has one axis, d_model")
        if not (np.abs(tensor) <= np.finfo(np.float32).max).all():
            raise InputError(f"{path}: {key} has values that are not finite, or too large for float32")
    kind, quality = metadata.pop("kind", "target"), metadata.pop("quality", "{}")
    spans = _parse_layers(path, "spans that are", metadata.pop("spans", "{}"), Span)
    known = [name for name in get_args(Kind) if name not in ("baseline", "rival")]
    if kind not in known:
        raise InputError(f"{path}: its metadata have kind {kind[:80]!r}; known are {', '.join(known)}")
    directions = {int(key[6:]): tensor for key, tensor in tensors.items()}
    name = metadata.pop("name", path.stem)
    known_well = _parse_layers(path, "a quality that is", quality, VectorQuality)
    return SteeringVector(name, cast(Kind, kind), directions, known_well, metadata, spans)


def _parse_layers(path: Path, what: str, text: str, kind: type[Record]) -> dict[int, Record]:
    """What the metadata say of each layer, as records of numbers; those that have a default may be missing."""
    names = {item.name for item in fields(kind)}
    needed = {item.name for item in fields(kind) if item.default is MISSING}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    whole = isinstance(values, dict) and all(
        isinstance(row, dict)
        and needed <= row.keys() <= names
        and LAYER.fullmatch(f"layer.{layer}")
        and all(type(v) in (int, float) or (v is None and kind is VectorQuality) for v in row.values())
        for layer, row in values.items()
    )
    if not whole:
        raise InputError(
            f"{path}: its metadata have {what} not JSON of {', '.join(sorted(needed))} by layer; leave it out"
        )
    return {int(k): kind(**{n: math.nan if v is None else v for n, v in row.items()}) for k, row in values.items()}


def read_vectors(folder: Path) -> tuple[SteeringVector, ...]:
    """All vectors that a run has made, the target first; other files in ``vectors/`` are not of the run."""
    files = list_files(folder, "vectors")
    if not files:
        raise InputError(f"{folder}: no vectors; run the vector stage first")
    vectors = sort_vectors(list(map(_read_vector, files)))
    names = [vector.name for vector in vectors]
    if [vector.kind for vector in vectors].count("target") != 1 or len(set(names)) < len(names):
        raise InputError(
            f"{folder / 'vectors'}: needs one target and no name twice, has {', '.join(names[:20])}: files were added, "
            "lost or renamed since they were written; run the vector stage again"
        )
    return vectors


def read_quality(folder: Path) -> Mapping[int, VectorQuality]:
    """How well the target vector of a run is known, by layer; empty where its file does not say, or there is none."""
    vectors = map(_read_vector, list_files(folder, "vectors"))
    return next((vector.quality for vector in vectors if vector.kind == "target"), {})


def sort_vectors(vectors: Sequence[SteeringVector]) -> tuple[SteeringVector, ...]:
    """The target first, then by name: the order in which their conditions are scored."""
    return tuple(sorted(vectors, key=lambda vector: (vector.kind != "target", vector.name)))
