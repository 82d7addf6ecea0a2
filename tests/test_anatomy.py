"""A network whose numbers would not mean what they say is refused in one line; each fault is made on purpose."""

import numpy as np
import pytest
import reference
import torch
from conftest import make_module, make_prompts, make_vector, random_completions
from families import list_families, make_family

from completions_lp.model import (
    Room,
    RowDecoder,
    Task,
    compare_engines,
    load_model,
    masks,
    pick_engine,
    score_rows,
    wrap_model,
)
from completions_lp.model.anatomy import check_anatomy
from completions_lp.model.attention import can_attend
from completions_lp.model.footprint import prefill_bytes
from completions_lp.records import InputError
from completions_lp.score.grid import score_tokens
from completions_lp.steer.conditions import make_conditions

pytestmark = pytest.mark.filterwarnings("ignore:.*plain path.*", "ignore:.*falling back.*")


def repeat_a_block(module):
    """As models do that loop over their blocks."""
    module.model.layers.append(module.model.layers[1])  # the very same module, at the end again
    module.model.config.num_hidden_layers = 4


def skip_a_block(module):
    module.model.config.num_hidden_layers = 2  # the forward pass goes through the first two of three


def stack_streams(module):
    """Two streams at once: what hyper-connections make."""
    for layer in module.model.layers:
        layer.register_forward_hook(lambda _, __, out: torch.stack([out, out], 2))
        layer.register_forward_pre_hook(
            lambda _, args: (args[0][:, :, 0] if args[0].dim() == 4 else args[0], *args[1:])
        )
    module.model.norm.register_forward_pre_hook(lambda _, args: (args[0][:, :, 0],))


def change_the_stream(module):
    module.model.layers[1].register_forward_pre_hook(lambda _, args: (args[0] * 1.01, *args[1:]))


def look_ahead(module):
    module.model.layers[0].register_forward_hook(lambda _, __, out: out + out.mean(1, keepdim=True))


def look_at_other_rows(module):
    module.model.layers[0].register_forward_hook(lambda _, __, out: out + 0.1 * (out[:, :1] - out[:1, :1]))


FAULTS = {
    repeat_a_block: "runs block 1 2 times in a pass over text, not once",
    skip_a_block: "runs block 2 0 times in a pass over text, not once",
    stack_streams: r"has no single residual stream: block 0 puts out an array \[2, 12, 2, 32\]",
    change_the_stream: "changes the residual stream between blocks 0 and 1",
    look_ahead: "reads ahead: log probs change by .* nats with the tokens that come after",
    look_at_other_rows: "gives a text other log probs, .* nats off, when it is computed beside others",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_that_cannot_be_steered_rightly_is_refused(fault, dtype, tokenizer):
    module = make_module("llama", dtype=dtype, scale=4.0)
    model = wrap_model(module, tokenizer, name="odd")
    fault(module)
    with pytest.raises(InputError, match=f"^model 'odd': LlamaForCausalLM {FAULTS[fault]}") as caught:
        pick_engine(model)
    assert "\n" not in str(caught.value)


def test_a_sound_network_is_checked_once_and_pays_nothing(tokenizer):
    model = wrap_model(make_module("llama"), tokenizer)
    calls = []
    model.blocks[0]._module.register_forward_hook(lambda *_: calls.append(1))
    assert check_anatomy(model).recall == "cache"
    n = len(calls)
    assert 0 < n < 20
    assert check_anatomy(model).reason == ""
    assert len(calls) == n
    assert model.usage.tokens == model.usage.passes == 0


@pytest.mark.filterwarnings("ignore")
def test_a_masked_language_model_is_refused_as_it_is_loaded(tmp_path, tokenizer):
    """AutoModelForCausalLM loads BERT without ado, and every number of it would be wrong."""
    make_family("bert").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="BertLMHeadModel reads ahead"):
        load_model(tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["mamba", "qwen3_next", "jamba", "bart"])
def test_whole_texts_are_read_where_keys_and_values_do_not_continue_a_model(family, tokenizer):
    model = wrap_model(make_family(family), tokenizer, name=family)
    with pytest.warns(UserWarning, match="prompts go through it again with each completion"):
        assert pick_engine(model) == "rows"
    assert model.usage.recall == "tokens"
    completions = random_completions(make_prompts((7, 2, 5)), per_prompt=2)
    vector = make_vector(model)
    for positions in ("completion", "all"):
        conditions = make_conditions([vector], layers=[1], multipliers=(0.0, -1.0), positions=positions)
        scores = score_tokens(model, completions, [vector], conditions, progress=False)
        assert np.nanmax(np.abs(scores.increase[0])) < 1e-5
        for row, ids in enumerate(completions.token_ids):
            prompt = completions.prompts[completions.prompt_index[row]].token_ids
            said = ids[: completions.lengths[row]].tolist()
            truth = reference.score(
                model.module, prompt, said, layer=1, added=-vector.directions[1], positions=positions
            )
            np.testing.assert_allclose(scores.logprob[1, row, : len(said)], truth, atol=5e-4)
    with pytest.raises(InputError, match=r"engine 'tree': .* has no keys and values that a tree could share"):
        pick_engine(model, "tree")


@pytest.mark.filterwarnings("ignore")
def test_whole_texts_give_what_a_cache_gives(tokenizer):
    """On a model that can do both, in every precision of the head."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        kept, read = (wrap_model(make_module("gemma2", dtype=dtype, scale=4.0), tokenizer) for _ in range(2))
        read.usage.recall = "tokens"
        completions = random_completions(make_prompts((7, 1, 5)), per_prompt=2)
        vector = make_vector(kept)
        conditions = make_conditions([vector], layers=[0, 2], multipliers=(1.0,), positions="all")
        said = [row[:n].tolist() for row, n in zip(completions.token_ids, completions.lengths, strict=True)]
        found = []
        for model in (kept, read):
            task = Task(
                model, completions.prompts, completions.prompt_index, said, {"v": vector}, conditions, Room(2**30)
            )
            found.append({(*map(int, rows), *map(int, some)): one for rows, some, one in score_rows(task)})
        assert found[0].keys() == found[1].keys()
        atol = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1}[dtype]
        for key, one in found[0].items():
            n, width = one.logprob.shape[1:]
            there = np.arange(width) < np.array([len(said[row]) for row in key[:n]])[:, None]
            assert np.abs(one.logprob - found[1][key].logprob)[:, there].max() < atol


@pytest.mark.filterwarnings("ignore")
def test_decoding_without_a_cache_grows_the_right_texts(tokenizer):
    model = wrap_model(make_family("falcon_h1"), tokenizer)
    check_anatomy(model)
    prompts = [[5, 6, 7, 8], [9]]
    decoder = RowDecoder(model, prompts)
    texts = [[[5, 6, 7, 8, 20], [5, 6, 7, 8, 21]], [[9, 22]]]
    list(decoder.step([0, 1], [0, 0], [8, 9]))
    ((_, logits),) = decoder.step([0, 0, 1], [0, 0, 1], [20, 21, 22])
    truth = [reference.logits_of(model.module, text)[-1] for some in texts for text in some]
    torch.testing.assert_close(logits.double(), torch.stack(truth), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("family", "name", "narrow", "wide"), [
    ("gpt_neo", "window_size", 6, 256), ("llama4_text", "attention_chunk_size", 6, 8192),
])  # fmt: skip
def test_a_window_that_a_short_trial_cannot_show_is_told_by_its_name(
    family, name, narrow, wide, tokenizer, monkeypatch
):
    """Without the list of names a tree is wrong in a narrow window, and seems right in one wider than the trial."""
    for size in (narrow, wide):
        compared = compare_engines(wrap_model(make_family(family, **{name: size}), tokenizer))
        assert not compared.exact
        assert name in compared.reason
    monkeypatch.setattr(masks, "WINDOWS", ())
    if family == "gpt_neo":
        narrowed, widened = (
            compare_engines(wrap_model(make_family(family, window_size=n), tokenizer)) for n in (narrow, wide)
        )
        assert (narrowed.exact, widened.exact) == (False, True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_works_on_keys_behind_its_cache_has_trees_with_its_own_attention(dtype, tokenizer):
    """As those with latent keys and values do, which are widened after they are kept."""
    latent = wrap_model(make_family("deepseek_v3", dtype=dtype), tokenizer)
    plain = wrap_model(make_module("llama", dtype=dtype, scale=4.0), tokenizer)
    assert can_attend(latent)
    assert compare_engines(latent).exact
    assert not can_attend(latent)
    assert pick_engine(latent, "tree") == "tree"
    assert compare_engines(plain).exact
    assert can_attend(plain)


@pytest.mark.filterwarnings("ignore")
def test_texts_end_where_rotary_positions_would_be_stretched(tokenizer):
    """From there on, what a text gets depends on the longest one beside it."""
    rotary = {
        "rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4,
        "original_max_position_embeddings": 16,
    }  # fmt: skip
    changes = {"rope_parameters": rotary, "max_position_embeddings": 64, "original_max_position_embeddings": 16}
    module = make_family("phi3", **changes)
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        alone, padded, beside = (
            module(torch.nn.functional.pad(ids, (0, more)), use_cache=False).logits[:, :10] for more in (0, 6, 20)
        )
    assert float((alone - padded).abs().max()) < 1e-4
    assert float((alone - beside).abs().max()) > 0.01
    assert wrap_model(module, tokenizer).context_length == 16
    assert wrap_model(make_family("phi3"), tokenizer).context_length == 512


def test_a_model_without_an_output_head_is_refused(tokenizer, monkeypatch):
    module = make_module("llama")
    monkeypatch.setattr(type(module), "get_output_embeddings", lambda _: None)
    with pytest.raises(InputError, match="LlamaForCausalLM has no output head"):
        wrap_model(module, tokenizer)


def test_blocks_are_found_where_the_decoder_is_named_wrongly(tokenizer, monkeypatch):
    module = make_module("llama")
    monkeypatch.setattr(type(module), "get_decoder", lambda self: self.lm_head)
    assert [block._module for block in wrap_model(module, tokenizer).blocks] == list(module.model.layers)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["gemma3", "llava", "qwen2_5_vl"])
def test_a_model_of_text_and_images_is_loaded_for_its_text(family, tokenizer, tmp_path):
    """One that transformers has among causal models, and two that it does not."""
    module = make_family(family)
    module.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert type(model.module) is type(module)
    assert (model.n_layers, model.d_model) == (4, 32)
    assert pick_engine(model) == "tree"
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        assert torch.equal(model.module(ids).logits, module(ids).logits)


@pytest.mark.filterwarnings("ignore")
def test_memory_of_keys_and_values_is_counted_layer_by_layer(tokenizer):
    """Gemma 4 has wider heads in its full layers; Mamba has none."""
    if "gemma4_text" in list_families():
        model = wrap_model(make_family("gemma4_text"), tokenizer)
        cache = RowDecoder(model, [[5, 6, 7, 8]]).prefix.cache
        kept = sum(part.numel() for layer in cache.layers for part in (layer.keys, layer.values))
        assert model.kv_bytes == 4 * kept // 3  # three tokens, in float32
    for family in ("mamba", "mamba2", "rwkv"):
        model = wrap_model(make_family(family), tokenizer)
        assert model.kv_bytes == 0
        assert prefill_bytes(model, 9) > 0
    assert wrap_model(make_module("llama"), tokenizer).kv_bytes == 3 * 2 * 2 * 8 * 4
