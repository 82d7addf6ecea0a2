"""How far rounding moves the numbers: what they are under both signs of a small direction (kind ``rounding``)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from completions_lp.quantities import HEADLINE, POOLED
from completions_lp.records import Choices, Increases, Measures, ReportRow
from completions_lp.report.averages import average_completions, average_prompts
from completions_lp.report.prompts import Columns
from completions_lp.report.rows import Numbers
from completions_lp.stats import average_by_group, join_signs, measure_spread

LEAST = 2.0
"""A headline, and a spread over completions, must be so many times what rounding makes of nothing."""


@dataclass(frozen=True)
class Rounding:
    """What a run measured of its own rounding; NaN where it did not."""

    sd: float = float("nan")
    """Standard deviation over completions of the increase, nats."""
    mean: float = float("nan")
    """Mean over prompts of the same, nats."""
    se: float = float("nan")
    """Its standard error over clusters."""
    bounds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By quantity and weighting: the larger end, without its sign, of the number's own interval."""

    @property
    def checks(self) -> dict[str, float]:
        """The numbers that stand among a report's checks."""
        return {"rounding_sd": self.sd, "rounding_mean": self.mean, "rounding_se": self.se}

    def mark(self, row: ReportRow) -> ReportRow:
        """A row with what rounding may make of its number."""
        bound = self.bounds.get((row.quantity, row.weighting))
        if bound is None or not row.condition.steers:  # a rival is of another pass than the rounding that was measured
            return row
        return replace(row, inference=replace(row.inference, rounding=bound))


Records = tuple[Increases, Choices | None, Measures | None]
"""What a report is made of."""


def set_apart(records: Records) -> tuple[list[int], list[int], Records, Records | None]:
    """The conditions that are measured and those that tell the rounding, by number, and the records of either."""
    conditions = records[0].conditions
    at = [i for i, condition in enumerate(conditions) if condition.kind == "rounding"]
    kept = [i for i in range(len(conditions)) if i not in at]
    if not at or not kept:
        return [*range(len(conditions))], [], records, None
    return kept, at, _select(records, kept), _select(records, at)


def put_back(records: Records, apart: Records | None) -> Records:
    """The records of all conditions, as a run keeps them: those that tell the rounding last."""
    increases, choices, measures = records
    if apart is None:
        return records
    theirs, read, told = apart
    conditions = increases.conditions + theirs.conditions
    parts: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in (increases, theirs)]) for name in Increases.PARTS
    }
    increases = replace(increases, conditions=conditions, **parts)
    if choices is not None and read is not None:
        choices = choices.join(read)
    if measures is not None and told is not None:
        steered = {name: np.concatenate([x, told.steered[name]]) for name, x in measures.steered.items()}
        trust = np.concatenate([measures.trust, told.trust])
        measures = replace(measures, conditions=conditions, steered=steered, trust=trust)
    return increases, choices, measures


def _select(records: Records, kept: list[int]) -> Records:
    """The records of some conditions."""
    increases, choices, measures = records
    chosen = tuple(increases.conditions[i] for i in kept)
    parts: dict[str, Any] = {name: getattr(increases, name)[kept] for name in Increases.PARTS}
    increases = replace(increases, conditions=chosen, **parts)
    if choices is not None:
        choices = choices.select(kept)
    if measures is not None:
        steered = {name: values[kept] for name, values in measures.steered.items()}
        measures = replace(measures, conditions=chosen, steered=steered, trust=measures.trust[kept])
    return increases, choices, measures


def measure_rounding(increases: Increases, columns: Columns, at: list[int], *, level: float, seed: int) -> Rounding:
    """What a run's own rounding does to its numbers; of all conditions, those ``at`` tell it."""
    if not at:
        return Rounding()
    values, counts = join_signs(_list_increases(increases)[at]), increases.completions.counts
    one = columns.select(conditions=at[:1], prompts=np.ones(len(columns.clusters), dtype=bool))
    only = replace(one, steered={name: join_signs(x[at])[None] for name, x in columns.steered.items()})
    index, size = increases.completions.prompt_index, len(increases.completions.prompts)
    mean, se, *_ = measure_spread(average_by_group(values[None], counts, index, size), only.clusters)
    numbers: list[Numbers] = [
        *average_prompts(only, level=level, seed=seed, inference={}),
        *average_completions(only, level=level),
    ]
    bounds = {}
    for number in numbers:
        e = number.estimates[0]
        ends = [abs(end) for end in (e.value, e.low, e.high) if end is not None and np.isfinite(end)]
        if ends and number.quantity in CHANGES:
            bounds[number.quantity, number.weighting] = float(max(ends))
    return Rounding(_spread(values, counts), float(mean[0]), float(se[0]), bounds)


def judge_rounding(rounding: Rounding, increases: Increases, best: ReportRow | None) -> list[str]:
    """Errors: the headline of the best cell, or the spread of its completions, is not clear of rounding."""
    if best is None or not np.isfinite(rounding.sd):
        return []
    c, value = best.condition, best.estimate.value
    cell = c.place
    told = (
        'the precision is too low for an effect of this size: use [model] dtype = "float32", with half-precision '
        'weights [model] residual = "float32", or a larger multiplier'
    )
    errors = []
    bound = rounding.bounds.get((HEADLINE, "macro"), float("nan"))
    if abs(value) < LEAST * bound:
        errors.append(
            f"rounding: the headline is {value:+.2g} nats ({cell}), and rounding may make up to "
            f"{bound:.2g} of it; {told}"
        )
    spread = _spread(_list_increases(increases)[increases.conditions.index(c)], increases.completions.counts)
    if spread < LEAST * rounding.sd:
        errors.append(
            f"rounding: the increase varies over completions by {spread:.2g} nats ({cell}), and by "
            f"{rounding.sd:.2g} from rounding alone; {told}"
        )
    return errors


def _spread(values: Float[np.ndarray, " completion"], counts: Int[np.ndarray, " completion"]) -> float:
    """Standard deviation over draws, of those that are finite; NaN with fewer than two."""
    known = np.isfinite(values)
    return float(np.sqrt(np.cov(values[known], fweights=counts[known]))) if known.sum() > 1 else float("nan")


def _list_increases(increases: Increases) -> Float[np.ndarray, "condition completion"]:
    """Of every completion through its end, or else of every one through its answer or the window."""
    return increases.increase if increases.through == "end" else increases.increase_to_answer


CHANGES = frozenset({*POOLED, HEADLINE, "before_answer_A", "at_answer_A", "after_answer_A", "logit_diff_change"})
"""Quantities of which rounding is told: sums of changes of log probs."""
