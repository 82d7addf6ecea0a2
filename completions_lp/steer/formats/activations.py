"""steering-vectors: ``layer_activations`` by layer and a ``layer_type``, as a dictionary or the package's own class."""

from typing import Any

from completions_lp.records import SteeringVector
from completions_lp.steer.formats.pickled import Activations, describe, pack, unpack
from completions_lp.steer.formats.source import MOST_LAYERS, PICKLED, Asked, Found, Source, as_direction

NAME = "steering-vectors"
TYPE = "decoder_block"


def claims(source: Source) -> bool:
    """Whether it has the fields of steering-vectors' class."""
    return source.suffix in PICKLED and "layer_activations" in _find_fields(source.pickled)


def read(source: Source, _: Asked) -> Found:
    """Its activations, the outputs of blocks; a plain dictionary of tensors by layer where it is asked for."""
    fields = _find_fields(source.pickled)
    layers = fields.get("layer_activations", fields)
    kind = fields.get("layer_type", TYPE)
    if kind != TYPE:
        raise source.error(f"is of layer_type {str(kind)[:40]!r}; outputs of blocks ({TYPE!r}) are steered alone")
    if not isinstance(layers, dict) or not layers:
        raise source.error(f"has {describe(source.pickled)}; layer_activations are tensors by layer")
    directions = {}
    for layer, value in layers.items():
        if type(layer) is not int or not 0 <= layer < MOST_LAYERS:
            raise source.error(f"has an activation of layer {str(layer)[:40]!r}; layers are numbers from 0 on")
        what = f"layer {layer}"
        directions[layer] = as_direction(source.path, what, unpack(source.path, what, value))
    return Found(directions, "layer L is the output of block L")


def _find_fields(value: Any) -> dict[Any, Any]:
    if isinstance(value, Activations):
        return vars(value)
    return value if isinstance(value, dict) else {}


def pack_fields(vector: SteeringVector) -> bytes:
    """The dictionary of the class's two fields: ``SteeringVector(**torch.load(path))`` makes it again."""
    return pack({"layer_activations": dict(vector.directions), "layer_type": TYPE})
