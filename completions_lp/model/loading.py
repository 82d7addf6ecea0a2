"""Load a causal language model and find its parts, whatever its architecture."""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from nnsight import NNsight

from completions_lp.records import InputError

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

TOLERANCES = {torch.float64: 1e-6, torch.float32: 5e-4, torch.float16: 0.1, torch.bfloat16: 0.5}
"""Half precision rounds each token's log prob by about this much, whatever is done with it."""


@dataclass
class Usage:
    """What went through the network so far."""

    tokens: int = 0
    """Rows times tokens, padding included."""
    passes: int = 0

    def count(self, ids: torch.Tensor, variants: int = 1) -> None:
        """One pass of these ids, repeated under so many variants."""
        self.tokens += ids.numel() * variants
        self.passes += 1


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
    usage: Usage = field(default_factory=Usage)

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
        return torch.device(self.module.device)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return torch.get_default_dtype() if self.module.dtype is None else self.module.dtype

    @property
    def exact_dtype(self) -> torch.dtype:
        """Precision of log probs and accumulated activations: float32, or float64 where the model runs in it."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def tolerance(self) -> float:
        """Nats by which two right ways to the same completion's log prob may differ at this precision."""
        return TOLERANCES[self.dtype]

    @property
    def kv_bytes(self) -> int:
        """Memory of one token's keys and values in all layers."""
        config = self.module.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or self.d_model // config.num_attention_heads
        return int(2 * self.n_layers * heads * head_size * torch.finfo(self.dtype).bits // 8)

    @property
    def cache_name(self) -> str:
        """What the network calls its cache of keys and values: ``cache``, before transformers 5.24 another name."""
        return "cache" if "cache" in inspect.signature(type(self.module).forward).parameters else "past_key_values"

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raise InputError unless all layers exist."""
        wrong = [layer for layer in layers if not 0 <= layer < self.n_layers]
        if wrong:
            raise InputError(
                f"layer {wrong[0]} is out of range: {self.name} has layers 0 to {self.n_layers - 1} "
                "(layer L is the output of the 0-based block L)"
            )

    def describe(self) -> dict[str, Any]:
        """What a run records of it."""
        return {
            "name": self.name,
            "revision": self.revision,
            "weights": self.fingerprint(),
            "tokenizer": self.tokenizer_hash(),
            "n_layers": self.n_layers,
            "d_model": self.d_model,
            "vocab_size": self.vocab_size,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
        }

    def fingerprint(self) -> str:
        """A hash of the weights: names, shapes and up to 1024 evenly spaced values of every tensor, in float32."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            flat = tensor.reshape(-1)
            sample = flat[:: max(1, flat.numel() // 1024)][:1024].to(torch.float32).cpu().numpy()
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(np.ascontiguousarray(sample).tobytes())
        return digest.hexdigest()

    def tokenizer_hash(self) -> str:
        """A hash of the vocabulary, special tokens and chat template."""
        parts = (sorted(self.tokenizer.get_vocab().items()), sorted(map(str, self.tokenizer.all_special_tokens)))
        template = str(getattr(self.tokenizer, "chat_template", None))
        return hashlib.sha256(repr((parts, template)).encode()).hexdigest()


def load_model(name: str | Path, *, revision: str | None = None, dtype: str = "auto", device: str = "auto") -> Model:
    """Load a model and its tokenizer by local path or hub name.

    A local path never contacts the hub. Only safetensors weights are read, and no code from the checkpoint is run.
    ``revision`` is a hub branch, tag or commit; ``dtype`` ``"float32"``, ``"bfloat16"``, ``"float16"``, ``"float64"``
    or ``"auto"``: float32 on a CPU (where half precision is slower), the checkpoint's own precision elsewhere;
    ``device`` ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``: a GPU where there is one.

    Raises:
        InputError: The checkpoint cannot be found or loaded as it is, or an argument has no such value.
    """
    place = _pick_device(device)
    if dtype != "auto" and dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is none of auto, {', '.join(DTYPES)}")
    precision = DTYPES.get(dtype, torch.float32 if place.type == "cpu" else "auto")
    path = Path(name).expanduser()
    local = path.is_dir()
    if not local and (str(name).startswith((".", "/", "~")) or str(name).count("/") > 1):
        raise InputError(f"model {str(name)!r}: no such folder")
    where = str(path) if local else str(name)
    options: dict[str, Any] = {"revision": revision, "local_files_only": local, "trust_remote_code": False}
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, **options)
        module = transformers.AutoModelForCausalLM.from_pretrained(
            where, dtype=precision, use_safetensors=True, **options
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise InputError(f"model {where!r} cannot be loaded: {lines[0]}") from None
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()
    tokenizer.model_max_length = 10**9  # too long a text gets our own error, with its place; not a warning before it
    commit = revision or getattr(module.config, "_commit_hash", None)
    return wrap_model(module.to(place), tokenizer, name=where, revision=commit)


def wrap_model(module: Any, tokenizer: Any, *, name: str = "in-memory", revision: str | None = None) -> Model:
    """Wrap a transformers causal language model that is in memory already; it is put in evaluation mode."""
    module.eval()
    config = module.config.get_text_config()
    network = NNsight(module)
    return Model(
        name=name,
        revision=revision,
        network=network,
        blocks=_find_blocks(network, config.num_hidden_layers),
        tokenizer=tokenizer,
        d_model=int(config.hidden_size),
        vocab_size=int(module.get_output_embeddings().weight.shape[0]),
        context_length=int(getattr(config, "max_position_embeddings", None) or 2**31),
        eos_ids=_find_eos(module, tokenizer),
    )


def _pick_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise InputError(f"device {device!r} is none of auto, cpu, cuda, cuda:N, mps") from None
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {device!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return place


def _find_blocks(network: Any, n_layers: int) -> tuple[Any, ...]:
    """Envoys of the decoder's blocks: the ModuleList in the decoder that is as long as the model is deep."""
    module = network._module
    for candidate in module.get_decoder().modules():
        if isinstance(candidate, torch.nn.ModuleList) and len(candidate) == n_layers:
            envoy = find_envoy(network, candidate)
            return tuple(envoy[i] for i in range(n_layers))
    raise InputError(
        f"{type(module).__name__}: found no list of {n_layers} decoder blocks; this architecture is unknown"
    )


def find_envoy(network: Any, module: Any) -> Any:
    """The nnsight envoy of a part of the network."""
    path = next(name for name, child in network._module.named_modules() if child is module)
    return attrgetter(path)(network)


def _find_eos(module: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends a text, from the tokenizer, the model's and its generation's configuration."""
    found: set[int] = set()
    for source in (tokenizer, module.config, getattr(module, "generation_config", None)):
        ids = getattr(source, "eos_token_id", None)
        found.update([ids] if isinstance(ids, int) else ids or [])
    return frozenset(found)
