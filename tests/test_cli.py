import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import safetensors.numpy
import tokenizers
import transformers
from conftest import make_module
from test_prompts import ROW, write

import completions_lp
from completions_lp import cli, store
from completions_lp.job.config import Config, load_config, make_config, make_schema
from completions_lp.show.escape import escape_text

TABLES = ("questions", "completions", "scores", "measures", "profile", "choices", "prompts", "summary", "slopes")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, tokenizer):
    """A tiny random model on disk, with its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_module("llama", num_hidden_layers=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def config(tmp_path, model_folder):
    """A configuration of a small run, whose prompts and pairs lie beside it."""
    rows = [{**ROW, "question": f"{word}?\n (A) x\n (B) y"} for word in ("Is it", "Or", "What now", "I", "So", "Yes")]
    write(tmp_path, rows)
    write(tmp_path, [{**row, "question": f"{row['question']}!"} for row in rows], "pairs.jsonl")
    path = tmp_path / "config.toml"
    path.write_text(
        f'''
        [model]
        name = "{model_folder}"
        [prompts]
        path = "asked.jsonl"
        [vector]
        pairs = "pairs.jsonl"
        [sampling]
        n = 40
        max_new_tokens = 4
        [scoring]
        multipliers = [-1, 1]
        [label]
        rule = "substring"
        [controls]
        random_directions = 1
        shuffled_labels = 1
        negated = true
        '''
    )
    return path


def run_python(code):
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def is_heavy(module):
    """Which of the slow packages a fresh interpreter has loaded after an import."""
    names = "('torch', 'transformers', 'nnsight', 'datasets', 'matplotlib', 'scipy')"
    return run_python(f"import sys, {module}; print(*[n for n in {names} if n in sys.modules])").split()


def test_help_is_quick_and_names_every_command():
    done = subprocess.run(
        [sys.executable, "-m", "completions_lp", "--help"], capture_output=True, text=True, check=True
    )
    listed = re.findall(r"^  (\w+)  +\S.*$", done.stdout, re.MULTILINE)
    stages = ["vector", "sample", "score", "report"]
    after = [
        "status",
        "clean",
        "figures",
        "compare",
        "export",
        "import",
        "labels",
        "plan",
        "doctor",
        "vectors",
        "share",
        "submit",
    ]
    assert listed == ["run", "config", *stages, *after]
    assert "..." not in done.stdout.partition("Commands:")[2]  # every line says what it has to say
    assert "Exit codes: 0 done, 2 the input is wrong, 3 the report is written and has an ERROR" in done.stdout
    assert done.stderr == ""


def test_the_command_line_imports_no_network():
    assert is_heavy("completions_lp.cli") == []
    assert is_heavy("completions_lp") == []
    assert is_heavy("completions_lp.model")[:3] == ["torch", "transformers", "nnsight"]  # a test of this test


def test_what_needs_no_weights_imports_nothing_that_loads_them():
    """A report, or a run with nothing left to do: transformers' models take as long to import as all the rest."""
    code = "import sys, completions_lp.job.stages; print('transformers.modeling_utils' in sys.modules)"
    assert run_python(code) == "False\n"


def test_a_run_writes_its_directory_and_prints_its_table(tmp_path, config, capsys):
    out = tmp_path / "out"
    assert cli.main(["run", str(config), "--out", str(out), "--quiet", "--tokens"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "to the answer" in printed.out
    assert "Noise floor" in printed.out
    assert f"Run directory: {out}" in printed.out
    names = {path.name for path in out.iterdir()}
    files = {f"{name}.parquet" for name in TABLES} | {"summary.csv", "slopes.csv", "report.md", "run.json"}
    assert names >= files | {"tokens.parquet"}
    assert "steered.parquet" not in names  # nothing was asked of the steered model
    vectors = {path.stem for path in (out / "vectors").iterdir()}
    assert vectors == {"pairs", "pairs-negated", "pairs-random-0", "pairs-shuffled-0", "rounding"}
    info = json.loads((out / "run.json").read_text())
    assert make_config(info["config"]).sampling.n == 40
    assert info["checks"]["noise_floor"] <= 1e-5
    assert info["checks"]["sampler_gap"] <= 5e-4
    assert set(info["timings"]) == {"vector", "sample", "dose", "score", "choices", "report"}
    assert info["model"]["n_layers"] == 2
    assert info["versions"]["torch"]
    scores = pyarrow.parquet.read_table(out / "scores.parquet")
    completions = pyarrow.parquet.read_table(out / "completions.parquet")
    n_conditions = 1 + 4 * 2 * 2 + 2  # the noise floor, the grid, and what tells rounding
    assert scores.num_rows == n_conditions * completions.num_rows
    assert sum(completions["count"].to_pylist()) == 6 * 40
    changed = np.abs(scores["increase"].to_numpy())[completions.num_rows :]
    assert np.median(changed) > 1e-3
    tokens = pyarrow.parquet.read_table(out / "tokens.parquet").to_pandas()
    assert (tokens["kl"] >= 0).all()
    assert (tokens["entropy"] > 0).all()
    assert (tokens["answer_logprob"] < 0).all()  # -inf where no token would complete the answer
    by = ["vector", "layer", "multiplier", "prompt_id", "completion_id"]
    assert len(tokens.drop_duplicates(["vector", "layer", "multiplier"])) == n_conditions
    sums = tokens.groupby(by)["increase"].sum().sort_index()
    whole = scores.to_pandas().set_index(by)["increase"].sort_index()
    np.testing.assert_allclose(sums, whole, atol=1e-5)
    measures = pyarrow.parquet.read_table(out / "measures.parquet").to_pandas()
    assert len(measures) == n_conditions * 6
    low, high = (measures[f"p_A_steered_{side}"] for side in ("low", "high"))
    assert measures["p_A_steered"].between(low, high).all()
    assert measures[["p_A", "p_A_steered", "kl", "kl_reverse", "increase_to_answer_A_rb"]].notna().all().all()
    assert set(measures["trust"]) <= {"certified", "green", "red"}
    assert (measures["n_steered"] == 0).all()
    zero = measures[measures["multiplier"] == 0]
    np.testing.assert_allclose(zero["p_A_steered"], zero["p_A"], atol=1e-5)
    np.testing.assert_allclose(zero[["kl", "kl_reverse"]], 0, atol=1e-4)


def test_stages_one_by_one_give_the_run(tmp_path, config, model_folder, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    own = tmp_path / "model"
    shutil.copytree(model_folder, own)
    change = ["--quiet", "--set", f"model.name={own}"]
    assert cli.main(["run", str(config), "--out", str(whole), *change]) == 0
    assert cli.main(["vector", str(parts), "--config", str(config), *change]) == 0
    for stage in ("sample", "score"):
        assert cli.main([stage, str(parts), "--quiet"]) == 0
    shutil.rmtree(own)  # a report needs no model
    capsys.readouterr()
    assert cli.main(["report", str(parts), "--quiet"]) == 0
    assert "to the answer" in capsys.readouterr().out
    for name in (*TABLES, "tokens"):
        one, two = (pyarrow.parquet.read_table(folder / f"{name}.parquet") for folder in (whole, parts))
        assert one.equals(two, check_metadata=False) or str(one.to_pylist()) == str(two.to_pylist()), name
    assert (whole / "summary.csv").read_bytes() == (parts / "summary.csv").read_bytes()
    assert (whole / "report.md").read_text() == (parts / "report.md").read_text()
    assert set(store.read_info(parts)["timings"]) == {"vector", "sample", "dose", "score", "choices", "report"}


def test_the_tokens_of_one_layer_are_kept_without_being_asked_for(tmp_path, config):
    out = tmp_path / "out"
    change = ["--set", "scoring.multipliers=[-1, 0, 0.5, 1]"]
    assert cli.main(["run", str(config), "--out", str(out), "--quiet", *change]) == 0
    tokens = pyarrow.parquet.read_table(out / "tokens.parquet").to_pandas()
    kept = tokens.drop_duplicates(["vector", "kind", "layer", "multiplier"])
    assert set(kept["kind"]) == {"target"}
    assert len(set(kept["layer"])) == 1
    assert sorted(kept["multiplier"]) == [-1, 0.5, 1]
    completions = pyarrow.parquet.read_table(out / "completions.parquet").to_pandas()
    assert len(tokens) == 3 * completions["token_ids"].map(len).sum()
    measures = pyarrow.parquet.read_table(out / "measures.parquet").to_pandas()
    own = measures[measures["kind"] == "target"]
    towards = np.sign(own["multiplier"]) * (own["p_A_steered"] - own["p_A"])
    assert towards.groupby(own["layer"]).sum().abs().idxmax() == kept["layer"].iloc[0]


def test_what_is_red_is_topped_up_with_draws_of_the_steered_model(tmp_path, config, capsys):
    few, topped = tmp_path / "few", tmp_path / "topped"
    change = ["--quiet", "--set", "sampling.n=30", "--set", "vector.layers=[0]", "--set", "scoring.multipliers=[0, 1]"]
    assert cli.main(["run", str(config), "--out", str(few), *change]) == 0
    assert cli.main(["run", str(config), "--out", str(topped), *change, "--set", "sampling.top_up=30"]) == 0
    one, two = (pyarrow.parquet.read_table(folder / "measures.parquet").to_pandas() for folder in (few, topped))
    red = one["trust"] == "red"
    assert 0 < red.sum() < len(red)
    assert (two["n_steered"] == np.where(red, 30, 0)).all()
    columns = [name for name in one.columns if name != "n_steered"]
    assert two[~red][columns].equals(one[~red][columns])
    narrower = (two["p_A_steered_high"] - two["p_A_steered_low"]) - (one["p_A_steered_high"] - one["p_A_steered_low"])
    assert (narrower[red] < 0).all()
    steered = pyarrow.parquet.read_table(topped / "steered.parquet").to_pandas()
    by = ["vector", "layer", "multiplier", "prompt_id"]
    drawn = steered.groupby(by)["count"].sum()
    assert (drawn == 30).all()
    assert set(drawn.index) == set(two[red].set_index(by).index)
    capsys.readouterr()
    assert cli.main(["report", str(topped), "--quiet", "--set", "sampling.top_up=0"]) == 2
    assert "[sampling] top_up is 0, but" in capsys.readouterr().err
    assert cli.main(["score", str(topped), "--quiet", "--set", "sampling.top_up=0"]) == 0
    assert not (topped / "steered.parquet").exists()
    back = pyarrow.parquet.read_table(topped / "measures.parquet").to_pandas()
    assert back.equals(one)


def test_divergences_may_be_left_out(tmp_path, config, capsys):
    out = tmp_path / "out"
    assert cli.main(["run", str(config), "--out", str(out), "--quiet", "--set", "scoring.kl=false"]) == 0
    assert capsys.readouterr().err == ""
    names = pyarrow.parquet.read_schema(out / "tokens.parquet").names
    assert not {"kl", "kl_reverse", "entropy"} & set(names)
    assert "answer_logprob" in names
    measures = pyarrow.parquet.read_table(out / "measures.parquet").to_pandas()
    assert measures[["kl", "kl_reverse", "excess_surprisal"]].isna().all().all()
    assert measures[["p_A", "p_A_steered", "first_A", "first_B_steered"]].notna().all().all()
    summary = pyarrow.parquet.read_table(out / "summary.parquet").to_pandas().set_index("quantity")
    assert summary.loc["kl", "value"].isna().all()
    assert summary.loc["delta_p_A", "value"].notna().all()


def test_a_control_is_the_target_without_another_direction(tmp_path, config):
    first, second = tmp_path / "first", tmp_path / "second"
    assert cli.main(["vector", str(first), "--config", str(config), "--quiet"]) == 0
    other = first / "vectors" / "pairs-random-0.safetensors"
    change = ["--set", f"controls.orthogonal_to=['{other}']", "--set", "sampling.n=3"]
    assert cli.main(["run", str(config), "--out", str(second), "--quiet", *change]) == 0
    vectors = {v.name: v for v in store.read_vectors(second)}
    rest, away = vectors["pairs-without-pairs-random-0"], store.read_vector(other)
    assert rest.kind == "orthogonal"
    for layer, direction in vectors["pairs"].directions.items():
        assert abs(rest.directions[layer] @ away.directions[layer]) < 1e-5 * np.linalg.norm(direction) ** 2
        assert np.linalg.norm(rest.directions[layer]) == pytest.approx(np.linalg.norm(direction), rel=1e-6)
    summary = pyarrow.parquet.read_table(second / "summary.parquet").to_pandas()
    assert {"target", "orthogonal", "random"} <= set(summary["kind"])


def test_a_stored_vector_is_used_again(tmp_path, config, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert cli.main(["vector", str(first), "--config", str(config), "--quiet"]) == 0
    vector = first / "vectors" / "pairs.safetensors"
    change = ["--set", f"vector.path={vector}", "--set", "controls.shuffled_labels=0"]
    assert cli.main(["vector", str(second), "--config", str(config), "--quiet", *change]) == 0
    one, two = (store.read_vectors(folder)[0] for folder in (first, second))
    assert (two.name, two.kind, dict(two.provenance)) == ("pairs", "target", dict(one.provenance))
    assert np.array_equal(one.directions[1], two.directions[1])


def bad_line(tmp_path):
    with (tmp_path / "asked.jsonl").open("a") as file:
        file.write("{bad\n")


def bad_row(tmp_path):
    with (tmp_path / "asked.jsonl").open("a") as file:
        file.write('{"question": "q", "answer_matching_behavior": "(A)"}\n')


def bad_vector(tmp_path):
    safetensors.numpy.save_file({"layer.0": np.ones(7, dtype=np.float32)}, tmp_path / "v.safetensors")


def nothing(tmp_path):
    pass


@pytest.mark.parametrize(
    ("prepare", "change", "message"),
    [
        (lambda folder: (folder / "asked.jsonl").unlink(), [], "{folder}/asked.jsonl: no such file"),
        (lambda folder: (folder / "asked.jsonl").write_text(""), [], "{folder}/asked.jsonl: the file is empty"),
        (lambda folder: (folder / "pairs.jsonl").unlink(), [], "{folder}/pairs.jsonl: no such file"),
        (bad_line, [], "{folder}/asked.jsonl, line 7: not valid JSON: Expecting property name enclosed in double"),
        (bad_row, [], "{folder}/asked.jsonl, line 7: no field 'answer_not_matching_behavior' (an answer); its fields"),
        (
            nothing,
            ["prompts.template={topic}"],
            "{folder}/asked.jsonl, line 1: no field 'topic' (needed by the template",
        ),
        (nothing, ["prompts.letters=['C', 'D']"], "{folder}/asked.jsonl: no prompts with both answers among C, D"),
        (nothing, ["label.target=C"], "target 'C' is an answer of no prompt"),
        (
            bad_vector,
            ["vector.path={folder}/v.safetensors", "controls.shuffled_labels=0"],
            "vector 'v' has size 7, but",
        ),
        (nothing, ["scoring.layers=[0, 2]"], "layer 2 is out of range: {model} has layers 0 to 1"),
        (
            nothing,
            ["vector.layers=[-1]", "scoring.layers=[-1]"],
            "[vector] layers is [-1]; it must be 'all' or a list (each entry greater than or equal to 0)",
        ),
        (nothing, ["sampling.temperature=-0.5"], "temperature is -0.5; it must be above 0"),
        (nothing, ["sampling.temprature=1"], "unknown key of [sampling]: 'temprature'; the nearest is 'temperature'"),
        (nothing, ["sampling.max_new_tokens=200"], "prompt '"),
        (nothing, ["model.name={folder}/none"], "model '{folder}/none': no such folder"),
        (nothing, ["model.device=abacus"], "device 'abacus' is none of auto, cpu, cuda, cuda:N, mps"),
        (nothing, ["model.dtype=int3"], "dtype 'int3' is none of auto, float64, float32"),
        (nothing, ["prompts.path=\x1b[31m.jsonl"], "\\x1b[31m.jsonl: no such file"),
    ],
)
def test_wrong_input_gets_one_line_and_nothing_is_written(
    tmp_path, config, model_folder, capfd, prepare, change, message
):
    prepare(tmp_path)
    out = tmp_path / "out"
    places = {"{folder}": str(tmp_path), "{model}": str(model_folder)}
    for place, path in places.items():
        change = [item.replace(place, path) for item in change]
        message = message.replace(place, path)
    arguments = [part for item in change for part in ("--set", item)]
    assert cli.main(["run", str(config), "--out", str(out), "--quiet", *arguments]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"completions-lp: {message}")
    assert printed.err.count("\n") == 1
    assert printed.err[:-1].isprintable()
    assert not out.exists()


def test_an_answer_that_the_tokenizer_cannot_express_is_wrong_input(tmp_path, config, model_folder, capfd):
    words = {word: i for i, word in enumerate(["<unk>", "(", ")", "Answer", ":"])}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    mute = tmp_path / "mute"
    shutil.copytree(model_folder, mute)
    transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>").save_pretrained(mute)
    out = tmp_path / "out"
    assert cli.main(["run", str(config), "--out", str(out), "--quiet", "--set", f"model.name={mute}"]) == 2
    printed = capfd.readouterr()
    assert "the tokenizer cannot express the answer 'A' against 'B': their token ids are" in printed.err
    assert printed.err.count("\n") == 1
    assert not out.exists()


def test_a_folder_that_holds_files_and_no_run_is_refused(tmp_path, config, capsys):
    out = tmp_path / "out"
    for name in ("figures/paper.pdf", "vectors/mine.safetensors", "prompts.parquet", "summary.csv", "report.md"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for command in (["run", str(config), "--out", str(out)], ["vector", str(out), "--config", str(config)]):
        for flag in ([], ["--overwrite"] * (command[0] == "run")):
            assert cli.main([*command, *flag, "--quiet"]) == 2
            message = "holds files and no run (figures, prompts.parquet, report.md and 2 more): a run needs a directory"
            assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_what_the_run_did_not_write_stays(tmp_path, config):
    out = tmp_path / "out"
    assert cli.main(["run", str(config), "--out", str(out), "--quiet"]) == 0
    assert cli.main(["figures", str(out), "--only", "layer_sweep"]) == 0
    mine = [out / name for name in ("notes.txt", "figures/paper.pdf", "figures/raw.csv", "vectors/mine.safetensors")]
    for path in mine:
        path.write_text("mine")
    assert cli.main(["run", str(config), "--out", str(out), "--quiet", "--overwrite"]) == 0
    assert cli.main(["score", str(out), "--quiet", "--set", "scoring.multipliers=[1.5]"]) == 0
    assert [path.read_text() for path in mine] == ["mine"] * 4
    assert not (out / "figures/layer_sweep.pdf").exists()


def test_a_file_in_the_way_is_not_replaced(tmp_path, config, capsys):
    out = tmp_path / "out"
    assert cli.main(["vector", str(out), "--config", str(config), "--quiet"]) == 0
    (out / "completions.parquet").write_text("mine")
    assert cli.main(["sample", str(out), "--quiet"]) == 2
    assert "completions.parquet is in the way" in capsys.readouterr().err
    assert (out / "completions.parquet").read_text() == "mine"


@pytest.mark.parametrize(
    ("stage", "message"),
    [("score", "no questions.parquet; run the sample stage first"), ("report", "not a run directory (no run.json)")],
)
def test_a_stage_without_the_one_before_says_so(tmp_path, config, capsys, stage, message):
    assert cli.main([stage, str(tmp_path / "out"), "--config", str(config), "--quiet"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        ("vector", "vector.pairs=none.jsonl", "none.jsonl: no such file"),
        ("vector", "vector.path=none.safetensors", "none.safetensors: no such file"),
        ("vector", 'controls.orthogonal_to=["none.safetensors"]', "none.safetensors: no such file"),
        ("vector", "scoring.layers=[5]", "layer 5 is out of range"),
        ("vector", "prompts.template={question} " + "x" * 200, "contrast pair 1 has 2"),
        ("sample", "prompts.path=none.jsonl", "none.jsonl: no such file"),
        ("sample", "label.target=C", "target 'C' is an answer of no prompt"),
    ],
)
def test_a_stage_checks_before_it_writes(tmp_path, config, capfd, stage, change, message):
    out = tmp_path / "out"
    change = ["--set", change, "--set", "controls.shuffled_labels=0"]
    assert cli.main([stage, str(out), "--config", str(config), "--quiet", *change]) == 2
    assert capfd.readouterr().err.startswith(f"completions-lp: {message}")
    assert not out.exists()


def test_scoring_checks_before_it_drops_what_is_there(tmp_path, config, capfd):
    out = tmp_path / "out"
    assert cli.main(["run", str(config), "--out", str(out), "--quiet"]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    for change in ("label.target=C", "scoring.layers=[9]"):
        assert cli.main(["score", str(out), "--quiet", "--set", change]) == 2
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_a_run_directory_that_cannot_be_is_wrong_input(tmp_path, config, capfd):
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/under"):
        assert cli.main(["run", str(config), "--out", str(tmp_path / out), "--quiet"]) == 2
        error = capfd.readouterr().err
        assert error.startswith(f"completions-lp: {tmp_path / out}: cannot be made a run directory: ")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["steer"], "No such command 'steer'. See completions-lp --help"),
        ([], "Missing command. See completions-lp --help"),
        (["run", "--outt", "x"], "No such option '--outt'. (Did you mean one of: '--out', '--quiet'?) See completions"),
        (["sample"], "Missing argument 'DIR'. See completions-lp sample --help"),
        (["compare"], "Missing argument 'DIR...'. See completions-lp compare --help"),
        (["plan", "x", "--layer", "\x1b"], "Invalid value for '--layer': '\\x1b' is not a valid integer. See"),
    ],
)
def test_a_wrong_command_line_is_wrong_input(capsys, arguments, message):
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"completions-lp: {message}")
    assert printed.err.count("\n") == 1
    assert printed.err[:-1].isprintable()


def test_the_version_is_told(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"completions-lp {completions_lp.__version__}\n"


def test_a_reader_that_goes_away_is_no_error_to_shout_about():
    read, write_end = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "completions_lp", "config"]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, "")


def test_an_interrupt_is_told_in_a_line(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("completions_lp.job.config.format_defaults", interrupt)
    assert cli.main(["config"]) == 130
    assert capsys.readouterr().err.strip() == "completions-lp: stopped"


def test_a_configuration_to_begin_with_is_printed(tmp_path, capsys):
    assert cli.main(["config"]) == 0
    path = tmp_path / "mine.toml"
    path.write_text(capsys.readouterr().out)
    assert load_config(path) == Config()
    assert cli.main(["config", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == make_schema()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.toml"], "nowhere.toml: no such file"),
        (["run", "--set", "sampling.nn=3"], "unknown key of [sampling]: 'nn'; the nearest is 'n'"),
        (["run", "--set", "prompts.path=x.jsonl"], "x.jsonl: no such file"),
        (["run", "--set", "vector.pairs=x.csv"], "x.csv: no such file"),
        (["run", "--set", "vector.path=x"], "x: no such file"),
        (["run", "--set", "controls.orthogonal_to=['x.safetensors']"], "x.safetensors: no such file"),
        (["run", "--out", "file/under"], "file/under: cannot be made a run directory: "),
        (["run", "--out", "."], ". holds files and no run (c.toml, file, held and 1 more): a run needs"),
        (["vector", "new", "--config", "c.toml", "--set", "vector.pairs=x.jsonl"], "x.jsonl: no such file"),
        (["sample", "new", "--config", "c.toml", "--set", "prompts.path=x.jsonl"], "x.jsonl: no such file"),
        (
            ["vector", "hold"],
            "hold: not a run directory (no run.json); --config CONFIG.toml starts a new run there; did you mean held",
        ),
        (["sample", "nodir"], "nodir: not a run directory (no run.json); --config CONFIG.toml starts a new run there"),
        (["sample", "plain"], "plain: not a run directory (no run.json); --config"),
        (["score", "nodir"], "nodir: not a run directory (no run.json)\n"),
        (["report", "hled"], "hled: not a run directory (no run.json); did you mean held?\n"),
        (["report", "nodir", "--config", "c.toml"], "nodir: not a run directory (no run.json)\n"),
        (["figures", "nodir"], "nodir: not a run directory (no run.json)\n"),
        (["compare", "held", "nodir"], "nodir: not a run directory (no run.json)\n"),
        (["plan", "nodir"], "nodir: not a run directory (no run.json)\n"),
        (["plan", "nodir", "--validate"], "nodir: not a run directory (no run.json)\n"),
    ],
)
def test_what_needs_no_model_is_checked_before_torch_is_imported(tmp_path, arguments, message):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "c.toml").write_text("")
    (tmp_path / "plain").mkdir()
    store.start_run(tmp_path / "held", {"config": Config().model_dump()})
    before = sorted(tmp_path.rglob("*"))
    slow = "'torch', 'scipy', 'matplotlib', 'datasets'"
    code = f"from completions_lp import cli; import sys; code = cli.main({arguments!r}); "
    code += f"print(code, [name for name in ({slow}) if name in sys.modules])"
    command, places = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, cwd=tmp_path, env=places, capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
    assert done.stderr.startswith(f"completions-lp: {message}")
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_terminal_of_plain_ascii_gets_the_table(tmp_path, config):
    command = [sys.executable, "-m", "completions_lp", "run", str(config), "--out", str(tmp_path / "out"), "--quiet"]
    places = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii", "LC_ALL": "POSIX"}
    done = subprocess.run(command, env=places, capture_output=True, check=False)
    assert done.returncode in (0, 3)
    assert "ΔP(".encode() in done.stdout
    assert b"Traceback" not in done.stderr


def test_a_place_where_nothing_can_be_written_is_told(tmp_path, config, capsys, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / "out"))

    monkeypatch.setattr("completions_lp.job.places.check_files", fail)
    assert cli.main(["run", str(config), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"completions-lp: {tmp_path / 'out'}: Permission denied\n"


def test_a_place_without_permission_is_told(tmp_path, config, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.F_OK and Path(path).exists())
    assert cli.main(["run", str(config), "--out", str(tmp_path / "out")]) == 2
    assert f"cannot be made a run directory: no permission to write in {tmp_path}" in capsys.readouterr().err


def test_control_characters_become_visible():
    assert escape_text("a\x1b[31mb\r\x07\u202ec\nd é") == "a\\x1b[31mb\\r\\x07\\u202ec\nd é"


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        ("score", "sampling.n=7", "[sampling] n is 7, but"),
        ("score", "label.within=2", "[label] within is 2, but"),
        ("report", "scoring.multipliers=[3.0]", "[scoring] multipliers is"),
        ("report", "label.target=B", "[label] target is 'B', but"),
        ("report", "scoring.kl=false", "[scoring] kl is False, but"),
    ],
)
def test_a_later_stage_does_not_pretend_that_an_earlier_one_was_another(
    tmp_path, config, capsys, stage, change, message
):
    folder = tmp_path / "run"
    assert cli.main(["run", str(config), "--out", str(folder), "--quiet"]) == 0
    before = (folder / "run.json").read_bytes()
    capsys.readouterr()
    assert cli.main([stage, str(folder), "--quiet", "--set", change]) == 2
    assert message in capsys.readouterr().err
    assert (folder / "run.json").read_bytes() == before


def test_the_same_completions_may_be_scored_for_another_target(tmp_path, config, capsys):
    folder = tmp_path / "run"
    assert cli.main(["run", str(config), "--out", str(folder), "--quiet", "--set", "label.target=A"]) == 0
    said = (folder / "completions.parquet").read_bytes()
    for_a = pyarrow.parquet.read_table(folder / "measures.parquet").to_pandas()
    assert cli.main(["score", str(folder), "--quiet", "--set", "label.target=B"]) == 0
    capsys.readouterr()
    assert cli.main(["report", str(folder), "--quiet"]) == 0
    assert 'A: the answer "B", given within' in capsys.readouterr().out
    assert (folder / "completions.parquet").read_bytes() == said
    for_b = pyarrow.parquet.read_table(folder / "measures.parquet").to_pandas()
    np.testing.assert_allclose(for_b["first_A_steered"], for_a["first_B_steered"], atol=1e-6)
    np.testing.assert_allclose(for_b["kl"], for_a["kl"], atol=1e-6)
