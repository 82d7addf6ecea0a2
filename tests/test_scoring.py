import dataclasses

import numpy as np
import pytest
import reference
import torch
from conftest import ARCHITECTURES, make_completions, make_prompts, make_vector, random_completions

from completions_lp.model import pick_engine
from completions_lp.records import Condition, InputError
from completions_lp.score.grid import score_tokens
from completions_lp.steer.conditions import make_conditions


def slow_scores(model, completions, vector, conditions):
    """[1 + condition, completion] sums by the slow twin, the unsteered ones first."""

    def total(row, **steering):
        prompt = completions.prompts[completions.prompt_index[row]].token_ids
        ids = completions.token_ids[row, : completions.lengths[row]].tolist()
        return reference.score(model.module, prompt, ids, **steering).sum()

    rows = range(len(completions))
    sums = [[total(row) for row in rows]]
    for c in conditions:
        added = c.multiplier * vector.directions[c.layer]
        sums.append([total(row, layer=c.layer, added=added, positions=c.positions) for row in rows])
    return np.array(sums)


def fast_scores(model, completions, vector, conditions, **options):
    scores = score_tokens(model, completions, [vector], conditions, progress=False, **options)
    assert np.array_equal(np.isfinite(scores.baseline), completions.mask)
    return np.nansum(np.concatenate([scores.baseline[None], scores.logprob]), -1, dtype=np.float64)


@pytest.mark.parametrize("positions", ["completion", "all"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "atol", "rtol"), [(torch.float64, 1e-9, 0), (torch.float32, 5e-4, 1e-5)])
@pytest.mark.usefixtures("exact_softmax")
def test_scores_equal_the_slow_twin(build_model, architecture, positions, dtype, atol, rtol):
    model = build_model(architecture, dtype=dtype)
    completions = random_completions(make_prompts(), per_prompt=2)
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[0, 2], multipliers=(-1.0, 2.0), positions=positions)
    slow = slow_scores(model, completions, vector, conditions)
    assert np.abs(slow[1:] - slow[0]).max() > 0.3  # steering does something that a test could miss
    for options in ({"batch_size": 1}, {"batch_size": 3}, {}, {"engine": "rows", "batch_size": 5}, {"engine": "rows"}):
        fast = fast_scores(model, completions, vector, conditions, **options)
        np.testing.assert_allclose(fast, slow, atol=atol, rtol=rtol)
    assert pick_engine(model) == "tree"


def test_multiplier_zero_changes_nothing(build_model):
    for dtype, floor in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        model = build_model("llama", dtype=dtype)
        vector = make_vector(model)
        for positions in ("completion", "all"):
            conditions = make_conditions([vector], multipliers=(0.0, 1.0), positions=positions)
            scores = score_tokens(model, random_completions(make_prompts()), [vector], conditions, progress=False)
            increase = np.abs(np.nansum(scores.increase, -1, dtype=np.float64))
            zero = np.array([c.multiplier == 0 for c in conditions])
            assert increase[zero].max() <= floor
            assert increase[~zero].min() > 1e-3


def test_twice_the_vector_is_the_vector_at_twice_the_multiplier(build_model):
    model = build_model("llama", dtype=torch.float64)
    completions = random_completions(make_prompts())
    vector = make_vector(model)
    double = dataclasses.replace(vector, directions={layer: 2 * d for layer, d in vector.directions.items()})
    once, twice = (
        score_tokens(model, completions, [v], make_conditions([v], multipliers=(m,)), progress=False).logprob
        for v, m in ((vector, 2.0), (double, 1.0))
    )
    np.testing.assert_allclose(once, twice, atol=1e-12)


def test_order_does_not_matter(build_model):
    model = build_model("gpt2", dtype=torch.float64)
    completions = random_completions(make_prompts())
    vector = make_vector(model)
    conditions = make_conditions([vector], multipliers=(-1.0, 1.0))
    scores = score_tokens(model, completions, [vector], conditions, progress=False, batch_size=5)
    rng = np.random.default_rng(3)
    order, turn = rng.permutation(len(completions)), rng.permutation(len(conditions))
    places = rng.permutation(len(completions.prompts))
    shuffled = make_completions(
        [completions.prompts[i] for i in places],
        [
            (int(np.argsort(places)[completions.prompt_index[i]]), completions.token_ids[i, : completions.lengths[i]])
            for i in order
        ],
    )
    again = score_tokens(model, shuffled, [vector], [conditions[i] for i in turn], progress=False, batch_size=5)
    np.testing.assert_allclose(again.baseline, scores.baseline[order], atol=1e-11)
    np.testing.assert_allclose(again.logprob, scores.logprob[turn][:, order], atol=1e-11)


def test_end_of_sequence_is_scored(build_model):
    model = build_model("llama", dtype=torch.float64)
    prompts = make_prompts((4,))
    (eos,) = model.eos_ids
    completions = make_completions(prompts, [(0, [7, 8, eos])])
    scores = score_tokens(model, completions, [], [], progress=False)
    want = reference.score(model.module, prompts[0].token_ids, [7, 8, eos])
    np.testing.assert_allclose(scores.baseline[0], want, atol=1e-9)


def test_several_vectors_and_positions_in_one_call(build_model):
    model = build_model("llama", dtype=torch.float64)
    completions = random_completions(make_prompts((3, 6)), per_prompt=1)
    vectors = [make_vector(model, name="v", seed=0), make_vector(model, name="w", seed=1)]
    conditions = [
        Condition("w", "target", 2, 1.5),
        Condition("v", "target", 0, -1.0, "all"),
        Condition("v", "target", 2, 1.0),
    ]
    scores = score_tokens(model, completions, vectors, conditions, progress=False)
    for c, condition in enumerate(conditions):
        vector = vectors[0] if condition.vector == "v" else vectors[1]
        alone = score_tokens(model, completions, [vector], [condition], progress=False)
        np.testing.assert_allclose(scores.logprob[c], alone.logprob[0], atol=1e-11)
    assert np.nanmin(np.abs(scores.logprob[0] - scores.logprob[2])) > 1e-6


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (Condition("v", "target", 3, 1.0), "layer 3 is out of range: llama has layers 0 to 2"),
        (Condition("u", "target", 1, 1.0), "names vector 'u'; there are v"),
        (Condition("v", "target", 1, 1.0), "vector 'v' has no layer 1; it has layers 0"),
    ],
)
def test_impossible_conditions_say_what_is_wrong(build_model, condition, message):
    model = build_model()
    vector = make_vector(model)
    vector = dataclasses.replace(vector, directions={0: vector.directions[0]})
    with pytest.raises(InputError, match=message):
        score_tokens(model, random_completions(make_prompts()), [vector], [condition], progress=False)


def test_a_vector_of_the_wrong_size_is_refused(build_model):
    model = build_model()
    vector = dataclasses.replace(make_vector(model), directions={0: np.ones(5)})
    with pytest.raises(InputError, match="vector 'v' has size 5, but the residual stream of llama has 32"):
        score_tokens(model, random_completions(make_prompts()), [vector], make_conditions([vector]), progress=False)


@pytest.mark.parametrize("positions", ["completion", "all"])
def test_both_engines_read_the_same_answers_and_divergences(build_model, tokenizer, positions):
    model = build_model("llama", dtype=torch.float64)
    prompts = make_prompts()
    a, b, s = (tokenizer(text, add_special_tokens=False).input_ids for text in (" (A)", "B", "s no"))
    rows = [(0, a), (0, b + s), (1, b), (1, a + s), (2, s + b), (3, a)]
    completions = make_completions(prompts, rows)
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[1], multipliers=(0.0, 1.0), positions=positions)
    trees, plain = (
        score_tokens(
            model, completions, [vector], conditions, target="matching", kl=True, engine=engine, progress=False
        )
        for engine in ("tree", "rows")
    )
    for name in ("baseline", "logprob", "entropy", "kl", "kl_reverse", "baseline_answers", "answers"):
        np.testing.assert_allclose(getattr(trees, name), getattr(plain, name), atol=1e-9, err_msg=name)
    assert np.nanmax(trees.kl[0]) < 1e-9 < 1e-4 < np.nanmin(trees.kl[1])
    hit = completions.token_ids == b[0]  # "B" at the start of a completion: one of the tokens that complete B
    own = np.where([p.matching == "B" for p in prompts], 0, 1)[completions.prompt_index]
    for row, token in zip(*np.nonzero(hit & (np.arange(completions.token_ids.shape[1]) == 0)), strict=True):
        assert trees.baseline_answers[row, token, own[row]] >= trees.baseline[row, token]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_half_precision_agrees_within_its_noise(build_model, architecture):
    """In bfloat16 both engines, and any batch, agree within the tolerance that the doctor allows; multiplier 0 is 0."""
    model = build_model(architecture, dtype=torch.bfloat16)
    completions = random_completions(make_prompts(), per_prompt=2)
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[0, 2], multipliers=(0.0, 1.0))
    trees, rows, alone = (
        fast_scores(model, completions, vector, conditions, **options)
        for options in ({"engine": "tree"}, {"engine": "rows"}, {"engine": "tree", "batch_size": 1})
    )
    for other in (rows, alone):
        np.testing.assert_allclose(trees, other, atol=model.tolerance)
    zero = [1 + i for i, c in enumerate(conditions) if c.multiplier == 0]
    np.testing.assert_allclose(trees[zero], trees[[0, 0]], atol=1e-6)  # same layout, so that the noise cancels
    assert np.abs(trees[2] - trees[0]).max() > 0.3


def test_the_tree_is_split_where_memory_is_short(build_model):
    """Completions of one prompt in several pieces, and conditions in several passes: the same numbers."""
    model = build_model("gpt2", dtype=torch.float64)
    prompts = make_prompts((6,))
    rng = np.random.default_rng(0)
    completions = make_completions(prompts, [(0, rng.integers(0, 320, size=5).tolist()) for _ in range(90)])
    vector = make_vector(model)
    conditions = make_conditions([vector])
    before = model.usage.passes
    whole = score_tokens(model, completions, [vector], conditions, progress=False)
    few = model.usage.passes - before
    split = score_tokens(model, completions, [vector], conditions, progress=False, memory_budget=1e-3)
    assert model.usage.passes - before - few > 3 * few
    np.testing.assert_allclose(split.logprob, whole.logprob, atol=1e-10)
