import json
import shutil

import pytest
import torch
import transformers
from conftest import make_module

from completions_lp.job.config import DATA
from completions_lp.model import hash_tokenizer, identity, load_model, wrap_model
from completions_lp.model.identity import CHUNK, hash_config, hash_weights
from completions_lp.records import InputError

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8]
WIDTH = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int32}


class Holder(torch.nn.Module):
    """Tensors by name."""

    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))


def draw(n, dtype=torch.float32, seed=0):
    values = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return (10 * values if dtype == torch.int8 else values).to(dtype)


def check_slowly(values):
    """The checksum as its docstring has it, in Python's own integers."""

    def odd(place):
        z = (place + 1) * 0x9E3779B97F4A7C15 % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31 | 1

    bits = values.view(WIDTH[values.element_size()]).tolist()
    total = sum(b * odd(i % CHUNK) * odd(CHUNK + i // CHUNK) for i, b in enumerate(bits)) % 2**64
    return total - 2**64 if total >= 2**63 else total


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [0, 1, 7, CHUNK, 2 * CHUNK + 3])
def test_the_checksum_is_what_it_says(dtype, n):
    for rows in (1, 2, 512):  # a GPU takes many rows at once
        assert identity._add_up(draw(n, dtype), rows) == (check_slowly(draw(n, dtype)), True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_bit_of_any_value_changes_the_hash(dtype):
    """It was sampled, 1024 values a tensor: a changed value among the others went unseen."""
    n = CHUNK + 50
    module, values = torch.nn.Module(), draw(n, dtype)
    module.register_buffer("weight", values)
    size, raw = values.element_size(), values.view(torch.uint8)
    others = torch.randint(n, (20,), generator=torch.Generator().manual_seed(1)).tolist()
    places = {0, 1, 1023, CHUNK - 1, CHUNK, n - 1, *others}
    flips = [(size * place + byte, bit) for place in places for byte in range(size) for bit in range(8)]
    seen = {hash_weights(module)}
    for place, bit in flips:
        raw[place] ^= 1 << bit
        seen.add(hash_weights(module))
        raw[place] ^= 1 << bit
    assert len(seen) == 1 + len(flips)
    assert hash_weights(module) in seen


@pytest.mark.parametrize("dtype", DTYPES[:4], ids=str)
def test_two_signs_changed_do_not_cancel(dtype):
    values, changed = draw(9, dtype), draw(9, dtype)
    changed[[2, 5]] *= -1
    assert hash_weights(Holder(a=values)) != hash_weights(Holder(a=changed))


def test_places_names_shapes_and_precisions_count():
    values = draw(3 * CHUNK)
    one, two, far, mirror = (values.clone() for _ in range(4))
    mirror[[1, CHUNK]] = values[[CHUNK, 1]]
    one[[3, 4]] = values[[4, 3]]
    two[[3, 3 + CHUNK]] = values[[3 + CHUNK, 3]]
    far[:CHUNK], far[CHUNK : 2 * CHUNK] = values[CHUNK : 2 * CHUNK], values[:CHUNK]
    hashes = {
        hash_weights(Holder(**tensors))
        for tensors in (
            {"a": values}, {"a": one}, {"a": two}, {"a": far}, {"a": mirror}, {"b": values}, {"a": values.view(3, -1)},
            {"a": values.double()}, {"a": values, "b": values}, {"a": values[:-1]},
            {"a": torch.cat([values, torch.zeros(1)])},
        )
    }  # fmt: skip
    assert len(hashes) == 11


def test_the_hash_is_of_the_checkpoint_at_its_precision():
    single, again = load_model(DATA / "tiny-chooser"), load_model(DATA / "tiny-chooser")
    half = load_model(DATA / "tiny-chooser", dtype="bfloat16")
    assert single.fingerprint() == again.fingerprint() != half.fingerprint()


def test_weights_are_read_once(build_model, monkeypatch):
    model = wrap_model(make_module("llama"), build_model("llama").tokenizer)
    calls = []
    monkeypatch.setattr(identity, "_add_up", lambda tensor, _: calls.append(tensor) or (1, True))
    first = model.describe()
    n = len(calls)
    assert model.describe() == first
    assert model.fingerprint() == first["weights"]
    assert len(calls) == n == len(list(model.module.parameters()))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", DTYPES[:4], ids=str)
def test_weights_that_are_no_numbers_are_refused(value, dtype):
    values = draw(CHUNK + 9, dtype).view(-1, 1)
    values[[3, CHUNK + 8]] = value
    with pytest.raises(InputError) as caught:
        hash_weights(Holder(a=draw(3), b=values))
    assert str(caught.value).startswith(f"weights 'b': 2 of {CHUNK + 9} values are NaN or infinite in {str(dtype)[6:]}")


def test_a_mask_may_be_infinite():
    module = Holder(a=draw(3))
    module.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    assert len(hash_weights(module)) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": {"rope_theta": 10001.0, "rope_type": "default"}},
        {"rms_norm_eps": 1e-5},
        {"hidden_act": "gelu"},
        {"max_position_embeddings": 256},
        {"num_key_value_heads": 4},
        {"a_field_of_a_later_version": 1},
    ],
)
def test_what_weights_do_not_tell_changes_the_hash_of_the_configuration(changes):
    module = make_module("llama")
    before = hash_config(module, frozenset({0}))
    for name, value in changes.items():
        setattr(module.config, name, value)
    assert hash_config(module, frozenset({0})) != before


def test_a_sliding_window_and_what_ends_a_text_change_the_hash_of_the_configuration():
    module = make_module("mistral")
    before = hash_config(module, frozenset({0}))
    assert hash_config(module, frozenset({0, 7})) != before
    module.config.sliding_window = 7
    assert hash_config(module, frozenset({0})) != before


def test_names_paths_versions_and_precision_do_not_change_the_hash_of_the_configuration(tmp_path):
    one = load_model(DATA / "tiny-chooser").describe()
    copy = shutil.copytree(DATA / "tiny-chooser", tmp_path / "elsewhere")
    settings = json.loads((copy / "config.json").read_text())
    changes = {"transformers_version": "5.20.0", "architectures": ["X"], "dtype": "float32", "use_cache": False}
    (copy / "config.json").write_text(json.dumps({**settings, **changes, "_name_or_path": "x"}))
    two = load_model(copy, dtype="bfloat16").describe()
    assert one["config"] == two["config"]
    assert one["weights"] != two["weights"]


def change_backend(**changes):
    def change(tokenizer):
        core = json.loads(tokenizer.backend_tokenizer.to_str())
        core.update(changes)
        tokenizer._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(core))

    return change


def swap_merges(tokenizer):
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = core["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]
    change_backend(model=core["model"])(tokenizer)


@pytest.mark.parametrize(
    "change",
    [
        swap_merges,
        change_backend(pre_tokenizer=None),
        change_backend(normalizer={"type": "Lowercase"}),
        lambda tokenizer: setattr(tokenizer, "chat_template", "{{ messages }}"),
        lambda tokenizer: setattr(tokenizer, "eos_token", tokenizer.pad_token),
        lambda tokenizer: setattr(tokenizer, "clean_up_tokenization_spaces", True),
        lambda tokenizer: tokenizer.add_tokens(["<new>"]),
    ],
)
def test_all_that_makes_tokens_of_a_text_changes_the_hash_of_the_tokenizer(change):
    tokenizer = transformers.AutoTokenizer.from_pretrained(DATA / "tiny-chooser")
    before = hash_tokenizer(tokenizer)
    tokenizer("a", padding="max_length", max_length=8, truncation=True)
    assert hash_tokenizer(tokenizer) == before
    change(tokenizer)
    assert hash_tokenizer(tokenizer) != before
