"""refusal_direction: ``direction.pt`` with ``direction_metadata.json``, or ``mean_diffs.pt``, of every position.

Its layers count the *inputs* of blocks: what it calls layer L is the output of block L - 1, where it is read and added.
"""

import json
from pathlib import Path

import numpy as np

from completions_lp.records import InputError, SteeringVector
from completions_lp.steer.formats.pickled import load_pickled, pack, unpack
from completions_lp.steer.formats.source import Asked, Found, Source, as_direction, tell_layers

NAME = "refusal_direction"
DIRECTION, METADATA, ALL = "direction.pt", "direction_metadata.json", "mean_diffs.pt"


def claims(source: Source) -> bool:
    """Whether it is one of its files, or a folder that has one."""
    if source.is_folder:
        return source.find(DIRECTION) is not None and source.find(METADATA) is not None
    if source.path.name == DIRECTION:
        return source.find(METADATA) is not None
    return source.path.name == ALL


def read(source: Source, asked: Asked) -> Found:
    """The direction at the block before the one that its metadata names, or at ``layer``; of all, one position's."""
    if not source.is_folder and source.path.name == ALL:
        return _read_all(source, asked)
    path = source.find(DIRECTION) if source.is_folder else source.path
    if path is None:
        raise source.error(f"has no {DIRECTION}")
    told = source.read_json(METADATA)
    layer = told.get("layer")
    if told and (type(layer) is not int or layer < 0):
        raise source.error(f"{METADATA} has layer {str(layer)[:40]!r}; it is a number from 0 on")
    direction = as_direction(path, "its tensor", unpack(path, "what it has", load_pickled(path)))
    before = None if layer is None else layer - 1
    layers = source.say_layer(asked, before, what=f"there is no {METADATA} beside it that says of which layer it is")
    kept = {f"refusal_direction.{key}": value for key, value in told.items() if type(value) is int}
    read_as = f"its layer L is the input of block L, so the output of block L - 1: taken for {tell_layers(layers)}"
    name = source.path.resolve().name if source.is_folder else "direction"
    return Found(dict.fromkeys(layers, direction), read_as, name, kept)


def _read_all(source: Source, asked: Asked) -> Found:
    values = unpack(source.path, "what it has", source.pickled)
    if values.ndim != 3:
        raise source.error(f"has shape {list(values.shape)}; it is [n_positions, n_layers, d_model]")
    n = values.shape[0]
    if asked.position is None or not -n <= asked.position < 0:
        given = "no position is given" if asked.position is None else f"position is {asked.position}"
        raise source.error(
            f"has directions of {n} token positions, and {given}: say which, from -1, the last, "
            f"to {-n}: position = -1, or --position -1"
        )
    rows = values[asked.position]
    directions = {
        layer - 1: as_direction(source.path, f"layer {layer}", row)
        for layer, row in enumerate(rows)
        if layer and np.any(row)
    }
    told = {"n_layers": len(rows), "position": asked.position}
    return Found(directions, "[position, L] is the input of block L, so the output of block L - 1", "", told)


def pack_files(vector: SteeringVector, position: int) -> dict[str, bytes]:
    """``direction.pt`` and its metadata, for a vector of one layer.

    Raises:
        InputError: The vector has several layers.
    """
    if len(vector.directions) != 1:
        raise InputError(
            f"vector {vector.name!r} has {tell_layers(list(vector.directions))}, and a refusal direction is of one: "
            "say which with --layer"
        )
    ((layer, direction),) = vector.directions.items()
    told = json.dumps({"pos": position, "layer": layer + 1}, indent=4)
    return {DIRECTION: pack(direction), METADATA: told.encode()}


def list_beside(path: Path) -> tuple[str, ...]:
    """Files beside one of these that its reader reads, too."""
    return (METADATA,) if path.name == DIRECTION else ()
