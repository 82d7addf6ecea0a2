"""Scored through the window or the answer: what is there is what the whole completions give, what is not is missing."""

import dataclasses

import numpy as np
import pytest
import reference
import torch
from conftest import make_completions, make_prompts, make_vector

from completions_lp.quantities import QUANTITIES, WHOLE
from completions_lp.records import InputError, Labelling, Sampling
from completions_lp.report import summarize
from completions_lp.sample.draws import sample_completions
from completions_lp.score.grid import score_tokens
from completions_lp.score.measures import measure_completions
from completions_lp.score.parts import score_completions
from completions_lp.score.sums import sum_tokens
from completions_lp.score.topup import top_up
from completions_lp.steer.conditions import make_conditions

CUT = ("window", "answer")
WITHIN = 3
RULES = {
    "token": Labelling("token", WITHIN),
    "regex": Labelling("regex", WITHIN, "{letter}"),
    "final_answer": Labelling("final_answer", WITHIN, "{letter}", phrases=()),
}
UNSCORED = {"increase_A", "increase_not_A", "increase_all", "after_answer_A", "kl", "kl_reverse", "kl_per_token"}
UNSCORED |= {"excess_surprisal", "excess_surprisal_se"}


def say(build_model, *, rule="token", n=30, top=0, longest=6, prompts=(4, 3)):
    """What a model of six tokens says, of which two are the answers: its vector and conditions beside it."""
    model = build_model("llama", vocab_size=6, scale=2.0, dtype=torch.float64)
    marks = tuple(model.tokenizer.decode([token]) for token in (2, 3))
    asked = [
        dataclasses.replace(p, letters=marks, matching=marks[0], not_matching=marks[1])
        for p in make_prompts(prompts, vocab=6)
    ]
    sampling = Sampling(n=n, max_new_tokens=longest, seed=3, top_up=top)
    said = sample_completions(model, asked, sampling=sampling, labelling=RULES[rule], progress=False)
    vector = make_vector(model, size=2.0)
    return model, said, vector, make_conditions([vector], layers=[0, 2], multipliers=(-1.0, 0.0, 1.0))


def list_cuts(completions, through):
    """The tokens of each completion that are scored, by the slow twin; where the last answer counts, to the window."""
    through = "window" if completions.labelling.rule == "final_answer" and through == "answer" else through
    return [
        reference.cut(ids[:n].tolist(), answer, completions.labelling.within, through)
        for ids, n, answer in zip(
            completions.token_ids, completions.lengths, completions.answer_index.tolist(), strict=True
        )
    ]


def agree(one, two, *, but=()):
    """Whether the numbers of one mapping are those of the other, and those in ``but`` are missing."""
    assert set(one) == set(two)
    for name, values in one.items():
        if name in but:
            assert np.isnan(values).all(), name
            assert np.isfinite(two[name]).any(), name
        else:
            np.testing.assert_allclose(values, two[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_how_many_tokens_are_scored():
    rows = [(0, [7] * n) for n in (1, 3, 4, 9, 9, 9, 2)]
    answers = [0, -1, -1, -1, 0, 3, 1]
    said = make_completions(
        make_prompts((2,)), rows, answers=answers, labels=["A" * (a >= 0) for a in answers], within=4
    )
    assert said.count_scored("end").tolist() == [1, 3, 4, 9, 9, 9, 2]
    assert said.count_scored("window").tolist() == [1, 3, 4, 4, 4, 4, 2]
    assert said.count_scored("answer").tolist() == [1, 3, 4, 4, 1, 4, 2]
    for through in ("end", *CUT):
        assert said.count_scored(through).tolist() == [len(ids) for ids in list_cuts(said, through)]
    with pytest.raises(InputError, match="through is 'middle'; it is one of end, window, answer"):
        type(said).count_scored.__wrapped__(said, "middle")


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("through", CUT)
@pytest.mark.usefixtures("exact_softmax")
def test_scores_are_those_of_the_slow_twin_through_the_cut_and_of_whole_completions(build_model, through, engine):
    model, said, vector, conditions = say(build_model, n=12)
    options = {"target": said.prompts[0].letters[0], "kl": True, "engine": engine, "progress": False}
    whole = score_tokens(model, said, [vector], conditions, **options)
    scores = score_tokens(model, said, [vector], conditions, through=through, **options)
    cuts = list_cuts(said, through)
    assert sum(map(len, cuts)) < 0.8 * said.lengths.sum()
    assert scores.mask.sum(-1).tolist() == [len(ids) for ids in cuts]
    for name in ("baseline", "logprob", "entropy", "kl", "kl_reverse"):
        found, want = getattr(scores, name), getattr(whole, name)
        assert np.array_equal(np.isfinite(found), np.broadcast_to(scores.mask, found.shape)), name
        np.testing.assert_allclose(found[..., scores.mask], want[..., scores.mask], atol=1e-9, err_msg=name)
    for name in ("baseline_answers", "answers"):
        found, want = getattr(scores, name)[..., scores.mask, :], getattr(whole, name)[..., scores.mask, :]
        np.testing.assert_allclose(found, want, atol=1e-9, err_msg=name)
    for row, ids in enumerate(cuts):
        prompt = said.prompts[said.prompt_index[row]].token_ids
        slow = reference.score(model.module, prompt, ids)
        np.testing.assert_allclose(scores.baseline[row, : len(ids)], slow, atol=1e-9)
        for c, condition in enumerate(conditions):
            added = condition.multiplier * vector.directions[condition.layer]
            slow = reference.score(model.module, prompt, ids, layer=condition.layer, added=added)
            np.testing.assert_allclose(scores.logprob[c, row, : len(ids)], slow, atol=1e-9)


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("through", CUT)
def test_the_network_never_sees_a_token_past_the_cut(build_model, through, engine):
    model, said, vector, conditions = say(build_model, n=12)
    outside = said.mask & (np.arange(said.token_ids.shape[1]) >= said.count_scored(through)[:, None])
    other = dataclasses.replace(said, token_ids=np.where(outside, 10**6, said.token_ids).astype(np.int32))
    used = []
    for completions in (said, other):
        before = model.usage.tokens
        scores = score_tokens(model, completions, [vector], conditions, through=through, engine=engine, progress=False)
        used.append((model.usage.tokens - before, scores.baseline, scores.logprob))
    for one, two in zip(*used, strict=True):
        np.testing.assert_array_equal(one, two)
    before = model.usage.tokens
    score_tokens(model, said, [vector], conditions, engine=engine, progress=False)
    assert used[0][0] < 0.8 * (model.usage.tokens - before)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("through", CUT)
def test_what_is_there_agrees_and_what_is_not_is_missing(build_model, rule, through):
    model, said, vector, conditions = say(build_model, rule=rule)
    target = said.prompts[0].letters[0]
    options = {"target": target, "progress": False}
    whole = score_completions(model, said, [vector], conditions, **options)
    scores = score_completions(model, said, [vector], conditions, through=through, **options)
    kept = np.array([len(ids) for ids in list_cuts(said, through)]) == said.lengths
    assert 0 < kept.sum() < len(said)  # some end within the window
    assert scores.increases.is_whole.tolist() == kept.tolist()
    assert whole.increases.is_whole.all()
    for name in ("increase_to_answer", "before_answer", "at_answer"):
        np.testing.assert_allclose(
            getattr(scores.increases, name), getattr(whole.increases, name), atol=1e-9, err_msg=name
        )
    for name in ("increase", "after_answer", "logprob"):
        found, want = getattr(scores.increases, name), getattr(whole.increases, name)
        np.testing.assert_allclose(found[:, kept], want[:, kept], atol=1e-9, err_msg=name)
        assert np.isnan(found[:, ~kept]).all(), name
    absent = UNSCORED & {*whole.measures.unsteered, *whole.measures.steered}
    for part in ("unsteered", "steered"):
        agree(getattr(scores.measures, part), getattr(whole.measures, part), but=absent)
    np.testing.assert_array_equal(scores.measures.trust, whole.measures.trust)
    offsets = scores.profile.offsets
    assert offsets.tolist() == [-2, -1, 0]  # through the answer
    at = np.isin(whole.profile.offsets, offsets)
    np.testing.assert_allclose(scores.profile.increase, whole.profile.increase[..., at], atol=1e-9)
    np.testing.assert_array_equal(scores.profile.n, whole.profile.n[:, at])
    inside = np.arange(said.token_ids.shape[1]) < said.count_scored(through)[:, None]
    assert scores.tokens.conditions == whole.tokens.conditions
    np.testing.assert_allclose(scores.tokens.increase, np.where(inside, whole.tokens.increase, np.nan), atol=1e-6)


@pytest.mark.parametrize("through", CUT)
def test_draws_of_the_steered_model_mend_the_same(build_model, through):
    model, said, vector, conditions = say(build_model, n=10, top=40)
    options = {"target": said.prompts[0].letters[0], "progress": False}
    found = score_completions(model, said, [vector], conditions, through=through, **options).measures
    red = dataclasses.replace(found, trust=np.full(found.trust.shape, "red"))
    (one, drawn), (two, again) = (
        top_up(model, said, [vector], red, through=how, **options) for how in (through, "end")
    )
    assert set(drawn) == set(again) == {c for c in conditions if c.multiplier != 0}
    agree(one.steered, two.steered, but=())
    np.testing.assert_array_equal(one.trust, two.trust)
    assert np.isfinite(one.steered["p_A_steered"]).all()


def make_reports(build_model, *, prompts=(4, 3, 5, 6, 2, 7, 3, 4), n=20):
    """A report by what is scored, of the same completions."""
    model, said, vector, conditions = say(build_model, n=n, prompts=prompts)
    options = {"target": said.prompts[0].letters[0], "progress": False}
    scored = {
        how: score_completions(model, said, [vector], conditions, through=how, **options) for how in ("end", *CUT)
    }
    return {how: summarize(scores, target=options["target"]) for how, scores in scored.items()}


@pytest.fixture(scope="module")
def reports(build_model):
    return make_reports(build_model)


def test_the_list_of_what_is_over_whole_completions():
    assert set(WHOLE) == UNSCORED


@pytest.mark.parametrize("through", CUT)
def test_a_report_has_the_same_rows_but_those_over_whole_completions(reports, through):
    whole, report = reports["end"], reports[through]

    def key(row):
        return row.condition, row.quantity, row.weighting, row.split

    there, found = ({key(row): row for row in r.rows} for r in (whole, report))
    gone = {quantity for _, quantity, *_ in there.keys() - found.keys()}
    assert gone == {name for name in UNSCORED if QUANTITIES[name].summarized}
    assert not found.keys() - there.keys()
    assert not {quantity for _, quantity, *_ in found} & UNSCORED
    for place, row in found.items():
        one, two = ({**vars(r.estimate), **vars(r.inference), "n_dropped": r.n_dropped} for r in (row, there[place]))
        for name, value in two.items():
            if isinstance(value, float):
                np.testing.assert_allclose(one[name], value, rtol=1e-7, atol=1e-9, err_msg=f"{place} {name}")
            else:
                assert one[name] == value, (place, name)
    agree(
        {name: x for name, x in report.prompts.items() if np.asarray(x).dtype.kind == "f"},
        {name: x for name, x in whole.prompts.items() if np.asarray(x).dtype.kind == "f"},
        but=UNSCORED,
    )
    assert (report.best, report.errors, report.through) == (whole.best, whole.errors, through)
    assert report.warnings == whole.warnings
    assert not report.errors
    assert {"sampler_z", "all_completions_z", "largest_kl"} == {
        name for name, value in report.checks.items() if np.isnan(value) and np.isfinite(whole.checks[name])
    }
    for name in ("noise_floor", "sampler_gap", "not_finite"):
        assert 0 <= report.checks[name] < 1e-9, name
    assert report.checks["label_gap"] == pytest.approx(whole.checks["label_gap"], abs=1e-9)


@pytest.mark.parametrize("through", CUT)
def test_the_self_check_compares_the_tokens_that_are_scored(build_model, through):
    model, said, vector, conditions = say(build_model, n=12)
    last = said.count_scored(through) - 1
    row = int(np.flatnonzero(last + 1 < said.lengths)[0])
    for token, gap in ((last[row], 0.7), (last[row] + 1, 0.0)):
        drawn = said.logprob.copy()
        drawn[row, token] += 0.7
        changed = dataclasses.replace(said, logprob=drawn)
        scores = score_completions(
            model, changed, [vector], conditions, through=through, target="matching", progress=False
        )
        report = summarize(scores)
        assert report.checks["sampler_gap"] == pytest.approx(gap, abs=1e-9)
        assert bool(report.errors) == bool(gap)


@pytest.mark.parametrize("through", CUT)
def test_only_a_broken_token_that_is_scored_breaks(build_model, through):
    model, said, vector, conditions = say(build_model, n=12)
    target = said.prompts[0].letters[0]
    scores = score_tokens(model, said, [vector], conditions, target=target, through=through, progress=False)
    baseline, last = scores.baseline.copy(), int(said.count_scored(through)[0]) - 1
    assert np.isnan(baseline).any()  # tokens that are not scored are no broken ones
    measures = measure_completions(scores, target=target)
    assert not measures.steered["n_broken"].any()
    baseline[0, last] = -np.inf
    broken = dataclasses.replace(scores, baseline=baseline)
    increases, measures = sum_tokens(broken), measure_completions(broken, target=target)
    assert (measures.steered["n_broken"] == [[said.counts[0], 0]] * len(conditions)).all()
    report = summarize(increases, None, measures, target=target)
    assert np.isnan(increases.baseline).tolist() == [row == 0 for row in range(len(said))]
    assert report.checks["not_finite"] > 0
    assert "log probs that are not finite" in report.errors[0]
