"""Differences of pairs that stay on a model server: what leaves it are means over pairs, and the pairs' inner products.

These are all that a vector, its controls and its quality are made of, and a hundredth of the differences themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from completions_lp.model import Model
from completions_lp.records import ContrastPair, InputError


@dataclass(frozen=True, eq=False)
class ServedDifferences:
    """As ``PairDifferences``, of which the values are elsewhere."""

    layers: tuple[int, ...]
    model: Model
    pairs: tuple[ContrastPair, ...]
    mean: Float[np.ndarray, "layer d_model"]
    products: Float[np.ndarray, "layer pair pair"]
    """Of every two differences."""

    @classmethod
    def read(cls, model: Model, pairs: Sequence[ContrastPair], layers: tuple[int, ...]) -> "ServedDifferences":
        """Ask the server for their mean and their inner products.

        Raises:
            InputError: A residual stream is no number.
        """
        even = np.full((1, len(pairs)), 1 / len(pairs))
        found = _ask(model, pairs, layers, even, products=True)
        return cls(layers, model, tuple(pairs), found["means"][0].numpy(), found["products"].numpy())

    @property
    def n_pairs(self) -> int:
        """How many pairs there are."""
        return len(self.pairs)

    @property
    def coordinates(self) -> Float[np.ndarray, "layer pair pair"]:
        """The differences in some orthonormal basis, of as many dimensions as there are pairs."""
        values, vectors = np.linalg.eigh(self.products)
        found: Float[np.ndarray, "layer pair pair"] = vectors * np.sqrt(values.clip(min=0))[:, None]
        return found

    def average(self) -> Float[np.ndarray, "layer d_model"]:
        """Their mean over pairs, by layer."""
        return self.mean

    def average_signed(self, signs: Float[np.ndarray, "mean pair"]) -> Float[np.ndarray, "mean layer d_model"]:
        """Their means, once each pair has a sign: in one more request."""
        found = _ask(self.model, self.pairs, self.layers, signs / self.n_pairs, products=False)
        means: Float[np.ndarray, "mean layer d_model"] = found["means"].numpy()
        return means


def _ask(
    model: Model,
    pairs: Sequence[ContrastPair],
    layers: Sequence[int],
    weights: Float[np.ndarray, "mean pair"],
    *,
    products: bool,
) -> dict[str, torch.Tensor]:
    """Weighted sums of differences over pairs, and inner products if they are asked for."""
    work = {
        "positive": [list(pair.positive) for pair in pairs],
        "negative": [list(pair.negative) for pair in pairs],
        "index": [[pair.positive_index for pair in pairs], [pair.negative_index for pair in pairs]],
        "layers": list(layers),
        "weights": torch.from_numpy(weights),
        "products": products,
    }
    found: dict[str, torch.Tensor] = model.server.call("completions_lp.steer.served:average", work)
    model.usage.tokens += sum(len(pair.positive) + len(pair.negative) for pair in pairs)
    model.usage.passes += 1
    bad = np.argwhere(~found["finite"].numpy())
    if len(bad):
        layer, pair = bad[0]
        raise InputError(
            f"contrast pair {pair + 1}: the residual stream after layer {layers[layer]} is not finite on the server, "
            "likely an overflow in half precision; leave the pair out"
        )
    return found
