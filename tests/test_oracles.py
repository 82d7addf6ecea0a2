"""The oracles O1–O11 of the statistics' specification, with their digits."""

import itertools

import numpy as np
import pytest
import scipy.stats
import toys
from scipy.special import logit
from toys import A, B, C, D

from completions_lp.stats import (
    adjust_holm,
    average_excess_surprisal,
    bound_probability,
    contrast_intervals,
    estimate_hybrids,
    estimate_incidence,
    estimate_increase,
    estimate_kl,
    estimate_probability,
    estimate_reverse_kl,
    estimate_survival,
    grade_trust,
    max_t_band,
    mean_interval,
    ratio_intervals,
    split_change,
)

DIGITS = {"rtol": 0, "atol": 5e-11}
SIX = {"rtol": 0, "atol": 5e-8}
EXACT = {"rtol": 0, "atol": 1e-10}
NONE = ((), ())
"""No token answers."""


def estimates(seen):
    """P(A) without and with steering, the increase to the answer, and KL up to the answer, of the first condition."""
    return (
        estimate_probability(seen.steps, seen.none, seen.lpA[None])[0],
        estimate_probability(seen.steps, seen.logw, seen.lqA)[0],
        estimate_increase(seen.steps, seen.logw, seen.lpA, seen.lqA)[0],
        estimate_kl(seen.counts, seen.steps.open, seen.kl)[0],
    )


def test_o1_a_tilt_of_one_token():
    tilt = np.array([0, 0.2 * np.e, 0.3, 0.5, 0]) / (0.2 * np.e + 0.8)
    p, q = toys.table_law(lambda _: (0, 0.2, 0.3, 0.5, 0)), toys.table_law(lambda _: tilt)
    for texts in ([(A,)], [(B,)], [(A,), (B,), (C,)]):  # one step ahead is exact, whatever was drawn
        pi, rho, increase, kl = estimates(toys.observe(p, [q], texts, within=1))
        np.testing.assert_allclose([pi, rho, increase, kl], [0.2, 0.4046096752, 0.7046054709, 0.0953945291], **DIGITS)
        assert increase == pytest.approx(np.log(rho / pi), abs=1e-10)
        assert logit(rho) - logit(pi) == pytest.approx(1, abs=1e-10)


def constant_hazard(h):
    return toys.table_law(lambda x: (1, 0, 0) if x[-1:] == (1,) else (0, h, 1 - h))


def test_o2_a_constant_hazard():
    a, b, k = 0.05, 0.15, 10
    p, q = constant_hazard(a), constant_hazard(b)
    texts = [(2,) * t + (1,) for t in range(k)] + [(2,) * k]
    weights = np.exp([toys.logprob_of(p, x) for x in texts])
    seen = toys.observe(p, [q], texts, weights, within=k, answers=((1,), (0,)))
    pi, rho, increase, kl = estimates(seen)
    np.testing.assert_allclose(
        [pi, rho, increase, kl], [0.4012630608, 0.8031255957, 0.6449570901, 0.4071515073], **DIGITS
    )
    late = (seen.steps.open.sum(1) - 1) @ (weights * seen.steps.target) / pi
    assert late == pytest.approx(4.0786928131, abs=5e-11)
    assert late == pytest.approx((1 - a) / a - k * (1 - a) ** k / pi, abs=1e-10)
    without = seen.delta[0, -1].sum()
    assert without == pytest.approx(-1.1122563511, abs=5e-11)
    assert kl == pytest.approx(-(pi * increase + (1 - pi) * without), abs=1e-10)
    np.testing.assert_allclose(
        [np.log(rho / pi), increase - without, logit(rho) - logit(pi)],
        [0.6938938857, 1.7572134412, 1.8061502368],
        **DIGITS,
    )
    few = toys.observe(p, [q], [texts[-1]], [3], within=k, answers=((1,), (0,)))
    np.testing.assert_allclose(estimates(few)[:3], [pi, rho, increase], **EXACT)
    some = toys.observe(p, [q], [texts[-1], texts[2]], [3, 4], within=k, answers=((1,), (0,)))
    survival = estimate_survival(some.steps, some.logw, some.lqA)  # no variance: every draw has the same hazard
    np.testing.assert_allclose([survival.probability[0], survival.se[0]], [rho, 0], **EXACT)


def two_step(reasoning, informed, blind):
    """C is the reasoning token, D any other; then A or B."""

    def table(prefix):
        if not prefix:
            return (0, 0, 0, reasoning, 1 - reasoning)
        h = informed if prefix[0] == C else blind
        return (0, h, 1 - h, 0, 0)

    return toys.table_law(table)


TWO_STEP = list(itertools.product((C, D), (A, B)))


def test_o3_a_two_step_chain_of_thought():
    p, q = two_step(0.2, 0.9, 0.05), two_step(0.6, 0.95, 0.06)
    seen = toys.observe(p, [q], TWO_STEP, np.exp([toys.logprob_of(p, x) for x in TWO_STEP]), within=2)
    pi, rho, _, _ = estimates(seen)
    answer, reasoning = estimate_hybrids(seen.steps, seen.logp, seen.logq, seen.lpA, seen.lqA)
    np.testing.assert_allclose([pi, rho, answer[0], reasoning[0]], [0.22, 0.594, 0.238, 0.56], **EXACT)
    shares = split_change(np.array([pi]), answer, reasoning, np.array([rho]))
    np.testing.assert_allclose([*shares[0], *shares[1], sum(shares)[0]], [0.1206773, 1.5255152, 1.6461925], **SIX)


def test_o4_rao_blackwell_can_add_variance_to_a_sum():
    q_first = np.exp(0.5) / 2
    forced = np.exp(-0.5) * (1 - q_first) / 0.5
    np.testing.assert_allclose([q_first, -np.log(forced)], [0.8243606354, 1.5461752701], **DIGITS)
    p = toys.table_law(lambda x: (1, 0, 0) if x else (0, 0.5, 0.5))
    q = toys.table_law(
        lambda x: ((forced, 1 - forced, 0) if x[0] == 1 else (1, 0, 0)) if x else (0, q_first, 1 - q_first)
    )
    texts = [(1, 0), (2, 0)]
    plain, averaged = [], []
    for text in texts:
        one = toys.observe(p, [q], [text], within=2, answers=NONE)
        plain.append(-np.nansum(one.delta))
        averaged.append(estimate_kl(one.counts, one.mask, one.kl)[0])
    np.testing.assert_allclose(plain, [1.0461752701] * 2, **DIGITS)
    np.testing.assert_allclose(averaged, [1.8192629, 0.2730876], **SIX)
    assert np.var(averaged) == pytest.approx(0.5976645, abs=5e-8)
    both = toys.observe(p, [q], texts, within=2, answers=NONE)
    assert estimate_kl(both.counts, both.mask, both.kl)[0] == pytest.approx(np.mean(plain), abs=1e-10)


@pytest.mark.parametrize("s", [0.3, 1.0, 1.5])
def test_o5_lognormal_weights(s):
    """Exact expectations by quadrature: the nodes are the draws, their weights the counts."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    p = toys.table_law(lambda _: (0, 0.1, 0, 0.9, 0))
    seen = toys.observe(p, [p], [(C, C)] * len(nodes), weights / weights.sum(), within=2)
    log_weight = np.stack([np.zeros(len(nodes)), s * nodes - s**2 / 2], axis=1)[None]
    survival = estimate_survival(seen.steps, log_weight, seen.lqA)
    np.testing.assert_allclose(survival.ess[0], [1, np.exp(-(s**2))], **EXACT)
    np.testing.assert_allclose(survival.mean_weight[0], [1, 1 / 0.9], rtol=1e-9)
    kl = np.where(np.arange(2) == 0, s**2 / 2, 0.0) * np.ones((1, len(nodes), 1))
    reverse = estimate_reverse_kl(seen.counts, seen.mask, np.diff(log_weight, append=0.0), kl)
    assert estimate_kl(seen.counts, seen.mask, kl)[0] == pytest.approx(reverse[0]) == pytest.approx(s**2 / 2)


def test_o6_a_mode_that_was_never_seen_is_red():
    p, q = two_step(0.001, 0.9, 0.05), two_step(0.6, 0.95, 0.06)
    seen = toys.observe(p, [q], [(D, A), (D, B)], [5, 95], within=2)
    survival = estimate_survival(seen.steps, seen.logw, seen.lqA)
    np.testing.assert_allclose(survival.ess[0], [100, 100], **EXACT)  # blind to what it has not seen
    assert survival.mean_weight[0, 1] == pytest.approx(0.4004, abs=5e-5)
    low, high = bound_probability(seen.steps, seen.logq, seen.lqA)
    assert 1 - (high - low)[0] == pytest.approx(0.40, abs=1e-10)
    assert low[0] <= 0.594 <= high[0]
    assert grade_trust(low, high, survival).tolist() == ["red"]


def test_o7_a_nucleus_leaks():
    full, q = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.1, 0.1, 0.7])
    nucleus = np.where(np.cumsum(full) - full < 0.9, full, 0) / 0.95
    drawn = nucleus > 0
    p = toys.table_law(lambda _: full)
    texts = [(v, 0) for v in np.flatnonzero(drawn).tolist()]
    seen = toys.observe(p, [p], texts, nucleus[drawn], within=2, answers=NONE, eos=9)
    log_weight = np.zeros((1, len(texts), 2))
    log_weight[0, :, 1] = np.log(q[drawn] / nucleus[drawn])
    survival = estimate_survival(seen.steps, log_weight, seen.lqA)
    np.testing.assert_allclose(survival.mean_weight[0], [1, 0.3], **EXACT)
    assert grade_trust(np.zeros(1), np.ones(1), survival, min_ess=0.0).tolist() == ["red"]


def test_o8_for_small_multipliers_the_increase_is_the_change_of_log_probability():
    k, step = 4, 1e-4
    p = toys.random_law(0)
    laws = [toys.random_law(0, multiplier=m) for m in (step, -step)]
    _, seen = toys.observe_all(p, laws, within=k)
    increase = estimate_increase(seen.steps, seen.logw, seen.lpA, seen.lqA)
    log_ratio = np.log(estimate_probability(seen.steps, seen.logw, seen.lqA) / toys.probability_of(p, k))
    slope, want = (increase[0] - increase[1]) / (2 * step), (log_ratio[0] - log_ratio[1]) / (2 * step)
    assert slope == pytest.approx(want, abs=1e-6)
    hit = seen.steps.target
    score = (np.where(seen.steps.open, seen.delta[0] - seen.delta[1], 0).sum(1) / (2 * step))[hit]
    share = seen.counts[hit] / seen.counts[hit].sum()
    variance = share @ score**2 - (share @ score) ** 2
    np.testing.assert_allclose((log_ratio - increase) / (step**2 / 2), variance, rtol=1e-3)


K = 5
RANDOM = [(seed, multiplier) for seed in (0, 1) for multiplier in (0.5, 2.0)]


@pytest.fixture(scope="module", params=RANDOM, ids=str)
def random_toy(request):
    seed, multiplier = request.param
    p, q = toys.random_law(seed), toys.random_law(seed, multiplier=multiplier)
    texts, seen = toys.observe_all(p, [q], within=K)
    return p, q, texts, seen


def conditional_kl(p, q, keep):
    """KL of p given an event from q given it; p and q are probabilities of the outcomes."""
    a, b = p[keep] / p[keep].sum(), q[keep] / q[keep].sum()
    return np.sum(a * np.log(a / b))


def stop_texts(p, q, texts):
    """Outcomes up to the first A, the end or the window: probabilities under both laws, and whether A was given."""
    stopped = {}
    for text in texts:
        where = text.index(A) + 1 if A in text else len(text)
        stopped[text[:where]] = A in text
    probs = [np.exp([toys.logprob_of(law, x) for x in stopped]) for law in (p, q)]
    return *probs, np.array(list(stopped.values()))


def test_o9_identities_i1_to_i5(random_toy):
    p, q, texts, _ = random_toy
    _, seen = toys.observe_all(p, [q], within=K, answers=((A,), ()))
    pi, rho, increase, kl = estimates(seen)
    ps, qs, hit = stop_texts(p, q, texts)
    delta = np.log(qs / ps)
    np.testing.assert_allclose([pi, rho], [ps[hit].sum(), qs[hit].sum()], **EXACT)
    assert kl == pytest.approx(-(ps @ delta), abs=1e-10)  # I1, stopped
    assert kl >= 0
    whole = estimate_kl(seen.counts, seen.mask, seen.kl)[0]
    assert whole == pytest.approx(-np.nansum(seen.counts[:, None] * seen.delta[0]), abs=1e-10)  # I1
    assert increase == pytest.approx(ps[hit] @ delta[hit] / pi, abs=1e-10)
    assert np.log(rho / pi) - increase == pytest.approx(conditional_kl(ps, qs, hit), abs=1e-10)  # I2
    full = np.nansum(seen.delta[0], axis=1)[seen.steps.target] @ seen.counts[seen.steps.target] / pi
    after = np.where(seen.mask & ~seen.steps.open, seen.kl[0], 0).sum(1)
    lost = after[seen.steps.target] @ seen.counts[seen.steps.target] / pi
    assert full == pytest.approx(increase - lost, abs=1e-10)  # I3
    assert full <= increase <= np.log(rho / pi) + 1e-12
    otherwise = ps[~hit] @ delta[~hit] / (1 - pi)
    damage = conditional_kl(ps, qs, hit), conditional_kl(ps, qs, ~hit)
    assert increase - otherwise == pytest.approx(logit(rho) - logit(pi) - damage[0] + damage[1], abs=1e-10)  # I4
    chain = conditional_kl(np.array([pi, 1 - pi]), np.array([rho, 1 - rho]), np.array([True, True]))
    assert kl == pytest.approx(chain + pi * damage[0] + (1 - pi) * damage[1], abs=1e-10)


def test_o9_a_against_b_is_i5(random_toy):
    p, q, texts, seen = random_toy
    stopped = {}
    for text in texts:
        answer, where = toys.first_answer(text, K)
        stopped[text[: where + 1] if where >= 0 else text] = answer
    ps, qs = (np.exp([toys.logprob_of(law, x) for x in stopped]) for law in (p, q))
    label, delta = np.array(list(stopped.values())), np.log(qs / ps)
    mean = [ps[label == i] @ delta[label == i] / ps[label == i].sum() for i in (0, 1)]
    before = estimate_incidence(seen.steps, seen.none, seen.lpA[None], seen.lpB[None])
    after = estimate_incidence(seen.steps, seen.logw, seen.lqA, seen.lqB)
    change = np.log(after[0] / after[1]) - np.log(before[0] / before[1])
    damage = conditional_kl(ps, qs, label == 0) - conditional_kl(ps, qs, label == 1)
    assert mean[0] - mean[1] == pytest.approx(change[0] - damage, abs=1e-10)


def test_o9_plain_sums_are_unbiased(random_toy):
    _, q, texts, seen = random_toy
    rho = toys.probability_of(q, K)
    weights, hit = seen.counts, seen.steps.target
    full = np.exp(np.nansum(seen.delta[0], axis=1))
    stopped = np.exp(np.where(seen.steps.open, seen.delta[0], 0).sum(1))
    hazards = np.einsum("s,st,st->", weights, np.exp(seen.logw[0]), seen.steps.read_hazard(seen.lqA[0]))
    np.testing.assert_allclose([weights[hit] @ full[hit], weights[hit] @ stopped[hit], hazards], rho, **EXACT)
    np.testing.assert_allclose(weights @ np.exp(seen.logw[0]), 1, **EXACT)
    assert average_excess_surprisal(weights, seen.mask, seen.logp, seen.ent) == pytest.approx(0, abs=1e-10)
    logq = np.array([toys.logprob_of(q, x) for x in texts])
    reverse = estimate_reverse_kl(weights, seen.mask, seen.delta, seen.klr)[0]
    assert reverse == pytest.approx(np.exp(logq) @ (logq - np.nansum(seen.logp, axis=1)), abs=1e-10)


def test_o9_the_survival_estimates_are_exact_and_bounds_bracket(random_toy):
    p, q, texts, seen = random_toy
    truth = [toys.probability_of(q, K, answer=i) for i in (0, 1)]
    assert estimates(seen)[1] == pytest.approx(truth[0], abs=1e-10)
    both = estimate_incidence(seen.steps, seen.logw, seen.lqA, seen.lqB)
    np.testing.assert_allclose(np.ravel(both), truth, **EXACT)
    hybrids = estimate_hybrids(seen.steps, seen.logp, seen.logq, seen.lpA, seen.lqA)
    want = [toys.probability_of(toys.hybrid_law(*laws), K) for laws in ((q, p), (p, q))]
    np.testing.assert_allclose(np.ravel(hybrids), want, **EXACT)
    rng = np.random.default_rng(0)
    for size in (1, 10, 100, len(texts)):
        some = [texts[i] for i in rng.choice(len(texts), size=size, replace=False)]
        part = toys.observe(p, [q], some, within=K)
        low, high = bound_probability(part.steps, part.logq, part.lqA)
        assert low[0] - 1e-12 <= truth[0] <= high[0] + 1e-12


def test_o10_no_steering_has_no_effect():
    p = toys.random_law(0)
    texts, counts = toys.sample_texts(p, K, 50, 0)
    seen = toys.observe(p, [p], texts, counts, within=K)
    pi, rho, increase, kl = estimates(seen)
    assert (rho - pi, increase, kl) == (0, 0, 0)
    hybrids = estimate_hybrids(seen.steps, seen.logp, seen.logq, seen.lpA, seen.lqA)
    np.testing.assert_allclose(np.ravel(hybrids), pi, rtol=1e-12)
    shares = split_change(np.array([pi]), *hybrids, np.array([rho]))
    np.testing.assert_allclose(shares, 0, atol=1e-12)
    survival = estimate_survival(seen.steps, seen.logw, seen.lqA)
    np.testing.assert_allclose(survival.ess[0], (seen.counts @ seen.steps.without_target))


def test_o10_a_constant_in_the_logits_and_the_opposite_vector():
    p, q = toys.random_law(0), toys.random_law(0, multiplier=1.5)
    shifted = toys.table_law(lambda x: np.exp(toys.normalise(q(x) + 7.0)))
    opposite = toys.table_law(lambda x: np.exp(toys.normalise(2 * p(x) - q(x))))  # the logits are linear in m
    texts, counts = toys.sample_texts(p, K, 50, 0)
    seen = toys.observe(p, [q, shifted, opposite, toys.random_law(0, multiplier=-1.5)], texts, counts, within=K)
    for values in (
        estimate_probability(seen.steps, seen.logw, seen.lqA),
        estimate_increase(seen.steps, seen.logw, seen.lpA, seen.lqA),
        estimate_kl(seen.counts, seen.mask, seen.kl),
    ):
        np.testing.assert_allclose(values[[1, 3]], values[[0, 2]], rtol=1e-10)


def test_o10_swapping_the_answers_negates_a_minus_b():
    p, q = toys.random_law(0), toys.random_law(0, multiplier=1.5)
    texts, counts = toys.sample_texts(p, K, 50, 0)
    ratios = []
    for answers in (((A,), (B,)), ((B,), (A,))):
        seen = toys.observe(p, [q], texts, counts, within=K, answers=answers)
        ratios.append(np.log(np.divide(*estimate_incidence(seen.steps, seen.logw, seen.lqA, seen.lqB))))
    np.testing.assert_allclose(ratios[0], -ratios[1], rtol=1e-12)


def test_o11_intervals_and_tests_agree_with_scipy_and_tables():
    x, n = np.random.default_rng(0).normal(0.3, 1, size=12), np.full(12, 20.0)
    t = mean_interval(x, np.arange(12), unit="nats")
    want = scipy.stats.ttest_1samp(x, 0).confidence_interval()
    np.testing.assert_allclose((t.low, t.high), want, rtol=1e-12)
    # G* = G, and the jackknife of a mean is its t interval
    (micro,) = ratio_intervals((x * n)[None], n[None], np.arange(12), unit="nats")
    np.testing.assert_allclose((micro.value, micro.low, micro.high), (t.value, t.low, t.high), rtol=1e-10)
    (marginal,) = contrast_intervals(np.zeros((1, 12)), x[None], np.arange(12), scale=lambda y: y, unit="nats")
    np.testing.assert_allclose((marginal.low, marginal.high), (t.low, t.high), rtol=1e-10)
    band = max_t_band(np.stack([x, x**2]), np.arange(12), rng=np.random.default_rng(0))
    assert band.low[0] < t.low
    assert band.high[0] > t.high
    means = [abs(np.mean(x * signs)) for signs in itertools.product([1, -1], repeat=12)]
    exact = np.mean(np.array(means) >= abs(x.mean()) - 1e-12)
    assert band.p_alone[0] == pytest.approx(exact, abs=1e-12)
    np.testing.assert_allclose(adjust_holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_o11_simulated_coverage_of_the_t_interval():
    """N = 10, R = 2000."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(2000):
        got = mean_interval(rng.normal(0.3, 1.0, size=10), np.arange(10), unit="nats")
        hits += got.low < 0.3 < got.high
    assert 0.93 <= hits / 2000 <= 0.97


def test_o11_the_bound_holds_in_truth_for_every_prompt():
    for seed in range(20):
        p = toys.random_law(seed)
        laws = [toys.random_law(seed, multiplier=m) for m in (-4.0, -0.5, 1.0, 4.0)]
        _, seen = toys.observe_all(p, laws, within=3)
        increase = estimate_increase(seen.steps, seen.logw, seen.lpA, seen.lqA)
        log_ratio = np.log([toys.probability_of(q, 3) for q in laws]) - np.log(toys.probability_of(p, 3))
        assert (increase <= log_ratio + 1e-12).all()
