"""Where the parts of a network are, and what its configuration says of it: the same for every architecture."""

from operator import attrgetter
from typing import Any

import torch

from completions_lp.checkpoint import UNLIMITED
from completions_lp.records import InputError


def find_blocks(network: Any, n_layers: int) -> tuple[Any, ...]:
    """Envoys of the decoder's blocks: the ModuleList in the decoder that is as long as the model is deep.

    What a family takes for its decoder may be no more than a part of its head; then the whole module is searched.
    """
    module = network._module
    for place in (module.get_decoder(), module):
        for candidate in place.modules():
            if isinstance(candidate, torch.nn.ModuleList) and len(candidate) == n_layers:
                envoy = find_envoy(network, candidate)
                return tuple(envoy[i] for i in range(n_layers))
    raise InputError(
        f"{type(module).__name__}: found no list of {n_layers} decoder blocks; this architecture is unknown"
    )


def find_envoy(network: Any, module: Any) -> Any:
    """The nnsight envoy of a part of the network."""
    path = next(name for name, child in network._module.named_modules() if child is module)
    # nnsight serves what goes in and out under these names, and a part that is called so under another one.
    parts = [f"E_{part}" if part in ("input", "output") else part for part in path.split(".")]
    return attrgetter(".".join(parts))(network)


def find_eos(module: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends a text, from the tokenizer, the model's and its generation's configuration."""
    found: set[int] = set()
    for source in (tokenizer, module.config, getattr(module, "generation_config", None)):
        ids = getattr(source, "eos_token_id", None)
        listed = ids if isinstance(ids, list | tuple) else [] if ids is None else [ids]
        if not all(isinstance(i, int) for i in listed):
            raise InputError(f"eos_token_id is {repr(ids)[:80]}; it must be a token id or a list of token ids")
        found.update(listed)
    return frozenset(found)


def find_context(config: Any) -> int:
    """Tokens of a text, at most: those up to which no number depends on how long the longest text beside it is.

    Rotary positions of some types are stretched once any text of a batch is longer than the model was trained on.
    """
    longest = int(getattr(config, "max_position_embeddings", None) or UNLIMITED)
    rotary = getattr(config, "rope_parameters", None) or {}
    for settings in (rotary, *(value for value in rotary.values() if isinstance(value, dict))):
        if settings.get("rope_type") in ("dynamic", "longrope"):
            trained = settings.get("original_max_position_embeddings")
            longest = min(longest, int(trained or getattr(config, "original_max_position_embeddings", None) or longest))
    return longest


def list_settings(config: Any) -> dict[str, Any]:
    """The part of a module's configuration that tells of quantised weights, as config.json has it."""
    told = getattr(config, "quantization_config", None)
    return {} if told is None else {"quantization_config": told if isinstance(told, dict) else told.to_dict()}


def count_values(config: Any, d_model: int) -> int:
    """Numbers that one layer keeps of a token, keys and values together, by its configuration."""
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None)
    if not isinstance(heads, int):
        return 0
    size = getattr(config, "head_dim", None) or d_model // getattr(config, "num_attention_heads", heads)
    return int(2 * heads * size)
