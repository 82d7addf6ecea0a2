"""The multiplier at which a divergence has a wanted value: many searches at once, each round one evaluation of all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

TOLERANCE = 0.01
"""Relative error of a value that is reached."""
ROUNDS = 40
"""Far more than a curve takes that has an end."""
STEP = 16.0
"""The largest factor between one multiplier and the next, where nothing is known beyond."""
LARGEST = 1e6
"""The largest multiplier that is tried."""
FLAT = 1e-3
"""A curve that grows by less than this share over a whole step has come to its end."""
_BISECT = 3
"""Every so many rounds a bracket is halved whatever the secant says, so that it shrinks however the curve bends."""


@dataclass(eq=False)
class Curve:
    """What is known of one curve: its values at the multipliers that were tried, not finite where it has none."""

    tried: dict[float, float] = field(default_factory=dict)

    def find(self, wanted: float) -> float | None:
        """The multiplier whose value is nearest to what is wanted, if it is as near as it needs to be."""
        known = {m: value for m, value in self.tried.items() if np.isfinite(value)}
        best = min(known, key=lambda m: abs(known[m] - wanted), default=None)
        return best if best is not None and abs(known[best] / wanted - 1) <= TOLERANCE else None

    def bracket(self, wanted: float) -> tuple[float | None, float | None]:
        """The smallest multiplier at which the value is too large or not finite, and the largest one below it."""
        above = min((m for m, value in self.tried.items() if not value < wanted), default=None)
        below = max((m for m in self.tried if above is None or m < above), default=None)
        return below, above


@dataclass(frozen=True)
class Solved:
    """Where a search ended: the multiplier and the value there, or why there is none."""

    multiplier: float
    """NaN where there is none."""
    reached: float
    reason: str = ""


def solve_doses(
    measure: Callable[[Int[np.ndarray, " point"], Float[np.ndarray, " point"]], Float[np.ndarray, " point"]],
    wanted: Sequence[tuple[int, float]],
    *,
    start: Float[np.ndarray, " curve"],
) -> tuple[list[Solved], int]:
    """Where each curve has each wanted value, to within 1 %: safeguarded secants in log–log; and how many rounds.

    A divergence grows like the square of a small multiplier, so its log is nearly a line of slope 2 over the log of the
    multiplier: the first step assumes that slope, each later one the secant's. A secant stays inside its bracket, and
    every third time a bracket is halved in its stead. All that is known of a curve serves all values wanted of it.

    Args:
        measure: The values of some curves, by index, each at its own multiplier, which is above 0. It is asked once a
            round, for all searches that go on.
        wanted: By search, the index of its curve and the value, above 0.
        start: By curve, the first multiplier that is tried, above 0.

    Returns:
        In the order of ``wanted``; and the rounds that it took. A value that a curve does not have (it comes to an end
        below it, is not finite, falls where it should grow, or jumps over it) has NaN and the reason in words.
    """
    curves = [Curve() for _ in start]
    reasons = [""] * len(wanted)
    for rounds in range(ROUNDS + 1):
        asked: dict[tuple[int, float], None] = {}
        for i, (c, value) in enumerate(wanted):
            if reasons[i] or curves[c].find(value) is not None:
                continue
            try:
                asked[c, _propose(curves[c], value, float(start[c]), rounds)] = None
            except _Hopeless as error:
                reasons[i] = str(error)
        if not asked or rounds == ROUNDS:
            break
        at, multipliers = (np.array(x) for x in zip(*asked, strict=True))
        for (c, m), found in zip(asked, measure(at, multipliers).tolist(), strict=True):
            curves[c].tried[m] = found
    return [_conclude(curves[c], value, why) for (c, value), why in zip(wanted, reasons, strict=True)], rounds


class _Hopeless(Exception):  # noqa: N818 - what a search has become, not what is wrong with the input
    """A search cannot reach its value; the message says why."""


def _propose(curve: Curve, wanted: float, start: float, rounds: int) -> float:
    """The multiplier to try next."""
    if not curve.tried:
        return start
    below, above = curve.bracket(wanted)
    if above is None:
        return _reach_out(curve, wanted)
    if below is None:
        value = curve.tried[above]
        guess = above * np.sqrt(wanted / value) if np.isfinite(value) else above / STEP
        if above < start / LARGEST:
            raise _Hopeless(f"it is above {wanted:g} at every multiplier down to {above:.3g}")
        return float(np.clip(guess, above / STEP, 0.98 * above))
    low, high = np.log(below), np.log(above)
    if high - low < 1e-9:
        raise _Hopeless(_tell_gap(curve, below, above))
    values = curve.tried[below], curve.tried[above]
    share = 0.5
    if rounds % _BISECT and values[0] > 0 and np.isfinite(values[1]):
        first, last, aim = np.log([*values, wanted])
        share = float(np.clip((aim - first) / (last - first), 0.01, 0.99))
    return float(np.exp(low + share * (high - low)))


def _reach_out(curve: Curve, wanted: float) -> float:
    """A larger multiplier, where all values are too small so far."""
    tried = sorted(curve.tried)
    last = tried[-1]
    value = curve.tried[last]
    if last >= LARGEST:
        raise _Hopeless(f"it is no more than {max(curve.tried.values()):.3g} up to multiplier {last:.3g}")
    smaller = [m for m in tried if m <= last / STEP * 1.001]
    if smaller and 0 < value <= (1 + FLAT) * curve.tried[smaller[-1]]:
        raise _Hopeless(
            f"it does not grow any more: {curve.tried[smaller[-1]]:.3g} at multiplier {smaller[-1]:.3g}, "
            f"{value:.3g} at {last:.3g}"
        )
    slope = 2.0
    if len(tried) > 1 and 0 < curve.tried[tried[-2]] < value:
        slope = float(np.clip(np.log(value / curve.tried[tried[-2]]) / np.log(last / tried[-2]), 0.1, 8.0))
    guess = last * (wanted / value) ** (1 / slope) if value > 0 else STEP * last
    return float(np.clip(guess * 1.001, 1.02 * last, min(STEP * last, LARGEST)))


def _conclude(curve: Curve, wanted: float, reason: str) -> Solved:
    found = curve.find(wanted)
    if found is not None:
        return Solved(found, curve.tried[found])
    known = [value for value in curve.tried.values() if np.isfinite(value)]
    nearest = min(known, key=lambda value: abs(value - wanted), default=float("nan"))
    below, above = curve.bracket(wanted)
    told = reason or (_tell_gap(curve, below, above) if below and above else f"{ROUNDS} rounds did not find it")
    return Solved(float("nan"), nearest, told)


def _tell_gap(curve: Curve, below: float, above: float) -> str:
    values = curve.tried[below], curve.tried[above]
    after = f"{values[1]:.3g}" if np.isfinite(values[1]) else "not a finite number"
    return f"it is {values[0]:.3g} at multiplier {below:.6g} and {after} at {above:.6g}"
