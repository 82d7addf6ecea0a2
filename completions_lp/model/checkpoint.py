"""A checkpoint's files -> a module and a tokenizer; what is wrong with the files is said before weights are read."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

from completions_lp.checkpoint import (
    PRECISIONS,
    Adapter,
    Checkpoint,
    check_files,
    count_tensors,
    find_tokenizer,
    name_quantization,
    read_adapter,
    read_header,
    read_settings,
    reading,
)
from completions_lp.model.placement import is_offloaded
from completions_lp.model.spread import Spread
from completions_lp.records import InputError

GGUF = "model.gguf"
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in PRECISIONS}
MOST_VALUES_A_BYTE = 4
"""Weights that a byte of a file may hold: of two bits each."""


def read_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer, without any weights.

    Raises:
        InputError: It is missing or broken, or asks for code of the checkpoint.
    """
    checkpoint = find_tokenizer(checkpoint)
    read_settings(checkpoint)
    with reading(checkpoint), _quiet(), _place(checkpoint) as (name, options):
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
        tokenizer.model_max_length = 10**9  # too long a text gets our own error, with its place; no warning before it
        tokenizer.decode(tokenizer("A").input_ids)  # a broken one raises here, not later
    return tokenizer


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Check the files as ``check_files`` does, and those of a folder against the size of the model, before it is made.

    Raises:
        InputError: They are not as they should be, or of a far smaller model than the configuration describes.
    """
    files = check_files(checkpoint)
    adapter = read_adapter(checkpoint)
    if checkpoint.gguf:
        _check_size(checkpoint, read_header(checkpoint).n_tensors, Path(checkpoint.name).stat().st_size)
    elif adapter is not None:
        check_checkpoint(adapter.base)
    elif checkpoint.local:
        n_tensors = sum(count_tensors(checkpoint, file) for file in files)
        _check_size(checkpoint, n_tensors, sum((Path(checkpoint.name) / file).stat().st_size for file in files))


def read_module(checkpoint: Checkpoint, precision: torch.dtype | str, place: torch.device, spread: Spread) -> Any:
    """The module with all its weights; those that stay quantised, or are spread, go where they stay as they are read.

    Raises:
        InputError: Weights are missing, of other shapes, or of no use to this architecture; a map names no part of it.
    """
    adapter = read_adapter(checkpoint)
    if adapter is not None:
        base = read_module(adapter.base, precision, place, spread)
        if is_offloaded(base):
            raise checkpoint.error(
                "an adapter is merged into the weights, and device_map offloads some of them; spread the model over "
                "devices that hold all of it, or save the merged model and take that"
            )
        return merge_adapter(adapter, base)
    with reading(checkpoint), _quiet(), _place(checkpoint) as (name, options):
        config = transformers.AutoConfig.from_pretrained(name, **options)
    try:
        special = spread.list_options(lambda: _outline_module(checkpoint, config))
    except InputError as error:
        raise checkpoint.error(str(error)) from None
    if name_quantization(read_settings(checkpoint) or {}):
        special = {"device_map": {"": place}} | special
    elif checkpoint.gguf and hasattr(transformers, "GgufConfig"):  # else a kernel of the hub might be fetched for it
        special = {"quantization_config": transformers.GgufConfig(dequantize=True)} | special
    with reading(checkpoint), _quiet(), _place(checkpoint) as (name, options):
        module, info = _pick_class(config).from_pretrained(
            name,
            dtype=precision,
            use_safetensors=None if checkpoint.gguf else True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below, each by name; transformers only logs which they are
            **special,
            **options,
        )
    if checkpoint.gguf:
        _forget_packing(module)
    missing, misshapen = sorted(info["missing_keys"]), sorted(info["mismatched_keys"])
    useless = sorted(name for name in info["unexpected_keys"] if _is_inside(module, name))
    advice = "the numbers would be those of another model: fetch the checkpoint again, or mend its config.json"
    if missing:
        raise checkpoint.error(f"the files hold no weights {_name_some(missing)}; {advice}")
    if misshapen:
        _, theirs, ours = misshapen[0]
        shapes = f"{tuple(theirs)} in the files and {tuple(ours)} by config.json"
        raise checkpoint.error(f"weights {_name_some([entry[0] for entry in misshapen])} are {shapes}; {advice}")
    if useless:
        raise checkpoint.error(f"{type(module).__name__} has no place for the weights {_name_some(useless)}; {advice}")
    return module


def _check_size(checkpoint: Checkpoint, n_tensors: int, n_bytes: int) -> None:
    """Raise InputError if the configuration describes a far larger model than the files hold, before it is made."""
    with reading(checkpoint), _quiet(), _place(checkpoint) as (name, options):
        config = transformers.AutoConfig.from_pretrained(name, **options)
        n_layers = int(config.get_text_config().num_hidden_layers)
    if n_layers > n_tensors:
        raise checkpoint.error(f"config.json asks for {n_layers} layers, but the files hold {n_tensors} tensors in all")
    module = _outline_module(checkpoint, config)
    n_values = sum(parameter.numel() for parameter in module.parameters())
    if n_values > MOST_VALUES_A_BYTE * n_bytes:
        raise checkpoint.error(f"config.json describes {n_values:,} weights, but the files have {n_bytes:,} bytes")


def _outline_module(checkpoint: Checkpoint, config: Any) -> Any:
    """The module without any weights."""
    with reading(checkpoint), _quiet(), torch.device("meta"):
        return _pick_class(config).from_config(config)


def _forget_packing(module: Any) -> None:
    """Let a module whose weights came from a GGUF file be the plain one that it is by now."""
    module.is_quantized = False
    module.hf_quantizer = None
    if hasattr(module.config, "quantization_config"):
        del module.config.quantization_config


def _pick_class(config: Any) -> Any:
    """What makes the model: the class of causal models or, for one that only that has, the class of text and images."""
    kinds = transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText
    return next((kind for kind in kinds if type(config) in kind._model_mapping), kinds[0])


@contextmanager
def _place(checkpoint: Checkpoint) -> Iterator[tuple[str, dict[str, Any]]]:
    """What transformers is told to read. A GGUF file is shown to it in a folder of its own, where nothing else lies."""
    if not checkpoint.gguf:
        yield checkpoint.name, checkpoint.options
        return
    with TemporaryDirectory() as folder, redirect_stderr(StringIO()):  # a progress bar that no setting turns off
        (Path(folder) / GGUF).symlink_to(Path(checkpoint.name).resolve())
        yield folder, {**checkpoint.options, "gguf_file": GGUF}


def merge_adapter(adapter: Adapter, module: Any) -> Any:
    """A model with a LoRA adapter merged into its weights; beside them, where these are quantised.

    Raises:
        InputError: The adapter is not of this model, or its weights are no numbers.
    """
    import peft

    checkpoint = adapter.checkpoint
    with reading(checkpoint), _quiet():
        found = peft.PeftModel.from_pretrained(module, str(adapter.folder), is_trainable=False, local_files_only=True)
    theirs = set(load_file(adapter.folder / adapter.weights))
    ours = set(peft.get_peft_model_state_dict(found, save_embedding_layers=False))  # "auto" would ask the hub
    ours |= theirs & set(found.state_dict())  # whole layers, as embeddings that were trained
    useless, missing = sorted(theirs - ours), sorted(ours - theirs)
    if useless or missing:
        side = "has no place for" if useless else "does not find"
        odd = _name_some(useless or missing)
        raise checkpoint.error(f"its model {adapter.base.name!r} {side} the adapter's weights {odd}")
    with reading(checkpoint), _quiet():
        if getattr(module, "is_quantized", False):
            return found.get_base_model()
        return found.merge_and_unload(safe_merge=True)


def guess_precision(place: torch.device, checkpoint: Checkpoint) -> torch.dtype | str:
    """What to load where the precision is left open: float32 on a CPU, unless it has units for the checkpoint's.

    Float32 for an adapter, too: in half precision, weights round off most of what it adds to them.
    """
    if read_adapter(checkpoint) is not None:
        return torch.float32
    if checkpoint.gguf:
        header = read_header(checkpoint)
        half = DTYPES["bfloat16" if header.quantization else header.narrow]
        return torch.float32 if place.type == "cpu" else half
    if place.type != "cpu":
        return "auto"
    config = read_settings(checkpoint) or {}
    named = config.get("dtype") or config.get("torch_dtype")
    able: Mapping[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not tell
    units = able.get("avx512_bf16") or able.get("amx_bf16")
    return torch.bfloat16 if named == "bfloat16" and units else torch.float32


def _is_inside(module: torch.nn.Module, name: str) -> bool:
    """Whether weights that the model did not take belong to a part that it has: not to a whole head of another use."""
    first = name.split(".")[0]
    return first in dict(module.named_children())


def _name_some(names: Sequence[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(repr(name[:200]) for name in names[:most]) + (f" and {rest} more" if rest > 0 else "")


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, warnings or log lines: what is wrong is raised."""
    log = transformers.utils.logging
    bars, level, hooks = log.is_progress_bar_enabled(), log.get_verbosity(), logging.getLogger("accelerate")
    told = hooks.level
    log.disable_progress_bar()
    log.set_verbosity_error()
    hooks.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(level)
        hooks.setLevel(told)
        if bars:
            log.enable_progress_bar()
