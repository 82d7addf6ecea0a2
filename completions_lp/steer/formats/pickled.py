"""What torch has written, read without running anything: tensors, numbers, texts, lists and dictionaries alone.

torch is imported here, when such a file is read, and nowhere else among the formats.
"""

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from completions_lp.records import InputError, describe_cause
from completions_lp.records.sources import LARGEST, find_file

if TYPE_CHECKING:
    from torch import Tensor

GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
"""Where torch says which function or class a file names."""
DEEPEST = 6
"""How deep lists and dictionaries of such a file may be nested."""


class Activations:
    """Stands for steering_vectors' own class: its two fields are set, nothing of it is run."""


ALLOWED = (Activations, "steering_vectors.steering_vector.SteeringVector")
"""The one class beyond torch's own that a file may name, and what takes its place."""
BROKEN = (
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    zipfile.BadZipFile,
    struct.error,
)
"""What torch raises at a file that is damaged, or is none of its own."""


def load_pickled(path: Path) -> Any:
    """What a file of torch has, its tensors on the CPU, whose pages come from the disk as they are read.

    Raises:
        InputError: The file is missing or damaged, or it would take running code to read it.
    """
    place = find_file(path)
    import torch

    whole = zipfile.is_zipfile(place)  # which torch writes since 1.6, and of which pages can be read alone
    if not whole:
        find_file(path, largest=LARGEST)
    try:
        if whole:
            _check_sizes(path, place)
        with torch.serialization.safe_globals([ALLOWED]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other protocols of pickle, at files that are refused right after
            return torch.load(place, map_location="cpu", weights_only=True, mmap=True if whole else None)
    except pickle.UnpicklingError as error:
        named = GLOBAL.search(str(error))
        if named is None:
            raise InputError(f"{path}: not a whole file of torch, or one that takes more than tensors") from None
        raise InputError(
            f"{path}: reading it would run code, that of {named[1][:80]}, so it is not read. Where you trust it, save "
            "its tensors alone by the package that wrote it: torch.save({'layer_activations': {13: tensor}, "
            "'layer_type': 'decoder_block'}, 'plain.pt')"
        ) from None
    except InputError:
        raise
    except BROKEN as error:
        raise InputError(f"{path}: not a whole file of torch: {describe_cause(error)}") from None


def _check_sizes(path: Path, place: Path) -> None:
    """Raise InputError where a file would grow as it is read: torch compresses nothing, and its pickles are small."""
    with zipfile.ZipFile(place) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or (
                entry.filename.endswith(".pkl") and entry.file_size > LARGEST
            ):
                raise InputError(
                    f"{path}: has {entry.filename[:80]!r} of {entry.file_size} bytes, compressed or too large for a "
                    "file that torch writes; save it anew with torch.save"
                )


def is_tensor(value: Any) -> bool:
    """Whether a value of such a file is a tensor."""
    import torch

    return isinstance(value, torch.Tensor)


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of a tensor; None for anything else."""
    return tuple(value.shape) if is_tensor(value) else None


def unpack(path: Path, what: str, value: Any) -> np.ndarray:
    """A tensor of floating-point numbers as an array in float64.

    Raises:
        InputError: It is no tensor, is sparse, quantised or empty of numbers, or claims more of them than it has.
    """
    import torch

    if not is_tensor(value):
        raise InputError(f"{path}: {what} is {describe(value)}; a tensor is needed")
    tensor: Tensor = value.detach()
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise InputError(f"{path}: {what} is a tensor without plain numbers ({tensor.layout}, {tensor.device})")
    if not tensor.is_floating_point():
        raise InputError(f"{path}: {what} is of type {tensor.dtype}; a vector is of a floating-point type: convert it")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(f"{path}: {what} claims {list(tensor.shape)} numbers, more than the file has of it")
    values: np.ndarray = tensor.to(torch.float64).contiguous().numpy()
    return values


def pack(value: Any) -> bytes:
    """A file of torch, from numbers, texts, dictionaries and arrays, which become float32 tensors."""
    import torch

    def convert(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {key: convert(inner) for key, inner in item.items()}
        if isinstance(item, np.ndarray):
            return torch.from_numpy(np.array(item, dtype=np.float32))
        return item

    buffer = BytesIO()
    torch.save(convert(value), buffer)
    return buffer.getvalue()


def describe(value: Any, depth: int = 0) -> str:
    """What a file has, in words, for an error: types, shapes, the first keys."""
    if is_tensor(value):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, Activations):
        return "steering_vectors' SteeringVector"
    if isinstance(value, dict):
        if depth >= DEEPEST:
            return "a dictionary"
        inner = [f"{str(key)[:40]!r}: {describe(item, depth + 1)}" for key, item in list(value.items())[:3]]
        more = f" and {len(value) - 3} more" if len(value) > 3 else ""
        return f"a dictionary of {len(value)} ({', '.join(inner)}{more})"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return f"of type {type(value).__name__}"
