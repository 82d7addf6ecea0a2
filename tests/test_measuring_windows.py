"""Rules by which the window as a whole decides, such as the last answer: estimates against sums and loops."""

import dataclasses

import numpy as np
import pytest
import reference
import toys
from scored import make_scores, make_world
from test_measuring import MULTIPLIERS, all_measures, draw

from completions_lp.records import InputError, Labelling
from completions_lp.score.measures import measure_completions, read_texts
from completions_lp.score.sums import sum_tokens
from completions_lp.stats import follow_steps

EXACT = {"rtol": 0, "atol": 1e-10}
STEPS = 3
TOKENLESS = ("first_A", "first_B", "first_A_steered", "first_B_steered", "p_A_answer_only", "p_A_reasoning_only")


def last_answer(text, within):
    """The last answer of a text's window, and its place; no letter without one."""
    places = [(t, "AB"[v - toys.A]) for t, v in enumerate(text[:within]) if v in (toys.A, toys.B)]
    return (places[-1][1], places[-1][0]) if places else ("", -1)


def relabel(scores, within):
    """The same scores of completions whose last answer counts."""
    said = scores.completions
    texts = [ids[:n].tolist() for ids, n in zip(said.token_ids, said.lengths, strict=True)]
    found = [last_answer(text, within if within != "all" else len(text)) for text in texts]
    labelling = Labelling("final_answer", within)
    said = dataclasses.replace(
        said,
        label=np.array([letter for letter, _ in found], dtype=str),
        answer_index=np.array([t for _, t in found], dtype=np.int32),
        labelling=labelling,
    )
    return dataclasses.replace(scores, completions=said, answers=None, baseline_answers=None)


def probability_of(law, within):
    """P(A last in the window), by adding up every text."""
    return sum(
        np.exp(toys.logprob_of(law, text))
        for text in toys.enumerate_texts(law, within)
        if last_answer(text, within)[0] == "A"
    )


@pytest.mark.parametrize("within", [2, 3, 10, "all"])
def test_draws_in_proportion_to_the_probabilities_give_the_probability_exactly(within):
    worlds = [make_world(seed, MULTIPLIERS, steps=STEPS) for seed in (0, 1)]
    measures = measure_completions(relabel(make_scores(worlds, within=STEPS, watch=False), within), target="A")
    window = min(STEPS, STEPS if within == "all" else within)
    for i, world in enumerate(worlds):
        want, first = probability_of(world.law, window), world.probability(world.law, window, "A")
        assert abs(want - first) > 1e-3  # which answer comes first is another question
        for name in ("p_A", "p_A_low", "p_A_high"):
            np.testing.assert_allclose(measures.unsteered[name][i], want, err_msg=name, **EXACT)
        for c, law in enumerate(world.steered):
            for end in ("", "_low", "_high"):
                got = measures.steered[f"p_A_steered{end}"][c, i]
                np.testing.assert_allclose(got, probability_of(law, window), err_msg=end, **EXACT)
        np.testing.assert_allclose(measures.steered["mean_weight_low"][:, i], 1, **EXACT)
    assert (measures.trust == "certified").all()
    for name in (*TOKENLESS, "increase_to_answer_A_rb"):
        assert np.isnan(all_measures(measures)[name]).all(), name


@pytest.mark.parametrize("within", [2, "all"])
@pytest.mark.parametrize("seed", range(3))
def test_a_finite_sample_equals_a_loop_over_every_draw(seed, within):
    world = draw(seed, 80)
    measures = measure_completions(relabel(make_scores([world], within=STEPS, watch=False), within), target="A")
    window = STEPS if within == "all" else within
    draws = [
        (text[:window], last_answer(text, window)[0] == "A", len(text) >= window or text[-1] == toys.EOS)
        for text, count in zip(world.texts, world.counts, strict=True)
        for _ in range(count)
    ]
    plain = reference.share_windows(draws, lambda text: [np.exp(toys.logprob_of(world.law, text))] * 2)
    got = [measures.unsteered[f"p_A{end}"][0] for end in ("", "_se", "_low", "_high")]
    np.testing.assert_allclose(got, plain[:4], rtol=1e-10)
    for c, law in enumerate(world.steered):
        found = reference.share_windows(
            draws, lambda text, law=law: [np.exp(toys.logprob_of(one, text)) for one in (law, world.law)]
        )
        got = [measures.steered[f"p_A_steered{end}"][c, 0] for end in ("", "_se", "_low", "_high")]
        np.testing.assert_allclose(got, found[:4], rtol=1e-10)
        change = np.std(found[4] - plain[4], ddof=1) / np.sqrt(len(draws))
        assert measures.steered["p_A_change_se"][c, 0] == pytest.approx(change, rel=1e-10)
        assert found[2] - 1e-12 <= probability_of(law, window) <= found[3] + 1e-12


def test_weights_that_stop_at_the_answer_would_be_wrong():
    """An answer that a later one undoes: after A, steering always goes on to B."""

    def table(prefix, take_back):
        if not prefix:
            return [0, 0.5, 0.5, 0, 0]
        return [1 - take_back, 0, take_back, 0, 0] if prefix == (toys.A,) else [1, 0, 0, 0, 0]

    world = make_world(0, (1.0,), steps=STEPS)
    law, steered = (toys.table_law(lambda prefix, t=t: table(prefix, t)) for t in (0.25, 0.75))
    texts = toys.enumerate_texts(law, STEPS)
    counts = [round(64 * np.exp(toys.logprob_of(law, text))) for text in texts]
    world = dataclasses.replace(world, law=law, steered=(steered,), texts=texts, counts=counts)
    scores = make_scores([world], within=STEPS, watch=False)
    measures = measure_completions(relabel(scores, "all"), target="A")
    assert measures.unsteered["p_A"][0] == pytest.approx(0.375)
    assert measures.steered["p_A_steered"][0, 0] == pytest.approx(0.125)
    first = measure_completions(scores, target="A")
    assert first.steered["p_A_steered"][0, 0] == pytest.approx(0.5)


def test_the_increase_to_the_answer_is_through_all_that_decides_and_bounds_the_log_ratio():
    world = make_world(2, MULTIPLIERS, steps=STEPS)
    scores = relabel(make_scores([world], within=STEPS, watch=False), 2)
    increases = sum_tokens(scores)
    said = scores.completions
    for c, law in enumerate(world.steered):
        deltas = [
            [law(text[:t])[v] - world.law(text[:t])[v] for t, v in enumerate(text)]
            for text in map(tuple, (ids[:n].tolist() for ids, n in zip(said.token_ids, said.lengths, strict=True)))
        ]
        np.testing.assert_allclose(increases.increase_to_answer[c], [sum(d[:2]) for d in deltas], atol=1e-12)
        answered = np.flatnonzero(said.answer_index >= 0)
        for row in answered.tolist():
            at = int(said.answer_index[row])
            got = [getattr(increases, f"{name}_answer")[c, row] for name in ("before", "at", "after")]
            np.testing.assert_allclose(got, [sum(deltas[row][:at]), deltas[row][at], sum(deltas[row][at + 1 :])])
        hit = said.label == "A"
        mean = np.average(increases.increase_to_answer[c, hit], weights=said.counts[hit])
        assert mean <= np.log(probability_of(law, 2) / probability_of(world.law, 2)) + 1e-12


def test_texts_are_open_through_the_window_and_those_cut_before_it_prove_nothing():
    ids = np.array([[toys.A, toys.C, toys.B], [toys.A, toys.EOS, -1], [toys.A, toys.C, -1]])
    options = {
        "lengths": np.array([3, 2, 2]),
        "counts": np.array([1, 1, 1]),
        "ended": np.array([False, True, False]),
        "answer_index": np.array([2, 0, 0]),
        "target": np.array([False, True, True]),
        "other": np.array([True, False, False]),
    }
    steps = follow_steps(ids, **options, first_passage=False)
    assert steps.open.sum(1).tolist() == [3, 2, 2]
    assert steps.without.tolist() == [True, False, False]
    assert steps.reached.tolist() == [False, True, False]
    assert follow_steps(ids, **options).open.sum(1).tolist() == [3, 1, 1]
    with pytest.raises(InputError, match="an answer must lie within its completion"):
        follow_steps(ids, **{**options, "answer_index": np.array([2, 2, 0])}, first_passage=False)


def test_what_is_read_of_completions_is_their_window():
    scores = relabel(make_scores([draw(0)], within=STEPS, watch=False), "all")
    texts = read_texts(scores, scores.completions.rows_of(0), ("A", "B"))
    assert texts.window["logprob"].shape[1] == STEPS
    assert "A" not in texts.window
