"""A model in one GGUF file: the same weights, tokenizer and numbers as the folder that it was made from."""

import shutil

import numpy as np
import pytest
import torch
from conftest import make_module, make_prompts, make_vector, random_completions

from completions_lp.checkpoint import locate, read_header, read_shape
from completions_lp.cli import main
from completions_lp.job.config import load_config
from completions_lp.job.sources import stamp_model
from completions_lp.model import load_model, load_tokenizer
from completions_lp.records import InputError
from completions_lp.score.grid import score_tokens
from completions_lp.steer.conditions import make_conditions

pytest.importorskip("gguf")
pytest.importorskip("accelerate")

from gguf_files import write_gguf


@pytest.fixture(scope="module")
def module():
    return make_module("llama", scale=4.0)


@pytest.fixture(scope="module")
def folder(module, tokenizer, tmp_path_factory):
    """The same model three times: safetensors, and GGUF whole and in 8 bits."""
    place = tmp_path_factory.mktemp("gguf")
    module.save_pretrained(place / "whole")
    tokenizer.save_pretrained(place / "whole")
    for kind in ("F32", "F16", "Q8_0"):
        write_gguf(module, tokenizer, place / f"{kind}.gguf", kind=kind)
    return place


def test_a_whole_file_gives_the_very_weights_and_texts(folder):
    ours, theirs = load_model(folder / "whole"), load_model(folder / "F32.gguf")
    assert theirs.fingerprint() == ours.fingerprint()
    assert (theirs.n_layers, theirs.d_model, theirs.context_length) == (
        ours.n_layers,
        ours.d_model,
        ours.context_length,
    )
    assert theirs.eos_ids == ours.eos_ids
    assert theirs.quantization == ""
    assert "quantization" not in theirs.describe()
    for text in ("The answer is (A). I choose", "Ünïcode\n\n  (B)"):
        assert theirs.tokenizer(text).input_ids == ours.tokenizer(text).input_ids
        assert theirs.tokenizer.decode(theirs.tokenizer(text).input_ids) == text


def test_quantised_weights_are_named_and_give_what_they_hold(folder, module):
    import gguf

    model = load_model(folder / "Q8_0.gguf")
    assert model.describe()["quantization"] == "GGUF Q8_0"
    assert model.dtype == torch.float32
    assert not model.packed
    weight = module.model.layers[1].mlp.up_proj.weight.detach().numpy()
    kind = gguf.GGMLQuantizationType.Q8_0
    rounded = gguf.quants.dequantize(gguf.quants.quantize(weight, kind), kind)
    got = model.module.model.layers[1].mlp.up_proj.weight.detach().numpy()
    np.testing.assert_allclose(got, rounded, atol=1e-7)
    assert np.abs(got - weight).max() > 1e-4
    assert model.fingerprint() != load_model(folder / "whole").fingerprint()


def test_half_precision_is_that_of_the_file(folder):
    assert read_header(locate(folder / "F16.gguf", None)).narrow == "float16"
    half = load_model(folder / "F16.gguf", dtype="float16")
    assert half.dtype == torch.float16
    assert load_model(folder / "F16.gguf").dtype == torch.float32  # on a CPU, where dtype is auto


def test_scores_by_a_file_are_those_of_the_folder(folder):
    completions, found = random_completions(make_prompts()), []
    for name in ("whole", "F32.gguf"):
        model = load_model(folder / name)
        vector = make_vector(model)
        conditions = make_conditions([vector], layers=[1], multipliers=(1.0,))
        found.append(score_tokens(model, completions, [vector], conditions, progress=False))
    np.testing.assert_array_equal(found[0].logprob, found[1].logprob)


def test_the_shape_is_known_before_torch(folder):
    shape = read_shape(locate(folder / "Q8_0.gguf", None))
    assert (shape.n_layers, shape.d_model, shape.context_length) == (3, 32, 128)


def test_what_lies_beside_a_file_is_not_its_own(folder, tmp_path):
    """A folder of downloads has files of other models."""
    shutil.copy(folder / "F32.gguf", tmp_path / "mine.gguf")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "auto_map": {"AutoModel": "mine.Mine"}}')
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "tokenizer_config.json").write_text("not JSON")
    assert load_model(tmp_path / "mine.gguf").fingerprint() == load_model(folder / "whole").fingerprint()
    assert load_tokenizer(tmp_path / "mine.gguf")("A").input_ids == load_tokenizer(folder / "whole")("A").input_ids


def test_a_changed_file_is_another_model(folder, tmp_path):
    path = tmp_path / "one.gguf"
    shutil.copy(folder / "F32.gguf", path)
    before = stamp_model(str(path), None)
    assert list(before) == ["one.gguf"]
    shutil.copy(folder / "Q8_0.gguf", path)
    assert stamp_model(str(path), None) != before


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_takes_a_file_by_a_path_beside_its_configuration(folder, tmp_path, capsys):
    shutil.copy(folder / "Q8_0.gguf", tmp_path / "mine.gguf")
    (tmp_path / "run.toml").write_text('[model]\nname = "mine.gguf"\n')
    assert load_config(tmp_path / "run.toml", []).model.name == str(tmp_path / "mine.gguf")
    sets = ("scoring.layers=[9]", "prompts.limit=2")
    options = [word for value in sets for word in ("--set", value)]
    assert main(["run", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run"), *options]) == 2
    assert "layer 9 is out of range" in capsys.readouterr().err


FAULTS = {
    "no GGUF": (lambda path: path.write_bytes(b"PK\3\4" * 100), "no GGUF file: it does not begin as one"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:2000]), "cannot be loaded"),
    "empty": (lambda path: path.write_bytes(b""), "no GGUF file"),
    "noise": (lambda path: path.write_bytes(b"GGUF" + bytes(range(256)) * 9), "cannot be loaded"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_wrong_is_refused_in_one_line(fault, folder, tmp_path):
    path = tmp_path / "odd.gguf"
    shutil.copy(folder / "F32.gguf", path)
    FAULTS[fault][0](path)
    with pytest.raises(InputError, match=FAULTS[fault][1]) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_one_of_several_parts_is_refused(module, tokenizer, tmp_path):
    path = write_gguf(module, tokenizer, tmp_path / "x-00001-of-00003.gguf", parts=3)
    with pytest.raises(InputError, match="one of 3 parts of a model, which transformers does not read: join them"):
        load_model(path)


def test_a_file_that_is_not_there_or_has_a_revision_is_refused(folder):
    with pytest.raises(InputError, match="no such file"):
        load_model("someone/repository/x.gguf")
    with pytest.raises(InputError, match="is a local file, which has no revisions"):
        load_model(folder / "F32.gguf", revision="main")


def test_without_the_package_one_line_says_what_to_install(folder, tmp_path, monkeypatch):
    path = tmp_path / "fresh.gguf"
    shutil.copy(folder / "F32.gguf", path)
    monkeypatch.setattr("completions_lp.checkpoint.gguf.find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(InputError, match=r"takes gguf, not installed here: pip install 'completions-lp\[gguf\]'"):
        load_model(path)
