"""Models that are spread over devices, or lie on disk in part: every number is that of the whole model in memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from everything import compare, make_everything
from families import make_module

import completions_lp as clp
from completions_lp.job.config import make_config
from completions_lp.job.network import Network
from completions_lp.model import wrap_model
from completions_lp.model.engine import compare_engines
from completions_lp.model.memory import Room
from completions_lp.model.output import find_head
from completions_lp.model.placement import Carrier, fetch_weight, is_offloaded, list_tensors
from completions_lp.model.specimen import copy_model
from completions_lp.records import InputError
from completions_lp.work.keys import describe_network

TESTS = Path(__file__).parent
HALVES = {"": "cpu", "model.layers.1": "disk"}
MAPS = {
    "a block on disk": HALVES,
    "the embedding and the head on disk": {"": "cpu", "model.embed_tokens": "disk", "lm_head": "disk"},
    "all on disk": {"": "disk"},
    "all blocks on disk": {"model": "cpu", "model.layers": "disk", "lm_head": "cpu"},
    "wherever there is room": "auto",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    """A tiny model's files."""
    folder = tmp_path_factory.mktemp("model")
    make_module("llama").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """The model in memory, and all that it gives."""
    model = clp.load_model(folder)
    return model, make_everything(model)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "mistral", "gpt2"])
def test_on_two_devices_every_number_is_that_of_one(architecture):
    command = [sys.executable, str(TESTS / "spread_cases.py"), architecture]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == [1, 2]
    assert found["refused"]  # two devices in one operation, so that a pass on both is a test
    assert len(found["off"]) > 50
    assert set(found["off"].values()) == {0.0}
    two, three, six, grid = (waits for waits, _ in found["waits"])
    assert (three - two, six - two) == (1, 4)  # a step of sampling waits once: for what was drawn
    begun = two - 2  # by transformers, where prompts go through once
    assert grid - begun == 2  # for the largest sum of exponentials, and for what was found


@pytest.mark.parametrize("device_map", MAPS.values(), ids=MAPS)
def test_offloaded_weights_give_every_number_exactly(device_map, folder, whole):
    model, want = whole
    spread = clp.load_model(folder, device_map=device_map)
    assert is_offloaded(spread.module) == (device_map != "auto")
    assert spread.device == model.device
    assert spread.fingerprint() == model.fingerprint()
    assert set(compare(want, make_everything(spread)).values()) == {0.0}
    assert is_offloaded(spread.module) == (device_map != "auto")  # nothing has stayed


def test_weights_offloaded_to_memory_give_every_number_exactly(whole, folder):
    model, want = whole
    offloaded = wrap_model(cpu_offload(clp.load_model(folder).module, torch.device("cpu")), model.tokenizer)
    assert is_offloaded(offloaded.module)
    assert offloaded.fingerprint() == model.fingerprint()
    assert set(compare(want, make_everything(offloaded)).values()) == {0.0}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_too(dtype, folder):
    whole, spread = clp.load_model(folder, dtype=dtype), clp.load_model(folder, dtype=dtype, device_map={"": "disk"})
    assert spread.dtype == whole.dtype != torch.float32
    assert spread.fingerprint() == whole.fingerprint()
    assert compare_engines(spread) == compare_engines(whole)
    kinds = ("scores", "vectors")
    off = compare(make_everything(whole, kinds=kinds), make_everything(spread, kinds=kinds))
    assert set(off.values()) == {0.0}


def test_a_half_precision_model_that_becomes_float32_is_read_again(folder, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr("completions_lp.model.precision.measure_speed", lambda _: 0.5)
    make_module("llama").to(torch.bfloat16).save_pretrained(folder / "half")
    clp.load_model(folder).tokenizer.save_pretrained(folder / "half")
    with pytest.warns(UserWarning, match="dtype auto is float32"):
        spread = clp.load_model(folder / "half", device_map=HALVES)
    assert spread.dtype == torch.float32
    assert fetch_weight(spread.module, "model.layers.1.mlp.up_proj.weight").dtype == torch.float32
    assert spread.fingerprint() == clp.load_model(folder / "half", dtype="float32").fingerprint()


def test_tied_weights_on_disk(folder, tmp_path, tokenizer):
    module = make_module("gemma2")
    assert module.config.tie_word_embeddings
    module.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    whole, spread = clp.load_model(tmp_path), clp.load_model(tmp_path, device_map={"": "disk"})
    assert spread.fingerprint() == whole.fingerprint()
    head = find_head(spread)
    assert head is not None
    assert torch.equal(head.weight, find_head(whole).weight)


def test_copies_have_the_weights_that_lie_on_disk(whole, folder):
    spread = clp.load_model(folder, device_map={"": "disk"})
    copied = copy_model(spread, [0, 2], torch.float32)
    names = {"model.layers.0.": "model.layers.0.", "model.layers.1.": "model.layers.2."}
    state = whole[0].module.state_dict()
    for name, weights in copied.module.state_dict().items():
        start = next((new for new in names if name.startswith(new)), None)
        of = name if start is None else names[start] + name.removeprefix(start)
        assert torch.equal(weights, state[of])


def test_only_wanted_weights_are_read(folder):
    spread = clp.load_model(folder, device_map={"": "disk"})
    read = [name for name, _, fetched in list_tensors(spread.module, lambda name: ".1." in name) if fetched]
    assert read
    assert all(name.startswith("model.layers.1.") for name in read)


def test_weights_that_nobody_holds_are_told():
    module = torch.nn.Linear(2, 2, device="meta")
    with pytest.raises(LookupError, match="'weight' are on the meta device"):
        fetch_weight(module, "weight")


def test_what_blocks_share_is_brought_to_a_device_once():
    carrier, device = Carrier(), torch.device("meta")
    mask, angles = torch.zeros(2, 2), (torch.ones(2), torch.ones(3))
    first, again = (carrier.send({"mask": mask, "angles": angles, "step": 3}, device) for _ in range(2))
    assert first["step"] == 3
    assert first["mask"].device == device
    assert first["mask"] is again["mask"]
    assert first["angles"][1] is again["angles"][1]
    mask.add_(1)  # another one now
    assert carrier.send(mask, device) is not first["mask"]
    assert carrier.send(mask, torch.device("cpu")) is mask


def test_a_map_is_part_of_no_key(folder):
    def describe(device_map):
        network = Network(make_config({"model": {"name": str(folder), "device_map": device_map}}).model)
        return describe_network(network.network), network.describe_network()

    assert describe("") == describe(HALVES) == describe("auto")


def test_a_run_goes_on_with_another_map(folder, whole):
    known = Network(make_config({"model": {"name": str(folder)}}).model).network
    other = Network(make_config({"model": {"name": str(folder), "device_map": HALVES}}).model, known)
    assert other.network == known
    assert not other.is_open  # where weights lie says nothing of what they are


WRONG = {
    "no such way": ("quick", "'quick' is none of auto, balanced, sequential"),
    "empty": ({}, "an empty table"),
    "no such device": ({"": "tpu"}, "puts '' on 'tpu'; it must be the number of a GPU, cuda:N, mps, cpu or disk"),
    "no such part": (
        {"model.layer": "cpu"},
        r"names 'model.layer', .* did you mean 'model.layers'\?: it has model.emb",
    ),
    "a part is missing": ({"model": "cpu"}, "no device for the weights 'lm_head.weight': name every part"),
    "no such GPU": ({"": 99}, "puts '' on 99: this machine has"),
}


@pytest.mark.parametrize(("device_map", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_map_is_told(device_map, told, folder):
    with pytest.raises(InputError, match=told):
        clp.load_model(folder, device_map=device_map)


def test_a_map_goes_without_a_device(folder):
    with pytest.raises(InputError, match="device is 'cpu' and device_map 'auto'; give one of the two"):
        clp.load_model(folder, device="cpu", device_map="auto")


def test_without_the_package_one_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr("completions_lp.checkpoint.place.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs the package accelerate: pip install 'completions-lp\[large\]'"):
        clp.load_model(folder, device_map="auto")


@pytest.fixture
def gpus(build_model, monkeypatch):
    """A function that lets a model be on two GPUs of 100 bytes, of which its weights take some, and some are free."""

    def make(weights, free):
        model = build_model("llama")
        properties = type("Properties", (), {"total_memory": 100})
        two = torch.device("cuda", 0), torch.device("cuda", 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 100))
        monkeypatch.setattr("completions_lp.model.memory.count_bytes", lambda _: {two[1]: weights})
        monkeypatch.setitem(model.__dict__, "devices", two)
        monkeypatch.setattr(type(model), "device", two[0])
        monkeypatch.setattr("completions_lp.model.memory._ROOMS", {})
        return model

    return make


@pytest.mark.parametrize(("weights", "most"), [(0, 25), (40, 25), (60, 20), (98, 1)])
def test_of_a_gpu_a_pass_takes_a_quarter_or_half_of_what_weights_leave(weights, most, gpus):
    assert Room.find(gpus(weights, free=100), None).bytes == most


def test_what_else_takes_a_gpu_is_told_and_changes_no_batch(gpus):
    with pytest.warns(UserWarning, match=r"cuda:[01] has .* GiB free, and passes are made for"):
        assert Room.find(gpus(60, free=19), None).bytes == 20
    assert Room.find(gpus(60, free=5), 1e-9).bytes == 1  # by hand


def test_arrays_of_every_kind_are_compared(whole):
    _, found = whole
    assert {name.split()[0] for name in found} == {"scores", "choices", "draws", "vectors", "means", "lens"}
    changed = dict(found)
    name = next(name for name in found if name.endswith("token_ids"))
    changed[name] = np.zeros_like(found[name])
    assert compare(found, changed)[name] == np.inf
