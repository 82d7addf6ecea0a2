"""Log probs that are no finite numbers: counted by prompt and condition, told, and their cells left out of every mean.

A multiplier that is too large in half precision overflows on some prompts first. A mean over the others would be of
prompts that steering chose, so a cell (a condition) with one such prompt has no mean at all: numbers.md §2h.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from completions_lp.quantities import find_quantity
from completions_lp.records import Condition, Increases, ProfileRow
from completions_lp.report.prompts import UNTOUCHED, Columns
from completions_lp.report.rows import hide_estimate

NAMED = 6
"""Cells that a message names; of more it says how many."""
KEPT = ("n_broken", "n_steered")


def hide_prompts(columns: Columns, increases: Increases) -> Columns:
    """What is known of a broken prompt under a condition, and of a prompt whose unsteered log probs are broken: NaN."""
    broken = columns.steered["n_broken"] > 0
    if not broken.any():
        return columns
    lost = _find_unsteered(columns, increases)
    unsteered = {name: np.where(lost, np.nan, x) for name, x in columns.unsteered.items() if name not in UNTOUCHED}
    return replace(
        columns,
        unsteered={**columns.unsteered, **unsteered},
        steered={name: x if name in KEPT else np.where(broken, np.nan, x) for name, x in columns.steered.items()},
        trust=None if columns.trust is None else np.where(broken, "", columns.trust),
        lost_unsteered=int(lost.sum()),
    )


def leave_out(columns: Columns) -> Columns:
    """Columns for means over prompts: all NaN in a cell with a broken prompt, or in which a quantity is infinite."""
    lost = (columns.steered["n_broken"] > 0).sum(-1)
    infinite = {name: np.isinf(x).sum(-1) for name, x in columns.steered.items()}
    if not lost.any() and not any(n.any() for n in infinite.values()):
        return columns
    by_quantity = {name: lost + n for name, n in infinite.items()}
    unsteered = dict(columns.unsteered)
    if columns.lost_unsteered:
        unsteered |= {name: np.full_like(x, np.nan) for name, x in unsteered.items() if name not in UNTOUCHED}
    return replace(
        columns,
        unsteered=unsteered,
        steered={
            name: x if name in KEPT else np.where(by_quantity[name][:, None] > 0, np.nan, x)
            for name, x in columns.steered.items()
        },
        trust=None if columns.trust is None else np.where(lost[:, None] > 0, "", columns.trust),
        lost=by_quantity,
    )


def hide_profile(profile: Sequence[ProfileRow], columns: Columns) -> tuple[ProfileRow, ...]:
    """The token profile without the cells that have a broken prompt."""
    lost = dict(zip(columns.conditions, columns.count_lost().tolist(), strict=True))
    size = len(columns.clusters)

    def hide(row: ProfileRow) -> ProfileRow:
        n = lost.get(row.condition, 0)
        return replace(row, estimate=hide_estimate(row.estimate, n, size)) if n else row

    return tuple(map(hide, profile))


def describe_broken(columns: Columns) -> tuple[list[str], list[str]]:
    """Errors: the cells that are left out for log probs that are no numbers. Warnings: for infinite quantities."""
    lost, size = columns.count_lost(), len(columns.clusters)
    errors = []
    if lost.any():
        errors.append(
            f"{_name_cells(columns.conditions, lost, size)} have log probs that are not finite; each such cell is left "
            "out of every mean, test and choice; likely an overflow in half precision: use smaller multipliers, or "
            '[model] dtype = "float32"'
        )
    warnings = [
        f"{find_quantity(name).head} is infinite: {_name_cells(columns.conditions, n - lost, size)}; it is left out of "
        "the summary there; the weights of the completions overflow: use smaller multipliers"
        for name, n in columns.lost.items()
        if (n > lost).any() and find_quantity(name).summarized
    ]
    return errors, warnings


def _find_unsteered(columns: Columns, increases: Increases) -> Bool[np.ndarray, " prompt"]:
    """Prompts with an unsteered log prob that is no finite number, also where a file has only the measures say so."""
    lost = np.zeros(len(columns.clusters), dtype=bool)
    lost[increases.completions.prompt_index[~np.isfinite(increases.baseline)]] = True
    if "p_A_low" in columns.unsteered:
        lost |= np.isfinite(columns.unsteered["share_A"]) & np.isnan(columns.unsteered["p_A_low"])
    return lost


def _name_cells(conditions: Sequence[Condition], n: Int[np.ndarray, " condition"], size: int) -> str:
    several = len({c.vector for c, k in zip(conditions, n, strict=True) if k}) > 1
    cells = [
        f"{f'{c.vector}, ' if c.steers and (several or c.kind != 'target') else ''}{c.place}: {k} of {size} prompts"
        for c, k in zip(conditions, n.tolist(), strict=True)
        if k
    ]
    more = f" and {len(cells) - NAMED} more cells" if len(cells) > NAMED else ""
    return "; ".join(cells[:NAMED]) + more
