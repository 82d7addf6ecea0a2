"""Results for other tools and of other tools: CAA's files, lm-eval's samples."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from completions_lp import Probabilities, cli
from completions_lp.job.exports import Told, export_results
from completions_lp.job.foreign import import_results
from completions_lp.job.results import draw_figures, load
from completions_lp.records import BASELINE, InputError
from completions_lp.report import summarize
from completions_lp.show.text import format_overview
from completions_lp.store.caa import FIELDS, name_file, parse_name

SHARED = ("p_choice", "p_choice_steered", "delta_p_choice", "logit_diff_change", "pref_odds_steered", "mass_steered")


def average_key_prob(items):
    """CAA's number by its definition: over all items, P(the matching letter) / (P(A) + P(B)); of other letters 0."""
    total = 0.0
    for item in items:
        letter = item["answer_matching_behavior"].strip(" ()")
        of = {"A": "a_prob", "B": "b_prob"}.get(letter)
        total += item[of] / (item["a_prob"] + item["b_prob"]) if of else 0.0
    return total / len(items)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small run of the embedded model, with answers of both letters."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    changes = ("prompts.limit=12", "sampling.n=2", "scoring.layers=[1,2]", "scoring.multipliers=[-1,0.5,1]")
    options = [option for change in changes for option in ("--set", change)]
    assert cli.main(["run", "--quiet", "--out", str(folder), *options]) == 0
    return folder


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("caa") / "cautious"
    assert cli.main(["export", str(folder), "--format", "caa", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def imported(exported, tmp_path_factory):
    out = tmp_path_factory.mktemp("imported") / "run"
    assert cli.main(["import", str(exported), "--out", str(out)]) == 0
    return out


def read_file(folder, layer, multiplier):
    (path,) = folder.glob(f"results_layer={layer}_multiplier={multiplier}_*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_caas_arithmetic_on_the_export_gives_the_two_choice_numbers_of_the_report(folder, exported):
    report = load(folder)
    rows = [row for row in report.table("p_choice_steered") if not row.condition.is_neutral]
    assert len(rows) == 6
    for row in rows:
        items = read_file(exported, row.condition.layer, float(row.condition.multiplier))
        assert average_key_prob(items) == pytest.approx(row.estimate.value, abs=1e-9)
    before = report.table("p_choice")[0].estimate.value
    for layer in (1, 2):
        assert average_key_prob(read_file(exported, layer, 0.0)) == pytest.approx(before, abs=1e-9)
    assert len({round(row.estimate.value, 6) for row in rows}) == 6, "every cell has the same number"


def test_a_prob_is_of_the_letter_a_whichever_answer_matches(folder, exported):
    choices = load(folder).choices
    items = read_file(exported, 2, 0.0)
    assert {prompt.matching for prompt in choices.prompts} == {"A", "B"}
    for i, (prompt, item) in enumerate(zip(choices.prompts, items, strict=True)):
        assert list(item) == list(FIELDS)
        assert item["question"] == prompt.text
        assert item["answer_matching_behavior"] == f"({prompt.matching})"
        at = prompt.letters.index("A")
        assert item["a_prob"] == pytest.approx(np.exp(choices.baseline_all[i, at]), rel=1e-12)


def test_files_are_called_as_caa_calls_them(exported):
    names = sorted(path.name for path in exported.iterdir())
    assert len(names) == 2 * 4
    assert names[0] == (
        "results_layer=1_multiplier=-1.0_behavior=cautious_type=ab_use_base_model=False_model_size=7b.json"
    )
    told = {"layer": 13, "multiplier": -0.5, "behavior": "sycophancy", "type": "ab", "system_prompt": "neg"}
    told |= {
        "override_vector": 13,
        "override_vector_model": "Llama-2-7b-hf",
        "use_base_model": False,
        "model_size": "7b",
    }
    assert parse_name(name_file(**told)) == {key: str(value) for key, value in told.items()}


def test_an_import_has_the_numbers_and_intervals_of_the_run_it_came_from(folder, imported):
    ours, theirs = load(folder), load(imported)

    def alone(prompts):  # CAA's files know of no clusters
        return tuple(replace(prompt, cluster=prompt.id) for prompt in prompts)

    completions = replace(ours.increases.completions, prompts=alone(ours.choices.prompts))
    choices = replace(ours.choices, prompts=alone(ours.choices.prompts))
    ours = summarize(replace(ours.increases, completions=completions), choices)
    for name in SHARED:
        known = {(r.condition.layer, r.condition.multiplier): r.estimate for r in ours.table(name)}
        rows = theirs.table(name)
        assert len(rows) == 6, name
        for row in rows:
            want = known[row.condition.layer, row.condition.multiplier]
            got = [row.estimate.value, row.estimate.low, row.estimate.high, row.estimate.n]
            np.testing.assert_allclose(got, [want.value, want.low, want.high, want.n], atol=1e-9, err_msg=name)
    assert theirs.best.quantity == "logit_diff_change"


def test_what_the_files_do_not_have_is_absent(imported):
    report = load(imported)
    quantities = {row.quantity for row in report.rows}
    assert not {"delta_p_A", "increase_to_answer_A", "kl", "share_A", "logit_diff_whole"} & quantities
    assert not report.errors
    assert not (imported / "measures.parquet").exists()


def test_figures_are_drawn_of_an_import(imported):
    drawn = draw_figures(
        imported, names=["layer_sweep", "dose_response", "heatmap", "probabilities", "prompts", "odds"]
    )
    assert len(drawn) == 6
    view = Probabilities.of(load(imported), quantity="p_choice_steered")
    assert {row["layer"] for row in view.rows if row["kind"] == "target"} == {1, 2}
    assert (imported / "report.html").is_file()


def test_an_import_says_that_nothing_was_drawn_and_shows_what_it_has(imported):
    report = load(imported)
    text = format_overview(report, title="CAA")
    assert "Without completions" in text
    assert not any(words in text for words in ("tokens of a completion", "not measured", "0.0e+00"))
    assert math.isnan(report.checks["sampler_gap"])
    assert "Draws per prompt" not in (imported / "report.html").read_text(encoding="utf-8")
    (axes,) = Probabilities.of(report).draw().axes
    assert axes.has_data()
    assert {row["quantity"] for row in Probabilities.of(report).rows} == {"logit_diff_change"}


def test_without_multiplier_0_levels_are_told_and_changes_are_not(exported, tmp_path):
    for path in exported.iterdir():
        if parse_name(path.name)["multiplier"] != "0.0":
            shutil.copy(path, tmp_path)
    report = import_results(tmp_path)
    assert any("no file is of multiplier 0" in told for told in report.warnings)
    assert not report.errors
    assert all(np.isfinite(row.estimate.value) for row in report.table("p_choice_steered"))
    assert all(np.isnan(row.estimate.value) for row in report.table("delta_p_choice"))


def test_questions_with_other_keys_are_left_out_and_said(exported, tmp_path):
    for path in exported.iterdir():
        items = json.loads(path.read_text(encoding="utf-8"))
        items[0]["answer_matching_behavior"] = "(C)"
        (tmp_path / path.name).write_text(json.dumps(items), encoding="utf-8")
    report = import_results(tmp_path)
    assert len(report.choices.prompts) == 11
    assert any("1 of 12 questions are left out" in told for told in report.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda items: items[1].pop("a_prob"), "item 2: has no a_prob"),
        (lambda items: items[0].update(a_prob=-0.1), "item 1: a_prob is '-0.1'; it is a probability"),
        (lambda items: items[0].update(a_prob=0.9, b_prob=0.9), "a_prob [+] b_prob is 1.8"),
        (lambda items: items[0].update(b_prob="0.5"), "b_prob is '0.5'"),
        (lambda items: items[0].update(question="another"), "item 1 differs"),
        (lambda items: items.pop(), "12 and 11 of them|11 and 12 of them"),
        (lambda items: items[0].update(answer_matching_behavior="Yes"), "is 'Yes'; it is a letter"),
        (lambda items: items.clear(), "needs a list of 1 to"),
    ],
)
def test_damaged_files_are_refused(exported, tmp_path, change, message):
    shutil.copytree(exported, tmp_path / "copy")
    path = sorted((tmp_path / "copy").iterdir())[2]
    items = json.loads(path.read_text(encoding="utf-8"))
    change(items)
    path.write_text(json.dumps(items), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        import_results(tmp_path / "copy")


def test_files_of_several_settings_are_told_apart(exported, tmp_path):
    for path in exported.iterdir():
        shutil.copy(path, tmp_path)
        shutil.copy(path, tmp_path / path.name.replace("model_size=7b", "model_size=13b"))
        shutil.copy(path, tmp_path / path.name.replace("type=ab", "type=ab_system_prompt=pos"))
        shutil.copy(path, tmp_path / path.name.replace("type=ab", "type=open_ended"))
    with pytest.raises(InputError, match=r"differ in model_size \(13b, 7b\).*--only model_size=13b"):
        import_results(tmp_path)
    report = import_results(tmp_path, only={"model_size": "7b", "system_prompt": "none"})
    assert len(report.choices.conditions) == 6
    with pytest.raises(InputError, match="no file has model_size=1b"):
        import_results(tmp_path, only={"model_size": "1b"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="none of its 0 files"):
        import_results(tmp_path / "empty")


def test_nothing_is_replaced_and_the_same_is_left_alone(folder, exported, tmp_path):
    out = tmp_path / "out"
    paths, _ = export_results(folder, "caa", out)
    assert export_results(folder, "caa", out)[0] == paths
    paths[1].write_text("mine", encoding="utf-8")
    paths[0].unlink()
    with pytest.raises(InputError, match="is there already and differs"):
        export_results(folder, "caa", out)
    assert not paths[0].exists()  # none is written where one cannot be
    assert paths[1].read_text(encoding="utf-8") == "mine"


def test_what_cannot_be_exported_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="format 'csv' is not written; known are caa, lm-eval"):
        export_results(folder, "csv", tmp_path)
    with pytest.raises(InputError, match="becomes part of CAA's file names"):
        export_results(folder, "caa", tmp_path, Told(name="../up"))
    with pytest.raises(InputError, match="--vector 'other' is none of this run's: cautious"):
        export_results(folder, "caa", tmp_path, Told(vector="other"))
    assert not list(tmp_path.iterdir())


def test_samples_have_the_log_probs_of_whole_answers(folder, tmp_path):
    choices = load(folder).choices
    paths, _ = export_results(folder, "lm-eval", tmp_path)
    assert len(paths) == 1 + 6
    (path,) = (path for path in paths if path.parent.name.endswith("unsteered"))
    samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    got = [[float(response[0]) for response in sample["filtered_resps"]] for sample in samples]
    np.testing.assert_array_equal(got, choices.baseline_all_whole)
    assert BASELINE not in choices.conditions
    for sample, prompt in zip(samples, choices.prompts, strict=True):
        texts = [one["arg_0"] + one["arg_1"] for one in sample["arguments"].values()]
        assert texts == [prompt.text + prompt.answer_format.replace("{letter}", x) for x in prompt.letters]
