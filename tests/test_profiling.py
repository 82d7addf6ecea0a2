"""Where the gain is, against a loop over every draw and against sums over all texts of a toy law."""

import dataclasses

import numpy as np
import pytest
import scored
import toys
from conftest import make_completions, make_prompts
from scored import make_scores, make_world

from completions_lp.records import Condition, InputError, Profile, Sampling, TokenScores
from completions_lp.score.profile import profile_tokens, summarize_profile
from completions_lp.score.sums import sum_tokens
from completions_lp.stats import average_by_group, mean_interval

CONDITIONS = (Condition("v", "target", 1, 1.0), Condition("v", "target", 2, -1.0))


def random_scores(seed=0, *, n_prompts=7, within=3, longest=6, max_new_tokens=8):
    """Ragged completions, some with an answer anywhere in the window; the first prompt has no A."""
    rng = np.random.default_rng(seed)
    rows, labels, answers = [], [], []
    for prompt in range(n_prompts):
        for label in ["B", ""] * 3 if prompt == 0 else ["A", "B", ""] * 2:
            length = int(rng.integers(1, longest + 1))
            rows.append((prompt, rng.integers(2, 300, size=length).tolist()))
            labels.append(label)
            answers.append(-1 if label == "" else int(rng.integers(min(length, within))))
    counts = rng.integers(1, 9, size=len(rows)).tolist()
    made = make_completions(
        make_prompts((3,) * n_prompts), rows, labels=labels, answers=answers, counts=counts, within=within
    )
    completions = dataclasses.replace(made, sampling=Sampling(max_new_tokens=max_new_tokens))
    hide = np.where(completions.mask, 0.0, np.nan)
    return TokenScores(
        completions,
        CONDITIONS,
        rng.normal(size=hide.shape) + hide,
        rng.normal(size=(2, *hide.shape)) + hide,
    )


def recall(scores, prompt, condition, offset, letter):
    """The increases of every single draw that has a token there."""
    found, completions = [], scores.completions
    for row in np.flatnonzero(completions.prompt_index == prompt):
        token = int(completions.answer_index[row]) + offset
        if completions.label[row] == letter and 0 <= token < completions.lengths[row]:
            delta = scores.logprob[condition, row, token] - scores.baseline[row, token]
            found += [delta] * int(completions.counts[row])
    return found


@pytest.mark.parametrize("target", ["A", "B", "matching"])
def test_a_profile_is_a_mean_over_draws_at_each_place(target):
    scores = random_scores()
    profile = profile_tokens(scores, target=target)
    assert profile.offsets.tolist() == list(range(-2, 8))
    assert (profile.conditions, profile.prompts) == (CONDITIONS, scores.completions.prompts)
    seen = 0
    for i, prompt in enumerate(scores.completions.prompts):
        letter = prompt.matching if target == "matching" else target
        for k, offset in enumerate(profile.offsets.tolist()):
            for c in range(2):
                draws = recall(scores, i, c, offset, letter)
                assert profile.n[i, k] == len(draws)
                want = np.mean(draws) if draws else np.nan
                np.testing.assert_allclose(profile.increase[c, i, k], want, rtol=1e-12)
                seen += len(draws)
    assert seen > 200


def test_the_places_add_up_to_the_parts_of_the_increase():
    """Weighted by the draws at each place, offsets below, at and above 0 are before, at and after the answer."""
    scores = random_scores(3, n_prompts=5)
    profile, sums = profile_tokens(scores, target="A"), sum_tokens(scores)
    completions = scores.completions
    hit = completions.label == "A"
    draws = np.bincount(completions.prompt_index[hit], weights=completions.counts[hit], minlength=5)
    for part, keep in (
        ("before_answer", profile.offsets < 0),
        ("at_answer", profile.offsets == 0),
        ("after_answer", profile.offsets > 0),
    ):
        total = (np.nan_to_num(profile.increase) * profile.n)[..., keep].sum(-1) / np.where(draws > 0, draws, np.nan)
        want = average_by_group(getattr(sums, part), completions.counts, completions.prompt_index, 5, where=hit)
        np.testing.assert_allclose(total, want, rtol=1e-10)


def test_exact_frequencies_give_the_expectation_over_all_texts():
    world = make_world(0, (1.0, -2.0), steps=3)
    profile = profile_tokens(make_scores([world], within=2), target="A")
    probs = np.exp([toys.logprob_of(world.law, x) for x in world.texts])
    for c, q in enumerate(world.steered):
        for k, offset in enumerate(profile.offsets.tolist()):
            there = []
            for text, w in zip(world.texts, probs, strict=True):
                index, where = toys.first_answer(text, 2)
                t = where + offset
                if index == 0 and 0 <= t < len(text):
                    there.append((w, q(text[:t])[text[t]] - world.law(text[:t])[text[t]]))
            want = sum(w * d for w, d in there) / sum(w for w, _ in there) if there else np.nan
            np.testing.assert_allclose(profile.increase[c, 0, k], want, rtol=1e-10)
    assert np.isfinite(profile.increase).all()


def test_prompts_that_do_not_offer_the_target_or_say_nothing_are_undefined():
    worlds = [
        make_world(0, (1.0,), steps=2),
        make_world(1, (1.0,), steps=2, letters=("C", "D"), matching="C", not_matching="D"),
        dataclasses.replace(make_world(2, (1.0,), steps=2), texts=[], counts=[]),
    ]
    profile = profile_tokens(make_scores(worlds, within=2), target="A")
    assert np.isfinite(profile.increase[:, 0]).all()
    assert np.isnan(profile.increase[:, 1:]).all()
    assert profile.n[1:].sum() == 0
    nobody = profile_tokens(make_scores(worlds[1:2], within=2), target="A")
    assert np.isnan(nobody.increase).all()
    assert summarize_profile(nobody) == ()


def test_means_over_prompts_have_t_intervals_over_clusters_and_leave_empty_places_out():
    scores = random_scores(1, n_prompts=9)
    prompts = tuple(
        dataclasses.replace(p, cluster=f"c{i // 2 if i < 4 else i}") for i, p in enumerate(scores.completions.prompts)
    )
    scores = dataclasses.replace(scores, completions=dataclasses.replace(scores.completions, prompts=prompts))
    profile = profile_tokens(scores, target="A")
    rows = summarize_profile(profile, level=0.9)
    used = np.flatnonzero(profile.n.sum(0))
    assert 0 < len(used) < len(profile.offsets)
    assert [(row.condition, row.offset) for row in rows] == [
        (c, int(profile.offsets[k])) for c in CONDITIONS for k in used
    ]
    clusters = np.array([0, 0, 1, 1, 2, 3, 4, 5, 6])
    for row in rows:
        k = int(np.flatnonzero(profile.offsets == row.offset)[0])
        values = profile.increase[CONDITIONS.index(row.condition), :, k]
        assert row.n_completions == profile.n[:, k].sum()
        want = mean_interval(values, clusters, unit="nats", level=0.9)
        assert repr(row.estimate) == repr(want)
        assert row.estimate.value == pytest.approx(np.nanmean(values))
    assert any(row.estimate.low is not None for row in rows)


def test_profiles_join_prompt_by_prompt():
    worlds = [make_world(seed, (1.0,), steps=2) for seed in range(3)]
    whole = profile_tokens(make_scores(worlds, within=2), target="A")
    parts = [profile_tokens(make_scores([w], within=2), target="A") for w in worlds]
    names = [f"p{i}" for i in range(3)]
    joined = Profile.join(parts)
    np.testing.assert_array_equal(joined.increase, whole.increase)
    np.testing.assert_array_equal(joined.n, whole.n)
    assert [p.id for p in whole.prompts] == names
    assert len(joined.prompts) == 3
    other = profile_tokens(make_scores(worlds[:1], within=2, conditions=scored.make_conditions(2)[1:]), target="A")
    with pytest.raises(InputError, match="profiles of different conditions do not join"):
        Profile.join([parts[0], other])
    with pytest.raises(InputError, match=r"profile: increase has shape \(1, 3, 3\), needs \(2, 3, 3\)"):
        dataclasses.replace(whole, conditions=whole.conditions * 2)
