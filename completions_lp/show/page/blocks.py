"""Columns -> compressed blocks of text that a page can carry and inflate one at a time.

A block is the deflated concatenation of its columns, in base64. Numbers are stored as byte planes (all lowest bytes,
then all second bytes, ...), which deflate packs close to their entropy. Log probs and their increases are whole numbers
of a step that the page states; whole numbers are zigzag-coded (0, -1, 1, -2, ... -> 0, 1, 2, 3, ...), so that the high
planes of small ones are zero.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

MISSING = -(2**31)
"""Stands for NaN among quantised values."""
_LEVEL = 6


class Blocks:
    """The blocks of one page, by name, and what each holds."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        """Base64 by name of block."""
        self.columns: dict[str, list[tuple[str, str, int]]] = {}
        """By name of block, its columns in order: name, type, and number of values (of bytes, for ``json``)."""

    def add(self, name: str, columns: Mapping[str, Any]) -> None:
        """Add a block: arrays of int32 (quantised or whole), uint8 or float64; anything else as JSON."""
        parts, described = [], []
        for column, values in columns.items():
            kind, data, size = _encode(values)
            parts.append(data)
            described.append((column, kind, size))
        self.columns[name] = described
        self.texts[name] = base64.b64encode(zlib.compress(b"".join(parts), _LEVEL)).decode("ascii")

    def drop(self, name: str) -> None:
        """Leave a block out."""
        del self.texts[name], self.columns[name]

    @property
    def size(self) -> int:
        """Characters of all blocks."""
        return sum(len(text) for text in self.texts.values())


def quantise(values: Shaped[np.ndarray, "..."], decimals: int) -> Int[np.ndarray, "..."]:
    """Values as whole numbers of ``10 ** -decimals``; NaN becomes ``MISSING``, what is beyond int32 its ends."""
    scaled = np.rint(np.asarray(values, dtype=np.float64) * 10.0**decimals)
    limit = 2.0**31 - 1
    return np.where(np.isnan(scaled), MISSING, np.clip(scaled, -limit, limit)).astype(np.int32)


def _encode(values: Any) -> tuple[str, bytes, int]:
    if isinstance(values, np.ndarray) and values.dtype == np.uint8:
        return "u1", values.tobytes(), values.size
    if isinstance(values, np.ndarray) and values.dtype == np.int32:
        return "q4", _split_planes(_zigzag(values)), values.size
    if isinstance(values, np.ndarray) and values.dtype == np.float64:
        return "f8", _split_planes(values.astype("<f8").view("<u8")), values.size
    if isinstance(values, np.ndarray):
        raise TypeError(f"a block holds int32, uint8 or float64 arrays, not {values.dtype}")
    data = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
    return "json", data, len(data)


def _zigzag(values: Int[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    wide = values.astype(np.int64)
    return np.asarray((np.where(wide < 0, -2 * wide - 1, 2 * wide) & 0xFFFFFFFF).astype("<u4"))


def _split_planes(words: Shaped[np.ndarray, "..."]) -> bytes:
    size = words.dtype.itemsize
    return np.ascontiguousarray(words.reshape(-1).view(np.uint8).reshape(-1, size).T).tobytes()
