"""Differences of pairs -> how well their mean, the vector, is known."""

import numpy as np
from jaxtyping import Float

from completions_lp.records import VectorQuality

SPLITS = 100
"""Random halvings of the pairs behind the split-half cosine."""


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
