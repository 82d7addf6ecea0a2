"""Model -> a direction too small to matter, under which whatever a score changes by is rounding."""

from collections.abc import Sequence

import numpy as np

from completions_lp.model import Model, read_residuals
from completions_lp.records import Condition, Positions, SteeringVector

NAME = "rounding"
SIZE = 1e-3
"""Of the norm of the residual stream: its true effect is some hundredth of a nat in a completion at most."""
_TEXTS, _TOKENS = 8, 8


def draw_rounding_vector(model: Model, taken: Sequence[str] = ()) -> SteeringVector:
    """A random direction at every layer, a thousandth as long as the residual stream there; ``taken``: other names.

    How long the stream is, is read from a few random token ids, so it is of the model alone.
    """
    rng = np.random.default_rng(0)
    ids = rng.integers(0, model.vocab_size, (_TEXTS, _TOKENS)).tolist()
    layers = range(model.n_layers)
    residuals = read_residuals(model, ids, [_TOKENS - 1] * _TEXTS, layers).numpy().astype(np.float64)
    norms = np.linalg.norm(residuals, axis=-1).mean(-1)
    drawn = rng.standard_normal((model.n_layers, model.d_model))
    drawn *= SIZE * norms[:, None] / np.linalg.norm(drawn, axis=-1, keepdims=True)
    name = next(name for name in (NAME, *(f"{NAME}-{i}" for i in range(len(taken)))) if name not in taken)
    return SteeringVector(name, "rounding", dict(enumerate(drawn)), provenance={"size": SIZE})


def place_rounding(vector: SteeringVector, layers: Sequence[int], *, n_layers: int, positions: Positions) -> Condition:
    """The condition in which it is scored: at the second layer of a sweep; below the only one, where there is but one.

    Steered rows part from the unsteered ones at the layer of the vector, so the lower it is, the more rounding it sees;
    at the sweep's lowest layer they part together with all the others.
    """
    swept = sorted(set(layers))
    layer = swept[1] if len(swept) > 1 else swept[0] - 1 if swept[0] > 0 else min(1, n_layers - 1)
    return Condition(vector.name, vector.kind, layer, 1.0, positions)
