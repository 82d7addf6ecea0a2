"""The two-choice read-out -> its numbers on each prompt: logit diffs, odds, the mass on the choices, the greedy choice.

With P(c) the probability that choice c is said at the first answer position, in any of its spellings, and M = Σ P(c)
over all choices: PrefOdds = log P(target) / (M − P(target)), UtilOdds = log M / (1 − M) (arXiv 2602.02343, of two
answers), in nats. NaN where the target is not on offer, or a choice was not read.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from completions_lp.records import Choices

Steered = Float[np.ndarray, "condition prompt"]


def measure_choices(choices: Choices, target: str) -> dict[str, Steered]:
    """Every quantity of the read-out, steered and unsteered, by condition and prompt."""
    shape = choices.logprob.shape[:2]
    wanted = [prompt.pair(target)[0] if prompt.offers(target) else None for prompt in choices.prompts]
    columns = _compare_two(choices, wanted)
    before, after = _read_all(choices)
    at = _find_place(choices, wanted), _find_place(choices, [prompt.matching for prompt in choices.prompts])
    found = [_weigh_choices(values, *at) for values in (before[None], after)]
    for name, values in found[1].items():
        unsteered = np.broadcast_to(found[0][name], shape)
        columns |= {name: unsteered, f"{name}_steered": values}
        if change := CHANGES.get(name):
            with np.errstate(invalid="ignore"):
                columns[change] = (100 if name in ("p_choice", "greedy") else 1) * (values - unsteered)
    return columns


CHANGES = {
    **{"pref_odds": "pref_odds_change", "util_odds": "util_odds_change", "p_choice": "delta_p_choice"},
    "greedy": "greedy_change",
}
"""Quantities whose change by steering is one of its own."""


def take_log_odds(logprob: Float[np.ndarray, "*place"]) -> Float[np.ndarray, "*place"]:
    """Log p / (1 − p) from log p; NaN where p is 0, or so near to 1 that nothing else is left."""
    with np.errstate(invalid="ignore", divide="ignore"):
        odds = logprob - np.log(-np.expm1(logprob))
    return np.asarray(np.where(np.isfinite(odds), odds, np.nan))


def _compare_two(choices: Choices, wanted: Sequence[str | None]) -> dict[str, Steered]:
    """Logit diffs of the target against the other answer: by the token that tells them apart, and of all tokens."""
    sides = [(letter == pair[0]) - (letter == pair[1]) for pair, letter in zip(choices.letters, wanted, strict=True)]
    sign = np.where(np.array(sides) == 0, np.nan, sides)  # the target may be the second answer of the read-out
    arrays = {"logit_diff": (choices.baseline, choices.logprob)}
    if choices.whole is not None and choices.baseline_whole is not None:
        arrays["logit_diff_whole"] = (choices.baseline_whole, choices.whole)
    columns: dict[str, Steered] = {}
    for name, (unsteered, steered) in arrays.items():
        with np.errstate(invalid="ignore"):
            before = np.broadcast_to((unsteered[:, 0] - unsteered[:, 1]) * sign, steered.shape[:2])
            after = (steered[..., 0] - steered[..., 1]) * sign
            columns |= {name: before, f"{name}_steered": after, f"{name}_change": after - before}
    return columns


def _list_offered(choices: Choices) -> Sequence[tuple[str, ...]]:
    """By prompt, the choices that were read, in their order."""
    return choices.letters if choices.offered is None else choices.offered


def _find_place(choices: Choices, letters: Sequence[str | None]) -> Int[np.ndarray, " prompt"]:
    """The place of a letter among each prompt's choices; -1 where it is none of them."""
    pairs = zip(_list_offered(choices), letters, strict=True)
    return np.array([offered.index(x) if x in offered else -1 for offered, x in pairs], dtype=np.int64)


def _read_all(
    choices: Choices,
) -> tuple[Float[np.ndarray, "prompt choice"], Float[np.ndarray, "condition prompt choice"]]:
    """Log probs of all choices: -inf past a prompt's last, which adds nothing, and NaN where one was not read.

    In tables of earlier versions all choices were read on a prompt with two.
    """
    if choices.baseline_all is None or choices.logprob_all is None:
        hide = np.array([0.0 if len(p.letters) == 2 else np.nan for p in choices.prompts])[:, None]
        return choices.baseline + hide, choices.logprob + hide
    past = np.arange(choices.baseline_all.shape[1]) >= np.array([[len(o)] for o in _list_offered(choices)])
    return np.where(past, -np.inf, choices.baseline_all), np.where(past, -np.inf, choices.logprob_all)


def _weigh_choices(
    logprob: Float[np.ndarray, "condition prompt choice"],
    target: Int[np.ndarray, " prompt"],
    matching: Int[np.ndarray, " prompt"],
) -> dict[str, Steered]:
    """What the log probs of all choices say of the target, of their mass, and of the choice that is said most."""
    choice = np.arange(logprob.shape[-1])
    hide = np.where(target < 0, np.nan, 0.0)
    is_target = choice == target[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        mass = logsumexp(logprob, axis=-1) + hide
        own = np.where(is_target, logprob, -np.inf).max(-1)
        rest = logsumexp(np.where(is_target, -np.inf, logprob), axis=-1)
        odds = own - rest + hide
        most = logprob == logprob.max(-1, keepdims=True)  # NaN, which is the largest of any, is nothing's equal
        greedy = (most & (choice == matching[:, None])).sum(-1) / most.sum(-1)
        share = np.exp(own - mass)
    return {
        "p_choice": share,
        "pref_odds": np.where(np.isfinite(odds), odds, np.nan),
        "util_odds": take_log_odds(mass),
        "mass": np.exp(mass),
        "greedy": np.where(matching < 0, np.nan, greedy),
    }
