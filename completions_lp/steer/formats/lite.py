"""steering-lite: safetensors with keys ``layerL.NAME`` and the method's settings as JSON under ``cfg``."""

import re

from completions_lp.checkpoint.tensors import read_tensors
from completions_lp.steer.formats.source import Asked, Found, Source, as_direction, parse_json

NAME = "steering-lite"
KEY = re.compile(r"layer(0|[1-9][0-9]{0,3})\.(.+)")
DIRECTION = "v"
"""The one tensor that methods of a single direction keep."""


def claims(source: Source) -> bool:
    """Whether all its tensors are called so."""
    if source.suffix != ".safetensors" or not source.place.is_file():
        return False
    _, found = source.matrices
    return bool(found) and all(KEY.fullmatch(key) for key in found)


def read(source: Source, _: Asked) -> Found:
    """The directions of a method that adds one, at the outputs of blocks; its own strength is kept as provenance."""
    metadata = source.matrices[0]
    settings = parse_json(source.path, metadata.get("cfg", "{}"))
    method, target = str(settings.get("method", "unknown"))[:80], settings.get("target", "residual")
    part = settings.get("target_submodule")
    if target != "residual" or part is not None:
        raise source.error(
            f"acts on {str(part or target)[:40]!r} of a block; vectors are added to the outputs of blocks ('residual')"
        )
    directions = {}
    for key, values in read_tensors(source.path)[1].items():
        match = KEY.fullmatch(key)
        if match is None or match[2] != DIRECTION:
            raise source.error(
                f"is of method {method!r} with a tensor {key[:60]!r}; a method of one direction (mean_diff, pca) has "
                f"layerL.{DIRECTION} alone"
            )
        directions[int(match[1])] = as_direction(source.path, key, values)
    kept = {"method": method, "steering_lite.coeff": str(settings.get("coeff", ""))[:40]}
    return Found(directions, "layerL is the output of block L; coeff is not multiplied in", "", kept)
