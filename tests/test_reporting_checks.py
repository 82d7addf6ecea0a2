"""What failed is an error, what is doubtful a warning, and NaN never passes."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
from drawn import change, draw_choices, draw_increases, draw_measures, list_conditions

from completions_lp.records import Sampling
from completions_lp.report import summarize
from completions_lp.report.caveats import list_caveats
from completions_lp.report.prompts import collect_columns
from completions_lp.stats import average_excess_surprisal, estimate_excess_error


def make(n_prompts=24, conditions=None, **options):
    """A run in which nothing is wrong."""
    increases = draw_increases(n_prompts, conditions, **options)
    measures = draw_measures(increases)
    trust = np.full(measures.trust.shape, "green")
    share = np.asarray(summarize(increases).prompts["share_A"])[:n_prompts]
    p = np.clip(share + np.tile([0.03, -0.03], n_prompts)[:n_prompts], 0.01, 0.99)
    return increases, draw_choices(increases), change(measures, trust=trust, p_A=p)


@pytest.fixture(scope="module")
def healthy():
    return make()


def with_sums(increases, **parts):
    return dataclasses.replace(increases, **parts)


def shift(increases, by):
    """Every increase is larger; multiplier 0 stays."""
    on = np.array([[c.multiplier != 0] for c in increases.conditions])
    return with_sums(increases, increase=increases.increase + np.where(on, by, 0.0))


def with_completions(increases, **fields):
    return with_sums(increases, completions=dataclasses.replace(increases.completions, **fields))


def test_a_healthy_run_has_no_errors_and_one_caveat(healthy):
    got = summarize(*healthy)
    assert got.errors == ()
    (told,) = [w for w in got.warnings if "bootstrap-t" not in w]
    assert told == "1 of 24 prompts have no completion with the target answer; means over A leave them out"
    assert list(got.checks) == [
        *("noise_floor", "sampler_gap", "sampler_gap_rms", "sampler_z", "all_completions_z", "label_gap", "not_finite"),
        *("rounding_sd", "rounding_mean", "rounding_se", "share_red", "largest_kl", "p_rank_sweep"),
    ]


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_rule_by_which_most_completions_are_silent_is_told(healthy, share):
    increases, choices, measures = healthy
    completions = increases.completions
    order, draws = np.random.default_rng(0).permutation(len(completions.counts)), completions.counts.sum()
    silent = order[np.cumsum(completions.counts[order]) <= share * draws]
    label, at = completions.label.copy(), completions.answer_index.copy()
    label[:], label[silent], at[silent] = "A", "", -1
    n = completions.counts[silent].sum()
    told = summarize(with_completions(increases, label=label, answer_index=at), choices, measures).warnings
    lines = [line for line in told if "completions-lp labels" in line]
    want = f"{n} of {draws} completions ({n / draws:.0%}) give no answer by rule letter within the window"
    assert [line.partition(";")[0] for line in lines] == ([want] if share > 0.5 else [])


def test_the_numbers_of_the_checks_are_what_they_say(healthy):
    increases, choices, measures = healthy
    got = summarize(increases, choices, measures).checks
    mean, se = (measures.unsteered[name] for name in ("excess_surprisal", "excess_surprisal_se"))
    assert got["sampler_z"] == pytest.approx(mean.sum() / math.sqrt((se**2).sum()), rel=1e-6)
    means = np.asarray(summarize(increases).prompts["increase_all"]).reshape(10, 24)
    on = [i for i, c in enumerate(increases.conditions) if c.multiplier != 0]
    assert got["all_completions_z"] == pytest.approx(scipy.stats.ttest_1samp(means[on], 0, axis=1).statistic.max())
    assert (got["noise_floor"], got["sampler_gap"], got["not_finite"], got["share_red"]) == (0, 0, 0, 0)
    assert math.isnan(got["p_rank_sweep"])


@pytest.mark.parametrize(("gap", "noise", "told"), [
    (0.05, 0.05, "an answer that takes several tokens"),
    (-0.05, 0.05, "words that begin with the letter"),
    (0.05, 0.2, None),  # chance
    (0.01, 0.01, None),  # small
])  # fmt: skip
def test_labels_that_are_not_what_the_tokens_say(healthy, gap, noise, told):
    increases, choices, measures = healthy
    share = np.asarray(summarize(increases).prompts["share_A"])[:24]
    z = np.random.default_rng(0).normal(size=24)
    away = gap + noise * (z - z.mean()) / z.std(ddof=1)
    got = summarize(increases, choices, change(measures, p_A=share - away))
    assert got.checks["label_gap"] == pytest.approx(gap)
    lines = [line for line in got.warnings if line.startswith("labels against tokens")]
    assert len(lines) == bool(told)
    if told:
        assert lines[0].endswith(f"likely {told}")
        assert f"{100 * share.mean():.1f} % of the completions" in lines[0]
        assert f"is {100 * (share.mean() - gap):.1f} % (t = {gap / noise * math.sqrt(24):+.1f} over" in lines[0]


@pytest.mark.parametrize("n", [2, 24])
@pytest.mark.parametrize(
    ("z", "where"), [(-5.5, "errors"), (5.5, "errors"), (4.0, "warnings"), (-3.5, "warnings"), (2.5, None)]
)
def test_the_sampler_test_weighs_the_error_of_each_prompts_own_draws(healthy, n, z, where):
    """However the prompts happen to differ, and however few they are."""
    increases, choices, measures = healthy if n == 24 else make(n)
    rng = np.random.default_rng(0)
    error, spread = rng.uniform(0.5, 2.0, n), 1e-3 * rng.normal(size=n)
    mean = spread - spread.mean() + z * math.sqrt((error**2).sum()) / n
    found = change(measures, excess_surprisal=mean, excess_surprisal_se=error)
    got = summarize(increases, choices, found)
    assert got.checks["sampler_z"] == pytest.approx(z, rel=1e-6)
    found = {name: [x for x in getattr(got, name) if x.startswith("sampler test")] for name in ("errors", "warnings")}
    assert {name for name, lines in found.items() if lines} == ({where} if where else set())
    if where:
        assert (
            f"is {mean.mean():+.2g} nats a completion in place of 0 (z = {z:+.1f}; by chance, 0.27% of"
            in found[where][0]
        )
        assert "likely another temperature, top_p or top_k" in found[where][0]


def simulate(rng, n_prompts, n_draws, *, temperature=1.0, steps=8, vocab=12):
    """Means and errors by prompt of draws from laws that are nearly certain at some tokens and open at others."""
    scale = rng.choice([1.0, 4.0, 10.0], size=(n_prompts, steps, 1))
    logits = scale * rng.normal(size=(n_prompts, steps, vocab))
    logp = logits - scipy.special.logsumexp(logits, axis=-1, keepdims=True)
    entropy = -(np.exp(logp) * logp).sum(-1)
    drawn = rng.gumbel(size=(n_draws, *logp.shape)) + logp / temperature
    surprisal = -np.take_along_axis(logp[None], drawn.argmax(-1)[..., None], axis=-1)[..., 0]
    whole, counts = np.ones((n_draws, steps), dtype=bool), np.ones(n_draws, dtype=int)
    read = [(counts, whole, -surprisal[:, i], np.tile(entropy[i], (n_draws, 1))) for i in range(n_prompts)]
    return np.array([[f(*one) for f in (average_excess_surprisal, estimate_excess_error)] for one in read]).T


@pytest.mark.parametrize(("n_prompts", "n_draws", "most"), [(1, 30, 20), (4, 30, 12), (4, 100, 12)])
def test_sound_runs_are_warned_as_rarely_as_is_said(n_prompts, n_draws, most):
    """Of 2,000 sound runs 5 are expected beyond 3 and above 12 in one case in 300; twice as many with 30 draws in all.

    Student's t over 4 prompts is beyond 3 in a hundred of them.
    """
    rng, found = np.random.default_rng(n_prompts + n_draws), []
    for _ in range(2000):
        mean, se = simulate(rng, n_prompts, n_draws)
        found.append(abs(mean.sum()) / math.sqrt((se**2).sum()))
    found = np.array(found)
    assert (found > 3).sum() <= most
    assert (found > 2).mean() == pytest.approx(0.0455, abs=0.015)
    assert not (found > 5).any()


@pytest.mark.parametrize("temperature", [0.7, 1.4])
def test_another_temperature_is_found_on_few_prompts(temperature):
    rng = np.random.default_rng(0)
    found = [simulate(rng, 4, 60, temperature=temperature) for _ in range(100)]
    z = np.array([mean.sum() / math.sqrt((se**2).sum()) for mean, se in found])
    assert (np.sign(temperature - 1) * z > 3).mean() > 0.9


def test_draws_that_are_all_alike_are_no_proof_against_the_sampler():
    """None of 90 draws has the token of probability 0.02: that happens to one run in six, and is no z of −∞."""
    logp, n = math.log(0.98), 90
    entropy = -(0.98 * logp + 0.02 * math.log(0.02))
    read = np.array([n]), np.ones((1, 1), dtype=bool), np.array([[logp]]), np.array([[entropy]])
    error = estimate_excess_error(*read)
    assert error == pytest.approx(
        math.sqrt(0.98 * (-logp - entropy) ** 2 + 0.02 * (-math.log(0.02) - entropy) ** 2) / math.sqrt(n)
    )
    assert average_excess_surprisal(*read) / error == pytest.approx(-1.36, abs=0.01)
    certain = np.array([n]), np.ones((1, 1), dtype=bool), np.zeros((1, 1)), np.zeros((1, 1))
    assert estimate_excess_error(*certain) == 0


def test_rounding_where_nothing_is_drawn_is_no_finding(healthy):
    increases, choices, measures = healthy
    rounding = {"excess_surprisal": np.full(24, 1e-6), "excess_surprisal_se": np.zeros(24)}
    got = summarize(increases, choices, change(measures, **rounding))
    assert abs(got.checks["sampler_z"]) < 1


def test_the_sampler_test_is_for_plain_samples_that_were_read(healthy):
    increases, choices, measures = healthy
    not_read = change(measures, excess_surprisal=np.full(24, np.nan), kl=np.full((10, 24), np.nan))
    got = summarize(increases, choices, not_read)
    assert math.isnan(got.checks["sampler_z"])
    assert got.errors == ()
    bad = change(measures, excess_surprisal=measures.unsteered["excess_surprisal"] + 50)
    assert summarize(increases, choices, bad).errors
    warm = with_completions(increases, sampling=Sampling(temperature=0.7))
    got = summarize(warm, choices, bad)
    assert math.isnan(got.checks["sampler_z"])
    assert math.isnan(got.checks["all_completions_z"])
    assert got.errors == ()
    assert any("increase_all is not −KL" in w for w in got.warnings)
    assert math.isnan(summarize(increases, choices).checks["sampler_z"])


def test_a_mean_above_0_over_all_completions_is_an_error(healthy):
    increases, choices, measures = healthy
    got = summarize(shift(increases, 3.0), choices, measures)
    (error,) = got.errors
    assert error.startswith("all completions: their mean increase estimates −KL and cannot be above 0, but is +")
    assert "likely completions that were not drawn at temperature 1" in error
    assert got.checks["all_completions_z"] > 5
    assert f"(t = {got.checks['all_completions_z']:.1f})" in error
    rows = [r for r in got.table("increase_all") if r.condition.multiplier != 0]
    above = sum(r.estimate.value / r.estimate.se > 5 for r in rows)
    assert f"above 0 in {above} of 8 conditions" in error


def test_what_chance_or_rounding_puts_above_0_is_no_error(healthy):
    """A t above 5 of six prompts is nothing among many conditions; neither is a mean below the noise floor."""
    increases, choices, measures = make(6, list_conditions(layers=range(40), multipliers=(0.0, 1.0)))
    wanted = np.random.default_rng(0).normal(size=6)
    wanted = (wanted - wanted.mean()) / wanted.std(ddof=1) + 5.5 / math.sqrt(6)
    flat = np.where(
        [[c.multiplier != 0] for c in increases.conditions], wanted[increases.completions.prompt_index], 0.0
    )
    got = summarize(with_sums(increases, increase=flat), choices, measures)
    assert got.checks["all_completions_z"] == pytest.approx(5.5)
    assert got.errors == ()
    large = with_sums(increases, increase=flat + np.where(flat != 0, 4 * flat.mean(), 0.0))
    assert summarize(large, choices, measures).errors  # so large a t is something
    increases, choices, measures = healthy
    sign = np.where([[c.multiplier != 0] for c in increases.conditions], 1.0, 10.0)
    noise = sign * 1e-5 * np.random.default_rng(0).uniform(0.9, 1.1, size=increases.increase.shape)
    got = summarize(with_sums(increases, increase=noise), choices, measures)
    assert got.checks["all_completions_z"] > 5
    assert got.errors == ()


@pytest.mark.parametrize(("noise", "fails"), [(0.009, False), (0.011, True), (math.nan, True), (math.inf, True)])
def test_the_noise_floor(healthy, noise, fails):
    increases, choices, measures = healthy
    values = increases.increase.copy()
    values[2, 17] = -noise
    assert increases.conditions[2].multiplier == 0
    got = summarize(with_sums(increases, increase=values), choices, measures)
    lines = [e for e in got.errors if e.startswith("noise floor: multiplier 0 changes a completion by")]
    assert bool(lines) == fails
    if fails:
        assert "likely a model that treats the rows of a batch differently" in lines[0]
        assert "a low precision alone leaves it at 0" in lines[0]
        assert "completions-lp doctor" in lines[0]
    np.testing.assert_equal(got.checks["noise_floor"], noise)


def test_without_multiplier_0_there_is_no_noise_floor():
    got = summarize(*make(24, list_conditions(multipliers=(1.0,))))
    assert math.isnan(got.checks["noise_floor"])
    assert got.errors == ()


@pytest.mark.parametrize(
    ("gap", "where"),
    [(0.04, None), (0.06, "warnings"), (-0.4, "warnings"), (0.6, "errors"), (-0.6, "errors"), (math.nan, "errors")],
)
def test_the_gap_between_drawing_and_scoring(healthy, gap, where):
    increases, choices, measures = healthy
    logprob = increases.completions.logprob.copy()
    logprob[5, 1] += gap
    got = summarize(with_completions(increases, logprob=logprob), choices, measures)
    np.testing.assert_allclose(got.checks["sampler_gap"], abs(gap), rtol=1e-9)
    for name in ("errors", "warnings"):
        lines = [x for x in getattr(got, name) if x.startswith("sampled against scored log probs: they differ by")]
        assert bool(lines) == (name == where)


@pytest.mark.parametrize("part", ["baseline", "increase", "increase_to_answer"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_an_error(healthy, part, value):
    increases, choices, measures = healthy
    values = getattr(increases, part).copy()
    values[..., 8] = value
    got = summarize(with_sums(increases, **{part: values}), choices, measures)
    n = 1 if part == "baseline" else 10
    assert got.checks["not_finite"] == n
    (error,) = [e for e in got.errors if "have log probs that are not finite" in e]
    assert error.startswith("layer 0, multiplier -2: 1 of 24 prompts; ")
    assert 'dtype = "float32"' in error


@pytest.mark.parametrize(
    ("name", "at", "words"),
    [
        ("p_A_steered", (3, 7), "steered P(A) is not a finite number for 1 prompt x condition pairs"),
        ("p_A_steered", slice(None), "steered P(A) is not a finite number for 240 prompt x condition pairs"),
        ("kl", (3, 7), "KL is not a finite number for 1 prompt x condition pairs"),
        ("excess_surprisal", 4, "surprisal minus entropy is not a finite number for 1 prompt x condition pairs"),
    ],
)
def test_a_measure_that_is_no_number_is_an_error(healthy, name, at, words):
    increases, choices, measures = healthy
    values = {**measures.unsteered, **measures.steered}[name].copy()
    values[at] = np.nan
    got = summarize(increases, choices, change(measures, **{name: values}))
    assert [e for e in got.errors if e.startswith(words)]


@pytest.mark.parametrize("missing", ["kl", "p"])
def test_what_was_not_read_is_no_error(healthy, missing):
    increases, choices, measures = healthy
    names = {"kl": ("kl", "kl_reverse", "excess_surprisal"), "p": ("p_A", "p_A_steered", "first_A", "first_A_steered")}
    columns = {name: np.full_like({**measures.unsteered, **measures.steered}[name], np.nan) for name in names[missing]}
    got = summarize(increases, choices, change(measures, **columns))
    assert got.errors == ()


def test_red_cells_are_told_with_what_to_do(healthy):
    increases, choices, measures = healthy
    trust = measures.trust.copy()
    trust[0, :6], trust[1, 0], trust[2, 0] = "red", "red", "red"  # the last under multiplier 0
    got = summarize(increases, choices, change(measures, trust=trust))
    (told,) = [w for w in got.warnings if "(red)" in w]
    assert "(red) for 7 of 192 prompt x condition pairs of the target vector (4%)" in told
    assert "set [sampling] top_up = 100" in told
    assert got.checks["share_red"] == pytest.approx(7 / 192)
    topped = with_completions(increases, sampling=Sampling(top_up=10))
    (told,) = [w for w in summarize(topped, choices, change(measures, trust=trust)).warnings if "(red)" in w]
    assert "raise [sampling] top_up above 10" in told
    warm = with_completions(increases, sampling=Sampling(temperature=0.7))
    assert not [w for w in summarize(warm, choices, change(measures, trust=trust)).warnings if "(red)" in w]


@pytest.mark.parametrize(
    ("draws", "idle", "advice"),
    [
        (
            20,
            24,
            "20 draws a prompt are too few to tell (red without any steering, at multiplier 0: 50%); set [sampling] n "
            "= 100",
        ),
        (99, 0, "99 draws a prompt are too few to tell; set [sampling] n = 100"),
        (
            100,
            24,
            "100 draws a prompt are too few to tell (red without any steering, at multiplier 0: 50%); set [sampling] n "
            "above 100",
        ),
        (100, 1, "too few of the unsteered completions look like steered ones; set [sampling] top_up = 100"),
    ],
)
def test_where_the_number_of_draws_is_the_cause_of_red_it_is_named(healthy, draws, idle, advice):
    increases, choices, measures = healthy
    trust = measures.trust.copy()
    trust[0], trust[1] = "red", "red"
    trust[2, :idle] = "red"  # one of the two conditions of multiplier 0
    few = with_completions(increases, sampling=Sampling(n=draws))
    (told,) = [w for w in summarize(few, choices, change(measures, trust=trust)).warnings if "(red)" in w]
    assert advice in told
    assert ("look like steered ones" in told) == (advice.startswith("too few of"))


def test_red_controls_are_not_told():
    increases, choices, measures = make(24, list_conditions(layers=(0,), n_random=1))
    trust = np.where([[c.kind == "random"] for c in increases.conditions], "red", measures.trust)
    got = summarize(increases, choices, change(measures, trust=trust))
    assert not [w for w in got.warnings if "(red)" in w]
    assert got.checks["share_red"] == 0


@pytest.mark.parametrize(
    ("n", "per_cluster", "words"),
    [
        (19, 1, "few prompts: 19 independent units; intervals are wide"),
        (38, 2, "few prompts: 19 independent units; intervals are wide"),
        (6, 1, "few prompts: 6 independent units"),
        (5, 1, "too few prompts: 5 independent units; points only, no interval and no p-value below 6"),
        (10, 2, "too few prompts: 5 independent units; points only"),
        (20, 1, None),
    ],
)
def test_few_prompts_are_told(n, per_cluster, words):
    got = summarize(draw_increases(n, per_cluster=per_cluster))
    told = [w for w in got.warnings if "few prompts" in w]
    assert bool(told) == bool(words)
    if words:
        assert told[0].startswith(words)
    if n / per_cluster < 6:
        assert all(row.estimate.low is None for row in got.rows)
        assert math.isnan(got.checks["all_completions_z"])


@pytest.mark.parametrize(("n", "told"), [(0, False), (1, True), (18, True), (19, False)])
@pytest.mark.parametrize("kind", ["random", "shuffled"])
def test_too_few_directions_are_told(kind, n, told):
    conditions = list_conditions(layers=(0,), multipliers=(1.0,), **{f"n_{kind}": n})
    lines = [w for w in summarize(draw_increases(8, conditions)).warnings if "a p-value against them needs" in w]
    assert bool(lines) == told
    if told:
        key = {"random": "random_directions", "shuffled": "shuffled_labels"}[kind]
        assert lines[0].startswith(f"{n} {kind} vectors")
        assert f"set [controls] {key} = 19, better 39 or 99" in lines[0]


def test_skewed_cells_are_told():
    increases = draw_increases(24, list_conditions(layers=(0, 1), multipliers=(1.0,)))
    measures = draw_measures(increases)
    q = measures.steered["p_A_steered"].copy()
    q[0] = np.append(np.full(23, 0.3), 0.9) + 1e-3 * np.arange(24)  # one prompt says everything
    p = np.full(24, 0.3)
    got = summarize(increases, None, change(measures, p_A=p, p_A_steered=q))
    (told,) = [w for w in got.warnings if "bootstrap-t limits differ" in w]
    apart = []
    for row in got.table("delta_p_A"):
        e, i = row.estimate, row.inference
        apart.append(max(abs(i.boot_low - e.low), abs(i.boot_high - e.high)) > 0.25 * (e.high - e.low))
    assert apart == [True, False]
    assert "(change of P(A) in 1 of 2 cells; " in told
    assert "log ratio of P(A) in 1 of 2 cells" in told
    assert "to the answer" not in told
    assert "_" not in told, "in words, without names of columns"


@pytest.mark.parametrize(("by", "told"), [(0.24, False), (0.26, True), (-0.26, True)])
@pytest.mark.parametrize("end", ["low", "high"])
def test_skew_is_told_from_a_quarter_of_the_width_on(end, by, told):
    increases = draw_increases(30)
    columns = collect_columns(increases, None, None, target="A")
    rows = summarize(increases).rows
    first = next(row for row in rows if np.isfinite(row.inference.boot_low))
    e = first.estimate
    limits = {"low": e.low, "high": e.high}
    limits[end] += by * (e.high - e.low)
    inference = dataclasses.replace(first.inference, boot_low=limits["low"], boot_high=limits["high"])
    lines = list_caveats(increases, columns, [dataclasses.replace(first, inference=inference)])
    assert any("bootstrap-t limits differ" in line for line in lines) == told
    held = dataclasses.replace(first, inference=inference, split="report")
    assert not any("bootstrap-t" in line for line in list_caveats(increases, columns, [held]))


def test_normal_cells_are_not_told():
    increases = draw_increases(60, list_conditions(layers=(0,), multipliers=(1.0, 2.0)))
    assert not [w for w in summarize(increases).warnings if "bootstrap-t" in w]


def test_several_things_are_told_at_once(healthy):
    increases, choices, measures = healthy
    values = increases.increase.copy()
    values[2, 3] = 1.0
    bad = change(measures, excess_surprisal=measures.unsteered["excess_surprisal"] + 50)
    got = summarize(shift(with_sums(increases, increase=values), 4.0), choices, bad)
    assert [e.split(":")[0] for e in got.errors] == ["noise floor", "all completions", "sampler test"]
