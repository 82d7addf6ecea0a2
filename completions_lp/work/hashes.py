"""Arrays and vectors, hashed, without anything that loads models."""

import hashlib
from collections.abc import Sequence

import numpy as np

from completions_lp.records import SteeringVector
from completions_lp.store.units import hash_value


def hash_array(values: np.ndarray) -> str:
    """32 hexadecimal digits that stand for an array: its values, their type and its shape."""
    head = f"{values.dtype.str}{values.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(values).tobytes()).hexdigest()[:32]


def hash_vectors(vectors: Sequence[SteeringVector]) -> str:
    """Stands for vectors: their names, kinds and directions, and their spans where they have any."""
    described = []
    for vector in vectors:
        directions = {str(layer): hash_array(d) for layer, d in vector.directions.items()}
        spans = {str(layer): [span.centre, span.scale] for layer, span in vector.spans.items()}
        described.append([vector.name, vector.kind, directions, *([spans] if spans else [])])
    return hash_value(described)
