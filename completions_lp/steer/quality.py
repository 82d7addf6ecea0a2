"""What pairs say at each layer -> how well the vector is known, and where their texts lie along it and its controls."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from completions_lp.records import InputError, Span, SteeringVector, VectorQuality
from completions_lp.steer.estimates import Estimate, Method


def check_number(n_pairs: int, method: Method) -> None:
    """Raise InputError unless there are pairs, and as many as a method needs."""
    if not n_pairs:
        raise InputError("no contrast pairs; a vector needs at least one, and 50 or more to be known well")
    if method == "lda" and n_pairs < 2:
        raise InputError(
            '[vector] method = "lda" whitens by what texts of a class differ in, and there is one contrast pair; give '
            'two or more, 50 to know it well, or take method = "mean_difference"'
        )


def list_quality(
    layers: Sequence[int], estimates: Sequence[Estimate], lens: Float[np.ndarray, "layer 2"]
) -> dict[int, VectorQuality]:
    """How well the vector is known, by layer; ``lens`` has A_lin and the mean log odds of the answers."""
    return {
        layer: VectorQuality(
            *(one.norm, one.norm_se, one.split_half_cosine, one.pair_cosine, one.d_prime), *map(float, read)
        )
        for layer, one, read in zip(layers, estimates, lens, strict=True)
    }


def place_vectors(
    vectors: Sequence[SteeringVector], layers: Sequence[int], sides: Float[np.ndarray, "2 layer d_model"]
) -> tuple[SteeringVector, ...]:
    """Vectors, the target first, with the spans that ``clamp`` measures in, at the layers that were read.

    ``sides`` are the means of all positive and of all negative texts, see ``Differences.average_sides``.

    Along the target, the positive and the negative texts lie at centre plus and minus scale, on average. A control has
    the centre of the same texts along its own direction, and the target's scale: clamping moves it as far. So the
    negated vector clamped to m is the target clamped to -m.
    """
    by_layer = dict(zip(layers, np.swapaxes(sides, 0, 1), strict=True))
    target, *controls = (_locate(vector, by_layer) for vector in vectors)
    scales = {layer: span.scale for layer, span in target.spans.items()}
    placed = [
        replace(one, spans={at: Span(span.centre, scales[at]) for at, span in one.spans.items() if at in scales})
        for one in controls
    ]
    return target, *placed


def _locate(vector: SteeringVector, sides: Mapping[int, Float[np.ndarray, "2 d_model"]]) -> SteeringVector:
    """The vector with the spans of the texts along it; at a layer where it is zero, it has none."""
    spans = {}
    for layer, direction in vector.directions.items():
        length = np.linalg.norm(direction)
        if layer in sides and length > 0:
            above, below = sides[layer] @ (direction / length)
            spans[layer] = Span(float(above + below) / 2, float(above - below) / 2)
    return replace(vector, spans=spans)
