"""Contrast pairs -> SteeringVector.

A vector is the mean, over *all* pairs, of the difference between the residual streams of the two texts, each read at
one token (Rimsky et al. 2023, arXiv 2312.06681). It takes forward passes only. Each pair's difference is kept in
float32 or better and the mean is taken once over all of them in float64, so memory batches do not change it: a mean
over 50 pairs is one estimate, not the average of five noisier ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from tqdm import tqdm

from completions_lp.model import Model, Room, read_residuals, row_bytes
from completions_lp.records import ContrastPair, InputError, SteeringVector
from completions_lp.steer.quality import measure_quality
from completions_lp.steer.remote import ServedDifferences


@dataclass(frozen=True, eq=False)
class PairDifferences:
    """Residual stream of each pair's positive minus its negative text; the vector is its mean over pairs."""

    layers: tuple[int, ...]
    values: Float[np.ndarray, "layer pair d_model"]

    @property
    def n_pairs(self) -> int:
        """How many pairs there are."""
        n: int = self.values.shape[1]
        return n

    @property
    def coordinates(self) -> Float[np.ndarray, "layer pair _"]:
        """The differences in some orthonormal basis, which lengths and angles do not hang on: here their own."""
        return self.values.astype(np.float64)

    def average(self) -> Float[np.ndarray, "layer d_model"]:
        """Their mean over pairs, by layer."""
        mean: Float[np.ndarray, "layer d_model"] = self.values.mean(1, dtype=np.float64)
        return mean

    def average_signed(self, signs: Float[np.ndarray, "mean pair"]) -> Float[np.ndarray, "mean layer d_model"]:
        """Their means, once each pair has a sign."""
        return np.stack([np.einsum("p,lpd->ld", one, self.values.astype(np.float64)) / len(one) for one in signs])


Differences = PairDifferences | ServedDifferences


def read_differences(
    model: Model,
    pairs: Sequence[ContrastPair],
    *,
    layers: Sequence[int] | None = None,
    memory_budget: float | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> Differences:
    """Differences of the residual stream (``resid_post``) at the output of each layer, pair by pair.

    ``layers`` are 0-based blocks, all by default; a pass takes ``memory_budget`` GiB, by default a quarter of the
    machine's memory, or ``batch_size`` pairs.

    Raises:
        OutOfRoom: A pair does not fit in memory alone; it is named by its place.
        InputError: There are no pairs, a layer is out of range, a text is longer than the model's context, or a
            residual stream is not finite.
    """
    chosen = tuple(sorted(set(range(model.n_layers) if layers is None else layers)))
    model.check_layers(chosen)
    check_pairs(model, pairs)
    if model.is_remote:
        return ServedDifferences.read(model, pairs, chosen)
    order = sorted(range(len(pairs)), key=lambda i: -max(len(pairs[i].positive), len(pairs[i].negative)))
    longest = max(len(ids) for pair in pairs for ids in (pair.positive, pair.negative))
    dtype = np.float64 if model.exact_dtype == torch.float64 else np.float32
    values = np.empty((len(chosen), len(pairs), model.d_model), dtype=dtype)

    def read(rows: Sequence[int]) -> Float[torch.Tensor, "layer text d_model"]:
        texts = [pairs[i].positive for i in rows] + [pairs[i].negative for i in rows]
        index = [pairs[i].positive_index for i in rows] + [pairs[i].negative_index for i in rows]
        return read_residuals(model, texts, index, chosen)

    def describe(i: int) -> tuple[None, str]:
        return None, f"contrast pair {i + 1} of {len(pairs[i].positive)} and {len(pairs[i].negative)} tokens"

    each, room = 2 * row_bytes(model, tokens=longest, logits=0), Room.find(model, memory_budget)
    with tqdm(total=len(pairs), desc="vector", unit="pair", disable=not progress) as bar:
        for rows, read_out in room.share(order, read, each=each, most=batch_size, name=describe):
            residuals = read_out.numpy()
            values[:, rows] = residuals[:, : len(rows)] - residuals[:, len(rows) :]
            _check_residuals(values, rows, chosen)
            bar.update(len(rows))
    return PairDifferences(chosen, values)


def extract_vector(
    model: Model,
    pairs: Sequence[ContrastPair],
    *,
    name: str = "vector",
    layers: Sequence[int] | None = None,
    memory_budget: float | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> SteeringVector:
    """The mean difference over all pairs, per layer. Arguments and errors are those of ``read_differences``."""
    differences = read_differences(
        model, pairs, layers=layers, memory_budget=memory_budget, batch_size=batch_size, progress=progress
    )
    return average_differences(differences, name=name, provenance=describe_source(model, differences))


def average_differences(
    differences: Differences, *, name: str = "vector", provenance: Mapping[str, str | int | float] | None = None
) -> SteeringVector:
    """The mean over pairs with its quality: norm, the norm's standard error, and the split-half cosine."""
    means = differences.average()
    return SteeringVector(
        name=name,
        kind="target",
        directions=dict(zip(differences.layers, means, strict=True)),
        quality={
            layer: measure_quality(values)
            for layer, values in zip(differences.layers, differences.coordinates, strict=True)
        },
        provenance=dict(provenance or {}),
    )


def describe_source(model: Model, differences: Differences) -> dict[str, str | int | float]:
    """What a stored vector needs to be used rightly: where it was read and where it is added."""
    return {
        "model": model.name,
        "revision": model.revision or "",
        "weights": model.fingerprint(),
        "d_model": model.d_model,
        "site": "resid_post",
        "layer_index": "0-based block whose output is read and added to",
        "method": "mean difference",
        "n_pairs": differences.n_pairs,
    }


def _check_residuals(
    values: Float[np.ndarray, "layer pair d_model"], rows: Sequence[int], layers: Sequence[int]
) -> None:
    """Raise InputError at the first of these pairs whose difference is no number, naming the pair and the layer."""
    finite = np.isfinite(values[:, rows]).all(-1)
    if finite.all():
        return
    layer, row = np.argwhere(~finite)[0]
    raise InputError(
        f"contrast pair {rows[row] + 1}: the residual stream after layer {layers[layer]} is not finite; likely an "
        'overflow in half precision, or weights that are no numbers: use [model] dtype = "float32" or bfloat16, and '
        "run completions-lp doctor"
    )


def check_pairs(model: Model, pairs: Sequence[ContrastPair]) -> None:
    """Raise InputError unless there are pairs, in the model's vocabulary and context; the first misfit is named."""
    if not pairs:
        raise InputError("no contrast pairs; a vector needs at least one, and 50 or more to be known well")
    for number, pair in enumerate(pairs, start=1):
        model.check_tokens((*pair.positive, *pair.negative), f"contrast pair {number}")
        longest = max(len(pair.positive), len(pair.negative))
        if longest > model.context_length:
            raise InputError(
                f"contrast pair {number} has {longest} tokens, more than the {model.context_length} of the context of "
                f"{model.name}; shorten it or leave it out"
            )
