"""A top-up finds the scores of unsteered completions, and scores only what the steered model alone has drawn."""

import dataclasses

import numpy as np
import pytest
from conftest import make_vector
from test_validating import make_model, say

from completions_lp.records import Sampling
from completions_lp.sample.draws import draw_steered
from completions_lp.score.grid import score_tokens
from completions_lp.score.parts import reduce_scores
from completions_lp.score.topup import mend_measures, pool_completions
from completions_lp.score.windows import Windows
from completions_lp.steer.conditions import make_conditions


@pytest.mark.parametrize("rule", ["token", "regex", "final_answer"])
def test_kept_scores_mend_as_new_ones_do(build_model, rule):
    model, marks, prompts = make_model(build_model)
    vector = make_vector(model, size=3.0)
    conditions = make_conditions([vector], layers=[1], multipliers=(-1.0, 0.0, 1.0))
    completions = say(model, prompts, Sampling(n=30, max_new_tokens=3, seed=2, top_up=40), rule)
    windows, scored = Windows(), []

    def score_all(part):
        return score_tokens(model, part, [vector], conditions, target=marks[0], progress=False)

    def draw(part, condition):
        return draw_steered(model, part, [vector], condition, 40, progress=False)

    def score(pool, condition):
        scored.append(pool)
        return score_tokens(model, pool, [vector], [condition], target=marks[0], progress=False)

    found = reduce_scores(
        completions, conditions, lambda part: (score_all(part), None), target=marks[0], kl=False
    ).measures
    red = dataclasses.replace(found, trust=np.full(found.trust.shape, "red"))
    windows.keep(score_all(completions), red)
    options = {"target": marks[0], "progress": False}
    whole, _ = mend_measures(completions, red, draw, score, **options)
    pools, scored[:] = list(scored), []
    kept, drawn = mend_measures(completions, red, draw, score, windows=windows, **options)
    for name, values in whole.steered.items():
        np.testing.assert_allclose(kept.steered[name], values, rtol=0, atol=1e-5, err_msg=name)
    assert (kept.trust == whole.trust).all()
    for steered, pool, new in zip(drawn.values(), pools, scored, strict=True):
        places = pool_completions(completions, steered).places
        assert len(pool) == len(places)
        assert len(new) == max(1, (places < 0).sum()) < len(pool)


def test_places_are_those_of_the_beginnings(build_model):
    model, _, prompts = make_model(build_model)
    vector = make_vector(model, size=3.0)
    completions = say(model, prompts, Sampling(n=30, max_new_tokens=3, seed=2), "token")
    condition = make_conditions([vector], layers=[1], multipliers=(1.0,))[0]
    pool = pool_completions(completions, draw_steered(model, completions, [vector], condition, 40, progress=False))
    within = completions.labelling.within
    assert (pool.places[pool.draws[0] == 0] == -1).all()
    for row in np.flatnonzero(pool.draws[0]):
        source = completions.rows_of(int(pool.completions.prompt_index[row]))[pool.places[row]]
        ours, theirs = pool.completions.token_ids[row], completions.token_ids[source, :within]
        assert ours[: len(theirs)].tolist() == theirs.tolist()
