"""Model -> a direction too small to matter, under which whatever a score changes by is rounding."""

from collections.abc import Sequence

import numpy as np

from completions_lp.model.loading import Model
from completions_lp.model.network import read_residuals
from completions_lp.records import SteeringVector

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
