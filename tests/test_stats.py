import numpy as np
import pytest
import reference
import scipy.stats

from completions_lp.stats import MIN_CLUSTERS, average_by_group, mean_interval


def interval(values, clusters=None, **options):
    values = np.asarray(values, dtype=np.float64)
    clusters = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    return mean_interval(values, clusters, unit="nats", **options)


@pytest.mark.parametrize("n", [6, 7, 60])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_singletons_have_the_interval_of_scipy(n, level):
    x = np.random.default_rng(n).normal(0.3, 2.0, size=n)
    got = interval(x, level=level)
    want = scipy.stats.ttest_1samp(x, 0).confidence_interval(level)
    np.testing.assert_allclose((got.value, got.low, got.high), (x.mean(), want.low, want.high), rtol=1e-12)
    assert (got.n, got.n_clusters, got.method, got.unit, got.level) == (n, n, "t", "nats", level)


def test_clusters_have_the_robust_interval_of_the_formula():
    rng = np.random.default_rng(0)
    clusters = np.array([3, 3, 3, 1, 1, 9, 9, 9, 9, 4, 5, 6, 6])
    x = rng.normal(size=13) + rng.normal(size=10)[clusters]
    got = interval(x, clusters)
    mean, names = sum(x) / 13, sorted(set(clusters))
    total = 0.0
    for name in names:  # the sum of all products of two residuals of one cluster
        for i in range(13):
            for j in range(13):
                total += (clusters[i] == name == clusters[j]) * (x[i] - mean) * (x[j] - mean)
    g = len(names)
    half = scipy.stats.t.ppf(0.975, g - 1) * np.sqrt(g / (g - 1) * total) / 13
    np.testing.assert_allclose((got.value, got.low, got.high), (mean, mean - half, mean + half), rtol=1e-12)
    assert (got.n, got.n_clusters, got.method) == (13, 6, "cluster t")


def test_repeating_every_prompt_within_its_cluster_adds_no_certainty():
    x = np.random.default_rng(1).normal(size=8)
    alone, thrice = interval(x), interval(np.repeat(x, 3), np.repeat(np.arange(8), 3))
    np.testing.assert_allclose((thrice.low, thrice.high), (alone.low, alone.high), rtol=1e-12)
    assert interval(np.repeat(x, 3)).high < alone.high  # as if they were 24 prompts: too narrow


def test_undefined_values_are_dropped_with_their_cluster():
    x = np.array([1.0, 2.0, 4.0, 8.0, 9.0, 7.0, 3.0])
    with_nan = np.insert(x, 2, [np.nan, np.nan])
    got, want = interval(with_nan), interval(x)
    assert (got.value, got.low, got.high, got.n) == (want.value, want.low, want.high, 7)
    clusters = np.array([0, 1, 99, 99, 2, 3, 4, 5, 6])
    assert interval(with_nan, clusters).n_clusters == 7


def test_few_clusters_have_no_interval():
    for n in range(1, MIN_CLUSTERS):
        got = interval(np.arange(n) + 1.0)
        assert (got.low, got.high) == (None, None)
        assert (got.value, got.n) == ((n + 1) / 2, n)
    assert interval(np.arange(12.0), np.repeat(np.arange(5), [2, 2, 2, 3, 3])).low is None
    assert interval(np.arange(6.0)).low is not None


def test_no_values_are_undefined_and_not_zero():
    for values in ([], [np.nan, np.nan]):
        got = interval(values)
        assert np.isnan(got.value)
        assert (got.low, got.high, got.n, got.n_clusters) == (None, None, 0, 0)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e-9, 1e6 / 3])
def test_equal_values_have_no_interval_instead_of_one_of_zero_width(value):
    got = interval([value] * 7)
    assert (got.low, got.high) == (None, None)
    assert got.value == pytest.approx(value, rel=1e-14)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(1000):
        got = interval(rng.normal(0.4, 1.0, size=10), level=0.8)
        hits += got.low < 0.4 < got.high
    assert scipy.stats.binomtest(hits, 1000, 0.8).pvalue > 1e-3


def test_group_means_equal_a_loop_over_every_draw():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(2, 3, 20))
    counts, groups = rng.integers(1, 9, size=20), rng.integers(0, 4, size=20) * 2
    got = average_by_group(values, counts, groups, 8)
    assert got.shape == (2, 3, 8)
    for i in range(2):
        for j in range(3):
            want = reference.prompt_means(values[i, j], counts, groups, 8)
            np.testing.assert_allclose(got[i, j], want, rtol=1e-12)
            assert np.isnan(want[1::2]).all()  # groups without an item


def test_group_means_restrict_to_some_items_and_let_other_nans_be():
    values = np.array([1.0, np.nan, 3.0, 5.0, np.nan])
    counts, groups = np.array([2, 1, 1, 3, 1]), np.array([0, 0, 0, 1, 2])
    keep = np.array([True, False, True, False, True])
    got = average_by_group(values, counts, groups, 3, where=keep)
    np.testing.assert_array_equal(got, [5 / 3, np.nan, np.nan])


def test_group_sums_are_taken_in_double_precision():
    values = np.full(3_000, 0.1, dtype=np.float32)
    values[0] = 1e8
    got = average_by_group(values, np.ones(3_000), np.zeros(3_000, dtype=int), 1)
    assert got[0] == pytest.approx(values.astype(np.float64).sum() / 3_000, rel=1e-12)
