"""Which model is loaded, where it runs, its tokenizer alone, and tokens that it does not know."""

import json
import shutil

import pytest
import torch
import transformers

from completions_lp import cli
from completions_lp.job.config import DATA
from completions_lp.model import hash_tokenizer, load_model, load_tokenizer
from completions_lp.records import InputError


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedded model."""
    return shutil.copytree(DATA / "tiny-chooser", tmp_path / "tiny")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody/nothing", "model 'nobody/nothing'"),
        ("a b?", "no such folder, and no name that a model of the hub can have"),
        ("x" * 5000, "no such folder"),
        ("~nobody-of-this-name/m", "no such folder"),
        ("nul\0nul", "no name that a model of the hub can have"),
        ("", "no such folder"),
    ],
)
def test_a_name_of_nothing_gets_one_line(name, message):
    for load in (load_model, load_tokenizer):
        with pytest.raises(InputError) as caught:
            load(name)
        assert message in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 700


def test_a_file_is_no_folder(folder):
    with pytest.raises(InputError, match=r"config\.json' is a file: give the folder that holds config\.json"):
        load_model(folder / "config.json")


def test_a_local_folder_has_no_revision(folder):
    """It was ignored and yet recorded."""
    for load in (load_model, load_tokenizer):
        with pytest.raises(InputError, match="revision 'main' is of the hub"):
            load(folder, revision="main")
    assert load_model(folder).revision is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "mps"}, "device 'mps': this machine has no MPS device; take device auto or cpu"),
        ({"device": "cuda:7"}, "device 'cuda:7': this machine has 0 CUDA devices; take device auto or cpu"),
        ({"device": "meta"}, "device 'meta' is none of auto, cpu, cuda, cuda:N, mps"),
        ({"device": "xpu"}, "device 'xpu' is none of auto"),
        ({"device": "cuda:-1"}, "device 'cuda:-1' is none of auto"),
        ({"device": "cuda:99999999999999999999"}, "device 'cuda:99999999999999999999' is none of auto"),
        ({"dtype": "float8"}, "dtype 'float8' is none of auto, float64, float32, bfloat16, float16"),
    ],
)
def test_a_device_that_is_not_there_gets_one_line(monkeypatch, options, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError) as caught:
        load_model(DATA / "tiny-chooser", **options)
    assert str(caught.value).startswith(message)


def test_mps_has_no_float64(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(InputError, match="device 'mps' has no float64"):
        load_model(DATA / "tiny-chooser", device="mps", dtype="float64")


def test_the_tokenizer_alone_is_the_model_s(folder):
    model = load_model(folder)
    for file in ("model.safetensors", "generation_config.json"):
        (folder / file).unlink()
    alone = load_tokenizer(folder)
    assert hash_tokenizer(alone) == model.tokenizer_hash == model.describe()["tokenizer"]
    assert alone.model_max_length == model.tokenizer.model_max_length == 10**9
    assert alone("Do you agree?").input_ids == model.tokenizer("Do you agree?").input_ids


def test_a_tokenizer_of_another_model_is_refused(folder):
    core = json.loads((folder / "tokenizer.json").read_text())
    core["model"]["vocab"]["zzzz"] = 1400
    (folder / "tokenizer.json").write_text(json.dumps(core))
    with pytest.raises(InputError, match="the tokenizer has ids up to 1400, but the weights embed 1400 tokens"):
        load_model(folder)


def test_an_added_token_without_an_embedding_is_an_error_where_it_is_used(folder, tmp_path, capfd):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(folder)
    row = json.loads((DATA / "prompts" / "cautious.jsonl").read_text().splitlines()[0])
    arguments = ["run", "--quiet", "--out", str(tmp_path / "out"), "--set", f"model.name={folder}"]
    (tmp_path / "asked.jsonl").write_text(json.dumps({**row, "question": "<think> Yes?", "id": "odd"}) + "\n")
    assert cli.main([*arguments, "--set", f"prompts.path={tmp_path / 'asked.jsonl'}"]) == 2
    assert "prompt 'odd' has token id 1400, but " in capfd.readouterr().err
    (tmp_path / "pairs.jsonl").write_text(json.dumps({**row, "question": "<think> Yes?"}) + "\n")
    assert cli.main([*arguments, "--set", f"vector.pairs={tmp_path / 'pairs.jsonl'}"]) == 2
    assert "contrast pair 1 has token id 1400, but " in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
