"""What is asked of a sweep: bands, adjusted p-values, directions, the best cell, slopes."""

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.stats
from drawn import change, draw_choices, draw_increases, draw_measures, list_conditions
from test_sweeps import flip_signs

from completions_lp.quantities import SWEPT
from completions_lp.records import Inference
from completions_lp.report import summarize
from completions_lp.report.controls import compare_directions, rank_sweep
from completions_lp.report.slopes import fit_lines
from completions_lp.stats import share_below_zero, start_stream


def make(conditions=None, n_prompts=10, *, seed=0, effect=0.5, **options):
    increases = draw_increases(n_prompts, conditions, seed=seed)
    return summarize(
        increases, draw_choices(increases, seed=seed), draw_measures(increases, seed=seed, effect=effect), **options
    )


@pytest.fixture(scope="module")
def report():
    return make(list_conditions(layers=(0, 1), n_random=2))


def column(report, name):
    return np.asarray(report.prompts[name]).reshape(len(report.increases.conditions), -1)


def cells(report, quantity):
    """Rows of the sweep, with the prompts' values."""
    conditions = report.increases.conditions
    rows = [row for row in report.table(quantity) if row.condition.multiplier != 0]
    return rows, [column(report, quantity)[conditions.index(row.condition)] for row in rows]


def keep(x):
    return x[np.isfinite(x)]


@pytest.mark.parametrize("quantity", SWEPT)
def test_each_cell_has_its_own_tests(report, quantity):
    rows, values = cells(report, quantity)
    assert len(rows) == 8
    p = [scipy.stats.ttest_1samp(keep(x), 0).pvalue for x in values]
    np.testing.assert_allclose([row.inference.p_t for row in rows], p, rtol=1e-9)
    exact = [flip_signs(keep(x)) for x in values]
    np.testing.assert_allclose([row.inference.p_signflip for row in rows], exact, atol=1e-12)
    bh = scipy.stats.false_discovery_control(p)
    np.testing.assert_allclose([row.inference.p_bh for row in rows], bh, rtol=1e-9)
    order, holm, largest = np.argsort(p), np.empty(8), 0.0
    for k, i in enumerate(order):
        largest = max(largest, min(1.0, (8 - k) * p[i]))
        holm[i] = largest
    np.testing.assert_allclose([row.inference.p_holm for row in rows], holm, rtol=1e-9)


@pytest.mark.parametrize("quantity", SWEPT)
def test_the_band_and_its_p_values_are_those_of_all_signs(report, quantity):
    """Ten prompts have 1024 sets of signs, so nothing is left to chance."""
    rows, values = cells(report, quantity)
    values = np.stack(values)

    def t_of(x):
        x = keep(x)
        return abs(x.mean()) / (x.std(ddof=1) / np.sqrt(len(x)))

    signs = list(itertools.product([1.0, -1.0], repeat=10))
    centred = values - np.nanmean(values, axis=1, keepdims=True)
    critical = np.quantile([max(t_of(np.array(s) * x) for x in centred) for s in signs], 0.95)
    largest = np.array([max(t_of(np.array(s) * x) for x in values) for s in signs])
    for row, x in zip(rows, values, strict=True):
        half = critical * keep(x).std(ddof=1) / np.sqrt(len(keep(x)))
        mean = keep(x).mean()
        band = (row.inference.band_low, row.inference.band_high)
        np.testing.assert_allclose(band, (mean - half, mean + half), rtol=1e-9)
        assert row.inference.p_max_t == pytest.approx(np.mean(largest >= t_of(x) * (1 - 1e-9)), abs=1e-12)


def test_bootstrap_t_limits_stand_beside_the_t_limits(report):
    for quantity in SWEPT:
        for row in cells(report, quantity)[0]:
            i, e = row.inference, row.estimate
            assert i.boot_low < e.value < i.boot_high
            assert abs(i.boot_low - e.low) < 2 * (e.high - e.low)


def test_only_the_sweep_is_swept(report):
    """Controls and multiplier 0 have their own t-test, for the record, and nothing that is about the sweep."""
    swept = {"boot_low", "boot_high", "band_low", "band_high", "p_signflip", "p_holm", "p_bh", "p_max_t"}
    for row in report.rows:
        known = {f.name for f in dataclasses.fields(Inference) if np.isfinite(getattr(row.inference, f.name))}
        inside = row.condition.kind == "target" and row.condition.multiplier != 0 and row.split == "all"
        macro = row.quantity in SWEPT and row.weighting == "macro"
        if inside and macro:
            assert known >= swept | {"p_t", "selection_frequency", "random_mean", "random_sd"}
            assert not known & {"p_rank", "p_predictive", "random_low", "random_high", "p_rank_shuffled"}  # R = 2
        else:
            assert not known & swept
            assert macro or not known - {"fixed_se"}
    random = [row for row in report.table("delta_p_A", kind="random") if row.condition.multiplier != 0]
    want = scipy.stats.ttest_1samp(column(report, "delta_p_A")[10:], 0, axis=1).pvalue
    np.testing.assert_allclose([r.inference.p_t for r in random], want[np.isfinite(want)], rtol=1e-9)


def test_the_rounding_that_multiplier_0_leaves_is_not_tested(report):
    increases = report.increases
    measures = draw_measures(increases)
    q = measures.steered["p_A_steered"] + 1e-12 * np.random.default_rng(0).uniform(1, 2, size=(30, 10))
    got = summarize(increases, None, change(measures, p_A_steered=np.clip(q, 0, 1)))
    rows = [row for row in got.table("delta_p_A", kind=None) if row.condition.multiplier == 0]
    assert len(rows) == 6
    assert all(row.estimate.low > 0 for row in rows)
    assert np.isnan([row.inference.p_t for row in rows]).all()


def test_the_seed_moves_what_is_random_and_nothing_else():
    one, two = (make(list_conditions(layers=(0,), multipliers=(-1.0, 1.0)), 20, seed=1) for _ in range(2))
    assert repr(one.rows) == repr(two.rows)
    increases = one.increases
    other = summarize(increases, None, draw_measures(increases, seed=1), seed=5)
    a, b = (r.table("delta_p_A")[0] for r in (one, other))
    assert a.estimate == b.estimate
    assert (a.inference.boot_low, a.inference.band_low) != (b.inference.boot_low, b.inference.band_low)
    assert (a.inference.p_t, a.inference.p_holm) == (b.inference.p_t, b.inference.p_holm)


def test_a_quantity_has_the_same_inference_whatever_stands_beside_it():
    whole = make(list_conditions(layers=(0,)), 15)
    alone = summarize(whole.increases)
    for row in alone.table("increase_to_answer_A"):
        (same,) = [r for r in whole.table("increase_to_answer_A") if r.condition == row.condition]
        assert repr(same) == repr(row)


R = 19
MULTIPLIERS = (-1.0, 1.0)
GRID = list_conditions(layers=(0, 1), multipliers=MULTIPLIERS, n_random=R, n_shuffled=R)


@pytest.fixture(scope="module")
def compared():
    return make(GRID, 9, effect=0.0)


def means(report, quantity, kind, layer, multiplier):
    rows = report.table(quantity, kind=kind)
    return [r.estimate.value for r in rows if (r.condition.layer, r.condition.multiplier) == (layer, multiplier)]


@pytest.mark.parametrize("quantity", SWEPT)
def test_directions_are_compared_towards_what_the_sign_promises(compared, quantity):
    for row in compared.table(quantity):
        c, i, value = row.condition, row.inference, row.estimate.value
        random = means(compared, quantity, "random", c.layer, c.multiplier)
        shuffled = means(compared, quantity, "shuffled", c.layer, c.multiplier)
        assert (len(random), len(shuffled)) == (R, R)

        def at_least(others, value=value, positive=c.multiplier > 0):
            return sum(x >= value if positive else x <= value for x in others)

        assert i.p_rank == pytest.approx((1 + at_least(random)) / (R + 1))
        assert i.p_rank_shuffled == pytest.approx((1 + at_least(shuffled)) / (R + 1))
        side = "greater" if c.multiplier > 0 else "less"
        assert i.p_predictive == pytest.approx(scipy.stats.ttest_ind([value], random, alternative=side).pvalue)
        assert (i.random_low, i.random_high) == pytest.approx(tuple(np.quantile(random, [0.025, 0.975])))
        assert (i.random_mean, i.random_sd) == pytest.approx((np.mean(random), np.std(random, ddof=1)))
    ranks = {row.inference.p_rank for q in SWEPT for row in compared.table(q)}
    assert len(ranks) > 2  # the cells differ, so that the test can fail


def test_a_whole_sweep_is_compared_with_the_best_cell_of_every_direction(compared):
    def best(name):
        rows = [r for r in compared.rows if r.condition.vector == name and r.quantity == "delta_p_A"]
        return max(np.sign(r.condition.multiplier) * r.estimate.value for r in rows if r.split == "all")

    worse = sum(best(f"v-random-{i}") >= best("v") for i in range(R))
    assert 0 < worse < R
    assert compared.checks["p_rank_sweep"] == pytest.approx((1 + worse) / (R + 1))


def test_without_measures_the_sweep_is_compared_by_the_headline(compared):
    got = summarize(compared.increases)

    def best(name):
        rows = [r for r in got.rows if r.condition.vector == name and r.quantity == "increase_to_answer_A"]
        return max(
            np.sign(r.condition.multiplier) * r.estimate.value
            for r in rows
            if r.weighting == "macro" and r.split == "all"
        )

    worse = sum(best(f"v-random-{i}") >= best("v") for i in range(R))
    assert got.checks["p_rank_sweep"] == pytest.approx((1 + worse) / (R + 1))


def test_too_few_directions_have_no_p_value():
    got = make(list_conditions(layers=(0,), multipliers=(1.0,), n_random=18, n_shuffled=18), 8)
    i = got.table("delta_p_A")[0].inference
    assert np.isnan([i.p_rank, i.p_predictive, i.random_low, i.random_high, i.p_rank_shuffled]).all()
    random = means(got, "delta_p_A", "random", 0, 1.0)
    assert (i.random_mean, i.random_sd) == pytest.approx((np.mean(random), np.std(random, ddof=1)))
    assert np.isnan(got.checks["p_rank_sweep"])
    one = make(list_conditions(layers=(0,), multipliers=(1.0,), n_random=1), 8).table("delta_p_A")[0].inference
    assert np.isfinite(one.random_mean)
    assert np.isnan(one.random_sd)


def test_cells_where_only_some_directions_were_scored_count_those():
    """Layer 1 was scored under the vector and under three random directions only; the vector does most there."""
    names = ("v", "v-random-0", "v-random-7", "v-random-8")
    grid = [c for c in list_conditions(multipliers=(1.0,), n_random=R) if c.layer == 0 or c.vector in names]
    grid = [*grid[2:], *grid[:2]]
    values = np.random.default_rng(0).normal(size=len(grid))
    values[-2:] = 0.5, 99.0
    cells = [i for i, c in enumerate(grid) if c.kind == "target"]
    got = compare_directions(values, grid, cells, level=0.9)
    random = [[x for x, c in zip(values, grid, strict=True) if (c.kind, c.layer) == ("random", k)] for k in (0, 1)]
    assert [len(x) for x in random] == [R, 3]
    rank = (1 + sum(x >= 0.5 for x in random[0])) / (R + 1)
    np.testing.assert_allclose(got["p_rank"], [rank, np.nan])
    np.testing.assert_allclose(got["random_mean"], [np.mean(x) for x in random])
    np.testing.assert_allclose(got["random_sd"], [np.std(x, ddof=1) for x in random])
    np.testing.assert_allclose(got["random_low"], [np.quantile(random[0], 0.05), np.nan])
    assert rank_sweep(values, grid, cells) == pytest.approx(rank)  # of the cells that all have


def test_an_undefined_direction_has_no_p_value(compared):
    measures = draw_measures(compared.increases)
    q = measures.steered["p_A_steered"].copy()
    q[compared.increases.conditions.index(next(c for c in GRID if c.kind == "random" and c.multiplier > 0))] = np.nan
    got = summarize(compared.increases, None, change(measures, p_A_steered=q))
    by_cell = {(r.condition.layer, r.condition.multiplier): r.inference.p_rank for r in got.table("delta_p_A")}
    assert np.isnan(by_cell[0, 1.0])
    assert np.isfinite(by_cell[1, 1.0])
    assert np.isnan(got.checks["p_rank_sweep"])


def draw_half(n):
    """The prompts that choose, where each is its own cluster and the seed is 0."""
    half = np.zeros(n, dtype=bool)
    half[start_stream(0, "halves").permutation(n)[: (n + 1) // 2]] = True
    return half


def held_out(report):
    return [row for row in report.rows if row.split == "report"]


@pytest.mark.parametrize("seed", range(4))
def test_best_cells_are_chosen_by_one_half_and_reported_on_the_other(seed):
    got = make(n_prompts=24, seed=seed, effect=0.1)
    own = [row for row in held_out(got) if np.isfinite(row.inference.selection_frequency)]
    assert [row.quantity for row in own] == list(SWEPT)
    chose = draw_half(24)
    for row in own:
        rows, values = cells(got, row.quantity)
        best = next(k for k, r in enumerate(rows) if r.condition == row.condition)
        choice = [np.nanmean(x[chose]) for x in values]
        assert best == int(np.argmax(choice))
        rest = keep(values[best][~chose])
        assert row.estimate.value == pytest.approx(rest.mean(), abs=1e-12)
        want = scipy.stats.ttest_1samp(rest, 0)
        assert (row.estimate.low, row.estimate.high) == pytest.approx(tuple(want.confidence_interval()))
        assert row.inference.p_t == pytest.approx(want.pvalue)
        assert (row.estimate.n, row.n_dropped) == (len(rest), 12 - len(rest))


def test_beside_the_best_cell_stands_everything_else_on_the_same_half():
    got = make(n_prompts=24)
    rows = held_out(got)
    primary = next(row for row in rows if row.quantity == "delta_p_A")
    names = {r.quantity for r in got.rows if r.condition == primary.condition and r.weighting == "macro"}
    names = {name for name in names if not name.endswith("_odd")}
    here = [row.quantity for row in rows if row.condition == primary.condition]
    assert set(here) == names
    assert len(here) == len(set(here))
    assert {row.condition for row in rows if row.quantity not in SWEPT} == {primary.condition}
    assert {row.estimate.n for row in rows if row.quantity == "increase_all"} == {12}
    red = next(row for row in rows if row.quantity == "share_red")
    assert red.estimate.n == 12


def test_the_half_that_chose_has_no_part_in_what_is_reported():
    got = make(n_prompts=24)
    primary = held_out(got)[0]
    c = got.increases.conditions.index(primary.condition)
    chose = draw_half(24)
    measures = draw_measures(got.increases)
    q = measures.steered["p_A_steered"].copy()
    q[c, chose] = 0.999  # whatever the half that chose says of the cell it chose
    again = held_out(summarize(got.increases, draw_choices(got.increases), change(measures, p_A_steered=q)))[0]
    assert again.condition == primary.condition
    assert again.estimate == primary.estimate


def test_directions_are_compared_on_the_half_that_reports():
    got = make(GRID, 12, effect=0.05)
    row = held_out(got)[0]
    conditions, values = got.increases.conditions, column(got, "delta_p_A")
    chose = draw_half(12)
    same = [
        values[i, ~chose].mean()
        for i, c in enumerate(conditions)
        if c.kind == "random" and (c.layer, c.multiplier) == (row.condition.layer, row.condition.multiplier)
    ]
    assert row.inference.p_rank == pytest.approx((1 + sum(x >= row.estimate.value for x in same)) / (R + 1))
    assert (row.inference.random_low, row.inference.random_high) == pytest.approx(
        tuple(np.quantile(same, [0.025, 0.975]))
    )


def test_where_every_multiplier_is_negative_the_smallest_is_the_best():
    got = make(list_conditions(layers=(0, 1), multipliers=(-2.0, -0.1)), 20, effect=1.0)
    best = held_out(got)[0]
    assert best.condition.multiplier == -2.0
    assert best.estimate.value < -5
    frequency = {r.condition: r.inference.selection_frequency for r in got.table("delta_p_A")}
    assert sum(frequency.values()) == pytest.approx(1)
    assert max(frequency, key=frequency.get).multiplier == -2.0


def test_without_p_the_headline_chooses():
    increases = draw_increases(20)
    got = held_out(summarize(increases, draw_choices(increases)))
    assert [row.quantity for row in got[:2]] == ["increase_to_answer_A", "logit_diff_change"]
    undefined = draw_measures(increases)
    undefined = change(
        undefined,
        p_A=np.full(20, np.nan),
        p_A_steered=np.full((10, 20), np.nan),
        trust=np.full((10, 20), "red", dtype="<U9"),
    )
    rows = held_out(summarize(increases, None, undefined))
    headline = rows[0]
    assert headline.quantity == "increase_to_answer_A"
    assert {row.condition for row in rows} == {headline.condition}
    assert "increase_all" in {row.quantity for row in rows}


def test_slopes_are_least_squares_through_what_is_known_at_0():
    got = make(list_conditions(layers=(0, 1), n_random=1), 12)
    found = {(s.vector, s.layer, s.quantity): s for s in got.slopes}
    assert set(found) == set(itertools.product(("v", "v-random-0"), (0, 1), ("log_ratio_A", "logit_diff_change")))
    conditions = got.increases.conditions
    for (vector, layer, quantity), slope in found.items():
        at = [i for i, c in enumerate(conditions) if (c.vector, c.layer) == (vector, layer) and c.multiplier != 0]
        m = np.array([0.0, *(conditions[i].multiplier for i in at)])
        fits = [
            scipy.stats.linregress(m, np.append(0.0, column(got, quantity)[at, i]))
            for i in range(12)
            if np.isfinite(column(got, quantity)[at, i]).all()
        ]
        slopes = np.array([fit.slope for fit in fits])
        e = slope.estimate
        want = scipy.stats.ttest_1samp(slopes, 0).confidence_interval()
        np.testing.assert_allclose((e.value, e.low, e.high), (slopes.mean(), *want), rtol=1e-9)
        assert (e.n, e.unit, slope.multipliers) == (len(fits), "nats/multiplier", (-2.0, -1.0, 0.0, 1.0, 2.0))
        assert slope.below_zero == pytest.approx(share_below_zero(slopes, np.array([fit.stderr for fit in fits])))
        assert (slope.kind, slope.positions) == (conditions[at[0]].kind, "completion")
    assert found["v", 1, "log_ratio_A"].estimate.n < 12  # P(A) of 0 or 1 has no logarithm


def test_one_multiplier_makes_a_slope_without_noise_of_its_own():
    got = make(list_conditions(layers=(0,), multipliers=(2.0,)), 8)
    for slope in got.slopes:
        values = keep(column(got, slope.quantity)[0]) / 2
        assert slope.estimate.value == pytest.approx(values.mean())
        assert np.isnan(slope.below_zero)
        assert slope.multipliers == (0.0, 2.0)


def test_lines_are_those_of_polyfit():
    rng = np.random.default_rng(0)
    x, y = np.array([0.0, -1.0, 0.5, 2.0]), rng.normal(size=(4, 6))
    slope, se = fit_lines(x, y)
    np.testing.assert_allclose(slope, np.polyfit(x, y, 1)[0], rtol=1e-10)
    np.testing.assert_allclose(se, [scipy.stats.linregress(x, y[:, i]).stderr for i in range(6)], rtol=1e-10)
    exact, none = fit_lines(x, np.outer(x, [2.0, -1.0]))
    np.testing.assert_allclose(exact, [2.0, -1.0])
    np.testing.assert_allclose(none, 0, atol=1e-12)
