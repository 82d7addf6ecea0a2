"""Only what is missing is computed, what is stale is never reported, the same asked again is the same to the byte."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import safetensors.numpy
import torch
from runs import TABLES, begin, change, do_stages, make_place, read_info, sum_work
from test_prompts import write

from completions_lp import cli, load, store
from completions_lp.job.config import make_config
from completions_lp.job.ledger import Options
from completions_lp.job.places import open_run
from completions_lp.job.stages import Run
from completions_lp.job.status import clean_run, find_status
from completions_lp.records import InputError
from completions_lp.work.hands import Here
from completions_lp.work.units import Units

FULL = os.environ.get("FULL") == "1"
PLAIN = {"sampling.top_up": 0}
STAGES = ("vector", "sample", "score", "report")


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """A folder of inputs, and a whole small run of them."""
    folder = tmp_path_factory.mktemp("place")
    config = make_place(folder, tokenizer)
    do_all(config, folder / "base")
    return folder, config


@pytest.fixture
def own(place, tmp_path):
    """The same, which a test may change: its folder, its configuration, and the run in it."""
    folder = tmp_path / "own"
    shutil.copytree(place[0], folder, ignore=shutil.ignore_patterns("base"))
    config = json.loads(json.dumps(place[1]).replace(str(place[0]), str(folder)))
    do_all(config, folder / "run")
    return folder, config, folder / "run"


def do_all(config, folder, **options):
    run = begin(config, folder, **options)
    run.all()
    return run


def read(folder, name):
    return pd.read_parquet(folder / f"{name}.parquet")


def list_tables(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".parquet", ".csv", ".md"))


def check_same(one, two, *, atol=1e-5, names=None):
    """Every table of two runs is the same: numbers within so many nats, all else exactly."""
    names = names or [Path(name).stem for name in list_tables(one) if name.endswith(".parquet")]
    assert set(names) >= set(TABLES) - {"tokens"} or len(names) < len(TABLES)
    for name in names:
        left, right = read(one, name), read(two, name)
        assert list(left) == list(right), name
        assert len(left) == len(right), name
        for column in left:
            a, b = left[column], right[column]
            if a.map(lambda value: isinstance(value, np.ndarray)).any():
                assert a.map(len).tolist() == b.map(len).tolist(), (name, column)
                a, b = (np.concatenate(values.tolist()) for values in (a, b))
            if np.asarray(a).dtype.kind == "f":
                rtol = 1e-6 if column.startswith("ess") and atol else 0  # samples, no nats
                long = "quantity" in left and len(a) == len(left)
                points = left["quantity"].str.startswith("delta_p_") if long else column.startswith("delta_p_")
                unit = np.where(points, 100.0, 1.0)  # percentage points
                np.testing.assert_allclose(a / unit, b / unit, rtol=rtol, atol=atol, err_msg=f"{name} {column}")
            else:
                assert list(a) == list(b), (name, column)


EXTENSIONS = {
    # What is asked for more: the changes, and the steps that have work for the network then.
    "a multiplier": ({"scoring.multipliers": [-1.0, 1.0, 2.0]}, {"choices", "score"}),
    "a layer": ({"scoring.layers": [0, 1]}, {"choices", "score"}),
    "a vector": ({"controls.random_directions": 2}, {"vector", "choices", "score"}),
    "the opposite vector": ({"controls.negated": True}, {"vector", "choices", "score"}),
    "prompts": ({"prompts.limit": 6}, {"sample", "choices", "score"}),
    "draws": ({"sampling.n": 20}, {"sample", "score"}),
    "draws of the steered model": ({"sampling.top_up": 12}, {"score"}),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_a_run_that_is_extended_computes_what_is_missing_and_is_the_run_from_the_start(place, tmp_path, name):
    folder, config = place
    changes, steps = EXTENSIONS[name]
    shutil.copytree(folder / "base", tmp_path / "longer")
    model = do_all(change(config, changes), tmp_path / "fresh").model
    do_all(change(config, changes), tmp_path / "longer", model=model)
    work, fresh = (read_info(tmp_path / run)["work"] for run in ("longer", "fresh"))
    remade = set(work)
    assert {step for step in remade if work[step]["passes"]} == steps
    for step in steps - {"vector"}:  # which is one pass, and made as a whole
        assert 0 < work[step]["tokens"] < fresh[step]["tokens"], step
        assert work[step]["units_made"] > 0
    check_same(tmp_path / "longer", tmp_path / "fresh")
    do_all(config, tmp_path / "longer", model=model)  # and back
    back = sum_work(tmp_path / "longer", of=remade - {"vector"})
    assert (back["units_made"], back["passes"]) == (0, 0)
    assert back["units_found"] > 0
    check_same(tmp_path / "longer", folder / "base")


def test_a_multiplier_more_costs_what_it_costs_alone(place, tmp_path):
    _, config = place
    model = do_stages(change(config, PLAIN), tmp_path / "run").model
    more = change(config, {**PLAIN, "scoring.multipliers": [-1.0, 1.0, 2.0]})
    run = do_stages(more, tmp_path / "run", model=model)
    extended = sum_work(tmp_path / "run", of=("choices", "score"))["tokens"]
    vectors, completions = run.vector(), run.sample()
    only = [c for c in run.make_conditions(vectors) if c.multiplier == 2]
    assert len(only) == 2  # of the target and of its control
    before = model.usage.tokens
    alone = Units(Here(lambda: model), run.network, None, None)
    alone.score(completions, vectors, only, target="matching", kl=True)
    alone.read(completions.prompts, vectors, only, target="matching")
    assert 0 < extended <= 1.2 * (model.usage.tokens - before)


def test_draws_that_are_extended_are_those_of_a_run_with_as_many(place, tmp_path):
    _, config = place
    for n in (7, 20, 40):
        do_all(change(config, {**PLAIN, "sampling.n": n}), tmp_path / "grown")
    do_all(change(config, {**PLAIN, "sampling.n": 40}), tmp_path / "fresh")
    one, two = (read(tmp_path / run, "completions") for run in ("grown", "fresh"))
    exact = [name for name in one if "logprob" not in name]
    pd.testing.assert_frame_equal(one[exact], two[exact])
    check_same(tmp_path / "grown", tmp_path / "fresh")
    do_all(change(config, {**PLAIN, "sampling.n": 7}), tmp_path / "grown")
    assert sum_work(tmp_path / "grown", of=("sample", "choices", "score"))["passes"] == 0
    do_all(change(config, {**PLAIN, "sampling.n": 7}), tmp_path / "few")
    check_same(tmp_path / "grown", tmp_path / "few")


def test_fewer_prompts_than_before_need_nothing(place, tmp_path):
    """Units are then wider than the tables: the longest completion may be of a prompt that is left out."""
    _, config = place
    long = change(config, {**PLAIN, "prompts.limit": None, "sampling.max_new_tokens": 12})
    do_stages(long, tmp_path / "run")
    widths = read(tmp_path / "run", "completions").groupby("prompt_id", sort=False)["token_ids"]
    for limit in range(1, 1 + len(widths)):
        do_stages(change(long, {"prompts.limit": limit}), tmp_path / "run")
        assert sum_work(tmp_path / "run", of=("choices", "score", "sample"))["passes"] == 0
        assert len(read(tmp_path / "run", "completions")["prompt_id"].unique()) == limit


def test_the_same_command_gives_the_same_bytes(place, tmp_path):
    folder, config = place
    do_all(config, tmp_path / "again")
    names = list_tables(folder / "base")
    assert list_tables(tmp_path / "again") == names
    assert len(names) >= len(TABLES) + 4
    for name in names:
        assert (folder / "base" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_the_order_of_the_prompts_changes_no_number(place, tmp_path):
    folder, config = place
    lines = (folder / "asked.jsonl").read_text().splitlines()
    (tmp_path / "shuffled.jsonl").write_text("".join(f"{lines[i]}\n" for i in (3, 0, 2, 1)))
    do_all(change(config, {"prompts.path": str(tmp_path / "shuffled.jsonl")}), tmp_path / "run")
    by = ["prompt_id", "vector", "layer", "multiplier", "completion_id"]
    for name in (*TABLES, "prompts"):
        one, two = read(folder / "base", name), read(tmp_path / "run", name)
        order = [key for key in by if key in one]
        one, two = (table.sort_values(order, kind="stable").reset_index(drop=True) for table in (one, two))
        pd.testing.assert_frame_equal(one, two, check_exact=True, obj=name)
    for name in ("summary", "slopes"):
        pd.testing.assert_frame_equal(read(folder / "base", name), read(tmp_path / "run", name), rtol=0, atol=1e-6)


def test_memory_changes_how_sums_are_rounded_and_nothing_else(place, tmp_path):
    """A pass of fewer rows is another matrix product: its sums run in another order, and round otherwise.

    Draws compare a random number with such sums, and so stay the same.
    """
    folder, config = place
    do_all(change(config, {"run.memory_budget": 1e-5}), tmp_path / "small")
    assert (
        read_info(tmp_path / "small")["work"]["score"]["passes"] > read_info(folder / "base")["work"]["score"]["passes"]
    )
    check_same(folder / "base", tmp_path / "small")


def test_threads_change_how_sums_are_rounded_and_nothing_else(place, tmp_path):
    """To the tolerance that the guide states for scores."""
    folder, config = place
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        do_all(config, tmp_path / "three")
    finally:
        torch.set_num_threads(threads)
    check_same(folder / "base", tmp_path / "three")


def test_a_run_goes_on_with_the_revision_that_was_asked_for_and_is_done_again_with_that_used(own, monkeypatch):
    """Otherwise its own stages would have followed another one."""
    _, _, run = own
    info = read_info(run)
    info["model"]["revision"] = "0123abc"  # as a hub's model has it; this one is local, which is refused elsewhere
    monkeypatch.setattr("completions_lp.job.places.check_input", lambda *_: None)
    (run / "run.json").write_text(json.dumps(info))
    assert open_run(None, run, []).model.revision is None
    assert open_run(None, run.parent / "again", [], stored=run).model.revision == "0123abc"


def call(*arguments, capsys):
    """The exit code of a command, and the one line that it says of an error."""
    capsys.readouterr()
    code = cli.main([*map(str, arguments)])
    printed = capsys.readouterr()
    if code == 2:
        assert re.fullmatch(r"completions-lp: [^\n]+\n", printed.err), printed.err
    return code, printed.err if code == 2 else printed.out


@pytest.mark.parametrize("given", ["run.json", ""])
def test_a_stored_run_is_done_again(place, tmp_path, capsys, given):
    folder, _ = place
    code, _ = call("run", "--from", folder / "base" / given, "--out", tmp_path / "again", "--quiet", capsys=capsys)
    assert code in (0, 3)
    for name in list_tables(folder / "base"):
        assert (folder / "base" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_stored_run_is_done_again_with_the_tokens_it_kept_and_wherever_rounding_differs(place, tmp_path, capsys):
    _, config = place
    do_all(config, tmp_path / "stored", tokens=True)
    info = read_info(tmp_path / "stored")
    for word in ("vectors", "completions"):  # as another machine would have them, to the last bit
        info["stages"]["score"]["consumed"][word] = "0" * 32
    (tmp_path / "stored/run.json").write_text(json.dumps(info))
    code, said = call("run", "--from", tmp_path / "stored", "--out", tmp_path / "again", "--quiet", capsys=capsys)
    assert code in (0, 3), said
    for name in list_tables(tmp_path / "stored"):
        assert (tmp_path / "stored" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def edit_weights(folder):
    path = folder / "model/model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    tensors["model.layers.0.mlp.down_proj.weight"][0] *= 3
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})


def edit_file(name):
    def edit(folder):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        write(folder, [{**rows[0], "question": "Is that so?\n (A) x\n (B) y"}, *rows[1:]], name)

    return edit


EDITS = {
    "the weights of the model are not those": edit_weights,
    "the prompts are not those": edit_file("asked.jsonl"),
    "the contrast pairs are not those": edit_file("pairs.jsonl"),
}


@pytest.mark.parametrize("words", EDITS)
def test_a_stored_run_is_not_done_again_from_other_inputs(own, tmp_path, capsys, words):
    folder, _, run = own
    EDITS[words](folder)
    code, said = call("run", "--from", run / "run.json", "--out", tmp_path / "again", "--quiet", capsys=capsys)
    assert code == 2
    assert words in said
    assert not (tmp_path / "again").exists()  # nothing is begun that cannot be ended


def test_two_vectors_that_are_equal_both_have_numbers(place, tmp_path):
    """As a target and itself without a confound that it has no part along."""
    folder, config = place
    target = store.read_vector(folder / "base/vectors/pairs.safetensors")
    halves = [
        {layer: d * side for layer, d in target.directions.items()} for side in np.eye(len(target.directions[0]))[:1]
    ]
    rest = {layer: d - half for (layer, d), half in zip(target.directions.items(), halves[0].values(), strict=True)}
    vectors = [replace(target, name="rest", directions=rest), replace(target, name="part", directions=halves[0])]
    store.write_vectors(tmp_path, vectors)
    paths = [str(tmp_path / "vectors" / f"{name}.safetensors") for name in ("rest", "part")]
    changes = {"vector.path": paths[0], "controls.orthogonal_to": paths[1:], "controls.random_directions": 0, **PLAIN}
    do_stages(change(config, changes), tmp_path / "run")
    scores = read(tmp_path / "run", "scores")
    one, two = (scores[(scores["kind"] == kind) & (scores["multiplier"] == 1)] for kind in ("target", "orthogonal"))
    assert len(one) > 0
    assert np.isfinite(one["increase"]).all()
    assert one["increase"].tolist() == two["increase"].tolist()


def test_a_confound_that_leaves_nothing_is_told_and_blocks_no_directory(place, tmp_path):
    """Before anything is done where the vector is a file; once it is made where it is made from pairs."""
    folder, config = place
    path = str(folder / "base/vectors/pairs.safetensors")
    for changes, begun in (({"vector.path": path}, False), ({}, True)):
        out = tmp_path / f"out-{begun}"
        with pytest.raises(InputError, match="are parallel at layer 0: nothing is left"):
            do_all(change(config, {**changes, "controls.orthogonal_to": [path]}), out)
        assert out.exists() == begun
        do_all(config, out)
        check_same(folder / "base", out, atol=0)


STALE = {
    "sampling.seed=5": "sample",
    "sampling.n=1000": "sample",
    "prompts.limit=2": "sample",
    "label.rule=letter": "sample",
    "vector.pairs=OTHER": "vector",
    "controls.random_directions=3": "vector",
    "model.dtype=float64": "vector",
    "model.residual=weights": "vector",
    "model.name=COPY": "vector",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "begun"),
    [(s, b) for i, s in enumerate(STALE) for j, b in enumerate(STAGES) if FULL or (i + j) % len(STAGES) == 0],
)
def test_numbers_of_other_settings_are_never_reported(own, capsys, setting, begun):
    folder, _, run = own
    shutil.copy(folder / "pairs.jsonl", folder / "other.jsonl")
    shutil.copytree(folder / "model", folder / "copy")
    setting = setting.replace("OTHER", str(folder / "other.jsonl")).replace("COPY", str(folder / "copy"))
    code, said = call(begun, run, "--set", setting, "--quiet", capsys=capsys)
    if code == 2:
        assert f"[{setting.partition('.')[0]}]" in said
    for stage in ("score", "report"):
        code, said = call(stage, run, "--quiet", capsys=capsys)
        if code == 2:
            assert "completions-lp" in said  # it says what to do
    info = read_info(run)
    stale = set()
    for stage, made in info["stages"].items():
        for name, followed in made["settings"].items():
            now = info["config"]
            for part in name.split("."):
                now = now[part]
            stale |= {stage} if now != followed else set()
    assert stale <= {"vector"}  # whatever else is there was made as it says
    assert not stale or not {"score", "report"} & set(info["stages"])  # and nothing is of a stale vector
    if "report" in info["stages"]:
        sampling, report = info["config"]["sampling"], load(run)
        counts = read(run, "completions").groupby("prompt_id")["count"].sum()
        assert (counts == sampling["n"]).all()
        assert len(counts) == info["config"]["prompts"]["limit"]
        assert report.increases.completions.sampling.seed == sampling["seed"]


def test_a_stage_may_change_what_it_follows_and_no_later_number_is_of_the_old(own, capsys):
    """The random controls follow the seed as the draws do; draws are made without them."""
    folder, config, run = own
    vectors = (run / "vectors/pairs-random-0.safetensors").read_bytes()
    capsys.readouterr()
    assert cli.main(["sample", str(run), "--set", "sampling.seed=5", "--quiet"]) == 0
    said = capsys.readouterr().err.splitlines()
    told = f"the vector stage followed [sampling] seed 0 and is stale now; `completions-lp vector {run}` makes it again"
    assert said[-1] == f"completions-lp: sample: {told}"
    status = call("status", run, capsys=capsys)[1]
    assert re.findall(r"^\w+ +(made|to do)", status, re.MULTILINE) == ["to do", "made", "to do", "to do"]
    assert "[sampling] seed is 5, it followed 0" in status
    assert (run / "vectors/pairs-random-0.safetensors").read_bytes() == vectors
    for command in ("score", "report", "figures", "plan", "compare"):
        code, said = call(command, run, *["--quiet"] * (command in ("score", "report")), capsys=capsys)
        assert code == 2, command
        assert "vector stage" in said or "the score stage is not finished" in said
    before = (run / "completions.parquet").read_bytes()
    for stage in STAGES:
        code, _ = call(stage, run, "--quiet", capsys=capsys)
        assert code in (0, 3)
    assert (run / "completions.parquet").read_bytes() == before
    assert (run / "vectors/pairs-random-0.safetensors").read_bytes() != vectors
    do_all(change(config, {"sampling.seed": 5}), folder / "fresh")
    check_same(run, folder / "fresh", atol=0)


def test_weights_replaced_between_stages_are_refused_by_one_and_redone_by_all(own, capsys):
    folder, config, run = own
    edit_weights(folder)
    assert [bool(stage.reasons) for stage in find_status(run)] == [True, True, True, False]
    code, said = call("score", run, "--quiet", capsys=capsys)
    assert code == 2
    assert "the weights of" in said
    assert "are not those that the vector stage" in said
    done = do_all(config, run)
    assert done.has_worked
    do_all(config, folder / "fresh")
    check_same(run, folder / "fresh", atol=0)


def test_a_prompt_file_edited_in_place_is_told_and_only_its_prompts_are_redone(own, capsys):
    folder, config, run = own
    edit_file("asked.jsonl")(folder)
    code, said = call("status", run, capsys=capsys)
    assert code == 0
    assert "asked.jsonl has been changed" in said
    model = do_all({**config, "prompts": {"path": str(folder / "pairs.jsonl"), "limit": 1}}, folder / "any").model
    do_all(config, run, model=model)
    do_all(config, folder / "fresh", model=model)
    work, whole = (read_info(where)["work"] for where in (run, folder / "fresh"))
    for step in ("sample", "choices", "score"):
        assert 0 < work[step]["tokens"] < 0.5 * whole[step]["tokens"], step
    assert "vector" not in work  # which was not made again
    check_same(run, folder / "fresh")


@pytest.mark.parametrize("name", ["scores", "completions"])
def test_a_table_edited_by_hand_is_told_of_and_assembled_again(own, name):
    _, config, run = own
    before = {file: (run / file).read_bytes() for file in list_tables(run)}
    path = run / f"{name}.parquet"
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path), path, compression="gzip")
    assert any(f"{name}.parquet has been changed" in warning for warning in load(run).warnings)
    do_all(config, run)
    assert sum_work(run, of=("choices", "score"))["passes"] == 0
    assert {file: (run / file).read_bytes() for file in list_tables(run)} == before


def test_a_report_with_an_error_is_written_and_the_exit_code_is_3(own, capsys):
    _, _, run = own
    assert call("report", run, capsys=capsys)[0] == 0
    scores = read(run, "scores")
    scores.loc[scores["multiplier"] == 0, "increase"] = 1.0
    scores.to_parquet(run / "scores.parquet", index=False)
    code, said = call("report", run, capsys=capsys)
    assert code == 3
    assert "ERROR: noise floor" in said
    assert (run / "report.md").read_text().startswith("ERROR: noise floor")
    assert {"report", "score"} <= set(read_info(run)["stages"])
    assert call("run", "--out", run, "--quiet", capsys=capsys)[0] == 0  # which assembles the table again
    assert "ERROR" not in (run / "report.md").read_text()


@pytest.mark.parametrize("command", ["run", "status", "clean", "score", "report", "figures"])
def test_a_run_of_an_older_version_is_refused_in_one_line(own, capsys, command):
    _, _, run = own
    path = run / "run.json"
    path.write_text(json.dumps({**read_info(run), "schema_version": 2}))
    before = sorted(run.rglob("*"))
    code, said = call(command, *(["--out"] if command == "run" else []), run, capsys=capsys)
    assert code == 2
    assert "schema version 2" in said
    assert sorted(run.rglob("*")) == before


def test_status_says_what_is_there_in_every_state(own, capsys):
    folder, config, run = own

    def status(where=run):
        code, said = call("status", where, capsys=capsys)
        assert code == 0
        assert len(said.splitlines()) == 6
        return said

    assert "a run would do nothing: all of it is made" in status()
    assert re.findall(r"^\w+ +(made|to do)", status(), re.MULTILINE) == ["made"] * 4
    begun = folder / "begun"
    Run(make_config(config), begun, options=Options(progress=False)).vector()
    assert re.findall(r"^\w+ +(made|to do)", status(begun), re.MULTILINE) == ["made", *["to do"] * 3]
    assert "a run would do sample, score, report" in status(begun)
    call("sample", run, "--set", "sampling.n=12", "--quiet", capsys=capsys)
    said = status()
    assert re.findall(r"^\w+ +(made|to do)", said, re.MULTILINE) == ["made", "made", "to do", "to do"]
    assert "finished units are kept" in said
    do_all(config, run)
    edit_weights(folder)
    said = status()
    assert said.count("the files of the model have been changed") == 3
    assert "and look first whether vector, sample, score still holds" in said
    (run / "scores.parquet").unlink()
    assert "scores.parquet is missing" in status()


def test_status_says_what_a_run_with_other_settings_would_do(own, capsys):
    folder, _, run = own
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    asked = {
        "sampling.seed=5": "a run would do vector, sample, score, report\n",
        "scoring.multipliers=[1,2]": "a run would do score, report\n",
        "sampling.n=10": "a run would do nothing: all of it is made\n",  # as it is
    }
    for setting, words in asked.items():
        code, said = call("status", run, "--set", setting, capsys=capsys)
        assert (code, words in said) == (0, True), said
        section, key, _ = re.split("[.=]", setting, maxsplit=2)
        assert (f"[{section}] {key} is " in said) == ("do nothing" not in said)
    config = folder / "other.toml"
    config.write_text(f"[prompts]\npath = '{folder / 'pairs.jsonl'}'\n[vector]\npairs = '{folder / 'pairs.jsonl'}'\n")
    code, said = call("status", run, config, capsys=capsys)
    assert code == 0
    assert re.search(r"^sample +to do +\[model\] name is '.*tiny-chooser', it followed", said, re.MULTILINE)
    config.write_text("[prompts]\npath = 'gone.jsonl'\n")
    code, said = call("status", run, config, capsys=capsys)  # as the run would say
    assert code == 2
    assert "gone.jsonl" in said
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_status_says_that_another_process_is_at_work_and_does_not_disturb_it(own, capsys):
    _, _, run = own
    told = "another process is at work there: a run would be refused until its end\n"
    with store.hold_run(run):
        code, said = call("status", run, capsys=capsys)
        assert code == 0
        assert said.endswith(told)
        with pytest.raises(InputError, match="another process is at work there"), store.hold_run(run):
            pass
    before = sorted(path.name for path in run.iterdir())
    assert told not in call("status", run, capsys=capsys)[1]
    with store.hold_run(run):
        pass
    (run / ".lock").unlink()
    assert told not in call("status", run, capsys=capsys)[1]
    assert sorted(path.name for path in run.iterdir()) == sorted({*before} - {".lock"})


def test_a_run_that_grows_says_how_to_have_again_what_it_removed(own, capsys):
    _, _, run = own
    plan = ["plan", str(run), "--validate", "--draws", "2", "--quiet"]
    for command in (["figures", str(run), "--only", "prompts"], plan):
        assert cli.main(command) == 0
    capsys.readouterr()
    assert cli.main(["run", "--out", str(run), "--set", "scoring.multipliers=[-1,1,2]", "--quiet"]) in (0, 3)
    said = [line for line in capsys.readouterr().err.splitlines() if "removed" in line]
    assert said == [
        "completions-lp: score: figures/ and validation.parquet of an earlier score stage no longer hold; removed "
        f"(`completions-lp figures {run}` and `completions-lp plan {run} --validate` make them again)"
    ]
    assert not list((run / "figures").glob("*"))
    assert not (run / "validation.parquet").exists()
    assert cli.main(plan) == 0


def test_status_names_only_the_stages_that_a_run_would_do(own, capsys):
    """The vector stage is nothing that the sample stage reads."""
    _, config, run = own
    before = (run / "completions.parquet").stat().st_mtime_ns
    (run / "vectors/pairs.safetensors").write_bytes(b"")
    code, said = call("status", run, capsys=capsys)
    assert code == 0
    assert "a run would do vector, score, report\n" in said
    assert call("clean", run, capsys=capsys)[0] == 2
    do_all(config, run)
    assert (run / "completions.parquet").stat().st_mtime_ns == before


EDITED = {
    "a setting that there is not": lambda info: info["stages"]["sample"]["settings"].update({"foo.bar": 1}),
    "a setting below a key": lambda info: info["stages"]["sample"]["settings"].update({"sampling.n.x": {"y": 1}}),
    "a section for a key": lambda info: info["stages"]["sample"]["settings"].update({"sampling.n": {"y": 1}}),
    "no settings": lambda info: info["stages"]["sample"].update(settings={}),
    "no model as asked": lambda info: info["model"].pop("asked"),
    "no files of the model": lambda info: info["model"].pop("files"),
    "no model": lambda info: info.pop("model"),
    "no weights": lambda info: info["model"].pop("weights"),
    "a stage that there is not": lambda info: info["stages"].update(odd={}),
    "a file elsewhere": lambda info: info["stages"]["sample"]["files"].update({"../elsewhere": "x"}),
    "a long name": lambda info: info["stages"]["sample"]["files"].update({"a\0b": "x", "x" * 5000: "y"}),
    "a source": lambda info: info["stages"]["sample"]["sources"].update({"a\0b\x1b[31m": "x"}),
    "a long path": lambda info: info["config"]["prompts"].update(path="x" * 5000),
    "nobody's model": lambda info: info["config"]["model"].update(name="~nobody/x"),
    "a model that no hub has": lambda info: info["config"]["model"].update(name="a--b/.."),
    "no score stage": lambda info: info["stages"].pop("score"),
    "no vector stage": lambda info: info["stages"].pop("vector"),
}


@pytest.mark.parametrize("name", EDITED)
def test_a_run_json_edited_by_hand_ends_no_command_in_a_traceback(place, tmp_path, capsys, name):
    run = tmp_path / "run"
    shutil.copytree(place[0] / "base", run)
    info = read_info(run)
    EDITED[name](info)
    (run / "run.json").write_text(json.dumps(info))
    for command in ("status", "clean", "report", "score"):
        quiet = ["--quiet"] * (command in ("report", "score"))
        code, said = call(command, run, *quiet, capsys=capsys)
        assert code in (0, 2, 3)
        assert "\x1b" not in said


def test_a_report_without_a_run_behind_it_is_saved_and_loads(place, tmp_path):
    report = load(place[0] / "base")
    replace(report, info={}).save(tmp_path / "saved")
    assert [repr(row) for row in load(tmp_path / "saved").rows] == [repr(row) for row in report.rows]


def test_a_run_that_is_stopped_in_the_middle_keeps_what_is_finished(own, monkeypatch):
    _, config, run = own
    more, done = change(config, {"scoring.multipliers": [-1.0, 1.0, 2.0]}), []

    def stop(*arguments, **options):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return score(*arguments, **options)

    from completions_lp.work import tasks

    score = tasks.score_places
    monkeypatch.setattr(tasks, "score_places", stop)
    with pytest.raises(KeyboardInterrupt):
        do_all(more, run)
    monkeypatch.undo()
    score_status = find_status(run)[2]
    assert not score_status.made
    assert score_status.units > 0
    with pytest.raises(InputError, match="the score stage is not finished, or stale"):
        clean_run(run)
    do_all(more, run)
    assert all(stage.made for stage in find_status(run))


def test_clean_removes_the_units_in_no_table_and_nothing_else(own, capsys):
    _, config, run = own
    used = {name for stage in read_info(run)["stages"].values() for name in stage["units"]}
    do_all(change(config, {"scoring.multipliers": [-1.0, 1.0, 2.0], "sampling.n": 14}), run)
    do_all(config, run)
    there = {path.relative_to(run).as_posix() for path in (run / "units").glob("*/*/*")}
    assert used < there
    kind = run / "units/scores"
    foreign = [kind / "note.txt", next(kind.iterdir()) / "mine.parquet", run / "units" / "paper.pdf"]
    for path in foreign:
        path.write_text("mine")
    tables = {name: (run / name).read_bytes() for name in list_tables(run)}
    code, said = call("clean", run, capsys=capsys)
    assert code == 0
    assert said.startswith(f"{len(there - used)} units removed, ")
    left = {path.relative_to(run).as_posix() for path in (run / "units").rglob("*") if path.is_file()}
    assert left == used | {path.relative_to(run).as_posix() for path in foreign}
    assert call("clean", run, capsys=capsys)[1] == "0 units removed, 0.0 MB\n"
    assert not do_all(config, run).has_worked
    assert {name: (run / name).read_bytes() for name in list_tables(run)} == tables
