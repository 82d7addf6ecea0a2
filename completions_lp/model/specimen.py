"""A copy of a half-precision model in float32, on which the structure of a pass shows without its rounding.

Whole where it is small; else its first two and its last two blocks, as a model of their own.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psutil
import torch

from completions_lp.model.loading import Model, wrap_model
from completions_lp.model.placement import list_tensors

LARGEST = 2**31
"""Bytes of a copy of the whole model; one of four blocks may take more, as its embedding does."""
ENDS = 2
"""Blocks of either end."""


def copy_wide(model: Model, *, largest: int = LARGEST) -> tuple[Model, Model]:
    """A specimen of a half-precision model twice: in float32, and as the model itself computes.

    They have all blocks if these take at most ``largest`` bytes in float32, and a quarter of the memory; else the first
    two and last two. The second is then the model, or has copies of these blocks. Of weights that stay quantised there
    is no copy: both are the model.
    """
    if model.packed:
        return model, model
    chosen = list(range(model.n_layers))
    if not is_small(model, largest=largest) and model.n_layers > 2 * ENDS:
        chosen = [*chosen[:ENDS], *chosen[-ENDS:]]
    wide = copy_model(model, chosen, torch.float32)
    if len(chosen) == model.n_layers:
        return wide, model
    return wide, copy_model(model, chosen, model.dtype, residual=model.residual)


def is_small(model: Model, *, largest: int = LARGEST) -> bool:
    """Whether a copy of the whole model can be made in float32: of ``largest`` bytes, and a quarter of the memory."""
    if model.packed:
        return False
    size = 4 * sum(parameter.numel() for parameter in model.module.parameters())
    return bool(size <= min(largest, psutil.virtual_memory().total // 4))


def copy_model(model: Model, chosen: Sequence[int], dtype: torch.dtype, *, residual: str = "float32") -> Model:
    """A model of some blocks of another one, with copies of its weights; precisions as in ``load_model``."""
    n, module = model.n_layers, model.module
    config = copy.deepcopy(module.config)
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for name, value in list(vars(part).items()):
            if isinstance(value, list) and len(value) == n:  # one entry a layer
                setattr(part, name, [value[i] for i in chosen])
    config.get_text_config().num_hidden_layers = len(chosen)
    with torch.random.fork_rng(devices=[]):
        made = type(module)(config).to(device=model.device, dtype=dtype).eval()
    first = model.blocks[0]._module
    prefix = next(name for name, part in module.named_modules() if part is first).removesuffix(".0")
    place = {f"{prefix}.{old}.": f"{prefix}.{new}." for new, old in enumerate(chosen)}
    state: dict[str, Any] = {}

    def is_kept(name: str) -> bool:
        return not name.startswith(f"{prefix}.") or name.startswith(tuple(place))

    for name, value, _ in list_tensors(module, is_kept):
        start = next((old for old in place if name.startswith(old)), None)
        if start is not None:
            state[place[start] + name.removeprefix(start)] = value
        else:
            state[name] = value
    made.load_state_dict(state)
    copied = wrap_model(
        made, model.tokenizer, name=model.name, residual=residual, quantization=model.quantization, base=model.base
    )
    return replace(copied, eos_ids=model.eos_ids)
