"""Contrast pairs -> SteeringVector, and the controls that it is compared with.

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

from completions_lp.model import Model, count_rows, find_budget, read_residuals
from completions_lp.records import ContrastPair, InputError, SteeringVector, VectorQuality

SPLITS = 100
"""Random halvings of the pairs behind the split-half cosine."""


@dataclass(frozen=True, eq=False)
class PairDifferences:
    """Residual stream of each pair's positive minus its negative text; the vector is its mean over pairs."""

    layers: tuple[int, ...]
    values: Float[np.ndarray, "layer pair d_model"]


def read_differences(
    model: Model,
    pairs: Sequence[ContrastPair],
    *,
    layers: Sequence[int] | None = None,
    memory_budget: float | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> PairDifferences:
    """Differences of the residual stream (``resid_post``) at the output of each layer, pair by pair.

    Args:
        model: The model.
        pairs: Contrast pairs.
        layers: 0-based blocks; all by default.
        memory_budget: GiB that a pass may take; by default a quarter of the free memory.
        batch_size: Pairs per pass, overriding the memory's choice.
        progress: Show a bar.

    Raises:
        InputError: There are no pairs, a layer is out of range, or a text is longer than the model's context.
    """
    chosen = tuple(sorted(set(range(model.n_layers) if layers is None else layers)))
    model.check_layers(chosen)
    check_pairs(model, pairs)
    order = sorted(range(len(pairs)), key=lambda i: -max(len(pairs[i].positive), len(pairs[i].negative)))
    longest = max(len(ids) for pair in pairs for ids in (pair.positive, pair.negative))
    fit = count_rows(model, find_budget(model, memory_budget), tokens=longest, logits=0)
    size = batch_size or max(1, fit // 2)
    dtype = np.float64 if model.exact_dtype == torch.float64 else np.float32
    values = np.empty((len(chosen), len(pairs), model.d_model), dtype=dtype)
    with tqdm(total=len(pairs), desc="vector", unit="pair", disable=not progress) as bar:
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            texts = [pairs[i].positive for i in rows] + [pairs[i].negative for i in rows]
            index = [pairs[i].positive_index for i in rows] + [pairs[i].negative_index for i in rows]
            residuals = read_residuals(model, texts, index, chosen).numpy()
            values[:, rows] = residuals[:, : len(rows)] - residuals[:, len(rows) :]
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
    differences: PairDifferences, *, name: str = "vector", provenance: Mapping[str, str | int | float] | None = None
) -> SteeringVector:
    """The mean over pairs with its quality: norm, the norm's standard error, and the split-half cosine."""
    means = differences.values.mean(1, dtype=np.float64)
    return SteeringVector(
        name=name,
        kind="target",
        directions=dict(zip(differences.layers, means, strict=True)),
        quality={
            layer: measure_quality(values.astype(np.float64))
            for layer, values in zip(differences.layers, differences.values, strict=True)
        },
        provenance=dict(provenance or {}),
    )


def describe_source(model: Model, differences: PairDifferences) -> dict[str, str | int | float]:
    """What a stored vector needs to be used rightly: where it was read and where it is added."""
    return {
        "model": model.name,
        "revision": model.revision or "",
        "weights": model.fingerprint(),
        "d_model": model.d_model,
        "site": "resid_post",
        "layer_index": "0-based block whose output is read and added to",
        "method": "mean difference",
        "n_pairs": differences.values.shape[1],
    }


def measure_quality(differences: Float[np.ndarray, "pair d_model"], *, seed: int = 0) -> VectorQuality:
    """How well the mean of these differences is known.

    The norm's standard error is that of the mean projection on the mean's own direction (delta method). The split-half
    cosine is the mean, over 100 random halvings, of the cosine between the two halves' means. NaN for a single pair.
    """
    n = len(differences)
    mean = differences.mean(0)
    norm = float(np.linalg.norm(mean))
    if n < 2:
        return VectorQuality(norm, float("nan"), float("nan"))
    with np.errstate(invalid="ignore"):
        projections = differences @ (mean / norm)
    norm_se = float(projections.std(ddof=1) / np.sqrt(n))
    rng = np.random.default_rng(seed)
    cosines = []
    for _ in range(SPLITS):
        order = rng.permutation(n)
        first, second = differences[order[: n // 2]].mean(0), differences[order[n // 2 :]].mean(0)
        with np.errstate(invalid="ignore"):
            cosines.append(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))
    return VectorQuality(norm, norm_se, float(np.mean(cosines)))


def negate_vector(vector: SteeringVector) -> SteeringVector:
    """The opposite sign: what a real effect must turn around under."""
    directions = {layer: -direction for layer, direction in vector.directions.items()}
    return SteeringVector(f"{vector.name}-negated", "negated", directions, provenance=vector.provenance)


def draw_random_vectors(vector: SteeringVector, n: int, *, seed: int) -> tuple[SteeringVector, ...]:
    """``n`` random directions of the vector's own norm at every layer: what any push of that size does."""
    drawn = []
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence([seed, 0, i]))
        directions = {layer: _rescale(rng.standard_normal(len(d)), d) for layer, d in vector.directions.items()}
        drawn.append(SteeringVector(f"{vector.name}-random-{i}", "random", directions, provenance={"seed": seed}))
    return tuple(drawn)


def shuffle_labels(
    differences: PairDifferences, vector: SteeringVector, n: int, *, seed: int
) -> tuple[SteeringVector, ...]:
    """``n`` vectors from the same pairs with the sign of each pair flipped at random, at the vector's own norm.

    A stricter control than a random direction: it lies where the model's activations vary.
    """
    drawn = []
    for i in range(n):
        rng = np.random.default_rng(np.random.SeedSequence([seed, 1, i]))
        signs = rng.choice([-1.0, 1.0], size=differences.values.shape[1])
        means = np.einsum("p,lpd->ld", signs, differences.values.astype(np.float64)) / len(signs)
        directions = {
            layer: _rescale(mean, vector.directions[layer])
            for layer, mean in zip(differences.layers, means, strict=True)
        }
        drawn.append(SteeringVector(f"{vector.name}-shuffled-{i}", "shuffled", directions, provenance={"seed": seed}))
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
    name = f"{vector.name}-without-{other.name}"
    return SteeringVector(name, "orthogonal", directions, provenance={"removed": other.name})


def _rescale(
    direction: Float[np.ndarray, " d_model"], like: Float[np.ndarray, " d_model"]
) -> Float[np.ndarray, " d_model"]:
    return np.asarray(direction * (np.linalg.norm(like) / np.linalg.norm(direction)))


def check_pairs(model: Model, pairs: Sequence[ContrastPair]) -> None:
    """Raise InputError unless there are pairs and all fit in the model's context, naming the first that does not."""
    if not pairs:
        raise InputError("no contrast pairs; a vector needs at least one, and 50 or more to be known well")
    for number, pair in enumerate(pairs, start=1):
        longest = max(len(pair.positive), len(pair.negative))
        if longest > model.context_length:
            raise InputError(
                f"contrast pair {number} has {longest} tokens, more than the {model.context_length} of the context of "
                f"{model.name}; shorten it or leave it out"
            )
