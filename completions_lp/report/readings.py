"""What the model would answer at the end of its reasoning -> per prompt, by whose reasoning and whose reading."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from completions_lp.records import Condition, Readings
from completions_lp.records.readings import TENTHS
from completions_lp.report.choices import Steered
from completions_lp.stats import average_readings, split_readings

PLACES = tuple(f"reasoning_{k}" for k in range(1, TENTHS + 1))
"""By condition: the increase in each tenth of the reasoning, over completions with the target answer."""
UNSTEERED = ("read_A", "read_A_se", "read_mass")
ANSWER = ("read_A_answer_only", "read_A_answer_only_se", "read_mass_answer_only")
"""By condition, of unsteered reasonings."""
REASONING = (
    *("read_A_reasoning_only", "read_A_reasoning_only_se", "read_A_steered", "read_A_steered_se"),
    *("read_A_change", "read_A_by_answer", "read_A_by_reasoning", "read_ess", "read_mean_weight", "read_red"),
)
"""By condition, what takes reasonings of the steered model."""


def measure_readings(
    readings: Readings, conditions: Sequence[Condition], *, target: str
) -> tuple[dict[str, Float[np.ndarray, " prompt"]], dict[str, Steered]]:
    """The columns of the per-prompt table, unsteered and by condition.

    NaN on a prompt that does not offer the target, or where its answer cannot be told from another, and under a
    condition where nothing was read. What is of the steered model's reasonings takes plain sampling at temperature 1,
    and is NaN without it.
    """
    completions, place = readings.completions, {c: i for i, c in enumerate(readings.conditions)}
    chosen = [i for i, condition in enumerate(conditions) if condition in place]
    kept = readings.select([place[conditions[i]] for i in chosen])
    size = len(completions.prompts)
    unsteered, hit = {name: np.full(size, np.nan) for name in UNSTEERED}, completions.hits(target)
    steered = {name: np.full((len(conditions), size), np.nan) for name in (*ANSWER, *REASONING, *PLACES)}
    for i, prompt in enumerate(completions.prompts):
        rows = completions.rows_of(i)
        if not len(rows) or not prompt.offers(target):
            continue
        told, told_steered = _measure_prompt(kept, rows, prompt.letters.index(prompt.pair(target)[0]))
        told_steered |= dict(zip(PLACES, _average_tenths(kept, rows[hit[rows]]), strict=True))
        for name, value in told.items():
            unsteered[name][i] = value
        for name, values in told_steered.items():
            steered[name][chosen, i] = values
    return unsteered, steered


def _measure_prompt(
    readings: Readings, rows: Int[np.ndarray, " row"], letter: int
) -> tuple[dict[str, float], dict[str, Float[np.ndarray, " condition"]]]:
    counts, reach = readings.completions.counts[rows], readings.steered_reach[:, rows]
    cells = average_readings(
        counts,
        reach - readings.reach[rows],
        readings.baseline[rows, letter],
        readings.logprob[:, rows, letter],
        reach=reach,
        distinct=_find_distinct(readings, rows),
    )
    masses = (np.nansum(np.exp(x[..., rows, :]), -1) for x in (readings.baseline, readings.logprob))
    mass, mass_steered = (x @ counts / counts.sum() for x in masses)
    unsteered = {"read_A": cells.unsteered, "read_A_se": cells.unsteered_se, "read_mass": float(mass)}
    steered = dict(zip(ANSWER, (cells.answer_only, cells.answer_only_se, mass_steered), strict=True))
    if readings.completions.sampling.is_ancestral:
        answer, reasoning = split_readings(cells)
        found = (
            *(cells.reasoning_only, cells.reasoning_only_se, cells.steered, cells.steered_se),
            *(100 * (cells.steered - cells.unsteered), 100 * answer, 100 * reasoning),
            *(cells.ess, cells.mean_weight, np.where(cells.trust == "red", 1.0, 0.0)),
        )
        steered |= dict(zip(REASONING, found, strict=True))
    known = np.isfinite(cells.answer_only) & np.isfinite(reach).all(-1)
    return unsteered, {name: np.where(known, values, np.nan) for name, values in steered.items()}


def _average_tenths(readings: Readings, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "10 condition"]:
    """Means over the draws of some completions; NaN of none, and those without reasoning have none."""
    tenths, counts = readings.tenths[:, rows], readings.completions.counts[rows]
    kept = np.where(readings.at[rows] > 0, counts, 0)
    with np.errstate(invalid="ignore"):
        mean = np.einsum("csk,s->kc", np.where(kept[:, None] > 0, tenths, 0.0), kept) / np.float64(kept.sum())
    return np.asarray(mean)


def _find_distinct(readings: Readings, rows: Int[np.ndarray, " row"]) -> Bool[np.ndarray, " row"]:
    """Whether no earlier row has the same tokens as far as they settle where it is read."""
    ids, ends = readings.completions.token_ids, readings.through
    texts = [tuple(ids[row, : ends[row]].tolist()) for row in rows.tolist()]
    first: dict[tuple[int, ...], int] = {}
    for k, text in enumerate(texts):
        first.setdefault(text, k)
    return np.array([first[text] == k for k, text in enumerate(texts)], dtype=bool)
