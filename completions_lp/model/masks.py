"""Attention masks and caches for packed trees: what a node sees, and the keys and values that it reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from completions_lp.model.loading import Model
from completions_lp.model.network import Steering, prefill


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
        layers = [] if prefix.cache is None else prefix.cache.layers
        self.keys = {i: layer.keys for i, layer in enumerate(layers)}
        self.values = {i: layer.values for i, layer in enumerate(layers)}
        self.grows = grows

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """All keys and values that a pass may see: the kept ones, then the new ones."""
        joined = _join(self.keys.get(layer), keys), _join(self.values.get(layer), values)
        if self.grows:
            self.keys[layer], self.values[layer] = joined
        return joined

    def get_seq_length(self, *_: object) -> int:
        """Tokens that are kept, padding included."""
        return int(self.keys[0].shape[-2]) if self.keys else 0


def _join(past: Tensor | None, new: Tensor) -> Tensor:
    if past is None:
        return new
    n = past.shape[0]
    past = past.expand(len(new), -1, -1, -1) if n == 1 else past.repeat(len(new) // n, 1, 1, 1)
    return torch.cat([past, new], 2)


def make_masks(
    model: Model,
    visible: Bool[np.ndarray, "prompt query key"],
    query_position: Int[np.ndarray, "prompt query"],
    key_position: Int[np.ndarray, "prompt key"],
) -> Any:
    """The additive mask ``[prompt, 1, query, key]`` that a model takes for what is visible.

    Layers with a sliding window see only that far back; a model that mixes the two kinds takes one mask for each.
    """
    config = model.module.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if window is None or getattr(config, "use_sliding_window", True) is False or kinds == {"full_attention"}:
        return _to_additive(model, visible)
    near = query_position[:, :, None] - key_position[:, None] < window
    narrow = _to_additive(model, visible & near)
    return {"full_attention": _to_additive(model, visible), "sliding_attention": narrow} if len(kinds) > 1 else narrow


def _to_additive(model: Model, visible: Bool[np.ndarray, "prompt query key"]) -> Tensor:
    mask = torch.zeros(visible.shape, dtype=model.dtype)
    mask.masked_fill_(~torch.from_numpy(visible), float("-inf"))
    return mask[:, None].to(model.device)
