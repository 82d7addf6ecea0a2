"""Completions x conditions -> Increases, Measures and Profile: scored in parts, each reduced before its tokens go.

The scores of single tokens are large (conditions x completions x tokens) and everything that a report needs of them is
a few numbers per completion or per prompt. So prompts are scored in parts that fit in memory; tokens that are to be
kept leave through ``keep``.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from completions_lp.model import Model
from completions_lp.records import (
    Completions,
    Condition,
    Increases,
    Measures,
    Profile,
    Readings,
    Scores,
    SteeringVector,
    Through,
    TokenIncreases,
    TokenScores,
    pick_letters,
)
from completions_lp.score.grid import score_places
from completions_lp.score.measures import measure_completions
from completions_lp.score.places import Place
from completions_lp.score.profile import profile_tokens
from completions_lp.score.readings import Scored, score_endings
from completions_lp.score.sums import sum_tokens
from completions_lp.score.windows import Windows
from completions_lp.stats import choose_best_cell, start_stream

PART = 2**27
"""Numbers held at once, of all that is read at single tokens: 512 MiB in float32."""
CHOSEN = 8
"""Conditions whose tokens are kept where not all are."""

Keep = Callable[[TokenScores], None]


def score_completions(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    conditions: Sequence[Condition],
    *,
    target: str = "matching",
    kl: bool = True,
    through: Through = "end",
    readings: bool = False,
    cue: str = "",
    keep: Keep | None = None,
    keep_all: bool = False,
    memory_budget: float | None = None,
    progress: bool = True,
) -> Scores:
    """Score completions under every condition and reduce the scores, part by part.

    The measures are of ``target``, a letter, or ``"matching"``; with ``kl`` entropies and divergences are read too.
    Completions are scored ``through`` their ``"end"``; or, which is all that P(A) and the increase to the answer need,
    through the ``"window"`` (``Labelling.within``), or their ``"answer"`` and without one the window. What is over
    whole completions (``quantities.WHOLE``) is missing then, and so divergences are not read. With ``readings`` all
    answers are read at the end of each completion's reasoning, behind a ``cue``, in the same passes. ``keep`` gets the
    scores of every part, of all conditions with ``keep_all``, else of a few: the vector and layer of the first part's
    best cell, at its 8 smallest multipliers. A pass may take ``memory_budget`` GiB, by default a quarter of the free
    memory.

    Raises:
        InputError: As ``score_tokens``.
    """
    pick_letters(completions.prompts, target)
    kl = reads_divergences(through, kl=kl)
    options: dict[str, Any] = {"kl": kl, "through": through, "memory_budget": memory_budget}
    total = len(completions) * max(1, len(conditions))
    with tqdm(total=total, desc="score", unit="row", disable=not progress) as bar:

        def score(part: Completions) -> Scored:
            # Prompts without the target are read for their own two answers, and no part may be without a target.
            read = target if any(prompt.offers(target) for prompt in part.prompts) else "matching"
            asked: dict[str, Any] = {"target": read, "advance": bar.update, **options}

            def work(places: Sequence[Place]) -> Any:
                return score_places(model, part, places, vectors, conditions, **asked)

            return score_endings(part, work, model.tokenizer if readings else None, cue=cue, through=through)

        return reduce_scores(completions, conditions, score, target=target, kl=kl, keep=keep, keep_all=keep_all)


def reads_divergences(through: Through, *, kl: bool) -> bool:
    """Whether entropies and divergences are read where they are asked for: all that is made of them is over texts."""
    return kl and through == "end"


def reduce_scores(
    completions: Completions,
    conditions: Sequence[Condition],
    score: Callable[[Completions], Scored],
    *,
    target: str,
    kl: bool,
    keep: Keep | None = None,
    keep_all: bool = False,
    windows: Windows | None = None,
) -> Scores:
    """Reduce what ``score`` gives of some completions under all conditions, part by part; as ``score_completions``.

    ``windows`` keep what a top-up will ask for.
    """
    increases, measures, profiles, read = [], [], [], []
    several = 0 if completions.seed_counts is None else completions.seed_counts.shape[1]
    by_seed: list[list[Measures]] = [[] for _ in range(several)]
    chosen: list[int] | None = None
    tokens: list[Float[np.ndarray, "condition completion token"]] = []
    parts = 0
    for part in split_completions(completions, len(conditions), kl=kl):
        parts += 1
        scores, readings = score(part)
        increases.append(sum_tokens(scores))
        measures.append(measure_completions(scores, target=target))
        profiles.append(profile_tokens(scores, target=target))
        for seed, found in enumerate(by_seed):
            found.append(measure_completions(scores, target=target, seed=seed))
        read += [] if readings is None else [readings]
        if windows is not None:
            windows.keep(scores, measures[-1])
        chosen = choose_conditions(measures[-1], seed=completions.sampling.seed) if chosen is None else chosen
        tokens.append(scores.increase[chosen].astype(np.float32))
        if keep is not None:
            keep(scores if keep_all else scores.select(chosen))
    rows = np.concatenate([completions.rows_of(i) for i in range(len(completions.prompts))]).astype(np.int64)
    kept = np.empty((len(chosen or ()), *completions.token_ids.shape), dtype=np.float32)
    kept[:, np.arange(len(completions)) if parts == 1 else rows] = np.concatenate(tokens, axis=1)
    return Scores(
        Increases.join(completions, increases),
        Measures.join(measures),
        Profile.join(profiles),
        TokenIncreases(tuple(conditions[c] for c in chosen or ()), kept),
        Readings.join(completions, read) if read else None,
        tuple(map(Measures.join, by_seed)),
    )


def split_completions(completions: Completions, n_conditions: int, *, kl: bool) -> Iterator[Completions]:
    """The completions in parts, by prompts in a row, of which the scores fit in memory one after the other."""
    parts = list(_split_prompts(completions, n_conditions, kl=kl))
    for prompts in parts:
        yield completions if len(parts) == 1 else completions.select(prompts)


def choose_conditions(measures: Measures, *, seed: int = 0) -> list[int]:
    """Conditions whose tokens are kept: vector and layer of the best change of P(A), at the smallest multipliers."""
    conditions = measures.conditions
    sound = np.atleast_1d(~np.any(measures.steered["n_broken"] > 0, axis=-1))
    cells = [c for c, cell in enumerate(conditions) if cell.kind == "target" and not cell.is_neutral and sound[c]]
    change = (measures.steered["p_A_steered"] - measures.unsteered["p_A"])[cells]
    clusters = np.unique([prompt.cluster for prompt in measures.prompts], return_inverse=True)[1]
    multipliers = [conditions[c].multiplier for c in cells]
    chosen = choose_best_cell(change, clusters, multipliers, rng=start_stream(seed, "halves")) if cells else None
    if chosen is None:
        return (cells or list(range(len(conditions))))[:CHOSEN]
    place = conditions[cells[chosen.cell]].without_dose
    same = [c for c in cells if conditions[c].without_dose == place]
    return sorted(sorted(same, key=lambda c: abs(conditions[c].multiplier))[:CHOSEN])


def _split_prompts(completions: Completions, n_conditions: int, *, kl: bool) -> Iterator[list[int]]:
    """Runs of prompts whose scores fit; at least one prompt each, and one with completions where there is any."""
    width = completions.token_ids.shape[1] * max(1, n_conditions) * (3 + 2 * kl)
    sizes = np.bincount(completions.prompt_index, minlength=len(completions.prompts)) * width
    part: list[int] = []
    held = 0
    for prompt, size in enumerate(sizes.tolist()):
        if held and size and held + size > PART:
            yield part
            part, held = [], 0
        part.append(prompt)
        held += size
    yield part
