"""A vector as text: its layers and how long it is there, how well it is known, where it comes from."""

from collections.abc import Mapping

import numpy as np

from completions_lp.records import SteeringVector
from completions_lp.show.escape import printable
from completions_lp.show.text.numbers import DASH
from completions_lp.show.text.tables import Column, draw_table, wrap_text

LONGEST = 300
"""Characters of one entry of the provenance."""


def format_origin(vector: SteeringVector) -> str:
    """What a file was taken for, on one line: its format, its counting, the layers that it gave."""
    told = vector.provenance
    layers = list(vector.directions)
    which = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers, {layers[0]} to {layers[-1]}"
    taken = f"{told.get('source_format', 'own')}: {told.get('read_as', 'layer.L is the output of block L')}"
    return wrap_text(f"{printable(vector.name, limit=80)}: {which}, d_model {vector.d_model}; read as {taken}")


def format_vector(
    vector: SteeringVector, norms: Mapping[int, float] | None = None, told: str = "", *, width: int | None = None
) -> str:
    """Its layers with norms, beside those of a model's residual stream where they are known, and its provenance.

    Args:
        vector: The vector.
        norms: By layer, how long the residual stream is.
        told: Of which texts ``norms`` are, in words.
        width: Columns of the terminal; found out by default.
    """
    layers = list(vector.directions)
    lengths = [float(np.linalg.norm(vector.directions[layer])) for layer in layers]
    columns = [Column("layer", tuple(map(str, layers))), Column("norm", tuple(f"{norm:.4g}" for norm in lengths))]
    if norms is not None:
        streams = [norms[layer] for layer in layers]
        columns += [
            Column("residual", tuple(f"{stream:.4g}" for stream in streams)),
            Column("relative", tuple(f"{a / b:.2%}" if b else DASH for a, b in zip(lengths, streams, strict=True))),
        ]
    if vector.quality:
        halves = [vector.quality[layer].split_half_cosine if layer in vector.quality else np.nan for layer in layers]
        columns.append(Column("split-half", tuple(DASH if np.isnan(c) else f"{c:.3f}" for c in halves)))
    many = f"{len(layers)} layers" if len(layers) > 1 else "1 layer"
    lines = [
        f"{printable(vector.name, limit=80)}: {vector.kind}, {many}, d_model {vector.d_model}",
        draw_table(columns, width=width),
    ]
    if norms is not None:
        lines.append(wrap_text(f"residual: {told}; relative: norm / residual, what multiplier 1 adds", width=width))
    lines += [
        wrap_text(f"{printable(str(key), limit=60)}: {printable(str(value), limit=LONGEST)}", width=width, rest="  ")
        for key, value in sorted(vector.provenance.items())
        if str(value)
    ]
    return "\n".join(lines)
