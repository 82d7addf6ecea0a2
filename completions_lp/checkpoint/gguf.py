"""A model in one GGUF file: what its header says, read without torch, and what is wrong with it."""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from completions_lp.checkpoint.files import Checkpoint, reading

MAGIC = b"GGUF"
WHOLE = ("F64", "F32", "F16", "BF16")
"""Types of tensors that are not quantised."""
NEEDED = ("gguf", "accelerate")


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself, before any weights are read."""

    architecture: str
    n_tensors: int
    n_layers: int | None
    d_model: int | None
    context_length: int | None
    quantization: str
    """As ``"GGUF Q4_K"``: the type that most values have; "" where none is quantised."""
    narrow: str
    """The precision of the values that are not quantised, as torch calls it."""


def read_header(checkpoint: Checkpoint) -> Header:
    """The header of a GGUF file.

    Raises:
        InputError: A package that reading it takes is not installed, or it is damaged, no GGUF file, or a part of one.
    """
    stat = Path(checkpoint.name).stat()
    return _read_header(checkpoint, (stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=4)
def _read_header(checkpoint: Checkpoint, _: tuple[int, int]) -> Header:
    path = Path(checkpoint.name)
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise checkpoint.error("no GGUF file: it does not begin as one")
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise checkpoint.error(
            f"reading a GGUF file takes {' and '.join(missing)}, not installed here: pip install 'completions-lp[gguf]'"
        )
    from gguf import GGUFReader

    with reading(checkpoint):
        reader = GGUFReader(path)
        sizes: Counter[str] = Counter()
        for tensor in reader.tensors:
            sizes[tensor.tensor_type.name] += int(tensor.n_elements)
        architecture = str(_read_field(reader, "general.architecture") or "")
        n_parts = _read_field(reader, "split.count")
    if not architecture or not sizes:
        raise checkpoint.error("a GGUF file without a model: it names no architecture, or has no tensors")
    if isinstance(n_parts, int) and n_parts > 1:
        raise checkpoint.error(
            f"one of {n_parts} parts of a model, which transformers does not read: join them with "
            "`llama-gguf-split --merge`"
        )
    packed = [kind for kind, _ in sizes.most_common() if kind not in WHOLE]
    narrow = {"F16": "float16", "BF16": "bfloat16"}.get(sizes.most_common(1)[0][0], "float32")
    return Header(
        architecture=architecture,
        n_tensors=len(reader.tensors),
        n_layers=_read_count(reader, f"{architecture}.block_count"),
        d_model=_read_count(reader, f"{architecture}.embedding_length"),
        context_length=_read_count(reader, f"{architecture}.context_length"),
        quantization=f"GGUF {packed[0]}" if packed else "",
        narrow=narrow,
    )


def _read_field(reader: Any, name: str) -> Any:
    field = reader.get_field(name)
    return None if field is None else field.contents()


def _read_count(reader: Any, name: str) -> int | None:
    value = _read_field(reader, name)
    return value if isinstance(value, int) and 0 < value < 2**31 else None
