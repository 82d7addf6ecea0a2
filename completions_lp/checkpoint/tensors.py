"""A safetensors file of floating-point numbers -> metadata and arrays, without torch; no other format is ever read.

numpy has no bfloat16, so that ``safetensors.numpy`` cannot read what many vectors are saved in: its numbers are the
upper halves of float32 ones.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from completions_lp.checkpoint.matrices import Matrix, widen
from completions_lp.records import InputError, describe_cause, read_bytes
from completions_lp.records.sources import find_file

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""What numbers may be, by the format's own names, as numpy reads their bytes."""
HEADER = 2**24
"""Bytes of a header, at most."""


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata, and every tensor in float64.

    Raises:
        InputError: The file is missing, damaged, of another format, or holds other numbers than floating-point ones.
    """
    data = read_bytes(path)
    try:
        tensors = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file of a steering vector: {describe_cause(error)}") from None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # which the library found valid
    return header.get("__metadata__") or {}, {name: _decode(path, name, tensor) for name, tensor in tensors}


def open_matrices(path: Path) -> tuple[dict[str, str], dict[str, Matrix]]:
    """Metadata, and every tensor by its shape alone: a file of any size, of which one row is read.

    Raises:
        InputError: The file is missing, damaged or of another format.
    """
    place = find_file(path)
    try:
        with safetensors.safe_open(place, "numpy") as opened:
            metadata = dict(opened.metadata() or {})
        with place.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, HEADER)))
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a safetensors file: {describe_cause(error)}") from None
    header.pop("__metadata__", None)
    found = {}
    for name, told in header.items():
        start, _ = told["data_offsets"]
        dtype = DTYPES.get(told["dtype"], "")
        found[name] = Matrix(place, name, tuple(told["shape"]), dtype, offset=8 + size + start, kind=told["dtype"])
    return metadata, found


def _decode(path: Path, name: str, tensor: dict[str, Any]) -> np.ndarray:
    dtype = tensor["dtype"]
    if dtype not in DTYPES:
        raise InputError(
            f"{path}: tensor {name[:80]!r} is of type {dtype}; a vector is of type {', '.join(DTYPES)}: convert it"
        )
    return widen(np.frombuffer(tensor["data"], DTYPES[dtype]), bfloat16=dtype == "BF16").reshape(tensor["shape"])
