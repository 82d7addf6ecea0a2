"""Vectors x layers x multipliers -> conditions."""

from collections.abc import Sequence

from completions_lp.records import Condition, Positions, SteeringVector


def make_conditions(
    vectors: Sequence[SteeringVector],
    *,
    layers: Sequence[int] | None = None,
    multipliers: Sequence[int | float] = (-2.0, -1.0, 1.0, 2.0),
    positions: Positions = "completion",
) -> tuple[Condition, ...]:
    """The grid of vectors x layers x multipliers, layer by layer; ``layers=None`` takes those that a vector has."""
    conditions = [
        Condition(vector.name, vector.kind, layer, float(multiplier), positions)
        for vector in vectors
        for layer in (vector.directions if layers is None else layers)
        for multiplier in multipliers
    ]
    return tuple(sorted(dict.fromkeys(conditions), key=lambda condition: condition.layer))
