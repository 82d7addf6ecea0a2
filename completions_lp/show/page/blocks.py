"""Columns -> compressed blocks of text that a page can carry and inflate one at a time.

A block is JSON, deflated (zlib), in base64: an object with a list by each name of a column. Log probs and their
increases are whole numbers of their last decimal, which is shorter and exact; what is undefined is ``null``.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped


class Blocks:
    """The blocks of one page, by name."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        """Base64 by name of block."""

    def add(self, name: str, columns: Mapping[str, list[Any]]) -> None:
        """Add a block; its columns hold text, whole numbers, finite reals, booleans and None."""
        text = json.dumps(columns, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self.texts[name] = base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 6)).decode("ascii")

    @property
    def size(self) -> int:
        """Characters of all blocks."""
        return sum(len(text) for text in self.texts.values())


def quantise(values: Shaped[np.ndarray, " value"], decimals: int) -> list[int | None]:
    """Values as whole numbers of ``10 ** -decimals``; None for what is not finite."""
    scaled = np.rint(np.asarray(values, dtype=np.float64) * 10.0**decimals)
    finite = np.isfinite(scaled)
    whole = np.where(finite, scaled, 0.0).astype(np.int64)
    if finite.all():
        return list(whole.tolist())
    return [value if known else None for value, known in zip(whole.tolist(), finite.tolist(), strict=True)]
