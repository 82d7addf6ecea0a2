"""A file or folder that a vector is read from: what is in it, opened once and never run; and what a reader is told."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.checkpoint.matrices import Matrix
from completions_lp.checkpoint.tensors import open_matrices
from completions_lp.records import InputError, read_text
from completions_lp.steer.formats.pickled import load_pickled

MOST_LAYERS = 10_000
MOST_FILES = 10_000
"""Files of a folder, at most."""
PICKLED = (".pt", ".pth", ".bin")
"""Endings of files that torch writes."""


@dataclass(frozen=True)
class Asked:
    """What a person says of a file, where it does not say it itself."""

    format: str = "auto"
    convention: str = ""
    """How a GGUF file counts: ``repeng`` or ``llama.cpp``."""
    layer: tuple[int, ...] = ()
    """At the output of which blocks a single direction is to be added, 0-based."""
    feature: int | None = None
    """Which row of a matrix of many directions."""
    position: int | None = None
    """Which token position of refusal_direction's ``mean_diffs.pt``, from -1 backwards."""


@dataclass(frozen=True)
class Found:
    """What a reader has found: a direction per block at whose output it belongs, and what is to be known of it."""

    directions: Mapping[int, Float[np.ndarray, " d_model"]]
    read_as: str
    """How the file's own counting was taken, in words."""
    name: str = ""
    """What to call the vector, where the name of the file says too little."""
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)


class Source:
    """A file or a folder, by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.place = path.expanduser()
            self.is_folder = self.place.is_dir()
        except (OSError, ValueError, RuntimeError):  # which the reader of a file says in one line
            self.place, self.is_folder = path, False
        self.suffix = "" if self.is_folder else path.suffix.lower()

    def error(self, text: str) -> InputError:
        """An error that names the file."""
        return InputError(f"{self.path}: {text}")

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files of a folder, by name; of a file, itself alone."""
        if not self.is_folder:
            return (self.path,)
        found = sorted(path for path in self.path.expanduser().iterdir() if path.is_file())
        if len(found) > MOST_FILES:
            raise self.error(f"has {len(found)} files; a folder of a vector has at most {MOST_FILES}")
        return tuple(found)

    def find(self, *names: str) -> Path | None:
        """The first of these files that is there: in the folder, or beside the file."""
        folder = self.place if self.is_folder else self.place.parent
        return next((folder / name for name in names if (folder / name).is_file()), None)

    def read_json(self, *names: str) -> dict[str, Any]:
        """The first of these JSON files, in the folder or beside the file; empty where there is none of them."""
        path = self.find(*names)
        return {} if path is None else parse_json(path, read_text(path))

    @cached_property
    def json(self) -> dict[str, Any]:
        """What a JSON file has."""
        return parse_json(self.path, read_text(self.path))

    @cached_property
    def pickled(self) -> Any:
        """What a file of torch has: tensors, numbers, texts, lists and dictionaries alone."""
        return load_pickled(self.path)

    @cached_property
    def matrices(self) -> tuple[dict[str, str], dict[str, Matrix]]:
        """Metadata and arrays of a safetensors file, by their shapes."""
        return open_matrices(self.path)

    def say_layer(self, asked: Asked, told: int | None, *, what: str) -> tuple[int, ...]:
        """The blocks at whose output a single direction belongs: as asked, else as the file tells.

        Raises:
            InputError: Neither says it.
        """
        if asked.layer:
            return asked.layer
        if told is None:
            raise self.error(f"{what}; say at the output of which block it is to be added: layer = 13, or --layer 13")
        if told < 0:
            raise self.error(
                "belongs before block 0, which is the output of no block, and only those are steered; say where it is "
                "to be added all the same: layer = 0, or --layer 0"
            )
        return (told,)


def parse_json(path: Path, text: str) -> dict[str, Any]:
    """A JSON file that is one object.

    Raises:
        InputError: It is not.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a JSON file of one object")
    return values


def name_layer(path: Path, text: str) -> int:
    """A layer's number from the text that stands for it.

    Raises:
        InputError: It is no whole number from 0 on.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise InputError(f"{path}: layer {text[:40]!r} is no number from 0 to {MOST_LAYERS - 1}")
    return int(text)


def as_direction(path: Path, what: str, values: Any) -> Float[np.ndarray, " d_model"]:
    """A vector of numbers in float64, from an array or nested lists of numbers; axes of length 1 before it are dropped.

    Raises:
        InputError: It has several axes or none, or numbers that are not finite or too large for float32.
    """
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):  # lists of several lengths
        array = np.asarray(None)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: {what} is not made of numbers alone")
    array = array.astype(np.float64)
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 1 or not array.size:
        raise InputError(f"{path}: {what} has shape {list(array.shape)}; a vector has one axis, d_model")
    if not (np.abs(array) <= np.finfo(np.float32).max).all():
        raise InputError(f"{path}: {what} has values that are not finite, or too large for float32")
    return array


def choose(
    source: Source, found: Mapping[int, Float[np.ndarray, " d_model"]], asked: Asked
) -> dict[int, Float[np.ndarray, " d_model"]]:
    """Of what a reader has found, the layers that are asked for, or all.

    Raises:
        InputError: There is none, or not that.
    """
    if not found:
        raise source.error("has no direction for the output of any block")
    missing = sorted(set(asked.layer) - set(found))
    if missing:
        raise source.error(f"has no layer {missing[0]}; it has {tell_layers(list(found))} (outputs of 0-based blocks)")
    return {layer: direction for layer, direction in found.items() if not asked.layer or layer in asked.layer}


def tell_layers(layers: Sequence[int]) -> str:
    """Layers in words: ``layer 3``, ``layers 0 to 11``, ``layers 1, 4``."""
    found = sorted(layers)
    if len(found) == 1:
        return f"layer {found[0]}"
    if found == list(range(found[0], found[-1] + 1)):
        return f"layers {found[0]} to {found[-1]}"
    return f"layers {', '.join(map(str, found))}"
