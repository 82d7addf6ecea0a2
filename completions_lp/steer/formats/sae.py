"""A decoder row of a sparse autoencoder: one feature's direction, read alone where the file permits it.

Suites lay their decoders out in two ways, and say in several places at which hook they were trained. Only the residual
stream after a block is steered: ``resid_pre`` of block L is the output of block L - 1.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.checkpoint.matrices import Matrix, open_npz
from completions_lp.checkpoint.tensors import open_matrices
from completions_lp.steer.formats.pickled import load_pickled, shape_of, unpack
from completions_lp.steer.formats.source import PICKLED, Asked, Found, Source, as_direction, tell_layers

HOOKS = (
    (re.compile(r"blocks\.(\d{1,4})\.hook_resid_post"), 0),
    (re.compile(r"blocks\.(\d{1,4})\.hook_resid_pre"), -1),
    (re.compile(r"(?:.*\.)?(?:layers|h)\.(\d{1,4})(?:\.output)?"), 0),
    (re.compile(r"resid_post_layer_(\d{1,4})"), 0),
    (re.compile(r"resid_pre_layer_(\d{1,4})"), -1),
)
"""How a hook is called that is the residual stream between blocks, and which block's output that is."""
BIASES = ("b_dec", "decoder.bias", "decoder_linear.bias", "bias", "pre_bias")
"""What is as long as the residual stream is wide."""


def parse_hook(hook: str) -> int | None:
    """The block whose output a hook is; -1 for the embedding, None for any other place in a model."""
    for pattern, shift in HOOKS:
        if match := pattern.fullmatch(hook):
            return int(match[1]) + shift
    return None


@dataclass(frozen=True)
class Suite:
    """How a suite keeps its decoder, and how it tells the layer."""

    key: str
    axis: int
    """The one that counts features."""
    endings: tuple[str, ...]
    find_hook: Callable[[Source], Any]
    """A hook by name, or the layer itself; None where nothing says it."""
    files: tuple[str, ...] = ()
    """What the file in a folder of it is called."""
    strict: bool = False
    """Whether it is told from other suites by the name of its file alone."""


def _find_in_scope(source: Source) -> str | None:
    """Gemma Scope: the site is in the repository's name, the layer in the folder's."""
    parts = source.place.absolute().parts
    sites = [match[1] for part in parts if (match := re.fullmatch(r"gemma-scope-.+-(res|mlp|att)", part))]
    layers = [match[1] for part in parts if (match := re.fullmatch(r"layer_(\d{1,4})", part))]
    return f"blocks.{layers[-1]}.hook_resid_post" if sites == ["res"] and layers else None


def _find_in_file(*names: str, keys: tuple[str, ...]) -> Callable[[Source], Any]:
    """A hook that stands in a JSON file beside the weights, under the first of these keys, at any place of it."""

    def find(source: Source) -> Any:
        told = source.read_json(*names)
        inner = [told, *(told[name] for name in ("metadata", "trainer") if isinstance(told.get(name), dict))]
        return next((values[key] for key in keys for values in inner if values.get(key)), None)

    return find


def _find_in_name(pattern: str) -> Callable[[Source], str | None]:
    """A layer that stands in the name of the file, whose hook is the output of that block."""

    def find(source: Source) -> str | None:
        match = re.fullmatch(pattern, source.path.name)
        return f"layers.{match[1]}" if match else None

    return find


def _find_in_folder(source: Source) -> str:
    """sparsify: the folder is called after the hook point."""
    return source.place.absolute().parent.name


SUITES: Mapping[str, Suite] = {
    "gemma-scope": Suite("W_dec", 0, (".npz",), _find_in_scope, ("params.npz",)),
    "gemma-scope-2": Suite(
        "w_dec",
        0,
        (".safetensors",),
        _find_in_file("config.json", keys=("hf_hook_point_out", "hf_hook_point_in")),
        ("params.safetensors",),
    ),
    "sae-lens": Suite(
        "W_dec",
        0,
        (".safetensors",),
        _find_in_file("cfg.json", keys=("hook_name_out", "hook_name")),
        ("sae_weights.safetensors",),
        strict=True,
    ),
    "sparsify": Suite("W_dec", 0, (".safetensors",), _find_in_folder, ("sae.safetensors",), strict=True),
    "llama-scope": Suite(
        "decoder.weight",
        1,
        (".safetensors",),
        _find_in_file("hyperparams.json", "config.json", keys=("hook_point_out", "hook_point_in")),
        ("final.safetensors", "sae_weights.safetensors"),
    ),
    "qwen-scope": Suite("W_dec", 1, PICKLED, _find_in_name(r"layer_?(\d{1,4})\.sae\.pt")),
    "dictionary-learning": Suite(
        "decoder.weight", 1, PICKLED, _find_in_file("config.json", keys=("submodule_name",)), ("ae.pt",)
    ),
    "goodfire": Suite("decoder_linear.weight", 1, PICKLED, _find_in_name(r".*[-_]l(\d{1,4})\.(?:pt|pth)")),
}
"""By the name of their format."""
FILES = frozenset(file for suite in SUITES.values() for file in suite.files)
"""What files of weights are called, whose hooks stand in files beside them."""


def find_file(source: Source, suite: Suite) -> Path | None:
    """The file of weights: itself, or that of a folder."""
    return source.find(*suite.files) if source.is_folder else source.path


def claim(source: Source, name: str) -> bool:
    """Whether a file or folder is of this suite: its decoder is there, under the suite's name for it."""
    suite = SUITES[name]
    path = find_file(source, suite)
    if path is None or path.suffix.lower() not in suite.endings or not path.expanduser().is_file():
        return False
    if suite.strict and path.name not in suite.files:
        return False
    return len((_open(Source(path)).get(suite.key) or (None, ()))[1]) == 2


def _open(source: Source) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """The arrays of a file of weights, and their shapes."""
    if source.suffix == ".npz":
        return {name: (matrix, matrix.shape) for name, matrix in open_npz(source.path).items()}
    if source.suffix == ".safetensors":
        return {name: (matrix, matrix.shape) for name, matrix in open_matrices(source.path)[1].items()}
    values = load_pickled(source.path)
    inner = values.get("state_dict", values) if isinstance(values, dict) else {}
    shaped = {str(name): (value, shape_of(value)) for name, value in inner.items()} if isinstance(inner, dict) else {}
    return {name: (value, shape) for name, (value, shape) in shaped.items() if shape is not None}


def read(source: Source, asked: Asked) -> Found:
    """The direction of one feature, at the block whose output the autoencoder was trained on, or where it is asked."""
    names = [asked.format] if asked.format in SUITES else [name for name in SUITES if claim(source, name)]
    if len(names) != 1:
        raise source.error(f"is of no one suite of autoencoders ({', '.join(SUITES)}): say which with format")
    suite = SUITES[names[0]]
    path = find_file(source, suite)
    if path is None:
        raise source.error(f"has none of {', '.join(suite.files) or 'the files of this suite: name the file itself'}")
    inner = Source(path)
    found = _open(inner)
    if suite.key not in found:
        has = ", ".join(f"{name[:40]!r} {list(shape)}" for name, (_, shape) in list(found.items())[:5])
        raise inner.error(f"has no {suite.key!r}, the decoder of {names[0]}; it has {has or 'no arrays'}")
    decoder, shape = found[suite.key]
    if len(shape) != 2:
        raise inner.error(f"{suite.key} has shape {list(shape)}; a decoder has two axes")
    _check_width(inner, suite, shape, {name: of for name, (_, of) in found.items()})
    n, feature = shape[suite.axis], asked.feature
    if feature is None or not 0 <= feature < n:
        raise inner.error(
            f"has {n} features, and feature is {feature}: say which, from 0 to {n - 1}: feature = 12082, or --feature"
        )
    direction = as_direction(path, f"feature {feature}", _read_line(inner, suite, decoder, feature))
    hook = suite.find_hook(inner)
    layers = inner.say_layer(asked, None if hook is None else parse_hook(str(hook)), what=_tell_hook(hook))
    kept: dict[str, str | int | float] = {"feature": feature, "hook": str(hook or "")[:200], "sae": names[0]}
    read_as = (
        f"feature {feature} of {n}, at the output of {tell_layers(layers)}{f' ({str(hook)[:80]})' if hook else ''}"
    )
    return Found(dict.fromkeys(layers, direction), read_as, f"{names[0]}-{feature}", kept)


def _tell_hook(hook: Any) -> str:
    if hook is None:
        return "an autoencoder whose files do not say that it was trained on the residual stream between blocks"
    return f"an autoencoder that was trained at {str(hook)[:80]!r}, which is not the residual stream between blocks"


def _check_width(source: Source, suite: Suite, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise InputError where a bias of the residual stream is as long as the axis that should count features."""
    width = shape[1 - suite.axis]
    for name in BIASES:
        of = shapes.get(name)
        if of is not None and len(of) == 1 and of[0] != width:
            raise source.error(
                f"{suite.key} has shape {list(shape)}, of which {width} would be the width of the residual stream, and "
                f"{name} has {of[0]}: it is laid out the other way round, so of another format"
            )


def _read_line(source: Source, suite: Suite, decoder: Any, feature: int) -> Float[np.ndarray, " d"]:
    if isinstance(decoder, Matrix):
        return decoder.read(suite.axis, feature)
    return unpack(source.path, suite.key, decoder[feature] if suite.axis == 0 else decoder[:, feature])
