"""``completions-lp plan``: on a pilot of the embedded model, against a larger run and against draws made anew."""

import shutil
import subprocess
import sys
from dataclasses import replace

import drawn
import numpy as np
import pyarrow.parquet
import pytest
from scipy import stats

from completions_lp import cli, store
from completions_lp.job.config import EMBEDDED, make_config
from completions_lp.job.results import load
from completions_lp.job.stages import Options, Run
from completions_lp.job.validation import SEED_OFFSET, validate_cells
from completions_lp.model import load_model
from completions_lp.plan.costs import Workload, forecast_costs
from completions_lp.plan.validation import Validation, choose_cells, pick_cells
from completions_lp.records import BASELINE, Condition, InputError
from completions_lp.report import count_answers
from completions_lp.sample.draws import draw_steered, draw_uniforms
from completions_lp.show.text import format_plan
from completions_lp.work.machine import describe_machine, read_peak, reset_peak

PLAIN = ("sampling.top_up=0", "label.within=10")
SMALL = ("prompts.limit=12", "sampling.n=24", "sampling.max_new_tokens=12", "scoring.layers=[2, 3]")
GRID = ("scoring.multipliers=[-1, 1, 2]", "vector.layers=[2, 3]")


def run(folder, *changes):
    options = [part for change in (*PLAIN, *changes) for part in ("--set", change)]
    assert cli.main(["run", str(EMBEDDED), "--out", str(folder), "--quiet", *options]) == 0


@pytest.fixture(scope="module")
def pilot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan") / "pilot"
    run(folder, *SMALL, *GRID)
    return folder


def read_workload(folder):
    increases = load(folder).increases
    return Workload.of(increases.completions, increases.conditions)


def test_a_plan_is_printed_from_the_stored_tables_without_torch(pilot, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(pilot, moved)
    before = {path.name: path.read_bytes() for path in moved.iterdir() if path.is_file()}
    code = f"""
import sys
from completions_lp import cli
assert cli.main(["plan", {str(moved)!r}, "--half-width", "2.5"]) == 0
print([name for name in ("torch", "transformers", "nnsight") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Pilot: 12 prompts in 9 clusters x 24 samples. delta_p_A at layer 2, multiplier +2: +")
    assert lines[1].startswith("Prompts differ by ")
    assert "For an interval of ± 2.5 pp it takes" in lines
    sizes = [line.split()[0] for line in lines if line.split() and line.split()[0].isdigit()]
    assert sizes[:5] == ["25", "50", "100", "200", "400"]
    assert any("samples, 7 conditions, would give ± 2." in line for line in lines)
    (told,) = [i for i, line in enumerate(lines) if line.startswith("Estimated from the pilot on ")]
    stages = [line.split()[0] for line in lines[told - 6 : told]]
    assert stages == ["vector", "sample", "score", "choices", "report", "all"]
    assert lines[told].endswith(f"{describe_machine()['cores']} cores, device cpu, float32.")
    assert " ".join(lines[told + 1 : -1]).startswith(
        "Scoring takes, of the tokens that whole completions take, through "
    )
    assert lines[-1] == "[]"
    assert {path.name: path.read_bytes() for path in moved.iterdir() if path.is_file()} == before


def test_costs_of_a_larger_run_are_those_foreseen(pilot, tmp_path):
    """Twice the prompts, four times the samples, half the conditions: tokens by stage within a factor of 1.5."""
    folder = tmp_path / "larger"
    vector = f"vector.path={pilot / 'vectors' / 'cautious.safetensors'}"
    run(folder, *SMALL[2:], *GRID, vector, "prompts.limit=24", "sampling.n=96", "scoring.multipliers=[2]")
    info = store.read_info(folder)
    workload = read_workload(folder)
    assert (workload.n_prompts, workload.samples, workload.conditions) == (24, 96, 3)
    size = {"prompts": 24, "samples": 96, "conditions": 3}
    foreseen = {cost.stage: cost for cost in forecast_costs(store.read_info(pilot), read_workload(pilot), **size)}
    for stage in ("sample", "score", "choices"):
        assert 2 / 3 < foreseen[stage].tokens / info["token_counts"][stage]["tokens"] < 1.5, stage
    for stage in ("sample", "score"):
        assert 0.7 < foreseen[stage].memory / info["memory"][stage] < 1.4, stage
    for stage, cost in foreseen.items():
        assert cost.seconds > 0, stage


def test_what_a_shorter_scoring_saves_is_foreseen_on_the_completions_of_the_pilot(pilot, tmp_path, capsys):
    """Tokens of the same run that scores through the answer, and of a plan made from it, by counting."""
    folder = tmp_path / "answer"
    shutil.copytree(pilot, folder)
    run(folder, *SMALL, *GRID, "scoring.through='answer'")
    before, after = (store.read_info(place)["token_counts"]["score"]["tokens"] for place in (pilot, folder))
    report = load(folder)
    workload = Workload.of(report.increases.completions, report.increases.conditions, report.through)
    shares = workload.share_scored()
    assert shares == read_workload(pilot).share_scored()
    assert shares["answer"] < shares["window"] <= shares["end"] == 1
    assert shares["answer"] == pytest.approx(after / before, rel=0.1)
    size = {"prompts": 12, "samples": 24}
    (cost,) = [c for c in forecast_costs(store.read_info(folder), workload, **size) if c.stage == "score"]
    assert cost.tokens == pytest.approx(after)
    assert cli.main(["plan", str(folder)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    share = f"through the window {shares['window']:.0%}, through the answer {shares['answer']:.0%}"
    assert f"Scoring takes, of the tokens that whole completions take, {share} ([scoring] through)." in told
    assert told.endswith("This plan is for the answer.")
    assert cli.main(["plan", str(folder), "--quantity", "increase_A"]) == 2
    assert (
        "increase_A is over whole completions, and here they are scored through the answer only"
        in capsys.readouterr().err
    )


def test_prefixes_at_a_quarter_of_the_samples_are_foreseen_by_counting(pilot):
    """Fewer samples of the same run are the first ones of each prompt; on average they show what the formula says."""
    completions = load(pilot).increases.completions
    model = load_model(make_config(store.read_info(pilot)["config"]).model.name)
    condition, vectors = BASELINE, ()
    found = [
        Workload.of(draw_steered(model, completions, vectors, condition, 6, seed=seed, progress=False), [])
        for seed in range(5)
    ]
    got = np.mean([len(workload.prefixes) / workload.n_prompts for workload in found])
    whole = Workload.of(completions, [])
    window = completions.labelling.within
    cut = replace(
        completions,
        token_ids=completions.token_ids[:, :window],
        logprob=completions.logprob[:, :window],
        lengths=np.minimum(completions.lengths, window),
    )
    assert Workload.of(cut, []).count_distinct(Workload.of(cut, []).prefixes, 6) == pytest.approx(got, rel=0.1)
    assert whole.count_distinct(whole.prefixes, 24) == len(whole.prefixes) / 12


@pytest.fixture
def checked(pilot, tmp_path):
    folder = tmp_path / "checked"
    shutil.copytree(pilot, folder)
    return folder


def test_validation_counts_draws_of_the_steered_model(checked, capfd):
    arguments = ["--validate", "--quiet", "--layer", "2", "--multiplier", "2", "--multiplier", "-1", "--draws", "12"]
    assert cli.main(["plan", str(checked), *arguments]) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert "layer 2, multiplier -1" in printed.out
    assert "layer 2, multiplier +2" in printed.out
    assert printed.out.endswith(f"validation.parquet: written to {checked}\n")
    table = pyarrow.parquet.read_table(checked / "validation.parquet").to_pandas()
    assert list(table.columns) == [
        *("prompt_id", "cluster", "vector", "kind", "layer", "multiplier", "positions", "operation"),
        *("layers", "dose", "n", "n_A", "share"),
        *("low", "high", "p_A_steered", "p_A_steered_se", "p_A_steered_low", "p_A_steered_high", "trust"),
    ]
    assert (len(table), set(table["n"]), sorted(set(table["multiplier"]))) == (24, {12}, [-1.0, 2.0])
    config = make_config(store.read_info(checked)["config"])
    completions = store.read_completions(checked, sampling=config.sampling, labelling=config.labelling)
    model, vectors = load_model(config.model.name), store.read_vectors(checked)
    measures = load(checked).measures
    for condition in pick_cells(measures, layers=[2], multipliers=[2.0, -1.0]):
        again = draw_steered(model, completions, vectors, condition, 12, seed=SEED_OFFSET, progress=False)
        rows = table[table["multiplier"] == condition.multiplier]
        assert list(rows["prompt_id"]) == [prompt.id for prompt in completions.prompts]
        np.testing.assert_array_equal(rows["n_A"], count_answers(again, target="matching")["n_A"])
        place = measures.conditions.index(condition)
        np.testing.assert_array_equal(rows["p_A_steered"], measures.steered["p_A_steered"][place])
        assert list(rows["trust"]) == measures.trust[place].tolist()
    for row in store.read_validation(checked):
        interval = stats.binomtest(row["n_A"], row["n"]).proportion_ci(method="exact")
        assert (row["low"], row["high"]) == pytest.approx(tuple(interval))
        assert row["share"] == row["n_A"] / row["n"]


def test_a_check_shares_no_random_number_with_the_run_or_a_top_up(pilot):
    sampling = make_config(store.read_info(pilot)["config"]).sampling
    condition = Condition("cautious", "target", 2, 2.0)
    check = draw_uniforms("p", replace(sampling, seed=sampling.seed + SEED_OFFSET), condition)
    for other in (draw_uniforms("p", sampling, condition), draw_uniforms("p", sampling)):
        assert not set(check.ravel()) & set(other.ravel())


def test_without_cells_the_best_and_two_others_are_checked(checked, capsys):
    assert cli.main(["plan", str(checked), "--validate", "--quiet", "--draws", "2"]) == 0
    assert capsys.readouterr().out.count("layer ") == 3
    rows = store.read_validation(checked)
    cells = list(dict.fromkeys((row["layer"], row["multiplier"]) for row in rows))
    report = load(checked)
    swept = [row for row in report.table("delta_p_A") if row.condition.multiplier != 0]
    best = max(swept, key=lambda row: row.estimate.value).condition
    assert len(cells) == 3
    assert cells[0] == (best.layer, best.multiplier)
    assert "validate" in store.read_info(checked)["timings"]


def test_scoring_anew_drops_what_was_checked_before(checked):
    settings = Options(progress=False)
    Run.open(checked, options=settings).validate(layers=[3], multipliers=[1.0], draws=2)
    assert len(store.read_validation(checked)) == 12
    assert cli.main(["report", str(checked), "--quiet"]) == 0
    assert len(store.read_validation(checked)) == 12  # a report leaves it
    store.drop_stages(checked, store.read_info(checked), ["score", "report"])
    assert store.read_validation(checked) == []


def make_validation(shares, estimates, *, draws=100, clusters=None):
    """One condition; shares of direct draws and estimates by prompt."""
    n = len(shares)
    increases = drawn.draw_increases(n, (Condition("v", "target", 0, 1.0),))
    measures = drawn.draw_measures(increases)
    prompts = [replace(p, cluster=c) for p, c in zip(measures.prompts, clusters or "abcdefghijkl"[:n], strict=True)]
    measures = drawn.change(measures, p_A_steered=np.array([estimates]))
    measures = replace(measures, prompts=tuple(prompts))
    hits = np.round(draws * np.array([shares])).astype(int)
    return Validation(measures, np.full_like(hits, draws), hits)


def test_a_difference_is_the_mean_over_prompts_with_its_t_interval():
    shares, estimates = np.array([0.1, 0.5, 0.3, 0.9, 0.6, 0.2, 0.4]), np.array([0.2, 0.4, 0.3, 0.8, 0.5, 0.1, 0.4])
    (got,) = make_validation(shares, estimates).differences
    want = stats.ttest_1samp(shares - estimates, 0)
    assert got.value == pytest.approx(np.mean(shares - estimates))
    assert (got.low, got.high) == pytest.approx(tuple(want.confidence_interval()))
    assert got.n == 7


@pytest.mark.parametrize(
    ("offsets", "want"),
    [
        ([0.05, 0.06, 0.04, 0.05, 0.06, 0.04, 0.05], "biased"),
        ([-0.05, -0.06, -0.04, -0.05, -0.06, -0.04, -0.05], "biased"),
        ([0.02, 0.03, 0.01, 0.02, 0.03, 0.01, 0.02], "agrees"),  # significant, but small
        ([0.01, -0.02, 0.01, 0.0, -0.01, 0.02, 0.0], "agrees"),
        ([0.3, -0.2, 0.2, -0.1, 0.3, -0.2, 0.1], "cannot tell"),  # large, but not significant
        ([0.02, 0.08, 0.01, 0.03, 0.02, 0.01, 0.02], "cannot tell"),  # significant, and .03 is in the interval
        ([0.05, -0.07, 0.06, -0.04, 0.05, -0.06, 0.0], "cannot tell"),  # 0 is in it, and so is .03
        ([0.05, 0.06, 0.04, 0.05, 0.06], "too few prompts"),
        ([0.05] * 7, "cannot tell"),  # no spread is known
    ],
)
def test_an_estimate_agrees_only_where_the_whole_interval_is_small(offsets, want):
    shares = np.full(len(offsets), 0.5)
    assert make_validation(shares, shares - np.array(offsets)).verdicts == (want,)


def test_clusters_are_the_units_of_the_rule():
    shares = np.full(10, 0.5)
    assert make_validation(shares, shares - 0.04 * np.linspace(0.9, 1.1, 10), clusters="aabbccddee").verdicts == (
        "too few prompts",
    )


def test_shares_at_the_ends_have_one_sided_limits():
    low, high = make_validation([0.0, 1.0], [0.1, 0.9], draws=20).limits
    assert (low[0, 0], high[0, 1]) == (0.0, 1.0)
    assert high[0, 0] == pytest.approx(1 - 0.025 ** (1 / 20))
    assert low[0, 1] == pytest.approx(0.025 ** (1 / 20))


def test_a_prompt_without_the_target_has_no_share():
    validation = make_validation([0.1, 0.2], [0.1, 0.2])
    measures = drawn.change(validation.measures, trust=np.array([["", "red"]]))
    validation = replace(validation, measures=measures)
    assert np.isnan([validation.share[0, 0], *(end[0, 0] for end in validation.limits)]).all()
    assert np.isfinite(validation.share[0, 1])


def test_the_cells_worth_a_check():
    conditions = drawn.list_conditions(layers=(0, 1), multipliers=(-1.0, 0.0, 1.0, 2.0), n_random=1)
    measures = drawn.draw_measures(drawn.draw_increases(4, conditions))
    trust = np.full(measures.trust.shape, "green", dtype="<U9")
    red, opposite = Condition("v", "target", 1, -1.0), Condition("v", "target", 0, -1.0)
    trust[conditions.index(red), 2] = "red"
    trust[[c.kind == "random" for c in conditions]] = "red"
    ess = np.full(trust.shape, 50.0)
    ess[conditions.index(Condition("v", "target", 1, 2.0))] = 20.0
    measures = drawn.change(measures, trust=trust, ess=ess)
    assert choose_cells(measures, best=Condition("v", "target", 0, 1.0)) == (
        Condition("v", "target", 0, 1.0),
        red,
        opposite,
    )
    assert choose_cells(measures, best=Condition("v", "target", 0, 2.0)) == (
        Condition("v", "target", 0, 2.0),
        red,
        Condition("v", "target", 1, 2.0),
    )


def test_what_cannot_be_checked_is_said(pilot):
    config = make_config(store.read_info(pilot)["config"])
    completions = store.read_completions(pilot, sampling=config.sampling, labelling=config.labelling)
    measures, vectors = load(pilot).measures, store.read_vectors(pilot)
    cells, model = pick_cells(measures, layers=[2]), load_model(config.model.name)

    def check(completions=completions, cells=cells, **options):
        validate_cells(model, completions, vectors, measures, cells, target="matching", **options)

    with pytest.raises(InputError, match="draws is 0; at least 1 is needed"):
        check(draws=0)
    with pytest.raises(InputError, match="no estimate to check for no condition"):
        check(cells=())
    with pytest.raises(InputError, match="no estimate to check for Condition"):
        check(cells=[replace(cells[0], multiplier=9.0)])
    with pytest.raises(InputError, match="estimated from plain samples only"):
        check(completions=replace(completions, sampling=replace(completions.sampling, temperature=0.7)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{pilot}", "--quantity", "kl"], "the noise of 'kl' on a prompt is not known"),
        (
            ["{pilot}", "--layer", "4"],
            "there is no such cell of the target vector; the cells (layer:multiplier) are ",
        ),
        (["{pilot}", "--half-width", "-1"], "the half width is -1 pp; it must be above 0"),
        (["{pilot}", "--prompts", "0"], "prompts is 0; at least 1 is needed"),
        (["{pilot}", "--validate", "--layer", "4"], "the run has no such cell of the target vector; its cells"),
        (["{pilot}", "--validate", "--layer", "2", "--draws", "0"], "draws is 0; at least 1 is needed"),
        (["{tmp}"], "{tmp}: not a run directory (no run.json)"),
        (["{tmp}", "--validate"], "{tmp}: not a run directory (no run.json)"),
    ],
)
def test_wrong_input_gets_one_line(pilot, tmp_path, capfd, arguments, message):
    places = {"{pilot}": str(pilot), "{tmp}": str(tmp_path)}
    for place, path in places.items():
        arguments = [part.replace(place, path) for part in arguments]
        message = message.replace(place, path)
    assert cli.main(["plan", *arguments]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"completions-lp: {message}")
    assert printed.err.count("\n") == 1
    assert not (pilot / "validation.parquet").exists()


def test_a_pilot_that_is_too_small_is_refused(checked, capsys):
    """As if all prompts had been of five topics."""
    path = checked / "questions.parquet"
    table = pyarrow.parquet.read_table(path)
    few = [f"topic {i % 5}" for i in range(table.num_rows)]
    place = table.column_names.index("cluster")
    pyarrow.parquet.write_table(table.set_column(place, "cluster", [few]), path)
    assert cli.main(["plan", str(checked)]) == 2
    assert capsys.readouterr().err == (
        "completions-lp: a pilot of 5 clusters of prompts is too small to plan with: at least 6 are needed to tell how "
        "much prompts differ; run it with more\n"
    )


def test_a_plan_names_what_it_does_not_know(pilot):
    """A run directory of an earlier version: no machine, no memory, no error of the change."""
    from completions_lp.plan.forecast import plan_run

    report, info = load(pilot), store.read_info(pilot)
    measures = report.measures
    blank = {name: value for name, value in info.items() if name not in ("machine", "memory", "model")}
    old = drawn.change(measures, p_A_change_se=np.full(measures.trust.shape, np.nan))
    text = format_plan(plan_run(report, old, blank, quantity="p_A_steered"), blank)
    assert "Estimated from the pilot on a machine that its run.json does not name." in text
    assert "probability" in text.splitlines()[0]


def test_the_peak_of_memory_is_measured_anew_for_each_stage():
    reset_peak()
    before = read_peak()
    held = np.ones(2**25)  # 256 MiB
    assert read_peak() > before + 0.2
    del held
    reset_peak()
    if sys.platform == "linux":
        assert read_peak() < before + 0.1
