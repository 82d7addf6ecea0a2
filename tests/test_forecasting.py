"""The planner's numbers, against closed forms, against loops, and against simulations with a fixed seed."""

import itertools
from dataclasses import replace

import drawn
import numpy as np
import pytest
import toys
from conftest import make_completions, make_prompts
from scipy import stats

from completions_lp.plan.costs import PART_BYTES, Workload, count_prefixes, expect_distinct, forecast_costs
from completions_lp.plan.forecast import Pilot, measure_pilot, plan_run, split_variance
from completions_lp.plan.noise import KNOWN, measure_noise
from completions_lp.records import Condition, Estimate, InputError, Sampling
from completions_lp.report import summarize
from completions_lp.report.best import pick_best
from completions_lp.score import parts
from completions_lp.stats import estimate_change_error, estimate_probability, estimate_share, estimate_survival

CELL = Condition("v", "target", 1, 2.0)
INFO = {
    "timings": {"vector": 5.0, "sample": 2.0, "score": 10.0, "choices": 1.0, "report": 0.5},
    "token_counts": {name: {"tokens": n} for name, n in (("vector", 900), ("sample", 200), ("score", 4000))},
    "memory": {"score": 1.5},
}


def make_pilot(*, between, within, prompts=12, samples=50, clusters=None, defined=None, level=0.95):
    n = defined or prompts
    estimate = Estimate(1.0, 0.5, 1.5, level, "nats", n, clusters or n, "t")
    return Pilot("increase_A", CELL, estimate, prompts, samples, between, within)


def make_report(n=14, *, target="A", per_cluster=1, seed=0, sampling=None):
    increases = drawn.draw_increases(n, seed=seed, per_cluster=per_cluster, sampling=sampling)
    measures, choices = drawn.draw_measures(increases, seed=seed), drawn.draw_choices(increases, seed=seed)
    before, after = 0.02 * measures.unsteered["p_A_se"], 0.02 * measures.steered["p_A_steered_se"]
    change = np.sqrt(before**2 + after**2 - before * after)  # they correlate by a half
    measures = drawn.change(measures, p_A_se=before, p_A_steered_se=after, p_A_change_se=change)
    return summarize(increases, choices, measures, target=target), measures


def test_variance_is_split_by_its_closed_form():
    values = np.array([1.0, 3.0, 5.0, 7.0, np.nan])
    errors = np.array([0.5, 0.5, 1.0, np.nan, 9.0])
    between, within = split_variance(values, errors, np.arange(5), samples=20)
    noise = (0.25 + 0.25 + 1.0) / 3
    assert within == pytest.approx(20 * noise)
    assert between == pytest.approx(np.var(values[:4], ddof=1) - noise)


def test_clusters_that_hold_alike_count_as_spread():
    """Six clusters of two equal prompts: the variance of the mean is that of six values, so twice per prompt."""
    values = np.repeat([1.0, 2.0, 4.0, 5.0, 7.0, 11.0], 2)
    between, _ = split_variance(values, np.zeros(12), np.repeat(np.arange(6), 2), samples=1)
    assert between / 12 == pytest.approx(np.var(values[::2], ddof=1) / 6)


def test_noise_beyond_the_spread_leaves_nothing_between_prompts():
    between, within = split_variance(np.array([1.0, 1.1, 0.9]), np.full(3, 0.5), np.arange(3), samples=4)
    assert between == 0
    assert within == pytest.approx(1.0)
    assert make_pilot(between=between, within=within).enough_samples == float("inf")


def test_no_known_noise_is_not_noise_of_zero():
    assert np.isnan(split_variance(np.arange(4.0), np.full(4, np.nan), np.arange(4), samples=1)[1])


def test_components_are_recovered_on_average():
    """Normal prompts and normal completions: the mean of both over many pilots is what they were drawn with."""
    rng, prompts, samples = np.random.default_rng(0), 30, 16
    found = []
    for _ in range(2000):
        truth = rng.normal(0, 0.5, prompts)
        said = truth[:, None] + rng.normal(0, 1.2, (prompts, samples))
        errors = said.std(1, ddof=1) / np.sqrt(samples)
        found.append(split_variance(said.mean(1), errors, np.arange(prompts), samples=samples))
    between, within = np.mean(found, axis=0)
    assert between == pytest.approx(0.25, rel=0.02)
    assert within == pytest.approx(1.44, rel=0.02)


@pytest.mark.parametrize(
    ("prompts", "n_A", "want"),
    [
        *((10, 5, 0.67), (10, 100, 0.51), (50, 5, 0.27), (50, 100, 0.21)),
        *((100, 5, 0.19), (100, 100, 0.14), (300, 5, 0.11), (300, 100, 0.083)),
    ],
)
def test_detectable_effects_are_those_of_the_specification(prompts, n_A, want):
    """numbers.md §4, planning: σ_b = .5, σ_w = 1; there to two digits."""
    got = make_pilot(between=0.25, within=1.0).predict_detectable(prompts, n_A)
    assert got == pytest.approx(want, abs=0.006 if want > 0.1 else 0.0006)


def test_enough_samples_are_those_where_both_parts_are_equal():
    pilot = make_pilot(between=0.25, within=1.0)
    assert pilot.enough_samples == 4
    assert pilot.predict_se(10, 4) == pytest.approx(np.sqrt(2 * 0.25 / 10))


@pytest.mark.parametrize("samples", [1, 25, 400])
@pytest.mark.parametrize(
    "changes", [{}, {"clusters": 4}, {"defined": 9}, {"defined": 10, "clusters": 5}, {"level": 0.9}]
)
def test_needed_prompts_are_the_fewest(samples, changes):
    """Against a search through all sizes with the formula written out."""
    pilot = make_pilot(between=0.3, within=4.0, **changes)
    e = pilot.estimate

    def half_width(n):
        clusters = n * e.n_clusters // 12
        if clusters < 6:
            return np.inf
        variance = (0.3 + 4.0 / samples) / (n * e.n / 12)
        return stats.t.ppf(0.5 + e.level / 2, clusters - 1) * np.sqrt(variance)

    for wanted in (5.0, 0.5, 0.2):
        want = next(n for n in itertools.count(1) if half_width(n) <= wanted)
        assert pilot.find_prompts(wanted, samples) == want
        assert pilot.predict_half_width(want, samples) == pytest.approx(half_width(want))


def test_runs_of_the_planned_size_have_the_wanted_interval():
    """A population is drawn from again and again at the size that the plan gives, with its clusters."""
    rng, per_cluster = np.random.default_rng(1), 3
    pilot = make_pilot(between=0.36 + 2 * 0.25, within=2.0, prompts=30, clusters=10)  # sd .5 of clusters, √.11 in them
    n = per_cluster * -(-pilot.find_prompts(0.3, 20) // per_cluster)
    got = []
    for _ in range(3000):
        shared = np.repeat(rng.normal(0, 0.5, n // per_cluster), per_cluster)
        values = shared + rng.normal(0, np.sqrt(0.11), n) + rng.normal(0, np.sqrt(2.0 / 20), n)
        g = n // per_cluster
        means = values.reshape(g, per_cluster).mean(1)
        got.append(stats.t.ppf(0.975, g - 1) * means.std(ddof=1) / np.sqrt(g))
    assert np.sqrt(np.mean(np.square(got))) == pytest.approx(pilot.predict_half_width(n, 20), rel=0.02)
    assert 0.95 * 0.3 < pilot.predict_half_width(n, 20) <= 0.3


def spread(said):
    return np.std(said, ddof=1) / np.sqrt(len(said))


@pytest.mark.parametrize("target", ["A", "matching"])
def test_errors_of_increases_are_those_of_the_draws_one_by_one(target):
    report, measures = make_report(target=target)
    increases = report.increases
    completions, place = increases.completions, increases.conditions.index(CELL)
    kinds = {"increase_A": ("increase", "A"), "increase_to_answer_not_A": ("increase_to_answer", "not A")}
    kinds |= {"increase_all": ("increase", "all"), "before_answer_A": ("before_answer", "A")}
    for quantity, (part, which) in kinds.items():
        values, errors = measure_noise(report, measures, quantity, CELL)
        for i, prompt in enumerate(completions.prompts):
            wanted = prompt.matching if target == "matching" else target
            said = [
                getattr(increases, part)[place, row]
                for row in completions.rows_of(i)
                for _ in range(completions.counts[row])
                if which == "all" or (completions.label[row] == wanted) == (which == "A")
            ]
            if said:
                assert values[i] == pytest.approx(np.mean(said))
                assert errors[i] == pytest.approx(spread(said))
            else:
                assert np.isnan([values[i], errors[i]]).all()
    both = [measure_noise(report, measures, f"increase_to_answer_{which}", CELL)[1] for which in ("A", "not_A")]
    np.testing.assert_allclose(measure_noise(report, measures, "difference_A_not_A", CELL)[1], np.hypot(*both))


def test_a_single_completion_has_the_pooled_spread():
    report, measures = make_report()
    completions = report.increases.completions
    counts, label = completions.counts.copy(), completions.label.copy()
    rows = completions.rows_of(3)
    label[rows], counts[rows] = ["A", "B", "B", "B", "B"], 1
    increases = replace(report.increases, completions=replace(completions, counts=counts, label=label))
    report = replace(report, increases=increases)
    errors = measure_noise(report, measures, "increase_A", CELL)[1]
    place, squares, freedom = increases.conditions.index(CELL), 0.0, 0
    for i in range(len(completions.prompts)):
        mine = [row for row in completions.rows_of(i) if label[row] == "A"]
        said = np.repeat(increases.increase[place, mine], counts[mine])
        if len(said) > 1:
            squares, freedom = squares + ((said - said.mean()) ** 2).sum(), freedom + len(said) - 1
    assert errors[3] == pytest.approx(np.sqrt(squares / freedom))


def test_errors_of_probabilities_are_on_their_scale():
    report, measures = make_report()
    place = measures.conditions.index(CELL)
    change = measures.steered["p_A_change_se"].copy()
    change[place, 5] = np.nan
    measures = drawn.change(measures, p_A_change_se=change)
    p, q = measures.unsteered["p_A"], measures.steered["p_A_steered"][place]
    before, after = measures.unsteered["p_A_se"], measures.steered["p_A_steered_se"][place]
    np.testing.assert_array_equal(measure_noise(report, measures, "p_A_steered", CELL)[1], after)
    got = measure_noise(report, measures, "delta_p_A", CELL)[1]
    want = np.where(np.isnan(change[place]), np.hypot(before, after), change[place])
    np.testing.assert_allclose(got, 100 * want)
    covariance = np.where(np.isnan(change[place]), 0, (before**2 + after**2 - change[place] ** 2) / 2)
    for quantity, slope in (("log_ratio_A", lambda x: 1 / x), ("delta_logit_A", lambda x: 1 / x + 1 / (1 - x))):
        got = measure_noise(report, measures, quantity, CELL)[1]
        for i in set(range(14)) - {1, 2}:  # where a probability is 0 or 1 the change is undefined
            slopes = np.array([-slope(p[i]), slope(q[i])])
            matrix = np.array([[before[i] ** 2, covariance[i]], [covariance[i], after[i] ** 2]])
            assert got[i] == pytest.approx(np.sqrt(max(slopes @ matrix @ slopes, 0)))
    assert not measure_noise(report, measures, "logit_diff_change", CELL)[1].any()


@pytest.mark.parametrize("estimate", ["survival", "share"])
def test_the_error_of_a_change_is_the_spread_of_its_derivatives(estimate):
    """Influence by brute force: a little more of one draw, a little less of all; the difference of both estimates."""
    p, laws = toys.random_law(3), [toys.random_law(3, multiplier=m) for m in (0.7, -1.0)]
    texts, counts = toys.sample_texts(p, 3, 40, 0)

    def look(counts):
        return toys.observe(p, laws, texts, counts, within=3)

    def both(seen):
        if estimate == "survival":
            return estimate_survival(seen.steps, seen.none, seen.lpA[None]), estimate_survival(
                seen.steps, seen.logw, seen.lqA
            )
        weight = seen.steps.sum_open(seen.delta)
        return estimate_share(seen.steps, 0 * weight[:1]), estimate_share(seen.steps, weight)

    seen = look(counts)
    got = estimate_change_error(seen.steps, *both(seen))
    slopes, step = [], 1e-6
    for row in range(len(texts)):
        moved = (1 - step) * np.array(counts, dtype=float)
        moved[row] += step * 40
        (before, after), (before_moved, after_moved) = both(seen), both(look(moved))
        change = (after_moved.probability - before_moved.probability) - (after.probability - before.probability)
        slopes.append(change / step)
    want = np.sqrt(np.array(counts) @ np.array(slopes) ** 2 / (40 * 39))
    np.testing.assert_allclose(got, want, rtol=1e-4)
    before, after = both(seen)
    assert (got < np.hypot(before.se, after.se)).all()
    assert np.isnan(estimate_change_error(seen.steps, before, replace(after, influence=None))).all()


def test_the_error_of_a_change_is_the_spread_over_repetitions():
    p, q = toys.random_law(5), toys.random_law(5, multiplier=0.5)
    changes, errors = [], []
    for seed in range(300):
        texts, counts = toys.sample_texts(p, 3, 60, seed)
        seen = toys.observe(p, [q], texts, counts, within=3)
        before = estimate_survival(seen.steps, seen.none, seen.lpA[None])
        after = estimate_survival(seen.steps, seen.logw, seen.lqA)
        changes.append(after.probability[0] - before.probability[0])
        errors.append(estimate_change_error(seen.steps, before, after)[0])
        assert after.probability == estimate_probability(seen.steps, seen.logw, seen.lqA)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(changes), rel=0.12)


def test_prefixes_are_counted_once_each():
    rows = [(0, [5, 6, 7]), (0, [5, 6]), (0, [5, 8, 7]), (1, [5, 6, 7]), (1, [9])]
    counts = [1, 2, 3, 4, 5]
    completions = make_completions(make_prompts((3, 3)), rows, counts=counts)
    want = {}
    for (prompt, ids), count in zip(rows, counts, strict=True):
        for end in range(len(ids)):
            want[prompt, tuple(ids[:end])] = want.get((prompt, tuple(ids[:end])), 0) + count
    assert sorted(count_prefixes(completions)) == sorted(want.values())


@pytest.mark.parametrize("wanted", [1, 2, 4, 6])
def test_fewer_draws_show_what_subsets_of_them_show(wanted):
    items = [0, 0, 0, 1, 1, 2]
    counts = np.array([3, 2, 1])
    subsets = [len({items[i] for i in some}) for some in itertools.combinations(range(6), wanted)]
    assert expect_distinct(counts, 6, wanted) == pytest.approx(np.mean(subsets))


@pytest.mark.parametrize(("power", "low", "high"), [(1.1, 0.85, 1.05), (1.5, 0.85, 1.1), (2.5, 0.85, 1.15)])
def test_what_more_draws_show_is_foreseen(power, low, high):
    """Long tails, heavy and light: four times the draws."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 3000) ** power
    shares /= shares.sum()
    for drawn_so_far in (25, 100, 400):
        seen = [rng.multinomial(drawn_so_far, shares) for _ in range(50)]
        foreseen = np.mean([expect_distinct(c[c > 0], drawn_so_far, 4 * drawn_so_far) for c in seen])
        truth = (1 - (1 - shares) ** (4 * drawn_so_far)).sum()
        assert low < foreseen / truth < high


def test_what_was_always_or_never_the_same_stays_so():
    assert expect_distinct(np.array([7, 7]), 7, 700) == 2
    every = expect_distinct(np.ones(2000, dtype=int), 20, 80)  # a hundred new ones a draw
    assert every == pytest.approx(8000, rel=0.01)
    assert expect_distinct(np.ones(1, dtype=int), 1, 1) == 1


def make_workload(*, positions="completion"):
    rows = [(0, [5, 6, 7]), (0, [5, 6]), (1, [5, 6, 7]), (1, [9])]
    completions = make_completions(make_prompts((3, 5)), rows, counts=[1, 2, 1, 2])
    completions = replace(completions, sampling=Sampling(n=3, max_new_tokens=3))
    return Workload.of(completions, [replace(CELL, positions=positions), replace(CELL, layer=0, positions=positions)])


@pytest.mark.parametrize("positions", ["completion", "all"])
def test_costs_grow_by_the_engines_law(positions):
    """Six prefixes of two prompts of four tokens on average, two conditions; new ones only as draws turn them up."""
    workload = make_workload(positions=positions)
    assert (workload.n_prompts, workload.prompt_tokens, len(workload.prefixes)) == (2, 4.0, 6)
    costs = {cost.stage: cost for cost in forecast_costs(INFO, workload, prompts=20, samples=3, conditions=8)}
    nodes, whole = 3.0, positions == "all"
    score = (9 * (4 + nodes)) / (3 * (4 + nodes)) if whole else (4 + 9 * nodes) / (4 + 3 * nodes)
    assert costs["vector"].tokens == 900
    assert costs["vector"].seconds == 5.0
    assert costs["sample"].tokens == pytest.approx(10 * 200)
    assert costs["sample"].seconds == pytest.approx(10 * 2.0)
    assert costs["score"].tokens == pytest.approx(10 * score * 4000)
    assert costs["score"].seconds == pytest.approx(10 * score * 10.0)
    assert costs["report"].seconds == pytest.approx(0.5 * 20 * 8 / (2 * 2))
    assert np.isnan(costs["report"].tokens)
    assert np.isnan(costs["choices"].memory)
    assert 1.5 <= costs["score"].memory < 1.51
    more = {cost.stage: cost for cost in forecast_costs(INFO, workload, prompts=2, samples=12)}
    grown = expect_distinct(workload.prefixes, 3, 12) / 2
    assert grown > nodes
    assert more["sample"].tokens == pytest.approx(200 * (4 + grown) / (4 + nodes))


def test_the_part_that_scoring_holds_is_that_of_evaluating():
    assert PART_BYTES == 4 * parts.PART


def test_a_plan_is_of_the_largest_cell_and_halves_its_interval():
    report, measures = make_report()
    plan = plan_run(report, measures, INFO)
    rows = [row for row in report.table("delta_p_A") if row.condition.multiplier != 0]
    best = max(rows, key=lambda row: row.estimate.value)
    assert plan.pilot.condition == best.condition
    assert plan.half_width == pytest.approx((best.estimate.high - best.estimate.low) / 4)
    assert [need.samples for need in plan.needs] == [25, 50, 100, 200, 400]
    assert all(plan.pilot.find_prompts(plan.half_width, need.samples) == need.prompts for need in plan.needs)
    assert all(need.prompts >= 20 for need in plan.needs)
    assert plan.limit == "half width"
    tokens = {need.samples: sum(c.tokens for c in need.costs if c.tokens == c.tokens) for need in plan.needs}
    assert plan.chosen.samples == min((100, 200, 400), key=tokens.get)
    assert plan.conditions == 10


def test_a_plan_can_be_asked_for_another_cell_quantity_and_size():
    report, measures = make_report()
    options = {"quantity": "increase_to_answer_A", "layers": [0], "multipliers": [-1.0, -2.0], "half_width": 0.01}
    plan = plan_run(report, measures, INFO, **options, samples=70, prompts=33, conditions=3)
    found = {m: report.estimate("increase_to_answer_A", Condition("v", "target", 0, m)).value for m in (-1.0, -2.0)}
    lowest = min(found, key=found.get)
    assert plan.pilot.condition == Condition("v", "target", 0, lowest)
    assert [need.samples for need in plan.needs] == [25, 50, 70, 100, 200, 400]
    assert (plan.chosen.samples, plan.chosen.prompts, plan.conditions) == (70, 33, 3)
    assert plan.limit == "asked"
    workload = Workload.of(report.increases.completions, report.increases.conditions)
    assert repr(plan.chosen.costs) == repr(forecast_costs(INFO, workload, prompts=33, samples=70, conditions=3))


@pytest.mark.parametrize(("n", "per_cluster", "least"), [(14, 1, 20), (28, 2, 40), (32, 4, 80)])
def test_a_plan_never_asks_for_fewer_prompts_than_the_report_calls_few(n, per_cluster, least):
    """A wide interval would take fewer prompts than make 20 clusters."""
    report, measures = make_report(n, per_cluster=per_cluster)
    plan = plan_run(report, measures, INFO, half_width=50.0)
    assert plan.pilot.find_prompts(50.0, plan.chosen.samples) < least
    assert {need.prompts for need in plan.needs} == {least}
    assert (plan.chosen.prompts, plan.chosen.samples, plan.limit) == (least, 100, "few prompts")
    assert plan.chosen.detectable == plan.pilot.predict_detectable(least, 100)
    asked = plan_run(report, measures, INFO, half_width=50.0, prompts=7, samples=400)
    assert (asked.chosen.prompts, asked.chosen.samples, asked.limit) == (7, 400, "asked")
    told = summarize(drawn.draw_increases(least, per_cluster=per_cluster)).warnings
    assert not [line for line in told if "few prompts" in line]


READ_OUT = ("logit_diff", "mass", "p_choice", "delta_p_choice", "pref_odds", "util_odds", "greedy")
"""Of what is read out and not drawn: no noise on a prompt."""


@pytest.mark.parametrize("quantity", KNOWN)
def test_every_known_quantity_can_be_planned_for(quantity):
    report, measures = make_report()
    if quantity.startswith("logit_diff_whole"):  # answers of one token have no whole
        with pytest.raises(InputError, match=f"this report has no '{quantity}'"):
            plan_run(report, measures, INFO, quantity=quantity)
        return
    if quantity == "util_odds_change":  # undefined where all of a prompt's mass is on its answers, as of most here
        with pytest.raises(InputError, match="a pilot of 5 clusters of prompts is too small"):
            plan_run(report, measures, INFO, quantity=quantity)
        return
    plan = plan_run(report, measures, INFO, quantity=quantity)
    assert plan.pilot.between > 0
    assert (plan.pilot.within == 0) == quantity.startswith(READ_OUT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantity": "kl"}, "the noise of 'kl' on a prompt is not known; it is known of delta_p_A, log_ratio_A"),
        ({"quantity": "joy"}, "no quantity 'joy'; the nearest is "),
        (
            {"layers": [7]},
            r"there is no such cell of the target vector; the cells \(layer:multiplier\) are 0:-2, 0:-1",
        ),
        ({"multipliers": [0.0]}, "there is no such cell"),
        ({"half_width": 0.0}, "the half width is 0 pp; it must be above 0"),
        ({"half_width": float("nan")}, "the half width is nan pp"),
        ({"samples": 0}, "samples is 0; at least 1 is needed"),
        ({"prompts": -3}, "prompts is -3; at least 1 is needed"),
        ({"conditions": 0}, "conditions is 0; at least 1 is needed"),
    ],
)
def test_what_cannot_be_planned_is_said(options, message):
    report, measures = make_report()
    with pytest.raises(InputError, match=message):
        plan_run(report, measures, INFO, **options)


def test_a_pilot_of_few_clusters_is_refused():
    for report, measures in (make_report(5), make_report(20, per_cluster=4)):
        with pytest.raises(InputError, match="a pilot of 5 clusters of prompts is too small to plan with: at least 6"):
            plan_run(report, measures, INFO)


def test_a_pilot_without_noise_or_without_spread_is_refused():
    report, measures = make_report()
    blank = drawn.change(measures, p_A_se=measures.unsteered["p_A_se"] * np.nan)
    with pytest.raises(InputError, match="does not tell the noise of 'delta_p_A' on a prompt"):
        plan_run(report, blank, INFO)
    best = pick_best(report, "logit_diff_change")
    (row,) = [row for row in report.table("logit_diff_change") if row.condition == best.condition]
    flat = replace(row, estimate=replace(row.estimate, value=1.0, low=None, high=None))
    rows = [flat if r is row else r for r in report.rows]
    rows = [
        replace(r, estimate=replace(r.estimate, value=0.0)) if r.quantity == row.quantity and r is not flat else r
        for r in rows
    ]
    with pytest.raises(InputError, match="logit_diff_change is the same on all prompts of the pilot"):
        plan_run(replace(report, rows=tuple(rows)), measures, INFO, quantity="logit_diff_change")
    with pytest.raises(InputError, match="no completions behind it"):
        measure_pilot(replace(report, increases=None), measures, row)


def test_a_run_that_was_not_timed_has_no_costs():
    with pytest.raises(InputError, match=r"run.json has no timing of the sample stage"):
        forecast_costs({"timings": {"report": 1.0}}, make_workload(), prompts=1, samples=1)


def test_a_pilot_knows_the_share_of_red_prompts_of_its_cell():
    report, measures = make_report()
    place = measures.conditions.index(CELL)
    trust = np.full(measures.trust.shape, "green", dtype="<U9")
    trust[place, :7] = "red"
    measures = drawn.change(measures, trust=trust)
    report = summarize(report.increases, report.choices, measures, target="A")
    wanted = {"layers": [CELL.layer], "multipliers": [CELL.multiplier]}
    assert plan_run(report, measures, INFO, **wanted).pilot.red == 0.5
    assert np.isnan(plan_run(report, measures, INFO, quantity="increase_to_answer_A", **wanted).pilot.red)
