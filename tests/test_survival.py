import dataclasses

import numpy as np
import pytest
import toys
from scipy.special import logit
from toys import A, B, C, D

from completions_lp.records import InputError
from completions_lp.stats import (
    average_excess_surprisal,
    estimate_change_error,
    estimate_hybrids,
    estimate_incidence,
    estimate_increase,
    estimate_kl,
    estimate_probability,
    estimate_reverse_kl,
    estimate_share,
    estimate_survival,
    follow_steps,
    pool_log_weight,
    split_change,
    weigh_texts,
)

K = 4
MULTIPLIERS = (-1.0, 0.5, 2.0)
TWO_WAYS = ((A, C), (B,))  # two tokens complete the target
EXACT = {"rtol": 0, "atol": 1e-10}


@pytest.fixture(scope="module", params=[0, 1, 2])
def world(request):
    """Unsteered law, steered laws, every text, and what would be seen of infinitely many draws."""
    p = toys.random_law(request.param)
    conditions = [toys.random_law(request.param, multiplier=m) for m in MULTIPLIERS]
    texts, seen = toys.observe_all(p, conditions, within=K, answers=TWO_WAYS)
    return p, conditions, texts, seen


def sample(seed=0, n=100):
    p = toys.random_law(seed, scale=0.5)
    laws = [toys.random_law(seed, scale=0.5, multiplier=m) for m in MULTIPLIERS[:2]]
    texts, counts = toys.sample_texts(p, K, n, seed)
    seen = toys.observe(p, laws, texts, counts, within=K, answers=TWO_WAYS)
    assert seen.steps.open[:, -1].any()
    return p, laws, texts, seen


def recall(steps, log_weight, log_hazard):
    """The survival estimator of one condition, draw by draw (numbers.md P3)."""
    draws = [s for s, count in enumerate(steps.counts) for _ in range(count)]
    stop = steps.open.sum(1)
    surviving, ess, mean_weight = [1.0], [], []
    for t in range(steps.open.shape[1]):
        alive = [s for s in draws if not (steps.target[s] and t >= stop[s])]
        w = np.array([np.exp(log_weight[s, t]) for s in alive])
        h = np.array([np.exp(log_hazard[s, t]) if t < stop[s] else 0.0 for s in alive])
        ess.append(w.sum() ** 2 / (w**2).sum())
        mean_weight.append(w.sum() / len(draws) / surviving[-1])
        surviving.append(surviving[-1] * (1 - (w * h).sum() / w.sum()))
    return 1 - surviving[-1], np.array(ess), np.array(mean_weight)


def test_infinitely_many_draws_give_the_exact_probability_under_every_condition(world):
    p, conditions, _, seen = world
    want = [toys.probability_of(q, K, answers=TWO_WAYS) for q in conditions]
    got = estimate_survival(seen.steps, seen.logw, seen.lqA)
    np.testing.assert_allclose(got.probability, want, **EXACT)
    np.testing.assert_allclose(got.mean_weight, 1, **EXACT)
    unsteered = estimate_survival(seen.steps, seen.none, seen.lpA[None])
    np.testing.assert_allclose(unsteered.probability, toys.probability_of(p, K, answers=TWO_WAYS), **EXACT)


def test_competing_risks_are_exact_for_both_answers(world):
    p, conditions, _, seen = world
    got = estimate_incidence(seen.steps, seen.logw, seen.lqA, seen.lqB)
    for c, q in enumerate(conditions):
        for answer in (0, 1):
            want = toys.probability_of(q, K, answer=answer, answers=TWO_WAYS)
            np.testing.assert_allclose(got[answer][c], want, **EXACT)
    unsteered = estimate_incidence(seen.steps, seen.none, seen.lpA[None], seen.lpB[None])
    want = [toys.probability_of(p, K, answer=i, answers=TWO_WAYS) for i in (0, 1)]
    np.testing.assert_allclose(np.ravel(unsteered), want, **EXACT)


def test_a_finite_sample_equals_a_loop_over_every_draw():
    _, _, _, seen = sample()
    assert seen.counts.max() > 1
    got = estimate_survival(seen.steps, seen.logw, seen.lqA)
    for c in range(2):
        probability, ess, mean_weight = recall(seen.steps, seen.logw[c], seen.lqA[c])
        np.testing.assert_allclose(got.probability[c], probability, rtol=1e-12)
        np.testing.assert_allclose(got.ess[c], ess, rtol=1e-12)
        np.testing.assert_allclose(got.mean_weight[c], mean_weight, rtol=1e-12)
    np.testing.assert_allclose(estimate_probability(seen.steps, seen.logw, seen.lqA), got.probability, rtol=1e-12)


def test_the_standard_error_is_the_spread_of_the_influence_of_each_draw():
    _, _, _, seen = sample(seed=3)
    n, step = seen.counts.sum(), 1e-6
    influence = []
    for s in range(len(seen.counts)):
        towards = [
            estimate_probability(
                dataclasses.replace(
                    seen.steps, counts=(1 - e) * seen.counts / n + e * (np.arange(len(seen.counts)) == s)
                ),
                seen.logw,
                seen.lqA,
            )
            for e in (step, -step)
        ]
        influence.append((towards[0] - towards[1]) / (2 * step))
    want = np.sqrt(seen.counts @ np.square(influence) / (n * (n - 1)))
    np.testing.assert_allclose(estimate_survival(seen.steps, seen.logw, seen.lqA).se, want, rtol=1e-6)


def test_a_step_that_always_answers_leaves_the_standard_error_finite():
    certain = toys.table_law(lambda x: (0, 1, 0, 0, 0) if len(x) == 1 else (0, 0.2, 0, 0.4, 0.4))
    seen = toys.observe(certain, [certain], [(A,), (C, A), (D, A)], [2, 4, 4], within=2)
    got = estimate_survival(seen.steps, seen.none, seen.lpA[None])
    assert got.probability[0] == 1
    assert got.se[0] == pytest.approx(0, abs=1e-12)


def test_a_single_draw_has_no_standard_error():
    p = toys.random_law(0)
    seen = toys.observe(p, [p], [(C, D, A)], within=3)
    assert np.isnan(estimate_survival(seen.steps, seen.none, seen.lpA[None]).se[0])


def test_a_text_that_stopped_keeps_its_weight_and_cannot_answer_any_more():
    p, q = toys.random_law(0), toys.random_law(0, multiplier=1.0)
    seen = toys.observe(p, [q], [(toys.EOS,), (B, A), (C, C)], within=2)
    np.testing.assert_array_equal(seen.steps.open, [[True, False], [True, False], [True, True]])
    np.testing.assert_array_equal(seen.steps.without_target[:, 1], [True, True, True])
    np.testing.assert_allclose(seen.logw[0, :, 1], seen.delta[0, :, 0])
    h = np.exp(q((C,))[A])
    w = np.exp(seen.delta[0, :, 0])
    want = 1 - (1 - np.exp(q(())[A])) * (1 - w[2] * h / w.sum())
    assert estimate_probability(seen.steps, seen.logw, seen.lqA)[0] == pytest.approx(want, rel=1e-12)


def test_weights_that_overflow_are_scaled_first():
    _, _, _, seen = sample()
    far = seen.logw + 5000 * np.arange(K)
    np.testing.assert_allclose(
        estimate_probability(seen.steps, far, seen.lqA),
        estimate_probability(seen.steps, seen.logw, seen.lqA),
        rtol=1e-9,
    )
    nobody = estimate_survival(seen.steps, np.where(np.arange(K) == 2, -np.inf, seen.logw), seen.lqA)
    assert np.isfinite(nobody.probability).all()
    np.testing.assert_array_equal(nobody.mean_weight[:, 2], 0)


def test_the_increase_through_the_answer_is_exact_and_below_its_bound(world):
    p, conditions, _, seen = world
    got = estimate_increase(seen.steps, seen.logw, seen.lpA, seen.lqA)
    assert (got <= np.log([toys.probability_of(q, K, answers=TWO_WAYS) for q in conditions]) -
            np.log(toys.probability_of(p, K, answers=TWO_WAYS)) + 1e-12).all()  # fmt: skip
    hazard = np.where(seen.steps.open, np.exp(seen.lpA), 0)
    gain = np.where(seen.steps.open, seen.logw + seen.lqA - seen.lpA, 0)
    want = np.einsum("s,st,cst->c", seen.counts, hazard, gain) / np.einsum("s,st->", seen.counts, hazard)
    np.testing.assert_allclose(got, want, **EXACT)


def test_with_one_completing_token_the_increase_is_the_mean_over_answering_texts():
    p, q = toys.random_law(4), toys.random_law(4, multiplier=1.5)
    texts, seen = toys.observe_all(p, [q], within=K)
    answering = [(x[: toys.first_answer(x, K)[1] + 1], w) for x, w in zip(texts, seen.counts, strict=True)
                 if toys.first_answer(x, K)[0] == 0]  # fmt: skip
    mass = sum(w for _, w in answering)
    want = sum(w * (toys.logprob_of(q, x) - toys.logprob_of(p, x)) for x, w in answering) / mass
    np.testing.assert_allclose(estimate_increase(seen.steps, seen.logw, seen.lpA, seen.lqA), want, **EXACT)


def test_the_increase_is_defined_without_a_single_answering_text():
    p, q = toys.random_law(0), toys.random_law(0, multiplier=1.0)
    seen = toys.observe(p, [q], [(C, D), (D, D)], within=2)
    assert not seen.steps.target.any()
    assert np.isfinite(estimate_increase(seen.steps, seen.logw, seen.lpA, seen.lqA)).all()
    never = np.full_like(seen.lpA, -np.inf)
    assert np.isnan(estimate_increase(seen.steps, seen.logw, never, seen.lqA)).all()


def test_divergences_and_the_sampler_test_are_unbiased_draw_by_draw(world):
    p, conditions, texts, seen = world
    kl, reverse, excess, plain = 0.0, 0.0, 0.0, 0.0
    for s, text in enumerate(texts):
        one = toys.observe(p, conditions, [text], within=K, answers=TWO_WAYS)
        kl += seen.counts[s] * estimate_kl(one.counts, one.mask, one.kl)
        reverse += seen.counts[s] * estimate_reverse_kl(one.counts, one.mask, one.delta, one.klr)
        excess += seen.counts[s] * average_excess_surprisal(one.counts, one.mask, one.logp, one.ent)
        plain += seen.counts[s] * np.nansum(-one.delta, axis=(1, 2))
    want = [sum(np.exp(toys.logprob_of(q, x)) * (toys.logprob_of(q, x) - toys.logprob_of(p, x)) for x in texts)
            for q in conditions]  # fmt: skip
    np.testing.assert_allclose(kl, plain, **EXACT)
    np.testing.assert_allclose(reverse, want, **EXACT)
    assert excess == pytest.approx(0, abs=1e-10)


def test_sharper_sampling_shows_in_the_sampler_test():
    p = toys.random_law(0)
    sharp = toys.table_law(lambda x: np.exp(toys.normalise(p(x) / 0.7)))
    texts = toys.enumerate_texts(p, K)
    seen = toys.observe(p, [p], texts, np.exp([toys.logprob_of(sharp, x) for x in texts]), within=K)
    assert average_excess_surprisal(seen.counts, seen.mask, seen.logp, seen.ent) < -0.1


def test_hybrids_are_exact_and_their_shares_add_up(world):
    p, conditions, _, seen = world
    answer, reasoning = estimate_hybrids(
        seen.steps, seen.logp[:, :K], seen.logq[..., :K], seen.lpA, seen.lqA
    )  # fmt: skip
    for c, q in enumerate(conditions):
        for got, law in ((answer, toys.hybrid_law(q, p, (A, C))), (reasoning, toys.hybrid_law(p, q, (A, C)))):
            np.testing.assert_allclose(got[c], toys.probability_of(law, K, answers=TWO_WAYS), **EXACT)
    before = np.full(len(conditions), toys.probability_of(p, K, answers=TWO_WAYS))
    after = np.array([toys.probability_of(q, K, answers=TWO_WAYS) for q in conditions])
    shares = split_change(before, answer, reasoning, after)
    np.testing.assert_allclose(sum(shares), logit(after) - logit(before), **EXACT)
    swapped = split_change(before, reasoning, answer, after)
    np.testing.assert_allclose(shares[0], swapped[1], **EXACT)


def test_shares_of_an_infinite_change_are_undefined():
    half = np.array([0.5, 0.5])
    for share in split_change(np.array([0.0, 0.5]), half, half, half):
        np.testing.assert_array_equal(np.isnan(share), [True, False])


def test_pooled_draws_are_unbiased_for_every_sampler_mix_and_bounded(world):
    p, conditions, _, seen = world
    laws, draws = [p, conditions[2]], np.array([100, 25])
    texts = toys.enumerate_texts(p, K)
    mixture = sum(
        n / 125 * np.exp([toys.logprob_of(law, x) for x in texts]) for n, law in zip(draws, laws, strict=True)
    )
    pool = toys.observe(p, laws, texts, 125 * mixture, within=K, answers=TWO_WAYS)
    samplers = pool.logq[..., :K]
    log_weight = pool_log_weight(pool.steps, seen.logq[..., :K], samplers, draws)
    want = [toys.probability_of(q, K, answers=TWO_WAYS) for q in conditions]
    plain = np.einsum("s,cst,cst->c", mixture, np.exp(log_weight), pool.steps.read_hazard(seen.lqA))
    np.testing.assert_allclose(plain, want, **EXACT)
    got = estimate_survival(pool.steps, log_weight, seen.lqA)
    np.testing.assert_allclose(got.probability, want, **EXACT)
    np.testing.assert_allclose(got.mean_weight, 1, **EXACT)
    assert np.exp(log_weight[2]).max() <= 125 / 25 + 1e-12


def test_one_sampler_pools_to_plain_importance_weights_and_unused_ones_do_not_count():
    _, _, _, seen = sample()
    n = int(seen.counts.sum())
    samplers = np.stack([seen.logp, seen.logq[1]])
    np.testing.assert_allclose(
        pool_log_weight(seen.steps, seen.logq, samplers[:1], np.array([n])), seen.logw, atol=1e-12
    )
    np.testing.assert_allclose(
        pool_log_weight(seen.steps, seen.logq, samplers, np.array([n, 0])), seen.logw, atol=1e-12
    )
    with pytest.raises(InputError, match="count every draw of the pool"):
        pool_log_weight(seen.steps, seen.logq, samplers, np.array([n, 1]))


def weigh(seen):
    """Weights of the whole texts through their answer, from the unsteered draws alone."""
    return weigh_texts(seen.steps, seen.logq[..., :K], seen.logp[None, :, :K], np.array([seen.counts.sum()]))


def test_a_text_weighs_as_much_as_steering_made_it_likelier_through_its_answer():
    p, laws, texts, seen = sample()
    for c, q in enumerate(laws):
        for s, text in enumerate(texts):
            _, where = toys.first_answer(text, K, TWO_WAYS)
            stopped = text[: where + 1] if where >= 0 else text[:K]
            want = toys.logprob_of(q, stopped) - toys.logprob_of(p, stopped)
            assert weigh(seen)[c, s] == pytest.approx(want, abs=1e-12)
            assert seen.steps.sum_open(seen.logp[:, :K])[s] == pytest.approx(toys.logprob_of(p, stopped), abs=1e-12)


def test_infinitely_many_draws_give_the_exact_share_under_every_condition(world):
    p, conditions, _, seen = world
    got = estimate_share(seen.steps, weigh(seen))
    np.testing.assert_allclose(
        got.probability, [toys.probability_of(q, K, answers=TWO_WAYS) for q in conditions], **EXACT
    )
    np.testing.assert_allclose(got.mean_weight, 1, **EXACT)
    np.testing.assert_array_equal(got.surviving, 1)
    unsteered = estimate_share(seen.steps, np.zeros((1, len(seen.counts))))
    assert unsteered.probability[0] == pytest.approx(toys.probability_of(p, K, answers=TWO_WAYS), abs=1e-10)


def test_the_weighted_sum_behind_the_share_is_unbiased_draw_by_draw(world):
    """Through the stop: E[w] = 1 and E[w 1_A] = P(A) for each single draw (numbers.md I3)."""
    p, conditions, texts, seen = world
    total, hits = np.zeros(len(conditions)), np.zeros(len(conditions))
    for s, text in enumerate(texts):
        one = toys.observe(p, conditions, [text], within=K, answers=TWO_WAYS)
        weight = estimate_share(one.steps, weigh(one)).mean_weight[:, 0]
        total += seen.counts[s] * weight
        hits += seen.counts[s] * weight * one.steps.target[0]
    np.testing.assert_allclose(total, 1, **EXACT)
    np.testing.assert_allclose(hits, [toys.probability_of(q, K, answers=TWO_WAYS) for q in conditions], **EXACT)


def test_a_share_of_a_finite_sample_equals_a_loop_over_every_draw():
    _, _, _, seen = sample(seed=3)
    got = estimate_share(seen.steps, weigh(seen))
    draws = np.repeat(np.arange(len(seen.counts)), seen.counts)
    for c in range(2):
        w, hit = np.exp(weigh(seen)[c])[draws], seen.steps.target[draws]
        rho = w[hit].sum() / w.sum()
        ratio = w * (hit - rho) / w.mean()
        want = (rho, ratio.std(ddof=1) / np.sqrt(len(w)), w.sum() ** 2 / (w**2).sum(), w.mean())
        found = (got.probability[c], got.se[c], got.ess[c, 0], got.mean_weight[c, 0])
        np.testing.assert_allclose(found, want, rtol=1e-10)


def test_shares_at_the_edge():
    _, _, _, seen = sample()
    far = estimate_share(seen.steps, weigh(seen) + 5000)  # weights that overflow are scaled first
    np.testing.assert_allclose(far.probability, estimate_share(seen.steps, weigh(seen)).probability, rtol=1e-9)
    assert np.isinf(far.mean_weight).all()
    assert np.isinf(estimate_survival(seen.steps, seen.logw + 5000, seen.lqA).mean_weight).all()
    nobody = estimate_share(seen.steps, np.full((1, len(seen.counts)), -np.inf))
    assert np.isnan(nobody.probability[0])
    assert nobody.mean_weight[0, 0] == 0
    p = toys.random_law(0)
    alone = toys.observe(p, [p], [(C, D, A)], within=3)
    one = estimate_share(alone.steps, np.zeros((1, 1)))
    assert one.probability[0] == 1
    assert np.isnan(one.se[0])


def test_the_error_of_a_change_leaves_out_what_moves_both():
    p, _, texts, seen = sample(seed=3)
    n, step = seen.counts.sum(), 1e-6
    none = estimate_survival(seen.steps, seen.none, seen.lpA[None])
    steered = estimate_survival(seen.steps, seen.logw, seen.lqA)
    np.testing.assert_allclose(estimate_change_error(seen.steps, none, none), 0, atol=1e-15)

    def change(counts):
        steps = dataclasses.replace(seen.steps, counts=counts)
        before = estimate_probability(steps, seen.none, seen.lpA[None])
        return estimate_probability(steps, seen.logw, seen.lqA) - before

    influence = []
    for s in range(len(texts)):
        one = np.arange(len(texts)) == s
        towards = [change((1 - e) * seen.counts / n + e * one) for e in (step, -step)]
        influence.append((towards[0] - towards[1]) / (2 * step))
    want = np.sqrt(seen.counts @ np.square(influence) / (n * (n - 1)))
    got = estimate_change_error(seen.steps, none, steered)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert (got < np.hypot(none.se, steered.se)).all()
    alone = toys.observe(p, [p], [(C, D, A)], within=3)
    single = estimate_survival(alone.steps, alone.none, alone.lpA[None])
    assert np.isnan(estimate_change_error(alone.steps, single, single)).all()
    unknown = dataclasses.replace(none, influence=None)
    assert np.isnan(estimate_change_error(seen.steps, unknown, steered)).all()


def quantities(seen):
    """All per-prompt estimates of a sample, as one array."""
    s = seen.steps
    survival = estimate_survival(s, seen.logw, seen.lqA)
    return np.concatenate(
        [
            survival.probability,
            survival.se,
            survival.ess.ravel(),
            survival.mean_weight.ravel(),
            *estimate_incidence(s, seen.logw, seen.lqA, seen.lqB),
            estimate_increase(s, seen.logw, seen.lpA, seen.lqA),
            *estimate_hybrids(s, seen.logp[:, :K], seen.logq[..., :K], seen.lpA, seen.lqA),
            estimate_kl(seen.counts, seen.mask, seen.kl),
            estimate_reverse_kl(seen.counts, seen.mask, seen.delta, seen.klr),
        ]
    )


def test_order_and_duplicates_change_nothing():
    p, laws, texts, seen = sample(seed=4)
    want = quantities(seen)
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = toys.observe(p, laws, [texts[i] for i in order], seen.counts[order], within=K, answers=TWO_WAYS)
    np.testing.assert_allclose(quantities(shuffled), want, rtol=1e-10)
    rows = [text for text, count in zip(texts, seen.counts, strict=True) for _ in range(count)]
    np.testing.assert_allclose(quantities(toys.observe(p, laws, rows, within=K, answers=TWO_WAYS)), want, rtol=1e-10)


def test_swapping_the_answers_swaps_the_estimates():
    p, laws, texts, seen = sample(seed=6)
    swapped = toys.observe(p, laws, texts, seen.counts, within=K, answers=TWO_WAYS[::-1])
    got = estimate_incidence(seen.steps, seen.logw, seen.lqA, seen.lqB)
    back = estimate_incidence(swapped.steps, swapped.logw, swapped.lqA, swapped.lqB)
    np.testing.assert_allclose(got, back[::-1], rtol=1e-12)


def test_an_answer_outside_of_the_window_is_an_error_that_teaches():
    given = {"lengths": np.array([3]), "counts": np.array([1]), "ended": np.array([False])}
    yes, no, ids = np.array([True]), np.array([False]), np.array([[3, 4]])
    for index in (2, -1):
        with pytest.raises(InputError, match="within the window of 2 tokens"):
            follow_steps(ids, **given, answer_index=np.array([index]), target=yes, other=no)
