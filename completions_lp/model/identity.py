"""What tells one model from another: hashes of its weights, of its tokenizer and of its configuration."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from completions_lp.model.placement import list_tensors
from completions_lp.records import InputError

CHUNK = 2**15
"""Values a row of weights' checksums: on a CPU, what stays in its cache."""
ROWS_AT_ONCE = 512
"""Rows a step on a GPU, where few large steps are faster than many small ones."""

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int32}
"""By the bytes of a value. A float64 is two: its sign, as 2^63, is the same modulo 2^64 times any odd factor."""

_NAMES_ONLY = frozenset({
    "_attn_implementation_autoset", "_commit_hash", "_model_name_or_path", "_name_or_path", "architectures", "auto_map",
    "distributed_config",
    "dtype", "id2label", "initializer_range", "label2id", "model_max_length", "output_attentions",
    "output_hidden_states", "problem_type", "return_dict", "torch_dtype", "transformers_version",
    "transformers_weights", "use_cache",
})  # fmt: skip
"""What a configuration says that no log prob depends on: names, paths, versions, how training began, what to return.

The precision is left out as well: a run records the one that the weights are in.
"""


def hash_weights(module: torch.nn.Module) -> str:
    """A sha256 of every bit of every weight and stored buffer, with names, shapes and precisions, on any device alike.

    What is hashed of a tensor is a checksum: its values' bits as integers, each times an odd number that depends on
    its place, summed modulo 2^64. An odd factor has an inverse, so no change of one value leaves the sum as it was.

    Raises:
        InputError: Weights are NaN or infinite; the first tensor is named.
    """
    weights = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    known: dict[tuple[Any, ...], tuple[int, bool]] = {}
    lines: dict[str, str] = {}
    for whole, value, fetched in list_tensors(module):
        for name, tensor in _list_parts(whole, value):
            shape = tuple(tensor.shape)
            place = (tensor.device, tensor.data_ptr(), shape, tensor.stride(), tensor.dtype)
            rows = 1 if tensor.device.type == "cpu" else ROWS_AT_ONCE
            if fetched:  # and let go: another one may come to lie where it lay
                total, finite = _add_up(tensor, rows)
            elif place in known:  # tied weights have two names
                total, finite = known[place]
            else:
                total, finite = known[place] = _add_up(tensor, rows)
            if name in weights and not finite:  # a buffer may hold a mask of -inf
                raise InputError(_tell_undefined(name, tensor))
            lines[name] = f"{name!r} {shape} {tensor.dtype} {total}\n"
    return hashlib.sha256("".join(lines[name] for name in sorted(lines)).encode()).hexdigest()


def hash_tokenizer(tokenizer: Any) -> str:
    """A sha256 of all that turns text into token ids and back: vocabulary, rules, special tokens, chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = {} if backend is None else json.loads(backend.to_str())
    parts = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        # Padding and truncation are how it was last called, and change no id of a text.
        "rules": {name: rule for name, rule in rules.items() if name not in ("padding", "truncation")},
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "cleaned": bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)),
        "template": getattr(tokenizer, "chat_template", None),
    }
    return _hash_json(parts)


def hash_config(module: Any, eos_ids: frozenset[int]) -> str:
    """A sha256 of the architecture, its settings (as ``rope_theta``, which no weight tells) and what ends a text."""
    return _hash_json([type(module).__name__, _drop_names(module.config.to_dict()), sorted(eos_ids)])


def _list_parts(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """A tensor itself, or the plain ones that a quantised one is made of, each by its name."""
    if hasattr(value, "__tensor_flatten__"):
        inner, _ = value.__tensor_flatten__()
        for part in inner:
            yield from _list_parts(f"{name}.{part}", getattr(value, part))
    elif isinstance(value, torch.Tensor):
        yield name, value


def _add_up(tensor: torch.Tensor, rows_at_once: int) -> tuple[int, bool]:
    """The checksum of a tensor's bits, ``CHUNK`` integers a row, and whether all its values are numbers."""
    flat = tensor.detach().reshape(-1).view(_INTEGERS[tensor.element_size()])
    # The factor of a place is that of its column times that of its row, which are not the same numbers: else column i
    # of row j and column j of row i would have one factor.
    inner = _draw_odd(0, CHUNK, flat.device)
    outer = _draw_odd(CHUNK, -(-flat.numel() // CHUNK), flat.device)
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    finite = torch.ones((), dtype=torch.bool, device=flat.device)
    for start in range(0, flat.numel(), rows_at_once * CHUNK):
        part = flat[start : start + rows_at_once * CHUNK]
        rows = torch.nn.functional.pad(part.to(torch.int64), (0, -part.numel() % CHUNK)).view(-1, CHUNK)
        first = start // CHUNK
        total += ((rows * inner).sum(-1) * outer[first : first + len(rows)]).sum()
        if tensor.is_floating_point():
            values = part.view(tensor.dtype)
            values = values if values.element_size() > 1 else values.to(torch.float32)
            low, high = torch.aminmax(values)  # both NaN if one value is; a third of the time of isfinite
            finite &= low.isfinite() & high.isfinite()
    return int(total), bool(finite)


def _draw_odd(first: int, n: int, device: torch.device) -> torch.Tensor:
    """``n`` odd integers, from number ``first`` of one sequence: splitmix64 (Steele, Lea and Flood 2014), made odd."""
    z = torch.arange(first + 1, first + n + 1, device=device) * -0x61C8864680B583EB
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        z = (z ^ ((z >> shift) & (2 ** (64 - shift) - 1))) * factor  # a logical shift: torch's is arithmetic
    return (z ^ ((z >> 31) & (2**33 - 1))) | 1


def _tell_undefined(name: str, tensor: torch.Tensor) -> str:
    values = tensor if tensor.element_size() > 1 else tensor.to(torch.float32)
    n = int((~values.isfinite()).sum())
    return (
        f"weights {name!r}: {n} of {tensor.numel()} values are NaN or infinite in {str(tensor.dtype)[6:]}; every log "
        "prob would be: repair the checkpoint, or load it in a precision that holds its values (bfloat16, float32)"
    )


def _drop_names(config: Any) -> Any:
    """A configuration, and those within it, without what no log prob depends on."""
    if isinstance(config, Mapping):
        return {str(key): _drop_names(value) for key, value in config.items() if key not in _NAMES_ONLY}
    return config


def _hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
