"""What the effect is compared with: the opposite sign, random directions, vectors from shuffled labels.

A cell is a layer, a multiplier and positions; every control vector scored there has the same estimate in it. p-values
are one-sided: towards an increase for a positive multiplier, a decrease for a negative one.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from completions_lp.quantities import ODD
from completions_lp.records import Condition, Kind
from completions_lp.report.prompts import Columns
from completions_lp.stats import MIN_DIRECTIONS, band_of_directions, predict_from_directions, rank_against_directions

Lost = Int[np.ndarray, " condition"]


def find_sweep(conditions: Sequence[Condition]) -> list[int]:
    """The cells of the sweep, as indices of conditions: the target vector wherever it is really added."""
    return [i for i, c in enumerate(conditions) if c.kind == "target" and not c.is_neutral]


def match_controls(
    conditions: Sequence[Condition], cells: Sequence[int], kind: Kind, lost: Lost | None = None
) -> Int[np.ndarray, "direction cell"]:
    """For every vector of a kind, the index of its condition in each cell; -1 where it was not scored, or is lost."""
    there = np.ones(len(conditions), dtype=bool) if lost is None else lost == 0
    place = {_cell(c): i for i, c in enumerate(conditions) if c.kind == kind and there[i]}
    names = sorted({c.vector for c in conditions if c.kind == kind})
    rows = [[place.get((name, *_cell(conditions[i])[1:]), -1) for i in cells] for name in names]
    return np.array(rows, dtype=np.int64).reshape(len(names), len(cells))


def compare_directions(
    values: Float[np.ndarray, " condition"],
    conditions: Sequence[Condition],
    cells: Sequence[int],
    *,
    level: float,
    lost: Lost | None = None,
) -> dict[str, Float[np.ndarray, " cell"]]:
    """Where the estimates of some cells lie among those of the random directions, and of the shuffled labels.

    ``values``: one estimate per condition, such as a mean over prompts; the band holds ``level`` of the directions.
    ``lost``: where it is above 0, a condition is left out.

    Returns:
        Fields of ``Inference``. p-values and the band are NaN with fewer than 19 directions in a cell, the standard
        deviation with fewer than two.
    """
    names = ("p_rank", "p_predictive", "random_low", "random_high", "random_mean", "random_sd", "p_rank_shuffled")
    found = {name: np.full(len(cells), np.nan) for name in names}
    sign = np.sign([conditions[i].multiplier for i in cells])
    value = values[list(cells)]
    random, shuffled = (match_controls(conditions, cells, kind, lost) for kind in ("random", "shuffled"))
    for some, used in _group(random):
        directions = values[used]
        found["random_mean"][some] = directions.mean(0)
        if len(directions) > 1:
            found["random_sd"][some] = directions.std(0, ddof=1)
        if len(directions) >= MIN_DIRECTIONS:
            promised, pushed = sign[some] * value[some], sign[some] * directions
            found["p_rank"][some] = rank_against_directions(promised, pushed)
            found["p_predictive"][some] = predict_from_directions(promised, pushed)[1]
            found["random_low"][some], found["random_high"][some] = band_of_directions(directions, level=level)
    for some, used in _group(shuffled):
        if len(used) >= MIN_DIRECTIONS:
            promised, pushed = sign[some] * value[some], sign[some] * values[used]
            found["p_rank_shuffled"][some] = rank_against_directions(promised, pushed)
    return found


def rank_sweep(
    values: Float[np.ndarray, " condition"],
    conditions: Sequence[Condition],
    cells: Sequence[int],
    lost: Lost | None = None,
) -> float:
    """Rank p-value of a whole sweep: the target vector's best cell against each random direction's own best cell.

    Each may pick its cell, as the vector did. Only cells in which all random directions were scored, and none is lost,
    count. NaN with fewer than 19 of them, without a common cell, or where an estimate is undefined. Source: numbers.md
    P9.
    """
    random = match_controls(conditions, cells, "random", lost)
    common = np.flatnonzero((random >= 0).all(0)).tolist()
    if len(random) < MIN_DIRECTIONS or not len(common):
        return float("nan")
    sign = np.sign([conditions[cells[i]].multiplier for i in common])
    best = (sign * values[[cells[i] for i in common]]).max(keepdims=True)
    return float(rank_against_directions(best, (sign * values[random[:, common]]).max(1, keepdims=True))[0])


def take_odd_parts(columns: Columns) -> tuple[list[int], dict[str, Float[np.ndarray, "pair prompt"]]]:
    """[f(m) − f(−m)]/2 per prompt, by quantity, at the conditions of m > 0 whose opposite was scored, too.

    The opposite is −m, or m of the negated vector where only that was scored; with doses in another unit, the opposite
    dose. Source: numbers.md I6.
    """
    conditions = columns.conditions
    place = {_cell(c): i for i, c in enumerate(conditions)}
    targets = {c.vector for c in conditions if c.kind == "target"}
    negated = {_cell(c)[1:]: i for i, c in enumerate(conditions) if c.kind == "negated"} if len(targets) == 1 else {}
    pairs = []
    for i, c in enumerate(conditions):
        name, dose, *at = _cell(c)
        other = place.get((name, -c.asked, *at))
        if other is None and c.kind == "target":
            other = negated.get((dose, *at))
        if c.multiplier > 0 and other is not None:
            pairs.append((i, other))
    plus, minus = [i for i, _ in pairs], [i for _, i in pairs]
    known = [name for name in ODD if name in columns.steered]
    return plus, {f"{name}_odd": (columns.steered[name][plus] - columns.steered[name][minus]) / 2 for name in known}


def _cell(condition: Condition) -> tuple[object, ...]:
    """What cells of vectors are matched by."""
    return condition.vector, *condition.cell


def _group(
    matched: Int[np.ndarray, "direction cell"],
) -> list[tuple[Int[np.ndarray, " some"], Int[np.ndarray, "used some"]]]:
    """Cells by the set of vectors that were scored there, with the conditions of these vectors."""
    groups: dict[bytes, list[int]] = {}
    for cell, there in enumerate((matched >= 0).T):
        if there.any():
            groups.setdefault(there.tobytes(), []).append(cell)
    return [(np.array(some), matched[matched[:, some[0]] >= 0][:, some]) for some in groups.values()]
