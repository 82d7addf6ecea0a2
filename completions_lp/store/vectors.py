"""SteeringVector <-> ``vectors/NAME.safetensors``."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from completions_lp.records import InputError, SteeringVector, VectorQuality
from completions_lp.store.directory import list_files
from completions_lp.store.files import replace_file, to_plain


def write_vectors(folder: Path, vectors: Sequence[SteeringVector]) -> None:
    """Write all vectors of a run."""
    for vector in vectors:
        write_vector(folder, vector)


def name_file(vector: SteeringVector) -> str:
    """The name of a vector's file within the run directory."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in vector.name)
    return f"vectors/{safe}.safetensors"


def write_vector(folder: Path, vector: SteeringVector) -> Path:
    """Write ``vectors/NAME.safetensors``: keys ``layer.<L>``, and what the vector is in the metadata."""
    quality = {str(layer): to_plain(asdict(q)) for layer, q in vector.quality.items()}
    metadata = {
        "format": "completions_lp/1",
        "name": vector.name,
        "kind": vector.kind,
        "quality": json.dumps(quality),
        **{key: str(value) for key, value in vector.provenance.items()},
    }
    tensors = {f"layer.{layer}": np.ascontiguousarray(d, dtype=np.float32) for layer, d in vector.directions.items()}
    path = folder / name_file(vector)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as file:
        file.write(safetensors.numpy.save(tensors, metadata=metadata))
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
    """All vectors that a run has made, the target first; other files in ``vectors/`` are not of the run."""
    files = list_files(folder, "vectors")
    if not files:
        raise InputError(f"{folder}: no vectors; run the vector stage first")
    return sort_vectors([read_vector(file) for file in files])


def read_quality(folder: Path) -> Mapping[int, VectorQuality]:
    """How well the target vector of a run is known, by layer; empty where its file does not say, or there is none."""
    vectors = map(read_vector, list_files(folder, "vectors"))
    return next((vector.quality for vector in vectors if vector.kind == "target"), {})


def sort_vectors(vectors: Sequence[SteeringVector]) -> tuple[SteeringVector, ...]:
    """The target first, then by name: the order in which their conditions are scored."""
    return tuple(sorted(vectors, key=lambda vector: (vector.kind != "target", vector.name)))
