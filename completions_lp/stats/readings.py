"""The mean of what is read out after texts, with the texts of one model and the reader another: four cells.

Texts are draws of the unsteered model p; those of the steered model q are these, weighted by q(text)/p(text). The
reader is either. Source: numbers.md §3.6.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from completions_lp.stats.bounds import CERTIFIED_WIDTH, MEAN_WEIGHT, MIN_ESS
from completions_lp.stats.steps import ByCondition, ByText, Counts

Texts = Float[np.ndarray, " completion"]


@dataclass(frozen=True, eq=False)
class Cells:
    """Means of a probability that is read after texts, by whose texts and whose reading."""

    unsteered: float
    """Texts of p, read by p."""
    answer_only: ByCondition
    """Texts of p, read by q."""
    reasoning_only: ByCondition
    """Texts of q, read by p."""
    steered: ByCondition
    """Texts of q, read by q."""
    unsteered_se: float
    """Standard errors of these four from the draws, by the delta method; NaN for a single draw."""
    answer_only_se: ByCondition
    reasoning_only_se: ByCondition
    steered_se: ByCondition
    ess: ByCondition
    """Effective draws behind the texts of q, (Σcw)²/Σcw²."""
    mean_weight: ByCondition
    """Σcw/Σc, 1 in expectation."""
    trust: np.ndarray
    """[condition]: how far the two cells with texts of q can be trusted: certified, green or red."""


def average_readings(
    counts: Counts,
    log_weight: ByText,
    logprob: Texts,
    steered: ByText,
    *,
    reach: ByText,
    distinct: Bool[np.ndarray, " completion"],
) -> Cells:
    """The four cells of one prompt, from its distinct draws.

    Σ c w g / Σ c w, with w = 1 for texts of p; clipped into what the visited texts prove of it: between
    Σ q(u) g(u) over the distinct texts u, and that plus the probability 1 − Σ q(u) of all others.

    Args:
        counts: Draws of each completion.
        log_weight: log q − log p of what settles each text, in nats.
        logprob: Log prob that the reading gives the answer, unsteered.
        steered: The same under each condition.
        reach: log q of what settles each text.
        distinct: Whether no earlier row has the same text.
    """
    p, q, c = np.exp(logprob)[None], np.exp(steered), np.asarray(counts, dtype=np.float64)
    top = log_weight.max(-1, keepdims=True)
    weight = np.exp(log_weight - np.where(np.isfinite(top), top, 0.0))
    visited = np.where(distinct, np.exp(reach), 0.0)
    missed = np.clip(1 - visited.sum(-1), 0.0, 1.0)
    (unsteered,), (unsteered_se,) = _average(p, np.ones_like(p), c)
    answer_only, answer_only_se = _average(q, np.ones_like(q), c)
    reasoning_only, reasoning_only_se = _average(np.broadcast_to(p, q.shape), weight, c)
    both, both_se = _average(q, weight, c)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ess = (weight @ c) ** 2 / (weight**2 @ c)
        mean_weight = np.exp(top[:, 0]) * (weight @ c) / c.sum()
    green = (ess >= MIN_ESS) & (mean_weight >= MEAN_WEIGHT[0]) & (mean_weight <= MEAN_WEIGHT[1])
    return Cells(
        unsteered=float(unsteered),
        answer_only=answer_only,
        reasoning_only=_clip(reasoning_only, (visited * p).sum(-1), missed),
        steered=_clip(both, (visited * q).sum(-1), missed),
        unsteered_se=float(unsteered_se),
        answer_only_se=answer_only_se,
        reasoning_only_se=reasoning_only_se,
        steered_se=both_se,
        ess=ess,
        mean_weight=mean_weight,
        trust=np.where(missed <= CERTIFIED_WIDTH, "certified", np.where(green, "green", "red")),
    )


def split_readings(cells: Cells) -> tuple[ByCondition, ByCondition]:
    """The change of the mean reading as the sum of an answer's part and a reasoning's (Shapley values).

    Answer: ½[(answer only − unsteered) + (steered − reasoning only)]; reasoning: the rest.
    """
    answer = (cells.answer_only - cells.unsteered + cells.steered - cells.reasoning_only) / 2
    return answer, cells.steered - cells.unsteered - answer


def _average(values: ByText, weight: ByText, counts: Texts) -> tuple[ByCondition, ByCondition]:
    """Mean of values over weighted draws, and its standard error."""
    draws = counts.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weight @ counts
        mean = (weight * values) @ counts / total
        square = (weight**2 * (values - mean[:, None]) ** 2) @ counts
        se = np.sqrt(square * draws / (draws - 1)) / total if draws > 1 else np.full(len(mean), np.nan)
    return mean, se


def _clip(mean: ByCondition, low: ByCondition, missed: ByCondition) -> ByCondition:
    low = np.clip(low, 0.0, 1.0)
    return np.asarray(np.clip(mean, low, np.minimum(low + missed, 1.0)))
