"""A safetensors file of floating-point numbers -> metadata and arrays, without torch; no other format is ever read.

numpy has no bfloat16, so that ``safetensors.numpy`` cannot read what many vectors are saved in: its numbers are the
upper halves of float32 ones.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from completions_lp.records import InputError, describe_cause, read_bytes

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""What numbers may be, by the format's own names, as numpy reads their bytes."""


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


def _decode(path: Path, name: str, tensor: dict[str, Any]) -> np.ndarray:
    dtype = tensor["dtype"]
    if dtype not in DTYPES:
        raise InputError(
            f"{path}: tensor {name[:80]!r} is of type {dtype}; a vector is of type {', '.join(DTYPES)}: convert it"
        )
    values = np.frombuffer(tensor["data"], DTYPES[dtype])
    if dtype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64).reshape(tensor["shape"])
