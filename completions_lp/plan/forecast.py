"""A pilot's report -> how large a run must be, and what it will cost.

A mean over prompts varies since prompts differ, and since each one's value is known from samples only: more prompts
shrink both parts, more samples the second (numbers.md §4). ``costing`` tells what a larger run takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from completions_lp.plan.costs import Cost, Workload, forecast_costs
from completions_lp.plan.noise import measure_noise
from completions_lp.quantities import PRIMARY, find_quantity
from completions_lp.records import Condition, Estimate, InputError, Measures, Report, ReportRow, Through
from completions_lp.report.best import pick_best
from completions_lp.stats import FEW_CLUSTERS, MIN_CLUSTERS, measure_spread
from completions_lp.stats.intervals import Clusters

SAMPLES = (25, 50, 100, 200, 400)
"""Samples per prompt for which a plan says how many prompts are needed."""
LEAST_SAMPLES = 100
"""A plan's own answer has no fewer: with fewer samples P(A) under steering can hardly be trusted on any prompt
(``stats.bounds``; the table in analysis/README.md)."""
Limit = Literal["half width", "few prompts", "asked"]
"""What set a number of prompts: the wanted half width; the 20 clusters below which an interval leans on normality
(``stats.FEW_CLUSTERS``), though the half width would take fewer; or who asked for it."""


@dataclass(frozen=True)
class Pilot:
    """A mean over a pilot's prompts, and where its variance comes from."""

    quantity: str
    condition: Condition
    estimate: Estimate
    """What the pilot found; ``n`` counts the prompts on which the quantity is defined."""
    asked: int
    """Prompts of the pilot."""
    samples: int
    """Completions per prompt."""
    between: float
    """Variance between prompts, in the quantity's unit squared. Where prompts come in clusters it is what they
    contribute to the variance of the mean, times their number: larger than their spread where clusters hold alike."""
    within: float
    """Sampling variance of a prompt's value, times ``samples``: that of a single completion."""
    red: float = float("nan")
    """Share of the prompts on which P(A) under this condition is not to be trusted; NaN where nothing is graded, or
    the quantity does not rest on such an estimate."""

    @property
    def enough_samples(self) -> float:
        """Samples per prompt at which sampling noise equals the spread between prompts, σ_w²/σ_b².

        Past it, samples help less than prompts; infinite where prompts do not differ. Source: numbers.md §4.
        """
        return float("inf") if self.between == 0 else self.within / self.between

    @property
    def least_prompts(self) -> int:
        """Prompts with which the report does not call its clusters few, as many to a cluster as in the pilot."""
        return -(-FEW_CLUSTERS * self.asked // self.estimate.n_clusters)

    def predict_se(self, prompts: int, samples: int) -> float:
        """Standard error of the mean over ``prompts`` new prompts, as many to a cluster as in the pilot.

        √[(σ_b² + σ_w²/S) / N], where N counts the prompts on which the quantity is defined, as often as in the pilot.
        """
        known = prompts * self.estimate.n / self.asked
        return float(np.sqrt((self.between + self.within / samples) / known))

    def predict_half_width(self, prompts: int, samples: int) -> float:
        """Half the width of the t interval; infinite with fewer than 6 clusters, where there is none."""
        return self._quantile(prompts, 0.5 + self.estimate.level / 2) * self.predict_se(prompts, samples)

    def predict_detectable(self, prompts: int, samples: int, *, power: float = 0.8) -> float:
        """The smallest effect that a two-sided test finds with this power: (t_.975 + t_.8) se. numbers.md §4."""
        quantile = self._quantile(prompts, 0.5 + self.estimate.level / 2) + self._quantile(prompts, power)
        return quantile * self.predict_se(prompts, samples)

    def find_prompts(self, half_width: float, samples: int) -> int:
        """The fewest prompts whose interval has at most this half width."""
        high = 1
        while self.predict_half_width(high, samples) > half_width:
            high *= 2
        low = high // 2  # too few: the half width only falls as prompts are added
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.predict_half_width(middle, samples) <= half_width else (middle, high)
        return high

    def _quantile(self, prompts: int, p: float) -> float:
        """Student's t with one degree of freedom less than clusters."""
        clusters = prompts * self.estimate.n_clusters // self.asked
        return float(stdtrit(clusters - 1, p)) if clusters >= MIN_CLUSTERS else float("inf")


@dataclass(frozen=True)
class Need:
    """How many prompts reach the wanted interval with so many samples of each."""

    samples: int
    prompts: int
    """Enough for 20 clusters even where fewer would do."""
    detectable: float
    """The smallest effect that is found with 80 % power, in the quantity's unit."""
    costs: tuple[Cost, ...]
    """By stage."""


@dataclass(frozen=True)
class Plan:
    """What to run."""

    pilot: Pilot
    half_width: float
    """The wanted one, in the quantity's unit."""
    needs: tuple[Need, ...]
    """By samples per prompt."""
    chosen: Need
    """The run whose costs are told: of the size asked for, or the cheapest of ``needs``."""
    limit: Limit
    """What set its number of prompts."""
    conditions: int
    """Conditions that it scores, rivals left out."""
    through: Through = "end"
    """How far the pilot's completions are scored, and so those of the run."""
    shares: Mapping[Through, float] = field(default_factory=dict)
    """Tokens of the score stage through each of the ends, on the pilot's completions, as a share of scoring them
    whole."""
    rivals: int = 0
    """Rivals that it scores, as the pilot did."""


def plan_run(
    report: Report,
    measures: Measures | None = None,
    info: Mapping[str, Any] | None = None,
    *,
    quantity: str = PRIMARY,
    layers: Sequence[int] = (),
    multipliers: Sequence[float] = (),
    half_width: float | None = None,
    prompts: int | None = None,
    samples: int | None = None,
    conditions: int | None = None,
) -> Plan:
    """How many prompts, and how many samples of each, bring the interval of a quantity to a wanted half width.

    Args:
        report: Of the pilot: a few samples of some prompts suffice.
        measures: Of the pilot; by default those of the report.
        info: The pilot's ``run.json``, for the costs; by default that of the report.
        quantity: The quantity, macro: a change of P(A), an increase, or one of the two-choice read-out.
        layers: Consider the target vector's cells of these layers only.
        multipliers: Consider those with these multipliers only. Of the cells that are left the one with the largest
            mean counts, or with the smallest where all multipliers are negative.
        half_width: Wanted, in the quantity's unit; by default half of what the pilot has.
        prompts: Prompts of the run whose costs are to be told; by default as many as are needed, and never fewer than
            make 20 clusters.
        samples: Samples per prompt of that run; by default what takes the fewest network tokens, 100 or more.
        conditions: Conditions that it scores, beside the pilot's rivals; by default the pilot's.

    Returns:
        The plan. It holds as far as the further prompts are like the pilot's, as many to a cluster; where clusters
        cannot become more, more prompts help less than it says. The variance between prompts is what is left of the
        pilot's after its sampling noise. With 12 prompts it comes out below half or above 1.6 times the truth one
        time in five, and the prompts needed go with it.

    Raises:
        InputError: There is no such quantity or cell, its noise is not known, or the pilot has fewer than 6 clusters;
            or the quantity is over whole completions, and the pilot has not scored them.
    """
    measures, info = measures or report.measures, report.info if info is None else info
    if measures is None or report.increases is None:
        raise InputError("this report has no completions behind it; load it from its run directory")
    best = pick_best(report, quantity, layers=layers, multipliers=multipliers)
    (row,) = [row for row in report.table(quantity) if row.condition == best.condition]
    pilot = measure_pilot(report, measures, row)
    estimate, increases = pilot.estimate, report.increases
    if estimate.low is None or estimate.high is None:
        raise InputError(
            f"{quantity} is the same on all prompts of the pilot: there is no spread to plan with; take more prompts"
        )
    wanted = (estimate.high - estimate.low) / 4 if half_width is None else half_width
    if not 0 < wanted < np.inf:
        raise InputError(f"the half width is {wanted:g} {estimate.unit}; it must be above 0")
    for name, given in (("prompts", prompts), ("samples", samples), ("conditions", conditions)):
        if given is not None and given < 1:
            raise InputError(f"{name} is {given}; at least 1 is needed")
    workload = Workload.of(increases.completions, increases.conditions, report.through)

    def size_up(samples: int, prompts: int | None = None) -> Need:
        n = max(pilot.find_prompts(wanted, samples), pilot.least_prompts) if prompts is None else prompts
        costs = forecast_costs(info, workload, prompts=n, samples=samples, conditions=conditions)
        return Need(samples, n, pilot.predict_detectable(n, samples), costs)

    needs = tuple(size_up(s) for s in sorted({*SAMPLES, *([] if samples is None else [samples])}))
    asked = [need for need in needs if (need.samples >= LEAST_SAMPLES if samples is None else need.samples == samples)]
    chosen = min(asked, key=lambda need: sum_tokens(need.costs))
    enough = pilot.find_prompts(wanted, chosen.samples) == chosen.prompts
    limit: Limit = "half width" if enough else "few prompts"
    if prompts is not None:
        chosen, limit = size_up(chosen.samples, prompts), "asked"
    shares = workload.share_scored()
    scored = conditions or workload.conditions
    return Plan(pilot, wanted, needs, chosen, limit, scored, report.through, shares, workload.rivals)


def sum_tokens(costs: Sequence[Cost]) -> float:
    """Tokens that go through the network in all stages."""
    return sum(cost.tokens for cost in costs if np.isfinite(cost.tokens))


def measure_pilot(report: Report, measures: Measures, row: ReportRow) -> Pilot:
    """Split the variance of a row's mean over prompts into its two parts.

    Raises:
        InputError: The pilot has fewer than 6 clusters, or does not tell the noise of the quantity on a prompt.
    """
    values, errors = measure_noise(report, measures, row.quantity, row.condition)
    assert report.increases is not None  # noqa: S101  else there were no errors
    completions = report.increases.completions
    clusters = np.unique([prompt.cluster for prompt in completions.prompts], return_inverse=True)[1]
    if row.estimate.n_clusters < MIN_CLUSTERS:
        raise InputError(
            f"a pilot of {row.estimate.n_clusters} clusters of prompts is too small to plan with: at least "
            f"{MIN_CLUSTERS} are needed to tell how much prompts differ; run it with more"
        )
    samples = completions.sampling.draws
    between, within = split_variance(values, errors, clusters, samples=samples)
    if not np.isfinite(within):
        raise InputError(
            f"the pilot does not tell the noise of {row.quantity!r} on a prompt: that takes at least 2 samples of a "
            f"prompt, and it has {samples}; run it with more"
        )
    size = len(completions.prompts)
    red = _find_red(report, row)
    return Pilot(row.quantity, row.condition, row.estimate, size, samples, between, within, red)


def _find_red(report: Report, row: ReportRow) -> float:
    if find_quantity(row.quantity).noise != "probability":
        return float("nan")
    found = [r.estimate.value for r in report.table("share_red") if r.condition == row.condition]
    return found[0] if found else float("nan")


def split_variance(
    values: Float[np.ndarray, " prompt"], errors: Float[np.ndarray, " prompt"], clusters: Clusters, *, samples: int
) -> tuple[float, float]:
    """Variance between prompts, and sampling variance of one completion, from prompt-level values.

    N·SE² of the mean estimates σ_b² + σ_w²/S, with SE over clusters; the mean of the prompts' own squared standard
    errors estimates σ_w²/S. What is left is σ_b², or 0 where nothing is. A prompt without an error is left out of σ_w²
    alone; NaN where no error is known, or fewer than two clusters are. Source: numbers.md §4.
    """
    _, se, n, _ = measure_spread(values, clusters)
    known = errors[np.isfinite(values) & np.isfinite(errors)]
    noise = float((known**2).mean()) if len(known) else float("nan")
    return float(np.maximum(n * se**2 - noise, 0.0)), noise * samples
