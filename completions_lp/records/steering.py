"""What is done to the model: a direction per layer, and where and how strongly it is added."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
from jaxtyping import Float

from completions_lp.records.base import Kind, Positions, require


@dataclass(frozen=True)
class VectorQuality:
    """How well a mean over n pairs is known, at one layer."""

    norm: float
    norm_se: float
    """Standard error of the norm (delta method); NaN for a single pair."""
    split_half_cosine: float
    """Mean cosine between the means of two random halves of the pairs; NaN for a single pair."""


@dataclass(frozen=True, eq=False, repr=False)
class SteeringVector:
    """One direction per layer; layer L is the 0-based block to whose *output* the vector is added."""

    name: str
    kind: Kind
    directions: Mapping[int, Float[np.ndarray, " d_model"]]
    quality: Mapping[int, VectorQuality] = field(default_factory=dict)
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)

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
        return SteeringVector, (self.name, self.kind, dict(self.directions), self.quality, self.provenance)

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
    """What is done to the model: ``multiplier`` times a vector added at the output of block ``layer``.

    Or what stands in its place: the unsteered model (``BASELINE``), or a rival (``make_rival``).
    """

    vector: str
    kind: Kind
    layer: int
    multiplier: float
    positions: Positions = "completion"

    def __post_init__(self) -> None:
        require(bool(np.isfinite(self.multiplier)), f"multiplier {self.multiplier} is not a finite number")
        require(
            self.positions in get_args(Positions),
            f"positions {self.positions!r} is none of {', '.join(get_args(Positions))}",
        )

    @property
    def place(self) -> str:
        """``layer 2, multiplier +1``; of a rival, which has neither, its name."""
        if self.kind == "rival":
            return f"rival {self.vector}"
        return f"layer {self.layer}, multiplier {self.multiplier:+g}"

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
