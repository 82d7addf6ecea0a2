import itertools

import numpy as np
import pytest
import scipy.stats

from completions_lp.records import InputError
from completions_lp.stats import (
    MIN_DIRECTIONS,
    adjust_false_discovery,
    adjust_holm,
    band_of_directions,
    choose_best_cell,
    max_t_band,
    mean_interval,
    predict_from_directions,
    rank_against_directions,
    share_below_zero,
    sweeps,
)


def draw(cells, n, seed=0, effect=0.0):
    rng = np.random.default_rng(seed)
    return effect + rng.normal(size=(cells, n)) + rng.normal(size=n)


def band(values, clusters=None, seed=0, **options):
    clusters = np.arange(values.shape[1]) if clusters is None else clusters
    return max_t_band(values, clusters, rng=np.random.default_rng(seed), **options)


def spread(x, clusters):
    """Mean and cluster-robust standard error, cluster by cluster."""
    keep = np.isfinite(x)
    x, clusters = x[keep], clusters[keep]
    names = set(clusters.tolist())
    squares = sum((x[clusters == name] - x.mean()).sum() ** 2 for name in names)
    return x.mean(), np.sqrt(len(names) / (len(names) - 1) * squares) / len(x)


@pytest.mark.parametrize("clusters", [np.arange(7), np.array([4, 4, 0, 1, 2, 3, 3, 9, 9, 8])])
def test_the_band_equals_a_loop_over_all_signs(clusters):
    values = draw(4, len(clusters), effect=0.7)
    values[2, 0] = np.nan
    names = sorted(set(clusters.tolist()))
    fits = [spread(x, clusters) for x in values]

    def largest(centred):
        found = []
        for signs in itertools.product([1.0, -1.0], repeat=len(names)):
            flip = np.array([signs[names.index(name)] for name in clusters.tolist()])
            means = [(x - centred * mean, mean) for x, (mean, _) in zip(values, fits, strict=True)]
            found.append(max(abs(m / se) for m, se in (spread(flip * x, clusters) for x, _ in means)))
        return np.array(found)

    got = band(values, clusters)
    critical = np.quantile(largest(1.0), 0.95)
    assert got.critical == pytest.approx(critical, rel=1e-9)
    for c, (mean, se) in enumerate(fits):
        np.testing.assert_allclose((got.low[c], got.high[c]), (mean - critical * se, mean + critical * se), rtol=1e-9)
        assert got.p[c] == pytest.approx(np.mean(largest(0.0) >= abs(mean / se) * (1 - 1e-9)), abs=1e-12)


def flip_signs(x):
    """The exact two-sided p-value of scipy."""
    test = scipy.stats.permutation_test(
        (x,), lambda x, axis: abs(x.mean(axis)), permutation_type="samples", vectorized=True, alternative="greater"
    )
    return test.pvalue


@pytest.mark.parametrize("n", [6, 9, 12])
def test_one_cell_has_the_exact_sign_flip_p_value_of_scipy(n):
    x = draw(1, n, seed=n, effect=0.4)
    assert band(x).p[0] == pytest.approx(flip_signs(x[0]), abs=1e-12)
    assert band(x).p_alone[0] == band(x).p[0]


def test_every_cell_of_a_sweep_has_its_own_sign_flip_p_value():
    values = draw(5, 11, effect=0.6)
    values[3, :2] = np.nan
    got = band(values)
    want = [flip_signs(x[np.isfinite(x)]) for x in values]
    np.testing.assert_allclose(got.p_alone, want, atol=1e-12)
    assert (got.p_alone <= got.p).all()
    assert (got.p_alone < got.p).any()


def test_signs_of_whole_clusters_flip():
    """Clusters of one size with equal values within are as many prompts."""
    x = draw(2, 8, effect=0.5)
    twice = band(np.repeat(x, 3, axis=1), np.repeat(np.arange(8), 3))
    np.testing.assert_allclose(twice.p_alone, band(x).p_alone, atol=1e-12)
    np.testing.assert_allclose(twice.p, band(x).p, atol=1e-12)
    assert np.isnan(band(x[:, :5]).p_alone).all()  # fewer than 6 clusters


def test_flips_in_pieces_are_the_flips(monkeypatch):
    values = draw(3, 14, effect=0.4)
    whole = band(values, n_resamples=700)
    monkeypatch.setattr(sweeps, "FLIPS", 64)
    pieces = band(values, n_resamples=700)
    for name in ("low", "high", "p", "p_alone"):
        np.testing.assert_allclose(getattr(pieces, name), getattr(whole, name), rtol=1e-12)


def test_the_band_is_wider_than_pointwise_intervals_and_grows_with_cells():
    values = draw(20, 30)
    few, many = band(values[:2]), band(values)
    assert scipy.stats.t.ppf(0.975, 29) < few.critical < many.critical
    one = mean_interval(values[0], np.arange(30), unit="nats")
    assert many.low[0] < one.low < one.high < many.high[0]


def test_random_signs_agree_with_all_signs():
    values = draw(5, 12, effect=0.5)
    exact, random = band(values), band(values, n_resamples=4000)
    np.testing.assert_allclose(random.p, exact.p, atol=4 * np.sqrt(0.25 / 4000))
    assert random.critical == pytest.approx(exact.critical, rel=0.05)
    assert (random.p >= 1 / 4001).all()
    np.testing.assert_array_equal(band(values, n_resamples=4000).p, random.p)  # the same stream, the same signs
    clear = 9 + draw(1, 20)
    assert band(clear, n_resamples=100).p[0] == pytest.approx(1 / 101)  # a random p-value is never 0


def test_cells_without_spread_or_prompts_stay_out():
    values = draw(5, 10)
    values[1], values[2, 5:], values[3] = 0.0, np.nan, np.nan
    got, alone = band(values), band(values[[0, 4]])
    undefined = np.array([False, True, True, True, False])
    for x in (got.low, got.high, got.p, got.p_alone):
        np.testing.assert_array_equal(np.isnan(x), undefined)
    np.testing.assert_allclose(got.p[[0, 4]], alone.p)
    assert got.critical == alone.critical
    nothing = band(np.zeros((2, 8)))
    assert np.isnan([*nothing.low, *nothing.high, *nothing.p, *nothing.p_alone, nothing.critical]).all()


def test_cells_that_are_equal_count_as_one():
    values = draw(1, 9, effect=0.5)
    np.testing.assert_allclose(band(np.repeat(values, 4, axis=0)).p, band(values).p[0])


def test_prompts_that_all_agree_in_sign_are_no_error():
    got = band(np.array([[1.0, -1.0, 1.0, -1.0, 1.0, -1.0]]))
    assert np.isfinite(got.critical)
    assert got.p[0] == 1


def test_holm_equals_the_table_by_hand():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(adjust_holm(p), [0.03, np.nan, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(adjust_holm(np.array([[0.6], [0.7]])), [[1.0], [1.0]])


def test_false_discovery_is_that_of_scipy_without_the_undefined():
    p = np.array([[0.01, np.nan], [0.04, 0.03]])
    got = adjust_false_discovery(p)
    np.testing.assert_allclose(got[~np.isnan(p)], scipy.stats.false_discovery_control([0.01, 0.04, 0.03]))
    assert np.isnan(got[0, 1])
    assert np.isnan(adjust_false_discovery(np.array([np.nan]))).all()


def best(values, clusters=None, seed=0):
    clusters = np.arange(values.shape[1]) if clusters is None else clusters
    return choose_best_cell(values, clusters, [1.0] * len(values), rng=np.random.default_rng(seed))


def test_the_best_cell_is_chosen_by_one_half():
    values = draw(6, 40)
    for seed in range(5):
        got = best(values, seed=seed)
        assert got.chosen_by.sum() == 20
        assert got.cell == values[:, got.chosen_by].mean(1).argmax()
    assert len({tuple(best(values, seed=seed).chosen_by) for seed in range(5)}) == 5


def test_the_half_that_reports_has_no_say():
    """However far the other half is pushed, the choice stays."""
    values = draw(6, 40)
    got = best(values)
    pushed = values.copy()
    pushed[np.ix_([(got.cell + 1) % 6], ~got.chosen_by)] += 100.0
    again = best(pushed)
    assert again.cell == got.cell
    np.testing.assert_array_equal(again.chosen_by, got.chosen_by)


def test_clusters_choose_or_report_as_a_whole():
    clusters = np.repeat(np.arange(15), 3)[np.random.default_rng(0).permutation(45)]
    got = best(draw(4, 45), clusters)
    assert not set(clusters[got.chosen_by]) & set(clusters[~got.chosen_by])
    assert len(set(clusters[~got.chosen_by])) == 7


def test_the_selection_frequency_says_how_stable_the_choice_is():
    clear = draw(3, 30)
    clear[1] += 5
    np.testing.assert_array_equal(best(clear).frequency, [0, 1, 0])
    unclear = best(draw(8, 30)).frequency
    assert unclear.sum() == pytest.approx(1)
    assert 0 < unclear.max() < 1


def test_undefined_cells_are_never_the_best():
    values = draw(3, 20)
    values[1] = np.nan
    got = best(values)
    assert got.cell != 1
    assert got.frequency[1] == 0
    assert best(np.full((2, 8), np.nan)) is None


def test_the_shrunken_share_equals_the_posterior_by_quadrature():
    rng = np.random.default_rng(0)
    se = rng.uniform(0.1, 0.8, size=25)
    y = 0.6 + rng.normal(size=25) + se * rng.normal(size=25)
    between = y.var(ddof=1) - np.mean(se**2)
    grid = np.linspace(-8, 8, 40_001)
    shares = []
    for value, noise in zip(y, se, strict=True):
        density = np.exp(-((grid - y.mean()) ** 2) / (2 * between) - (value - grid) ** 2 / (2 * noise**2))
        shares.append(density[grid < 0].sum() / density.sum())
    assert share_below_zero(y, se) == pytest.approx(np.mean(shares), abs=1e-3)


def test_the_shrunken_share_without_noise_counts_and_with_noise_alone_agrees():
    y = np.array([-1.0, 1.0, 2.0, 3.0])
    assert share_below_zero(y, np.zeros(4)) == pytest.approx(0.25)
    assert share_below_zero(y, np.full(4, 50.0)) == 0
    assert share_below_zero(-y, np.full(4, 50.0)) == 1
    assert share_below_zero(np.append(y, [np.nan, -9.0]), np.append(np.zeros(4), [0.1, np.nan])) == pytest.approx(0.25)
    assert share_below_zero(np.zeros(4), np.zeros(4)) == 0.5
    assert np.isnan(share_below_zero(np.array([1.0]), np.array([0.1])))


def test_noise_alone_does_not_steer_prompts_the_wrong_way():
    """The case of numbers.md §4: truth 13.6 %, counting says more."""
    rng = np.random.default_rng(1)
    truth = rng.normal(0.33, 0.3, size=200_000)
    y = truth + 0.33 * rng.normal(size=len(truth))
    want = scipy.stats.norm.cdf(-0.33 / 0.3)
    assert share_below_zero(y, np.full(len(y), 0.33)) == pytest.approx(want, abs=0.004)
    assert (y < 0).mean() > want + 0.05


DIRECTIONS = np.random.default_rng(0).normal(size=(MIN_DIRECTIONS, 3))


def test_the_rank_counts_directions_that_do_as_well():
    value = np.array([99.0, np.sort(DIRECTIONS[:, 1])[-3], -99.0])
    np.testing.assert_allclose(rank_against_directions(value, DIRECTIONS), [1 / 20, 4 / 20, 1.0])


def test_the_predictive_t_is_that_of_two_samples_of_which_one_is_single():
    value = np.array([0.5, 2.0, -1.0])
    t, p = predict_from_directions(value, DIRECTIONS)
    for c in range(3):
        want = scipy.stats.ttest_ind([value[c]], DIRECTIONS[:, c], alternative="greater")
        np.testing.assert_allclose((t[c], p[c]), (want.statistic, want.pvalue), rtol=1e-10)


def test_the_band_of_directions_is_their_central_part():
    low, high = band_of_directions(DIRECTIONS, level=0.5)
    np.testing.assert_allclose([low, high], np.quantile(DIRECTIONS, [0.25, 0.75], axis=0))


def test_too_few_directions_are_an_error_that_teaches():
    message = "18 directions; a p-value needs at least 19.*controls.random_directions"
    for call in (
        lambda: rank_against_directions(np.zeros(3), DIRECTIONS[1:]),
        lambda: predict_from_directions(np.zeros(3), DIRECTIONS[1:]),
        lambda: band_of_directions(DIRECTIONS[1:]),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_undefined_directions_have_no_p_value():
    directions = DIRECTIONS.copy()
    directions[3, 0], directions[:, 1] = np.nan, 0.1
    value = np.array([1.0, 1.0, np.nan])
    np.testing.assert_array_equal(np.isnan(rank_against_directions(value, directions)), [True, False, True])
    for x in predict_from_directions(value, directions):
        assert np.isnan(x).all()
    np.testing.assert_array_equal(np.isnan(band_of_directions(directions)[0]), [True, False, False])
