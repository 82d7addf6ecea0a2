"""The arithmetic of the pages on papers that use the studies' runs, on numbers made up here and on a small run."""

import csv
import importlib
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats as scipy_stats

import completions_lp as clp
from completions_lp import cli

PAGES = Path(__file__).resolve().parents[1] / "analysis" / "pages"
if not PAGES.is_dir():
    pytest.skip("not a checkout", allow_module_level=True)
sys.path.append(str(PAGES))
axbench, blocks, braun, persona, pres, studies = map(
    importlib.import_module, ("axbench", "blocks", "braun", "persona", "pres", "studies")
)


def test_quartiles_are_those_of_the_draws_one_by_one():
    rng = np.random.default_rng(1)
    baseline, counts = rng.normal(size=30), rng.integers(1, 5, 30)
    found = pres.cut_quartiles(baseline, counts)
    draws = np.repeat(baseline, counts)
    for value, n, quartile in zip(baseline, counts, found, strict=True):
        below = (draws < value).sum()
        assert quartile == int(4 * (below + n / 2) / len(draws))
    assert pres.cut_quartiles(np.array([3.0, 1.0, 2.0, 0.0]), np.ones(4, dtype=int)).tolist() == [3, 1, 2, 0]


def test_a_prompts_mean_is_over_its_draws_and_undefined_without_any():
    values, counts, prompts = np.array([1.0, 4.0, 7.0]), np.array([3, 1, 2]), np.array([0, 0, 2])
    found = pres.average_prompts(values, counts, prompts, 3)
    assert found[[0, 2]].tolist() == [np.mean([1, 1, 1, 4]), 7.0]
    assert np.isnan(found[1])


def test_wins_count_ties_as_halves_and_leave_out_what_is_undefined():
    found = axbench.share_wins(np.array([2.0, 1.0, 1.0, np.nan]), np.array([1.0, 1.0, 3.0, 0.0]))
    assert found[:3].tolist() == [1.0, 0.5, 0.0]
    assert np.isnan(found[3])


def test_slopes_are_those_of_least_squares():
    rng = np.random.default_rng(2)
    doses, odds = np.array([-1.0, 0.0, 1.0]), rng.normal(size=(3, 5))
    want = [scipy_stats.linregress(doses, odds[:, i]).slope for i in range(5)]
    np.testing.assert_allclose(braun.find_slopes(odds, doses), want)


def test_cosines_of_pairs_are_undefined_without_a_difference():
    found = braun.compare_pairs(np.array([[3.0, 4.0], [0.0, -2.0], [0.0, 0.0]]), np.array([0.0, 5.0]))
    assert found[:2].tolist() == [0.8, -1.0]
    assert np.isnan(found[2])


def test_points_are_means_of_slopes_by_reading_behaviour_and_layer():
    places = list(itertools.product(("answer", "letter"), ("x", "y"), (1, 2), range(3)))
    reading, behaviour, layer, _ = (np.array(column) for column in zip(*places, strict=True))
    slope = np.arange(len(places)) - 4.0
    columns = {"reading": reading, "behaviour": behaviour, "layer": layer, "slope": slope}
    columns |= {"pair_cosine": layer / 10, "d_prime": layer / 2}
    points = braun.summarize(columns)
    assert len(points) == 8
    first = next(p for p in points if (p["reading"], p["behaviour"], p["layer"]) == ("answer", "x", 2))
    assert (first["slope"], first["backwards"], first["pair_cosine"]) == (0.0, pytest.approx(1 / 3), 0.2)
    assert first["reliability"] == 0.0
    some = [p for p in points if p["reading"] == "answer" and p["behaviour"] == "y"]
    assert np.isnan(braun.predict(some, "d_prime", "slope"))  # of two points there is no correlation


def test_projections_are_centred_within_groups():
    values, groups = np.array([1.0, 3.0, 10.0, 20.0]), np.array(["a", "a", "b", "b"])
    assert persona.centre(values, groups).tolist() == [-1.0, 1.0, -5.0, 5.0]


def test_matching_completions_are_set_against_the_others_of_their_question():
    along = np.array([1.0, 3.0, 0.0, 5.0, 5.0, 9.0])
    matching, questions = np.array([0, 0, 1, 1, 1, 0]), np.array([7, 7, 7, 8, 8, 8])
    spread = np.concatenate([along[:3] - along[:3].mean(), along[3:] - along[3:].mean()]).std()
    np.testing.assert_allclose(persona.separate(along, matching, questions), [-2 / spread, -4 / spread])


def test_correlations_between_and_within_system_prompts_are_told_apart():
    """Means that rise together over system prompts, and questions that go apart within each of them."""
    ways, questions = np.meshgrid(np.arange(5), np.arange(6), indexing="ij")
    table = {
        "system": ways.ravel(),
        "letter": np.where(questions.ravel() % 2, "A", "B"),
        "along": (10.0 * ways + questions).ravel(),
        "odds": (10.0 * ways - questions).ravel(),
    }
    found = {name: one(np.arange(30)) for name, one in persona.list_correlations(table).items()}
    assert found["r between system prompts"] == pytest.approx(1)
    assert found["r within"] == pytest.approx(-1)
    assert found["r, all"] == pytest.approx(np.corrcoef(table["along"], table["odds"])[0, 1])


def test_what_system_prompts_move_is_told_question_by_question():
    table = {
        "system": np.repeat(np.arange(5), 3),
        "cluster": np.array([*"abc"] * 5),
        "odds": np.array([1.0, 2.0, 3.0, *range(9), 2.0, 4.0, 9.0]),
    }
    assert persona.span_systems(table, "odds")[0] == np.mean([1.0, 2.0, 6.0])
    table["along"] = 7 * table["odds"]
    within = np.concatenate([x - x.mean() for x in table["odds"].reshape(5, 3)]).std()
    assert persona.span_systems(table, "along")[0] == pytest.approx(3 / within)


def test_system_prompts_go_from_one_end_to_the_other_for_every_behaviour():
    for name in studies.BEHAVIOURS:
        systems = persona.write_systems(name)
        towards, against = persona.TRAITS[name]
        assert len(set(systems)) == 5
        assert [towards in system for system in systems] == [False, False, False, True, True]
        assert [against in system for system in systems] == [True, True, False, False, False]


def test_correlations_are_those_of_scipy_and_undefined_where_they_must_be():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=20), rng.normal(size=20)
    assert studies.correlate(x, y) == pytest.approx(scipy_stats.pearsonr(x, y)[0])
    assert studies.correlate(x, y, ranks=True) == pytest.approx(scipy_stats.spearmanr(x, y)[0])
    x[4] = np.nan
    assert studies.correlate(x, y) == pytest.approx(scipy_stats.pearsonr(np.delete(x, 4), np.delete(y, 4))[0])
    assert np.isnan(studies.correlate(np.ones(5), np.arange(5.0)))
    assert np.isnan(studies.correlate(np.arange(2.0), np.arange(2.0)))


def test_resampling_draws_whole_clusters_and_no_interval_of_few():
    clusters = np.repeat(np.arange(8), 4)
    values = clusters + 0.0  # within a cluster all are alike: only clusters differ

    def mean(rows):
        assert len(rows) == 32
        assert all((values[rows] == c).sum() % 4 == 0 for c in range(8))
        return float(values[rows].mean())

    value, low, high = studies.resample(mean, clusters, rng=np.random.default_rng(4))
    se = np.arange(8).std() / np.sqrt(8)
    assert value == 3.5
    assert low == pytest.approx(3.5 - 1.96 * se, abs=0.25)
    assert high == pytest.approx(3.5 + 1.96 * se, abs=0.25)
    few = studies.resample(lambda rows: 1.0, np.arange(5), rng=np.random.default_rng(4))
    assert few[0] == 1.0
    assert np.isnan(few[1:]).all()


def test_questions_are_picked_of_each_cluster_and_letter():
    prompts = [SimpleNamespace(cluster=c, matching=m) for c, m in ("xA", "xA", "xB", "yB", "yB", "yA", "zA")]
    assert studies.pick_questions(prompts) == [0, 2, 3, 5, 6]


def test_what_the_model_gave_is_asked_for_once_for_each_setting(tmp_path):
    asked = []

    def make(n):
        asked.append(n)
        return {"x": np.arange(n), "name": np.array(["a"] * n)}

    for n in (2, 2, 3):
        found = studies.keep(tmp_path, "thing", {"n": n}, lambda n=n: make(n))
        assert found["x"].tolist() == list(range(n))
        assert found["name"].tolist() == ["a"] * n
    assert asked == [2, 3]


def test_a_folder_without_studies_is_said(tmp_path):
    with pytest.raises(SystemExit, match="has no runs named sycophancy"):
        studies.find_studies(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of studies with one of them: a small run of the embedded model, with a rival and controls."""
    folder = tmp_path_factory.mktemp("studies")
    rival = 'rival=[{name="told", prepend="Be careful. "}]'
    changes = ("prompts.limit=24", "sampling.n=12", "scoring.layers=[1,2]", "scoring.multipliers=[1]", rival)
    changes += ("controls.random_directions=1", "controls.negated=true")
    options = [option for change in changes for option in ("--set", change)]
    assert cli.main(["run", "--quiet", "--out", str(folder / "sycophancy"), *options]) == 0
    return folder


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Where blocks and figures go in place of the repository."""
    monkeypatch.setattr(blocks, "RESULTS", tmp_path)
    monkeypatch.setattr(studies, "FIGURES", tmp_path)
    return tmp_path


def test_promotion_is_the_mean_over_draws_and_questions(folder, written):
    pres.main(folder)
    report = clp.load(folder / "sycophancy")
    increases, cell = report.increases, report.best.condition
    completions, by_prompt = increases.completions, {}
    change = increases.increase[increases.conditions.index(cell)]
    for i, prompt in enumerate(completions.prompt_index):
        if completions.label[i] == completions.prompts[prompt].matching:
            draws = [change[i] / completions.lengths[i]] * completions.counts[i]
            by_prompt.setdefault(prompt, []).extend(draws)
    want = 1000 * np.mean([np.mean(draws) for draws in by_prompt.values()])
    found = pres.measure(report, cell)
    assert found["matching", "all"][0] == pytest.approx(want)
    with (written / "papers_pres.csv").open(encoding="utf-8") as file:
        wanted = {"who": "vector", "side": "matching", "part": "all"}
        rows = [row for row in csv.DictReader(file) if wanted.items() <= row.items()]
    assert [float(row["value"]) for row in rows] == pytest.approx([want])
    table = (written / "pres" / "table.md").read_text(encoding="utf-8")
    assert [line.split(" | ")[1] for line in table.splitlines()[2:]] == [*pres.list_conditions(report)]
    assert len(pres.list_conditions(report)) == 4


def test_the_vector_and_the_prompt_are_compared_on_the_half_that_chose_nothing(folder, written):
    axbench.main(folder)
    report = clp.load(folder / "sycophancy")
    told = [row for row in report.rivals if (row.quantity, row.split) == ("delta_p_A", "report")]
    with (written / "papers_axbench.csv").open(encoding="utf-8") as file:
        values = {row["who"]: float(row["value"]) for row in csv.DictReader(file)}
    assert values == {"vector": told[0].steered.value, "system prompt": told[0].rivalled.value}
    assert (written / "papers_axbench.png").stat().st_size > 0
    own, other = (axbench.pick_column(report, "delta_p_A", c) for c in (told[0].condition, told[0].rival))
    assert len(own) == len(other) == 24
    assert np.nanmean(own - other) != 0
