"""A run as a whole: its door, its stages from record to record, and what each of them remembers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import completions_lp as clp
from completions_lp import cli, store
from completions_lp.job.config import load_config
from completions_lp.job.provenance import FOLLOWED, NEEDS, check_earlier, describe_stage, list_outdated, list_stale

SMALL = {
    "prompts": {"limit": 8},
    "sampling": {"n": 8, "max_new_tokens": 8, "top_up": 0},
    "label": {"within": 10},
    "scoring": {"layers": [1, 2], "multipliers": [-1, 1]},
    "vector": {"layers": [1, 2]},
}
OPTIONS = [
    option
    for section, keys in SMALL.items()
    for key, value in keys.items()
    for option in ("--set", f"{section}.{key}={json.dumps(value)}")
]


def list_rows(report):
    return [repr(row) for row in report.rows]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small run, its report and its folder."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    return clp.run(out=folder, progress=False, **SMALL), folder


@pytest.fixture
def folder(made, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(made[1], copy)
    return copy


def test_a_run_gives_both_numbers_and_loads_as_it_was_made(made):
    report, folder = made
    for quantity in ("delta_p_A", "increase_to_answer_A"):
        estimate = report.estimate(quantity, report.best.condition)
        assert estimate.low < estimate.value < estimate.high
    again = clp.load(folder)
    assert list_rows(again) == list_rows(report)
    assert repr(again.checks) == repr(report.checks)
    assert again.best == report.best
    assert again.quality == report.quality
    assert again.profile == report.profile or repr(again.profile) == repr(report.profile)
    assert store.read_info(folder)["best"]["quantity"] == report.best.quantity


def test_without_a_folder_nothing_is_written_and_the_numbers_are_the_same(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = clp.run(progress=False, **SMALL)
    assert list(tmp_path.iterdir()) == []
    assert list_rows(report) == list_rows(made[0])
    assert report.save(tmp_path / "saved") == tmp_path / "saved"
    assert list_rows(clp.load(tmp_path / "saved")) == list_rows(report)
    with pytest.raises(clp.InputError, match="saved is not empty; a report is saved in a folder of its own"):
        report.save(tmp_path / "saved")


def test_stage_by_stage_gives_what_the_whole_gives(made, tmp_path):
    model = clp.load_model(load_config().model.name)
    config = load_config()
    prompts = clp.load_prompts(config.prompts.path, model.tokenizer, limit=8)
    pairs = clp.load_pairs(config.vector.pairs, model.tokenizer)
    vector = clp.extract_vector(model, pairs, layers=[1, 2], progress=False)
    sampling = clp.Sampling(n=8, max_new_tokens=8)
    completions = clp.sample_completions(model, prompts, sampling=sampling, progress=False)
    conditions = clp.make_conditions([vector], layers=[1, 2], multipliers=[-1, 1])
    scores = clp.score_completions(model, completions, [vector], conditions, target="matching", progress=False)
    choices = clp.read_choices(model, prompts, [vector], conditions, target="matching", progress=False)
    report = clp.summarize(scores, choices, target="matching")
    for quantity in ("delta_p_A", "increase_to_answer_A"):
        got = report.estimate(quantity, report.best.condition)
        (want,) = [
            row.estimate
            for row in made[0].table(quantity)
            if row.condition.layer == report.best.condition.layer
            and row.condition.multiplier == report.best.condition.multiplier
        ]
        assert (got.value, got.low, got.high) == pytest.approx((want.value, want.low, want.high), abs=1e-3)
    report.save(tmp_path / "mine")
    assert list_rows(clp.load(tmp_path / "mine")) == list_rows(report)


def test_records_show_themselves_in_a_line(made):
    report = made[0]
    shown = [report, report.increases, report.increases.completions, report.measures, report.choices]
    shown.append(clp.SteeringVector("v", "target", {1: np.ones(3)}))
    for record in shown:
        assert len(repr(record)) < 200
        assert "\n" not in repr(record)
    assert "delta_p_A" in repr(report)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": {"m": 3}}, "unknown key of .sampling.: 'm'"),
        ({"smapling": {"n": 3}}, "unknown section: 'smapling'; the nearest is 'sampling'"),
    ],
)
def test_wrong_keywords_are_told(changes, message):
    with pytest.raises(clp.InputError, match=message):
        clp.run(progress=False, **changes)


def test_a_run_that_is_there_is_not_done_again(folder, monkeypatch):
    """The same command finds all of it: no weights are loaded, and the report is the stored one."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr("completions_lp.job.network.load_model", lambda *_, **__: pytest.fail("loads the weights"))
    again = clp.run(out=folder, progress=False, **SMALL)
    assert list_rows(again) == list_rows(clp.load(folder))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_overwriting_with_other_settings_runs_to_its_end(folder):
    """Every stage follows the new settings; nothing of the old run stands in the way."""
    assert cli.main(["run", "--quiet", "--out", str(folder), "--overwrite", *OPTIONS, "--set", "sampling.n=6"]) == 0
    assert clp.load(folder).increases.completions.sampling.n == 6


def test_a_stage_does_not_rewrite_what_an_earlier_one_followed(folder, capsys):
    before = (folder / "run.json").read_bytes()
    assert cli.main(["sample", str(folder), "--quiet", "--set", "vector.read_token=last"]) == 2
    error = capsys.readouterr().err
    assert "[vector] read_token is 'last', but the vector stage of" in error
    assert "followed 'letter'" in error
    assert f"completions-lp vector {folder} --set 'vector.read_token=\"last\"'" in error
    assert (folder / "run.json").read_bytes() == before


def test_tables_that_a_stage_makes_stale_are_named(folder, capsys):
    assert cli.main(["sample", str(folder), "--quiet", "--set", "sampling.seed=0"]) == 0
    assert capsys.readouterr().err == ""  # as it was: nothing is done
    assert cli.main(["sample", str(folder), "--quiet", "--set", "sampling.n=5"]) == 0
    error = capsys.readouterr().err
    assert "sample: choices.parquet, doses.csv, doses.parquet, measures.parquet" in error
    assert "of an earlier sample stage no longer hold; removed" in error
    assert not (folder / "scores.parquet").exists()
    assert cli.main(["report", str(folder)]) == 2
    assert "the score stage is not finished" in capsys.readouterr().err


def test_other_weights_of_the_same_shape_are_refused(folder, capsys):
    info = json.loads((folder / "run.json").read_text())
    info["stages"]["sample"]["consumed"]["weights"] = "0" * 64
    (folder / "run.json").write_text(json.dumps(info))
    assert cli.main(["score", str(folder), "--quiet"]) == 2
    assert "are not those that the sample stage of" in capsys.readouterr().err
    assert (folder / "scores.parquet").exists()


def test_what_is_stale_is_what_reads_the_tables_or_followed_other_settings():
    config = load_config().model_dump()
    made = {stage: describe_stage(stage, {"config": config}, Path("here"), consumed={}) for stage in FOLLOWED}
    assert list_stale("vector", config, made) == ["score", "report"]
    assert list_stale("sample", config, made) == ["score", "report"]
    assert list_stale("report", config, made) == []
    other = {**config, "prompts": {**config["prompts"], "template": "{question}"}}
    assert list_stale("vector", other, made) == ["sample", "score", "report"]
    assert list_outdated("sample", other, made) == {"vector": f"[prompts] template {config['prompts']['template']!r}"}
    check_earlier("sample", other, made, Path("here"))  # its own template, whatever the vectors are of
    for later in ("score", "report"):
        with pytest.raises(clp.InputError, match="the vector stage of here followed"):
            check_earlier(later, other, made, Path("here"))
    with pytest.raises(clp.InputError, match="the vector stage of here followed"):
        check_earlier("sample", {**config, "controls": {}}, made, Path("here"))  # which it has no part in
    check_earlier("vector", other, made, Path("here"))
    assert set(NEEDS) == set(FOLLOWED)
