"""The per-prompt table: every quantity by condition and prompt, from sums, the two-choice read-out and the measures.

NaN marks the undefined on a prompt: no such completion, no target on offer, the log of a probability of 0 or 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import logit

from completions_lp.quantities import HEADLINE, QUANTITIES, list_missing, rank_quantity
from completions_lp.records import (
    Choices,
    Completions,
    Condition,
    Increases,
    InputError,
    Measures,
    Readings,
    pick_letters,
)
from completions_lp.report.choices import Steered, measure_choices, take_log_odds
from completions_lp.report.readings import measure_readings
from completions_lp.stats import average_by_group, split_change

UNTOUCHED = ("share_A", "share_uncommitted", "share_cut_off", "n_tokens")
"""Of the unsteered completions, what needs no log prob."""


@dataclass(frozen=True, eq=False)
class Columns:
    """The per-prompt table in wide form, with the clusters over which its means are taken."""

    conditions: tuple[Condition, ...]
    clusters: Int[np.ndarray, " prompt"]
    counts: Mapping[str, np.ndarray]
    """[prompt]: of completions, as ``count_answers`` has them; ``share_A`` is among ``unsteered``."""
    unsteered: Mapping[str, Float[np.ndarray, " prompt"]]
    steered: Mapping[str, Steered]
    trust: Shaped[np.ndarray, "condition prompt"] | None
    """None without measures."""
    lost: Mapping[str, Int[np.ndarray, " condition"]] = field(default_factory=dict)
    """By quantity, prompts on which it is no finite number: where there is one, the cell is left out. Empty if none."""
    lost_unsteered: int = 0
    """Prompts with an unsteered log prob that is no finite number."""

    def count_lost(self, quantity: str = "") -> Int[np.ndarray, " condition"]:
        """Prompts for which a cell is left out: of a quantity, or of one that is not of single prompts."""
        none = np.zeros(len(self.conditions), dtype=np.int64)
        return self.lost.get(quantity, self.lost.get("n_broken", none))

    def select(self, *, conditions: Sequence[int], prompts: Bool[np.ndarray, " prompt"]) -> "Columns":
        """Some conditions and some prompts."""
        place = np.ix_(np.array(conditions, dtype=np.int64), prompts)
        return Columns(
            tuple(self.conditions[i] for i in conditions),
            self.clusters[prompts],
            {name: x[prompts] for name, x in self.counts.items()},
            {name: x[prompts] for name, x in self.unsteered.items()},
            {name: x[place] for name, x in self.steered.items()},
            None if self.trust is None else self.trust[place],
            {name: n[list(conditions)] for name, n in self.lost.items()},
            self.lost_unsteered,
        )


def collect_columns(
    increases: Increases,
    choices: Choices | None,
    measures: Measures | None,
    readings: Readings | None = None,
    *,
    target: str,
) -> Columns:
    """Every per-prompt quantity that there is something to make of.

    What is over whole completions is NaN on every prompt where they are not all scored through their end: those of
    some prompts may be, but a mean over these would be of prompts with short completions.

    Raises:
        InputError: No prompt offers the target, or the records are of other prompts or conditions.
    """
    completions = increases.completions
    for record, what in ((choices, "the two-choice read-out"), (measures, "the measures")):
        if record is not None:
            _check_same(record, increases, what)
    counts = count_answers(completions, target=target)
    unsteered = {name: counts.pop(name) for name in ("share_A", "share_uncommitted", "share_cut_off")}
    steered = measure_prompts(increases, target=target)
    if not len(completions):  # nothing was drawn, as in results of other tools: nothing is undefined, it is not there
        unsteered, steered = {}, {}
    if measures is not None:
        unsteered |= measures.unsteered
        unsteered["answered"] = unsteered["first_A"] + unsteered["first_B"]
        steered |= {name: values for name, values in measures.steered.items() if name in QUANTITIES}
        steered |= derive_measures(measures)
    if choices is not None:
        steered |= measure_choices(choices, target)
    if readings is not None:
        told, told_steered = measure_readings(readings, increases.conditions, target=target)
        unsteered, steered = unsteered | told, steered | told_steered
    steered["n_broken"] = count_broken(increases, measures, choices)
    names = np.array([prompt.cluster for prompt in completions.prompts], dtype=str)
    clusters = np.unique(names, return_inverse=True)[1]
    trust = None if measures is None else measures.trust
    for name in list_missing(increases.through):
        for columns in (unsteered, steered):
            if name in columns:
                columns[name] = np.full_like(columns[name], np.nan)
    return Columns(increases.conditions, clusters, counts, unsteered, steered, trust)


def count_broken(
    increases: Increases, measures: Measures | None, choices: Choices | None
) -> Float[np.ndarray, "condition prompt"]:
    """Draws of each prompt, and answers of its read-out, whose log prob, steered or not, is no finite number."""
    completions = increases.completions
    finite = (np.isfinite(increases.increase) | ~increases.is_whole) & np.isfinite(increases.increase_to_answer)
    lost = ~(finite & np.isfinite(increases.baseline)) * completions.counts
    size = len(completions.prompts)
    rows = [np.bincount(completions.prompt_index, weights=row, minlength=size) for row in lost]
    found = np.array(rows, dtype=np.float64).reshape(len(increases.conditions), size)
    if measures is not None:
        found = np.fmax(found, measures.steered["n_broken"])
    if choices is not None:
        unread = np.isnan(choices.baseline).all()  # nothing is known of the unsteered model, and nothing is lost of it
        found = found + (~(np.isfinite(choices.logprob) & (unread | np.isfinite(choices.baseline)))).sum(-1)
    return found


def count_answers(completions: Completions, *, target: str) -> dict[str, np.ndarray]:
    """Per prompt: draws ``n``, distinct ones ``n_unique``, those that gave the target ``n_A``, their ``share_A``.

    Also the shares of draws without any answer, and of those that were cut off.

    Raises:
        InputError: No prompt offers the target.
    """
    pick_letters(completions.prompts, target)
    size = len(completions.prompts)
    hit = completions.hits(target)
    index, counts = completions.prompt_index, completions.counts
    n = np.bincount(index, weights=counts, minlength=size)
    n_target = np.bincount(index[hit], weights=counts[hit], minlength=size)

    def divide(rows: Bool[np.ndarray, " completion"]) -> Float[np.ndarray, " prompt"]:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.bincount(index[rows], weights=counts[rows], minlength=size) / n)

    share = np.where(completions.offered(target), divide(hit), np.nan)
    return {
        "n": n.astype(np.int64),
        "n_unique": np.bincount(index, minlength=size),
        "n_A": n_target.astype(np.int64),
        "share_A": share,
        "share_uncommitted": divide(completions.label == ""),
        "share_cut_off": divide(~completions.ended),
    }


def measure_prompts(increases: Increases, *, target: str = "matching") -> dict[str, Steered]:
    """Per-prompt means of the increases, weighted by count; NaN without such a completion or the target on offer."""
    completions = increases.completions
    hit = completions.hits(target)
    offered = completions.offered(target)[completions.prompt_index]

    def average(values: Float[np.ndarray, "condition completion"], where: Bool[np.ndarray, " completion"]) -> Steered:
        size = len(completions.prompts)
        return average_by_group(values, completions.counts, completions.prompt_index, size, where=where & offered)

    columns = {
        HEADLINE: average(increases.increase_to_answer, hit),
        "increase_A": average(increases.increase, hit),
        "increase_to_answer_not_A": average(increases.increase_to_answer, ~hit),
        "increase_not_A": average(increases.increase, ~hit),
        "increase_all": average(increases.increase, np.ones_like(hit)),
        "before_answer_A": average(increases.before_answer, hit),
        "at_answer_A": average(increases.at_answer, hit),
        "after_answer_A": average(increases.after_answer, hit),
    }
    if increases.completions.reasoning is not None:
        said = increases.before_answer + increases.at_answer
        columns["in_reasoning_A"] = average(increases.in_reasoning, hit)
        columns["in_answer_A"] = average(said - increases.in_reasoning, hit)
    with np.errstate(invalid="ignore"):
        columns["difference_A_not_A"] = columns[HEADLINE] - columns["increase_to_answer_not_A"]
    return columns


def tabulate(columns: Columns, completions: Completions) -> dict[str, np.ndarray]:
    """The per-prompt table in long form: one row per condition and prompt."""
    prompts, conditions = completions.prompts, columns.conditions

    def by_prompt(values: Sequence[str] | np.ndarray) -> np.ndarray:
        return np.tile(np.asarray(values), len(conditions))

    def by_condition(name: str) -> np.ndarray:
        return np.repeat([condition.columns[name] for condition in conditions], len(prompts))

    numbers = {name: by_prompt(values) for name, values in {**columns.counts, **columns.unsteered}.items()}
    numbers |= {name: values.reshape(-1) for name, values in columns.steered.items()}
    return {
        "prompt_id": by_prompt([prompt.id for prompt in prompts]),
        "cluster": by_prompt([prompt.cluster for prompt in prompts]),
        **{name: by_condition(name) for name in ("vector", "kind", "layer", "multiplier")},
        **dict(sorted(numbers.items(), key=lambda item: rank_quantity(item[0]))),
        **{name: by_condition(name) for name in ("positions", "operation", "layers", "dose")},
        **({} if columns.trust is None else {"trust": columns.trust.reshape(-1)}),
    }


def _check_same(record: Choices | Measures, increases: Increases, what: str) -> None:
    same = [p.id for p in record.prompts] == [p.id for p in increases.completions.prompts]
    if not same or record.conditions != increases.conditions:
        raise InputError(f"{what} and the scores are of different prompts or conditions; make both anew")


def derive_measures(measures: Measures) -> dict[str, Steered]:
    """What follows from the measures, prompt by prompt."""
    before, after = measures.unsteered, measures.steered
    p, q = before["p_A"], after["p_A_steered"]
    inside = (p > 0) & (p < 1) & (q > 0) & (q < 1)
    answer, reasoning = split_change(
        np.broadcast_to(p, q.shape), after["p_A_answer_only"], after["p_A_reasoning_only"], q
    )
    said, said_steered = before["first_A"] + before["first_B"], after["first_A_steered"] + after["first_B_steered"]
    with np.errstate(invalid="ignore", divide="ignore"):
        log_ratio = np.where(inside, np.log(q / p), np.nan)
        delta_logit = np.where(inside, logit(q) - logit(p), np.nan)
        odds, odds_steered = before["first_A"] / before["first_B"], after["first_A_steered"] / after["first_B_steered"]
        log_odds = np.log(odds_steered / odds)
        kl_per_token = after["kl"] / before["n_tokens"]
        change_answered = take_log_odds(np.log(said_steered)) - take_log_odds(np.log(said))
    return {
        "kl_per_token": kl_per_token,
        "delta_p_A": 100 * (q - p),
        "log_ratio_A": log_ratio,
        "delta_logit_A": delta_logit,
        "bound_gap": log_ratio - after["increase_to_answer_A_rb"],
        "answered_steered": said_steered,
        "log_odds_change_A_B": np.where(np.isfinite(log_odds), log_odds, np.nan),
        "log_odds_change_answered": change_answered,
        "answer_share": answer,
        "reasoning_share": reasoning,
    }
