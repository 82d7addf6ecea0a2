import os

import numpy as np
import pytest
import scipy.stats
from scipy.special import logit

from completions_lp.stats import (
    bootstrap_t_intervals,
    contrast_intervals,
    fixed_prompt_se,
    mean_interval,
    mean_intervals,
    mean_t,
    measure_spread,
    ratio_intervals,
    resampling,
)

FULL = os.environ.get("FULL") == "1"


def alone(x):
    return np.arange(np.shape(x)[-1])


def draw(n, seed=0, *, cells=None):
    return np.random.default_rng(seed).normal(0.4, 1.0, size=n if cells is None else (cells, n))


def test_the_spread_of_many_cells_is_that_of_each():
    values, clusters = draw(30, cells=4), np.random.default_rng(1).integers(0, 9, size=30)
    values[1, ::3], values[2], values[3] = np.nan, np.nan, 0.1
    mean, se, n, g = measure_spread(values, clusters)
    for c in range(4):
        one = mean_interval(values[c], clusters, unit="nats")
        np.testing.assert_equal((mean[c], n[c], g[c]), (one.value, one.n, one.n_clusters))
        assert np.isfinite(se[c]) == (one.low is not None)
    np.testing.assert_array_equal(np.isnan(se), [False, False, True, True])


def test_an_estimate_knows_its_standard_error_and_degrees_of_freedom():
    x = draw(12, cells=2)
    x[1, 5:] = np.nan
    full, few = mean_intervals(x, alone(x), unit="nats")
    want = scipy.stats.ttest_1samp(x[0], 0)
    assert (full.se, full.df) == (pytest.approx(scipy.stats.sem(x[0])), want.df)
    low, high = want.confidence_interval()
    assert (full.low, full.high) == (pytest.approx(low), pytest.approx(high))
    assert (few.n, few.low, few.high) == (5, None, None)
    assert np.isnan([few.se, few.df]).all()  # points only


def test_t_is_that_of_scipy():
    x = draw(12, cells=3)
    t, p = mean_t(x, alone(x))
    want = scipy.stats.ttest_1samp(x, 0, axis=1)
    np.testing.assert_allclose(t, want.statistic, rtol=1e-12)
    np.testing.assert_allclose(p, want.pvalue, rtol=1e-10)


def test_t_over_few_clusters_has_no_p_value():
    t, p = mean_t(draw(5), np.arange(5))
    assert np.isfinite(t)
    assert np.isnan(p)
    t, p = mean_t(np.full(9, 0.1), np.arange(9))
    assert np.isnan([t, p]).all()


def test_the_standard_error_for_just_these_prompts():
    assert fixed_prompt_se(np.array([0.3, 0.4])) == pytest.approx(0.25)
    assert fixed_prompt_se(np.array([0.3, np.nan, 0.4])) == pytest.approx(0.25)
    assert np.isnan(fixed_prompt_se(np.array([np.nan])))


def ratio(s, n, clusters):
    (one,) = ratio_intervals(s[None], n[None], clusters, unit="nats")
    return one


def contrast(before, after, clusters, scale):
    (one,) = contrast_intervals(before[None], after[None], clusters, scale=scale, unit="nats")
    return one


def leave_one_out(statistic, parts, clusters):
    """Delete-one-cluster jackknife, cluster by cluster."""
    names = sorted(set(clusters.tolist()))
    theta = np.array([statistic(*(part[clusters != name] for part in parts)) for name in names])
    return np.sqrt((len(names) - 1) / len(names) * np.sum((theta - theta.mean()) ** 2))


@pytest.mark.parametrize("clusters", [np.arange(12), np.array([0, 0, 0, 1, 2, 3, 4, 4, 5, 6, 7, 7])])
def test_the_pooled_ratio_has_the_jackknife_of_the_formula(clusters):
    s, n = draw(12), np.random.default_rng(2).integers(1, 40, size=12).astype(float)
    got = ratio(s * n, n, clusters)
    pooled = np.array([n[clusters == name].sum() for name in sorted(set(clusters.tolist()))])
    se = leave_one_out(lambda a, b: a.sum() / b.sum(), (s * n, n), clusters)
    half = scipy.stats.t.ppf(0.975, pooled.sum() ** 2 / (pooled**2).sum() - 1) * se
    want = (s * n).sum() / n.sum()
    np.testing.assert_allclose((got.value, got.low, got.high), (want, want - half, want + half), rtol=1e-10)
    assert (got.n, got.n_clusters, got.method) == (12, len(pooled), "jackknife t(G*-1)")


def test_prompts_without_completions_leave_the_pooled_ratio_alone():
    s, n = draw(10), np.arange(1.0, 11.0)
    want = ratio(s, n, alone(s))
    more = ratio(np.append(s, [0.0, np.nan]), np.append(n, [0.0, 3.0]), np.arange(12))
    assert (more.value, more.low, more.high, more.n) == (want.value, want.low, want.high, 10)
    assert ratio(s[:5], n[:5], np.arange(5)).low is None
    nothing = ratio(np.zeros(8), np.zeros(8), np.arange(8))
    assert np.isnan(nothing.value)
    assert (nothing.low, nothing.n) == (None, 0)


@pytest.mark.parametrize("scale", [np.log, logit])
def test_a_contrast_of_marginals_has_the_jackknife_of_the_formula(scale):
    rng, clusters = np.random.default_rng(0), np.array([0, 0, 1, 2, 3, 4, 4, 4, 5, 6])
    before, after = rng.uniform(0.1, 0.5, size=(2, 10)) + np.array([[0.0], [0.3]])
    got = contrast(before, after, clusters, scale)

    def change(x, y):
        return scale(y.mean()) - scale(x.mean())

    half = scipy.stats.t.ppf(0.975, 6) * leave_one_out(change, (before, after), clusters)
    want = change(before, after)
    np.testing.assert_allclose((got.value, got.low, got.high), (want, want - half, want + half), rtol=1e-10)
    assert (got.n, got.n_clusters, got.method) == (10, 7, "jackknife t")
    back = contrast(after, before, clusters, scale)
    np.testing.assert_allclose((back.value, back.low, back.high), (-got.value, -got.high, -got.low), rtol=1e-10)


def test_a_contrast_that_is_infinite_or_without_spread_has_no_interval():
    x = np.linspace(0.1, 0.5, 8)
    infinite = contrast(np.zeros(8), x, alone(x), np.log)
    assert np.isnan(infinite.value)
    assert infinite.low is None
    same = contrast(x, x, alone(x), np.log)
    assert (same.value, same.low, same.high) == (0, None, None)
    missing = contrast(np.append(x, np.nan), np.append(x, 0.5) ** 2, np.arange(9), np.log)
    assert missing.n == 8


def test_many_cells_are_the_cells_one_by_one():
    rng, clusters = np.random.default_rng(3), np.array([0, 0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8])
    x, weights = rng.normal(size=(5, 12)), rng.integers(0, 9, size=(5, 12)).astype(float)
    before, after = rng.uniform(0.1, 0.4, size=(5, 12)), rng.uniform(0.2, 0.8, size=(5, 12))
    for values in (x, before, after):
        values[1, :3], values[2, 4:], values[3] = np.nan, np.nan, np.nan
    before[4] = after[4] = 0.0
    alone_of = {
        mean_intervals: lambda c: mean_interval(x[c], clusters, unit="nats"),
        ratio_intervals: lambda c: ratio(x[c], weights[c], clusters),
        contrast_intervals: lambda c: contrast(before[c], after[c], clusters, np.log),
    }
    together = {
        mean_intervals: mean_intervals(x, clusters, unit="nats"),
        ratio_intervals: ratio_intervals(x, weights, clusters, unit="nats"),
        contrast_intervals: contrast_intervals(before, after, clusters, scale=np.log, unit="nats"),
    }
    for kind, estimates in together.items():
        assert len(estimates) == 5
        for c, got in enumerate(estimates):
            want = alone_of[kind](c)
            assert (got.low is None) == (want.low is None)
            assert (got.n, got.n_clusters, got.method) == (want.n, want.n_clusters, want.method)
            numbers = [[np.nan if v is None else v for v in (e.value, e.low, e.high, e.se, e.df)] for e in (got, want)]
            np.testing.assert_allclose(*numbers, rtol=1e-12)


def bootstrap_t(x, clusters, rng, n_resamples):
    """Bootstrap-t of one cell, one resample of whole clusters at a time."""
    members = [x[clusters == name] for name in sorted(set(clusters.tolist()))]
    g = len(members)

    def spread(parts):
        y = np.concatenate(parts)
        squares = sum((part - y.mean()).sum() ** 2 for part in parts)
        return y.mean(), np.sqrt(len(parts) / (len(parts) - 1) * squares) / len(y)

    mean, se = spread(members)
    t = []
    for times in rng.multinomial(g, [1 / g] * g, size=n_resamples):
        resampled, resampled_se = spread([part for part, k in zip(members, times, strict=True) for _ in range(k)])
        t.append((resampled - mean) / resampled_se)
    low, high = np.quantile(t, [0.025, 0.975])
    return mean, mean - high * se, mean - low * se


@pytest.mark.parametrize("clusters", [np.arange(12), np.array([0, 0, 0, 1, 2, 3, 4, 4, 5, 6, 7, 8])])
def test_bootstrap_t_equals_a_loop_over_resamples(clusters):
    x = np.exp(draw(12, cells=3))
    got = bootstrap_t_intervals(x, clusters, rng=np.random.default_rng(5), unit="nats", n_resamples=300)
    for c in range(3):
        want = bootstrap_t(x[c], clusters, np.random.default_rng(5), 300)
        np.testing.assert_allclose((got[c].value, got[c].low, got[c].high), want, rtol=1e-9)
        assert (got[c].n, got[c].n_clusters, got[c].method) == (12, len(set(clusters.tolist())), "bootstrap t")
        assert got[c].se == pytest.approx(measure_spread(x[c], clusters)[1])


def test_bootstrap_t_takes_any_number_of_cells_with_any_prompts_missing(monkeypatch):
    """In one go, in pieces, and with prompts missing in some cells, each cell is what it is alone."""
    x, clusters = np.exp(draw(20, cells=7)), np.array([*range(14), *range(6)])
    whole = bootstrap_t_intervals(x, clusters, rng=np.random.default_rng(5), unit="nats", n_resamples=200)
    holes = x.copy()
    holes[2, ::5], holes[4, 3:] = np.nan, np.nan
    monkeypatch.setattr(resampling, "CELLS", 3)
    pieces = bootstrap_t_intervals(holes, clusters, rng=np.random.default_rng(5), unit="nats", n_resamples=200)
    for c in (0, 1, 3, 5, 6):
        np.testing.assert_allclose((pieces[c].low, pieces[c].high), (whole[c].low, whole[c].high), rtol=1e-9)
    (alone_2,) = bootstrap_t_intervals(holes[2:3], clusters, rng=np.random.default_rng(5), unit="nats", n_resamples=200)
    np.testing.assert_allclose((pieces[2].low, pieces[2].high), (alone_2.low, alone_2.high), rtol=1e-9)
    assert pieces[4].low is None


def test_bootstrap_t_leaves_undefined_prompts_out_and_knows_when_it_knows_nothing():
    x = np.exp(draw(20, cells=4))
    x[1, ::4], x[2, 4:], x[3] = np.nan, np.nan, 0.1
    some, few, same = bootstrap_t_intervals(x, alone(x), rng=np.random.default_rng(0), unit="nats")[1:]
    assert some.n == 15
    assert some.low < some.value < some.high
    assert (few.low, few.high, few.n) == (None, None, 4)
    assert (same.low, same.high, same.n) == (None, None, 20)
    empty = bootstrap_t_intervals(np.full((1, 0), np.nan), np.arange(0), rng=np.random.default_rng(0), unit="nats")
    assert np.isnan(empty[0].value)


def test_bootstrap_t_is_the_same_for_the_same_stream_and_leans_towards_the_tail():
    x = np.exp(draw(15, cells=1))
    first, again = (bootstrap_t_intervals(x, alone(x), rng=np.random.default_rng(7), unit="nats") for _ in range(2))
    assert repr(first) == repr(again)
    assert first[0].high - first[0].value > first[0].value - first[0].low
    bca = scipy.stats.bootstrap((x[0],), np.mean, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    assert first[0].high > bca.high  # BCa is known to be too short at this size


@pytest.mark.slow
@pytest.mark.parametrize("icc", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [10, 30, 100])
def test_the_default_interval_covers_as_often_as_it_says(n, icc):
    """The normal design of numbers.md §4: n_A of 100 draws say A, their increases vary within and between prompts."""
    repeats = 4000 if FULL else 400
    rng = np.random.default_rng([n, int(10 * icc)])
    hits = 0
    for _ in range(repeats):
        share = rng.beta(0.7, 1.6, size=n)
        answers = rng.binomial(100, share)
        within = np.sqrt((1 - icc) / np.maximum(answers, 1)) * rng.standard_normal(n)
        effect = 0.3 + np.sqrt(icc) * rng.standard_normal(n) + within
        got = mean_interval(np.where(answers > 0, effect, np.nan), np.arange(n), unit="nats")
        hits += got.low < 0.3 < got.high if got.low is not None else 0.95
    # Between 93 and 97 %, give or take 3 standard errors of the check itself.
    slack = 3 * np.sqrt(0.95 * 0.05 / repeats) if not FULL else 0.0
    assert 0.93 - slack <= hits / repeats <= 0.97 + slack
