"""Numbers -> text: an estimate, a p-value, and the row of a report that a number stands in."""

from dataclasses import dataclass

import numpy as np

from completions_lp.quantities import UNITS, Unit
from completions_lp.records import Condition, Estimate, Report, ReportRow

DASH = "–"
"""An undefined value."""
_SLOPE = "/multiplier"


@dataclass(frozen=True, eq=False)
class Lookup:
    """The rows of a report, found without a search."""

    rows: dict[tuple[Condition, str, str, str], ReportRow]

    @classmethod
    def of(cls, report: Report) -> "Lookup":
        """Index a report."""
        return cls({(row.condition, row.quantity, row.weighting, row.split): row for row in report.rows})

    def find(
        self, condition: Condition, quantity: str, *, weighting: str = "macro", split: str = "all"
    ) -> ReportRow | None:
        """The row of one quantity, if there is one."""
        return self.rows.get((condition, quantity, weighting, split))

    def value(self, condition: Condition, quantity: str) -> float:
        """The macro value; NaN where there is none."""
        row = self.find(condition, quantity)
        return float("nan") if row is None else row.estimate.value


def format_number(value: float, unit: str, *, signed: bool = False) -> str:
    """A number with the decimals and the sign of its unit; an undefined value is a dash, a rounded 0 is ``+0.00``."""
    if np.isnan(value):
        return DASH
    written: Unit = UNITS[unit.removesuffix(_SLOPE)]
    sign = "+" if signed or written.signed else ""
    return f"{value:{sign}z.{written.decimals}{'%' if written.percent else 'f'}}"


def format_limits(low: float | None, high: float | None, unit: str, *, signed: bool = False) -> str:
    """``[+0.41, +0.65]``; empty where there is no interval."""
    if low is None or high is None or np.isnan([low, high]).any():
        return ""
    return f"[{format_number(low, unit, signed=signed)}, {format_number(high, unit, signed=signed)}]"


def format_estimate(estimate: Estimate, *, interval: bool = True, signed: bool = False) -> str:
    """``+0.53 [+0.41, +0.65]``; a missing interval is not written, an undefined value is a dash.

    Its unit is one of ``quantities.UNITS``, or that per unit of multiplier; ``signed`` writes the sign of a difference
    whose unit has none.
    """
    text = format_number(estimate.value, estimate.unit, signed=signed)
    limits = format_limits(estimate.low, estimate.high, estimate.unit, signed=signed)
    return f"{text} {limits}" if interval and limits and text != DASH else text


def format_p(p: float) -> str:
    """``0.031``, ``<.001``; empty where there is none."""
    if np.isnan(p):
        return ""
    return "<.001" if p < 0.0005 else f"{p:.3f}"
