"""Pairs whose residual streams stay on a model server: the vector and its quality are made there, see ``served``.

What leaves it are means over pairs and a few numbers by layer: a hundredth of the streams themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from completions_lp.model import Model
from completions_lp.records import ContrastPair, InputError
from completions_lp.steer.estimates import Estimate, Method


@dataclass(frozen=True, eq=False)
class ServedDifferences:
    """As ``PairDifferences``, of which the residual streams are elsewhere."""

    layers: tuple[int, ...]
    model: Model
    pairs: tuple[ContrastPair, ...]
    method: Method
    estimates: Sequence[Estimate]
    """What the pairs say, by layer."""
    sides: Float[np.ndarray, "side layer d_model"]
    """The means of all positive and of all negative texts."""
    lens: Float[np.ndarray, "layer 2"]
    """A_lin, and the mean log odds of the answers; NaN where pairs have none."""

    @classmethod
    def read(
        cls, model: Model, pairs: Sequence[ContrastPair], layers: tuple[int, ...], method: Method
    ) -> "ServedDifferences":
        """Ask the server for the vector, its quality and the means of both sides.

        Raises:
            InputError: A residual stream is no number.
        """
        found = {name: values.numpy() for name, values in _ask("contrast", model, pairs, layers, method=method).items()}
        numbers = zip(found["directions"], found["measures"].tolist(), strict=True)
        estimates = [Estimate(direction, *measures) for direction, measures in numbers]
        asked = [pair.answers is not None for pair in pairs]
        lens = found["lens"][:, asked].mean(1) if any(asked) else np.full((len(layers), 2), np.nan)
        return cls(layers, model, tuple(pairs), method, estimates, found["sides"], lens)

    @property
    def n_pairs(self) -> int:
        """How many pairs there are."""
        return len(self.pairs)

    def average_sides(self) -> Float[np.ndarray, "side layer d_model"]:
        """The means of all positive and of all negative texts."""
        return self.sides

    def average_signed(self, signs: Float[np.ndarray, "mean pair"]) -> Float[np.ndarray, "mean layer d_model"]:
        """The means of the differences, once each pair has a sign: in one more request."""
        weights = torch.from_numpy(signs / self.n_pairs)
        found = _ask("average", self.model, self.pairs, self.layers, weights=weights)
        means: Float[np.ndarray, "mean layer d_model"] = found["means"].numpy()
        return means


def _ask(
    function: str, model: Model, pairs: Sequence[ContrastPair], layers: Sequence[int], **more: Any
) -> dict[str, torch.Tensor]:
    """What a function of ``served`` gives of these pairs."""
    spans = [pair.spans for pair in pairs]
    work = {
        "positive": [list(pair.positive) for pair in pairs],
        "negative": [list(pair.negative) for pair in pairs],
        "spans": [list(span[side]) for side in (0, 1) for span in spans],
        "answers": [list(pair.answers or ()) for pair in pairs],
        "layers": list(layers),
        **more,
    }
    found: dict[str, torch.Tensor] = model.server.call(f"completions_lp.steer.served:{function}", work)
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
