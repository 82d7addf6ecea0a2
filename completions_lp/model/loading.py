"""Load a causal language model and find its parts, whatever its architecture."""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from completions_lp import checkpoint as files
from completions_lp.checkpoint import (
    check_map,
    check_place,
    locate,
    name_quantization,
    read_adapter,
    read_header,
)
from completions_lp.model.arithmetic import HALF, compute_in
from completions_lp.model.checkpoint import DTYPES, check_checkpoint, guess_precision, read_module, read_tokenizer
from completions_lp.model.identity import hash_config, hash_tokenizer, hash_weights
from completions_lp.model.parts import count_values, find_blocks, find_context, find_eos, list_settings
from completions_lp.model.placement import carry_inputs, find_device, list_devices, wrap_network
from completions_lp.model.spread import Spread, pick_device
from completions_lp.model.usage import Usage
from completions_lp.records import InputError

RESIDUALS = ("float32", "weights")

TOLERANCES = {torch.float64: 1e-6, torch.float32: 5e-4, torch.float16: 0.1, torch.bfloat16: 0.5}
"""Half precision rounds each token's log prob by about this much, whatever is done with it."""


@dataclass(frozen=True, eq=False)
class Model:
    """A causal language model behind nnsight: the only way in which the other modules reach the network."""

    name: str
    revision: str | None
    network: Any
    """The nnsight wrapper; blocks are its envoys."""
    blocks: Sequence[Any]
    """Decoder blocks in order; the output of block L is the residual stream after layer L."""
    tokenizer: Any
    d_model: int
    vocab_size: int
    context_length: int
    eos_ids: frozenset[int]
    residual_dtype: torch.dtype
    """Precision of the residual stream: where it is wider than the weights, they meet in products of half precision."""
    quantization: str = ""
    """How the checkpoint stores its weights in fewer bits than they compute in; "" where it does not."""
    base: str = ""
    """The model that the weights of an adapter were merged into; "" of a model of its own."""
    usage: Usage = field(default_factory=Usage)
    server: Any = None
    """Where its weights are, if they are not here: a ``Server``."""

    @property
    def is_remote(self) -> bool:
        """Whether its weights are on a server, and no pass can be made here: see ``model.remote``."""
        return self.server is not None

    @property
    def packed(self) -> bool:
        """Whether weights stay quantised in memory, so that no copy in another precision can be made."""
        return bool(getattr(self.module, "is_quantized", False))

    @property
    def module(self) -> Any:
        """The transformers module itself."""
        return self.network._module

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""
        return len(self.blocks)

    @property
    def device(self) -> torch.device:
        """Where token ids go in."""
        device = torch.device(self.module.device)
        return device if device.type != "meta" else find_device(self.module)

    @cached_property
    def devices(self) -> tuple[torch.device, ...]:
        """All devices on which it computes, each once, in the order of a pass."""
        return list_devices(self.module, [block._module for block in self.blocks])

    @property
    def tp_size(self) -> int:
        """Processes that share every block."""
        return getattr(self.module, "_tp_size", None) or 1

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return torch.get_default_dtype() if self.module.dtype is None else self.module.dtype

    @property
    def exact_dtype(self) -> torch.dtype:
        """Precision of log probs and accumulated activations: float32, or float64 where the model runs in it."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def residual(self) -> str:
        """The residual stream's precision as ``load_model`` takes it."""
        return "weights" if self.dtype in HALF and self.residual_dtype == self.dtype else "float32"

    @property
    def attention_dtype(self) -> torch.dtype:
        """Precision of keys and values: of the weights on a GPU, for its speed and their size; else as the residual."""
        return self.dtype if self.device.type == "cuda" else self.residual_dtype

    def arithmetic(self) -> AbstractContextManager[Any]:
        """What every pass is made in, for its products to be in the precision of the weights and all else wider."""
        return compute_in(self.dtype, self.residual_dtype)

    @property
    def tolerance(self) -> float:
        """Nats by which two right ways to the same completion's log prob may differ at this precision.

        Products with quantised weights are in half precision at best, whatever is made of the rest.
        """
        return max(TOLERANCES[self.dtype], TOLERANCES[torch.float16] if self.packed else 0.0)

    @property
    def kv_bytes(self) -> int:
        """Memory of one token's keys and values in all layers; 0 where there is no attention."""
        config = self.module.config.get_text_config()
        layers = getattr(config, "per_layer_config", None)  # of families whose layers are of several widths
        configs = [layers[i] for i in range(self.n_layers)] if layers else [config] * self.n_layers
        values = sum(count_values(one, self.d_model) for one in configs)
        return int(values * torch.finfo(self.attention_dtype).bits // 8)

    @property
    def cache_name(self) -> str:
        """What the network calls its cache of keys and values; "" where it takes none.

        It is ``cache``, before transformers 5.24 another name.
        """
        taken = inspect.signature(type(self.module).forward).parameters
        return next((name for name in ("cache", "past_key_values") if name in taken), "")

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raise InputError unless all layers exist."""
        files.check_layers(self, layers)

    def check_tokens(self, token_ids: Sequence[int], what: str) -> None:
        """Raise InputError unless the model has embeddings of all these tokens; ``what`` says whose they are."""
        if token_ids and max(token_ids) >= self.vocab_size:
            raise InputError(
                f"{what} has token id {max(token_ids)}, but {self.name} knows the ids 0 to {self.vocab_size - 1} only: "
                "the tokenizer is of another model, or has tokens that the model was not resized for"
            )

    def describe(self) -> dict[str, Any]:
        """What a run records of it."""
        return {
            "name": self.name,
            "revision": self.revision,
            "weights": self.fingerprint(),
            "config": self.config_hash,
            "tokenizer": self.tokenizer_hash,
            "n_layers": self.n_layers,
            "d_model": self.d_model,
            "vocab_size": self.vocab_size,
            "dtype": str(self.dtype).removeprefix("torch."),
            "residual": str(self.residual_dtype).removeprefix("torch."),
            "device": str(self.device),
            **{name: value for name in ("quantization", "base") if (value := getattr(self, name))},
        }

    def fingerprint(self) -> str:
        """A hash of every bit of the weights, computed once; the same on every device, another in every precision."""
        return self._weights_hash

    @cached_property
    def _weights_hash(self) -> str:
        return hash_weights(self.module)

    @cached_property
    def tokenizer_hash(self) -> str:
        """A hash of all that turns text into token ids, computed once."""
        return hash_tokenizer(self.tokenizer)

    @cached_property
    def config_hash(self) -> str:
        """A hash of what the architecture does with the weights, computed once."""
        return hash_config(self.module, self.eos_ids)


def load_tokenizer(name: str | Path, *, revision: str | None = None) -> Any:
    """Load a model's tokenizer alone, by local path or hub name, as ``load_model`` does; no weights are read.

    ``revision`` is a hub branch, tag or commit.

    Raises:
        InputError: It cannot be found or loaded as it is, or would need code from the checkpoint.
    """
    return read_tokenizer(locate(name, revision))


def open_model(
    name: str | Path,
    *,
    revision: str | None,
    dtype: str,
    device: str,
    residual: str,
    spread: Spread,
) -> Model:
    """Load a model as ``load_model`` does; with dtype ``"auto"`` in the checkpoint's own precision where it may pay."""
    check_place(dtype, device)
    check_map(spread.device_map, device)
    place = pick_device(device)
    if residual not in RESIDUALS:
        raise InputError(f"residual {residual!r} is none of {', '.join(RESIDUALS)}")
    checkpoint = locate(name, revision)
    check_checkpoint(checkpoint)
    tokenizer = read_tokenizer(checkpoint)
    adapter = read_adapter(checkpoint)
    try:
        module = read_module(checkpoint, DTYPES.get(dtype) or guess_precision(place, checkpoint), place, spread)
        module = module if spread.parted or getattr(module, "is_quantized", False) else module.to(place)
    except torch.OutOfMemoryError:
        where = f"where device_map {spread.device_map!r} puts it" if spread.parted else f"on {place}"
        raise InputError(
            f"model {checkpoint.name!r} does not fit {where}: take dtype bfloat16, device cpu, or device_map auto"
        ) from None
    try:
        model = wrap_model(
            module,
            tokenizer,
            name=checkpoint.name,
            revision=checkpoint.commit,
            residual=residual,
            quantization=read_header(checkpoint).quantization if checkpoint.gguf else "",
            base="" if adapter is None else adapter.base.name,
        )
        _check_vocabulary(model)
        model.fingerprint()
    except InputError as error:
        raise checkpoint.error(str(error)) from None
    return model


def wrap_model(
    module: Any,
    tokenizer: Any,
    *,
    name: str = "in-memory",
    revision: str | None = None,
    residual: str = "float32",
    quantization: str = "",
    base: str = "",
) -> Model:
    """Wrap a transformers causal language model that is in memory already; it is put in evaluation mode.

    ``residual`` is as in ``load_model``; ``quantization`` says how the weights were stored, where the module cannot;
    ``base`` names the model that an adapter was merged into.

    Raises:
        InputError: No list of decoder blocks, or no output head, is found in it.
    """
    module.eval()
    config = module.config.get_text_config()
    network = wrap_network(module)
    head = module.get_output_embeddings()
    if not isinstance(getattr(head, "weight", None), torch.Tensor):
        raise InputError(
            f"{type(module).__name__} has no output head that gives logits over a vocabulary: it is no causal language "
            "model, or one of an unknown kind"
        )
    weights = torch.get_default_dtype() if module.dtype is None else module.dtype
    blocks = find_blocks(network, config.num_hidden_layers)
    carry_inputs(module, [block._module for block in blocks])
    return Model(
        name=name,
        revision=revision,
        network=network,
        blocks=blocks,
        tokenizer=tokenizer,
        d_model=int(config.hidden_size),
        vocab_size=int(head.weight.shape[0]),
        context_length=find_context(config),
        eos_ids=find_eos(module, tokenizer),
        residual_dtype=weights if residual == "weights" else torch.promote_types(weights, torch.float32),
        base=base,
        quantization=quantization or name_quantization(list_settings(module.config)),
    )


def _check_vocabulary(model: Model) -> None:
    """Raise InputError if ordinary words of the tokenizer have no embedding; added tokens may, until they are used."""
    added = model.tokenizer.get_added_vocab()
    ids = [i for token, i in model.tokenizer.get_vocab().items() if token not in added]
    if ids and max(ids) >= model.vocab_size:
        raise InputError(
            f"the tokenizer has ids up to {max(ids)}, but the weights embed {model.vocab_size} tokens: it is of "
            "another model; fetch the checkpoint again"
        )
