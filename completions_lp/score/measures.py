"""TokenScores -> Measures: what the single tokens tell about each prompt, reduced before the tokens are let go.

One prompt at a time, all conditions at once. ``A`` is the target answer, ``B`` the one that it is compared with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from completions_lp import stats
from completions_lp.records import Measures, TokenScores
from completions_lp.score.sums import find_broken
from completions_lp.stats import Steps, Survival


def measure_completions(scores: TokenScores, *, target: str = "matching", seed: int | None = None) -> Measures:
    """Per prompt: P(A) with and without steering, from the unsteered samples alone, and what stands beside it.

    Where scores have the log probs that each token completes the answers, P(A) is the survival estimate (numbers.md
    §3.2); else (a label rule that single tokens do not decide) the self-normalised mean of weights through the answer.
    Either is clipped into what the visited texts prove (§3.4). ``target`` is a letter, or ``"matching"`` for each
    prompt's own answer.

    Divergences are in nats per completion (NaN where they were not read, or completions are not scored through their
    end). NaN also for a prompt that does not offer the target, and wherever completions that were not drawn by plain
    sampling at temperature 1 tell nothing: of them only the bounds hold. A prompt with a log prob that is no finite
    number, unsteered or under a condition, is NaN there, and ``n_broken`` counts its draws. With ``seed`` they are of
    what one of several seeds drew, by its number.
    """
    completions = scores.completions
    counts = completions.counts if seed is None else np.asarray(completions.seed_counts)[:, seed]
    shape = (len(scores.conditions), len(completions.prompts))
    unsteered = {name: np.full(shape[1], np.nan) for name in Measures.UNSTEERED}
    steered = {name: np.full(shape, np.nan) for name in Measures.STEERED}
    steered["n_steered"][:] = steered["n_broken"][:] = 0
    trust = np.full(shape, "", dtype="<U9")
    for i, prompt in enumerate(completions.prompts):
        rows = completions.rows_of(i)
        rows = rows[counts[rows] > 0]
        if not len(rows):
            continue
        texts = read_texts(scores, rows, prompt.pair(target), counts)
        found, found_steered = _measure_divergences(texts, ancestral=completions.sampling.is_ancestral)
        if prompt.offers(target):
            answers, answers_steered, trust[:, i] = _measure_answers(texts, completions.sampling.is_ancestral)
            found, found_steered = found | answers, found_steered | answers_steered
        found_steered["n_broken"] = texts.n_broken
        for name, value in found.items():
            unsteered[name][i] = value
        for name, values in found_steered.items():
            steered[name][:, i] = values
    return Measures(completions.prompts, scores.conditions, unsteered, steered, trust)


@dataclass(frozen=True, eq=False)
class Texts:
    """The completions of one prompt with their scores in float64; what is named ``window`` ends with it."""

    steps: Steps
    mask: Any
    """[completion token]: the tokens that are there, past the window too, scored or not."""
    whole: Mapping[str, np.ndarray]
    """``logprob`` [completion token], ``steered`` [condition completion token] and, where they were read, ``entropy``,
    ``kl`` and ``kl_reverse``."""
    window: Mapping[str, np.ndarray]
    """``logprob`` and ``steered``, and the log prob that a token completes ``A``, ``B``; steered, ``A_steered``,
    ``B_steered``: absent where no single token decides."""
    n_broken: Shaped[np.ndarray, " condition"]
    """Draws with a score that is no finite number. Under such a condition stand-ins take the scores' place, and what is
    computed from them is replaced by NaN (``hide``)."""
    is_whole: bool
    """Whether all unsteered scores are numbers."""

    def hide(self, found: dict[str, Any]) -> dict[str, Any]:
        """Numbers by condition, NaN where scores are broken."""
        broken = self.n_broken > 0
        if not broken.any():
            return found
        return {name: np.where(broken, np.nan, values) for name, values in found.items()}

    def hide_unsteered(self, found: dict[str, Any]) -> dict[str, Any]:
        """Numbers of the unsteered model, NaN where its scores are broken."""
        return found if self.is_whole else dict.fromkeys(found, np.nan)


def read_texts(
    scores: TokenScores,
    rows: Shaped[np.ndarray, " row"],
    pair: tuple[str, str],
    counts: Int[np.ndarray, " completion"] | None = None,
) -> Texts:
    """What the statistics need of some completions of one prompt; ``pair`` is the target and the other answer.

    ``counts`` are how often each completion counts, by default as often as it was drawn.
    """
    completions = scores.completions
    counts = completions.counts if counts is None else counts
    within = completions.window
    # Rows that lie side by side, as a rule all of a prompt's, are read where they are.
    at = slice(int(rows[0]), int(rows[-1]) + 1) if bool((np.diff(rows) == 1).all()) else rows
    label = completions.label[at]
    steps = stats.follow_steps(
        _widen(completions.token_ids[at], within, -1),
        lengths=completions.lengths[at],
        counts=counts[at],
        ended=completions.ended[at],
        answer_index=completions.answer_index[at],
        target=np.asarray(label == pair[0]),
        other=np.asarray(label == pair[1]),
        first_passage=completions.labelling.is_first_passage,
    )
    arrays = {"logprob": scores.baseline[at], "steered": scores.logprob[:, at]}
    read = scores if scores.through == "end" else None  # divergences are of whole completions, or they are missing
    if read and read.kl is not None and read.kl_reverse is not None and read.entropy is not None:
        arrays |= {"entropy": read.entropy[at], "kl": read.kl[:, at], "kl_reverse": read.kl_reverse[:, at]}
    answers: dict[str, np.ndarray] = {}
    if scores.answers is not None and scores.baseline_answers is not None:
        for side, name in enumerate("AB"):
            answers |= {name: scores.baseline_answers[at, :, side], f"{name}_steered": scores.answers[..., side][:, at]}
    whole, window = ({k: v.astype(np.float64, order="C") for k, v in part.items()} for part in (arrays, answers))
    mask, scored = completions.mask[at], scores.mask[at]
    broken = find_broken(whole["logprob"], whole["steered"], scored)
    n_broken = broken.astype(np.float64) @ counts[at]
    is_whole = not find_broken(whole["logprob"], whole["logprob"][None], scored).any()
    if broken.any():
        _replace_broken(whole | window, n_broken > 0, is_whole)
    window |= {name: whole[name] for name in ("logprob", "steered")}
    window = {name: _widen(values, within, np.nan) for name, values in window.items()}
    return Texts(steps, mask, whole, window, n_broken, is_whole)


def _replace_broken(arrays: Mapping[str, np.ndarray], broken: np.ndarray, is_whole: bool) -> None:
    """Numbers in place of scores that are none: as if nothing were steered, or as if every log prob were −1."""
    for name in () if is_whole else ("logprob", "entropy", "A", "B"):
        if name in arrays:
            arrays[name][:] = -1.0
    for name, other in (("steered", "logprob"), ("A_steered", "A"), ("B_steered", "B")):
        if name in arrays:
            arrays[name][broken] = arrays[other]
    for name in ("kl", "kl_reverse"):
        if name in arrays:
            arrays[name][broken] = 0.0


def _widen(values: np.ndarray, width: int, fill: int | float) -> np.ndarray:
    """The first ``width`` tokens, padded where there are fewer."""
    missing = width - values.shape[-1]
    if missing <= 0:
        return values[..., :width]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)], constant_values=fill)


def weigh_completions(
    texts: Texts, samplers: Float[np.ndarray, "sampler completion token"], draws: Float[np.ndarray, " sampler"]
) -> Float[np.ndarray, "condition completion *token"]:
    """Log weights of the tokens before each token (of whole texts where no single token decides) by condition.

    The counts of ``texts`` add the draws of all samplers; ``samplers`` is the log prob, in nats, of each token of the
    window under what was drawn from, ``draws`` how many completions each drew (InputError unless they add up to the
    counts).
    """
    weigh = stats.pool_log_weight if "A" in texts.window else stats.weigh_texts
    return weigh(texts.steps, texts.window["steered"], samplers, draws)


def estimate_steered(
    texts: Texts, log_weight: Float[np.ndarray, "condition completion *token"], *, before: Survival | None = None
) -> tuple[dict[str, Any], Shaped[np.ndarray, " condition"]]:
    """P(A), P(A first), P(B first): columns of ``Measures.STEERED``, each ``[condition]``, and the trust in them.

    ``log_weight`` is from ``weigh_completions``; ``before`` is the unsteered P(A), where it is from the same draws: the
    change's error is measured against it.
    """
    steps, window = texts.steps, texts.window
    found: dict[str, Any] = {}
    if "A" in window:
        survival = stats.estimate_survival(steps, log_weight, window["A_steered"])
        first = stats.estimate_incidence(steps, log_weight, window["A_steered"], window["B_steered"])
        found["first_A_steered"], found["first_B_steered"] = first
    else:
        survival = stats.estimate_share(steps, log_weight)
    low, high = bound_answer(texts, "steered")
    trust = stats.grade_trust(low, high, survival)
    matters = np.where(survival.surviving > stats.MIN_SURVIVING, 1.0, np.nan)
    found |= {
        "p_A_steered": np.clip(survival.probability, low, high),
        "p_A_steered_se": survival.se,
        "p_A_steered_low": low,
        "p_A_steered_high": high,
        "ess": np.fmin.reduce(survival.ess * matters, axis=-1),
        "mean_weight_low": np.fmin.reduce(survival.mean_weight * matters, axis=-1),
        "mean_weight_high": np.fmax.reduce(survival.mean_weight * matters, axis=-1),
    }
    if before is not None:
        found["p_A_change_se"] = stats.estimate_change_error(steps, before, survival)
    return texts.hide(found) | {"n_broken": texts.n_broken}, np.where(texts.n_broken > 0, "", trust)


def estimate_mediation(
    texts: Texts, samplers: Float[np.ndarray, "sampler completion token"], draws: Float[np.ndarray, " sampler"]
) -> dict[str, Any]:
    """P(A) with only the answer steered and with only the text before it; None where no single token decides."""
    window = texts.window
    if "A" not in window:
        return {}
    answer, reasoning = stats.estimate_hybrids(
        texts.steps, window["logprob"], window["steered"], window["A"], window["A_steered"], samplers, draws
    )
    return texts.hide({"p_A_answer_only": answer, "p_A_reasoning_only": reasoning})


def bound_answer(texts: Texts, name: str) -> tuple[np.ndarray, np.ndarray]:
    """What the visited texts prove of P(A): under each condition (``"steered"``), or unsteered (``"logprob"``)."""
    steps, window = texts.steps, texts.window
    logprob = window[name] if name == "steered" else window[name][None]
    if "A" not in window:
        return stats.bound_by_texts(steps, logprob)
    return stats.bound_probability(steps, logprob, window["A_steered"] if name == "steered" else window["A"][None])


def _measure_answers(texts: Texts, ancestral: bool) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Everything about the answer: unsteered, under each condition, and the trust in the latter."""
    steps, window = texts.steps, texts.window
    (low,), (high,) = bound_answer(texts, "logprob")
    unsteered: dict[str, Any] = {"p_A_low": low, "p_A_high": high}
    if not ancestral:
        low, high = bound_answer(texts, "steered")
        steered = texts.hide({"p_A_steered_low": low, "p_A_steered_high": high})
        return texts.hide_unsteered(unsteered), steered, np.where(texts.n_broken > 0, "", "red")
    none = np.zeros((1, *steps.open.shape))
    known = "A" in window
    survival = (
        stats.estimate_survival(steps, none, window["A"][None]) if known else stats.estimate_share(steps, none[..., 0])
    )
    drawn = window["logprob"][None], np.array([steps.draws])
    weight = weigh_completions(texts, *drawn)
    steered, trust = estimate_steered(texts, weight, before=survival)
    steered |= estimate_mediation(texts, *drawn)
    unsteered["p_A"] = np.clip(survival.probability[0], unsteered["p_A_low"], unsteered["p_A_high"])
    unsteered["p_A_se"] = survival.se[0]
    if known:
        first = stats.estimate_incidence(steps, none, window["A"][None], window["B"][None])
        unsteered["first_A"], unsteered["first_B"] = (values[0] for values in first)
        increase = stats.estimate_increase(steps, weight, window["A"], window["A_steered"])
        steered |= texts.hide({"increase_to_answer_A_rb": increase})
    return texts.hide_unsteered(unsteered), steered, trust


def _measure_divergences(texts: Texts, *, ancestral: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Length, and for plain samples the divergences and the sampler test."""
    counts, mask, whole = texts.steps.counts, texts.mask, texts.whole
    lengths = {"n_tokens": mask.sum(-1) @ counts / counts.sum()}
    if not ancestral or "kl" not in whole:
        return lengths, {}
    read = counts, mask, whole["logprob"], whole["entropy"]
    unsteered = {
        "excess_surprisal": stats.average_excess_surprisal(*read),
        "excess_surprisal_se": stats.estimate_excess_error(*read),
    }
    ratio = whole["steered"] - whole["logprob"]
    steered = {
        "kl": stats.estimate_kl(counts, mask, whole["kl"]),
        "kl_reverse": stats.estimate_reverse_kl(counts, mask, ratio, whole["kl_reverse"]),
    }
    return lengths | texts.hide_unsteered(unsteered), texts.hide(steered)
