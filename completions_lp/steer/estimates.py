"""Residual streams of pairs at one layer -> a direction, and how well it is known; by inner products of the texts.

All of it hangs on inner products alone: there are fewer texts than dimensions, and a direction is a sum of texts. So
each estimator gives a weight to each text, and what is done again on parts of the pairs costs no more than the parts.
This module also runs on model servers: it imports numpy, and nothing of ours.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Method = Literal["mean_difference", "pca", "lda"]
METHODS: dict[str, str] = {
    "mean_difference": "mean difference",
    "pca": "first principal component of the pairs' differences, uncentred, at the norm of their mean",
    "lda": "difference of class means whitened by their pooled covariance (shrunken), at the norm it had before",
}
"""In words, for the provenance of a vector."""
SPLITS: dict[str, int] = {"mean_difference": 100, "pca": 20, "lda": 20}
"""Random halvings of the pairs behind the split-half cosine, by method."""
FOLDS = 20
"""Parts of the pairs that are held out for d' one after the other, for pca and lda; up to so many pairs, each alone."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """What the pairs say at one layer."""

    direction: Float[np.ndarray, " d_model"]
    norm: float
    norm_se: float
    split_half_cosine: float
    pair_cosine: float
    d_prime: float


def estimate(
    positive: Float[np.ndarray, "pair d_model"],
    negative: Float[np.ndarray, "pair d_model"],
    *,
    method: Method = "mean_difference",
    seed: int = 0,
) -> Estimate:
    """The direction that a method finds, as long as the mean difference, and its quality; in float64.

    ``mean_difference`` is the mean over pairs of positive less negative (Rimsky et al. 2023, arXiv 2312.06681).

    ``pca`` is the direction along which the differences are largest in the mean square: their first principal component
    *uncentred*, as of the differences with either sign. So repeng has it ("pca_center"), and Zou et al. 2023 (arXiv
    2310.01405) with signs drawn at random. Centred, it would be what differences differ in, without what they share.

    ``lda`` is the difference of class means whitened by the covariance within the classes, pooled and, since there are
    fewer texts than dimensions, shrunken towards a multiple of the identity (Ledoit and Wolf 2004).

    Their sign is that by which positive texts project higher on average.
    """
    n = len(positive)
    differences = positive - negative
    mean = differences.mean(0, dtype=np.float64)
    texts = np.concatenate([positive, negative]).astype(np.float64)
    texts -= texts.mean(0)
    gram = texts @ texts.T
    weights = weigh_texts(gram, method, texts.shape[1])
    direction = mean if method == "mean_difference" else np.asarray(weights @ texts)
    norm, norm_se, pair_cosine = _measure_mean(differences.astype(np.float64), mean)
    rng = np.random.default_rng(seed)
    split = np.nan if n < 2 else _compare_halves(gram, method, texts.shape[1], rng)
    d_prime = np.nan if n < 2 else _separate(gram, method, texts.shape[1], rng)
    return Estimate(direction, norm, norm_se, float(split), pair_cosine, float(d_prime))


def weigh_texts(gram: Float[np.ndarray, "text text"], method: Method, d_model: int) -> Float[np.ndarray, " text"]:
    """The weights of texts whose sum is the direction, of their inner products: all positive texts, then all negative.

    Where a method finds nothing else, as of a single pair, it is the mean difference.
    """
    n = len(gram) // 2
    even = np.repeat([1 / n, -1 / n], n)
    if method == "mean_difference":
        return even
    if method == "pca":
        within = gram[:n, :n] + gram[n:, n:] - gram[:n, n:] - gram[n:, :n]
        largest = np.linalg.eigh(within)[1][:, -1]
        weights = np.concatenate([largest, -largest])
    else:
        weights = _whiten(gram, even, d_model)
    towards, size, length = weights @ gram @ even, weights @ gram @ weights, even @ gram @ even
    if not size > 0:
        return even
    found: Float[np.ndarray, " text"] = weights * (np.sqrt(length / size) * (1 if towards >= 0 else -1))
    return found


def _whiten(
    gram: Float[np.ndarray, "text text"], even: Float[np.ndarray, " text"], d_model: int
) -> Float[np.ndarray, " text"]:
    """Weights of the difference of means times the inverse of the pooled covariance, but for a factor.

    With X the texts less their class means, N of them, S = X'X / N is shrunken to (1 - s) S + s v I, v = tr S / d; its
    inverse by X is that of an N x N matrix (Woodbury).
    """
    texts = len(gram)
    inner = _centre(_centre(gram).T)
    level, square = np.trace(inner) / (texts * d_model), (inner**2).sum() / texts**2
    spread = square - d_model * level**2
    noise = ((np.diag(inner) ** 2).sum() - texts * square) / texts**2
    shrink = min(1.0, noise / spread) if spread > 0 else 1.0
    if not (level > 0 and shrink > 0):
        return even
    kept = (1 - shrink) / texts
    solved = np.linalg.solve(shrink * level * np.eye(texts) + kept * inner, _centre(gram @ even))
    found: Float[np.ndarray, " text"] = even - kept * _centre(solved)
    return found


def _centre(values: Float[np.ndarray, "text *more"]) -> Float[np.ndarray, "text *more"]:
    """Values of texts less the means of their classes."""
    sides = values.reshape(2, len(values) // 2, -1)
    found: Float[np.ndarray, text * more] = (sides - sides.mean(1, keepdims=True)).reshape(values.shape)
    return found


def _measure_mean(
    differences: Float[np.ndarray, "pair d_model"], mean: Float[np.ndarray, " d_model"]
) -> tuple[float, float, float]:
    """The norm of the mean, its standard error, and the mean cosine of the differences with it.

    The standard error is that of the mean projection on the mean's own direction (delta method). A pair without a
    difference has no cosine, and is left out.
    """
    n, norm = len(differences), float(np.linalg.norm(mean))
    if n < 2:
        return norm, np.nan, np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        along = differences @ (mean / norm)
        cosines = along / np.linalg.norm(differences, axis=1)
    known = cosines[np.isfinite(cosines)]
    return norm, float(along.std(ddof=1) / np.sqrt(n)), float(known.mean()) if len(known) else np.nan


def _compare_halves(
    gram: Float[np.ndarray, "text text"], method: Method, d_model: int, rng: np.random.Generator
) -> float:
    """Mean cosine between the directions of two random halves."""
    n, cosines = len(gram) // 2, []
    for _ in range(SPLITS[method]):
        order = rng.permutation(n)
        one, other = (_weigh_some(gram, half, method, d_model) for half in (order[: n // 2], order[n // 2 :]))
        with np.errstate(invalid="ignore"):
            cosines.append(one @ gram @ other / np.sqrt((one @ gram @ one) * (other @ gram @ other)))
    return float(np.mean(cosines))


def _separate(gram: Float[np.ndarray, "text text"], method: Method, d_model: int, rng: np.random.Generator) -> float:
    """d': difference of the classes' mean projections by their pooled standard deviation, each pair held out once.

    A pair is projected from the middle of all texts on the direction, of length 1, that the pairs give without it; by
    ``pca`` and ``lda`` of many pairs, without it and others.
    """
    n = len(gram) // 2
    projections = np.empty((2, n))
    parts = n if method == "mean_difference" else min(n, FOLDS)
    folds = np.array_split(rng.permutation(n), parts)
    kept = [np.setdiff1d(np.arange(n), fold) for fold in folds]
    weights = np.stack([_weigh_some(gram, pairs, method, d_model) for pairs in kept], 1)
    along = gram @ weights
    with np.errstate(invalid="ignore"):
        along /= np.sqrt((weights * along).sum(0))
    for part, fold in enumerate(folds):
        projections[:, fold] = along[fold, part], along[n + fold, part]
    apart, pooled = (projections[0] - projections[1]).mean(), np.sqrt(projections.var(1, ddof=1).mean())
    return float(apart / pooled) if pooled > 1e-9 * abs(apart) else np.nan


def _weigh_some(
    gram: Float[np.ndarray, "text text"], pairs: Int[np.ndarray, " some"], method: Method, d_model: int
) -> Float[np.ndarray, " text"]:
    """Weights of all texts where only some pairs are known: 0 of the others."""
    at = np.concatenate([pairs, len(gram) // 2 + pairs])
    weights = np.zeros(len(gram))
    if method == "mean_difference":  # for which no inner product is needed
        weights[at] = np.repeat([1 / len(pairs), -1 / len(pairs)], len(pairs))
    else:
        weights[at] = weigh_texts(gram[np.ix_(at, at)], method, d_model)
    return weights
