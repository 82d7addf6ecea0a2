"""How many weights a network has, and how many of them a token meets, from its configuration or by a size's name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from completions_lp.checkpoint.files import Checkpoint, read_settings
from completions_lp.checkpoint.shape import INNER, LAYERS, WIDTHS
from completions_lp.records import InputError

GATED = ("silu", "swish", "swiglu", "geglu", "gelu_pytorch_tanh")
"""Activations of networks whose feed-forward part has a gate, and so a third matrix."""


@dataclass(frozen=True)
class Weights:
    """A network as work counts it."""

    name: str
    n_layers: int
    d_model: int
    vocab_size: int
    layer: int
    """Weights of a block that a token meets."""
    spare: int = 0
    """Weights of a block that it does not: other experts."""

    @property
    def head(self) -> int:
        """Weights of the output head."""
        return self.vocab_size * self.d_model

    @property
    def total(self) -> int:
        """All of them, embeddings counted as the head is."""
        return self.n_layers * (self.layer + self.spare) + 2 * self.head


def count_weights(name: str, settings: Mapping[str, Any]) -> Weights:
    """The weights that a configuration tells of: attention with fewer keys than queries, gates, experts.

    What it leaves to transformers is taken as usual: four widths of a feed-forward part, as many keys as queries.

    Raises:
        InputError: It does not say how many layers there are, how wide they are or how many tokens are known.
    """
    inner = [settings[key] for key in INNER if isinstance(settings.get(key), dict)]
    text = inner[0] if len(inner) == 1 else settings
    depth, width, vocab = (_find(text, *names) for names in (LAYERS, WIDTHS, ("vocab_size",)))
    if not (depth and width and vocab):
        raise InputError(f"{name}: its configuration does not say how many layers, how wide, what vocabulary")
    heads = _find(text, "num_attention_heads", "n_head") or 1
    share = (_find(text, "num_key_value_heads", "num_kv_heads") or heads) / heads
    queries = (_find(text, "head_dim") or width // heads) * heads
    attention = 2 * width * queries * (1 + share)
    wide = _find(text, "moe_intermediate_size") or _find(text, "intermediate_size", "ffn_dim", "n_inner") or 4 * width
    matrices = 3 if str(text.get("hidden_act", text.get("hidden_activation", ""))) in GATED else 2
    experts = _find(text, "num_local_experts", "num_experts", "n_routed_experts") or 1
    met = (_find(text, "num_experts_per_tok") or 1) if experts > 1 else 1
    expert = matrices * width * wide
    return Weights(name, depth, width, vocab, int(attention + met * expert), int((experts - met) * expert))


def read_weights(checkpoint: Checkpoint) -> Weights:
    """The weights of a checkpoint's network; raises InputError as ``count_weights``, or without a config.json."""
    settings = read_settings(checkpoint)
    if not settings:
        raise InputError(f"{checkpoint.name}: has no config.json, which says how large the network is")
    return count_weights(checkpoint.name, settings)


def _find(settings: Mapping[str, Any], *names: str) -> int:
    """The first of some counts that is there; 0 where none is."""
    return next((settings[name] for name in names if type(settings.get(name)) is int and settings[name] > 0), 0)


def _name(name: str, depth: int, width: int, wide: int, heads: int, keys: int, vocab: int) -> Weights:
    """A network of the usual kind with gates."""
    return count_weights(
        name,
        {
            **{"num_hidden_layers": depth, "hidden_size": width, "intermediate_size": wide, "hidden_act": "silu"},
            **{"num_attention_heads": heads, "num_key_value_heads": keys, "vocab_size": vocab},
        },
    )


NAMED: Mapping[str, Weights] = {
    "7B": _name("7B", 32, 4096, 11_008, 32, 32, 32_000),
    "70B": _name("70B", 80, 8192, 28_672, 64, 8, 128_256),
    "405B": _name("405B", 126, 16_384, 53_248, 128, 8, 128_256),
}
"""Sizes by name, shaped as the Llama models that have them."""
