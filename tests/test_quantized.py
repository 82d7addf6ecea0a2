"""Weights of 4 and 8 bits are named as such and computed with as they are; without the package one line says so."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from conftest import make_module, make_prompts, make_vector, random_completions

from completions_lp.checkpoint import check_files, locate, name_quantization, quantized
from completions_lp.doctor import examine_model
from completions_lp.doctor.rounding import measure_rounding
from completions_lp.job.config import PromptsSection
from completions_lp.model import load_model
from completions_lp.prompts import load_prompts
from completions_lp.records import InputError
from completions_lp.score.grid import score_tokens
from completions_lp.steer.conditions import make_conditions

pytestmark = pytest.mark.filterwarnings("ignore")  # of the packages

BNB4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4"}
BNB8 = {"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False, "bnb_4bit_quant_type": "fp4"}
TORCHAO = {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_data": {}}}}


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (None, ""),
        (BNB4, "bitsandbytes 4-bit nf4"),
        (BNB8, "bitsandbytes 8-bit"),
        (TORCHAO, "torchao Int8WeightOnlyConfig"),
        ({"quant_method": "gptq", "bits": 4}, "gptq 4-bit"),
        ({"quant_method": "fp8", "fmt": "e4m3"}, "fp8 e4m3"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"bits": 3}, "3-bit"),
        ({}, "quantised"),
        ("nonsense", ""),
    ],
)
def test_quantisations_are_named(told, name):
    assert name_quantization({"quantization_config": told}) == name
    assert name_quantization({}) == ""


@pytest.fixture
def folder(tokenizer, tmp_path):
    sizes = {"hidden_size": 64, "head_dim": 16, "max_position_embeddings": 512}  # 4 bits come in blocks of 64
    make_module("llama", scale=4.0, **sizes).save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    return tmp_path


@pytest.mark.parametrize(
    ("told", "package"), [(BNB4, "bitsandbytes"), (TORCHAO, "torchao"), ({"quant_method": "awq"}, "gptqmodel")]
)
def test_without_the_package_one_line_says_what_to_install(told, package, folder, monkeypatch):
    path = folder / "plain" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": told}))
    monkeypatch.setattr(quantized, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(InputError, match=rf"quantised \({told['quant_method']}.* takes {package}, not .* pip install"):
        check_files(locate(folder / "plain", None))
    monkeypatch.setattr(quantized, "find_spec", lambda _: object())
    assert check_files(locate(folder / "plain", None)) == ["model.safetensors"]


def quantise(folder, kind):
    """The plain model as transformers quantises and saves it."""
    if kind == "torchao":
        pytest.importorskip("torchao")
        from torchao.quantization import Int8WeightOnlyConfig

        settings = transformers.TorchAoConfig(Int8WeightOnlyConfig())
    else:
        pytest.importorskip("bitsandbytes")
        settings = transformers.BitsAndBytesConfig(load_in_4bit=kind == "4-bit", load_in_8bit=kind == "8-bit")
    pytest.importorskip("accelerate")
    module = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "plain", quantization_config=settings, device_map={"": "cpu"}, dtype=torch.float32
    )
    module.save_pretrained(folder / kind)
    for path in (folder / "plain").glob("token*"):
        shutil.copy(path, folder / kind)
    return module


@pytest.mark.parametrize("kind", ["4-bit", "8-bit", "torchao"])
def test_quantised_weights_are_named_and_scored_as_they_are(kind, folder):
    module, plain = quantise(folder, kind), load_model(folder / "plain")
    model = load_model(folder / kind)
    assert model.packed
    assert kind in model.describe()["quantization"]
    assert model.fingerprint() == load_model(folder / kind).fingerprint() != plain.fingerprint()
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        assert torch.equal(model.module(ids).logits, module(ids).logits)
        assert float((model.module(ids).logits - plain.module(ids).logits).abs().max()) > 1e-3
    completions, vector = random_completions(make_prompts((5, 3)), per_prompt=2), make_vector(plain)
    conditions = make_conditions([vector], layers=[1], multipliers=(0.0, 1.0))
    scores = score_tokens(model, completions, [vector], conditions, progress=False)
    assert np.nanmax(np.abs(scores.increase[0])) < 0.01
    assert np.nanmax(np.abs(scores.increase[1])) > 0.1
    prompts = load_prompts(PromptsSection().path, model.tokenizer, limit=3)
    diagnosis = examine_model(model, prompts, [vector], control=lambda: plain, n_prompts=2)
    assert [finding.name for finding in diagnosis.failed] == []
    assert len(measure_rounding(model, prompts, compare=True)) == 1  # no copies in other precisions


@pytest.mark.parametrize("kind", ["4-bit", "torchao"])
def test_one_changed_quantised_weight_is_another_model(kind, folder):
    quantise(folder, kind)
    before = load_model(folder / kind)
    with torch.no_grad():
        weight = before.module.model.layers[0].mlp.up_proj.weight
        raw = weight.qdata if hasattr(weight, "qdata") else weight
        raw.view(-1)[0] ^= 1
    del before.__dict__["_weights_hash"]
    assert before.fingerprint() != load_model(folder / kind).fingerprint()
