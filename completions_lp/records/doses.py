"""How strongly each condition steers, in units that can be compared between vectors, layers and models."""

from dataclasses import dataclass
from typing import Literal

from completions_lp.records.steering import Condition

NAN = float("nan")
Unit = Literal["vector", "residual", "kl"]


@dataclass(frozen=True)
class Dose:
    """A condition and its dose, as a sample of prompts has settled or measured it."""

    condition: Condition
    """Where there is a ``reason``, as it was asked for: its multiplier is the dose."""
    unit: Unit
    """Of what was asked for."""
    relative: float
    """The norm of multiplier × vector over the mean norm of the unsteered residual stream, at the lowest layer and the
    positions that are steered; NaN of an operation that adds nothing."""
    kl_per_token: float = NAN
    """Reached on the sample, nats per token; NaN where no multiplier was solved for."""
    kl_se: float = NAN
    """Standard error of it over the clusters of the sample."""
    n_prompts: int = 0
    """Of the sample."""
    reason: str = ""
    """Why the cell is missing; empty where it is not."""
