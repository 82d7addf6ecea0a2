"""What is done to the model: a direction per layer, and where and how strongly it is added."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
from jaxtyping import Float

from completions_lp.records.base import POSITIONS, Kind, Operation, Positions, require


@dataclass(frozen=True)
class VectorQuality:
    """How well a vector of n pairs is known at one layer, and how well it tells their texts apart.

    ``steer.estimates`` has the formulas. NaN is undefined: of a single pair, or of a file that does not say.
    """

    norm: float
    """Of the mean difference, which vectors of every method are as long as."""
    norm_se: float
    """Standard error of the norm (delta method); NaN for a single pair."""
    split_half_cosine: float
    """Mean cosine between the vectors of two random halves of the pairs; NaN for a single pair."""
    pair_cosine: float = math.nan
    """Mean cosine of the pairs' differences with their mean (Braun et al. 2025, arXiv 2505.22637)."""
    d_prime: float = math.nan
    """How far the positive texts lie from the negative ones along the vector, in pooled standard deviations (same
    source): held out, so each pair is projected on the vector of others."""
    lens_accuracy: float = math.nan
    """Share of the pairs at which the likeliest next token is the positive text's answer, where final norm and head
    read the residual stream of this layer right before it: A_lin (Billa 2026, arXiv 2604.15557)."""
    lens_odds: float = math.nan
    """Mean log odds of the positive against the negative text's answer in the same reading, nats."""


@dataclass(frozen=True)
class Span:
    """Where the texts of contrast pairs lie along a direction of length 1, at one layer, in units of the stream."""

    centre: float
    """The middle between the mean of the negative and that of the positive texts."""
    scale: float
    """Half of the way from the negative to the positive mean."""


@dataclass(frozen=True, eq=False, repr=False)
class SteeringVector:
    """One direction per layer; layer L is the 0-based block to whose *output* the vector is added."""

    name: str
    kind: Kind
    directions: Mapping[int, Float[np.ndarray, " d_model"]]
    quality: Mapping[int, VectorQuality] = field(default_factory=dict)
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)
    spans: Mapping[int, Span] = field(default_factory=dict)
    """What ``clamp`` measures in, by layer; empty where no pairs were read."""

    def __repr__(self) -> str:
        return f"SteeringVector({self.name!r}, {self.kind}, layers {list(self.directions)}, d_model {self.d_model})"

    def __post_init__(self) -> None:
        require(self.name != "", "a steering vector needs a name")
        require(len(self.directions) > 0, f"vector {self.name!r} has no layers")
        frozen = {}
        for layer, direction in sorted(self.directions.items()):
            where = f"vector {self.name!r}, layer {layer}"
            require(direction.ndim == 1, f"{where}: needs one axis (d_model), got shape {direction.shape}")
            require(bool(np.isfinite(direction).all()), f"{where}: has values that are not finite")
            frozen[layer] = direction.view()
            frozen[layer].flags.writeable = False
        require(
            any(bool(direction.any()) for direction in frozen.values()),
            f"vector {self.name!r} is zero in every layer, so it steers nothing: the two texts of its contrast pairs "
            "may be the same where they are read",
        )
        sizes = {d.shape[0] for d in frozen.values()}
        require(len(sizes) == 1, f"vector {self.name!r}: layers of different sizes {sorted(sizes)}")
        object.__setattr__(self, "directions", MappingProxyType(frozen))

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, which has no way with a read-only mapping."""
        given = self.name, self.kind, dict(self.directions), self.quality, self.provenance, self.spans
        return SteeringVector, given

    def round(self) -> "SteeringVector":
        """The vector in float32, as files have it: what is stored is what is scored.

        Raises:
            InputError: A value is too large for float32.
        """
        largest = max(float(np.abs(d).max(initial=0.0)) for d in self.directions.values())
        limit = float(np.finfo(np.float32).max)
        require(
            largest <= limit,
            f"vector {self.name!r} has a value of {largest:.3g}, more than float32 holds ({limit:.3g}); scale it down",
        )
        rounded = {layer: d.astype(np.float32).astype(np.float64) for layer, d in self.directions.items()}
        return replace(self, directions=rounded)

    @property
    def d_model(self) -> int:
        """Size of the residual stream that the vector fits."""
        return int(next(iter(self.directions.values())).shape[0])


@dataclass(frozen=True)
class Condition:
    """What is done to the model: a vector enters at the output of block ``layer`` and of those ``beyond``.

    How, ``operation`` says: by default ``multiplier`` times the vector is added. Or what stands in its place: the
    unsteered model (``BASELINE``), or a rival (``make_rival``).
    """

    vector: str
    kind: Kind
    layer: int
    """The lowest that is steered."""
    multiplier: float
    positions: Positions = "completion"
    operation: Operation = "add"
    beyond: tuple[int, ...] = ()
    """Further layers that are steered at once, upwards."""
    dose: float | None = None
    """What was asked for, in the unit of the sweep; the multiplier itself where that is all."""

    def __post_init__(self) -> None:
        require(bool(np.isfinite(self.multiplier)), f"multiplier {self.multiplier} is not a finite number")
        require(
            re.fullmatch(POSITIONS, self.positions) is not None,
            f"positions {self.positions!r} is none of completion, all, prompt and first:N (N from 1 to 999999)",
        )
        require(
            self.operation in get_args(Operation),
            f"operation {self.operation!r} is none of {', '.join(get_args(Operation))}",
        )
        upwards = list(self.layers)
        require(upwards == sorted(set(upwards)), f"layers of one condition go upwards, each once; got {upwards}")
        object.__setattr__(self, "dose", float(self.multiplier if self.dose is None else self.dose))

    @property
    def asked(self) -> float:
        """The dose as a number: what is asked for in the sweep's unit."""
        return float(self.multiplier if self.dose is None else self.dose)

    @property
    def without_dose(self) -> "Condition":
        """The same at multiplier 0, which is what conditions have in common that differ in nothing but their dose."""
        return replace(self, multiplier=0.0, dose=0.0)

    @property
    def cell(self) -> tuple[object, ...]:
        """What vectors, and runs, are compared in: the dose that was asked for, whatever each is multiplied with."""
        return self.asked, self.layers, self.positions, self.operation

    @property
    def layers(self) -> tuple[int, ...]:
        """All that are steered."""
        return (self.layer, *self.beyond)

    @property
    def is_neutral(self) -> bool:
        """Whether nothing at all is done: multiplier 0 of what is added or taken away, not of a clamp."""
        return self.multiplier == 0 and self.operation != "clamp"

    @property
    def is_plain(self) -> bool:
        """Whether a vector is added at one layer, and nothing else is done."""
        return self.operation == "add" and not self.beyond

    @property
    def acts_on_prompt(self) -> bool:
        """Whether all of a prompt is steered, and not its last token alone."""
        return self.positions in ("all", "prompt")

    @property
    def until(self) -> int | None:
        """How many tokens are steered from the prompt's last one on; None for all there are."""
        if self.positions == "prompt":
            return 1
        return int(self.positions.partition(":")[2]) if self.positions.startswith("first:") else None

    def find_acting(self, n_prompt: int) -> tuple[int, int | None]:
        """Which tokens of a text are steered, as a half-open range of places; None for no end."""
        start, until = n_prompt - 1, self.until
        return 0 if self.acts_on_prompt else start, None if until is None else start + until

    @property
    def columns(self) -> dict[str, str | float]:
        """What names it in tables; ``layers`` are all that are steered, such as ``10,11,12``."""
        names = ("vector", "kind", "layer", "multiplier", "positions", "operation", "dose")
        return {**{name: getattr(self, name) for name in names}, "layers": self.every_layer}

    @property
    def every_layer(self) -> str:
        """All that are steered, as text: ``10,11,12``."""
        return ",".join(map(str, self.layers))

    @property
    def site(self) -> str:
        """``2``, or of several layers ``2-4`` or ``2,5,6``."""
        layers = self.layers
        if len(layers) > 2 and layers[-1] - layers[0] == len(layers) - 1:
            return f"{layers[0]}-{layers[-1]}"
        return self.every_layer

    @property
    def place(self) -> str:
        """``layer 2, multiplier +1``, with what is done but add; of a rival, which has neither, its name."""
        if self.kind == "rival":
            return f"rival {self.vector}"
        done = "" if self.operation == "add" else f", {self.operation}"
        return f"layer{'s' if self.beyond else ''} {self.site}{done}, multiplier {self.multiplier:+.4g}"

    @property
    def steers(self) -> bool:
        """Whether anything is added in the network: neither the baseline nor a rival adds anything."""
        return self.kind not in ("baseline", "rival")


BASELINE = Condition(vector="", kind="baseline", layer=-1, multiplier=0.0)
"""The unsteered model."""


def make_rival(name: str, *, positions: Positions = "completion") -> Condition:
    """The condition of a rival, by its name: another prompt or another model, which is there as a whole or not at all.

    It has no layer (-1) and no dose: its multiplier is 1, so that nothing takes it for multiplier 0, which must change
    nothing. ``positions`` are those of the vector that it stands beside, and mean nothing.
    """
    return Condition(vector=name, kind="rival", layer=-1, multiplier=1.0, positions=positions)
