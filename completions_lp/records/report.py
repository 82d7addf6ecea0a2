"""What follows: estimates with their uncertainty."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from completions_lp.records.base import InputError, Kind, Operation, Positions, Through
from completions_lp.records.choices import Choices
from completions_lp.records.doses import Dose
from completions_lp.records.measures import Measures
from completions_lp.records.readings import Readings
from completions_lp.records.scores import Increases, TokenIncreases
from completions_lp.records.steering import Condition, VectorQuality

NAN = float("nan")


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty. ``low`` and ``high`` are both ``None`` where no interval exists."""

    value: float
    low: float | None
    high: float | None
    level: float
    unit: str
    n: int
    """Prompts behind the number."""
    n_clusters: int
    method: str
    se: float = NAN
    """Standard error over clusters, in the same unit."""
    df: float = NAN
    """Degrees of freedom of the interval."""


@dataclass(frozen=True)
class Inference:
    """Further intervals and p-values of one number; NaN where they were not asked for, or do not exist."""

    fixed_se: float = NAN
    """Standard error for just these prompts: sampling noise alone."""
    boot_low: float = NAN
    boot_high: float = NAN
    """Bootstrap-t interval."""
    band_low: float = NAN
    band_high: float = NAN
    """Simultaneous (max-T) band over the cells of the sweep."""
    p_t: float = NAN
    """Two-sided, Student's t over clusters, of this cell alone."""
    p_signflip: float = NAN
    """Two-sided, signs of clusters flipped, of this cell alone."""
    p_holm: float = NAN
    """``p_t`` after Holm, over the cells of the sweep."""
    p_bh: float = NAN
    """``p_t`` after Benjamini and Hochberg, over the cells of the sweep."""
    p_max_t: float = NAN
    """Adjusted for all cells of the sweep by max-T."""
    p_rank: float = NAN
    """One-sided rank among the random directions, towards the effect that the multiplier's sign promises."""
    p_predictive: float = NAN
    """One-sided predictive t against the random directions."""
    random_low: float = NAN
    random_high: float = NAN
    """Between them lie the central 95 % of the random directions."""
    random_mean: float = NAN
    random_sd: float = NAN
    p_rank_shuffled: float = NAN
    """As ``p_rank``, among the vectors from shuffled labels."""
    rounding: float = NAN
    """How far rounding may move the number: the larger end, without sign, of its interval in the mean of a
    small direction's two signs."""
    selection_frequency: float = NAN
    """How often this cell is the best of the sweep when clusters are resampled."""
    seed_sd: float = NAN
    """Standard deviation between seeds, each over all prompts; NaN with one seed."""
    n_seeds: float = NAN
    """Seeds behind it: those by which the number is defined."""


@dataclass(frozen=True)
class ReportRow:
    """One number of the paper."""

    condition: Condition
    quantity: str
    weighting: str
    """``macro``: mean over prompts; ``micro``: pooled over completions; ``marginal``: change of a mean over prompts."""
    estimate: Estimate
    n_dropped: int
    """Prompts for which the quantity is undefined."""
    inference: Inference = Inference()
    split: Literal["all", "report"] = "all"
    """``report``: the sweep's best cell, chosen on one half of the clusters and estimated here on the other half."""


@dataclass(frozen=True)
class Best:
    """The cell of the sweep that a report is about, and how it was chosen."""

    condition: Condition
    quantity: str
    """By which it is the best: the change of P(A), or the headline where P(A) is not known."""
    held_out: bool
    """Whether one half of the clusters chose it and the rows with ``split="report"`` tell it on the other half; else
    all of them chose it, and what is told of it is the largest of many."""
    n_cells: int
    """Cells among which it was chosen."""
    frequency: float = NAN
    """How often it is the best when clusters are resampled."""


@dataclass(frozen=True)
class ProfileRow:
    """Mean increase of the tokens at one place relative to the answer's token, over the completions with the answer."""

    condition: Condition
    offset: int
    """0 is the answer's token, -1 the one before it."""
    estimate: Estimate
    """In nats, macro over the prompts that have such a token."""
    n_completions: int
    """Draws that have a token there."""


@dataclass(frozen=True)
class Slope:
    """Dose and response at one layer: least squares per prompt over the multipliers, then over prompts."""

    vector: str
    kind: Kind
    layer: int
    positions: Positions
    quantity: str
    """What responds; the slope is in its unit per unit of multiplier."""
    estimate: Estimate
    below_zero: float
    """Share of the prompts that the vector truly steers the wrong way, sampling noise shrunken away."""
    multipliers: tuple[float, ...]
    operation: Operation = "add"
    layers: str = ""
    """All that are steered at once, as ``Condition.columns`` has them."""


@dataclass(frozen=True)
class Swap:
    """A part of an effect, over the questions that were asked in both orders: the mean over pairs of such."""

    condition: Condition
    quantity: str
    part: Literal["behaviour", "letter", "common"]
    """What goes with the matching answer whatever its letter, with the first of the two letters whatever it says, or
    with both answers alike."""
    estimate: Estimate
    """Its ``n`` counts pairs."""
    n_dropped: int
    """Pairs on which it is undefined."""


@dataclass(frozen=True)
class SeedValue:
    """A mean over prompts (macro) from the draws of one seed alone."""

    condition: Condition
    quantity: str
    seed: int
    value: float
    unit: str
    n_prompts: int
    """Prompts behind it."""


@dataclass(frozen=True)
class RivalRow:
    """A cell of the vector beside a rival: means over the prompts on which both have a value, and their difference."""

    rival: Condition
    condition: Condition
    """The cell."""
    quantity: str
    steered: Estimate
    rivalled: Estimate
    """The same quantity under the rival."""
    difference: Estimate
    """Steering less the rival, prompt by prompt."""
    n_dropped: int
    """Prompts on which either is undefined."""
    split: Literal["all", "report"] = "all"
    """``report``: the sweep's best cell on the half of the clusters that had no say in its choice."""


@dataclass(frozen=True)
class VectorRow:
    """A vector in its own best cell; and, where it is compared with another in its own, the difference of the two."""

    condition: Condition
    """The cell of the vector."""
    against: Condition | None
    """The cell of the other vector; None for a vector alone."""
    quantity: str
    value: Estimate
    reference: Estimate | None
    """The same quantity under the other vector, over the same prompts."""
    difference: Estimate | None
    """This vector less the other, prompt by prompt."""
    n_dropped: int
    """Prompts on which either is undefined."""
    split: Literal["all", "report"] = "all"
    """``report``: on the half of the clusters that had no say in the choice of any cell."""


@dataclass(frozen=True)
class OffTargetRow:
    """What a cell of the vector does to prompts that it is not about, beside its effect on the run's own."""

    name: str
    """Of the set of prompts."""
    condition: Condition
    quantity: str
    estimate: Estimate
    """Over the prompts of the set."""
    n_dropped: int
    """Prompts of the set on which it is undefined."""
    effect_quantity: str
    effect: Estimate
    """What the same cell does to the run's own prompts, by the quantity that the report is judged by."""


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What follows from the scores: ``rows`` are the numbers of the paper, ``prompts`` what they are means of."""

    target: str
    rows: tuple[ReportRow, ...]
    prompts: Mapping[str, Any]
    """Columns of the per-prompt table, each ``[condition * prompt]``."""
    checks: Mapping[str, float]
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    """Instrument checks that failed, each with its likely cause: the numbers are not to be believed."""
    profile: tuple[ProfileRow, ...] = ()
    slopes: tuple[Slope, ...] = ()
    swaps: tuple[Swap, ...] = ()
    """What follows the behaviour and what the letter; empty where no question was asked in both orders."""
    rivals: tuple[RivalRow, ...] = ()
    """The vector less its rivals; empty without any."""
    vectors: tuple[VectorRow, ...] = ()
    """Several vectors, each in its own best cell, and their differences; empty with one vector."""
    doses: tuple[Dose, ...] = ()
    """The dose of every condition that steers, and which doses could not be reached; empty where that is not known."""
    off_target: tuple[OffTargetRow, ...] = ()
    """What the vector does to prompts that it is not about; empty without such sets."""
    seeds: tuple[SeedValue, ...] = ()
    """The numbers of every seed, by condition and quantity; empty with one seed."""
    best: Best | None = None
    """The best cell of the sweep; None where no cell has a value."""
    increases: Increases | None = None
    """The completions behind the rows, with their increases."""
    measures: Measures | None = None
    by_seed: tuple[Measures, ...] = ()
    """The measures of each seed, of all conditions; empty with one seed."""
    choices: Choices | None = None
    """The two-choice read-out behind the rows."""
    readings: Readings | None = None
    """The answers at the end of each completion's reasoning, under all conditions, where they were read."""
    rounding: tuple[Increases, Choices | None, Measures | None] | None = None
    """The same three under a small direction with both signs, by which the run knows its own rounding."""
    tokens: TokenIncreases | None = None
    """Increases of single tokens under a few conditions, where they are at hand."""
    quality: Mapping[int, VectorQuality] = field(default_factory=dict)
    """How well the target vector is known, by layer; empty where that is not known."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """How it was made: the content of ``run.json``; empty for a report that no run made."""

    @property
    def is_undrawn(self) -> bool:
        """Whether it is of the two-choice read-out alone, as results of other tools are: nothing was drawn."""
        return self.increases is not None and not len(self.increases.completions)

    def __repr__(self) -> str:
        cells = len({row.condition for row in self.rows if row.condition.kind != "baseline"})
        text = f"Report(target {self.target!r}, {cells} conditions, {len(self.errors)} errors"
        if self.best is None:
            return text + ")"
        c, e = self.best.condition, self.estimate(self.best.quantity, self.best.condition)
        inside = "" if e.low is None else f" [{e.low:+.2f}, {e.high:+.2f}]"
        return (
            f"{text}, best: layer {c.layer}, multiplier {c.multiplier:+g}, {self.best.quantity} {e.value:+.2f}{inside})"
        )

    @property
    def through(self) -> Through:
        """How far the completions behind it are scored."""
        return "end" if self.increases is None else self.increases.through

    def save(self, folder: str | Path) -> Path:
        """Write it into a new run directory, so that ``load`` gives it back; see ``job.results.save``."""
        # The one way up through the floors: whoever holds a report saves it by a call of its own.
        saved: Path = importlib.import_module("completions_lp.job.results").save(self, folder)
        return saved

    def estimate(self, quantity: str, condition: Condition, *, weighting: str = "macro") -> Estimate:
        """The estimate of one quantity in one condition."""
        for row in self.table(quantity, kind=None, weighting=weighting):
            if row.condition == condition:
                return row.estimate
        known = sorted({row.quantity for row in self.rows})
        raise InputError(f"no {weighting} estimate of {quantity!r} for {condition}; quantities: {', '.join(known)}")

    def table(self, quantity: str, *, kind: Kind | None = "target", weighting: str = "macro") -> Sequence[ReportRow]:
        """All rows of one quantity, for one kind of vector or (``None``) all."""
        chosen = [r for r in self.rows if r.quantity == quantity and r.weighting == weighting and r.split == "all"]
        return [r for r in chosen if kind in (None, r.condition.kind)]
