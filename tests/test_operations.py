"""What is done along a vector, at which layers and tokens: every way through the network against its definition."""

import dataclasses

import numpy as np
import pytest
import reference
import torch
from conftest import ARCHITECTURES, make_prompts, make_vector, random_completions
from families import make_family

from completions_lp.model import wrap_model
from completions_lp.model.wavefront import Wavefront
from completions_lp.records import Condition, InputError, Sampling, Span, find_edit
from completions_lp.sample.draws import sample_completions
from completions_lp.score.grid import score_tokens
from completions_lp.steer.conditions import make_conditions
from completions_lp.work.keys import key_condition

POSITIONS = ("completion", "all", "prompt", "first:1", "first:2")


def make_spanned(model, *, seed=3, name="v"):
    """A vector whose texts lie somewhere along it, with another name and other directions for another seed."""
    vector = make_vector(model, name=name, seed=seed, size=0.5)
    rng = np.random.default_rng(seed)
    spans = {layer: Span(*rng.normal(size=2)) for layer in vector.directions}
    return type(vector)(vector.name, vector.kind, vector.directions, spans=spans)


def mix(model, vectors, positions=POSITIONS):
    """Every operation at single layers and groups, under several vectors, at all these positions."""
    one, other = vectors
    last = model.n_layers - 1
    ways = [
        ("add", (0,), 1.0, one),
        ("ablate", (0,), 1.0, one),
        ("ablate", (last,), 2.0, other),
        ("clamp", (last,), -0.5, one),
        ("clamp", (0,), 0.0, other),
        ("add", (0, last), -1.0, other),
        ("ablate", tuple(range(model.n_layers)), 0.5, other),
        ("clamp", (0, last), 1.0, one),
    ]
    return [
        Condition(vector.name, vector.kind, layers[0], multiplier, place, operation, layers[1:])
        for place in positions
        for operation, layers, multiplier, vector in ways
    ]


def slow(model, completions, vectors, condition, row):
    by_name = {vector.name: vector for vector in vectors}
    prompt = completions.prompts[completions.prompt_index[row]].token_ids
    said = completions.token_ids[row, : completions.lengths[row]].tolist()
    return reference.score_under(model.module, prompt, said, condition, by_name[condition.vector])


@pytest.fixture(scope="module")
def completions():
    return random_completions(make_prompts((7, 3)), per_prompt=2)


@pytest.mark.parametrize("engine", ["auto", "rows"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_mixed_conditions_score_as_their_definitions_say(build_model, architecture, engine, completions):
    model = build_model(architecture, dtype=torch.float64)
    vectors = [make_spanned(model), make_spanned(model, seed=4, name="w")]
    conditions = mix(model, vectors)
    scores = score_tokens(model, completions, vectors, conditions, engine=engine, progress=False)
    for row in range(len(completions)):
        for c, condition in enumerate(conditions):
            truth = slow(model, completions, vectors, condition, row)
            np.testing.assert_allclose(scores.logprob[c, row, : len(truth)], truth, atol=1e-9, err_msg=condition.place)
    size = np.nanmax(np.abs(scores.increase), axis=(1, 2))
    assert (size > 1e-4).all(), "a condition that changes nothing would prove nothing"


def test_one_wavefront_takes_all_positions_together(build_model, completions):
    model = build_model("llama", dtype=torch.float64)
    vectors = [make_spanned(model), make_spanned(model, seed=4, name="w")]
    conditions = mix(model, vectors)[::-1]
    said = [
        [completions.token_ids[row, : completions.lengths[row]].tolist() for row in completions.rows_of(i)]
        for i in (0, 1)
    ]
    front = Wavefront(model, [prompt.token_ids for prompt in completions.prompts], said, whole=True)
    before = model.usage.passes
    found = front.score({vector.name: vector for vector in vectors}, conditions)
    assert model.usage.passes - before == 1
    for i, reduced in enumerate(found):
        for k, row in enumerate(completions.rows_of(i)):
            for c, condition in enumerate(conditions):
                truth = slow(model, completions, vectors, condition, row)
                np.testing.assert_allclose(reduced.logprob[1 + c, k, : len(truth)], truth, atol=1e-9)
    short = Wavefront(model, [prompt.token_ids for prompt in completions.prompts], said, whole=False)
    with pytest.raises(ValueError, match="act on prompts"):
        short.score({vector.name: vector for vector in vectors}, conditions)


@pytest.mark.parametrize("engine", ["auto", "rows"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_draws_have_the_log_probs_of_their_condition(build_model, architecture, engine):
    model = build_model(architecture, dtype=torch.float64)
    vectors = [make_spanned(model), make_spanned(model, seed=4, name="w")]
    sampling = Sampling(n=3, max_new_tokens=4, seed=0)
    for condition in mix(model, vectors)[1::3]:
        drawn = sample_completions(
            model,
            make_prompts((6, 3)),
            sampling=sampling,
            vectors=vectors,
            condition=condition,
            engine=engine,
            progress=False,
        )
        for row in range(len(drawn)):
            truth = slow(model, drawn, vectors, condition, row)
            np.testing.assert_allclose(drawn.logprob[row, : len(truth)], truth, atol=1e-9, err_msg=condition.place)


def test_models_that_remember_no_keys_are_steered_as_far_as_asked(tokenizer, completions):
    """Their texts go through again at each step, prompt and all."""
    model = wrap_model(make_family("mamba"), tokenizer, name="mamba")
    vectors = [make_spanned(model), make_spanned(model, seed=4, name="w")]
    conditions = mix(model, vectors)[::3]
    scores = score_tokens(model, completions, vectors, conditions, engine="rows", progress=False)
    sampling, condition = (
        Sampling(n=2, max_new_tokens=3, seed=0),
        next(c for c in conditions if c.positions == "first:2"),
    )
    drawn = sample_completions(
        model,
        completions.prompts,
        sampling=sampling,
        vectors=vectors,
        condition=condition,
        engine="rows",
        progress=False,
    )
    for row in range(len(completions)):
        for c, one in enumerate(conditions):
            truth = slow(model, completions, vectors, one, row)
            np.testing.assert_allclose(scores.logprob[c, row, : len(truth)], truth, atol=5e-4)
        truth = slow(model, drawn, vectors, condition, row)
        np.testing.assert_allclose(drawn.logprob[row, : len(truth)], truth, atol=5e-4)


def test_a_condition_costs_the_layers_above_its_lowest(build_model, completions):
    """Rows of a group enter where its lowest layer is, and no earlier."""
    model = build_model("llama")
    vector = make_spanned(model)
    seen = []
    handles = [
        block._module.register_forward_pre_hook(lambda _module, given: seen.append(len(given[0])))
        for block in model.blocks
    ]
    try:
        model_passes = model.usage.passes
        group = make_conditions([vector], layers=[[1, model.n_layers - 1]], multipliers=(1.0,))
        front = Wavefront(model, [[1, 2, 3]], [[[4, 5]]], whole=False)
        seen.clear()
        front.score({vector.name: vector}, group)
    finally:
        for handle in handles:
            handle.remove()
    assert model.usage.passes == model_passes + 2  # the prompt, and the tree
    assert seen == [1, 1, *[2] * (model.n_layers - 2)]


def test_edits_are_what_their_words_say(build_model):
    vector = make_spanned(build_model("llama"))
    hidden = np.random.default_rng(0).normal(size=vector.d_model)
    unit = vector.directions[1] / np.linalg.norm(vector.directions[1])

    def apply(operation, multiplier):
        edit = find_edit(vector, Condition("v", "target", 1, multiplier, operation=operation), 1)
        return hidden + edit.added - edit.share * (edit.unit @ hidden) * edit.unit

    assert abs(unit @ apply("ablate", 1.0)) < 1e-12
    assert unit @ apply("ablate", 2.0) == pytest.approx(-(unit @ hidden))
    span = vector.spans[1]
    assert unit @ apply("clamp", 1.0) == pytest.approx(span.centre + span.scale)
    assert unit @ apply("clamp", -1.0) == pytest.approx(span.centre - span.scale)
    rest = np.eye(len(unit)) - np.outer(unit, unit)
    for operation in ("ablate", "clamp"):
        np.testing.assert_allclose(rest @ apply(operation, 1.0), rest @ hidden, atol=1e-12)
    np.testing.assert_allclose(apply("add", 2.0), hidden + 2 * vector.directions[1])


def test_layers_are_groups(build_model):
    vector = make_spanned(build_model("llama"))
    every = tuple(vector.directions)
    conditions = make_conditions([vector], layers=[2, [3, 1], "all"], multipliers=(1.0,), operation="ablate")
    assert [c.layers for c in conditions] == [every, (1, 3), (2,)]
    assert [c.site for c in conditions] == [f"0-{every[-1]}", "1,3", "2"]
    assert {c.operation for c in conditions} == {"ablate"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"positions": "first:0"}, "positions 'first:0' is none of completion, all, prompt and first:N"),
        ({"beyond": (0,)}, "layers of one condition go upwards, each once; got [1, 0]"),
    ],
)
def test_conditions_that_mean_nothing_are_refused(given, message):
    with pytest.raises(InputError) as caught:
        Condition("v", "target", 1, 1.0, **given)
    assert message in str(caught.value)


def test_a_clamp_needs_a_span(build_model, completions):
    model = build_model("llama")
    vector = make_vector(model)
    with pytest.raises(InputError, match="has no span at layer 1, which clamp needs"):
        score_tokens(
            model, completions, [vector], [Condition("v", "target", 1, 1.0, operation="clamp")], progress=False
        )


def test_units_of_different_edits_are_never_one(build_model):
    """The key of a condition holds all that its numbers hang on, and neither its name nor what it was asked for as."""
    model = build_model("llama")
    vectors = [make_spanned(model), make_spanned(model, seed=4, name="w")]
    conditions = mix(model, vectors)
    keys = [key_condition(condition, vectors) for condition in conditions]
    assert len(set(keys)) == len(conditions) == 40
    moved = [
        dataclasses.replace(vector, spans={n: Span(s.centre + 1, s.scale) for n, s in vector.spans.items()})
        for vector in vectors
    ]
    turned = [
        dataclasses.replace(vector, directions={n: d[::-1] for n, d in vector.directions.items()}) for vector in vectors
    ]
    for condition, key in zip(conditions, keys, strict=True):
        assert (key_condition(condition, moved) != key) == (condition.operation == "clamp")
        assert key_condition(condition, turned) != key
        renamed = dataclasses.replace(condition, kind="random", dose=7.0)
        assert key_condition(renamed, vectors) == key
