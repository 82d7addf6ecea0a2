"""SteeringVector -> its controls: opposite, random, from shuffled labels, without a confound."""

import numpy as np
from jaxtyping import Float

from completions_lp.records import InputError, Span, SteeringVector
from completions_lp.steer.conditions import name_control
from completions_lp.steer.vectors import Differences


def negate_vector(vector: SteeringVector) -> SteeringVector:
    """The opposite sign: what a real effect must turn around under, clamped to a value as the target to minus it."""
    directions = {layer: -direction for layer, direction in vector.directions.items()}
    spans = {layer: Span(-span.centre, span.scale) for layer, span in vector.spans.items()}
    name = name_control(vector.name, "negated")
    return SteeringVector(name, "negated", directions, provenance=vector.provenance, spans=spans)


def draw_random_vectors(vector: SteeringVector, n: int, *, seed: int) -> tuple[SteeringVector, ...]:
    """``n`` random directions of the vector's own norm at every layer: what any push of that size does."""
    drawn = []
    for i in range(n):
        rng = np.random.default_rng([seed, 0, i])
        directions = {layer: _rescale(rng.standard_normal(len(d)), d) for layer, d in vector.directions.items()}
        name = name_control(vector.name, "random", i)
        drawn.append(SteeringVector(name, "random", directions, provenance={"seed": seed}))
    return tuple(drawn)


def shuffle_labels(
    differences: Differences, vector: SteeringVector, n: int, *, seed: int
) -> tuple[SteeringVector, ...]:
    """``n`` vectors from the same pairs with the sign of each pair flipped at random, at the vector's own norm.

    A stricter control than a random direction: it lies where the model's activations vary.
    """
    if not n:
        return ()
    drawn = []
    rngs = [np.random.default_rng([seed, 1, i]) for i in range(n)]
    signs = np.stack([rng.choice([-1.0, 1.0], size=differences.n_pairs) for rng in rngs])
    for i, means in enumerate(differences.average_signed(signs)):
        found = zip(differences.layers, means, strict=True)
        directions = {layer: _rescale(mean, vector.directions[layer]) for layer, mean in found}
        name = name_control(vector.name, "shuffled", i)
        drawn.append(SteeringVector(name, "shuffled", directions, provenance={"seed": seed}))
    return tuple(drawn)


def remove_direction(vector: SteeringVector, other: SteeringVector) -> SteeringVector:
    """The vector without its part along another one, at its own norm: what is left when a confound is taken out.

    Raises:
        InputError: The other vector lacks a layer of this one, has another size, is zero or is parallel to it.
    """
    directions = {}
    for layer, direction in vector.directions.items():
        if layer not in other.directions or other.d_model != vector.d_model:
            raise InputError(
                f"vector {other.name!r} has size {other.d_model} and layers {list(other.directions)}; to make "
                f"{vector.name!r} orthogonal to it, it needs size {vector.d_model} and layer {layer}"
            )
        length = np.linalg.norm(other.directions[layer])
        if length == 0:
            raise InputError(f"vector {other.name!r} is zero at layer {layer}: nothing can be made orthogonal to it")
        along = other.directions[layer] / length
        rest = direction - (direction @ along) * along
        if not np.linalg.norm(rest) > 1e-6 * np.linalg.norm(direction):
            raise InputError(
                f"vectors {vector.name!r} and {other.name!r} are parallel at layer {layer}: nothing is left"
            )
        directions[layer] = _rescale(rest, direction)
    name = name_control(vector.name, "orthogonal", other.name)
    return SteeringVector(name, "orthogonal", directions, provenance={"removed": other.name})


def _rescale(
    direction: Float[np.ndarray, " d_model"], like: Float[np.ndarray, " d_model"]
) -> Float[np.ndarray, " d_model"]:
    return np.asarray(direction * (np.linalg.norm(like) / np.linalg.norm(direction)))
