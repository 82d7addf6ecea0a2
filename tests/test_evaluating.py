"""Scoring in parts: the same numbers as in one, and the tokens of the chosen conditions on the way."""

import dataclasses

import numpy as np
import pyarrow.parquet
import pytest
import torch
from conftest import make_completions, make_prompts, make_vector
from scored import make_scores, make_world

from completions_lp import store
from completions_lp.records import Condition, Increases, InputError, Measures, Scores
from completions_lp.score import parts
from completions_lp.score.grid import score_tokens
from completions_lp.score.measures import measure_completions
from completions_lp.score.parts import choose_conditions, score_completions
from completions_lp.score.profile import profile_tokens
from completions_lp.score.sums import sum_tokens
from completions_lp.stats import start_stream
from completions_lp.steer.conditions import make_conditions

MULTIPLIERS = (1.0, -2.0)
STEERED = ("logprob", "kl", "kl_reverse", "answers")
PLAIN = ("baseline", "entropy", "baseline_answers")


def list_worlds():
    """Five prompts; the third and the last do not offer A."""
    other = {"letters": ("C", "D"), "matching": "C", "not_matching": "D"}
    return [make_world(seed, MULTIPLIERS, steps=2, **(other if seed in (2, 4) else {})) for seed in range(5)]


class Scorer:
    """Stands in for the network: cuts each part out of scores that are known, and remembers what it was asked."""

    def __init__(self, scores, fail_at=None):
        self.scores, self.fail_at, self.asked, self.parts = scores, fail_at, [], []

    def __call__(self, model, part, places, vectors, conditions, *, target, kl, through, memory_budget, advance):
        assert not places
        return self.score(part, conditions, target, advance), np.empty((0, 0)), np.empty((len(conditions), 0, 0))

    def score(self, part, conditions, target, advance):
        if len(self.parts) == self.fail_at:
            raise MemoryError("no more")
        self.asked.append(target)
        self.parts.append([prompt.id for prompt in part.prompts])
        advance(len(part) * len(conditions))
        if part is self.scores.completions:
            return self.scores
        places = {prompt.id: i for i, prompt in enumerate(self.scores.completions.prompts)}
        rows = np.concatenate([self.scores.completions.rows_of(places[prompt.id]) for prompt in part.prompts])
        steered = {name: getattr(self.scores, name)[:, rows] for name in STEERED}
        plain = {name: getattr(self.scores, name)[rows] for name in PLAIN}
        return dataclasses.replace(self.scores, completions=part, **steered, **plain)


@pytest.fixture
def evaluate(monkeypatch, build_model):
    """A function that evaluates known scores; it gives what was made of them, and the scorer that gave them."""

    def run(scores, *, part=2**27, fail_at=None, progress=False, target="A", **options):
        scorer = Scorer(scores, fail_at)
        monkeypatch.setattr(parts, "score_places", scorer)
        monkeypatch.setattr(parts, "PART", part)
        arguments = (build_model(), scores.completions, [], scores.conditions)
        return score_completions(*arguments, progress=progress, target=target, **options), scorer

    return run


def same(one, two):
    """Whether two evaluations are equal to the last bit."""
    for name in ("baseline", *Increases.PARTS):
        np.testing.assert_array_equal(getattr(one.increases, name), getattr(two.increases, name), err_msg=name)
    for part in ("unsteered", "steered"):
        for name, values in getattr(one.measures, part).items():
            np.testing.assert_array_equal(values, getattr(two.measures, part)[name], err_msg=name)
    np.testing.assert_array_equal(one.measures.trust, two.measures.trust)
    for name in ("offsets", "increase", "n"):
        np.testing.assert_array_equal(getattr(one.profile, name), getattr(two.profile, name))
    assert one.measures.prompts == two.measures.prompts == one.profile.prompts == two.profile.prompts
    assert one.measures.conditions == two.measures.conditions == one.profile.conditions


def test_parts_give_exactly_what_one_part_gives(evaluate):
    scores = make_scores(list_worlds(), within=2)
    whole, scorer = evaluate(scores)
    assert scorer.parts == [["p0", "p1", "p2", "p3", "p4"]]
    assert whole.increases.completions is scores.completions
    for size, want in ((1, 5), (2 * 21 * 2 * 2 * 5, 3)):  # a prompt has 21 texts of 2 tokens, and there are 5 arrays
        apart, scorer = evaluate(scores, part=size)
        assert len(scorer.parts) == want
        assert [name for names in scorer.parts for name in names] == [f"p{i}" for i in range(5)]
        same(apart, whole)
    wholly = (sum_tokens(scores), measure_completions(scores, target="A"), profile_tokens(scores, target="A"))
    same(Scores(*wholly), whole)


def test_a_part_without_the_target_is_read_for_its_own_answers(evaluate):
    scores = make_scores(list_worlds(), within=2)
    found, scorer = evaluate(scores, part=1)
    assert scorer.asked == ["A", "A", "matching", "A", "matching"]
    assert np.isnan(found.measures.steered["p_A_steered"][:, [2, 4]]).all()
    assert np.isfinite(found.measures.steered["p_A_steered"][:, [0, 1, 3]]).all()
    assert found.profile.n[[2, 4]].sum() == 0


def test_completions_that_are_not_in_the_order_of_their_prompts_keep_their_places(evaluate):
    scores = make_scores(list_worlds(), within=2)
    order = np.random.default_rng(0).permutation(len(scores.completions))
    completions = scores.completions
    names = ("prompt_index", "token_ids", "lengths", "counts", "ended", "label", "answer_index", "logprob")
    moved = dataclasses.replace(
        completions,
        text=tuple(completions.text[i] for i in order),
        pieces=tuple(completions.pieces[i] for i in order),
        **{name: getattr(completions, name)[order] for name in names},
    )
    arrays = {name: getattr(scores, name)[:, order] for name in STEERED}
    arrays |= {name: getattr(scores, name)[order] for name in PLAIN}
    mingled = dataclasses.replace(scores, completions=moved, **arrays)
    want = sum_tokens(mingled)
    for size in (1, 2**27):
        found, _ = evaluate(mingled, part=size)
        for name in ("baseline", *Increases.PARTS):
            np.testing.assert_array_equal(getattr(found.increases, name), getattr(want, name), err_msg=name)


def test_parts_are_as_large_as_fits_and_never_empty(evaluate):
    worlds = [make_world(seed, MULTIPLIERS, steps=2) for seed in range(6)]
    worlds[0] = dataclasses.replace(worlds[0], texts=[], counts=[])
    worlds[3] = dataclasses.replace(worlds[3], texts=worlds[3].texts[:4], counts=worlds[3].counts[:4])
    worlds[5] = dataclasses.replace(worlds[5], texts=[], counts=[])
    scores = make_scores(worlds, within=2)
    numbers = 21 * 2 * 2 * 5  # texts x tokens x conditions x arrays of a prompt
    for part, kl, want in (
        (1, True, [["p0", "p1"], ["p2"], ["p3"], ["p4", "p5"]]),
        (numbers * 5 // 4, True, [["p0", "p1"], ["p2", "p3"], ["p4", "p5"]]),
        (numbers * 2, True, [["p0", "p1", "p2"], ["p3", "p4", "p5"]]),
        (numbers * 6 // 5, True, [["p0", "p1"], ["p2", "p3"], ["p4", "p5"]]),
        (numbers * 6 // 5, False, [["p0", "p1", "p2"], ["p3", "p4", "p5"]]),
    ):
        _, scorer = evaluate(scores, part=part, kl=kl)
        assert scorer.parts == want


def test_a_target_that_nobody_offers_is_refused_before_any_work(evaluate):
    scores = make_scores(list_worlds(), within=2)
    with pytest.raises(InputError, match="target 'E' is an answer of no prompt"):
        evaluate(scores, target="E", fail_at=0)


def test_the_tokens_of_a_few_conditions_are_kept_and_the_same_ones_in_every_part(evaluate):
    worlds = list_worlds()
    scores = make_scores(worlds, within=2)
    alone = [choose_conditions(measure_completions(make_scores([world], within=2), target="A")) for world in worlds]
    assert alone[0] != alone[1]  # the first part chooses for all, though others would not agree
    whole = choose_conditions(measure_completions(scores, target="A"))
    change = np.nansum(scores_change(scores), axis=-1)
    assert whole == [int(np.abs(change).argmax())]  # both are at layers of their own
    for size, keep_all, chosen in ((1, False, alone[0]), (2**27, False, whole), (1, True, [0, 1])):
        kept = []
        evaluate(scores, part=size, keep=kept.append, keep_all=keep_all)
        want = scores.select(chosen)
        assert [p.id for part in kept for p in part.completions.prompts] == [f"p{i}" for i in range(5)]
        for name in STEERED:
            got = np.concatenate([getattr(part, name) for part in kept], axis=1)
            np.testing.assert_array_equal(got, getattr(want, name))
        assert all(part.conditions == want.conditions for part in kept)


def list_grid(names=("v",), layers=(0, 1), multipliers=(-1.0, 0.0, 1.0), kind="target", positions="completion"):
    return [Condition(v, kind, layer, m, positions) for v in names for layer in layers for m in multipliers]


def scores_change(scores):
    measures = measure_completions(scores, target="A")
    return measures.steered["p_A_steered"] - measures.unsteered["p_A"]


def make_measures(conditions, change):
    """Prompts with P(A) = 0.5, changed by so much under every condition."""
    shape = np.shape(change)
    prompts = make_prompts((2,) * shape[1])
    unsteered = {name: np.full(shape[1], 0.5) for name in Measures.UNSTEERED}
    steered = {name: np.full(shape, np.nan) for name in Measures.STEERED}
    steered["p_A_steered"] = 0.5 + np.array(change, dtype=np.float64)
    return Measures(prompts, tuple(conditions), unsteered, steered, np.full(shape, "green"))


def test_the_layer_that_steers_most_is_chosen_not_the_one_that_damages():
    conditions = list_grid()
    change = [[-0.4, -0.4], [0.9, 0.9], [-0.4, -0.4], [-0.1, 0.0], [0.9, 0.9], [0.1, 0.2]]
    assert choose_conditions(make_measures(conditions, change)) == [3, 5]  # layer 0 goes down under both signs
    change[2] = [0.3, 0.3]
    assert choose_conditions(make_measures(conditions, change)) == [0, 2]  # never multiplier 0
    change[2] = [np.nan, np.nan]  # a cell without a value is never the best
    assert choose_conditions(make_measures(conditions, change)) == [3, 5]


def test_tokens_are_kept_of_the_cell_that_the_report_chooses():
    """Of many prompts with noise, where the halves matter; with negative multipliers alone it is the smallest."""
    rng = np.random.default_rng(0)
    for multipliers in ((-2.0, -1.0), (-2.0, 2.0)):
        conditions = list_grid(layers=(0, 1, 2), multipliers=multipliers)
        change = rng.normal(0, 0.2, (len(conditions), 9)).clip(-0.45, 0.45)
        (kept, *_) = choose_conditions(make_measures(conditions, change.tolist()), seed=4)
        half = start_stream(4, "halves").permutation(9)[:5]
        means = change[:, half].mean(-1)
        best = means.argmin() if max(multipliers) < 0 else means.argmax()
        assert conditions[kept].layer == conditions[best].layer


def test_at_most_eight_are_chosen_and_those_nearest_to_nothing():
    multipliers = (-6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    conditions = list_grid(layers=(3,), multipliers=multipliers)
    change = [[c.multiplier / 20] * 2 for c in conditions]
    assert [conditions[c].multiplier for c in choose_conditions(make_measures(conditions, change))] == [
        *(-4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0)
    ]


def test_only_one_target_vector_at_one_place_is_chosen():
    conditions = [
        *list_grid(("r",), kind="random"),
        *list_grid(("v", "w"), multipliers=(1.0, 2.0)),
        *list_grid(("v",), multipliers=(1.0, 2.0), positions="all"),
    ]
    change = [[0.4 if c.kind == "random" else 0.1 * (c.positions == "all")] * 2 for c in conditions]
    assert [conditions[c] for c in choose_conditions(make_measures(conditions, change))] == [
        Condition("v", "target", 0, 1.0, "all"),
        Condition("v", "target", 0, 2.0, "all"),
    ]
    assert choose_conditions(make_measures(conditions[:6], [[0.1, 0.1]] * 6)) == [0, 1, 2, 3, 4, 5]
    many = list_grid(("r",), layers=range(5), kind="random")
    assert choose_conditions(make_measures(many, [[0.1, 0.1]] * 15)) == list(range(8))


def test_a_failure_on_the_way_leaves_no_tokens(evaluate, tmp_path):
    scores = make_scores(list_worlds(), within=2)
    with pytest.raises(MemoryError, match="no more"), store.open_tokens(tmp_path) as keep:
        evaluate(scores, part=1, fail_at=3, keep=keep)
    assert list(tmp_path.iterdir()) == []
    with store.open_tokens(tmp_path) as keep:
        evaluate(scores, part=1, keep=keep, keep_all=True)
    apart = pyarrow.parquet.read_table(tmp_path / "tokens.parquet").to_pandas()
    with store.open_tokens(tmp_path) as keep:
        evaluate(scores, keep=keep, keep_all=True)
    whole = pyarrow.parquet.read_table(tmp_path / "tokens.parquet").to_pandas()
    assert len(whole) == 2 * int(scores.completions.lengths.sum())
    by = ["multiplier", "prompt_id", "completion_id", "token"]
    apart, whole = (table.sort_values(by).reset_index(drop=True) for table in (apart, whole))
    assert apart.equals(whole)


def test_one_bar_counts_the_rows_of_all_parts(evaluate, capsys):
    scores = make_scores(list_worlds(), within=2)
    rows = len(scores.completions) * len(scores.conditions)
    for part in ({}, {"part": 1}):
        evaluate(scores, progress=True, **part)
        shown = capsys.readouterr().err
        assert f"{rows}/{rows}" in shown
        assert shown.count("score: 100%") == 1


@pytest.mark.parametrize("kl", [True, False])
def test_with_a_model_parts_and_one_part_agree_with_its_scores(build_model, tokenizer, monkeypatch, kl):
    model = build_model("llama", dtype=torch.float64)
    prompts = make_prompts()
    a, b, s = (tokenizer(text, add_special_tokens=False).input_ids for text in (" (A)", "B", "s no"))
    rows = [(0, a), (0, b + s), (1, b), (1, s + b), (2, s), (3, a), (3, s + a)]
    labels, answers = ["A", "B", "B", "B", "", "A", "A"], [1, 0, 0, len(s), -1, 1, len(s) + 1]
    completions = make_completions(prompts, rows, labels=labels, answers=answers, counts=[4, 6, 3, 7, 10, 5, 5])
    vector = make_vector(model)
    conditions = make_conditions([vector], layers=[0, 2], multipliers=(-1.0, 1.0))
    options = {"kl": kl, "progress": False}
    whole = score_completions(model, completions, [vector], conditions, target="A", **options)
    scores = score_tokens(model, completions, [vector], conditions, target="A", **options)
    same(whole, Scores(sum_tokens(scores), measure_completions(scores, target="A"), profile_tokens(scores, target="A")))
    assert np.isfinite(whole.measures.steered["kl"]).all() == kl
    monkeypatch.setattr(parts, "PART", 1)
    apart = score_completions(model, completions, [vector], conditions, target="A", **options)
    for name in ("baseline", *Increases.PARTS):
        np.testing.assert_allclose(getattr(apart.increases, name), getattr(whole.increases, name), atol=1e-9)
    for part in ("unsteered", "steered"):
        for name, values in getattr(apart.measures, part).items():
            want = getattr(whole.measures, part)[name]
            np.testing.assert_allclose(values, want, rtol=1e-7, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(apart.profile.increase, whole.profile.increase, atol=1e-9)
    np.testing.assert_array_equal(apart.measures.trust, whole.measures.trust)
