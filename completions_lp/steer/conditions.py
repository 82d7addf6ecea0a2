"""Vectors x layers x multipliers -> conditions; and what controls are called."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from completions_lp.records import Condition, Operation, Positions, SteeringVector

Layers = Sequence[int | Sequence[int] | Literal["all"]]
"""Where vectors enter: a layer, layers that one condition steers at once, or ``all`` of a vector's at once."""


def make_conditions(
    vectors: Sequence[SteeringVector],
    *,
    layers: Layers | None = None,
    multipliers: Sequence[int | float] = (-2.0, -1.0, 1.0, 2.0),
    positions: Positions = "completion",
    operation: Operation = "add",
) -> tuple[Condition, ...]:
    """The grid of vectors x layers x multipliers, layer by layer; ``layers=None`` takes each that a vector has.

    ``layers`` may have groups, each of which one condition steers at once: ``[3, [10, 11, 12], "all"]``.
    """
    conditions = []
    for vector in vectors:
        for group in vector.directions if layers is None else layers:
            first, *beyond = list_layers(vector, group)
            conditions += [
                Condition(vector.name, vector.kind, first, float(m), positions, operation, tuple(beyond))
                for m in multipliers
            ]
    return tuple(sorted(dict.fromkeys(conditions), key=lambda condition: condition.layers))


def list_layers(vector: SteeringVector, group: int | Sequence[int] | Literal["all"]) -> list[int]:
    """The layers of a group, upwards."""
    if group == "all":
        return sorted(vector.directions)
    return [group] if isinstance(group, int | np.integer) else sorted(set(group))


def place_zero(condition: Condition, vector: SteeringVector) -> Condition:
    """Where nothing must change: multiplier 0 of a vector at a condition's place; a clamp, which has none, adds."""
    operation: Operation = "add" if condition.operation == "clamp" else condition.operation
    named = replace(condition, vector=vector.name, kind=vector.kind, operation=operation)
    return named.without_dose


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
