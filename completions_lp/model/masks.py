"""Attention masks of packed trees: what a node sees."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from completions_lp.model.transfer import upload

WINDOWS = ("window_size", "attention_window_size", "attention_chunk_size", "local_attention", "sliding_window_size")
"""Names by which configurations narrow attention in ways of their own."""


@runtime_checkable
class Attending(Protocol):
    """A network as far as masks go."""

    @property
    def module(self) -> Any:
        """The transformers module, with its configuration."""

    @property
    def attention_dtype(self) -> torch.dtype:
        """Precision of queries and keys."""

    @property
    def device(self) -> torch.device:
        """Where the mask is to be."""


def make_masks(
    model: Attending,
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


def _to_additive(model: Attending, visible: Bool[np.ndarray, "prompt query key"]) -> Tensor:
    seen = upload(visible, model.device)  # a byte each; the mask itself takes two or four
    mask = torch.zeros(visible.shape, dtype=model.attention_dtype, device=model.device)
    mask.masked_fill_(~seen, float("-inf"))
    return mask[:, None]
