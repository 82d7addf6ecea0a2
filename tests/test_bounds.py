import numpy as np
import pytest
import toys
from toys import A, B, C, D

from completions_lp.stats import bound_by_texts, bound_probability, estimate_survival, grade_trust
from completions_lp.stats.survival import Survival

K = 4


@pytest.mark.parametrize("seed", range(4))
def test_any_texts_bracket_the_truth_and_all_texts_pin_it_down(seed):
    p = toys.random_law(seed)
    conditions = [p, toys.random_law(seed, multiplier=2.0), toys.random_law(seed, multiplier=-4.0)]
    truth = np.array([toys.probability_of(q, K) for q in conditions])
    texts = toys.enumerate_texts(p, K)
    rng = np.random.default_rng(seed)
    for n in (1, 2, 5, 20, 200, len(texts)):
        some = [texts[i] for i in rng.choice(len(texts), size=n, replace=False)]
        seen = toys.observe(p, conditions, some, within=K)
        low, high = bound_probability(seen.steps, seen.logq[..., :K], seen.lqA)
        assert (low <= truth + 1e-12).all()
        assert (truth <= high + 1e-12).all()
    np.testing.assert_allclose(low, truth, rtol=0, atol=1e-10)
    np.testing.assert_allclose(high, truth, rtol=0, atol=1e-10)


def test_bounds_equal_sums_over_sets_of_prefixes():
    p, q = toys.random_law(9), toys.random_law(9, multiplier=1.0)
    texts, counts = toys.sample_texts(p, K + 2, 60, 1)  # longer than the window: some differ only past it
    seen = toys.observe(p, [q], texts, counts, within=K)
    prefixes, stopped = set(), set()
    for text in texts:
        answer, where = toys.first_answer(text, K)
        end = where + 1 if where >= 0 else min(len(text), K)
        prefixes |= {text[:t] for t in range(end)}
        if answer != 0:
            stopped.add(text[:end])
    low = sum(np.exp(toys.logprob_of(q, u) + q(u)[A]) for u in prefixes)
    high = 1 - sum(np.exp(toys.logprob_of(q, x)) for x in stopped)
    np.testing.assert_allclose(
        bound_probability(seen.steps, seen.logq[..., :K], seen.lqA), [[low], [high]], rtol=0, atol=1e-12
    )
    assert len(stopped) < sum(toys.first_answer(x, K)[0] != 0 for x in texts)


def test_a_text_cut_off_before_the_window_proves_nothing_about_its_end():
    p = toys.random_law(0)
    cut = toys.observe(p, [p], [(C,)], within=2)
    _, high = bound_probability(cut.steps, cut.logq, cut.lqA)
    assert high[0] == 1
    whole = toys.observe(p, [p], [(C, D)], within=2)
    _, high = bound_probability(whole.steps, whole.logq, whole.lqA)
    assert high[0] == pytest.approx(1 - np.exp(toys.logprob_of(p, (C, D))))


@pytest.mark.parametrize("text", [(B, C), (B,)])
def test_the_other_answer_rules_the_target_out(text):
    p = toys.random_law(0)
    seen = toys.observe(p, [p], [text], within=2)
    low, high = bound_probability(seen.steps, seen.logq, seen.lqA)
    assert low[0] == pytest.approx(np.exp(p(())[A]))
    assert high[0] == pytest.approx(1 - np.exp(p(())[B]))


@pytest.mark.parametrize("seed", range(3))
def test_bounds_from_whole_texts_equal_sums_over_sets_and_bracket_the_truth(seed):
    p, q = toys.random_law(seed), toys.random_law(seed, multiplier=1.5)
    texts, counts = toys.sample_texts(p, K + 1, 60, seed)  # longer than the window: some differ only past it
    seen = toys.observe(p, [p, q], texts, counts, within=K)
    low, high = bound_by_texts(seen.steps, seen.logq[..., :K])
    reached = set()
    for text in texts:
        answer, where = toys.first_answer(text, K)
        if answer == 0:
            reached.add(text[: where + 1])
    assert seen.steps.reached.sum() == len(reached) < sum(toys.first_answer(x, K)[0] == 0 for x in texts)
    for c, law in enumerate((p, q)):
        want = sum(np.exp(toys.logprob_of(law, x)) for x in reached)
        assert low[c] == pytest.approx(want, abs=1e-12)
        assert low[c] <= toys.probability_of(law, K) <= high[c]
    by_steps = bound_probability(seen.steps, seen.logq[..., :K], seen.lqA)
    np.testing.assert_allclose(high, by_steps[1], rtol=0, atol=1e-12)
    assert (low <= by_steps[0] + 1e-12).all()  # single tokens prove more


def test_all_texts_pin_the_probability_down_without_single_tokens():
    p, q = toys.random_law(3), toys.random_law(3, multiplier=-2.0)
    seen = toys.observe(p, [q], toys.enumerate_texts(p, K), within=K)
    want = toys.probability_of(q, K)
    np.testing.assert_allclose(bound_by_texts(seen.steps, seen.logq), [[want], [want]], rtol=0, atol=1e-10)


def make_survival(surviving, ess, mean_weight):
    one = np.array([0.5])
    return Survival(one, one, np.array([surviving]), np.array([ess]), np.array([mean_weight]))


@pytest.mark.parametrize(
    ("width", "surviving", "ess", "mean_weight", "want"),
    [
        (0.05, [1.0, 0.9], [1.0, 1.0], [1.0, 9.0], "certified"),
        (0.06, [1.0, 0.9], [1.0, 1.0], [1.0, 1.0], "red"),
        (0.3, [1.0, 0.9], [100.0, 20.0], [1.0, 1.24], "green"),
        (0.3, [1.0, 0.9], [100.0, 20.0], [1.0, 0.81], "green"),
        (0.3, [1.0, 0.9], [100.0, 19.9], [1.0, 1.0], "red"),
        (0.3, [1.0, 0.9], [100.0, 50.0], [1.0, 1.26], "red"),
        (0.3, [1.0, 0.9], [100.0, 50.0], [1.0, 0.79], "red"),
        (0.3, [1.0, 0.9], [100.0, 50.0], [1.0, np.nan], "red"),
        (0.3, [1.0, 0.05], [100.0, 2.0], [1.0, 7.0], "green"),  # a step that hardly any text reaches
    ],
)
def test_trust_goes_by_width_then_by_draws_and_weights(width, surviving, ess, mean_weight, want):
    low = np.array([0.25])
    got = grade_trust(low, low + width - 1e-12, make_survival(surviving, ess, mean_weight))
    assert got.tolist() == [want]


def test_thresholds_are_arguments():
    survival, low = make_survival([1.0], [15.0], [1.2]), np.array([0.2])
    assert grade_trust(low, low + 0.4, survival, min_ess=10.0).tolist() == ["green"]
    assert grade_trust(low, low + 0.4, survival, min_ess=10.0, mean_weight=(0.9, 1.1)).tolist() == ["red"]
    assert grade_trust(low, low + 0.4, survival, min_ess=10.0, mean_weight=(0.9, 1.1), min_surviving=1.0).tolist() == [
        "green"
    ]
    assert grade_trust(low, low + 0.4, survival, certified_width=0.5).tolist() == ["certified"]


def test_no_draw_left_where_steering_keeps_texts_alive_is_red():
    p = toys.table_law(lambda x: (0, 0.9, 0, 0.1, 0))
    q = toys.table_law(lambda x: (0, 0.2, 0, 0.8, 0))
    seen = toys.observe(p, [q], [(A,)], [100], within=2)
    survival = estimate_survival(seen.steps, seen.logw, seen.lqA)
    np.testing.assert_array_equal(survival.mean_weight[0], [1, 0])
    low, high = bound_probability(seen.steps, seen.logq, seen.lqA)
    assert grade_trust(low, high, survival).tolist() == ["red"]
