import dataclasses

import numpy as np
import pytest
import reference
import scipy.stats
import torch
from conftest import ARCHITECTURES, make_prompts

from completions_lp.model import RowDecoder, TreeDecoder
from completions_lp.records import InputError, Sampling
from completions_lp.sample.draws import sample_completions
from completions_lp.sample.streams import draw_uniforms, invert_cdf


def draws_of(completions, prompt):
    """{ids: count} of one prompt."""
    return {
        tuple(completions.token_ids[i, : completions.lengths[i]].tolist()): int(completions.counts[i])
        for i in np.flatnonzero(completions.prompt_index == prompt)
    }


def sample(model, prompts, sampling, **options):
    return sample_completions(model, prompts, sampling=sampling, progress=False, **options)


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.usefixtures("exact_softmax")
def test_draws_equal_the_slow_twin(build_model, architecture, engine):
    """Same uniform numbers, one sample at a time, a full forward per token: the same token ids, in float64."""
    model = build_model(architecture, dtype=torch.float64)
    prompts = make_prompts((5, 1, 9))
    sampling = Sampling(n=6, max_new_tokens=5, temperature=0.7, seed=3)
    completions = sample(model, prompts, sampling, engine=engine)
    assert 3 < len(completions) <= 18
    for i, prompt in enumerate(prompts):
        slow = [
            tuple(reference.sample(model.module, prompt.token_ids, u, eos_ids=model.eos_ids, temperature=0.7))
            for u in draw_uniforms(prompt.id, sampling)
        ]
        assert draws_of(completions, i) == {ids: slow.count(ids) for ids in slow}
        assert list(draws_of(completions, i)) == list(dict.fromkeys(slow))  # in the order in which they were drawn


def test_logprob_is_the_models_own_at_temperature_one(build_model):
    model = build_model("gpt2", dtype=torch.float64)
    prompts = make_prompts((4, 7))
    completions = sample(model, prompts, Sampling(n=5, max_new_tokens=4, temperature=0.5, top_k=20, top_p=0.9))
    for i in range(len(completions)):
        ids = completions.token_ids[i, : completions.lengths[i]].tolist()
        want = reference.score(model.module, prompts[completions.prompt_index[i]].token_ids, ids)
        np.testing.assert_allclose(completions.logprob[i, : len(ids)], want, atol=1e-9)
        assert np.isnan(completions.logprob[i, len(ids) :]).all()


CUT = {"temperature": 0.5, "top_k": 20, "top_p": 0.9}


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("options", [{"temperature": 0.5}, {"top_k": 5}, {"top_p": 0.6}, CUT], ids=str)
def test_the_samplers_own_logprob_is_that_of_the_distribution_that_was_drawn_from(build_model, options, engine):
    model = build_model("gpt2", dtype=torch.float64)
    prompts = make_prompts((4, 7))
    completions = sample(model, prompts, Sampling(n=5, max_new_tokens=4, **options), engine=engine)
    for i in range(len(completions)):
        ids = completions.token_ids[i, : completions.lengths[i]].tolist()
        prompt = prompts[completions.prompt_index[i]].token_ids
        logits = reference.logits_of(model.module, [*prompt, *ids]).numpy()[len(prompt) - 1 :]
        want = [np.log(reference.warp(row, **options)[token]) for row, token in zip(logits, ids, strict=False)]
        np.testing.assert_allclose(completions.sampler_logprob[i, : len(ids)], want, atol=1e-9)
        assert np.isnan(completions.sampler_logprob[i, len(ids) :]).all()
    assert not np.allclose(np.nan_to_num(completions.sampler_logprob), np.nan_to_num(completions.logprob))


def test_greedy_draws_have_probability_one_and_plain_ones_the_models_own(build_model):
    model, prompts = build_model("gpt2"), make_prompts((4, 7))
    greedy = sample(model, prompts, Sampling(greedy=True, max_new_tokens=4))
    assert (greedy.sampler_logprob[greedy.mask] == 0).all()
    assert np.isnan(greedy.sampler_logprob[~greedy.mask]).all()
    assert (greedy.logprob[greedy.mask] < 0).all()
    assert sample(model, prompts, Sampling(n=3, max_new_tokens=4)).sampler_logprob is None


def test_a_prompts_draws_depend_on_nothing_else(build_model):
    model = build_model("llama", dtype=torch.float64)
    prompts = make_prompts((5, 2, 8, 3))
    sampling = Sampling(n=8, max_new_tokens=4)
    together = sample(model, prompts, sampling)
    for options in ({"batch_size": 1}, {"batch_size": 3}, {"memory_budget": 1e-6}):
        again = sample(model, prompts, sampling, **options)
        assert np.array_equal(again.token_ids, together.token_ids)
        assert np.array_equal(again.counts, together.counts)
    backwards = sample(model, prompts[::-1], sampling)
    for i in range(4):
        assert draws_of(backwards, 3 - i) == draws_of(together, i)
    fewer = sample(model, prompts, dataclasses.replace(sampling, n=3))
    for i in range(4):
        assert set(draws_of(fewer, i)) <= set(draws_of(together, i))


def test_the_seed_and_only_the_seed_changes_the_draws(build_model):
    model = build_model("llama")
    prompts = make_prompts((5,))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, same, other = (sample(model, prompts, Sampling(n=20, max_new_tokens=5, seed=s)) for s in (0, 0, 1))
    assert draws_of(first, 0) == draws_of(same, 0) != draws_of(other, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_greedy_equals_generate(build_model):
    model = build_model("llama", dtype=torch.float64)
    prompts = make_prompts((5, 9))
    completions = sample(model, prompts, Sampling(greedy=True, max_new_tokens=6, n=100))
    assert completions.counts.tolist() == [1, 1]
    for i, prompt in enumerate(prompts):
        ids = torch.tensor([prompt.token_ids])
        out = model.module.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6, pad_token_id=1
        )
        assert tuple(out[0, ids.shape[1] :].tolist()) in draws_of(completions, i)


def test_a_texts_end_ends_it(build_model):
    model = build_model("llama", vocab_size=8)
    completions = sample(model, make_prompts((3, 4), vocab=8), Sampling(n=200, max_new_tokens=6))
    (eos,) = model.eos_ids
    for i in range(len(completions)):
        ids = completions.token_ids[i, : completions.lengths[i]].tolist()
        assert eos not in ids[:-1]
        assert completions.ended[i] == (ids[-1] == eos)
        assert completions.ended[i] or len(ids) == 6
    assert completions.ended.any()
    assert not completions.ended.all()
    assert np.bincount(completions.prompt_index, weights=completions.counts).tolist() == [200, 200]


@pytest.mark.parametrize("eos", [None, 0])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_frequencies_match_the_exact_distribution(build_model, architecture, eos):
    """A vocabulary of 6 and 3 new tokens can be enumerated: a chi-squared test of 100,000 draws against it."""
    model = build_model(architecture, vocab_size=6, scale=2.0)
    model = dataclasses.replace(model, eos_ids=frozenset() if eos is None else frozenset({eos}))
    (prompt,) = make_prompts((4,), vocab=6)
    exact = reference.enumerate_completions(model.module, prompt.token_ids, steps=3, eos_ids=model.eos_ids)
    assert sum(exact.values()) == pytest.approx(1)
    completions = sample(model, [prompt], Sampling(n=100_000, max_new_tokens=3, seed=5))
    drawn = draws_of(completions, 0)
    assert set(drawn) <= set(exact)
    expected = np.array([100_000 * p for p in exact.values()])
    observed = np.array([drawn.get(ids, 0) for ids in exact])
    rare = expected < 5  # the chi-squared distribution needs cells of 5 and more: the rare ones are one cell
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 0
    assert scipy.stats.chisquare(observed[keep], expected[keep]).pvalue > 1e-3


def test_cut_distributions_equal_transformers_own(build_model):
    """top-k and top-p leave exactly the tokens that transformers' logits processors leave."""
    model = build_model("llama", vocab_size=12)
    (prompt,) = make_prompts((4,), vocab=12)
    logits = reference.logits_of(model.module, prompt.token_ids)[-1]
    probs = logits.softmax(-1).sort(descending=True)
    kept_k = set(probs.indices[:3].tolist())
    n_p = int((probs.values.cumsum(-1) < 0.6).sum()) + 1
    kept_p = set(probs.indices[:n_p].tolist())
    for sampling, kept in (
        (Sampling(n=2000, max_new_tokens=1, top_k=3), kept_k),
        (Sampling(n=2000, max_new_tokens=1, top_p=0.6), kept_p),
    ):
        assert {ids[0] for ids in draws_of(sample(model, [prompt], sampling), 0)} == kept


@pytest.mark.parametrize("vocab", [1, 5, 256, 257, 1000])
def test_inverse_cdf_equals_its_definition(vocab):
    rng = np.random.default_rng(vocab)
    probs = rng.random((4, vocab)) ** 8
    probs[1, : vocab // 2] = 0
    probs[2, vocab - vocab // 3 :] = 0
    probs /= probs.sum(-1, keepdims=True)
    nodes = rng.integers(0, 4, size=500)
    u = np.concatenate([rng.random(497), [0.0, np.nextafter(1, 0), 0.5]])
    factor = np.array([[1.0], [7.0], [0.01], [1.0]])  # weights need not sum to 1
    tokens, totals = invert_cdf(torch.from_numpy(factor * probs), torch.from_numpy(nodes), torch.from_numpy(u))
    np.testing.assert_allclose(totals, factor[:, 0])
    got = tokens.numpy()
    want = [
        min(np.searchsorted(np.cumsum(probs[n]), x * probs[n].sum(), side="right"), vocab - 1)
        for n, x in zip(nodes, u, strict=True)
    ]
    assert (probs[nodes, got] > 0).all()
    assert (got[:-2] == want[:-2]).mean() == 1


def test_a_prompt_that_does_not_fit_is_named(build_model):
    model = build_model("gpt2")
    with pytest.raises(InputError, match=r"prompt 'p1' has 120 tokens, max_new_tokens is 10: together 130.*128"):
        sample(model, make_prompts((5, 120)), Sampling(max_new_tokens=10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature is -1.0; it must be above 0"),
        ({"temperature": 0.0}, "use greedy = true"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": -1}, "top_k is -1"),
        ({"n": 0}, "n is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    ],
)
def test_impossible_settings_say_what_is_wrong(options, message):
    with pytest.raises(InputError, match=message):
        Sampling(**options)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral"])
def test_both_decoders_give_the_same_logits_while_prompts_branch_and_end(build_model, architecture):
    """One prompt branches widely, one hardly, one ends early: whatever the rows hold, no logit changes."""
    model = build_model(architecture, dtype=torch.float64)
    prompts = [p.token_ids for p in make_prompts((7, 3, 1))]
    tree, rows = TreeDecoder(model, prompts), RowDecoder(model, prompts)
    rng = np.random.default_rng(0)
    prompt, parent, token = [0, 1, 2], [0, 0, 0], [ids[-1] for ids in prompts]
    for step, branches in enumerate((6, 3, 1, 2)):
        one, two = (torch.cat([logits for _, logits in d.step(prompt, parent, token)]) for d in (tree, rows))
        np.testing.assert_allclose(one, two, atol=1e-9)
        children = [
            (prompt[node], node, int(rng.integers(2, 320)))
            for node in range(len(token))
            for _ in range({0: branches, 1: 1, 2: 0 if step == 1 else 1}[prompt[node]])
        ]
        prompt, parent, token = (list(values) for values in zip(*children, strict=True))
    assert len(token) == 36 + 1


def test_where_rounding_leaves_nothing_past_the_goal_the_last_token_of_the_vocabulary_is_drawn():
    """Blocks are summed in float32, which is more than their weights in float64 on about half of the rows."""
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.random((200, 300), dtype=np.float32))
    goal = torch.full((200,), 1 - 2**-53, dtype=torch.float64)
    tokens, _ = invert_cdf(weights, torch.arange(200), goal)
    assert set(tokens.tolist()) == {299}
