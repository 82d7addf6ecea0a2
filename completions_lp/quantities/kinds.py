"""What a number of the report is: its name, unit and words, and the groups in which numbers are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Noise = Literal["", "none", "probability", "completions"]
Pool = Literal["", "A", "not_A", "all"]


@dataclass(frozen=True)
class Unit:
    """A unit, and how numbers in it are written."""

    name: str
    decimals: int
    signed: bool = False
    """Whether direction matters: written with its sign."""
    percent: bool = False


_UNITS = (
    *(Unit("pp", 2, signed=True), Unit("nats", 3, signed=True), Unit("nats/token", 4), Unit("probability", 3)),
    *(Unit("share", 0, percent=True), Unit("draws", 1), Unit("tokens", 1), Unit("ratio", 2)),
)
UNITS: Mapping[str, Unit] = MappingProxyType({unit.name: unit for unit in _UNITS})
"""By name: percentage points, natural logarithms of probabilities, and counts."""


@dataclass(frozen=True)
class Quantity:
    """One number of the report."""

    name: str
    unit: str
    head: str
    """Of a column of a text table."""
    label: str
    """Of an axis, a row or a menu."""
    group: str
    meaning: str
    """A sentence or two for who has not read the documentation."""
    latex: str = ""
    """Head of a LaTeX column; P and P' are the unsteered and steered probability of the target answer."""
    noise: Noise = ""
    """How a prompt's own value is known: exactly (``none``), with the error of P(A), with that of a mean over its
    completions, or not."""
    swept: bool = False
    """Whether a sweep is judged by it: simultaneous bands, adjusted p-values, random directions, best cell."""
    skewed: bool = False
    """Whether a t interval covers too rarely, so that it is bootstrap-t."""
    pooled: Pool = ""
    """Over which completions it is also pooled (weighting ``micro``)."""
    odd: bool = False
    """Whether it is also given as ``NAME_odd``, [f(m) − f(−m)]/2, which even-order damage does not touch."""
    summarized: bool = True
    """Whether the summary has its mean over prompts; else it stands in the per-prompt tables alone."""
    whole: bool = False
    """Whether it is over all tokens of completions, and so missing where they are not scored through their end."""

    @property
    def decimals(self) -> int:
        """Digits after the point, as people read it."""
        return UNITS[self.unit].decimals

    @property
    def signed(self) -> bool:
        """Whether it is written with its sign."""
        return UNITS[self.unit].signed


EFFECT, PROBABILITY, PARTS, OTHERS = "The effect", "Probability of the answer", "Parts of the increase", "Other texts"
DAMAGE, CHOICE, TRUSTED, SIGNS = "Damage", "Two-choice read-out", "How far to trust it", "Both signs together"
READING, SAMPLE = "At the end of the reasoning", "The completions"
GROUPS = (EFFECT, PROBABILITY, PARTS, READING, OTHERS, DAMAGE, CHOICE, TRUSTED, SIGNS, SAMPLE)
"""In the order in which they are shown."""
PRIMARY = "delta_p_A"
"""The estimand: the change of P(A within the window), in percentage points."""
HEADLINE = "increase_to_answer_A"
"""The average log-prob increase through the answer's token: a lower bound on the log ratio of P(A)."""
CHOSEN = "logit_diff_change"
"""The effect of a report that has the two-choice read-out alone."""
JUDGED = (PRIMARY, HEADLINE, CHOSEN)
"""What a report is judged by: the first of these that is known."""
BROKEN = "share_broken"
"""Share of the prompts with log probs that are no finite numbers: where it is above 0, a cell has no other number."""
TRUST = ("certified", "green", "red")
"""How far P(A) under steering can be trusted on a prompt, from best to worst."""
TRUST_COLORS: Mapping[str, str] = MappingProxyType({"certified": "#004488", "green": "#00945a", "red": "#a3232f"})
"""What each is drawn in: the colour that it is called after. Told apart by the colour-blind, and never by colour alone:
a mark goes with each."""
