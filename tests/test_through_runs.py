"""Runs that score their completions through the window or the answer: what is done, stored, told and found again."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import reference
from runs import begin, change, read_info

from completions_lp import cli, load
from completions_lp.job.config import EMBEDDED, load_config
from completions_lp.job.results import draw_figures
from completions_lp.job.status import find_status
from completions_lp.quantities import WHOLE, find_quantity
from completions_lp.records import InputError
from completions_lp.report.comparison import compare_reports
from completions_lp.show.notebook import show_report, show_tokens
from completions_lp.show.text import format_comparison
from completions_lp.store import read_token_increases

CUT = ("window", "answer")
WITHIN = 8
SMALL = {
    "prompts": {"limit": 8},
    "vector": {"layers": [2]},
    "sampling": {"n": 10, "max_new_tokens": 20, "top_up": 6},
    "label": {"within": WITHIN},
    "scoring": {"layers": [2], "multipliers": [-1.0, 1.0]},
    "controls": {"random_directions": 1},
}
SAID = re.compile(
    r"Completions are scored through the (window|answer).*: ([\d,]+) of the ([\d,]+) tokens of the distinct"
)


def do_all(config, folder, *, model=None, **options):
    run = begin(config, folder, model=model, **options)
    run.all()
    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The configuration of a small run of the embedded model, its runs by what they score, and the model."""
    folder = tmp_path_factory.mktemp("through")
    values = load_config(EMBEDDED).model_dump()
    config = {name: {**values[name], **SMALL.get(name, {})} for name in values if isinstance(values[name], dict)}
    model = do_all(config, folder / "end", tokens=True).model
    for through in CUT:
        do_all(change(config, {"scoring.through": through}), folder / through, model=model, tokens=True)
    return config, folder, model


def read(folder, name):
    return pd.read_parquet(folder / f"{name}.parquet")


def read_scored(folder, through):
    """How many tokens of each completion are scored, by the slow twin."""
    completions = read(folder, "completions")
    rows = zip(completions.token_ids, completions.answer_index, strict=True)
    return completions, np.array([len(reference.cut(list(ids), answer, WITHIN, through)) for ids, answer in rows])


@pytest.mark.parametrize("through", ["end", *CUT])
def test_tables_have_what_is_scored_and_say_how_much(place, through):
    _, folder, _ = place
    completions, scored = read_scored(folder / through, through)
    scores, whole = read(folder / through, "scores"), read(folder / "end", "scores")
    repeat = len(scores) // len(completions)
    assert scores.n_scored.tolist() == scored.tolist() * repeat
    cut = scored < completions.token_ids.map(len)
    assert cut.any() == (through != "end")
    for name in ("increase", "after_answer", "logprob"):
        kept = np.tile(~cut.to_numpy(), repeat)
        assert scores[name][~kept].isna().all()
        np.testing.assert_allclose(scores[name][kept], whole[name][kept], atol=1e-4)
    for name in ("increase_to_answer", "before_answer", "at_answer"):
        np.testing.assert_allclose(scores[name], whole[name], atol=1e-4)
    drawn = [sum(logprob[:n]) for logprob, n in zip(completions.token_logprob, scored, strict=True)]
    np.testing.assert_allclose(scores.baseline, drawn * repeat, atol=1e-4)
    tokens = read(folder / through, "tokens")
    assert len(tokens) == scored.sum() * repeat
    assert tokens.increase.notna().all()
    assert ("kl" in tokens) == (through == "end")
    assert (read(folder / through, "profile").offset.max() > 0) == (through == "end")


@pytest.mark.parametrize("through", CUT)
def test_less_goes_through_the_network_for_the_same_numbers(place, through):
    _, folder, _ = place
    tokens = [read_info(folder / name)["token_counts"]["score"]["tokens"] for name in ("end", through)]
    assert tokens[1] < 0.9 * tokens[0]  # draws of the steered model among them
    keys = ["vector", "kind", "layer", "multiplier", "quantity", "weighting", "split"]
    whole, summary = (read(folder / name, "summary").set_index(keys) for name in ("end", through))
    gone = {key[4] for key in whole.index.difference(summary.index)}
    assert gone == {name for name in WHOLE if find_quantity(name).summarized}
    assert summary.index.difference(whole.index).empty
    np.testing.assert_allclose(summary.value, whole.value.loc[summary.index], rtol=1e-3, atol=1e-3)
    prompts = read(folder / through, "prompts")
    assert prompts[list(WHOLE)].isna().all(axis=None)
    assert list(prompts) == list(read(folder / "end", "prompts"))


@pytest.mark.parametrize("through", CUT)
def test_a_stored_run_knows_how_far_it_has_scored(place, through, tmp_path):
    _, folder, _ = place
    report = load(folder / through)
    assert report.through == report.increases.through == through
    assert read_info(folder / through)["config"]["scoring"]["through"] == through
    assert not [error for error in report.errors if "finite" in error]
    for name in ("rounding_sd", "rounding_mean"):  # of all completions, through what is scored of each
        assert 0 < abs(report.checks[name]) < 1e-3, name
    told = read(folder / through, "scores").query("kind == 'rounding'")
    signs = [told[told.multiplier == sign].increase_to_answer.to_numpy() for sign in (-1, 1)]
    repeated = np.repeat(np.mean(signs, axis=0), report.increases.completions.counts)
    assert report.checks["rounding_sd"] == pytest.approx(np.sqrt(4 / 3) * repeated.std(ddof=1))
    report.save(tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.through == through
    np.testing.assert_array_equal(again.increases.baseline, report.increases.baseline)
    assert {row.quantity for row in again.rows} == {row.quantity for row in report.rows}


def test_units_of_one_setting_are_never_taken_for_those_of_another(place, tmp_path):
    config, folder, model = place
    shutil.copytree(folder / "end", tmp_path / "run")
    for through in (*CUT, "end"):
        settings = {"scoring.through": through}
        do_all(change(config, settings), tmp_path / "run", model=model, tokens=True)
        work = read_info(tmp_path / "run")["work"]
        assert work["choices"]["passes"] == 0
        assert (work["score"]["units_made"] > 0) == (work["score"]["passes"] > 0) == (through != "end")
        for name in ("scores", "measures", "tokens"):
            pd.testing.assert_frame_equal(read(tmp_path / "run", name), read(folder / through, name), atol=1e-4)


def test_another_window_is_scored_where_it_cuts_elsewhere(place, tmp_path):
    config, folder, model = place
    longer = change(config, {"scoring.through": "answer", "label.within": WITHIN + 3})
    shutil.copytree(folder / "answer", tmp_path / "run")
    do_all(longer, tmp_path / "run", model=model, tokens=True)
    do_all(longer, tmp_path / "fresh", model=model, tokens=True)
    for name in ("scores", "measures"):
        one, two = read(tmp_path / "run", name), read(tmp_path / "fresh", name)
        pd.testing.assert_frame_equal(one, two, atol=1e-4)
    work = read_info(tmp_path / "run")["work"]["score"]
    assert work["units_made"] > 0
    assert work["units_found"] > 0  # what ends or answers before it is cut where it was


def forget(folder):
    """What a run of a version without the setting has written."""
    info = read_info(folder)
    del info["config"]["scoring"]["through"], info["stages"]["score"]["settings"]["scoring"]["through"]
    (folder / "run.json").write_text(json.dumps(info))
    scores = read(folder, "scores").drop(columns=["n_scored", "baseline"])
    scores.to_parquet(folder / "scores.parquet", index=False)


def test_a_run_of_an_earlier_version_has_scored_whole_completions(place, tmp_path, capsys):
    config, folder, model = place
    shutil.copytree(folder / "end", tmp_path / "run")
    forget(tmp_path / "run")
    report = load(tmp_path / "run")
    assert report.through == "end"
    np.testing.assert_allclose(report.increases.baseline, load(folder / "end").increases.baseline, atol=1e-9)
    reasons = {stage.stage: stage.reasons for stage in find_status(tmp_path / "run")}
    assert reasons["score"] == ("scores.parquet has been changed",)  # by this test, and nothing else
    assert cli.main(["report", str(tmp_path / "run"), "--set", "scoring.through=answer"]) == 2
    assert "[scoring] through is 'answer', but the score stage of" in capsys.readouterr().err
    do_all(change(config, {"scoring.through": "answer"}), tmp_path / "run", model=model, tokens=True)
    assert read_info(tmp_path / "run")["work"]["score"]["passes"] > 0
    pd.testing.assert_frame_equal(read(tmp_path / "run", "scores"), read(folder / "answer", "scores"), atol=1e-4)


@pytest.mark.parametrize("through", CUT)
def test_the_report_says_what_was_not_scored_and_why_numbers_are_missing(place, through, tmp_path, capsys):
    _, folder, _ = place
    shutil.copytree(folder / through, tmp_path / "run")
    assert cli.main(["report", str(tmp_path / "run")]) in (0, 3)
    completions, scored = read_scored(tmp_path / "run", through)
    there = completions.token_ids.map(len).sum()
    markdown = (tmp_path / "run" / "report.md").read_text()
    page = (tmp_path / "run" / "report.html").read_text()
    for text in (capsys.readouterr().out, markdown, page, show_report(load(tmp_path / "run"))):
        found = SAID.search(" ".join(text.split()).replace("&#34;", '"'))
        assert found, text[:300]
        counts = [int(n.replace(",", "")) for n in found.groups()[1:]]
        assert (found[1], *counts) == (through, scored.sum(), there)
        assert "What is over whole completions is missing for it" in " ".join(text.split())
    for head in ("KL/token", "whole, A", "after it"):
        assert head not in markdown
        assert head in (folder / "end" / "report.md").read_text()
    assert "Completions are scored" not in (folder / "end" / "report.md").read_text()
    assert "sampler test (surprisal minus entropy): not measured" in markdown
    assert "## Where the gain is" in markdown
    assert "sum to the increase of the whole" not in markdown


def test_tokens_that_are_not_scored_are_shown_without_a_number(place):
    _, folder, _ = place
    report = load(folder / "answer")
    tokens = read_token_increases(folder / "answer", report.increases.completions)
    said = report.increases.completions
    inside = np.arange(said.token_ids.shape[1]) < said.count_scored("answer")[:, None]
    assert np.array_equal(np.isfinite(tokens.increase[0]), inside)
    shown = show_tokens(said, tokens)
    assert "nan" not in shown
    assert "– nats" in shown


def test_figures_that_have_nothing_to_draw_are_left_out_and_told(place, tmp_path):
    _, folder, _ = place
    shutil.copytree(folder / "answer", tmp_path / "run")
    told = []
    drawn = draw_figures(tmp_path / "run", names=["damage", "dose_response", "token_profile"], tell=told.append)
    assert [path.stem for path in drawn] == ["dose_response", "token_profile"]
    assert told == [
        "figure damage: left out, since kl_per_token is over whole completions, which are scored through the answer "
        "only ([scoring] through)"
    ]
    assert "−KL" not in (tmp_path / "run/figures/dose_response.txt").read_text()
    assert "Nothing stands behind the answer" in (tmp_path / "run/figures/token_profile.txt").read_text()


def test_runs_of_different_settings_compare_what_both_have(place):
    _, folder, _ = place
    reports = {name: load(folder / name) for name in ("end", "answer")}
    asked = ("increase_to_answer_A", "kl_per_token", "delta_p_A")
    found = compare_reports(reports, quantities=asked)
    assert {difference.quantity for difference in found} == {"increase_to_answer_A", "delta_p_A"}
    assert max(abs(difference.difference.value) for difference in found) < 1e-2
    text = format_comparison(found, through={name: report.through for name, report in reports.items()})
    assert "Completions are scored: end through the end, answer through the answer." in text
    with pytest.raises(InputError, match="kl_per_token is over whole completions, and here they are scored through"):
        compare_reports(reports, quantities=["kl_per_token"])


def test_the_command_line_takes_the_setting_and_refuses_others(place, tmp_path, capsys):
    _, folder, _ = place
    assert cli.main(["compare", str(folder / "end"), str(folder / "window")]) == 0
    assert "Completions are scored:" in capsys.readouterr().out
    assert cli.main(["score", str(folder / "end"), "--set", "scoring.through=half"]) == 2
    said = capsys.readouterr().err
    assert "[scoring] through is 'half'; it must be 'end', 'window' or 'answer'" in said
