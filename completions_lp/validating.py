"""Draws from the steered model itself: to check what the unsteered draws say of it, and to mend it where they cannot.

The estimates of P(A) under steering come from completions of the unsteered model. Where those tell too little (trust
is red), a few completions of the steered model join them: both sets are scored under both models and weighted by the
balance heuristic (STATISTICS §13), so that no branch which steering makes likely can hide. The log-prob increase of
the A-sequences stays on the unsteered draws alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats as scipy_stats
from tqdm import tqdm

from completions_lp.measuring import estimate_steered, read_texts, weigh_completions
from completions_lp.model import Model
from completions_lp.prompts import pick_letters
from completions_lp.records import Completions, Condition, Estimate, InputError, Measures, SteeringVector
from completions_lp.sampling import sample_completions
from completions_lp.scoring import score_completions
from completions_lp.stats import mean_intervals

SEED_OFFSET = 2**32
"""A check draws under the run's seed plus this, so that it shares no draw with the estimate that it checks (a top-up
draws under the run's own seed)."""
LARGEST_BIAS = 0.03
"""A mean difference of P(A) past this, and significant, asks for draws of the steered model (STATISTICS P11)."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Distinct completions of the unsteered and of the steered model, and how often each of them drew them."""

    completions: Completions
    """``counts`` adds both."""
    draws: Int[np.ndarray, "sampler completion"]
    """By the unsteered model, by the steered one."""


def pool_completions(unsteered: Completions, steered: Completions) -> Pool:
    """The union of two sets of completions of the same prompts, cut to the window; equal texts are one row."""
    if [prompt.id for prompt in unsteered.prompts] != [prompt.id for prompt in steered.prompts]:
        raise InputError("completions of different prompts do not pool: draw both for the same prompts, in one order")
    sources, within = (unsteered, steered), unsteered.labelling.within
    draws: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    where: list[tuple[int, int]] = []
    for sampler, source in enumerate(sources):
        for row, prompt in enumerate(source.prompt_index.tolist()):
            ids = tuple(source.token_ids[row, : min(within, source.lengths[row])].tolist())
            if (prompt, ids) not in draws:
                draws[prompt, ids] = [0, 0]
                where.append((sampler, row))
            draws[prompt, ids][sampler] += int(source.counts[row])
    keys = list(draws)
    order = sorted(range(len(keys)), key=lambda k: keys[k][0])
    token_ids = np.full((len(keys), within), -1, dtype=np.int32)
    for k, place in enumerate(order):
        token_ids[k, : len(keys[place][1])] = keys[place][1]

    def gather(name: str) -> Any:
        return np.array([getattr(sources[where[k][0]], name)[where[k][1]] for k in order])

    counts = np.array([draws[keys[k]] for k in order], dtype=np.int64).reshape(-1, 2).T
    pieces = tuple(sources[where[k][0]].pieces[where[k][1]][:within] for k in order)
    lengths = gather("lengths")
    pooled = replace(
        unsteered,
        prompt_index=gather("prompt_index"),
        token_ids=token_ids,
        lengths=np.minimum(lengths, within),
        counts=counts.sum(0).astype(np.int32),
        ended=gather("ended") & (lengths <= within),
        label=gather("label"),
        answer_index=gather("answer_index"),
        logprob=np.full(token_ids.shape, np.nan),
        text=tuple("".join(cut) for cut in pieces),
        pieces=pieces,
    )
    return Pool(pooled, counts)


def top_up(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    measures: Measures,
    *,
    target: str,
    memory_budget: float | None = None,
    progress: bool = True,
) -> tuple[Measures, dict[Condition, Completions]]:
    """Mend what cannot be trusted: ``sampling.top_up`` draws of the steered model for every red prompt and condition.

    Multiplier 0, which steers nothing and checks the instrument, is left as it is.

    Args:
        model: The model.
        completions: What it said without steering; their ``sampling.top_up`` says how many draws join them.
        vectors: The vectors that the conditions name.
        measures: What the unsteered draws alone tell, of the same prompts.
        target: The answer that they are of.
        memory_budget: GiB that a pass may take; by default a quarter of the free memory.
        progress: Show a bar.

    Returns:
        The measures with the red cells' estimates, bounds and trust from the pooled draws, and those draws by
        condition. A cell that is red even so keeps its flag.
    """
    pairs = pick_letters(completions.prompts, target)
    steered = {name: values.copy() for name, values in measures.steered.items()}
    trust, drawn = measures.trust.copy(), {}
    red = [
        c
        for c, condition in enumerate(measures.conditions)
        if condition.multiplier != 0 and (measures.trust[c] == "red").any()
    ]
    options: dict[str, Any] = {"memory_budget": memory_budget, "progress": False}
    for c in tqdm(red, desc="top up", unit="condition", disable=not progress):
        condition = measures.conditions[c]
        chosen = np.flatnonzero(measures.trust[c] == "red").tolist()
        part = completions.select(chosen)
        drawn[condition] = draw_steered(model, part, vectors, condition, part.sampling.top_up, **options)
        pool = pool_completions(part, drawn[condition])
        scores = score_completions(model, pool.completions, vectors, [condition], target=target, **options)
        for k, prompt in enumerate(chosen):
            rows = pool.completions.rows_of(k)
            texts = read_texts(scores, rows, pairs[prompt])
            samplers = np.stack([texts.window["logprob"], texts.window["steered"][0]])
            draws = pool.draws[:, rows].sum(1)
            found, grade = estimate_steered(texts, weigh_completions(texts, samplers, draws.astype(np.float64)))
            for name, values in found.items():
                steered[name][c, prompt] = values[0]
            steered["n_steered"][c, prompt] = draws[1]
            steered["p_A_change_se"][c, prompt] = np.nan  # P(A) before is of the unsteered draws alone
            trust[c, prompt] = grade[0]
    return replace(measures, steered=steered, trust=trust), drawn


def draw_steered(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    condition: Condition,
    n: int,
    *,
    seed: int | None = None,
    memory_budget: float | None = None,
    progress: bool = True,
) -> Completions:
    """``n`` draws per prompt of the model under a condition, of the window alone, labelled as ``completions`` were.

    Their stream is the condition's own under ``seed``, by default that of the completions.
    """
    sampling, within = completions.sampling, completions.labelling.within
    seed = sampling.seed if seed is None else seed
    return sample_completions(
        model,
        completions.prompts,
        sampling=replace(sampling, n=n, seed=seed, max_new_tokens=min(sampling.max_new_tokens, within)),
        labelling=completions.labelling,
        vectors=vectors,
        condition=condition,
        memory_budget=memory_budget,
        progress=progress,
    )


def count_target(
    completions: Completions, target: str
) -> tuple[Int[np.ndarray, " prompt"], Int[np.ndarray, " prompt"]]:
    """Per prompt: how many draws gave the target within the window, and how many there are."""
    wanted = np.array([pair[0] for pair in pick_letters(completions.prompts, target)])
    offered = np.array([prompt.compares(target) for prompt in completions.prompts])
    index, counts, size = completions.prompt_index, completions.counts, len(completions.prompts)
    hit = (completions.label == wanted[index]) & offered[index]
    return (
        np.bincount(index, weights=counts * hit, minlength=size).astype(np.int64),
        np.bincount(index, weights=counts, minlength=size).astype(np.int64),
    )


@dataclass(frozen=True, eq=False)
class Validation:
    """P(A) under a few conditions as estimated, and the share of direct draws that gave A."""

    measures: Measures
    """What was estimated, of these conditions."""
    draws: Int[np.ndarray, "condition prompt"]
    """Of the steered model itself."""
    hits: Int[np.ndarray, "condition prompt"]
    """Those that gave the target."""

    @property
    def share(self) -> Float[np.ndarray, "condition prompt"]:
        """Of the direct draws; NaN where the prompt does not offer the target."""
        return np.where(self.measures.trust == "", np.nan, self.hits / self.draws)

    @property
    def limits(self) -> tuple[Float[np.ndarray, "condition prompt"], Float[np.ndarray, "condition prompt"]]:
        """95 % interval of the share, by Clopper and Pearson."""
        n, hits, hide = self.draws, self.hits, self.share * 0
        low = scipy_stats.beta.ppf(0.025, np.maximum(hits, 1), n - hits + 1)
        high = scipy_stats.beta.ppf(0.975, hits + 1, np.maximum(n - hits, 1))
        return np.where(hits == 0, 0.0, low) + hide, np.where(hits == n, 1.0, high) + hide

    @property
    def differences(self) -> tuple[Estimate, ...]:
        """By condition: the mean over prompts of the share less ``p_A_steered``, with its t interval over clusters."""
        clusters = np.unique([prompt.cluster for prompt in self.measures.prompts], return_inverse=True)[1]
        return mean_intervals(self.share - self.measures.steered["p_A_steered"], clusters, unit="probability")

    @property
    def biased(self) -> tuple[bool | None, ...]:
        """By condition: whether the estimate is off by more than .03 on average, and significantly so (P11).

        None where there are too few clusters for an interval.
        """
        return tuple(
            None if e.low is None or e.high is None else abs(e.value) > LARGEST_BIAS and (e.low > 0 or e.high < 0)
            for e in self.differences
        )


def validate_cells(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    measures: Measures,
    conditions: Sequence[Condition],
    *,
    target: str,
    draws: int = 50,
    memory_budget: float | None = None,
    progress: bool = True,
) -> Validation:
    """Draw from the steered model itself and count the target, beside what was estimated (STATISTICS P11).

    Args:
        model: The model.
        completions: What it said without steering: how it was drawn and labelled.
        vectors: The vectors that the conditions name.
        measures: What was estimated, of the same prompts.
        conditions: The conditions to check, among those of the measures.
        target: The answer that the measures are of.
        draws: Completions of the steered model per prompt and condition; their random numbers serve nothing else.
        memory_budget: GiB that a pass may take; by default a quarter of the free memory.
        progress: Show a bar.

    Raises:
        InputError: A condition was not measured, there is none, or the completions are not plain samples.
    """
    if not completions.sampling.is_ancestral:
        raise InputError(
            "P(A) under steering is estimated from plain samples only, and this run has others (temperature, top_p, "
            "top_k or greedy): there is nothing to check"
        )
    if draws < 1:
        raise InputError(f"draws is {draws}; at least 1 is needed")
    missing = [c for c in conditions if c not in measures.conditions]
    if missing or not conditions:
        raise InputError(f"no estimate to check for {missing[0] if missing else 'no condition'}")
    chosen = [measures.conditions.index(c) for c in conditions]
    options: dict[str, Any] = {"seed": completions.sampling.seed + SEED_OFFSET, "memory_budget": memory_budget}
    counted = [
        count_target(draw_steered(model, completions, vectors, c, draws, progress=False, **options), target)
        for c in tqdm(conditions, desc="validate", unit="condition", disable=not progress)
    ]
    part = replace(
        measures,
        conditions=tuple(conditions),
        steered={name: values[chosen] for name, values in measures.steered.items()},
        trust=measures.trust[chosen],
    )
    return Validation(part, draws=np.stack([n for _, n in counted]), hits=np.stack([n for n, _ in counted]))


def pick_cells(
    measures: Measures, *, layers: Sequence[int] = (), multipliers: Sequence[float] = ()
) -> tuple[Condition, ...]:
    """The target vector's cells of some layers with some multipliers; of all where none is named.

    Raises:
        InputError: There is none.
    """
    cells = [c for c in measures.conditions if c.kind == "target"]
    chosen = [c for c in cells if not layers or c.layer in layers]
    chosen = [c for c in chosen if not multipliers or c.multiplier in multipliers]
    if not chosen:
        known = ", ".join(f"{c.layer}:{c.multiplier:+g}" for c in cells)
        raise InputError(f"the run has no such cell of the target vector; its cells (layer:multiplier): {known}")
    return tuple(chosen)


def choose_cells(measures: Measures, *, best: Condition) -> tuple[Condition, ...]:
    """The cells worth a check: the one to be reported, the one trusted least, and the best one's opposite.

    The second has the most red prompts among the target vector's cells (among equals, the fewest effective draws).
    Without an opposite multiplier the third is the next one trusted least.
    """
    cells = [c for c in measures.conditions if c.kind == "target" and c.multiplier != 0 and c != best]

    def doubt(c: Condition) -> tuple[float, float]:
        place = measures.conditions.index(c)
        return float((measures.trust[place] == "red").sum()), -float(np.nansum(measures.steered["ess"][place]))

    others = sorted(cells, key=doubt, reverse=True)
    opposite = [c for c in others if replace(c, multiplier=-c.multiplier) == best]
    return tuple(dict.fromkeys([best, *others[:1], *opposite, *others[1:2]]))[:3]
