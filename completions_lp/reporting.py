"""Scores -> Report: per-prompt means, their means over prompts, and intervals. numpy and scipy only.

Names of quantities are those of the run directory's tables; ``A`` stands for the target answer, whatever its letter.
Means over the completions of a prompt are weighted by count, since equal draws are legitimate draws. Means over prompts
are means of per-prompt means (``macro``). A prompt without the completions that a quantity is about is NaN there, is
left out of that mean, and is counted in ``n_dropped``.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from completions_lp.records import (
    BASELINE,
    Choices,
    Completions,
    Increases,
    InputError,
    Report,
    ReportRow,
    Scores,
)
from completions_lp.stats import average_by_group, mean_interval

HEADLINE = "increase_to_answer_A"
FEW_PROMPTS = 20
UNITS = {"mass": "probability", "mass_steered": "probability", "p_A": "probability"}
"""Unit by quantity; nats for all others."""


def summarize(
    scores: Scores | Increases, choices: Choices | None = None, *, target: str = "A", level: float = 0.95
) -> Report:
    """The average log-prob increase over the A-sequences, and what must be read beside it.

    Args:
        scores: Log probs of the completions, unsteered and steered; per token, or summed as they are stored.
        choices: The two-choice read-out of the same prompts and conditions, if it is to stand beside them.
        target: The answer: a letter, or ``"matching"`` for each prompt's own behaviour-matching one.
        level: Coverage of the intervals.

    Returns:
        A report whose rows are, per condition, in nats unless said: ``increase_to_answer_A`` (the headline: through the
        answer's token), ``increase_A`` (over the whole completion), ``increase_not_A``, ``increase_to_answer_not_A``,
        ``difference_A_not_A``, ``increase_all`` (an estimate of −KL, so at most 0 up to noise), ``before_answer_A``,
        ``at_answer_A``, ``after_answer_A`` (these three sum to ``increase_A``), and the two-choice ``logit_diff``,
        ``logit_diff_steered``, ``logit_diff_change``, ``mass``, ``mass_steered`` (probabilities).

    Raises:
        InputError: No prompt offers the target, or ``choices`` are of other prompts or conditions.
    """
    increases = sum_tokens(scores) if isinstance(scores, Scores) else scores
    completions = increases.completions
    columns = measure_prompts(increases, target=target)
    if choices is not None:
        columns |= _measure_choices(choices, increases, resolve_target(completions, target))
    clusters = np.unique([prompt.cluster for prompt in completions.prompts], return_inverse=True)[1]
    rows = []
    for c, condition in enumerate(increases.conditions):
        for quantity, values in columns.items():
            estimate = mean_interval(values[c], clusters, unit=UNITS.get(quantity, "nats"), level=level)
            rows.append(ReportRow(condition, quantity, "macro", estimate, int(np.isnan(values[c]).sum())))
    share = count_answers(completions, target=target)["p_A"]
    estimate = mean_interval(share, clusters, unit="probability", level=level)
    rows.append(ReportRow(BASELINE, "p_A", "macro", estimate, int(np.isnan(share).sum())))
    return Report(
        target=target,
        rows=tuple(rows),
        prompts=_tabulate(increases, columns, target),
        checks=check_increases(increases),
        warnings=tuple(_warn(completions, share, len(np.unique(clusters)))),
    )


def resolve_target(completions: Completions, target: str) -> tuple[str, ...]:
    """The target answer of every prompt; raises InputError if no prompt offers it."""
    prompts = completions.prompts
    if target == "matching":
        return tuple(prompt.matching for prompt in prompts)
    if not any(target in prompt.letters for prompt in prompts):
        offered = ", ".join(sorted({letter for prompt in prompts for letter in prompt.letters}))
        raise InputError(f"target {target!r} is an answer of no prompt; they offer {offered}, or 'matching'")
    return (target,) * len(prompts)


def is_offered(completions: Completions, target: str) -> Bool[np.ndarray, " prompt"]:
    """Which prompts offer the target answer."""
    wanted = resolve_target(completions, target)
    return np.array([letter in p.letters for letter, p in zip(wanted, completions.prompts, strict=True)], dtype=bool)


def is_target(completions: Completions, target: str) -> Bool[np.ndarray, " completion"]:
    """Which completions gave the target answer."""
    wanted = np.array(resolve_target(completions, target))
    return np.asarray(completions.label == wanted[completions.prompt_index])


def sum_tokens(scores: Scores) -> Increases:
    """Sum the scores over each completion's tokens, whole and before, at and after the answer. Sums are in float64."""
    completions = scores.completions
    token = np.arange(completions.token_ids.shape[1])
    answer = completions.answer_index[:, None]
    answered = answer >= 0
    last = np.where(answered, answer, completions.labelling.within - 1)
    delta = np.where(completions.mask, scores.increase, 0.0).astype(np.float64)

    def total(keep: Bool[np.ndarray, "completion token"]) -> Float[np.ndarray, "condition completion"]:
        return np.asarray(np.einsum("cst,st->cs", delta, keep.astype(np.float64)))

    undefined = np.where(answered[:, 0], 0.0, np.nan)
    return Increases(
        completions=completions,
        conditions=scores.conditions,
        baseline=np.where(completions.mask, scores.baseline, 0.0).sum(-1, dtype=np.float64),
        increase=delta.sum(-1),
        increase_to_answer=total(token <= last),
        before_answer=total(token < answer) + undefined,
        at_answer=total(token == answer) + undefined,
        after_answer=total((token > answer) & answered) + undefined,
    )


def measure_prompts(increases: Increases, *, target: str = "A") -> dict[str, Float[np.ndarray, "condition prompt"]]:
    """Per-prompt means of the increases, weighted by count.

    NaN where a prompt has no such completion, and everywhere for a prompt that does not offer the target.
    """
    completions = increases.completions
    hit = is_target(completions, target)
    offered = is_offered(completions, target)[completions.prompt_index]

    def average(
        values: Float[np.ndarray, "condition completion"], where: Bool[np.ndarray, " completion"]
    ) -> Float[np.ndarray, "condition prompt"]:
        size = len(completions.prompts)
        return average_by_group(values, completions.counts, completions.prompt_index, size, where=where & offered)

    columns = {
        HEADLINE: average(increases.increase_to_answer, hit),
        "increase_A": average(increases.increase, hit),
        "increase_to_answer_not_A": average(increases.increase_to_answer, ~hit),
        "increase_not_A": average(increases.increase, ~hit),
        "increase_all": average(increases.increase, np.ones_like(hit)),
        "before_answer_A": average(increases.before_answer, hit),
        "at_answer_A": average(increases.at_answer, hit),
        "after_answer_A": average(increases.after_answer, hit),
    }
    columns["difference_A_not_A"] = columns[HEADLINE] - columns["increase_to_answer_not_A"]
    return columns


def count_answers(completions: Completions, *, target: str = "A") -> dict[str, np.ndarray]:
    """Per prompt: draws ``n``, distinct ones ``n_unique``, those that gave the target ``n_A``, their share ``p_A``."""
    size = len(completions.prompts)
    hit = is_target(completions, target)
    index, counts = completions.prompt_index, completions.counts
    n = np.bincount(index, weights=counts, minlength=size)
    n_target = np.bincount(index[hit], weights=counts[hit], minlength=size)
    with np.errstate(invalid="ignore"):
        share = np.where(is_offered(completions, target), n_target / n, np.nan)
    return {
        "n": n.astype(np.int64),
        "n_unique": np.bincount(index, minlength=size),
        "n_A": n_target.astype(np.int64),
        "p_A": share,
    }


def check_increases(increases: Increases) -> dict[str, float]:
    """What must hold in every run, as numbers.

    ``noise_floor``: the largest |increase| of a completion under multiplier 0, in nats (NaN without such a condition).
    ``sampler_gap``: the largest difference, per completion, between the log prob when it was drawn and when it was
    scored. Both are rounding where the instrument works.
    """
    zero = [i for i, condition in enumerate(increases.conditions) if condition.multiplier == 0]
    completions = increases.completions
    gap = increases.baseline - np.where(completions.mask, completions.logprob, 0.0).sum(-1, dtype=np.float64)
    return {
        "noise_floor": float(np.abs(increases.increase[zero]).max(initial=0.0)) if zero else float("nan"),
        "sampler_gap": float(np.abs(gap).max(initial=0.0)),
    }


def _measure_choices(
    choices: Choices, increases: Increases, wanted: tuple[str, ...]
) -> dict[str, Float[np.ndarray, "condition prompt"]]:
    """Logit diff of the target against the other answer, and the mass on the two; NaN where it is not on offer."""
    same = [p.id for p in choices.prompts] == [p.id for p in increases.completions.prompts]
    if not same or choices.conditions != increases.conditions:
        raise InputError(
            "the two-choice read-out and the scores are of different prompts or conditions; make both anew"
        )
    sides = [(letter == pair[0]) - (letter == pair[1]) for pair, letter in zip(choices.letters, wanted, strict=True)]
    sign = np.where(np.array(sides) == 0, np.nan, sides)  # the target may be the second answer of the read-out
    hide = sign * 0
    before = np.broadcast_to((choices.baseline[:, 0] - choices.baseline[:, 1]) * sign, choices.logprob.shape[:2])
    after = (choices.logprob[..., 0] - choices.logprob[..., 1]) * sign
    mass = np.broadcast_to(np.exp(choices.baseline).sum(-1) + hide, before.shape)
    return {
        "logit_diff": before,
        "logit_diff_steered": after,
        "logit_diff_change": after - before,
        "mass": mass,
        "mass_steered": np.exp(choices.logprob).sum(-1) + hide,
    }


def _tabulate(
    increases: Increases, columns: Mapping[str, Float[np.ndarray, "condition prompt"]], target: str
) -> dict[str, np.ndarray]:
    """The per-prompt table in long form: one row per condition and prompt."""
    prompts, conditions = increases.completions.prompts, increases.conditions
    counts = count_answers(increases.completions, target=target)

    def by_prompt(values: Int[np.ndarray, " prompt"] | Float[np.ndarray, " prompt"] | list[str]) -> np.ndarray:
        return np.tile(np.asarray(values), len(conditions))

    return {
        "prompt_id": by_prompt([prompt.id for prompt in prompts]),
        "cluster": by_prompt([prompt.cluster for prompt in prompts]),
        **{
            name: np.repeat([getattr(condition, name) for condition in conditions], len(prompts))
            for name in ("vector", "kind", "layer", "multiplier")
        },
        **{name: by_prompt(values) for name, values in counts.items()},
        **{name: values.reshape(-1) for name, values in columns.items()},
        "positions": np.repeat([condition.positions for condition in conditions], len(prompts)),
    }


def _warn(completions: Completions, share: Float[np.ndarray, " prompt"], n_clusters: int) -> list[str]:
    """What the reader of the report must be told."""
    warnings = []
    empty = int((share == 0).sum())
    if empty:
        warnings.append(
            f"{empty} of {len(share)} prompts have no completion with the target answer; means over A leave them out"
        )
    if n_clusters < FEW_PROMPTS:
        warnings.append(f"few prompts: {n_clusters} independent units; intervals are wide and lean on normality")
    if not completions.sampling.is_ancestral:
        warnings.append(
            "completions were not drawn by plain sampling at temperature 1: increase_all is not −KL, and the average "
            "increase is not a bound on the change of P(A)"
        )
    return warnings
