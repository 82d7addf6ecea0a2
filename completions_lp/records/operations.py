"""What a condition does to a hidden state: an affine edit along one direction, by operation."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from completions_lp.records.base import require
from completions_lp.records.steering import Condition, SteeringVector


@dataclass(frozen=True, eq=False)
class Edit:
    """The hidden state h becomes ``h + added - share (unit . h) unit``."""

    added: Float[np.ndarray, " d_model"]
    unit: Float[np.ndarray, " d_model"]
    """The direction at length 1; zero where ``share`` is."""
    share: float
    """How much of the component along the direction is taken away: 0 for an addition, 1 for all of it."""


def find_edit(vector: SteeringVector, condition: Condition, layer: int) -> Edit:
    """What a condition does at one of its layers, in float64.

    With v the direction, u the same at length 1 and m the multiplier: ``add`` adds m v; ``ablate`` takes m (u . h) u
    away, all of the component at m = 1, and reflects it at m = 2 (Arditi et al. 2024, arXiv 2406.11717); ``clamp`` sets
    the component u . h to centre + m scale, where the contrast pairs' texts are -1 and 1 on average (``vector.spans``).

    Raises:
        InputError: ``clamp`` of a vector that does not know its span at this layer.
    """
    direction = vector.directions[layer].astype(np.float64)
    if condition.operation == "add":
        return Edit(condition.multiplier * direction, np.zeros_like(direction), 0.0)
    length = np.linalg.norm(direction)
    unit = direction / length if length else direction
    if condition.operation == "ablate":
        return Edit(np.zeros_like(direction), unit, condition.multiplier)
    require(
        layer in vector.spans,
        f"vector {vector.name!r} has no span at layer {layer}, which clamp needs: where the two texts of contrast "
        "pairs lie along it; make the vector of pairs, or take a file that has spans",
    )
    span = vector.spans[layer]
    return Edit((span.centre + condition.multiplier * span.scale) * unit, unit, 1.0)
