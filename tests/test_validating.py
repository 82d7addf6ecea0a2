"""Draws from the steered model: pooled with the unsteered ones they are unbiased, bounded, and mend what was red."""

import dataclasses
import itertools
from math import factorial

import numpy as np
import pytest
import reference
import scored
import torch
import toys
from conftest import make_completions, make_prompts, make_vector
from scored import World, grid_law, make_scores
from test_measuring import MODE, all_measures
from toys import EOS, A, B, C, D

from completions_lp.records import Condition, InputError, Labelling, Sampling
from completions_lp.report import count_answers
from completions_lp.sample.draws import draw_steered, draw_uniforms, sample_completions
from completions_lp.score import topup
from completions_lp.score.measures import measure_completions, read_texts
from completions_lp.score.parts import score_completions
from completions_lp.score.topup import pool_completions, top_up
from completions_lp.stats import pool_log_weight
from completions_lp.steer.conditions import make_conditions

EXACT = {"rtol": 0, "atol": 1e-10}


def complete(worlds, *, within, **options):
    """The completions of some worlds, without their scores."""
    return make_scores(worlds, within=within, **options).completions


def world_of(law, texts, counts=None, **options):
    return World(law, (), list(texts), list(counts or [1] * len(texts)), **options)


def test_equal_texts_within_the_window_are_one_row_that_counts_both():
    law = toys.random_law(0)
    unsteered = [
        world_of(law, [(C, A, EOS), (C, A, D), (D, D, B), (C, EOS), (EOS,)], [5, 2, 3, 4, 1]),
        world_of(law, [(D, D, D), (B, A, A)], [7, 8]),
        world_of(law, []),
    ]
    steered = [
        world_of(law, [(C, EOS), (B, B), (C, A)], [1, 2, 6]),
        world_of(law, []),
        world_of(law, [(A, B)], [9]),
    ]
    whole, drawn = complete(unsteered, within=2), complete(steered, within=2)
    pool = pool_completions(whole, drawn)
    got = pool.completions
    rows = [
        (int(i), tuple(ids[:n].tolist()), *draws, label, int(where), bool(ended), text, pieces)
        for i, ids, n, draws, label, where, ended, text, pieces in zip(
            got.prompt_index, got.token_ids, got.lengths, pool.draws.T.tolist(), got.label, got.answer_index,
            got.ended, got.text, got.pieces, strict=True,
        )
    ]  # fmt: skip
    assert sorted(rows) == sorted([
        (0, (C, A), 7, 6, "A", 1, False, "31", ("3", "1")),
        (0, (D, D), 3, 0, "", -1, False, "44", ("4", "4")),
        (0, (C, EOS), 4, 1, "", -1, True, "30", ("3", "0")),
        (0, (EOS,), 1, 0, "", -1, True, "0", ("0",)),
        (0, (B, B), 0, 2, "B", 0, False, "22", ("2", "2")),
        (1, (D, D), 7, 0, "", -1, False, "44", ("4", "4")),
        (1, (B, A), 8, 0, "B", 0, False, "21", ("2", "1")),
        (2, (A, B), 0, 9, "A", 0, False, "12", ("1", "2")),
    ])  # fmt: skip
    np.testing.assert_array_equal(got.counts, pool.draws.sum(0))
    assert (np.diff(got.prompt_index) >= 0).all()
    assert (got.token_ids[~got.mask] == -1).all()
    assert np.isnan(got.logprob).all()  # of which model it would be, nobody knows
    assert (got.prompts, got.sampling, got.labelling) == (whole.prompts, whole.sampling, whole.labelling)


def test_completions_of_other_prompts_do_not_pool():
    law = toys.random_law(0)
    one, two = (complete([world_of(law, [(A,)])] * n, within=2) for n in (1, 2))
    with pytest.raises(InputError, match="completions of different prompts do not pool"):
        pool_completions(one, two)
    backwards = dataclasses.replace(two, prompts=two.prompts[::-1])
    with pytest.raises(InputError, match="in one order"):
        pool_completions(two, backwards)


def test_answers_are_counted_by_draws_where_they_are_on_offer():
    law = toys.random_law(0)
    other = {"letters": ("C", "D"), "matching": "C", "not_matching": "D"}
    worlds = [
        world_of(law, [(A, B), (B, A), (C, A), (C, C)], [5, 2, 3, 4]),
        world_of(law, [(A, B), (B, A)], [1, 6], matching="B", not_matching="A"),
        world_of(law, [(A, C), (D, C)], [2, 3], **other),
        world_of(law, []),
    ]
    completions = complete(worlds, within=2)
    for target, want in (("A", [8, 1, 0, 0]), ("B", [2, 6, 0, 0]), ("C", [0, 0, 2, 0]), ("matching", [8, 6, 2, 0])):
        counts = count_answers(completions, target=target)
        assert (counts["n_A"].tolist(), counts["n"].tolist()) == (want, [14, 7, 5, 0])
    with pytest.raises(InputError, match="target 'E' is an answer of no prompt"):
        count_answers(completions, target="E")


def laugh(monkeypatch, worlds, steered, *, within, target="A"):
    """Put laws in the place of the network: ``steered`` gives the steered draws of a prompt, by its id."""

    def draw(_model, part, _vectors, condition, n, **_options):
        chosen = [steered(prompt.id, condition, n) for prompt in part.prompts]
        drawn = complete([*chosen], within=within)
        return dataclasses.replace(drawn, prompts=part.prompts)

    def score(_model, completions, _vectors, conditions, *, target, **_options):
        made = []
        for i, prompt in enumerate(completions.prompts):
            world = worlds[int(prompt.id[1:])]
            rows = completions.rows_of(i)
            texts = [tuple(completions.token_ids[r, : completions.lengths[r]].tolist()) for r in rows]
            laws = tuple(world.steered[c.layer] for c in conditions)
            made.append(dataclasses.replace(world, steered=laws, texts=texts, counts=completions.counts[rows].tolist()))
        scores = make_scores(made, within=within, target=target, conditions=tuple(conditions))
        return dataclasses.replace(scores, completions=completions)

    monkeypatch.setattr(topup, "draw_steered", draw)
    monkeypatch.setattr(topup, "score_tokens", score)


@pytest.mark.parametrize("within", [2, 3])
@pytest.mark.parametrize("target", ["A", "matching"])
def test_infinitely_many_pooled_draws_give_every_red_cell_exactly(monkeypatch, build_model, within, target):
    """Draws of both models in proportion to their probabilities, at any ratio of the two."""
    steps = 3
    worlds = []
    for seed in range(3):
        p, laws = grid_law(seed), (grid_law(10 + seed), grid_law(20 + seed))
        texts, counts = toys.sample_texts(p, steps, 30, seed)
        swap = {"matching": "B", "not_matching": "A"} if seed == 1 else {}
        worlds.append(World(p, laws, texts, counts, **swap))

    def every(law, times=1):
        texts = toys.enumerate_texts(law, within)
        weights = np.exp([toys.logprob_of(law, x) for x in texts]) * scored.PARTS**within
        return texts, [times * round(w) for w in weights]

    whole = [  # in another ratio to the steered ones for every prompt
        World(w.law, w.steered, *every(w.law, 1 + 2 * i), w.letters, w.matching, w.not_matching)
        for i, w in enumerate(worlds)
    ]
    scores = make_scores(whole, within=within, target=target)
    measures = measure_completions(make_scores(worlds, within=within, target=target), target=target)
    trust = np.array([["green", "red", "certified"], ["red", "red", "green"]], dtype="<U9")
    measures = dataclasses.replace(measures, trust=trust)
    laugh(
        monkeypatch,
        worlds,
        lambda name, c, n: World(worlds[int(name[1:])].law, (), *every(worlds[int(name[1:])].steered[c.layer])),
        within=within,
    )
    mended, drawn = top_up(build_model(), scores.completions, [], measures, target=target, progress=False)
    conditions = measures.conditions
    assert {c: [p.id for p in made.prompts] for c, made in drawn.items()} == {
        conditions[0]: ["p1"],
        conditions[1]: ["p0", "p1"],
    }
    for c, i in itertools.product(range(2), range(3)):
        cell = {name: values[c, i] for name, values in mended.steered.items()}
        before = {name: values[c, i] for name, values in measures.steered.items()}
        if trust[c, i] != "red":
            np.testing.assert_equal(cell, before)
            assert mended.trust[c, i] == trust[c, i]
            continue
        first = worlds[i].matching if target == "matching" else target
        law = worlds[i].steered[c]
        want = [worlds[i].probability(law, within, letter) for letter in (first, "AB".replace(first, ""))]
        names = ("p_A_steered", "p_A_steered_low", "p_A_steered_high", "first_A_steered", "first_B_steered")
        np.testing.assert_allclose([cell[name] for name in names], [want[0]] * 4 + [want[1]], **EXACT)
        tokens = [(A,), (B,)] if first == "A" else [(B,), (A,)]
        for name, laws in (("answer", (law, worlds[i].law)), ("reasoning", (worlds[i].law, law))):
            hybrid = toys.probability_of(toys.hybrid_law(*laws, tokens[0]), within, answers=tokens)
            assert cell[f"p_A_{name}_only"] == pytest.approx(hybrid, abs=1e-10)
        np.testing.assert_allclose([cell["mean_weight_low"], cell["mean_weight_high"]], 1, **EXACT)
        assert cell["n_steered"] == scored.PARTS**within
        assert cell["ess"] > 100
        assert np.isnan(cell["p_A_change_se"])
        assert mended.trust[c, i] == "certified"
        for name in ("increase_to_answer_A_rb", "kl", "kl_reverse"):  # of the unsteered draws alone
            assert cell[name] == before[name]
    for name, values in mended.unsteered.items():
        np.testing.assert_array_equal(values, measures.unsteered[name])


def test_every_set_of_pooled_draws_is_unbiased_and_its_weights_are_bounded():
    """The expectation over all pairs of unsteered and all triples of steered draws of the mode-shift toy (O6)."""
    p, (q,) = MODE
    texts = list(itertools.product((C, D), (A, B)))
    n_p, n_q = 2, 3
    total, mass, largest = 0.0, 0.0, 0.0
    for counts_p, counts_q in itertools.product(list_counts(4, n_p), list_counts(4, n_q)):
        chance = multinomial(counts_p, p, texts) * multinomial(counts_q, q, texts)
        both = [complete([world_of(p, *pick(texts, k))], within=2) for k in (counts_p, counts_q)]
        pool = pool_completions(*both)
        drawn = [tuple(ids[:n].tolist()) for ids, n in
                 zip(pool.completions.token_ids, pool.completions.lengths, strict=True)]  # fmt: skip
        scores = make_scores([World(p, (q,), drawn, pool.completions.counts.tolist())], within=2)
        read = read_texts(scores, np.arange(len(drawn)), ("A", "B"))
        samplers = np.stack([read.window["logprob"], read.window["steered"][0]])
        weight = np.exp(pool_log_weight(read.steps, read.window["steered"], samplers, pool.draws.sum(1)))[0]
        hazard = read.steps.read_hazard(read.window["A_steered"])[0]
        total += chance * np.einsum("st,st,s->", weight, hazard, read.steps.counts) / (n_p + n_q)
        largest, mass = max(largest, weight.max()), mass + chance
    assert mass == pytest.approx(1, abs=1e-12)
    assert total == pytest.approx(0.594, abs=1e-10)
    assert 1.6 < largest <= (n_p + n_q) / n_q + 1e-12


def list_counts(kinds, n):
    """All ways to draw n times from some kinds."""
    return [k for k in itertools.product(range(n + 1), repeat=kinds) if sum(k) == n]


def multinomial(counts, law, texts):
    """The chance of these counts."""
    chance = float(factorial(sum(counts)))
    for count, text in zip(counts, texts, strict=True):
        chance *= np.exp(toys.logprob_of(law, text)) ** count / factorial(count)
    return chance


def pick(texts, counts):
    """The texts that were drawn, and how often."""
    drawn = [(text, count) for text, count in zip(texts, counts, strict=True) if count]
    return [text for text, _ in drawn], [count for _, count in drawn]


@pytest.mark.parametrize("n", [10, 25])
def test_a_mode_that_the_unsteered_draws_never_saw_is_found(monkeypatch, build_model, n):
    """O6: unsteered draws alone say .18 where the truth is .594; a few steered ones say it, in every one of 40 runs."""
    p, (q,) = MODE
    drawn = [toys.sample_texts(p, 2, 100, seed) for seed in range(40)]
    worlds = [World(p, (q,), *texts) for texts in drawn]
    assert sum((C, A) not in w.texts for w in worlds) > 30
    sampling = Sampling(top_up=n, max_new_tokens=2)
    scores = make_scores(worlds, within=2, sampling=sampling)
    measures = measure_completions(scores, target="A")
    red = measures.trust[0] == "red"
    assert red.sum() > 30
    laugh(
        monkeypatch,
        worlds,
        lambda name, _, n: World(p, (), *toys.sample_texts(q, 2, n, [7, int(name[1:])])),
        within=2,
    )
    mended, _ = top_up(build_model(), scores.completions, [], measures, target="A", progress=False)
    before, after = (m.steered["p_A_steered"][0, red] - 0.594 for m in (measures, mended))
    assert np.abs(before).mean() > 0.2
    assert np.sqrt((after**2).mean()) < 1.2 * np.sqrt(0.594 * 0.406 / n)  # no worse than the steered draws alone
    assert abs(after.mean()) < 4 * after.std() / np.sqrt(len(after))
    assert (mended.trust[0, red] != "red").mean() > 0.5
    assert (mended.steered["n_steered"][0] == np.where(red, n, 0)).all()
    low, high = mended.steered["p_A_steered_low"][0], mended.steered["p_A_steered_high"][0]
    assert ((low <= 0.594 + 1e-12) & (high + 1e-12 >= 0.594)).all()


def make_model(build_model):
    """A model of six tokens, of which the third and the fourth are the answers; everything it says can be listed."""
    model = build_model("llama", vocab_size=6, scale=2.0, dtype=torch.float64)
    marks = [model.tokenizer.decode([token]) for token in (2, 3)]
    prompts = tuple(
        dataclasses.replace(p, letters=tuple(marks), matching=marks[0], not_matching=marks[1])
        for p in make_prompts((4, 3), vocab=6)
    )
    return model, marks, prompts


LABELLING = {
    "token": Labelling(rule="token", within=2),
    "regex": Labelling("regex", 2, "{letter}"),
    "final_answer": Labelling("final_answer", 2, "{letter}", phrases=()),  # the last of the two answers
}


def say(model, prompts, sampling, rule="token"):
    return sample_completions(model, prompts, sampling=sampling, labelling=LABELLING[rule], progress=False)


@pytest.mark.parametrize("rule", LABELLING)
def test_pooled_draws_of_a_model_agree_with_all_that_it_can_say(build_model, rule):
    model, marks, prompts = make_model(build_model)
    vector = make_vector(model, size=3.0)
    conditions = make_conditions([vector], layers=[1], multipliers=(-1.0, 1.0))
    sampling = Sampling(n=40, max_new_tokens=3, seed=2, top_up=1500)
    completions = say(model, prompts, sampling, rule)
    found = score_completions(model, completions, [vector], conditions, target=marks[0], progress=False).measures
    trust = np.array([["red", "green"], ["red", "red"]], dtype="<U9")
    before = dataclasses.replace(found, trust=trust)
    mended, drawn = top_up(model, completions, [vector], before, target=marks[0], progress=False)
    for c, condition in enumerate(conditions):
        added = condition.multiplier * vector.directions[1]
        for i, prompt in enumerate(prompts):
            if trust[c, i] != "red":
                continue
            exact = reference.enumerate_completions(
                model.module, prompt.token_ids, steps=2, eos_ids=model.eos_ids, layer=1, added=added
            )
            read = reversed if rule == "final_answer" else iter
            want = sum(w for ids, w in exact.items() if next((t for t in read(ids) if t in (2, 3)), 0) == 2)
            cell = {name: values[c, i] for name, values in mended.steered.items()}
            assert abs(cell["p_A_steered"] - want) < 4 * max(cell["p_A_steered_se"], 1e-3)
            assert cell["p_A_steered_low"] - 1e-9 <= want <= cell["p_A_steered_high"] + 1e-9
            assert cell["p_A_steered_se"] < np.sqrt(want * (1 - want) / 1500)
            assert cell["n_steered"] == 1500
    for name, values in mended.steered.items():
        np.testing.assert_array_equal(values[0, 1], before.steered[name][0, 1], err_msg=name)
    assert [len(made.prompts) for made in drawn.values()] == [1, 2]
    for condition, made in drawn.items():
        assert made.lengths.max() == 2  # of the window alone
        assert sum(made.counts) == 1500 * len(made.prompts)
        assert (made.labelling, made.sampling.n, made.sampling.seed) == (LABELLING[rule], 1500, 2)
        again = draw_steered(model, completions, [vector], condition, 1500, progress=False)
        assert dict(count_texts(again, prompts[0].id)) == dict(count_texts(made, prompts[0].id))


def count_texts(completions, name):
    """How often each text of a prompt was drawn."""
    (i,) = [k for k, prompt in enumerate(completions.prompts) if prompt.id == name]
    for row in completions.rows_of(i):
        yield tuple(completions.token_ids[row, : completions.lengths[row]].tolist()), int(completions.counts[row])


def test_multiplier_0_is_left_as_it_is_red_or_not(build_model):
    """It checks the instrument: with draws of its own it would no longer be the unsteered estimate."""
    model, marks, prompts = make_model(build_model)
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[1], multipliers=(0.0, 1.0))
    completions = say(model, prompts, Sampling(n=10, max_new_tokens=2, top_up=30))
    found = score_completions(model, completions, [vector], conditions, target=marks[0], progress=False).measures
    red = dataclasses.replace(found, trust=np.full((2, 2), "red"))
    mended, drawn = top_up(model, completions, [vector], red, target=marks[0], progress=False)
    assert list(drawn) == [conditions[1]]
    for name, values in mended.steered.items():
        np.testing.assert_array_equal(values[0], red.steered[name][0], err_msg=name)
    assert mended.trust[0].tolist() == ["red", "red"]
    assert mended.steered["n_steered"].tolist() == [[0, 0], [30, 30]]
    np.testing.assert_allclose(mended.steered["p_A_steered"][0], mended.unsteered["p_A"], atol=1e-12)


def test_nothing_red_needs_nothing(build_model):
    model, marks, prompts = make_model(build_model)
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[1], multipliers=(1.0,))
    completions = sample_completions(
        model,
        prompts,
        sampling=Sampling(n=20, max_new_tokens=2, top_up=5),
        labelling=LABELLING["token"],
        progress=False,
    )
    found = score_completions(model, completions, [vector], conditions, target=marks[0], progress=False).measures
    green = dataclasses.replace(found, trust=np.array([["green", ""]], dtype="<U9"))
    before = model.usage.tokens
    mended, drawn = top_up(model, completions, [vector], green, target=marks[0], progress=False)
    assert (drawn, model.usage.tokens) == ({}, before)
    for name, values in all_measures(mended).items():
        np.testing.assert_array_equal(values, all_measures(found)[name])


def test_steered_draws_are_the_conditions_own_and_come_again(build_model, monkeypatch):
    """The stream is named by seed, prompt and condition, so that it depends neither on the other prompts nor on n."""
    model, _, prompts = make_model(build_model)
    vector = make_vector(model)
    asked = []

    def listen(name, sampling, condition):
        asked.append((name, sampling.seed, sampling.n, sampling.max_new_tokens, condition))
        return draw_uniforms(name, sampling, condition)

    monkeypatch.setattr("completions_lp.sample.draws.draw_uniforms", listen)
    completions = say(model, prompts, Sampling(n=20, max_new_tokens=5, seed=3, top_up=4))
    condition = Condition("v", "target", 1, 1.0)
    asked.clear()
    for seed in (None, 8):
        draw_steered(model, completions, [vector], condition, 7, seed=seed, progress=False)
    both = {prompt.id for prompt in prompts}
    assert {(name, *rest) for name, *rest in asked} == {
        (name, seed, 7, 2, condition) for name in both for seed in (3, 8)
    }
    short = dataclasses.replace(completions, labelling=dataclasses.replace(completions.labelling, within=9))
    asked.clear()
    draw_steered(model, short, [vector], condition, 2, progress=False)
    assert {width for _, _, _, width, _ in asked} == {5}  # no longer than the unsteered ones are


def test_the_draws_of_a_prompt_that_is_asked_alone_are_the_same(build_model):
    model, marks, prompts = make_model(build_model)
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[1], multipliers=(1.0,))
    completions = sample_completions(
        model,
        prompts,
        sampling=Sampling(n=20, max_new_tokens=2, top_up=9),
        labelling=LABELLING["token"],
        progress=False,
    )
    measures = score_completions(model, completions, [vector], conditions, target=marks[0], progress=False).measures
    found = []
    for red in (["red", "red"], ["green", "red"]):
        given = dataclasses.replace(measures, trust=np.array([red], dtype="<U9"))
        mended, drawn = top_up(model, completions, [vector], given, target=marks[0], progress=False)
        found.append((mended.steered["p_A_steered"][0, 1], dict(count_texts(drawn[conditions[0]], prompts[1].id))))
    assert found[0][1] == found[1][1]
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-12)


def test_hand_made_completions_have_no_steered_rows():
    completions = make_completions(make_prompts((3,)), [(0, [5, 6])], within=2)
    pool = pool_completions(completions, dataclasses.replace(completions, counts=np.array([4], dtype=np.int32)))
    assert pool.draws.tolist() == [[1], [4]]
    assert pool.completions.counts.tolist() == [5]
