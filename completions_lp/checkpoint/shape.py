"""What a checkpoint's configuration says of the network: how deep and wide it is, and how long its texts may be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from completions_lp.checkpoint.adapter import read_adapter
from completions_lp.checkpoint.files import Checkpoint, read_settings
from completions_lp.checkpoint.gguf import read_header
from completions_lp.records import Condition, InputError, Prompt, SteeringVector, find_edit

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
WIDTHS = ("hidden_size", "n_embd", "d_model")
CONTEXTS = ("max_position_embeddings", "n_positions")
"""Names that transformers knows them by, in the configurations of causal models."""
INNER = ("decoder", "generator", "text_config")
"""Where the configuration of the text model lies within that of a larger one."""
UNLIMITED = 2**31
"""The context of a model that names none."""


@runtime_checkable
class Sized(Protocol):
    """A network as far as the checks below know it: a loaded model, or a configuration alone."""

    @property
    def name(self) -> str:
        """How it was asked for."""

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""

    @property
    def context_length(self) -> int:
        """Tokens of a text, at most."""


@dataclass(frozen=True)
class Shape:
    """What ``Sized`` asks for, from a configuration."""

    name: str
    n_layers: int
    d_model: int
    context_length: int


def read_shape(checkpoint: Checkpoint) -> Shape | None:
    """The shape that a checkpoint's configuration tells; None where it leaves any of it to transformers."""
    if checkpoint.gguf:
        header = read_header(checkpoint)
        if header.n_layers is None or header.d_model is None:
            return None
        return Shape(checkpoint.name, header.n_layers, header.d_model, header.context_length or UNLIMITED)
    adapter = read_adapter(checkpoint)
    if adapter is not None:
        shape = read_shape(adapter.base)
        return None if shape is None else replace(shape, name=checkpoint.name)
    settings: Mapping[str, Any] = read_settings(checkpoint) or {}
    inner = [settings[name] for name in INNER if isinstance(settings.get(name), dict)]
    if len(inner) > 1:
        return None
    text = inner[0] if inner else settings
    n_layers, d_model = _read_count(text, LAYERS), _read_count(text, WIDTHS)
    if n_layers is None or d_model is None:
        return None
    return Shape(checkpoint.name, n_layers, d_model, _read_count(text, CONTEXTS) or UNLIMITED)


def _read_count(settings: Mapping[str, Any], names: Sequence[str]) -> int | None:
    """The one whole number that stands under one of these names; None where there is none, or two that differ."""
    found = {settings[name] for name in names if type(settings.get(name)) is int}
    return found.pop() if len(found) == 1 else None


def check_layers(model: Sized, layers: Sequence[int]) -> None:
    """Raise InputError unless all layers exist."""
    wrong = [layer for layer in layers if not 0 <= layer < model.n_layers]
    if wrong:
        raise InputError(
            f"layer {wrong[0]} is out of range: {model.name} has layers 0 to {model.n_layers - 1} "
            "(layer L is the output of the 0-based block L)"
        )


def check_length(model: Sized, prompt: Prompt, n_tokens: int, max_new_tokens: int) -> None:
    """Raise InputError if a prompt of so many tokens and its completion do not fit in the model's context."""
    need = n_tokens + max_new_tokens
    if need > model.context_length:
        raise InputError(
            f"prompt {prompt.id!r} has {n_tokens} tokens, max_new_tokens is {max_new_tokens}: together {need}, more "
            f"than the {model.context_length} of the context of {model.name}; shorten or leave out the prompt "
            f"({prompt.text[:60]!r}...)"
        )


def check_conditions(model: Sized, vectors: Sequence[SteeringVector], conditions: Sequence[Condition]) -> None:
    """Raise InputError unless every condition can be computed on this model."""
    by_name = {vector.name: vector for vector in vectors}
    if len(by_name) < len(vectors):
        raise InputError(f"two vectors have the same name; names: {', '.join(vector.name for vector in vectors)}")
    for vector in vectors:
        if vector.d_model != model.d_model:
            raise InputError(
                f"vector {vector.name!r} has size {vector.d_model}, but the residual stream of {model.name} has "
                f"{model.d_model}; use a vector that was made with this model"
            )
    check_layers(model, [layer for condition in conditions for layer in condition.layers])
    for condition in conditions:
        if condition.vector not in by_name:
            raise InputError(f"a condition names vector {condition.vector!r}; there are {', '.join(by_name) or 'none'}")
        vector = by_name[condition.vector]
        for layer in condition.layers:
            if layer not in vector.directions:
                layers = ", ".join(map(str, vector.directions))
                raise InputError(f"vector {condition.vector!r} has no layer {layer}; it has layers {layers}")
            if not condition.is_neutral and not vector.directions[layer].any():
                raise InputError(
                    f"vector {condition.vector!r} is zero at layer {layer}, so it steers nothing there; leave the "
                    "layer out of [scoring] layers"
                )
            find_edit(vector, condition, layer)
