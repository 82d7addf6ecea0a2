"""JSON with ``directions`` by layer: IBM's activation-steering (``.svec``) and AISteer360 (``[K, d_model]``, K = 1)."""

from completions_lp.steer.formats.source import Asked, Found, Source, as_direction, name_layer

NAME = "svec"


def claims(source: Source) -> bool:
    """Whether it is a JSON file with directions."""
    return source.suffix in (".svec", ".json") and source.place.is_file() and "directions" in source.json


def read(source: Source, _: Asked) -> Found:
    """Its directions, each at the block whose output it was read at."""
    given = source.json.get("directions")
    if not isinstance(given, dict) or not given:
        raise source.error('has no "directions" by layer')
    if source.json.get("num_heads") is not None or source.json.get("head_dim") is not None:
        raise source.error("has directions of attention heads (num_heads, head_dim), not of the residual stream")
    directions = {}
    for key, values in given.items():
        layer = name_layer(source.path, str(key))
        several = isinstance(values, list) and len(values) > 1 and isinstance(values[0], list)
        if several:
            raise source.error(
                f"layer {layer} has {len(values)} directions (of positions, or of a plane); a vector has one a layer"
            )
        directions[layer] = as_direction(source.path, f"layer {layer}", values)
    kept = {"model_hint": str(source.json.get("model_type", ""))[:200]}
    return Found(directions, "layer L was read at the output of block L", "", kept)
