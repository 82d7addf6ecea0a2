"""A vector as files of other tools, as bytes: whoever writes them decides where."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from completions_lp.records import InputError, SteeringVector
from completions_lp.steer.formats import activations, bare, gguf, lm_eval, persona, refusal
from completions_lp.steer.formats.source import tell_layers

WHOLE = ""
"""The name of a format's one file, which is called as its writer is told."""


@dataclass(frozen=True)
class Told:
    """What some formats have to be told."""

    convention: str = ""
    """gguf: ``repeng`` or ``llama.cpp``."""
    n_layers: int | None = None
    """persona_vectors: blocks of the model."""
    position: int = -1
    """refusal_direction: where the vector was read, from the last token backwards."""
    hookpoint: str = "layers.{layer}"
    """lm-eval: what a block is called below the model's body."""
    model: str = ""
    """caa: what the files call the model."""
    single: bool = False
    """caa: whether one file is asked for, of a vector of one layer, in place of a folder."""


def write_bytes(vector: SteeringVector, name: str, told: Told) -> dict[str, bytes]:
    """The files of a vector in a format, by their names within its folder, or ``WHOLE``.

    Raises:
        InputError: The format is not known, has to be told more, or cannot hold such a vector.
    """
    if name not in WRITERS:
        raise InputError(f"format {name!r} is not written; known are {', '.join(WRITERS)} (and own)")
    return WRITERS[name](vector, told)


def _write_gguf(vector: SteeringVector, told: Told) -> dict[str, bytes]:
    return {WHOLE: gguf.pack(vector, told.convention)}


def _write_bare(vector: SteeringVector, told: Told) -> dict[str, bytes]:
    files = bare.pack_files(vector, told.model)
    if not told.single:
        return files
    if len(files) > 1:
        raise InputError(
            f"vector {vector.name!r} has {tell_layers(list(vector.directions))}, and a file of CAA is of one: name a "
            "folder, or say which layer with --layer"
        )
    (data,) = files.values()
    return {WHOLE: data}


def _write_persona(vector: SteeringVector, told: Told) -> dict[str, bytes]:
    if told.n_layers is None:
        raise InputError(
            "persona_vectors writes a row for the embedding and each block of the model: say how many blocks it has, "
            "--n-layers 28, or which model it is, --model"
        )
    return {WHOLE: persona.pack_rows(vector, told.n_layers)}


def _write_hooks(vector: SteeringVector, told: Told) -> dict[str, bytes]:
    if "{layer}" not in told.hookpoint:
        raise InputError(
            f"hook point {told.hookpoint[:80]!r} has no {{layer}} for the number of the block: layers.{{layer}}"
        )
    return {WHOLE: lm_eval.pack_hooks(vector, told.hookpoint)}


WRITERS: Mapping[str, Callable[[SteeringVector, Told], dict[str, bytes]]] = {
    gguf.NAME: _write_gguf,
    bare.NAME: _write_bare,
    persona.NAME: _write_persona,
    lm_eval.NAME: _write_hooks,
    refusal.NAME: lambda vector, told: refusal.pack_files(vector, told.position),
    activations.NAME: lambda vector, _: {WHOLE: activations.pack_fields(vector)},
}
"""By format: its files, as bytes."""
FOLDERS = (bare.NAME, refusal.NAME)
"""Formats of several files."""
