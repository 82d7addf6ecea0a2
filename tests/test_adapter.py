"""A LoRA adapter's folder is a model: its base with the adapter merged into it, by the definition."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import make_module
from safetensors.torch import load_file, save_file

from completions_lp.checkpoint import adapter as adapters
from completions_lp.checkpoint import check_files, locate, read_shape
from completions_lp.job.sources import stamp_model
from completions_lp.model import load_model, load_tokenizer
from completions_lp.records import InputError

RANK, ALPHA = 4, 6
PARTS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


@pytest.fixture
def folder(tokenizer, tmp_path):
    """``base``, and ``lora`` beside it: written by hand, as peft writes them."""
    module = make_module("llama", scale=4.0)
    module.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    write_adapter(module, tmp_path / "lora", base=str(tmp_path / "base"))
    return tmp_path


def write_adapter(module, place, *, base, size=0.3, **settings):
    generator, weights = torch.Generator().manual_seed(0), {}
    for layer in range(len(module.model.layers)):
        for part in PARTS:
            outer, inner = module.get_submodule(f"model.layers.{layer}.{part}").weight.shape
            stem = f"base_model.model.model.layers.{layer}.{part}"
            weights[f"{stem}.lora_A.weight"] = torch.randn(RANK, inner, generator=generator)
            weights[f"{stem}.lora_B.weight"] = size * torch.randn(outer, RANK, generator=generator)
    place.mkdir()
    save_file(weights, place / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": [part.rpartition(".")[2] for part in PARTS],
        "bias": "none",
        "inference_mode": True,
    }
    (place / "adapter_config.json").write_text(json.dumps(config | settings))


def edit(place, **settings):
    path = place / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture
def peft():
    return pytest.importorskip("peft")


@pytest.mark.usefixtures("peft")
def test_an_adapter_is_merged_by_its_definition(folder):
    base, model = load_model(folder / "base"), load_model(folder / "lora")
    weights = load_file(folder / "lora" / "adapter_model.safetensors")
    for name, weight in base.module.state_dict().items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in weights:
            weight = weight + ALPHA / RANK * weights[f"{stem}.lora_B.weight"] @ weights[f"{stem}.lora_A.weight"]
        np.testing.assert_allclose(model.module.state_dict()[name], weight, atol=1e-5)
    assert type(model.module) is type(base.module)
    assert model.n_layers == base.n_layers
    assert [type(part).__name__ for part in model.blocks[0]._module.self_attn.children()] == ["Linear"] * 4
    told = model.describe()
    assert (told["name"], told["base"]) == (str(folder / "lora"), str(folder / "base"))
    assert "base" not in base.describe()


@pytest.mark.usefixtures("peft")
def test_base_and_adapter_are_both_in_the_fingerprint(folder):
    before, stamp = load_model(folder / "lora").fingerprint(), stamp_model(str(folder / "lora"), None)
    assert before != load_model(folder / "base").fingerprint()
    assert {"adapter_model.safetensors", "base/model.safetensors"} <= set(stamp)
    for place, file in (("lora", "adapter_model.safetensors"), ("base", "model.safetensors")):
        path = folder / place / file
        kept, weights = path.read_bytes(), load_file(path)
        name = sorted(name for name in weights if name.endswith(("lora_B.weight", "up_proj.weight")))[0]
        save_file(weights | {name: weights[name] + 0.5}, path, metadata={"format": "pt"})
        assert load_model(folder / "lora").fingerprint() != before
        assert stamp_model(str(folder / "lora"), None) != stamp
        path.write_bytes(kept)
    assert load_model(folder / "lora").fingerprint() == before


@pytest.mark.usefixtures("peft")
def test_an_adapter_of_half_precision_is_merged_in_float32_where_that_is_left_open(folder):
    module = make_module("llama", scale=4.0, dtype=torch.bfloat16)
    module.save_pretrained(folder / "base")
    assert load_model(folder / "lora").dtype == torch.float32
    assert load_model(folder / "lora", dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.usefixtures("peft")
def test_a_model_may_be_named_from_the_adapters_own_folder(folder):
    want = load_model(folder / "lora").fingerprint()
    edit(folder / "lora", base_model_name_or_path="../base")
    assert load_model(folder / "lora").fingerprint() == want
    assert "base/model.safetensors" in stamp_model(str(folder / "lora"), None)


@pytest.mark.usefixtures("peft")
def test_the_tokenizer_is_the_adapters_own_if_it_has_one(folder, tokenizer):
    assert load_tokenizer(folder / "lora").chat_template is None
    tokenizer.save_pretrained(folder / "lora")
    path = folder / "lora" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": "{{ messages[0].content }}!"}))
    assert load_tokenizer(folder / "lora").chat_template == "{{ messages[0].content }}!"
    assert load_model(folder / "lora").tokenizer.chat_template == "{{ messages[0].content }}!"


@pytest.mark.usefixtures("peft")
def test_the_shape_is_that_of_its_model(folder):
    shape = read_shape(locate(folder / "lora", None))
    assert (shape.name, shape.n_layers, shape.d_model) == (str(folder / "lora"), 3, 32)


def rename(folder, old, new):
    path = folder / "lora" / "adapter_model.safetensors"
    weights = load_file(path)
    save_file({name.replace(old, new): weight for name, weight in weights.items()}, path)


def pickle_weights(folder):
    path = folder / "lora" / "adapter_model.safetensors"
    torch.save(load_file(path), folder / "lora" / "adapter_model.bin")
    path.unlink()


def chain(folder):
    shutil.copytree(folder / "lora", folder / "second")
    edit(folder / "lora", base_model_name_or_path=str(folder / "second"))


FAULTS = {
    "another kind": (
        lambda folder: edit(folder / "lora", peft_type="PROMPT_TUNING"),
        "an adapter of kind 'PROMPT_TUNING'",
    ),
    "pickle": (pickle_weights, "an adapter without adapter_model.safetensors; adapter_model.bin is a pickle"),
    "no model": (lambda folder: edit(folder / "lora", base_model_name_or_path=None), "names no model"),
    "model gone": (lambda folder: edit(folder / "lora", base_model_name_or_path="/nowhere/base"), "no such folder"),
    "adapter of an adapter": (chain, "is an adapter itself"),
    "activated": (lambda folder: edit(folder / "lora", alora_invocation_tokens=[5]), "an activated LoRA"),
    "cut": (
        lambda folder: (folder / "lora" / "adapter_model.safetensors").write_bytes(b"\0" * 99),
        "adapter_model.safetensors is damaged",
    ),
    "of another model": (
        lambda folder: rename(folder, "layers.2", "layers.7"),
        "has no place for the adapter's weights",
    ),
    "half of it": (
        lambda folder: edit(folder / "lora", target_modules=["q_proj", "v_proj", "down_proj", "up_proj"]),
        "does not find the adapter's weights",
    ),
    "other shapes": (lambda folder: edit(folder / "lora", r=2), "cannot be loaded"),
    "base broken": (lambda folder: (folder / "base" / "model.safetensors").unlink(), "no model.safetensors"),
    "code in the base": (
        lambda folder: (folder / "base" / "config.json").write_text('{"auto_map": {"AutoModelForCausalLM": "a.B"}}'),
        "asks for the checkpoint's own Python code",
    ),
}


@pytest.mark.usefixtures("peft")
@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.parametrize("fault", FAULTS)
def test_an_adapter_that_is_wrong_is_refused_in_one_line(fault, folder):
    FAULTS[fault][0](folder)
    with pytest.raises(InputError, match=FAULTS[fault][1]) as caught:
        load_model(folder / "lora")
    assert "\n" not in str(caught.value)


def test_without_the_package_one_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    with pytest.raises(
        InputError, match=r"a LoRA adapter takes peft, not installed here: pip install 'completions-lp\[peft\]'"
    ):
        check_files(locate(folder / "lora", None))


@pytest.mark.usefixtures("peft")
def test_an_adapter_is_not_merged_into_weights_on_disk(folder):
    with pytest.raises(InputError, match="an adapter is merged into the weights, and device_map offloads some of them"):
        load_model(folder / "lora", device_map={"": "cpu", "model.layers.1": "disk"})
    assert load_model(folder / "lora", device_map="auto").fingerprint() == load_model(folder / "lora").fingerprint()
