"""Every quantity of the summary against a slow and obvious computation."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
from drawn import change, draw_choices, draw_increases, draw_measures, list_conditions
from scipy.special import logit
from test_intervals import bootstrap_t
from test_sweeps import spread

from completions_lp.quantities import QUANTITIES, name_unit
from completions_lp.records import BASELINE, InputError, Prompt
from completions_lp.report import summarize
from completions_lp.stats import start_stream

PLAIN = [
    *("increase_to_answer_A", "increase_A", "increase_to_answer_not_A", "increase_not_A", "increase_all"),
    *("before_answer_A", "at_answer_A", "after_answer_A", "difference_A_not_A"),
]
CHOICES = [
    *("logit_diff", "logit_diff_steered", "logit_diff_change", "p_choice", "p_choice_steered", "delta_p_choice"),
    *("pref_odds", "pref_odds_steered", "pref_odds_change", "util_odds", "util_odds_steered", "util_odds_change"),
    *("mass", "mass_steered", "greedy", "greedy_steered", "greedy_change"),
]
UNSTEERED = [
    *("share_A", "p_A", "p_A_low", "p_A_high", "first_A", "first_B", "n_tokens", "excess_surprisal", "answered"),
]
MEASURED = [
    *("p_A_steered", "p_A_steered_low", "p_A_steered_high", "first_A_steered", "first_B_steered"),
    *("increase_to_answer_A_rb", "kl", "kl_reverse", "ess", "mean_weight_low", "mean_weight_high", "n_steered"),
]
DERIVED = [
    *("kl_per_token", "delta_p_A", "log_ratio_A", "delta_logit_A", "bound_gap", "answered_steered"),
    *("log_odds_change_A_B", "log_odds_change_answered", "answer_share", "reasoning_share"),
]


@pytest.fixture(scope="module")
def study():
    increases = draw_increases()
    return increases, draw_choices(increases), draw_measures(increases)


@pytest.fixture(scope="module")
def report(study):
    return summarize(*study, target="A")


def column(report, name):
    """A per-prompt column as [condition, prompt]."""
    return np.asarray(report.prompts[name]).reshape(len(report.increases.conditions), -1)


def derive(name, u, s, c, i):
    """A derived quantity of one prompt, by its definition."""
    p, q = u["p_A"][i], s["p_A_steered"][c, i]
    inside = 0 < p < 1 and 0 < q < 1
    if name == "kl_per_token":
        return s["kl"][c, i] / u["n_tokens"][i]
    if name == "delta_p_A":
        return 100 * (q - p)
    if name == "answered_steered":
        return s["first_A_steered"][c, i] + s["first_B_steered"][c, i]
    if name == "log_odds_change_A_B":
        before, after = u["first_A"][i] / u["first_B"][i], s["first_A_steered"][c, i] / s["first_B_steered"][c, i]
        return math.log(after) - math.log(before)
    if name == "log_odds_change_answered":
        before = u["first_A"][i] + u["first_B"][i]
        after = s["first_A_steered"][c, i] + s["first_B_steered"][c, i]
        if not (0 < before < 1 and 0 < after < 1):
            return math.nan
        return math.log(after / (1 - after)) - math.log(before / (1 - before))
    if not inside:
        return math.nan
    if name == "log_ratio_A":
        return math.log(q) - math.log(p)
    if name == "bound_gap":
        return math.log(q / p) - s["increase_to_answer_A_rb"][c, i]
    if name == "delta_logit_A":
        return math.log(q / (1 - q)) - math.log(p / (1 - p))
    g = [float(logit(x)) for x in (p, s["p_A_answer_only"][c, i], s["p_A_reasoning_only"][c, i], q)]
    order = {"answer_share": (1, 2), "reasoning_share": (2, 1)}[name]
    first, second = (g[k] for k in order)
    return (first - g[0] + g[3] - second) / 2


def test_the_columns_of_the_prompts_are_what_they_are_defined_as(study, report):
    increases, _, measures = study
    n = len(measures.prompts)
    for name in MEASURED:
        np.testing.assert_array_equal(column(report, name), measures.steered[name])
    for name in ("p_A", "p_A_se", "p_A_low", "p_A_high", "first_A", "first_B"):
        np.testing.assert_array_equal(column(report, name)[3], measures.unsteered[name])
    np.testing.assert_array_equal(column(report, "trust"), measures.trust)
    np.testing.assert_allclose(
        column(report, "answered")[0], measures.unsteered["first_A"] + measures.unsteered["first_B"]
    )
    for name in DERIVED:
        want = [
            [derive(name, measures.unsteered, measures.steered, c, i) for i in range(n)]
            for c in range(len(increases.conditions))
        ]
        np.testing.assert_allclose(column(report, name), want, atol=1e-12, err_msg=name)
    whole = column(report, "answer_share") + column(report, "reasoning_share")
    np.testing.assert_allclose(whole, column(report, "delta_logit_A"), atol=1e-12)
    places = [column(report, name) for name in ("before_answer_A", "at_answer_A", "after_answer_A")]
    np.testing.assert_allclose(sum(places), column(report, "increase_A"), atol=1e-12)


def test_a_probability_of_0_or_1_has_no_logarithm_and_is_counted(report):
    for name in ("log_ratio_A", "delta_logit_A", "bound_gap", "answer_share", "reasoning_share"):
        values = column(report, name)
        assert np.isnan(values[:, 1]).all()  # P(A) = 1
        assert np.isnan(values[-1, 2])  # and 0 under the last condition
        assert np.isfinite(values[:, 3:]).all()
        rows = report.table(name)
        assert [row.n_dropped for row in rows] == [1] * (len(rows) - 1) + [2]
        assert [row.estimate.n for row in rows] == [9] * (len(rows) - 1) + [8]
    assert {row.n_dropped for row in report.table("delta_p_A")} == {0}


def test_an_answer_that_neither_ever_gives_has_no_odds(study):
    increases, choices, measures = study
    first_b = measures.unsteered["first_B"].copy()
    first_b[4] = 0.0
    got = summarize(increases, choices, change(measures, first_B=first_b))
    assert np.isnan(column(got, "log_odds_change_A_B")[:, 4]).all()
    assert {row.n_dropped for row in got.table("log_odds_change_A_B")} == {1}


def test_the_columns_have_their_names_and_order(report):
    names = list(report.prompts)
    head = ["prompt_id", "cluster", "vector", "kind", "layer", "multiplier"]
    assert names[: len(head)] == head
    numbers = names[len(head) : -5]
    assert numbers == sorted(numbers, key=list(QUANTITIES).index)
    assert names[-5:] == ["positions", "operation", "layers", "dose", "trust"]
    rest = ["p_A", "p_A_se", "p_A_low", "p_A_high", "first_A", "first_B", "answered", "p_A_steered_se", "p_A_change_se"]
    rest += ["n_tokens", "excess_surprisal", "excess_surprisal_se", "n_broken", "n", "n_unique", "n_A", "share_A"]
    rest += ["share_uncommitted", "share_cut_off"]
    assert set(names[len(head) : -5]) == {*PLAIN, *CHOICES, *MEASURED, *DERIVED, *rest}
    assert {len(values) for values in report.prompts.values()} == {100}


def test_every_macro_row_is_the_mean_with_the_interval_of_scipy(report):
    seen = set()
    for row in report.rows:
        skewed = row.quantity in ("kl", "kl_per_token", "kl_reverse")
        if row.split != "all" or row.weighting != "macro" or row.condition == BASELINE or skewed:
            continue
        if row.quantity not in report.prompts:  # shares and odd parts
            continue
        values = column(report, row.quantity)[report.increases.conditions.index(row.condition)]
        kept, e = values[np.isfinite(values)], row.estimate
        seen.add(row.quantity)
        assert e.value == pytest.approx(kept.mean(), abs=1e-12)
        assert (e.n, row.n_dropped, e.unit, e.level) == (len(kept), 10 - len(kept), name_unit(row.quantity), 0.95)
        if len(kept) < 6:
            assert (e.low, e.high) == (None, None)
        elif np.ptp(kept) > 1e-12:
            want = scipy.stats.ttest_1samp(kept, 0)
            assert (e.low, e.high) == pytest.approx(tuple(want.confidence_interval()), abs=1e-9)
            assert (e.se, e.df, e.method) == (pytest.approx(scipy.stats.sem(kept)), len(kept) - 1, "t")
    assert seen == {*PLAIN, *CHOICES, *MEASURED, *DERIVED} - {"kl", "kl_per_token", "kl_reverse"}
    assert not any(row.quantity.endswith("_se") for row in report.rows)


def test_units_are_said(report):
    want = {
        "pp": {"delta_p_A", "delta_p_A_odd", "delta_p_choice", "greedy_change"},
        "nats/token": {"kl_per_token"},
        "share": {"below_zero_delta_p_A", "share_certified", "share_green", "share_red"},
        "draws": {"ess", "n_steered"},
        "ratio": {"mean_weight_low", "mean_weight_high"},
        "tokens": {"n_tokens"},
        "probability": {
            *(
                "mass",
                "mass_steered",
                *("p_choice", "p_choice_steered", "greedy", "greedy_steered"),
                *(name for name in UNSTEERED if name not in ("n_tokens", "excess_surprisal")),
                "answered_steered",
                "p_A_steered",
                "p_A_steered_low",
            ),
            *("p_A_steered_high", "first_A_steered", "first_B_steered"),
        },
    }
    want["share"] |= {"share_uncommitted", "share_cut_off"}
    for row in report.rows:
        unit = next((unit for unit, names in want.items() if row.quantity in names), "nats")
        assert row.estimate.unit == unit, row.quantity


@pytest.mark.parametrize("per_cluster", [1, 2])
def test_divergences_have_bootstrap_t_intervals(per_cluster):
    increases = draw_increases(16, list_conditions(layers=(0,), multipliers=(-1.0, 2.0)), per_cluster=per_cluster)
    measures = draw_measures(increases)
    got = summarize(increases, None, measures, seed=3)
    clusters = np.repeat(np.arange(16 // per_cluster), per_cluster)
    for name in ("kl", "kl_per_token", "kl_reverse"):
        for c, row in enumerate(got.table(name)):
            want = bootstrap_t(column(got, name)[c], clusters, start_stream(3, "divergences"), 1999)
            e = row.estimate
            np.testing.assert_allclose((e.value, e.low, e.high), want, rtol=1e-9)
            assert e.method == "bootstrap t"
    other = summarize(increases, None, measures, seed=4).table("kl")[0].estimate
    assert other.value == got.table("kl")[0].estimate.value
    assert other.low != got.table("kl")[0].estimate.low


POOLED = {
    "increase_to_answer_A": ("increase_to_answer", "A"),
    "increase_A": ("increase", "A"),
    "increase_to_answer_not_A": ("increase_to_answer", "not_A"),
    "increase_not_A": ("increase", "not_A"),
    "increase_all": ("increase", "all"),
}


def delete_one(values, statistic):
    """Jackknife standard error: ``statistic`` of a list without each of its items."""
    n = len(values)
    without = np.array([statistic(values[:i] + values[i + 1 :]) for i in range(n)])
    return np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))


def test_micro_rows_pool_the_draws_of_all_prompts(study, report):
    completions = study[0].completions
    found = {row.quantity for row in report.rows if row.weighting == "micro"}
    assert found == set(POOLED)
    for quantity, (part, which) in POOLED.items():
        keep = {"A": completions.label == "A", "not_A": completions.label != "A", "all": completions.counts > 0}[which]
        for c, condition in enumerate(study[0].conditions):
            draws = []  # by prompt, the increase of every single draw
            for i in range(10):
                rows = np.flatnonzero(keep & (completions.prompt_index == i))
                if len(rows):
                    draws.append(np.repeat(getattr(study[0], part)[c, rows], completions.counts[rows]))

            def pool(lists):
                return np.concatenate(lists).mean()

            e = report.estimate(quantity, condition, weighting="micro")
            assert e.value == pytest.approx(pool(draws), abs=1e-12)
            assert e.n == len(draws)
            if condition.multiplier != 0:
                n = np.array([len(x) for x in draws])
                half = scipy.stats.t.ppf(0.975, n.sum() ** 2 / (n**2).sum() - 1) * delete_one(draws, pool)
                assert (e.low, e.high) == pytest.approx((e.value - half, e.value + half), abs=1e-9)


def test_marginal_rows_are_changes_of_the_mean_probability(study, report):
    measures = study[2]
    for quantity, scale in (("log_ratio_A", math.log), ("delta_logit_A", lambda x: math.log(x / (1 - x)))):
        assert len([r for r in report.rows if (r.quantity, r.weighting) == (quantity, "marginal")]) == 10
        for c, condition in enumerate(study[0].conditions):
            pairs = list(zip(measures.unsteered["p_A"], measures.steered["p_A_steered"][c], strict=True))

            def contrast(pairs, scale=scale):
                return scale(np.mean([q for _, q in pairs])) - scale(np.mean([p for p, _ in pairs]))

            e = report.estimate(quantity, condition, weighting="marginal")
            assert e.value == pytest.approx(contrast(pairs), abs=1e-12)
            assert e.n == 10  # the prompts that have no logarithm of their own count
            if condition.multiplier != 0:
                half = scipy.stats.t.ppf(0.975, 9) * delete_one(pairs, contrast)
                assert (e.low, e.high) == pytest.approx((e.value - half, e.value + half), abs=1e-9)


def test_odd_parts_are_half_the_difference_of_the_signs(report):
    conditions = report.increases.conditions
    quantities = ("increase_to_answer_A", "log_ratio_A", "delta_p_A")
    odd = [row for row in report.rows if row.quantity.endswith("_odd")]
    assert {row.quantity for row in odd} == {f"{name}_odd" for name in quantities}
    assert len(odd) == 3 * 4
    for row in odd:
        c, quantity = row.condition, row.quantity.removesuffix("_odd")
        assert c.multiplier > 0
        minus = conditions.index(dataclasses.replace(c, multiplier=-c.multiplier, dose=None))
        values = column(report, quantity)
        parts = (values[conditions.index(c)] - values[minus]) / 2
        kept = parts[np.isfinite(parts)]
        assert row.estimate.value == pytest.approx(kept.mean(), abs=1e-12)
        want = scipy.stats.ttest_1samp(kept, 0).confidence_interval()
        assert (row.estimate.low, row.estimate.high) == pytest.approx(tuple(want), abs=1e-9)
        assert row.n_dropped == 10 - len(kept)


def test_the_negated_vector_stands_in_for_the_opposite_sign():
    conditions = list_conditions(layers=(0,), multipliers=(1.0, 2.0), negated=True, n_random=2)
    increases = draw_increases(8, conditions)
    got = summarize(increases, None, draw_measures(increases))
    odd = [row for row in got.rows if row.quantity == "delta_p_A_odd"]
    assert [row.condition for row in odd] == list(conditions[:2])  # random vectors have no opposite here
    values = column(got, "delta_p_A")
    np.testing.assert_allclose(
        [row.estimate.value for row in odd], ((values[:2] - values[2:4]) / 2).mean(1), atol=1e-12
    )


def test_shares_are_of_the_prompts_that_were_graded(study, report):
    measures = study[2]
    for trust in ("certified", "green", "red"):
        for row in report.table(f"share_{trust}"):
            given = measures.trust[study[0].conditions.index(row.condition)]
            e = row.estimate
            assert (e.value, e.n, e.n_clusters) == (np.mean(given == trust), 10, 10)
            assert (e.low, e.high, e.unit) == (None, None, "share")
    hidden = measures.trust.copy()
    hidden[:, 6:] = ""
    got = summarize(*study[:2], change(measures, trust=hidden)).table("share_red")[0]
    assert got.estimate.value == np.mean(hidden[0, :6] == "red")
    assert (got.estimate.n, got.n_dropped) == (6, 4)
    hidden[:] = ""
    assert np.isnan(summarize(*study[:2], change(measures, trust=hidden)).table("share_red")[0].estimate.value)


def test_the_share_that_is_steered_the_wrong_way_has_its_noise_shrunken_away(study, report):
    """Posterior of a normal population with normal noise, by quadrature."""
    measures = study[2]
    se = 100 * measures.steered["p_A_change_se"]
    values = column(report, "delta_p_A")
    small = change(measures, p_A_change_se=measures.steered["p_A_change_se"] / 5)
    got = summarize(*study[:2], small).table("below_zero_delta_p_A")
    for c in (0, 4):
        y, noise = values[c], se[c] / 5
        between = y.var(ddof=1) - np.mean(noise**2)
        assert between > 0
        grid = np.linspace(-300, 300, 60_001)
        shares = []
        for value, sd in zip(y, noise, strict=True):
            density = np.exp(-((grid - y.mean()) ** 2) / (2 * between) - (value - grid) ** 2 / (2 * sd**2))
            shares.append(density[grid < 0].sum() / density.sum())
        assert got[c].estimate.value == pytest.approx(np.mean(shares), abs=2e-3)
        assert (got[c].estimate.low, got[c].estimate.unit, got[c].estimate.n) == (None, "share", 10)


def test_the_noise_of_just_these_prompts_stands_beside_the_interval(study, report):
    measures = study[2]
    before, after = measures.unsteered["p_A_se"], measures.steered["p_A_steered_se"]
    for c, condition in enumerate(study[0].conditions):
        rows = [row for row in report.rows if row.condition == condition and row.split == "all"]
        found = {row.quantity: row.inference.fixed_se for row in rows if row.weighting == "macro"}
        want = math.sqrt(sum(x**2 for x in after[c])) / 10
        assert found["p_A_steered"] == pytest.approx(want)
        joint = measures.steered["p_A_change_se"][c]
        assert found["delta_p_A"] == pytest.approx(100 * math.sqrt(sum(x**2 for x in joint)) / 10)
        assert math.isnan(found["log_ratio_A"])
    (row,) = [row for row in report.rows if row.condition == BASELINE and row.quantity == "p_A"]
    assert row.inference.fixed_se == pytest.approx(math.sqrt(sum(x**2 for x in before)) / 10)


SHARES = ("share_uncommitted", "share_cut_off")
"""Of the unsteered draws, beside ``share_A``."""


def slow_share(completions, name):
    """By prompt, draw by draw."""
    told = [[] for _ in completions.prompts]
    for row, prompt in enumerate(completions.prompt_index):
        is_so = not completions.label[row] if name == "share_uncommitted" else not completions.ended[row]
        told[prompt] += [is_so] * int(completions.counts[row])
    return [sum(draws) / len(draws) for draws in told]


def test_what_steering_does_not_touch_stands_once(study, report):
    rows = {row.quantity: row for row in report.rows if row.condition == BASELINE}
    assert list(rows) == sorted((*UNSTEERED, *SHARES), key=list(QUANTITIES).index)
    for name in SHARES:
        np.testing.assert_array_equal(column(report, name)[0], slow_share(study[0].completions, name))
    for name, row in rows.items():
        values = column(report, name)[0]
        assert row.estimate.value == pytest.approx(values.mean())
        if values.std() == 0:
            assert (row.estimate.low, row.estimate.high) == (None, None)
            continue
        want = scipy.stats.ttest_1samp(values, 0).confidence_interval()
        assert (row.estimate.low, row.estimate.high) == pytest.approx(tuple(want))
    assert not any(row.quantity in UNSTEERED for row in report.rows if row.condition != BASELINE)


def test_without_measures_there_is_what_needs_no_tokens(study):
    got = summarize(study[0])
    names = {row.quantity for row in got.rows}
    assert names == {*PLAIN, "share_A", "share_uncommitted", "share_cut_off", "increase_to_answer_A_odd"}
    assert "trust" not in got.prompts
    assert got.slopes == ()
    with_choices = summarize(*study[:2])
    assert {row.quantity for row in with_choices.rows} == names | set(CHOICES)


def test_clusters_widen_the_intervals_of_every_quantity():
    increases = draw_increases(24, list_conditions(layers=(0,), multipliers=(1.0, 2.0)), per_cluster=2)
    got = summarize(increases, draw_choices(increases), draw_measures(increases))
    clusters = np.repeat(np.arange(12), 2)
    for name in ("delta_p_A", "log_ratio_A", "increase_to_answer_A", "logit_diff_change"):
        for c, row in enumerate(got.table(name)):
            mean, se = spread(column(got, name)[c], clusters)
            half = scipy.stats.t.ppf(0.975, 11) * se
            e = row.estimate
            np.testing.assert_allclose((e.value, e.low, e.high), (mean, mean - half, mean + half), rtol=1e-9)
            assert (e.n_clusters, e.method, e.df) == (12, "cluster t", 11)


def test_the_level_is_that_of_every_interval(study):
    wide, narrow = (summarize(*study, level=level) for level in (0.99, 0.8))
    for one, two in zip(wide.rows, narrow.rows, strict=True):
        a, b = one.estimate, two.estimate
        assert (a.level, b.level) == (0.99, 0.8)
        if a.low is not None and one.condition.multiplier != 0:
            assert a.low < b.low < b.high < a.high
    for one, two in zip(wide.slopes, narrow.slopes, strict=True):
        assert one.estimate.low < two.estimate.low


def test_the_profile_and_the_increases_pass_through(study):
    rows = summarize(*study).rows
    got = summarize(*study, profile=[])
    assert got.profile == ()
    assert got.increases is study[0]
    assert [repr(row) for row in got.rows] == [repr(row) for row in rows]  # the same seed, the same report


def test_the_order_of_prompts_and_conditions_changes_nothing(study, report):
    increases, choices, measures = study
    rng = np.random.default_rng(1)
    prompts, turn = rng.permutation(10), rng.permutation(10)
    place = np.argsort(prompts)
    moved = tuple(increases.completions.prompts[i] for i in prompts)
    conditions = tuple(increases.conditions[i] for i in turn)
    completions = dataclasses.replace(
        increases.completions,
        prompts=moved,
        prompt_index=place[increases.completions.prompt_index].astype(np.int32),
    )
    parts = {name: getattr(increases, name)[turn] for name in increases.PARTS}
    increases = dataclasses.replace(increases, completions=completions, conditions=conditions, **parts)
    choices = dataclasses.replace(
        choices,
        prompts=moved,
        conditions=conditions,
        baseline=choices.baseline[prompts],
        logprob=choices.logprob[turn][:, prompts],
    )
    measures = dataclasses.replace(
        measures,
        prompts=moved,
        conditions=conditions,
        unsteered={name: x[prompts] for name, x in measures.unsteered.items()},
        steered={name: x[turn][:, prompts] for name, x in measures.steered.items()},
        trust=measures.trust[turn][:, prompts],
    )
    again = summarize(increases, choices, measures, target="A")

    def key(row):
        return row.condition, row.quantity, row.weighting, row.split

    found = {key(row): row for row in again.rows}
    assert set(found) == {key(row) for row in report.rows}
    for row in report.rows:
        other = found[key(row)]
        for record, twin in ((row.estimate, other.estimate), (row.inference, other.inference)):
            pairs = [(getattr(record, f.name), getattr(twin, f.name)) for f in dataclasses.fields(record)]
            for one, two in pairs:
                if isinstance(one, float) and isinstance(two, float):
                    np.testing.assert_allclose(two, one, atol=1e-10)
                else:
                    assert one == two


def test_records_of_other_prompts_or_conditions_are_refused(study):
    increases, choices, measures = study
    for other in (
        dataclasses.replace(measures, prompts=measures.prompts[::-1]),
        dataclasses.replace(measures, conditions=measures.conditions[::-1]),
    ):
        with pytest.raises(InputError, match="the measures and the scores are of different prompts or conditions"):
            summarize(increases, choices, other)


def test_a_prompt_that_does_not_offer_the_target_drops_out():
    increases = draw_increases(8)
    prompts = list(increases.completions.prompts)
    prompts[5] = dataclasses.replace(prompts[5], letters=("Yes", "No"), matching="Yes", not_matching="No")
    completions = dataclasses.replace(increases.completions, prompts=tuple(prompts))
    increases = dataclasses.replace(increases, completions=completions)
    measures = draw_measures(increases)
    hide = np.where(np.arange(8) == 5, np.nan, 1.0)
    keep = ("n_tokens", "excess_surprisal", "excess_surprisal_se", "kl", "kl_reverse", "n_steered")
    hidden = {
        name: values * hide for name, values in {**measures.unsteered, **measures.steered}.items() if name not in keep
    }
    got = summarize(increases, None, change(measures, **hidden, trust=np.where(np.isnan(hide), "", measures.trust)))
    assert got.errors == ()
    assert {row.n_dropped for row in got.table("delta_p_A")} == {1}
    assert {row.n_dropped for row in got.table("share_red")} == {1}
    assert {row.estimate.n for row in got.table("kl")} == {8}


def make_one_prompt():
    increases = draw_increases(2)
    rows = increases.completions.prompt_index == 1
    completions = dataclasses.replace(
        increases.completions,
        prompts=increases.completions.prompts[1:],
        prompt_index=np.zeros(5, dtype=np.int32),
        text=("",) * 5,
        pieces=(("",),) * 5,
        **{
            name: getattr(increases.completions, name)[rows]
            for name in ("token_ids", "lengths", "counts", "ended", "label", "answer_index", "logprob")
        },
    )
    parts = {name: getattr(increases, name)[:, rows] for name in increases.PARTS}
    return dataclasses.replace(increases, completions=completions, baseline=increases.baseline[rows], **parts)


def test_one_prompt_has_points_and_no_intervals():
    increases = make_one_prompt()
    got = summarize(increases, draw_choices(increases), draw_measures(increases))
    assert all(row.estimate.low is None and row.estimate.high is None for row in got.rows)
    assert all(math.isnan(x) for row in got.rows for x in (row.estimate.se, row.inference.p_t, row.inference.p_max_t))
    assert not [row for row in got.rows if row.split == "report"]  # nobody is left to report on
    point = got.estimate("delta_p_A", increases.conditions[0])
    assert (point.value, point.n) == (got.prompts["delta_p_A"][0], 1)
    assert got.errors == ()


def test_nothing_is_no_crash():
    increases = draw_increases(3, conditions=())
    got = summarize(increases, draw_choices(increases), draw_measures(increases))
    assert {row.condition for row in got.rows} == {BASELINE}
    assert got.slopes == ()
    empty = draw_increases(0)
    for target in ("A", "matching"):
        if target == "A":
            with pytest.raises(InputError, match="is an answer of no prompt"):
                summarize(empty, target=target)
            continue
        got = summarize(empty, draw_choices(empty), draw_measures(empty), target=target)
        assert all(math.isnan(row.estimate.value) and row.estimate.low is None for row in got.rows)
        assert got.errors == ()


def test_a_prompt_without_completions_is_left_out():
    increases = draw_increases(7)
    extra = Prompt("more", "text", (1,), ("A", "B"), "A", "B", "z")
    completions = dataclasses.replace(increases.completions, prompts=(*increases.completions.prompts, extra))
    got = summarize(dataclasses.replace(increases, completions=completions))
    assert {row.n_dropped for row in got.table("increase_all")} == {1}
    assert got.errors == ()
