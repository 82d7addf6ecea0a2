"""Vector files of any tool: read, brought to our own format, written for other tools, measured against a model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from completions_lp import store
from completions_lp.checkpoint import Sized, check_files, check_layers, locate, read_shape
from completions_lp.job.vector_keys import VectorFile
from completions_lp.records import InputError, SteeringVector
from completions_lp.steer.formats.registry import OWN, check_asked, name_format, read_foreign
from completions_lp.steer.formats.source import Asked, Source, choose
from completions_lp.steer.formats.writers import FOLDERS, WHOLE, Told, write_bytes


def read_vector(section: VectorFile) -> SteeringVector:
    """The finished vector of a section of the configuration.

    Raises:
        InputError: As ``read_file`` does.
    """
    asked = Asked(section.format, section.convention, section.layers_asked, section.feature, section.position)
    return read_file(Path(str(section.path)), asked)


def load_vector(
    path: str | Path,
    *,
    format: str = "auto",
    convention: str = "",
    layer: int | Sequence[int] = (),
    feature: int | None = None,
    position: int | None = None,
) -> SteeringVector:
    """The vector of a file or folder, of this package or another tool (docs/guide/vectors.md has the formats).

    Args:
        path: The file, or a folder of files.
        format: Whose it is; ``auto`` where the file shows it.
        convention: How a GGUF file counts that does not say it: ``repeng`` or ``llama.cpp``.
        layer: Of a file of one direction, at the output of which 0-based block or blocks it is added; of several
            directions, which to take, by default all.
        feature: Which feature of a sparse autoencoder, or concept of AxBench.
        position: Which token position of refusal_direction's ``mean_diffs.pt``, from -1 backwards.

    Raises:
        InputError: As ``[vector] path`` of a run would: the file is missing, damaged or unknown, reading it would run
            code, it lacks a layer that is asked for, or it leaves open what is not said here.
    """
    layers = (layer,) if isinstance(layer, int) else tuple(layer)
    return read_file(Path(path), Asked(format, convention, layers, feature, position))


def read_file(path: Path, asked: Asked | None = None) -> SteeringVector:
    """The vector of a file or folder, of this package or another tool, as far as it is asked for.

    Raises:
        InputError: The file is missing, damaged or unknown, reading it would run code, it lacks a layer that is asked
            for, or it leaves open what nobody has said: the layer, the convention, the feature.
    """
    asked, source = asked or Asked(), Source(path)
    name = name_format(source, asked)
    check_asked(source, asked, name)
    if name != OWN:
        return read_foreign(source, asked, name)
    vector = store.read_vector(path)
    if not asked.layer:
        return vector
    kept = choose(source, vector.directions, asked)
    quality = {layer: found for layer, found in vector.quality.items() if layer in kept}
    spans = {layer: found for layer, found in vector.spans.items() if layer in kept}
    return replace(vector, directions=kept, quality=quality, spans=spans)


def read_complete(path: Path, layers: Sequence[int] = ()) -> SteeringVector:
    """The vector of a file of which nothing but layers can be said, because there is no place to say it.

    Raises:
        InputError: As ``read_file`` does; of another tool's file, with what to do.
    """
    try:
        return read_file(path, Asked(layer=tuple(layers)))
    except InputError as error:
        if path.suffix == ".safetensors" or not path.exists():
            raise
        raise InputError(
            f"{error}. Where that cannot be said, bring it in first: `completions-lp vectors import`"
        ) from None


def tell_origins(sections: Sequence[VectorFile], vectors: Sequence[SteeringVector]) -> list[str]:
    """What other tools' files were taken for, in words; nothing of files of this package."""
    files = {Path(section.path).name for section in sections if section.path is not None}
    told = [vector.provenance for vector in vectors if vector.kind in ("target", "further")]
    return [
        f"{one['source']} is read as {one['source_format']}: {one['read_as']}"
        for one in told
        if one.get("source") in files
    ]


def check_fit(vector: SteeringVector, model: Sized) -> None:
    """Raise InputError where a vector is of another width than the model, or of another number of blocks.

    How many blocks there are, few files say; where one does that has another number, its rows stand for other layers.
    """
    if vector.d_model != model.d_model:
        raise InputError(
            f"vector {vector.name!r} has size {vector.d_model}, but the residual stream of {model.name} has "
            f"{model.d_model}; use a vector that was made with this model"
        )
    told = str(vector.provenance.get("n_layers", model.n_layers))
    if told != str(model.n_layers):
        raise InputError(
            f"vector {vector.name!r} is of a model with {told} blocks, and {model.name} has {model.n_layers}: it is of "
            "another model, or its file counts layers in another way (persona_vectors has a row more than the model "
            "has blocks)"
        )
    check_layers(model, list(vector.directions))


def import_vector(
    path: Path, asked: Asked, out: Path, *, name: str, overwrite: bool, model: Sized | None
) -> SteeringVector:
    """Write the vector of a file in our own format; ``name`` is what to call it, by default after the file.

    Raises:
        InputError: As ``read_file`` does; or the new file is there already, or the vector does not fit the model.
    """
    vector = read_file(path, asked)
    if model is not None:
        check_fit(vector, model)
    _check_free([out], overwrite)
    whole = {} if path.expanduser().is_dir() else {"source_sha256": store.hash_file(path.expanduser())}
    vector = replace(vector, name=name or vector.name, provenance={**vector.provenance, **whole})
    store.save_vector(out, vector)
    return vector


def export_vector(vector: SteeringVector, name: str, out: Path, told: Told, *, overwrite: bool) -> list[Path]:
    """Write a vector in another tool's format: a file, or a folder of several; returns what was written.

    Raises:
        InputError: The format is not known, has to be told more, or cannot hold such a vector; a file is there already.
    """
    if name == OWN:
        _check_free([out], overwrite)
        store.save_vector(out, vector)
        return [out]
    told = replace(told, single=out.suffix == ".pt")
    files = write_bytes(vector.round(), name, told)
    paths = {out if part == WHOLE else out / part: data for part, data in files.items()}
    if name in FOLDERS and WHOLE not in files and (out.is_file() or out.suffix):
        raise InputError(f"{out}: the format {name} is a folder of files; name one, without an ending")
    _check_free(list(paths), overwrite)
    for path, data in paths.items():
        store.write_bytes(path, data)
    return list(paths)


def tell_export(vector: SteeringVector, name: str, told: Told) -> list[str]:
    """What whoever uses such a file should know, in sentences."""
    layers, notes = list(vector.directions), []
    if name == "gguf" and told.convention == "repeng":
        notes.append(
            "llama.cpp adds direction.L to the output of block L, at every position: where it steers here, too"
        )
        if 0 in layers:
            notes.append("llama.cpp refuses direction.0, which stands for layer 0: leave it out for that with --layer")
    if name == "gguf" and told.convention == "llama.cpp":
        notes.append(
            "llama.cpp adds direction.k to the output of block k: with this convention one block above where the "
            "vector steers here, as with its generator's own files; convention repeng steers the same block"
        )
    if name == "lm-eval" and len(layers) > 1:
        notes.append(
            "the steered model of lm-eval adds the last of several vectors at every hook point (its hooks share one "
            "variable): write one layer a file, with --layer"
        )
    if name == "refusal_direction":
        notes.append(
            "layer counts the inputs of blocks there: it is one more than the block whose output is steered here"
        )
    return notes


def find_shape(model: str) -> Sized:
    """How wide and deep a model is, from its configuration alone.

    Raises:
        InputError: There is no such model, or its configuration leaves it to transformers.
    """
    checkpoint = locate(model, None)
    if checkpoint.local:
        check_files(checkpoint)
    shape = read_shape(checkpoint)
    if shape is None:
        raise InputError(f"{model}: its configuration does not say how deep and wide it is; leave --model out")
    return shape


def prepare_export(
    path: Path, layers: Sequence[int], model: str | None, told: Mapping[str, Any]
) -> tuple[SteeringVector, Told]:
    """The vector to be written, with the layers that are asked for, and what its writer is told of the model.

    Raises:
        InputError: As ``read_file`` does, or the vector does not fit the model.
    """
    vector = read_complete(path, layers)
    known = {**told, "convention": told.get("convention") or ""}
    if model is not None:
        shape = find_shape(model)
        check_fit(vector, shape)
        if known.get("n_layers") not in (None, shape.n_layers):
            raise InputError(
                f"--n-layers is {known['n_layers']}, and {model} has {shape.n_layers} blocks: leave one out"
            )
        known["n_layers"] = shape.n_layers
    name = model or str(vector.provenance.get("model") or vector.provenance.get("model_hint") or "")
    return vector, Told(**known, model=Path(name).name)


def _check_free(paths: Sequence[Path], overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            raise InputError(f"{path}: is there already; name another file, or say --overwrite")
