"""A checkpoint's files -> a module and a tokenizer; what is wrong with the files is said before weights are read."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from completions_lp.checkpoint import Checkpoint, check_files, count_tensors, read_settings, reading

MOST_VALUES_A_BYTE = 4
"""Weights that a byte of a file may hold: of two bits each."""


def read_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer, without any weights.

    Raises:
        InputError: It is missing or broken, or asks for code of the checkpoint.
    """
    read_settings(checkpoint)
    with reading(checkpoint), _quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.name, **checkpoint.options)
        tokenizer.model_max_length = 10**9  # too long a text gets our own error, with its place; no warning before it
        tokenizer.decode(tokenizer("A").input_ids)  # a broken one raises here, not later
    return tokenizer


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Check the files as ``check_files`` does, and those of a folder against the size of the model, before it is made.

    Raises:
        InputError: They are not as they should be, or of a far smaller model than the configuration describes.
    """
    files = check_files(checkpoint)
    if checkpoint.local:
        n_tensors = sum(count_tensors(checkpoint, file) for file in files)
        _check_size(checkpoint, n_tensors, sum((Path(checkpoint.name) / file).stat().st_size for file in files))


def read_module(checkpoint: Checkpoint, precision: torch.dtype | str) -> Any:
    """The module with all its weights.

    Raises:
        InputError: Weights are missing, of other shapes, or of no use to this architecture.
    """
    with reading(checkpoint), _quiet():
        module, info = transformers.AutoModelForCausalLM.from_pretrained(
            checkpoint.name,
            dtype=precision,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below, each by name; transformers only logs which they are
            **checkpoint.options,
        )
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
    with reading(checkpoint), _quiet():
        config = transformers.AutoConfig.from_pretrained(checkpoint.name, **checkpoint.options)
        n_layers = int(config.get_text_config().num_hidden_layers)
    if n_layers > n_tensors:
        raise checkpoint.error(f"config.json asks for {n_layers} layers, but the files hold {n_tensors} tensors in all")
    with reading(checkpoint), _quiet(), torch.device("meta"):
        module = transformers.AutoModelForCausalLM.from_config(config)
    n_values = sum(parameter.numel() for parameter in module.parameters())
    if n_values > MOST_VALUES_A_BYTE * n_bytes:
        raise checkpoint.error(f"config.json describes {n_values:,} weights, but the files have {n_bytes:,} bytes")


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
    bars, level = log.is_progress_bar_enabled(), log.get_verbosity()
    log.disable_progress_bar()
    log.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
