"""persona_vectors: one tensor ``[n_layers + 1, d_model]`` in a file, of which row i is ``hidden_states[i]``.

So row i is the output of block i - 1, and row 0 the embedding, which is the output of no block.
"""

import re

import numpy as np

from completions_lp.records import InputError, SteeringVector
from completions_lp.steer.formats.pickled import pack, shape_of, unpack
from completions_lp.steer.formats.source import MOST_LAYERS, PICKLED, Asked, Found, Source, as_direction

NAME = "persona_vectors"
FILE = re.compile(r".*(?:prompt_avg|response_avg|prompt_last)_diff\.pt")


def claims(source: Source) -> bool:
    """Whether it is a file of two axes that is called as persona_vectors calls its own."""
    if source.suffix not in PICKLED or not FILE.fullmatch(source.path.name):
        return False
    return len(shape_of(source.pickled) or ()) == 2


def read(source: Source, _: Asked) -> Found:
    """Every row but the embedding's; rows without numbers (NaN) are layers that the file has not."""
    rows = unpack(source.path, "what it has", source.pickled)
    if rows.ndim != 2 or not 2 <= rows.shape[0] <= MOST_LAYERS + 1:
        raise source.error(f"has shape {list(rows.shape)}; persona_vectors writes [n_layers + 1, d_model]")
    directions = {
        layer: as_direction(source.path, f"row {layer + 1}", row)
        for layer, row in enumerate(rows[1:])
        if not np.isnan(row).all()
    }
    read_as = "row i is hidden_states[i], the output of block i - 1; row 0, the embedding, is left out"
    return Found(directions, read_as, "", {"n_layers": len(rows) - 1})


def pack_rows(vector: SteeringVector, n_layers: int) -> bytes:
    """Such a file for a model of so many blocks; NaN in the row of the embedding and of layers without a direction.

    Raises:
        InputError: The vector has more layers than that.
    """
    highest = max(vector.directions)
    if highest >= n_layers:
        raise InputError(
            f"vector {vector.name!r} has layer {highest}; a model of {n_layers} blocks has 0 to {n_layers - 1}"
        )
    rows = np.full((n_layers + 1, vector.d_model), np.nan)
    for layer, direction in vector.directions.items():
        rows[layer + 1] = direction
    return pack(rows)
