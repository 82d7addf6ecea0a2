"""Model folders that are incomplete, broken or hostile: one line, before any number is made of them."""

import json
import os
import shutil

import pytest
import safetensors.torch
import torch
from conftest import make_module

from completions_lp import cli
from completions_lp.job.config import DATA
from completions_lp.model import hash_tokenizer, load_model, load_tokenizer
from completions_lp.records import InputError

NORM = "model.layers.2.input_layernorm.weight"


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded model."""
    return shutil.copytree(DATA / "tiny-chooser", tmp_path / "tiny")


def edit(folder, file="config.json", **changes):
    path = folder / file
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, **changes}))


def read_weights(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def write_weights(folder, weights, file="model.safetensors"):
    safetensors.torch.save_file(weights, folder / file, metadata={"format": "pt"})


def write_index(folder, shards):
    """Cut the weights into two files, listed by an index whose second file may be called otherwise."""
    weights = read_weights(folder)
    (folder / "model.safetensors").unlink()
    names, first = sorted(weights), sorted(weights)[::2]
    write_weights(folder, {name: weights[name] for name in first}, "one.safetensors")
    write_weights(folder, {name: weights[name] for name in names if name not in first}, "two.safetensors")
    shards = {name: "one.safetensors" if name in first else shards for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))


def remove_tensor(folder):
    weights = read_weights(folder)
    del weights[NORM]
    write_weights(folder, weights)


def add_tensor(name):
    def add(folder):
        write_weights(folder, {**read_weights(folder), name: torch.ones(128, dtype=torch.float16)})

    return add


def spoil_tensor(value):
    def spoil(folder):
        weights = read_weights(folder)
        weights[NORM][5:7] = value
        write_weights(folder, weights)

    return spoil


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def pickle_only(folder):
    torch.save(read_weights(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def pickle_listed(folder):
    weights = read_weights(folder)
    write_index(folder, "pytorch_model.bin")
    torch.save(weights, folder / "pytorch_model.bin")


def move_shard(folder):
    """The second shard lies beside the folder, whole."""
    write_index(folder, "../elsewhere.safetensors")
    shutil.move(folder / "two.safetensors", folder.parent / "elsewhere.safetensors")


def link_to_device(folder):
    write_index(folder, "two.safetensors")
    (folder / "two.safetensors").unlink()
    (folder / "two.safetensors").symlink_to("/dev/zero")


def make_pipe(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def ask_for(file, **changes):
    return lambda folder: edit(folder, file, **changes)


def text_of(file, text):
    return lambda folder: (folder / file).write_text(text)


def without(*files):
    return lambda folder: [(folder / file).unlink() for file in files]


def point_to(shard):
    return lambda folder: write_index(folder, shard)


FAULTS = {
    "tensor missing": (remove_tensor, f"the files hold no weights '{NORM}'; the numbers would be those of another"),
    "some layers missing": (ask_for("config.json", num_hidden_layers=6), "the files hold no weights 'model.layers.5."),
    "layers missing": (ask_for("config.json", num_hidden_layers=99), "config.json asks for 99 layers, but the files"),
    "head missing, not tied": (
        lambda folder: write_weights(folder, {k: v for k, v in read_weights(folder).items() if k != "lm_head.weight"}),
        "the files hold no weights 'lm_head.weight'; the",
    ),
    "layers too many": (
        ask_for("config.json", num_hidden_layers=3),
        "LlamaForCausalLM has no place for the weights 'model.layers.3.",
    ),
    "tensor of no use": (
        add_tensor("model.layers.2.self_attn.q_proj.bias"),
        "LlamaForCausalLM has no place for the weights 'model.layers.2.self_attn.q_proj.bias'; the",
    ),
    "escape code in a name": (
        add_tensor("model.\x1b[31m\n"),
        "LlamaForCausalLM has no place for the weights 'model.\\x1b[31m\\n'; the",
    ),
    "other sizes": (
        ask_for("config.json", intermediate_size=256),
        "weights 'model.layers.0.mlp.down_proj.weight', 'model.layers.0.mlp.gate_proj.weight', "
        "'model.layers.0.mlp.up_proj.weight' and 12 more are (128, 384) in the files and (128, 256) by config.json",
    ),
    "far larger": (ask_for("config.json", hidden_size=10**9), "config.json describes 10,491,000,000,000 weights, but"),
    "absurd count": (
        ask_for("config.json", num_labels=10**30),
        "config.json says 'num_labels' is 10000000000000000000",
    ),
    "NaN": (spoil_tensor(float("nan")), f"weights '{NORM}': 2 of 128 values are NaN or infinite in float32"),
    "infinite": (spoil_tensor(float("-inf")), f"weights '{NORM}': 2 of 128 values are NaN or infinite in float32"),
    "truncated": (truncate, "model.safetensors is damaged or no safetensors file: "),
    "not safetensors": (text_of("model.safetensors", "version https://git-lfs"), "model.safetensors is damaged or no"),
    "empty weights": (text_of("model.safetensors", ""), "model.safetensors is damaged or no"),
    "pickle only": (pickle_only, "no model.safetensors or model.safetensors.index.json; pytorch_model.bin is a pickle"),
    "no weights": (without("model.safetensors"), "no model.safetensors or model.safetensors.index.json"),
    "pickle in the index": (
        pickle_listed,
        "model.safetensors.index.json names 'pytorch_model.bin' as weights: only .safetensors is read",
    ),
    "missing shard": (point_to("three.safetensors"), "three.safetensors is missing: fetch the checkpoint again"),
    "shard elsewhere": (
        move_shard,
        "model.safetensors.index.json names '../elsewhere.safetensors': weights must lie in the model's folder itself",
    ),
    "absolute shard": (point_to("/tmp/two.safetensors"), "model.safetensors.index.json names '/tmp/two.safetensors': "),  # noqa: S108
    "shard of a wrong type": (point_to(7), "model.safetensors.index.json names '7' as weights"),
    "shard of zeros without end": (link_to_device, "two.safetensors is missing"),
    "weights elsewhere by config": (
        ask_for("config.json", transformers_weights="../elsewhere.safetensors"),
        "config.json names '../elsewhere.safetensors': weights must lie in",
    ),
    "pickle by config": (
        ask_for("config.json", transformers_weights="adapter_model.bin"),
        "config.json names 'adapter_model.bin' as weights: only .safetensors or .safetensors.index.json is read",
    ),
    "index without a map": (
        lambda folder: [without("model.safetensors")(folder), text_of("model.safetensors.index.json", "{}")(folder)],
        "model.safetensors.index.json must have an object 'metadata' and an object 'weight_map'",
    ),
    "config not JSON": (text_of("config.json", "{'a': 1}"), "config.json is not JSON: Expecting property name"),
    "config not UTF-8": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is not JSON: "),
    "config a list": (text_of("config.json", "[1]"), "config.json holds a list; it must be a JSON object"),
    "config nested": (text_of("config.json", '{"a":' * 100_000), "config.json is not JSON: nested too deep"),
    "config of wrong types": (ask_for("config.json", hidden_size="wide"), "cannot be loaded: "),
    "config divides by zero": (ask_for("config.json", num_attention_heads=0), "cannot be loaded: "),
    "unknown architecture": (ask_for("config.json", model_type="abacus"), "cannot be loaded: "),
    "config a pipe": (make_pipe, "config.json is no file"),
    "no config": (without("config.json"), "no config.json: this is no checkpoint of a transformers model"),
    "adapter": (
        text_of("adapter_config.json", "{}"),
        "an adapter of kind 'None' (adapter_config.json): only LORA is read; merge it",
    ),
    "tokenizer settings not JSON": (text_of("tokenizer_config.json", "?"), "tokenizer_config.json is not JSON"),
    "tokenizer settings of wrong types": (ask_for("tokenizer_config.json", eos_token=[1]), "cannot be loaded: "),
    "tokenizer not JSON": (text_of("tokenizer.json", "{"), "cannot be loaded: "),
    "tokenizer of wrong types": (ask_for("tokenizer.json", model={"type": "BPE"}), "cannot be loaded: "),
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "cannot be loaded: "),
    "end of text of a wrong type": (
        ask_for("generation_config.json", eos_token_id=["x"]),
        "eos_token_id is ['x']; it must be a token id or a list of token ids",
    ),
    "kernel of the hub": (
        ask_for("config.json", attn_implementation="someone/kernel"),
        "config.json asks for the hub's code (attn_implementation: 'someone/kernel'), which is never run",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_not_right_gets_one_line(folder, fault, capfd):
    """Also from doctor, which once found everything right in a model of random weights."""
    spoil, message = FAULTS[fault]
    spoil(folder)
    assert cli.main(["doctor", "--model", str(folder)]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 700
    told = message if message.startswith("cannot") else f": {message}"
    assert f"completions-lp: model '{folder}'{' ' if told is message else ''}{told}" in printed.err


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("model_type", ["llama", "mine"])
def test_code_of_a_checkpoint_is_refused_and_not_run(folder, file, model_type):
    """Even where transformers has the architecture itself: the checkpoint says that its numbers come from its code."""
    trace = folder.parent / "was-run"
    (folder / "mine.py").write_text(f"open({str(trace)!r}, 'w')\nclass Mine: pass\n")
    edit(folder, model_type=model_type)
    names = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM"), "mine.Mine")
    edit(folder, file, auto_map=names if file == "config.json" else {"AutoTokenizer": ["mine.Mine", None]})
    with pytest.raises(InputError, match="the checkpoint's own Python code \\(auto_map\\), which is never run"):
        load_model(folder)
    assert not trace.exists()
    if file == "tokenizer_config.json":
        with pytest.raises(InputError, match="auto_map"):
            load_tokenizer(folder)
        assert not trace.exists()


def test_shards_and_links_that_are_right_give_the_same_model(folder):
    """A hub's cache holds links to files elsewhere: what a link leads to is read, as long as it is a file."""
    want = load_model(folder).fingerprint()
    write_index(folder, "two.safetensors")
    assert load_model(folder).fingerprint() == want
    shutil.move(folder / "two.safetensors", folder.parent / "blob")
    (folder / "two.safetensors").symlink_to("../blob")
    assert load_model(folder).fingerprint() == want


def test_weights_that_transformers_ignores_or_ties_are_no_fault(folder, tokenizer, tmp_path):
    want = load_model(folder).fingerprint()
    for name in ("model.layers.0.self_attn.rotary_emb.inv_freq", "v_head.summary.weight"):
        add_tensor(name)(folder)
    assert load_model(folder).fingerprint() == want
    for architecture in ("gpt2", "gemma2"):  # their output heads are their embeddings
        made = make_module(architecture)
        made.save_pretrained(tmp_path / architecture)
        tokenizer.save_pretrained(tmp_path / architecture)
        assert "lm_head.weight" not in read_weights(tmp_path / architecture)
        loaded = load_model(tmp_path / architecture).module
        assert torch.equal(loaded.lm_head.weight, made.lm_head.weight)


def make_cache(folder, monkeypatch):
    """A hub's cache in which the model is, as the hub's own library makes it: links into blobs."""
    cache = folder.parent / "hub"
    repository, commit = cache / "models--someone--tiny", "0123456789abcdef0123456789abcdef01234567"
    snapshot = repository / "snapshots" / commit
    for place in (snapshot, repository / "blobs", repository / "refs"):
        place.mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    for file in folder.iterdir():
        shutil.copy(file, repository / "blobs" / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return snapshot, commit


def test_a_model_of_the_hub_loads_from_its_cache(folder, monkeypatch):
    snapshot, commit = make_cache(folder, monkeypatch)
    model = load_model("someone/tiny")
    assert (model.name, model.revision) == ("someone/tiny", commit)
    assert model.fingerprint() == load_model(snapshot).fingerprint() == load_model(folder).fingerprint()
    assert hash_tokenizer(load_tokenizer("someone/tiny")) == model.tokenizer_hash


@pytest.mark.parametrize("fault", ["tensor missing", "NaN", "missing shard", "pickle in the index", "shard elsewhere"])
def test_a_faulty_model_of_the_hub_is_refused(folder, monkeypatch, fault):
    FAULTS[fault][0](folder)
    make_cache(folder, monkeypatch)
    with pytest.raises(InputError, match=r"^model 'someone/tiny'"):
        load_model("someone/tiny")


def test_code_of_a_model_of_the_hub_is_refused(folder, monkeypatch):
    edit(folder, auto_map={"AutoModelForCausalLM": "mine.Mine"})
    make_cache(folder, monkeypatch)
    with pytest.raises(InputError, match="auto_map"):
        load_model("someone/tiny")
