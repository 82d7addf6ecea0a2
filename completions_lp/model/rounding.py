"""Model -> a small direction, added once and taken away once: what a score changes by in the mean of both is rounding.

Steered rows must differ enough from unsteered ones for their rounding to be their own: under a thousandth of the
stream's norm most numbers round as they did, and on a shallow model half precision looks 40 % better than it is. What a
fiftieth changes by itself is nearly linear, so it is gone from the mean of both signs.
"""

from collections.abc import Sequence

import numpy as np

from completions_lp.model.loading import Model
from completions_lp.model.network import read_norms
from completions_lp.records import SteeringVector

NAME = "rounding"
SIZE = 0.02
"""Of the norm of the residual stream: what is left in the mean of both signs is about a hundredth of a nat."""
_TEXTS, _TOKENS = 8, 8


def draw_rounding_vector(model: Model, taken: Sequence[str] = ()) -> SteeringVector:
    """A random direction at every layer, a fiftieth as long as the residual stream there; ``taken``: other names.

    How long the stream is, is read from a few random token ids, so it is of the model alone.
    """
    rng = np.random.default_rng(0)
    ids = rng.integers(0, model.vocab_size, (_TEXTS, _TOKENS)).tolist()
    layers = range(model.n_layers)
    norms = read_norms(model, ids, [_TOKENS - 1] * _TEXTS, layers).mean(-1)
    drawn = rng.standard_normal((model.n_layers, model.d_model))
    drawn *= SIZE * norms[:, None] / np.linalg.norm(drawn, axis=-1, keepdims=True)
    name = next(name for name in (NAME, *(f"{NAME}-{i}" for i in range(len(taken)))) if name not in taken)
    return SteeringVector(name, "rounding", dict(enumerate(drawn)), provenance={"size": SIZE})
