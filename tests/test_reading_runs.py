"""Runs that read answers at the end of reasonings: stored, found again, made anew only where they must be."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from runs import change, do_stages, list_keys, make_place, read_info

import completions_lp as clp
from completions_lp import cli
from completions_lp.job.config import make_config
from completions_lp.job.results import load, make_report, save
from completions_lp.records import BASELINE, InputError
from completions_lp.show.text.headline import format_overview
from completions_lp.show.text.numbers import format_estimate
from completions_lp.store import read_completions

FINAL = {"label.rule": "final_answer", "label.within": "all", "label.phrases": ["e", "t", "."], "sampling.top_up": 0}
CUE = {**FINAL, "scoring.cue": "Answer: ("}
TABLE = "readings.parquet"


@pytest.fixture(scope="module")
def asked(tmp_path_factory, tokenizer):
    return change(make_place(tmp_path_factory.mktemp("place"), tokenizer), {**CUE, "sampling.n": 20})


@pytest.fixture(scope="module")
def done(asked, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "done"
    return folder, clp.run(make_config(asked), out=folder, progress=False)


def read_rows(folder):
    return pd.read_parquet(folder / TABLE)


def test_a_run_has_a_reading_of_every_completion_under_every_condition(done):
    folder, report = done
    rows, config = read_rows(folder), make_config(read_info(folder)["config"])
    completions = read_completions(folder, sampling=config.sampling, labelling=config.labelling)
    kinds = rows.groupby(["vector", "layer", "multiplier"]).size()
    assert set(kinds) == {len(completions)}
    assert len(kinds) == 1 + len(report.readings.conditions)
    assert (rows.logprobs.map(len) == rows.letters.map(len)).all()
    np.testing.assert_allclose(rows.mass, rows.logprobs.map(lambda x: np.exp(x).sum()))
    assert (
        rows[rows.kind == "baseline"].tenths.isna().all() or (rows[rows.kind == "baseline"].tenths.map(len) == 0).all()
    )
    assert completions.reasoning is not None
    assert (completions.reasoning <= completions.lengths).all()


def test_what_is_stored_is_what_was_made(done, tmp_path):
    folder, report = done
    again = load(folder)
    for name in report.readings.ARRAYS:
        np.testing.assert_array_equal(getattr(again.readings, name), getattr(report.readings, name))
    best = report.best.condition
    for name in ("read_A_answer_only", "read_A_steered", "read_A_change", "read_red", "in_reasoning_A"):
        one, other = (dataclasses.asdict(r.estimate(name, best)) for r in (again, report))
        np.testing.assert_equal(one, other)
    assert np.isfinite(report.estimate("read_A", BASELINE).value)
    saved = load(save(again, tmp_path / "saved"))
    np.testing.assert_equal(saved.estimate("read_A_change", best), report.estimate("read_A_change", best))


def test_multiplier_0_moves_no_reading(done):
    _, report = done
    idle = [i for i, c in enumerate(report.readings.conditions) if c.multiplier == 0 and c.kind == "target"]
    assert idle
    for i in idle:
        np.testing.assert_allclose(report.readings.logprob[i], report.readings.baseline, atol=1e-5)


def test_a_run_that_goes_on_is_the_same_to_the_last_bit_and_makes_nothing_twice(asked, done, tmp_path):
    few = change(asked, {"scoring.multipliers": [1.0]})
    do_stages(few, tmp_path / "run")
    grown = do_stages(asked, tmp_path / "run")
    assert grown.units.made
    do_stages(asked, tmp_path / "run")
    fresh = do_stages(asked, tmp_path / "fresh")
    assert fresh.units.made
    for table in (TABLE, "completions.parquet"):
        assert (tmp_path / "fresh" / table).read_bytes() == (done[0] / table).read_bytes()
    one, other = (read_rows(folder) for folder in (tmp_path / "run", tmp_path / "fresh"))
    np.testing.assert_allclose(np.stack(one.logprobs), np.stack(other.logprobs), atol=1e-5)


def test_another_cue_reads_anew_and_scores_nothing_again(asked, tmp_path):
    do_stages(asked, tmp_path / "run")
    before, first = list_keys(tmp_path / "run")["scores"], read_rows(tmp_path / "run")
    do_stages(change(asked, {"scoring.cue": "("}), tmp_path / "run")
    after, second = list_keys(tmp_path / "run")["scores"], read_rows(tmp_path / "run")
    assert before < after
    places = len(after - before)
    said = len(pd.read_parquet(tmp_path / "run" / "scores.parquet"))
    assert places < said + len(first)
    np.testing.assert_array_equal(first.n_read, second.n_read)
    assert not np.allclose(np.stack(first.logprobs), np.stack(second.logprobs))


def test_without_readings_there_is_no_table_and_no_number(asked, tmp_path):
    config = change(asked, {"scoring.cue": "", "scoring.readings": False})
    report = clp.run(make_config(config), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / TABLE).exists()
    assert report.readings is None
    assert not [row for row in report.rows if row.quantity.startswith("read_")]
    assert load(tmp_path / "run").readings is None


def test_other_rules_read_where_they_are_told_to(asked):
    config = {**asked, "label": {"rule": "letter"}}
    assert not make_config(change(config, {"scoring.cue": ""})).reads_endings
    assert make_config(config).reads_endings
    assert make_config(change(config, {"scoring.cue": "", "scoring.readings": True})).reads_endings
    assert make_config(change(asked, {"scoring.cue": ""})).reads_endings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scoring.readings": False}, "cue is put before answers that are read, and readings is false"),
        (
            {"label.rule": "regex", "label.patterns": {"yes": "y", "no": "n"}, "label.phrases": None},
            "no answers that a",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(asked, changes, message):
    label = {"rule": "letter"} if "label.rule" not in changes else {}
    config = change({**asked, "label": label}, {k: v for k, v in changes.items() if v is not None})
    with pytest.raises(InputError, match=message):
        make_config(config)


def test_the_report_tells_of_it(done, capsys):
    folder, report = done
    text = (folder / "report.md").read_text()
    assert "## At the end of the reasoning" in text
    assert "Unsteered: P(A) " in text
    assert "give no answer by this rule" in text
    told = format_overview(report, title="it", width=10_000)
    best = report.best.condition
    line = next(line for line in told.splitlines() if line.startswith("Behind the reasoning, P("))
    for name in ("read_A_answer_only", "read_A_change", "read_A_by_answer", "read_A_by_reasoning"):
        assert format_estimate(report.estimate(name, best)) in line
    assert cli.main(["figures", str(folder), "--only", "reasoning"]) == 0
    assert (folder / "figures/reasoning.png").is_file()
    view = clp.Reasoning.of(report)
    names = [row["quantity"] for row in view.rows]
    assert names == [*(f"reasoning_{k}" for k in range(1, 11)), *("read_A", "read_A_answer_only"),
                     *("read_A_reasoning_only", "read_A_steered")]  # fmt: skip


def test_a_table_that_was_changed_is_refused(done, tmp_path):
    folder, _ = done
    copy = save(load(folder), tmp_path / "copy")
    rows = read_rows(copy)
    for name, value in (("n_read", 99), ("n_settled", -1)):
        rows.assign(**{name: value}).to_parquet(copy / TABLE)
        with pytest.raises(InputError, match="reads behind more tokens than a completion has"):
            load(copy)
    rows[rows.kind != "baseline"].to_parquet(copy / TABLE)
    with pytest.raises(InputError, match="has no rows of the unsteered model"):
        load(copy)
    rows.assign(logprobs=[x[:1] for x in rows.logprobs]).to_parquet(copy / TABLE)
    with pytest.raises(InputError, match="do not have a number for each"):
        load(copy)


def test_a_run_of_an_earlier_version_is_read_without_what_it_has_not(done, tmp_path):
    folder, _ = done
    copy = save(load(folder), tmp_path / "copy")
    pd.read_parquet(copy / "scores.parquet").drop(columns="in_reasoning").to_parquet(copy / "scores.parquet")
    pd.read_parquet(copy / "completions.parquet").drop(columns="n_reasoning").to_parquet(copy / "completions.parquet")
    report = load(copy)
    assert report.increases.completions.reasoning is None
    assert np.isnan(report.increases.in_reasoning).all()
    assert "in_reasoning_A" not in report.prompts
    assert make_report(copy).rows
    assert dataclasses.is_dataclass(report)
