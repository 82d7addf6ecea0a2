"""Arrays in files of any size, of which one row or column is read: only its own pages ever come from the disk."""

import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np
from jaxtyping import Float
from numpy.lib import format as npy

from completions_lp.records import InputError, describe_cause
from completions_lp.records.sources import find_file

LOCAL = 30
"""Bytes of a zip file's header before each entry, without the entry's name and what follows that."""
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
LONGEST = 10_000
"""Characters of an array's header, at most."""


@dataclass(frozen=True)
class Matrix:
    """An array in a file: where it begins, its shape, and of what numbers it is, as numpy names them."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    """As numpy reads its bytes; empty for numbers that are no floating-point ones."""
    offset: int = 0
    kind: str = ""
    """As the file names the type: BF16 has to be widened."""
    fortran: bool = False
    """Whether columns lie together, not rows."""

    def read(self, axis: int, index: int) -> Float[np.ndarray, " d"]:
        """One row (``axis`` 0) or column (1) of a matrix, in float64.

        Raises:
            InputError: It holds no floating-point numbers, or the file ends before it does.
        """
        if not self.dtype:
            raise InputError(f"{self.path}: {self.name[:80]!r} is of type {self.kind}; floating-point numbers are read")
        try:
            values = np.memmap(
                self.path, np.dtype(self.dtype), "r", self.offset, self.shape, order="F" if self.fortran else "C"
            )
        except (OSError, ValueError, OverflowError) as error:
            raise InputError(f"{self.path}: {self.name[:80]!r} cannot be read: {describe_cause(error)}") from None
        line = np.array(values[index] if axis == 0 else values[:, index])
        return widen(line, bfloat16=self.kind == "BF16")


def widen(values: np.ndarray, *, bfloat16: bool) -> np.ndarray:
    """Numbers as float64; those of bfloat16 come as the 16 bits that they are."""
    if bfloat16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64)


def open_npz(path: Path) -> dict[str, Matrix]:
    """The arrays of an .npz file by their shapes alone, as ``numpy.savez`` writes it; nothing is unpickled.

    Raises:
        InputError: The file is missing, damaged, compressed, or has arrays of objects.
    """
    place = find_file(path)
    found = {}
    try:
        with zipfile.ZipFile(place) as archive, place.open("rb") as raw:
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy"):
                    continue
                name = entry.filename.removesuffix(".npy")
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise InputError(
                        f"{path}: {name[:80]!r} is compressed, so that no row of it can be read alone; save it anew "
                        "with numpy.savez"
                    )
                raw.seek(entry.header_offset)
                local = raw.read(LOCAL)
                raw.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), 1)
                found[name] = _open_npy(place, name, raw)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a whole .npz file: {describe_cause(error)}") from None
    return found


def _open_npy(path: Path, name: str, raw: IO[bytes]) -> Matrix:
    version = npy.read_magic(raw)
    if version not in HEADERS:
        raise InputError(f"{path}: {name[:80]!r} is of version {version} of numpy's format; 1.0 and 2.0 are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            shape, fortran, dtype = HEADERS[version](raw, max_header_size=LONGEST)
    except (SyntaxError, TokenError, RecursionError, MemoryError, TypeError) as error:  # of a header that is damaged
        raise InputError(f"{path}: {name[:80]!r} has no header of numpy's: {describe_cause(error)}") from None
    if dtype.hasobject:
        raise InputError(f"{path}: {name[:80]!r} is an array of Python objects, which are never unpickled")
    floating = dtype.str if dtype.kind == "f" else ""
    return Matrix(path, name, tuple(shape), floating, raw.tell(), dtype.name, fortran)
