"""Vectors x layers x multipliers -> conditions; and what controls are called."""

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


def name_control(name: str, kind: str, which: int | str = "") -> str:
    """What a control of a vector is called: by its kind, and its number or the confound that was taken out."""
    words = {"negated": "negated", "orthogonal": f"without-{which}"}
    return f"{name}-{words.get(kind, f'{kind}-{which}')}"


def place_rounding(
    vector: SteeringVector, layers: Sequence[int], *, n_layers: int, positions: Positions
) -> tuple[Condition, Condition]:
    """Where rounding is told, by both signs: at a sweep's second layer; below the only one, where there is but one.

    Steered rows part from the unsteered ones at the layer of the vector, so the lower it is, the more rounding it sees;
    at the sweep's lowest layer they part together with all the others.
    """
    swept = sorted(set(layers))
    layer = swept[1] if len(swept) > 1 else swept[0] - 1 if swept[0] > 0 else min(1, n_layers - 1)
    down, up = (Condition(vector.name, vector.kind, layer, sign, positions) for sign in (-1.0, 1.0))
    return down, up
