"""Draws of the steered model itself beside what the unsteered draws say of it (numbers.md P11)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import betaincinv

from completions_lp.records import Completions, Condition, Estimate, InputError, Measures
from completions_lp.report import count_answers
from completions_lp.stats import MIN_CLUSTERS, mean_intervals

LARGEST_BIAS = 0.03
"""A mean difference of P(A) past this, and significant, asks for draws of the steered model (numbers.md P11)."""
Verdict = Literal["agrees", "biased", "cannot tell", "too few prompts"]
"""What direct draws say of an estimate: it is off by .03 at the most; it is off by more; the interval of the difference
is too wide for either; there is no interval, for want of 6 clusters."""


@dataclass(frozen=True, eq=False)
class Validation:
    """P(A) under a few conditions as estimated, and the share of direct draws that gave A."""

    measures: Measures
    """What was estimated, of these conditions."""
    draws: Int[np.ndarray, "condition prompt"]
    """Of the steered model itself."""
    hits: Int[np.ndarray, "condition prompt"]
    """Those that gave the target."""

    @property
    def share(self) -> Float[np.ndarray, "condition prompt"]:
        """Of the direct draws; NaN where the prompt does not offer the target."""
        return np.where(self.measures.trust == "", np.nan, self.hits / self.draws)

    @property
    def limits(self) -> tuple[Float[np.ndarray, "condition prompt"], Float[np.ndarray, "condition prompt"]]:
        """95 % interval of the share, by Clopper and Pearson."""
        n, hits, hide = self.draws, self.hits, self.share * 0
        low = betaincinv(np.maximum(hits, 1), n - hits + 1, 0.025)
        high = betaincinv(hits + 1, np.maximum(n - hits, 1), 0.975)
        return np.where(hits == 0, 0.0, low) + hide, np.where(hits == n, 1.0, high) + hide

    @property
    def differences(self) -> tuple[Estimate, ...]:
        """By condition: the mean over prompts of the share less ``p_A_steered``, with its t interval over clusters."""
        clusters = np.unique([prompt.cluster for prompt in self.measures.prompts], return_inverse=True)[1]
        return mean_intervals(self.share - self.measures.steered["p_A_steered"], clusters, unit="probability")

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """By condition, see ``judge_difference``."""
        return tuple(judge_difference(e) for e in self.differences)


def judge_difference(e: Estimate) -> Verdict:
    """What follows from a mean difference between direct draws and an estimate of P(A).

    It agrees only where the whole interval lies within ±.03: an interval that merely holds 0 may be too wide to show a
    bias. It is biased where the mean is past .03 and the interval excludes 0 (numbers.md P11).
    """
    if e.n_clusters < MIN_CLUSTERS:
        return "too few prompts"
    if e.low is None or e.high is None:
        return "cannot tell"
    if e.low >= -LARGEST_BIAS and e.high <= LARGEST_BIAS:
        return "agrees"
    return "biased" if abs(e.value) > LARGEST_BIAS and (e.low > 0 or e.high < 0) else "cannot tell"


def check_estimates(measures: Measures, drawn: Mapping[Condition, Completions], *, target: str) -> Validation:
    """Count the target among draws of the steered model itself, beside what was estimated (numbers.md P11).

    ``drawn`` has completions of the measures' prompts by condition, each among theirs; the target is the measures' own.
    """
    chosen = [measures.conditions.index(c) for c in drawn]
    counted = [count_answers(completions, target=target) for completions in drawn.values()]
    part = replace(
        measures,
        conditions=tuple(drawn),
        steered={name: values[chosen] for name, values in measures.steered.items()},
        trust=measures.trust[chosen],
    )
    return Validation(part, *(np.stack([counts[name] for counts in counted]) for name in ("n", "n_A")))


def pick_cells(
    measures: Measures, *, layers: Sequence[int] = (), multipliers: Sequence[float] = ()
) -> tuple[Condition, ...]:
    """The target vector's cells of some layers with some multipliers; of all where none is named.

    Raises:
        InputError: There is none.
    """
    cells = [c for c in measures.conditions if c.kind == "target"]
    chosen = [c for c in cells if not layers or c.layer in layers]
    chosen = [c for c in chosen if not multipliers or c.multiplier in multipliers]
    if not chosen:
        known = ", ".join(f"{c.site}:{c.multiplier:+g}" for c in cells)
        raise InputError(f"the run has no such cell of the target vector; its cells (layer:multiplier): {known}")
    return tuple(chosen)


def choose_cells(measures: Measures, *, best: Condition) -> tuple[Condition, ...]:
    """The cells worth a check: the one to be reported, the one trusted least, and the best one's opposite.

    The second has the most red prompts among the target vector's cells (among equals, the fewest effective draws).
    Without an opposite multiplier the third is the next one trusted least.
    """
    cells = [c for c in measures.conditions if c.kind == "target" and not c.is_neutral and c != best]

    def doubt(c: Condition) -> tuple[float, float]:
        place = measures.conditions.index(c)
        return float((measures.trust[place] == "red").sum()), -float(np.nansum(measures.steered["ess"][place]))

    others = sorted(cells, key=doubt, reverse=True)
    opposite = [c for c in others if c.asked == -best.asked and c.without_dose == best.without_dose]
    return tuple(dict.fromkeys([best, *others[:1], *opposite, *others[1:2]]))[:3]
