"""Whole runs by the rules that need no letters or no first answer; and whose function a command may call."""

import json
import sys

import numpy as np
import pyarrow.parquet
import pytest
from runs import change, make_place

import completions_lp as clp
from completions_lp import cli
from completions_lp.job.config import make_config
from completions_lp.sample.labels import Labeller

PATTERNS = {"vowel": "[aeiou]", "digit": "[0-9]"}
PYTHON = {"label.rule": "python", "label.function": "run_labels:find", "label.outcomes": ["vowel", "digit"]}
PYTHON |= {"label.target": "digit", "label.within": "all"}
PLAIN = {"sampling.top_up": 0, "controls.random_directions": 0}


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("place")
    return folder, make_place(folder, tokenizer)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a label function, which leaves a trace when it is imported, and from which commands are run."""
    (tmp_path / "run_labels.py").write_text(
        "import pathlib\n\n"
        f"with pathlib.Path({str(tmp_path / 'trace')!r}).open('a') as file:\n    file.write('imported ')\n\n\n"
        "def find(text):\n"
        "    return 'digit' if set(text) & set('0123456789') else 'vowel' if set(text) & set('aeiou') else None\n"
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("run_labels", None)


def write_config(folder, config):
    """The configuration as a TOML file."""
    lines = []
    for section, values in config.items():
        lines.append(f"[{section}]")
        for key, value in values.items():
            pairs = ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) if isinstance(value, dict) else ""
            lines.append(f"{key} = {{{pairs}}}" if pairs else f"{key} = {json.dumps(value)}")
    path = folder / "config.toml"
    path.write_text("\n".join(lines))
    return path


def forget(folder):
    """As in a new process that has not imported the module yet."""
    sys.modules.pop("run_labels", None)
    (folder / "trace").unlink(missing_ok=True)


def test_the_last_answer_of_a_whole_completion(place, tmp_path):
    folder, config = place
    label = {"label.rule": "final_answer", "label.within": "all", "label.phrases": [], "label.pattern": "{letter}"}
    changes = {**label, "sampling.n": 60, "prompts.path": str(folder / "digits.jsonl"), "label.target": "matching"}
    rows = [json.loads(line) for line in (folder / "asked.jsonl").read_text().splitlines()]
    answers = {"answer_matching_behavior": "s", "answer_not_matching_behavior": "e"}
    (folder / "digits.jsonl").write_text("\n".join(json.dumps({**row, **answers}) for row in rows))
    values = change(config, changes)
    out = tmp_path / "out"
    report = clp.run(make_config(values), out=out, progress=False)
    completions = report.increases.completions
    assert completions.window == 3
    for row, text in enumerate(completions.text):
        places = {letter: text.rfind(letter) for letter in "se"}
        last = max(places, key=places.get)
        assert completions.label[row] == (last if places[last] >= 0 else "")
    told = (out / "report.md").read_text()
    assert "the last one that is committed, in the whole completion (rule final_answer)" in told
    assert "the window as a whole decides the label" in told
    for name in ("first_A", "first_A_steered", "answer_share", "increase_to_answer_A_rb"):
        assert np.isnan(report.prompts[name]).all(), name
    for name in ("p_A", "p_A_steered", "increase_to_answer_A"):
        assert np.isfinite(report.prompts[name]).any(), name
    again = clp.load(out)
    np.testing.assert_array_equal(again.prompts["p_A_steered"], report.prompts["p_A_steered"])
    assert again.increases.completions.labelling == completions.labelling
    assert json.loads((out / "run.json").read_text())["config"]["label"]["within"] == "all"


def test_a_short_window_of_a_rule_that_needs_a_long_one_is_told(place):
    _, config = place
    label = {"label.rule": "final_answer", "label.within": 2, "label.phrases": [], "label.pattern": "{letter}"}
    report = clp.run(make_config(change(config, {**label, **PLAIN})), progress=False)
    (told,) = [text for text in report.warnings if "looks at the first 2 tokens of completions of up to 3" in text]
    assert 'set [label] within = "all"' in told


def test_outcomes_have_numbers_of_their_own_and_no_read_out(place, tmp_path):
    _, config = place
    label = {"label.rule": "regex", "label.patterns": PATTERNS, "label.target": "vowel"}
    path, out = write_config(tmp_path, change(config, label)), tmp_path / "out"
    assert cli.main(["run", str(path), "--out", str(out), "--quiet"]) == 0
    report = clp.load(out)
    completions = report.increases.completions
    assert completions.prompts[0].letters == ("vowel", "digit")
    assert {*completions.label.tolist()} <= {"vowel", "digit", ""}
    assert (completions.label == "vowel").any()
    for row, text in enumerate(completions.text):
        found = [(text.index(c), name) for name, signs in (("vowel", "aeiou"), ("digit", "0123456789")) for c in signs
                 if c in text]  # fmt: skip
        assert completions.label[row] == (min(found)[1] if found else "")
    assert report.choices is None
    assert not (out / "choices.parquet").exists()
    quantities = {row.quantity for row in report.rows}
    assert {"delta_p_A", "increase_to_answer_A", "p_A_steered"} <= quantities
    assert not {name for name in quantities if name.startswith(("logit_diff", "mass"))}
    assert not report.errors
    assert (out / "report.html").stat().st_size > 1000
    assert cli.main(["run", "--out", str(out), "--quiet"]) == 0  # and again: nothing is left to do
    saved = clp.load(report.save(tmp_path / "saved"))
    assert saved.increases.completions.labelling == completions.labelling
    assert [row.estimate.value for row in saved.rows] == pytest.approx(
        [row.estimate.value for row in report.rows], nan_ok=True
    )


def test_open_questions_are_asked_for_outcomes(place, tmp_path):
    """Their rows have no answers, and need none."""
    _, config = place
    (tmp_path / "open.json").write_text(
        json.dumps([{"question": f"{word}, then?"} for word in ("So", "Or", "I", "Is it")])
    )
    label = {"label.rule": "regex", "label.patterns": PATTERNS, "label.target": "vowel", **PLAIN}
    values = change(config, {**label, "prompts.path": str(tmp_path / "open.json")})
    report = clp.run(make_config(values), progress=False)
    prompts = report.increases.completions.prompts
    assert {prompt.letters for prompt in prompts} == {("vowel", "digit")}
    assert not any(prompt.is_read_out for prompt in prompts)
    assert report.choices is None
    assert np.isfinite(report.prompts["p_A"]).all()
    with pytest.raises(clp.InputError, match="answer"):  # without outcomes they do
        clp.run(make_config(change(config, {"prompts.path": str(tmp_path / "open.json")})), progress=False)


def test_a_target_that_is_no_outcome_is_refused_before_any_work(place, tmp_path, capsys):
    _, config = place
    path = write_config(tmp_path, change(config, {"label.rule": "regex", "label.patterns": PATTERNS}))
    assert cli.main(["run", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    told = capsys.readouterr().err
    assert "target is 'matching', but the answers are outcomes, none of which is a prompt's own: digit, vowel" in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_function_is_called_only_where_the_command_or_its_file_names_it(place, own, capsys):
    _, config = place
    path, out = write_config(own, change(config, PYTHON)), own / "out"
    assert cli.main(["run", str(path), "--out", str(out), "--quiet"]) == 0
    assert (own / "trace").read_text() == "imported "
    completions = pyarrow.parquet.read_table(out / "completions.parquet").to_pylist()
    for row in completions:
        want = "digit" if set(row["text"]) & set("0123456789") else "vowel" if set(row["text"]) & set("aeiou") else None
        assert row["label"] == want
        assert row["answer_index"] == (-1 if want is None else len(row["token_ids"]) - 1)
    forget(own)
    capsys.readouterr()
    stored = ["--out", str(out), "--quiet"]
    assert cli.main(["run", *stored]) == 0  # all of it is made
    assert cli.main(["report", str(out)]) == 0
    assert cli.main(["status", str(out)]) == 0
    capsys.readouterr()
    for command in (
        ["run", *stored, "--set", "sampling.n=12"],
        ["sample", str(out), "--quiet", "--set", "sampling.n=12"],
        ["run", "--from", str(out / "run.json"), "--out", str(own / "other"), "--quiet"],
        ["plan", str(out), "--validate", "--draws", "2", "--quiet"],
    ):
        assert cli.main(command) == 2, command
        told = capsys.readouterr().err
        assert "[label] function 'run_labels:find' is named by a stored run" in told
        assert "--set label.function=run_labels:find (plan: --function run_labels:find)" in told
        assert len(told.splitlines()) == 1
    assert not (own / "trace").exists()
    named = ["--set", "label.function=run_labels:find"]
    assert cli.main(["run", *stored, "--set", "sampling.n=12", *named]) == 0
    assert (own / "trace").read_text() == "imported "
    assert cli.main(["plan", str(out), "--validate", "--draws", "2", "--quiet", "--function", "run_labels:find"]) == 0
    assert cli.main(["run", "--from", str(out), "--out", str(own / "other"), "--quiet", *named]) == 0


def test_another_function_than_the_stored_one_is_not_the_one_that_is_named(place, own, tokenizer, capsys):
    """A configuration that names one function does not open the door to another."""
    _, config = place
    opened = make_config(change(config, {**PYTHON, **PLAIN}))
    clp.run(opened, out=own / "out", progress=False)  # a configuration in code is the user's own
    forget(own)
    info = json.loads((own / "out/run.json").read_text())
    info["config"]["label"]["function"] = "run_labels:other"
    info["stages"]["sample"]["settings"]["label.function"] = "run_labels:other"
    (own / "out/run.json").write_text(json.dumps(info))
    plan = ["plan", str(own / "out"), "--validate", "--draws", "2", "--quiet"]
    assert cli.main([*plan, "--function", "run_labels:find"]) == 2
    assert not (own / "trace").exists()
    assert "'run_labels:other' is named by a stored run" in capsys.readouterr().err
    labelling = clp.load(own / "out").increases.completions.labelling
    with pytest.raises(clp.InputError, match="'run_labels:other' is named by a stored run"):
        Labeller(tokenizer, labelling).label([5, 6], letters=("vowel", "digit"))


def test_an_error_of_the_function_is_one_line(place, own, capsys):
    _, config = place
    (own / "run_labels.py").write_text("def find(text):\n    return {}[text]\n")
    path = write_config(own, change(config, {**PYTHON, **PLAIN}))
    assert cli.main(["run", str(path), "--out", str(own / "out"), "--quiet"]) == 2
    told = capsys.readouterr().err
    assert "[label] function 'run_labels:find' raised KeyError: " in told
    assert "on a completion of prompt 'id-" in told
    assert len(told.splitlines()) == 1
    path = write_config(own, change(config, {**PYTHON, **PLAIN, "label.function": "no_such:find"}))
    assert cli.main(["run", str(path), "--out", str(own / "new"), "--quiet"]) == 2
    assert "'no_such:find' cannot be imported from" in capsys.readouterr().err


def test_a_source_that_has_changed_makes_the_labels_anew(place, own):
    _, config = place
    path, out = write_config(own, change(config, {**PYTHON, **PLAIN})), own / "out"
    assert cli.main(["run", str(path), "--out", str(out), "--quiet"]) == 0
    before = pyarrow.parquet.read_table(out / "completions.parquet")
    forget(own)
    (own / "run_labels.py").write_text("def find(text):\n    return 'vowel' if 'e' in text else None\n")
    assert cli.main(["run", str(path), "--out", str(out), "--quiet"]) in (0, 3)
    after = pyarrow.parquet.read_table(out / "completions.parquet")
    assert after["token_ids"].equals(before["token_ids"])
    want = ["vowel" if "e" in text else None for text in after["text"].to_pylist()]
    assert after["label"].to_pylist() == want != before["label"].to_pylist()
    work = json.loads((out / "run.json").read_text())["work"]
    assert {stage: spent["tokens"] for stage, spent in work.items() if stage in ("sample", "score")} == {
        "sample": 0,
        "score": 0,
    }


def test_in_code_a_function_is_given_as_it_is(build_model):
    model = build_model("llama")
    asked = clp.Prompt("p", "p", (3, 4), ("A", "B"), "A", "B", "p")
    labelling = clp.Labelling("python", "all", function=lambda text: "even" if len(text) % 2 else None,
                              outcomes=("even",))  # fmt: skip
    said = clp.sample_completions(
        model, [asked], sampling=clp.Sampling(n=20, max_new_tokens=3), labelling=labelling, progress=False
    )
    assert said.prompts[0].letters == ("even", "no even")
    assert said.label.tolist() == ["even" if len(text) % 2 else "" for text in said.text]
