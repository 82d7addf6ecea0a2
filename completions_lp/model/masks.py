"""Attention masks and caches for packed trees: what a node sees, and the keys and values that it reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from completions_lp.model.loading import Model
from completions_lp.model.network import Steering, prefill

WINDOWS = ("window_size", "attention_window_size", "attention_chunk_size", "local_attention", "sliding_window_size")
"""Names by which configurations narrow attention in ways of their own."""


class TreeCache:
    """Keys and values of prompts, ``[prompt, head, token, d_head]`` a layer, which packed trees read.

    With ``grows`` new keys and values are kept (decoding); else they are joined and forgotten, so the prompts' own are
    read by any number of passes, repeated to the rows that ask. ``steering`` acts on the prompts where it acts at all
    positions.
    """

    is_compileable = False

    def __init__(
        self, model: Model, past: Sequence[Sequence[int]], *, grows: bool, steering: Steering | None = None
    ) -> None:
        prefix = prefill(model, past, steering=steering, keep_all=True)
        layers = [] if prefix.cache is None else getattr(prefix.cache, "layers", [prefix.cache])
        if not all(hasattr(layer, "keys") for layer in layers):
            raise NotImplementedError("a layer remembers something else than keys and values")
        self.dtype = model.attention_dtype
        self.keys = {i: _Store(layer.keys.to(self.dtype)) for i, layer in enumerate(layers)}
        self.values = {i: _Store(layer.values.to(self.dtype)) for i, layer in enumerate(layers)}
        self.grows = grows

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """All keys and values that a pass may see: the kept ones, then the new ones."""
        keys, values = keys.to(self.dtype), values.to(self.dtype)
        return self._join(self.keys, layer, keys), self._join(self.values, layer, values)

    def get_seq_length(self, *_: object) -> int:
        """Tokens that are kept, padding included."""
        return self.keys[0].length if self.keys else 0

    def _join(self, stores: "dict[int, _Store]", layer: int, new: Tensor) -> Tensor:
        if layer not in stores:
            if self.grows:
                stores[layer] = _Store(new)
            return new
        return stores[layer].append(new) if self.grows else stores[layer].join(new)


class _Store:
    """Keys or values of one layer, with room to grow: most steps write the new ones and copy nothing."""

    def __init__(self, first: Tensor) -> None:
        self.room = first
        self.length = int(first.shape[2])

    def append(self, new: Tensor) -> Tensor:
        """Keep the new ones behind the others; all of them."""
        length = self.length + new.shape[2]
        if length > self.room.shape[2]:
            n, heads, _, size = self.room.shape
            room = self.room.new_empty(n, heads, length + length // 2, size)
            room[:, :, : self.length] = self.room[:, :, : self.length]
            self.room = room
        self.room[:, :, self.length : length] = new
        self.length = length
        return self.room[:, :, :length]

    def join(self, new: Tensor) -> Tensor:
        """The new ones behind the others, which are repeated to as many rows; nothing is kept."""
        n = len(self.room)
        past = self.room.expand(len(new), -1, -1, -1) if n == 1 else self.room
        return torch.cat([past if len(past) == len(new) else past.repeat(len(new) // n, 1, 1, 1), new], 2)


def make_masks(
    model: Model,
    visible: Bool[np.ndarray, "prompt query key"],
    query_position: Int[np.ndarray, "prompt query"],
    key_position: Int[np.ndarray, "prompt key"],
) -> Any:
    """The additive mask ``[prompt, 1, query, key]``; one per kind of layer where only some have a sliding window.

    Raises:
        NotImplementedError: Attention is narrowed in another way. A trial on short texts would not show it.
    """
    config = model.module.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    others = sorted(kinds - {"full_attention", "sliding_attention"})
    others += [name for name in WINDOWS if getattr(config, name, None) not in (None, window)]
    if others:
        raise NotImplementedError(f"its attention is narrowed by {', '.join(others)}, of which no tree is made")
    if window is None or getattr(config, "use_sliding_window", True) is False or kinds == {"full_attention"}:
        return _to_additive(model, visible)
    near = query_position[:, :, None] - key_position[:, None] < window
    narrow = _to_additive(model, visible & near)
    return {"full_attention": _to_additive(model, visible), "sliding_attention": narrow} if len(kinds) > 1 else narrow


def _to_additive(model: Model, visible: Bool[np.ndarray, "prompt query key"]) -> Tensor:
    mask = torch.zeros(visible.shape, dtype=model.attention_dtype)
    mask.masked_fill_(~torch.from_numpy(visible), float("-inf"))
    return mask[:, None].to(model.device)
