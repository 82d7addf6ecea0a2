"""One tensor in a file, for one layer: CAA's ``vec_layer_L_MODEL.pt``, EasyEdit2's ``layer_L.pt``, or any other."""

import re
from pathlib import Path

from completions_lp.records import SteeringVector
from completions_lp.steer.formats import refusal
from completions_lp.steer.formats.pickled import load_pickled, pack, shape_of, unpack
from completions_lp.steer.formats.source import PICKLED, Asked, Found, Source, as_direction, tell_layers

NAME = "caa"
FILE = re.compile(r"(?:vec_)?layer_(0|[1-9][0-9]{0,3})(?:_.*)?\.pt")
"""A file's name with its layer in it."""


def claims(source: Source) -> bool:
    """Whether it is a folder of such files, or a file with a single vector."""
    if source.is_folder:
        return any(FILE.fullmatch(path.name) for path in source.files)
    if source.suffix not in PICKLED or refusal.claims(source):
        return False
    return len(shape_of(source.pickled) or (0, 0)) == 1


def read(source: Source, asked: Asked) -> Found:
    """The tensors of a folder, or that of one file; the layer is in the files' names, or asked for."""
    if not source.is_folder:
        direction = as_direction(source.path, "its tensor", unpack(source.path, "what it has", source.pickled))
        match = FILE.fullmatch(source.path.name)
        told = int(match[1]) if match else None
        if told is not None and asked.layer not in ((), (told,)):
            raise source.error(
                f"is of layer {told} by its name, and layer is {list(asked.layer)}: rename it or leave out"
            )
        layers = source.say_layer(asked, told, what="one tensor, and neither it nor its name says of which layer")
        return Found(dict.fromkeys(layers, direction), f"one tensor, taken for the output of {tell_layers(layers)}")
    found: dict[int, Path] = {}
    for path in source.files:
        match = FILE.fullmatch(path.name)
        if match and int(match[1]) in found:
            raise source.error(
                f"has two files of layer {match[1]}, {found[int(match[1])].name} and {path.name}: put the files of one "
                "model and behaviour into a folder of their own"
            )
        if match:
            found[int(match[1])] = path
    directions = {
        layer: as_direction(path, "its tensor", unpack(path, "what it has", load_pickled(path)))
        for layer, path in found.items()
    }
    return Found(directions, "vec_layer_L or layer_L is the output of block L", source.path.resolve().name)


def pack_files(vector: SteeringVector, model: str) -> dict[str, bytes]:
    """A file for each layer, by its name, as CAA writes it."""
    of = re.sub(r"[^\w.-]", "_", model) or "model"
    return {f"vec_layer_{layer}_{of}.pt": pack(direction) for layer, direction in vector.directions.items()}
