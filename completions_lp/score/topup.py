"""Draws of the steered model that join the unsteered ones where these tell too little.

The estimates of P(A) under steering come from completions of the unsteered model. Where trust in them is red, a few
completions of the steered model join them: both sets are scored under both models and weighted by the balance heuristic
(numbers.md §13), so that no branch which steering makes likely can hide. The log-prob increase of the A-sequences and
the divergences stay on the unsteered draws alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from completions_lp.model import Model
from completions_lp.records import (
    Completions,
    Condition,
    InputError,
    Measures,
    NotFinite,
    OutOfRoom,
    SteeringVector,
    Through,
    TokenScores,
    pick_letters,
)
from completions_lp.sample.draws import draw_steered
from completions_lp.score.grid import score_tokens
from completions_lp.score.measures import estimate_mediation, estimate_steered, read_texts, weigh_completions
from completions_lp.score.windows import Pool, Windows

Draw = Callable[[Completions, Condition], Completions]
Score = Callable[[Completions, Condition], TokenScores]
Ahead = Callable[[Iterable[tuple[Completions, Condition]]], object]


def pool_completions(unsteered: Completions, steered: Completions) -> Pool:
    """The union of two sets of completions of the same prompts, cut to the window; equal texts are one row."""
    if [prompt.id for prompt in unsteered.prompts] != [prompt.id for prompt in steered.prompts]:
        raise InputError("completions of different prompts do not pool: draw both for the same prompts, in one order")
    sources, within = (unsteered, steered), unsteered.window
    found: dict[tuple[int, tuple[int, ...]], tuple[Completions, int, list[int]]] = {}
    for sampler, source in enumerate(sources):
        for row, prompt in enumerate(source.prompt_index.tolist()):
            ids = tuple(source.token_ids[row, : min(within, source.lengths[row])].tolist())
            found.setdefault((prompt, ids), (source, row, [0, 0]))[2][sampler] += int(source.counts[row])
    keys = sorted(found, key=lambda key: key[0])
    token_ids = np.full((len(keys), within), -1, dtype=np.int32)
    for k, (_, ids) in enumerate(keys):
        token_ids[k, : len(ids)] = ids
    texts = [found[key] for key in keys]

    def gather(name: str) -> Any:
        return np.array([getattr(source, name)[row] for source, row, _ in texts])

    places = np.full(len(keys), -1)
    for k, (source, row, _) in enumerate(texts):
        if source is unsteered:
            places[k] = np.searchsorted(unsteered.rows_of(keys[k][0]), row)
    counts = np.array([draws for _, _, draws in texts], dtype=np.int64).reshape(-1, 2).T
    pieces = tuple(source.pieces[row][:within] for source, row, _ in texts)
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
        seed_counts=None,
        reasoning=None,
    )
    return Pool(pooled, counts, places)


def top_up(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    measures: Measures,
    *,
    target: str,
    through: Through = "end",
    memory_budget: float | None = None,
    progress: bool = True,
) -> tuple[Measures, dict[Condition, Completions]]:
    """Mend what cannot be trusted: ``sampling.top_up`` draws of the steered model for every red prompt and condition.

    Multiplier 0, which steers nothing and checks the instrument, is left as it is. ``measures`` are what the unsteered
    ``completions`` alone tell of ``target``; the options are those of ``score_completions``.

    Returns:
        The measures with the red cells' estimates, bounds and trust from the pooled draws, and those draws by
        condition. A cell that is red even so keeps its flag.
    """
    options: dict[str, Any] = {"memory_budget": memory_budget, "progress": False}

    def draw(part: Completions, condition: Condition) -> Completions:
        return draw_steered(model, part, vectors, condition, part.sampling.top_up, **options)

    def score(pool: Completions, condition: Condition) -> TokenScores:
        return score_tokens(model, pool, vectors, [condition], target=target, through=through, **options)

    return mend_measures(completions, measures, draw, score, target=target, progress=progress)


def mend_measures(
    completions: Completions,
    measures: Measures,
    draw: Draw,
    score: Score,
    *,
    target: str,
    windows: Windows | None = None,
    ahead: tuple[Ahead, Ahead] | None = None,
    progress: bool = True,
) -> tuple[Measures, dict[Condition, Completions]]:
    """As ``top_up``, with what draws completions of some prompts under a condition, and what scores a pool of them.

    Unsteered completions are not scored again where ``windows`` has kept their scores. ``ahead`` are told of all that
    will be drawn, and then of all that will be scored, before the first of it is asked for.
    """
    pairs = pick_letters(completions.prompts, target)
    steered = {name: values.copy() for name, values in measures.steered.items()}
    trust, drawn = measures.trust.copy(), {}
    is_red = measures.trust == "red"
    red = [
        c
        for c, condition in enumerate(measures.conditions)
        if not condition.is_neutral and condition.kind != "rounding" and is_red[c].any()
    ]
    if ahead is not None:
        cells = [(measures.conditions[c], np.flatnonzero(is_red[c]).tolist()) for c in red]
        _look_ahead(completions, cells, draw, windows, ahead)
    for c in tqdm(red, desc="top up", unit="condition", disable=not progress):
        condition = measures.conditions[c]
        chosen, part, said = _draw_sound(completions, np.flatnonzero(is_red[c]).tolist(), condition, draw)
        if said is None:
            continue
        drawn[condition] = said
        pool = pool_completions(part, said)
        scores = score(pool.completions, condition) if windows is None else windows.score(pool, condition, score)
        for k, prompt in enumerate(chosen):
            rows = pool.completions.rows_of(k)
            texts = read_texts(scores, rows, pairs[prompt])
            samplers = np.stack([texts.window["logprob"], texts.window["steered"][0]])
            draws = pool.draws[:, rows].sum(1).astype(np.float64)
            found, grade = estimate_steered(texts, weigh_completions(texts, samplers, draws))
            for name, values in {**found, **estimate_mediation(texts, samplers, draws)}.items():
                steered[name][c, prompt] = values[0]
            steered["n_steered"][c, prompt] = draws[1]
            steered["p_A_change_se"][c, prompt] = np.nan  # P(A) before is of the unsteered draws alone
            trust[c, prompt] = grade[0]
    return replace(measures, steered=steered, trust=trust), drawn


def _look_ahead(
    completions: Completions,
    red: Sequence[tuple[Condition, list[int]]],
    draw: Draw,
    windows: Windows | None,
    ahead: tuple[Ahead, Ahead],
) -> None:
    """Tell of all draws, and once they are there of all scores, of some prompts under each condition."""
    ahead[0]((completions.select(chosen), condition) for condition, chosen in red)

    def list_pools() -> Iterator[tuple[Completions, Condition]]:
        for condition, chosen in red:
            _, part, said = _draw_sound(completions, chosen, condition, draw)
            if said is not None:
                pool = pool_completions(part, said)
                yield pool.completions if windows is None else windows.pick_new(pool), condition

    ahead[1](list_pools())


def _draw_sound(
    completions: Completions,
    chosen: list[int],
    condition: Condition,
    draw: Draw,
) -> tuple[list[int], Completions, Completions | None]:
    """Draws of those prompts for which the steered model can be drawn from; the others stay as they are."""
    while chosen:
        part = completions.select(chosen)
        try:
            return chosen, part, draw(part, condition)
        except (NotFinite, OutOfRoom) as error:
            left = [i for i in chosen if completions.prompts[i].id != error.prompt_id]
            if len(left) == len(chosen):
                raise
            chosen = left
    return [], completions, None
