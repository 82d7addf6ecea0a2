"""Vectors of other tools as a user has them: in a run, and by the commands import, export and show."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import vector_bytes as made
from runs import change, do_stages, make_place
from test_outset import run_fresh
from test_vector_formats import put, write

from completions_lp import store
from completions_lp.cli import main
from completions_lp.job.config import load_config, make_config
from completions_lp.job.sources import hash_sources
from completions_lp.job.vector_files import read_vector
from completions_lp.records import InputError


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """A folder with a small model of two blocks, its configuration, and directions of its width in several files."""
    folder = tmp_path_factory.mktemp("place")
    config = make_place(folder, tokenizer)
    width = json.loads((folder / "model/config.json").read_text())["hidden_size"]
    rows = made.make_rows(3, width=width)
    put(folder / "v.gguf", made.gguf({"direction.0": rows[0], "direction.1": rows[1]}))
    put(folder / "v.pt", made.torch_file(rows[0]))
    put(folder / "evil_prompt_avg_diff.pt", made.torch_file(rows))
    put(folder / "wide.pt", made.torch_file(np.ones(width + 1)))
    put(folder / "refusal/direction.pt", made.torch_file(rows[0]))
    write(folder / "refusal/direction_metadata.json", json.dumps({"pos": -1, "layer": 1}))
    store.save_vector(folder / "own.safetensors", store_vector(rows))
    return folder, config, rows


def store_vector(rows):
    from completions_lp.records import SteeringVector

    return SteeringVector("own", "target", {0: rows[0], 1: rows[1]})


def call(capsys, *words):
    """A command's exit code and what it says."""
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_run_is_the_same_whatever_file_its_vector_is_in(place, tmp_path):
    """The same direction, of a tool's file and of ours, gives the same scores to the last bit."""
    folder, config, rows = place
    steered = {}
    for name, told in {
        "own": {"path": str(folder / "own.safetensors")},
        "gguf": {"path": str(folder / "v.gguf"), "convention": "repeng"},
        "caa": {"path": str(folder / "v.pt"), "layer": 0},
        "refusal": {"path": str(folder / "refusal")},
        "llama.cpp": {"path": str(folder / "v.gguf"), "convention": "llama.cpp", "layer": [0]},
    }.items():
        if name == "llama.cpp":  # of which direction.0 is no block's output
            put(folder / "one.gguf", made.gguf({"direction.1": rows[0]}))
            told["path"] = str(folder / "one.gguf")
        asked = change(config, {"controls.random_directions": 0, "sampling.top_up": 0})
        run = do_stages({**asked, "vector": told}, tmp_path / name)
        (target,) = [vector for vector in store.read_vectors(run.folder) if vector.kind == "target"]
        np.testing.assert_array_equal(target.directions[0], rows[0])
        steered[name] = read_scores(run.folder)
    assert len(set(steered["own"].values())) > len(steered["own"]) / 2  # they are numbers that a change would show in
    for name, found in steered.items():
        assert found == steered["own"], name


def read_scores(folder):
    """By prompt, completion and multiplier, the increase of a completion under the target."""
    rows = pq.read_table(folder / "scores.parquet").to_pylist()
    keys = "prompt_id", "completion_id", "layer", "multiplier"
    return {tuple(row[key] for key in keys): row["increase"] for row in rows if row["kind"] == "target"}


def test_keys_of_a_file_need_a_file():
    with pytest.raises(InputError, match=r"\[vector\] layer is of a vector's file, and no path is given"):
        make_config({"vector": {"layer": 3}})
    with pytest.raises(InputError, match=r"\[vector\] convention is 'mine'; it must be"):
        make_config({"vector": {"path": "v.gguf", "convention": "mine"}})
    assert make_config({"vector": {"path": "v", "layer": [1, 2]}}).vector.layers_asked == (1, 2)
    assert load_config(None, ["vector.path=v", "vector.layer=3"]).vector.layers_asked == (3,)


def test_what_a_file_leaves_open_is_refused_before_the_run(place, tmp_path, capsys):
    folder, config, _ = place
    base = ["run", "--out", tmp_path / "out"]
    for key, value in {"model.name": config["model"]["name"], "prompts.path": config["prompts"]["path"]}.items():
        base += ["--set", f"{key}={json.dumps(value)}"]
    for told, message in (
        ({"path": "v.gguf"}, "does not say how it counts layers"),
        ({"path": "v.pt"}, "says of which layer; say at the output of which block it is to be added: layer = 13"),
        ({"path": "v.pt", "layer": 2}, "layer 2 is out of range"),
        ({"path": "wide.pt", "layer": 0}, "but the residual stream of"),
        ({"path": "gone.gguf"}, "gone.gguf: no such file"),
    ):
        told = {**told, "path": str(folder / told["path"])}
        sets = [word for key, value in told.items() for word in ("--set", f"vector.{key}={json.dumps(value)}")]
        code, said = call(capsys, *base, *sets)
        assert (code, message in said) == (2, True), said
        assert not (tmp_path / "out").exists()


def test_a_run_says_what_it_took_a_file_for(place, tmp_path, capsys):
    folder, config, _ = place
    write(folder / "told.toml", "\n".join(f"[{s}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in keys.items())
                                          for s, keys in config.items()))  # fmt: skip
    words = ["--config", folder / "told.toml", "--quiet", "--set", "vector.convention=repeng"]
    code, said = call(capsys, "vector", tmp_path, *words, "--set", f"vector.path={json.dumps(str(folder / 'v.gguf'))}")
    assert (code, "v.gguf is read as gguf: convention repeng: direction.L is the output of block L" in said) == (
        0,
        True,
    )
    own = f"vector.path={json.dumps(str(folder / 'own.safetensors'))}"
    code, said = call(capsys, "vector", tmp_path / "own", "--config", folder / "told.toml", "--quiet", "--set", own)
    assert (code, "is read as" in said) == (0, False)


def test_no_torch_is_imported_for_files_that_are_not_torchs(place, tmp_path):
    folder, _, _ = place
    out = str(tmp_path / "v.safetensors")
    commands = [
        ["vectors", "import", str(folder / "v.gguf"), "--convention", "repeng", "--out", out],
        ["vectors", "show", out],
        ["vectors", "export", out, "--format", "gguf", "--convention", "repeng", "--out", str(tmp_path / "w.gguf")],
        ["vectors", "show", str(tmp_path / "w.gguf")],
        ["vectors", "import", str(folder / "v.gguf"), "--out", out],
    ]
    done = run_fresh(commands)
    assert [code for code, _, _ in done] == [0, 0, 0, 0, 2]
    assert all("torch" not in slow for _, _, slow in done), done


def test_import_says_what_it_took(place, tmp_path, capsys):
    folder, _, rows = place
    out = tmp_path / "v.safetensors"
    code, said = call(capsys, "vectors", "import", folder / "evil_prompt_avg_diff.pt", "--out", out, "--name", "evil")
    assert code == 0
    assert "evil: 2 layers, 0 to 1" in said
    assert "read as persona_vectors: row i is hidden_states[i], the output of block i - 1" in " ".join(said.split())
    vector = store.read_vector(out)
    assert vector.name == "evil"
    np.testing.assert_array_equal(vector.directions[1], rows[2])
    assert vector.provenance["source_format"] == "persona_vectors"
    assert vector.provenance["source_sha256"] == store.hash_file(folder / "evil_prompt_avg_diff.pt")
    code, said = call(capsys, "vectors", "import", folder / "v.gguf", "--convention", "repeng", "--out", out)
    assert (code, f"{out}: is there already; name another file, or say --overwrite" in said) == (2, True)
    model = ["--model", folder / "model", "--overwrite"]
    code, said = call(capsys, "vectors", "import", folder / "wide.pt", "--layer", "0", "--out", out, *model)
    assert (code, "but the residual stream of" in said) == (2, True)
    code, said = call(capsys, "vectors", "import", folder / "refusal", "--out", out, *model)
    assert (code, "taken for layer 0" in said) == (0, True)


def test_export_says_what_to_know(place, tmp_path, capsys):
    own = place[0] / "own.safetensors"
    for words, message in (
        (["--format", "gguf", "--convention", "repeng", "--out", tmp_path / "a.gguf"], "llama.cpp refuses direction.0"),
        (["--format", "gguf", "--convention", "llama.cpp", "--out", tmp_path / "b.gguf"], "one block above where"),
        (["--format", "lm-eval", "--out", tmp_path / "c.pt"], "adds the last of several vectors at every hook point"),
        (
            ["--format", "refusal_direction", "--layer", "1", "--out", tmp_path / "d"],
            "layer counts the inputs of blocks",
        ),
        (["--format", "persona_vectors", "--model", place[0] / "model", "--out", tmp_path / "e.pt"], "e.pt"),
    ):
        code, said = call(capsys, "vectors", "export", own, *words)
        assert (code, message in said) == (0, True), said
    assert torch.load(tmp_path / "e.pt", weights_only=True).shape[0] == 3
    code, said = call(capsys, "vectors", "export", own, "--format", "persona_vectors", "--n-layers", "9", "--model",
                      place[0] / "model", "--out", tmp_path / "f.pt")  # fmt: skip
    assert (code, "--n-layers is 9" in said) == (2, True)


def test_show_tells_how_long_a_vector_is_beside_the_residual_stream(place, capsys):
    folder, config, rows = place
    write(folder / "run.toml", "\n".join(f"[{s}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in keys.items())
                                         for s, keys in config.items()))  # fmt: skip
    code, said = call(capsys, "vectors", "show", folder / "own.safetensors", "--config", folder / "run.toml")
    assert code == 0
    from completions_lp.job.inputs import Inputs

    inputs = Inputs(load_config(folder / "run.toml"))
    norms = []
    for prompt in inputs.prompts:
        with torch.no_grad():
            states = inputs.model.module(torch.tensor([prompt.token_ids]), output_hidden_states=True).hidden_states
        norms.append(float(states[1][0, -1].norm()))  # the output of block 0
    relative = np.linalg.norm(rows[0]) / np.mean(norms)
    (line,) = [line for line in said.splitlines() if line.split()[:1] == ["0"]]
    assert line.split()[1] == f"{np.linalg.norm(rows[0]):.4g}"
    assert float(line.split()[3].rstrip("%")) == pytest.approx(100 * relative, abs=0.02)
    assert "at the last token of 4 prompts" in " ".join(said.split())


def test_what_is_shown_of_a_file_is_escaped(tmp_path, capsys):
    from completions_lp.records import SteeringVector

    vector = SteeringVector("\x1b[31mred", "target", {0: np.ones(3)}, {}, {"\x1b[1m": "\x1b[2m", "long": "x" * 5000})
    store.save_vector(tmp_path / "v.safetensors", vector)
    code, said = call(capsys, "vectors", "show", tmp_path / "v.safetensors")
    assert code == 0
    assert "\x1b" not in said
    assert len(said) < 2000


def test_a_link_keeps_its_name_in_a_configuration(place, tmp_path):
    """A hub's cache has links whose names tell the layer, to files whose names are hashes."""
    folder, _, rows = place
    put(tmp_path / "blobs/0abc", (folder / "v.pt").read_bytes())
    (tmp_path / "vec_layer_1_m.pt").symlink_to(tmp_path / "blobs/0abc")
    write(tmp_path / "run.toml", '[vector]\npath = "vec_layer_1_m.pt"\n')
    opened = load_config(tmp_path / "run.toml")
    assert opened.vector.path == str(tmp_path / "vec_layer_1_m.pt")
    np.testing.assert_array_equal(read_vector(opened.vector).directions[1], rows[0])


def test_files_beside_a_vectors_are_watched(place):
    """A changed metadata file moves a direction to another layer: so it is one of a run's sources."""
    folder, config, _ = place
    for path in ("refusal", "refusal/direction.pt"):
        sources = hash_sources(make_config({**config, "vector": {"path": str(folder / path)}}))["vector"]
        assert str(folder / "refusal/direction_metadata.json") in sources
        assert str(folder / "refusal/direction.pt") in sources
