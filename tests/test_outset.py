"""What is wrong with a run's input is refused before anything slow is imported."""

import json
import logging
import os
import subprocess
import sys
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest

from completions_lp import cli, store
from completions_lp.checkpoint import Outline, check_length, locate, read_shape
from completions_lp.cli import notices
from completions_lp.job.config import DATA, EMBEDDED
from completions_lp.model import engine, load_model
from completions_lp.prompts import load_pairs, load_prompts
from completions_lp.records import InputError, SteeringVector
from completions_lp.records.base import Notice

SLOW = ("torch", "transformers", "nnsight", "datasets", "matplotlib", "scipy")
ROW = {"question": "Is it?", "answer_matching_behavior": " (A)", "answer_not_matching_behavior": " (B)"}


def run_fresh(commands, **environment):
    """Of commands that one fresh interpreter runs in a row: exit code, last line, and which slow packages are there."""
    code = f"""
import contextlib, io, json, sys
from completions_lp.cli import main
for command in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = main(command)
    print(json.dumps([code, said.getvalue(), [name for name in {SLOW} if name in sys.modules]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def write_files(folder):
    """Files that are wrong, each in its own way."""
    (folder / "broken.jsonl").write_text(json.dumps(ROW) + "\n{\n")
    (folder / "fieldless.jsonl").write_text(json.dumps({**ROW, "answer_matching_behavior": 3.5, "question": None}))
    (folder / "alike.jsonl").write_text(json.dumps({**ROW, "answer_matching_behavior": " (B)"}))
    (folder / "long.jsonl").write_text(json.dumps({**ROW, "question": "word " * 600}))
    (folder / "noise.safetensors").write_bytes(b"\xff" * 64)
    (folder / "config.toml").write_text("[sampling]\nn = 'many'\n")
    store.write_vector(folder, SteeringVector("narrow", "target", {0: np.ones(8)}))
    store.write_vector(folder, SteeringVector("deep", "target", {9: np.ones(128)}))
    model = folder / "modelless"
    model.mkdir()
    (model / "config.json").write_text((DATA / "tiny-chooser" / "config.json").read_text())


def test_what_is_wrong_is_refused_before_anything_slow_is_imported(tmp_path):
    write_files(tmp_path)
    out = ["--out", str(tmp_path / "out")]

    def set_to(text):
        return ["run", *out, "--set", text]

    def ask(key, value):
        return set_to(f"{key}={json.dumps(value)}")

    def name(file):
        return str(tmp_path / file)

    table = [
        (["report", name("nowhere")], "not a run directory"),
        (["score", name("nowhere")], "not a run directory"),
        (["run", name("config.toml"), *out], "[sampling] n is 'many'"),
        (ask("sampling.m", 3), "unknown key of [sampling]: 'm'"),
        (ask("model.dtype", "float8"), "dtype 'float8' is none of"),
        (ask("model.device", "abacus"), "device 'abacus' is none of"),
        (ask("model.name", name("nowhere")), "no such folder"),
        (ask("model.name", name("modelless")), "no model.safetensors"),
        (ask("scoring.layers", [5]), "layer 5 is out of range"),
        (ask("vector.layers", [7]), "layer 7 is out of range"),
        (ask("prompts.path", name("nowhere.jsonl")), "no such file"),
        (ask("vector.pairs", name("nowhere.jsonl")), "no such file"),
        (ask("prompts.path", name("broken.jsonl")), "line 2: not valid JSON"),
        (ask("prompts.path", name("fieldless.jsonl")), "no field 'question'"),
        (ask("vector.pairs", name("alike.jsonl")), "both answers are 'B'"),
        (ask("prompts.path", name("long.jsonl")), "more than the 512 of the context"),
        (ask("sampling.max_new_tokens", 500), "more than the 512 of the context"),
        (ask("prompts.template", "{mood}"), "no field 'mood'"),
        (ask("prompts.template", "{question"), "is not a format string"),
        (ask("prompts.template", "chat"), "has no chat template"),
        (ask("prompts.system", "Be brief."), '[prompts] system goes with template = "chat"'),
        (set_to('prompts.few_shot=[{user="x"}]'), "few_shot goes with template"),
        (set_to('prompts.fields={quesiton="q"}'), "[prompts] fields has 'quesiton'; the nearest is 'question'"),
        (set_to('prompts.fields={question="q"}'), "no field 'q', which [prompts] fields names for question"),
        (set_to('vector.fields={matching=["a"]}'), "[vector] fields: matching is ['a']; it must be one column"),
        ([*ask("prompts.answers", ["Yes"]), "--set", "prompts.path=some/set"], "answers is ['Yes']; it must be two or"),
        (ask("prompts.letters", ["Q"]), "no prompts with both answers among Q"),
        (ask("label.target", "Q"), "target 'Q' is an answer of no prompt"),
        (ask("vector.path", name("noise.safetensors")), "not a safetensors file"),
        (ask("vector.path", name("vectors/narrow.safetensors")), "vector 'narrow' has size 8"),
        (ask("vector.path", name("vectors/deep.safetensors")), "layer 9 is out of range"),
        (ask("controls.orthogonal_to", [name("noise.safetensors")]), "not a safetensors file"),
        (["run", "--out", name("config.toml")], "is a file"),
        (["run", "--out", "/proc/nothing"], "cannot be made a run directory"),
    ]
    found = run_fresh([command for command, _ in table])
    for (command, message), (code, said, slow) in zip(table, found, strict=True):
        assert (code, slow) == (2, []), command
        assert message in said, command
        assert len(said.splitlines()) == 1, command
    assert not (tmp_path / "out").exists()


def test_modules_are_imported_without_collecting_and_then_left_alone():
    code = """
import gc, sys
from completions_lp.cli.imports import import_once
with import_once():
    seen = gc.isenabled()
print(seen, gc.isenabled(), gc.get_freeze_count() > 0)
sys.modules["torch"] = sys
before = gc.get_freeze_count()
with import_once():  # nothing large is left to import
    seen = gc.isenabled()
print(seen, gc.get_freeze_count() == before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False True True", "True True"]


def test_help_and_version_import_nothing_slow():
    found = run_fresh([["--version"], ["--help"], ["run", "--help"]])
    assert [(code, slow) for code, _, slow in found] == [(0, [])] * 3


def test_help_needs_nothing_but_the_command_line():
    code = "import sys; from completions_lp.cli import main; main(['plan', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "click" in loaded
    assert loaded.isdisjoint({*SLOW, "numpy", "jaxtyping", "pydantic", "pyarrow", "jinja2", "huggingface_hub"})


def test_these_packages_are_noticed():
    """A test of the tests above."""
    *_, (code, _, slow) = run_fresh([["doctor", "--device", "cuda:77"]])
    assert code == 2
    assert slow[:3] == ["torch", "transformers", "nnsight"]


def test_notices_are_one_line_and_other_warnings_are_not_shown(capfd, caplog):
    told = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        show = warnings.showwarning
        with notices.speak_plainly(told.append):
            warnings.warn("it is slower", Notice, stacklevel=1)
            warnings.warn("it is slower", Notice, stacklevel=1)
            warnings.warn("use cache instead", FutureWarning, stacklevel=1)
            logging.getLogger("elsewhere").warning("a log line")
            logging.getLogger("elsewhere").error("an error")
        assert told == ["it is slower"]
        assert caplog.messages == ["an error"]
        assert capfd.readouterr().err == ""
        assert warnings.showwarning is show
    assert logging.root.manager.disable == 0


def test_a_command_says_plainly_that_it_takes_the_slow_path(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(engine, "compare_engines", lambda _: engine.Comparison(1.0, reason="the shared tree is off"))
    few = [f"--set={key}" for key in ("prompts.limit=2", "sampling.n=2", "sampling.max_new_tokens=2")]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        cli.main(["sample", str(tmp_path / "out"), "--quiet", "--config", str(EMBEDDED), *few])
    lines = capsys.readouterr().err.splitlines()
    why = "takes the plain path, which is slower: the shared tree is off"
    assert lines == [f"completions-lp: {DATA / 'tiny-chooser'} {why}"]


@contextmanager
def serve(status, **headers):
    """A hub that answers every request so; yields its address and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            if "nobody" in self.path:  # the hub's library asks for more, of its own
                asked.append(f"{self.command} {self.path}")
            self.send_response(status)
            for header, value in headers.items():
                self.send_header(header.replace("_", "-"), value)
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def ask_there(address, folder):
    """Environment in which the hub is there, and its cache empty."""
    return {"HF_ENDPOINT": address, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (401, {"X_Error_Message": "Invalid username or password."}, "the hub has no model of this name"),
        (404, {"X_Error_Code": "RepoNotFound"}, "the hub has no model of this name"),
        (404, {"X_Error_Code": "RevisionNotFound"}, "no such branch, tag or commit"),
        (403, {"X_Error_Code": "GatedRepo"}, "is gated"),
        (503, {}, "the hub cannot be asked"),
    ],
)
def test_a_name_that_the_hub_does_not_know_is_asked_for_once(tmp_path, status, headers, message):
    commands = [["run", "--out", str(tmp_path / "out"), "--set", "model.name=nobody/nothing"]]
    with serve(status, **headers) as (address, asked):
        found = run_fresh(commands, **ask_there(address, tmp_path))
    code, said, slow = found[0]
    assert (code, slow) == (2, [])
    assert said.startswith("completions-lp: model 'nobody/nothing'")
    assert message in said
    assert len(said.splitlines()) == 1
    assert asked == ["HEAD /nobody/nothing/resolve/main/config.json"]


def test_doctor_asks_once_too(tmp_path):
    with serve(404, X_Error_Code="RepoNotFound") as (address, asked):
        found = run_fresh(
            [["doctor", "--model", "nobody/nothing"]],
            **ask_there(address, tmp_path),
        )
    code, said, slow = found[0]
    assert (code, slow, len(said.splitlines())) == (2, [], 1)
    assert len(asked) == 1


@pytest.mark.parametrize("offline", ["0", "1"])
def test_without_a_network_a_name_is_refused_at_once(tmp_path, offline):
    with serve(200) as (address, _):
        pass  # nobody listens there any more
    code, said, slow = run_fresh(
        [["run", "--out", str(tmp_path / "out"), "--set", "model.name=nobody/nothing"]],
        **{**ask_there(address, tmp_path), "HF_HUB_OFFLINE": offline},
    )[0]
    assert (code, slow) == (2, [])
    assert "the hub's cache has no copy, and the hub cannot be asked" in said
    assert len(said.splitlines()) == 1


def test_offline_asks_nobody(tmp_path):
    with serve(200) as (address, asked):
        run_fresh(
            [["run", "--out", str(tmp_path / "out"), "--set", "model.name=nobody/nothing"]],
            **{**ask_there(address, tmp_path), "HF_HUB_OFFLINE": "1"},
        )
    assert asked == []


def test_a_configuration_tells_the_shape_that_the_model_has():
    model, shape = load_model(DATA / "tiny-chooser"), read_shape(locate(DATA / "tiny-chooser", None))
    assert shape is not None
    names = ("name", "n_layers", "d_model", "context_length")
    assert [getattr(shape, name) for name in names] == [getattr(model, name) for name in names]


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"n_layer": 3, "n_embd": 8, "n_positions": 64}, (3, 8, 64)),
        ({"num_layers": 3, "d_model": 8}, (3, 8, 2**31)),
        ({"text_config": {"num_hidden_layers": 2, "hidden_size": 4}, "hidden_size": 9}, (2, 4, 2**31)),
        ({"hidden_size": 8}, None),
        ({"num_hidden_layers": 3, "n_layer": 4, "hidden_size": 8}, None),
        ({"num_hidden_layers": True, "hidden_size": 8}, None),
    ],
)
def test_shapes_by_every_name(tmp_path, settings, shape):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    found = read_shape(locate(tmp_path, None))
    assert (found and (found.n_layers, found.d_model, found.context_length)) == shape


def test_the_stand_in_reads_prompts_as_the_tokenizer_does(tmp_path):
    """Answers of which one begins the other, repeated questions, an empty template: no refusal of its own."""
    rows = [ROW, ROW, {**ROW, "answer_matching_behavior": "Yes", "answer_not_matching_behavior": "Yes please"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = load_model(DATA / "tiny-chooser")
    outline = Outline(locate(DATA / "tiny-chooser", None))
    ours = load_prompts(tmp_path / "rows.jsonl", outline)
    theirs = load_prompts(tmp_path / "rows.jsonl", model.tokenizer)
    names = ("id", "text", "letters", "matching", "not_matching", "cluster", "answer_format")
    assert [[getattr(p, n) for n in names] for p in ours] == [[getattr(p, n) for n in names] for p in theirs]
    assert len(load_pairs(tmp_path / "rows.jsonl", outline)) == 3
    load_prompts(tmp_path / "rows.jsonl", outline, template="")
    for prompt in theirs:
        assert 0 < outline.count_tokens(prompt.text) <= len(prompt.token_ids)


def test_a_prompt_that_just_fits_is_no_error():
    shape, prompt = (
        read_shape(locate(DATA / "tiny-chooser", None)),
        load_prompts(DATA / "prompts" / "cautious.jsonl", Outline(locate(DATA / "tiny-chooser", None)), limit=1)[0],
    )
    assert shape is not None
    check_length(shape, prompt, 500, 12)
    with pytest.raises(InputError, match="together 513, more than the 512"):
        check_length(shape, prompt, 500, 13)
