"""Draws from the steered model, against the slow twin: plain hooks, one sample at a time, a full forward per token."""

import dataclasses

import numpy as np
import pytest
import reference
import scipy.stats
import torch
from conftest import make_prompts, make_vector
from test_sampling import draws_of, sample

from completions_lp.model import RowDecoder, Steering, TreeDecoder
from completions_lp.records import BASELINE, Condition, InputError, Sampling
from completions_lp.sample import draws as module_of_sampling
from completions_lp.sample.streams import draw_uniforms
from completions_lp.score.grid import score_tokens


def steer(layer=1, multiplier=1.0, positions="completion", vector="v"):
    return Condition(vector, "target", layer, multiplier, positions)


def slow(vector, condition):
    """What the slow twins are told of a condition."""
    added = condition.multiplier * vector.directions[condition.layer]
    return {"layer": condition.layer, "added": added, "positions": condition.positions}


def same_draws(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("prompt_index", "token_ids", "counts")
    )


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("positions", ["completion", "all"])
@pytest.mark.parametrize(
    ("architecture", "layer"), [("llama", 0), ("gpt2", 1), ("neox", 1), ("gemma2", 1), ("mistral", 0)]
)
@pytest.mark.usefixtures("exact_softmax")
def test_draws_and_log_probs_equal_the_slow_twin(build_model, architecture, layer, positions, engine):
    """Same uniform numbers: the same token ids, and the log probs of the steered model, in float64."""
    model = build_model(architecture, dtype=torch.float64)
    vector, condition = make_vector(model), steer(layer, -1.5, positions)
    prompts, drawing = make_prompts((5, 1, 9)), Sampling(n=6, max_new_tokens=5, temperature=0.7, seed=3)
    completions = sample(model, prompts, drawing, vectors=[vector], condition=condition, engine=engine)
    assert 3 < len(completions) <= 18
    options = slow(vector, condition)
    for i, prompt in enumerate(prompts):
        ids, uniforms = prompt.token_ids, draw_uniforms(prompt.id, drawing, condition)
        want = [
            tuple(reference.sample(model.module, ids, u, eos_ids=model.eos_ids, temperature=0.7, **options))
            for u in uniforms
        ]
        assert draws_of(completions, i) == {said: want.count(said) for said in want}
        assert list(draws_of(completions, i)) == list(dict.fromkeys(want))
    for row, length in enumerate(completions.lengths):
        ids = prompts[completions.prompt_index[row]].token_ids
        want = reference.score(model.module, ids, completions.token_ids[row, :length].tolist(), **options)
        np.testing.assert_allclose(completions.logprob[row, :length], want, atol=1e-9)
        assert np.isnan(completions.logprob[row, length:]).all()


@pytest.mark.parametrize("positions", ["completion", "all"])
@pytest.mark.usefixtures("exact_softmax")
def test_log_probs_are_those_that_scoring_gives(build_model, positions):
    """Ancestral draws have a log prob of their own making: it is the condition's score, and not the baseline."""
    model = build_model("gemma2", dtype=torch.float64)
    vector, condition = make_vector(model), steer(1, 1.0, positions)
    completions = sample(model, make_prompts(), Sampling(n=8, max_new_tokens=5), vectors=[vector], condition=condition)
    for engine in ("tree", "rows"):
        scores = score_tokens(model, completions, [vector], [condition], engine=engine, progress=False)
        np.testing.assert_allclose(completions.logprob, scores.logprob[0], atol=1e-9)
        assert np.nanmax(np.abs(completions.logprob - scores.baseline)) > 0.1


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("positions", ["completion", "all"])
def test_multiplier_0_is_the_unsteered_model(build_model, monkeypatch, positions, engine):
    """Under the unsteered uniform numbers it draws the unsteered ids."""
    model = build_model("llama", dtype=torch.float64)
    prompts, drawing = make_prompts(), Sampling(n=10, max_new_tokens=5)
    plain = sample(model, prompts, drawing, engine=engine)
    for unsteered in (None, BASELINE):
        assert same_draws(sample(model, prompts, drawing, condition=unsteered, engine=engine), plain)
    monkeypatch.setattr(
        module_of_sampling, "draw_uniforms", lambda prompt_id, drawing, _condition: draw_uniforms(prompt_id, drawing)
    )
    options = {"vectors": [make_vector(model)], "engine": engine}
    zero = sample(model, prompts, drawing, condition=steer(1, 0.0, positions), **options)
    assert same_draws(zero, plain)
    np.testing.assert_allclose(zero.logprob, plain.logprob, atol=1e-12)
    assert not same_draws(sample(model, prompts, drawing, condition=steer(1, 1.0, positions), **options), plain)


def test_every_condition_has_a_stream_of_its_own():
    """It is named by seed, prompt and each part of the condition; the unsteered one is the one it has always been."""
    drawing = Sampling(n=2, max_new_tokens=3, seed=3)
    unsteered = [
        [0.10325154603633546, 0.5325469628304692, 0.1796895342442908],
        [0.5515880945202976, 0.7067907688626683, 0.2552537564796138],
    ]
    assert draw_uniforms("p0", drawing).tolist() == unsteered
    assert draw_uniforms("p0", drawing, BASELINE).tolist() == unsteered
    names = [
        ("p0", 3, steer()),
        ("p1", 3, steer()),
        ("p0", 4, steer()),
        ("p0", 3, steer(layer=2)),
        ("p0", 3, steer(multiplier=-1.0)),
        ("p0", 3, steer(multiplier=0.0)),
        ("p0", 3, steer(positions="all")),
        ("p0", 3, steer(vector="w")),
    ]
    streams = [
        draw_uniforms(prompt, dataclasses.replace(drawing, seed=seed), condition) for prompt, seed, condition in names
    ]
    values = {float(u) for stream in [*streams, np.array(unsteered)] for u in stream.ravel()}
    assert len(values) == 6 * (1 + len(names))
    for (prompt, seed, condition), stream in zip(names, streams, strict=True):
        again = draw_uniforms(prompt, dataclasses.replace(drawing, seed=seed), condition)
        assert np.array_equal(again, stream)
    assert np.array_equal(draw_uniforms("p0", drawing, steer(multiplier=-0.0)), streams[5])  # equal conditions
    assert np.array_equal(draw_uniforms("p0", dataclasses.replace(drawing, n=1), steer()), streams[0][:1])


def test_streams_of_conditions_are_uncorrelated():
    drawing = Sampling(n=20_000, max_new_tokens=1)
    conditions = [BASELINE, steer(), steer(layer=2), steer(multiplier=2.0), steer(positions="all"), steer(vector="w")]
    correlation = np.corrcoef([draw_uniforms("p0", drawing, condition)[:, 0] for condition in conditions])
    assert np.abs(correlation - np.eye(len(conditions))).max() < 4 / np.sqrt(drawing.n)


def test_steered_draws_are_their_own_and_come_again(build_model):
    """Conditions differ from each other and from the unsteered draws even where the model is the same."""
    model = build_model("llama")
    vectors = [make_vector(model), make_vector(model, name="w")]  # the same directions under two names
    prompts, drawing = make_prompts((5,)), Sampling(n=20, max_new_tokens=5)
    conditions = [None, steer(0, 0.0), steer(1, 0.0), steer(1, 1.0), steer(1, 1.0, vector="w"), steer(1, 1.0, "all")]
    drawn = [sample(model, prompts, drawing, vectors=vectors, condition=condition) for condition in conditions]
    for i, one in enumerate(drawn):
        assert not any(same_draws(one, other) for other in drawn[:i])
        assert same_draws(one, sample(model, prompts, drawing, vectors=vectors[::-1], condition=conditions[i]))
    other_seed = sample(model, prompts, dataclasses.replace(drawing, seed=1), vectors=vectors, condition=conditions[3])
    assert not same_draws(other_seed, drawn[3])


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("positions", ["completion", "all"])
def test_a_prompts_steered_draws_depend_on_nothing_else(build_model, positions, engine):
    model = build_model("llama", dtype=torch.float64)
    prompts, drawing = make_prompts((5, 2, 8, 1)), Sampling(n=8, max_new_tokens=4)
    options = {"vectors": [make_vector(model)], "condition": steer(1, 1.0, positions), "engine": engine}
    together = sample(model, prompts, drawing, **options)
    for changes in ({"batch_size": 1}, {"batch_size": 3}, {"memory_budget": 1e-6}):
        assert same_draws(sample(model, prompts, drawing, **options, **changes), together)
    backwards = sample(model, prompts[::-1], drawing, **options)
    alone = sample(model, prompts[2:3], drawing, **options)
    for i in range(4):
        assert draws_of(backwards, 3 - i) == draws_of(together, i)
    assert draws_of(alone, 0) == draws_of(together, 2)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (steer(vector="nobody"), "a condition names vector 'nobody'; there are v"),
        (steer(layer=3), "layer 3 is out of range: llama has layers 0 to 2"),
        (steer(layer=-1), "layer -1 is out of range"),
        (steer(layer=2), "vector 'v' has no layer 2; it has layers 0, 1"),
    ],
)
def test_conditions_that_cannot_be_computed_say_what_is_wrong(build_model, condition, message):
    model = build_model("llama")
    vector = make_vector(model)
    vector = dataclasses.replace(vector, directions={layer: vector.directions[layer] for layer in (0, 1)})
    with pytest.raises(InputError, match=message):
        sample(model, make_prompts(), Sampling(n=2, max_new_tokens=2), vectors=[vector], condition=condition)


def test_vectors_that_do_not_fit_or_are_not_there_say_so(build_model):
    model = build_model("llama")
    drawing = Sampling(n=2, max_new_tokens=2)
    with pytest.raises(InputError, match="a condition names vector 'v'; there are none"):
        sample(model, make_prompts(), drawing, condition=steer())
    short = dataclasses.replace(make_vector(model), directions={1: np.ones(4)})
    with pytest.raises(InputError, match="vector 'v' has size 4, but the residual stream of llama has 32"):
        sample(model, make_prompts(), drawing, vectors=[short], condition=steer())


@pytest.mark.parametrize("positions", ["completion", "all"])
def test_frequencies_match_the_exact_steered_distribution(build_model, positions):
    """A vocabulary of 6 and 2 new tokens can be enumerated: a chi-squared test of 20,000 draws against it."""
    model = build_model("llama", vocab_size=6, scale=2.0)
    vector, condition = make_vector(model, size=1.0), steer(1, 1.0, positions)
    (prompt,) = make_prompts((4,), vocab=6)
    n, twin = 20_000, {"steps": 2, "eos_ids": model.eos_ids}
    exact = reference.enumerate_completions(model.module, prompt.token_ids, **twin, **slow(vector, condition))
    plain = reference.enumerate_completions(model.module, prompt.token_ids, **twin)
    assert sum(exact.values()) == pytest.approx(1)
    completions = sample(
        model, [prompt], Sampling(n=n, max_new_tokens=2, seed=5), vectors=[vector], condition=condition
    )
    drawn = draws_of(completions, 0)
    assert set(drawn) <= set(exact)

    def pvalue(probabilities):
        expected = n * np.array([probabilities[ids] for ids in exact])
        observed = np.array([drawn.get(ids, 0) for ids in exact])
        rare = expected < 5  # the chi-squared distribution needs cells of 5 and more: the rare ones are one cell
        if rare.any():
            observed, expected = (np.append(cells[~rare], cells[rare].sum()) for cells in (observed, expected))
        return scipy.stats.chisquare(observed, expected).pvalue

    assert pvalue(exact) > 1e-3
    assert pvalue(plain) < 1e-9


@pytest.mark.parametrize("positions", ["completion", "all"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral"])
def test_both_decoders_give_the_same_steered_logits_while_prompts_branch(build_model, architecture, positions):
    """Two prompts that branch widely: whatever the rows hold, every new node is steered once."""
    model = build_model(architecture, dtype=torch.float64)
    prompts = [prompt.token_ids for prompt in make_prompts((7, 1))]
    steering = Steering.under(model, {"v": make_vector(model)}, [steer(1, 1.0, positions)])
    tree, rows = (decoder(model, prompts, steering=steering) for decoder in (TreeDecoder, RowDecoder))
    rng = np.random.default_rng(0)
    prompt, parent, token = [0, 1], [0, 0], [ids[-1] for ids in prompts]
    for branches in (4, 2, 1):
        one, two = (torch.cat([logits for _, logits in d.step(prompt, parent, token)]) for d in (tree, rows))
        np.testing.assert_allclose(one, two, atol=1e-9)
        parent = [node for node in range(len(token)) for _ in range(branches)]
        prompt, token = [prompt[node] for node in parent], rng.integers(2, 320, size=len(parent)).tolist()
