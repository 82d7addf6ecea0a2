"""What of an effect follows the behaviour and what the letter, of questions that were asked in both orders.

Letters stay in their places while their texts are exchanged, so what makes a letter likelier whatever it says is met
twice: once as the matching answer, once as the other. Source: numbers.md §2i.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int

from completions_lp.quantities import CHOSEN, HEADLINE, PRIMARY, name_unit
from completions_lp.records import Increases, Prompt, Swap, pair_twins
from completions_lp.report.choices import Steered
from completions_lp.report.prompts import Columns
from completions_lp.stats import average_by_group, mean_intervals

Part = Literal["behaviour", "letter", "common"]
Signs = Int[np.ndarray, " prompt"]


def split_effects(columns: Columns, increases: Increases, *, target: str, level: float = 0.95) -> tuple[Swap, ...]:
    """The parts of the effects that follow the behaviour, follow the letter, and are common to both answers.

    Of the change of P(A), the increase to the answer and the change of the two-choice logit diff, by condition, as
    means over the pairs of a question and its twin. Nothing where no question was asked in both orders. A pair on which
    one of the two effects is undefined, in either order, is left out.
    """
    prompts = increases.completions.prompts
    pairs = [pair for pair in pair_twins(prompts) if all(_compares(prompts[i], target) for i in pair)]
    steered = [i for i, condition in enumerate(columns.conditions) if not condition.is_neutral]
    if not pairs or not steered:
        return ()
    at = np.array(pairs)
    behaviour, letter = _find_signs(prompts, target)
    found: list[Swap] = []
    for quantity, (own, other) in _list_effects(columns, increases, target).items():
        parts: dict[Part, Steered] = {"behaviour": behaviour * (own - other) / 2, "letter": letter * (own - other) / 2}
        if quantity != CHOSEN:
            parts["common"] = (own + other) / 2
        for part, values in parts.items():
            by_pair = values[steered][:, at].mean(-1)
            unit, clusters = name_unit(quantity), columns.clusters[at[:, 0]]
            estimates = mean_intervals(by_pair, clusters, unit=unit, level=level)
            found += [
                Swap(columns.conditions[i], quantity, part, e, len(at) - e.n)
                for i, e in zip(steered, estimates, strict=True)
            ]
    places = {condition: i for i, condition in enumerate(columns.conditions)}
    return tuple(sorted(found, key=lambda swap: places[swap.condition]))


def _list_effects(columns: Columns, increases: Increases, target: str) -> Mapping[str, tuple[Steered, Steered]]:
    """By quantity, the effect on the target answer and on the one that it is compared with, by condition and prompt."""
    steered, before = columns.steered, columns.unsteered
    effects = {}
    if PRIMARY in steered:
        first, second = (100 * (steered[f"first_{x}_steered"] - before[f"first_{x}"]) for x in "AB")
        if np.isnan(first).all():  # single tokens do not decide, or nothing is known
            known = np.where(np.isfinite(steered[PRIMARY]), 1.0, np.nan)
            first, second = (known * _weigh_draws(increases, target, side) for side in (0, 1))
        effects[PRIMARY] = first, second
    if HEADLINE in steered:
        effects[HEADLINE] = steered[HEADLINE], _average_other(columns, increases, target)
    if CHOSEN in steered:
        effects[CHOSEN] = steered[CHOSEN], -steered[CHOSEN]
    return effects


def _weigh_draws(increases: Increases, target: str, side: int) -> Steered:
    """Change of the share of draws with an answer, in pp: Σ c w 1 / Σ c w − Σ c 1 / Σ c with weights w = e^increase.

    As ``stats.estimate_share``, from the unsteered draws alone.
    """
    completions = increases.completions
    change = np.full((len(increases.conditions), len(completions.prompts)), np.nan)
    for i, prompt in enumerate(completions.prompts):
        rows = completions.rows_of(i)
        if len(rows):
            hit, counts = completions.label[rows] == prompt.pair(target)[side], completions.counts[rows]
            log_weight = increases.increase_to_answer[:, rows]
            weight = counts * np.exp(log_weight - log_weight.max(-1, keepdims=True))
            change[:, i] = 100 * (weight @ hit / weight.sum(-1) - counts @ hit / counts.sum())
    return change


def _average_other(columns: Columns, increases: Increases, target: str) -> Steered:
    """The mean increase to the answer of the completions that gave the other one; NaN in a cell that is left out."""
    completions = increases.completions
    others = np.array([prompt.pair(target)[1] for prompt in completions.prompts], dtype=object)
    index = completions.prompt_index
    hit = np.asarray(completions.label == others[index], dtype=bool)
    values = average_by_group(
        increases.increase_to_answer, completions.counts, index, len(completions.prompts), where=hit
    )
    lost = (columns.count_lost(HEADLINE) > 0) | np.isinf(values).any(-1)
    return np.where(lost[:, None], np.nan, values)


def _compares(prompt: Prompt, target: str) -> bool:
    """Whether the target is one of the two answers that a twin has exchanged."""
    return target in ("matching", prompt.matching, prompt.not_matching)


def _find_signs(prompts: Sequence[Prompt], target: str) -> tuple[Signs, Signs]:
    """By prompt: 1 where the target matches the behaviour, and 1 where it is the first of the two letters; else -1."""
    chosen = [prompt.pair(target) for prompt in prompts]
    behaviour = [1 if own == prompt.matching else -1 for prompt, (own, _) in zip(prompts, chosen, strict=True)]
    letter = [1 if (len(own), own) < (len(other), other) else -1 for own, other in chosen]
    return np.array(behaviour), np.array(letter)
