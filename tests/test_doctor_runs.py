"""The doctor as a command, on what a configuration asks for; and the few of its checks that every run makes."""

import dataclasses
import json

import pytest
import test_doctor
from runs import begin, change, do_stages, make_place, read_info
from test_prompts import ROW, write

from completions_lp import cli, store
from completions_lp.job import checkup
from completions_lp.job.config import make_config
from completions_lp.job.results import load
from completions_lp.records import Condition, OutOfRoom

CHECKS = {"bos_wrong", "vector_off", "below_layer", "before_position", "mass_off"}


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("place")
    return folder, make_place(folder, tokenizer)


def write_config(path, config):
    path.write_text(
        "".join(
            f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
            for section, values in config.items()
        )
    )
    return str(path)


def test_the_command_examines_what_a_configuration_asks_for(place, tmp_path, capsys):
    config = write_config(tmp_path / "mine.toml", change(place[1], {"scoring.multipliers": [-3.0, 1.0]}))
    assert cli.main(["doctor", config]) == 0
    out = capsys.readouterr().out
    assert "2 layers, d_model 32" in out
    assert "pairs x -3 at layer 0 (completion)" in out  # the vector of the configuration's pairs, at its strongest
    assert "prompts: 3 of 4" in out
    assert "everything is computed right on this model" in out
    assert "s beyond loading)" in out
    assert "in bfloat16 throughout" not in out
    assert cli.main(["doctor", config, "--set", "scoring.positions=all", "--set", "prompts.limit=2", "--all"]) == 0
    out = capsys.readouterr().out
    assert "pairs x -3 at layer 0 (all)" in out
    assert "prompts: 2 of 2" in out
    assert "in bfloat16 throughout" in out


def test_the_command_takes_a_run_a_vector_file_and_another_model(place, tmp_path, capsys):
    out = tmp_path / "out"
    do_stages(place[1], out)
    assert cli.main(["doctor", str(out)]) == 0
    assert "pairs x -1 at layer 0" in capsys.readouterr().out
    (vector,) = [vector for vector in store.read_vectors(out) if vector.kind == "target"]
    store.write_vector(tmp_path, dataclasses.replace(vector, name="filed"))
    path = next((tmp_path / "vectors").glob("filed*"))
    model = place[0] / "model"
    rows = write(tmp_path, [{**ROW, "question": word} for word in ("Who", "Where is it", "Why")])
    asked = ["--set", f"prompts.path={rows}", "--set", f"vector.path={path}", "--set", "scoring.layers=[1]"]
    assert cli.main(["doctor", "--model", str(model), "--dtype", "float64", *asked]) == 0
    told = capsys.readouterr().out
    assert "prompts: 3 of 3" in told
    assert "filed x -1 at layer 1" in told
    assert "float64 on cpu" in " ".join(told.split())


def test_a_check_that_fails_is_the_exit_code(place, tmp_path, capsys, monkeypatch):
    config = write_config(tmp_path / "mine.toml", place[1])
    test_doctor.tell_other_draws(monkeypatch)
    assert cli.main(["doctor", config]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "FAIL sampled log probs = scored ones 8.0e-01 nats (allowed 5e-04)" in out
    assert "completions are not of the model that is scored" in out
    assert "2 checks failed: sampled log probs = scored ones; steered draws = steered scores" in out
    monkeypatch.undo()
    test_doctor.lose_mass(monkeypatch)
    assert cli.main(["doctor", config]) == 2  # the model is refused as it is loaded
    assert "gives a text other log probs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.toml"], "nowhere.toml: no such file"),
        (["--set", "sampling.m=3"], "unknown key of [sampling]: 'm'"),
        (["--set", "vector.path=nowhere.safetensors"], "nowhere.safetensors: no such file"),
        (["--set", "prompts.path=nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--dtype", "float8"], "dtype 'float8' is none of"),
    ],
)
def test_wrong_input_gets_one_line(arguments, message, capsys):
    assert cli.main(["doctor", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_control_is_the_embedded_model_where_the_other_is(build_model):
    control = checkup.load_control(build_model("llama"))
    assert (control.n_layers, str(control.device)) == (5, "cpu")


def test_every_run_makes_the_cheap_checks(place, tmp_path):
    out = tmp_path / "out"
    run = begin(place[1], out)
    report = run.all()
    found = read_info(out)
    assert set(found["instrument"]["checks"]) == CHECKS
    assert found["instrument"]["errors"] == []
    assert {name: found["checks"][name] for name in CHECKS} == found["instrument"]["checks"]
    assert {name: report.checks[name] for name in CHECKS} == found["instrument"]["checks"]
    assert report.checks["bos_wrong"] == report.checks["below_layer"] == report.checks["before_position"] == 0
    assert 0 <= report.checks["vector_off"] < 1e-3
    assert abs(report.checks["mass_off"]) < 1e-4
    assert load(out).checks == pytest.approx(dict(report.checks), nan_ok=True)
    before = read_info(out)["token_counts"]
    assert begin(place[1], out).all().checks == pytest.approx(dict(report.checks), nan_ok=True)
    assert read_info(out)["token_counts"] == before


@pytest.mark.parametrize(
    ("damage", "name", "check"),
    [
        (test_doctor.add_twice, "vector_off", test_doctor.ONCE),
        (test_doctor.start_one_late, "vector_off", test_doctor.ONCE),
        (test_doctor.shift_layers(-1), "below_layer", test_doctor.BELOW),
        (test_doctor.steer_the_prompt, "before_position", test_doctor.BEFORE),
        (test_doctor.lose_mass, "mass_off", test_doctor.SUM),
    ],
)
def test_what_is_made_wrong_reaches_the_screen_the_run_and_its_report(
    place, tmp_path, monkeypatch, damage, name, check
):
    """On a model that has found its way before it was made wrong."""
    model = begin(place[1], None).model
    test_doctor.settle(model, "tree")
    damage(monkeypatch)
    out, told = tmp_path / "out", []
    config = change(place[1], {"scoring.layers": [1], "scoring.multipliers": [1.0], "sampling.top_up": 0})
    report = begin(config, out, model=model, tell=told.append).all()
    assert any(line.startswith(f"{check}: ") for line in told)
    errors = [error for error in report.errors if error.startswith(f"{check}: ")]
    assert len(errors) == 1
    assert errors[0].endswith(": run completions-lp doctor")
    assert errors[0] in read_info(out)["errors"]
    assert report.checks[name] > 1e-3
    monkeypatch.undo()
    assert errors[0] in load(out).errors


def test_beginnings_are_counted_in_a_run_too(place, tmp_path, build_model):
    run = begin(place[1], None)
    completions, vectors = run.sample(), run.vector()
    conditions = [Condition(vectors[0].name, "target", 0, 1.0)]
    tokenizer = test_doctor.test_prompt_chat.make_tokenizer(adds=True)
    found = checkup.check_instrument(run, completions, vectors, [])
    assert (found["checks"], found["errors"]) == ({"bos_wrong": 0.0}, [])
    run.__dict__["model"] = dataclasses.replace(run.model, tokenizer=tokenizer)
    found = checkup.check_instrument(run, completions, vectors, conditions)
    assert found["checks"]["bos_wrong"] == 4  # which none begins with, and this tokenizer would have put before each
    assert [error.partition(":")[0] for error in found["errors"]] == ["one BOS in each prompt"]


def test_what_was_checked_is_not_checked_again(place, tmp_path, monkeypatch):
    """Of the same network, vectors and completions, also where a table is lost or layers join."""
    out, asked = tmp_path / "out", []
    check = checkup.check_quickly

    def count(*arguments, **options):
        asked.append(1)
        return check(*arguments, **options)

    monkeypatch.setattr(checkup, "check_quickly", count)
    do_stages(place[1], out)
    before = read_info(out)["instrument"]
    (out / "scores.parquet").unlink()
    assert do_stages(place[1], out).has_worked
    do_stages(change(place[1], {"scoring.layers": [0, 1]}), out)
    assert (len(asked), read_info(out)["instrument"]) == (1, before)
    do_stages(change(place[1], {"sampling.n": 12}), out)
    assert len(asked) == 2
    assert read_info(out)["instrument"]["of"] != before["of"]


def test_a_run_without_room_for_one_completion_has_no_such_numbers(place, monkeypatch):
    def refuse(*_, **__):
        raise OutOfRoom("does not fit", item="x")

    run = begin(place[1], None)
    completions = run.sample()
    monkeypatch.setattr(checkup, "check_quickly", refuse)
    found = checkup.check_instrument(run, completions, [], [])
    assert (found["checks"], found["errors"]) == ({}, [])


def test_large_files_are_read_in_part(place, monkeypatch):
    config = make_config(place[1])
    monkeypatch.setattr(checkup, "PROMPTS", 2)
    assert len(checkup._limit(config).prompts) == 2
    monkeypatch.setattr(checkup, "PAIRS", 3)
    read, pairs = checkup.read_differences, []

    def count(model, some, **options):
        pairs.append(len(some))
        return read(model, some, **options)

    monkeypatch.setattr(checkup, "read_differences", count)
    checkup._make_vector(checkup._limit(config))
    assert pairs == [3]
