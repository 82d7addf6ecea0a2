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

    decoders: Mapping[str, int]
    """What the decoder is called, and which of its axes counts features."""
    endings: tuple[str, ...]
    find_hook: Callable[[Source], Any]
    """A hook by name, or the layer itself; None where nothing says it."""
    files: tuple[str, ...] = ()
    """What the file in a folder of it is called."""
    strict: str = ""
    """What files of it are called where nothing else tells it from other suites, as a regular expression."""


def _find_in_scope(source: Source) -> str | None:
    """Gemma Scope: the site is in the repository's name, the layer in the folder's."""
    parts = source.place.absolute().parts
    sites = [match[1] for part in parts if (match := re.fullmatch(r"(?:.*--)?gemma-scope-.+-(res|mlp|att)", part))]
    layers = [match[1] for part in parts if (match := re.fullmatch(r"layer_(\d{1,4})", part))]
    return f"blocks.{layers[-1]}.hook_resid_post" if sites == ["res"] and layers else None


def _find_in_file(*names: str, keys: tuple[str, ...]) -> Callable[[Source], Any]:
    """A hook that stands in a JSON file beside the weights, under the first of these keys, at any place of it."""

    def find(source: Source) -> Any:
        told = source.read_json(*names)
        inner = [told, told["metadata"]] if isinstance(told.get("metadata"), dict) else [told]
        return next((values[key] for key in keys for values in inner if values.get(key)), None)

    return find


def _find_in_name(pattern: str) -> Callable[[Source], str | None]:
    """A layer that stands in the name of the file, whose hook is the output of that block."""

    def find(source: Source) -> str | None:
        match = re.fullmatch(pattern, source.path.name)
        return f"layers.{match[1]}" if match else None

    return find


def _find_in_trainer(source: Source) -> Any:
    """dictionary_learning: a place in the model that has the layer in its name, or beside it."""
    told = source.read_json("config.json").get("trainer")
    trainer = told if isinstance(told, dict) else {}
    name, layer = trainer.get("submodule_name"), trainer.get("layer")
    return f"{name}_layer_{layer}" if name in ("resid_post", "resid_pre") and type(layer) is int else name


def _find_in_folder(source: Source) -> str:
    """sparsify: the folder is called after the hook point."""
    return source.place.absolute().parent.name


QWEN = r"layer_?(\d{1,4})\.sae\.pt"
SUITES: Mapping[str, Suite] = {
    "gemma-scope": Suite({"W_dec": 0}, (".npz",), _find_in_scope, ("params.npz",)),
    "gemma-scope-2": Suite(
        {"w_dec": 0},
        (".safetensors",),
        _find_in_file("config.json", keys=("hf_hook_point_out", "hf_hook_point_in")),
        ("params.safetensors",),
    ),
    "sae-lens": Suite(
        {"W_dec": 0},
        (".safetensors",),
        _find_in_file("cfg.json", keys=("hook_name_out", "hook_name")),
        ("sae_weights.safetensors",),
        r"sae_weights\.safetensors",
    ),
    "sparsify": Suite({"W_dec": 0}, (".safetensors",), _find_in_folder, ("sae.safetensors",), r"sae\.safetensors"),
    "llama-scope": Suite(
        {"decoder.weight": 1},
        (".safetensors",),
        _find_in_file("hyperparams.json", "config.json", keys=("hook_point_out", "hook_point_in")),
        ("final.safetensors", "sae_weights.safetensors"),
    ),
    "qwen-scope": Suite({"W_dec": 1}, PICKLED, _find_in_name(QWEN), strict=QWEN),
    "dictionary-learning": Suite(
        {"decoder.weight": 1, "W_dec": 0},
        PICKLED,
        _find_in_trainer,
        ("ae.pt",),
        r"ae\.pt",
    ),
    "goodfire": Suite({"decoder_linear.weight": 1}, PICKLED, _find_in_name(r".*[-_]l(\d{1,4})\.(?:pt|pth)")),
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
    if suite.strict and not re.fullmatch(suite.strict, path.name):
        return False
    found = _open(Source(path))
    return any(len(found[key][1]) == 2 for key in suite.decoders if key in found)


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
    key = next((key for key in suite.decoders if key in found), None)
    if key is None:
        has = ", ".join(f"{name[:40]!r} {list(shape)}" for name, (_, shape) in list(found.items())[:5])
        raise inner.error(
            f"has no {' or '.join(map(repr, suite.decoders))}, the decoder of {names[0]}; it has {has or 'no arrays'}"
        )
    decoder, shape = found[key]
    if len(shape) != 2:
        raise inner.error(f"{key} has shape {list(shape)}; a decoder has two axes")
    axis = suite.decoders[key]
    _check_width(inner, key, shape, axis, {name: of for name, (_, of) in found.items()})
    n, feature = shape[axis], asked.feature
    if feature is None or not 0 <= feature < n:
        given = "no feature is given" if feature is None else f"feature is {feature}"
        raise inner.error(f"has {n} features, and {given}: say which, from 0 to {n - 1}: feature = 7, or --feature 7")
    line = decoder.read(axis, feature) if isinstance(decoder, Matrix) else _read_pickled(path, decoder, axis, feature)
    direction = as_direction(path, f"feature {feature}", line)
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


def _check_width(
    source: Source, key: str, shape: tuple[int, ...], axis: int, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise InputError where a bias of the residual stream is as long as the axis that should count features."""
    width = shape[1 - axis]
    for name in BIASES:
        of = shapes.get(name)
        if of is not None and len(of) == 1 and of[0] != width:
            raise source.error(
                f"{key} has shape {list(shape)}, of which {width} would be the width of the residual stream, and "
                f"{name} has {of[0]}: it is laid out the other way round, so of another format"
            )


def _read_pickled(path: Path, decoder: Any, axis: int, feature: int) -> Float[np.ndarray, " d"]:
    return unpack(path, "its decoder", decoder[feature] if axis == 0 else decoder[:, feature])
