"""Attention of packed trees against its definition, node by node; passes of large trees against plain rows."""

import numpy as np
import pytest
import reference
import torch
import transformers
from conftest import make_module

from completions_lp.model import attention, decoding, wavefront, wrap_model
from completions_lp.model.attention import Layout, can_attend
from completions_lp.model.decoding import RowDecoder, TreeDecoder
from completions_lp.model.engine import score_plainly
from completions_lp.model.wavefront import Wavefront
from completions_lp.records import Condition, SteeringVector

PROMPTS, VARIANTS, HEADS, KEY_HEADS, SIZE = 2, 3, 4, 2, 8
SIZES, WIDTH, KEYS = (5, 7), 7, 12


def make_case(*, variants):
    """Random queries ``[variant, prompt, head, node, size]``, keys, values, and what each node sees."""
    rng = np.random.default_rng(0)
    query = rng.standard_normal((variants, PROMPTS, HEADS, WIDTH, SIZE))
    keys, values = rng.standard_normal((2, variants, PROMPTS, KEY_HEADS, KEYS, SIZE))
    visible = rng.random((PROMPTS, WIDTH, KEYS)) < 0.4
    visible[..., 3] = True
    return query, keys, values, visible


def want_case(query, keys, values, visible):
    """``[variant, prompt, node, head, size]``."""
    found = np.zeros((*query.shape[:2], WIDTH, HEADS, SIZE))
    for v, p, head, node in np.ndindex(*query.shape[:4]):
        own = keys[v, p, head // 2], values[v, p, head // 2]
        seen = np.flatnonzero(visible[p, node])
        found[v, p, node, head] = reference.attend(query[v, p, head, node], *own, seen, 0.3)
    return found


def attend(layout, query, keys, values, visible):
    mask = torch.where(torch.from_numpy(visible), 0.0, -torch.inf)[:, None].double()
    attention._LAYOUTS.append(layout)
    try:
        found, _ = attention._attend(None, *map(torch.from_numpy, (query, keys, values)), mask, scaling=0.3)
    finally:
        attention._LAYOUTS.pop()
    return found.numpy()


@pytest.mark.parametrize("sizes", [(), SIZES])
@pytest.mark.parametrize("by_prompt", [False, True])
@pytest.mark.parametrize("part", [1, 3, 100])
def test_variants_of_prompts_attend_as_the_definition_says(sizes, by_prompt, part):
    query, keys, values, visible = make_case(variants=VARIANTS)
    want = want_case(query, keys, values, visible)
    if by_prompt:
        keys, values = (np.swapaxes(x, 0, 1).reshape(PROMPTS, -1, KEYS, SIZE) for x in (keys, values))
    else:
        keys, values = (x.reshape(-1, KEY_HEADS, KEYS, SIZE) for x in (keys, values))
    found = attend(
        Layout(PROMPTS, sizes=sizes, part=part), query.reshape(-1, HEADS, WIDTH, SIZE), keys, values, visible
    )
    found = found.reshape(want.shape)
    for prompt, size in enumerate(SIZES):
        np.testing.assert_allclose(found[:, prompt, :size], want[:, prompt, :size], atol=1e-12)


@pytest.mark.parametrize("sizes", [(), SIZES])
def test_packed_nodes_attend_as_the_definition_says(sizes):
    query, keys, values, visible = make_case(variants=1)
    want = want_case(query, keys, values, visible)[0]
    row = np.repeat(np.arange(PROMPTS), SIZES)
    column = np.concatenate([np.arange(size) for size in SIZES])
    packed = query[0][row, :, column].transpose(1, 0, 2)[None]
    layout = Layout(PROMPTS, torch.from_numpy(row), torch.from_numpy(column), WIDTH, sizes, 2)
    found = attend(layout, packed, keys[0], values[0], visible)
    np.testing.assert_allclose(found[0], want[row, column], atol=1e-12)


def test_it_is_ours_only_where_a_model_takes_the_interface_and_sdpa(build_model, tokenizer):
    assert can_attend(build_model("llama"))
    assert not can_attend(build_model("gemma2"))  # eager: a soft cap of its scores
    config = transformers.FalconConfig(vocab_size=320, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    falcon = transformers.FalconForCausalLM(config)
    assert falcon.config._attn_implementation == "sdpa"
    assert not can_attend(wrap_model(falcon, tokenizer))  # has an attention of its own


LARGE = {"llama": True, "gpt2": True, "neox": True, "mistral": True, "gemma2": False}
"""Families, and whether their nodes are packed; two have a sliding window that is narrower than what is said."""


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("architecture", LARGE)
def test_large_trees_equal_plain_rows(tokenizer, monkeypatch, exact_softmax, architecture, parts):
    """Scored under three layers, two prompts side by side, and decoded with branches that end: in float64."""
    monkeypatch.setattr(wavefront, "PART", 3 if parts else 1000)
    monkeypatch.setattr(wavefront.math, "isqrt", lambda _: 0)
    monkeypatch.setattr(decoding, "PART", 3)
    monkeypatch.setattr(attention, "CALL", 0 if parts else 10**12)
    model = wrap_model(make_module(architecture, dtype=torch.float64), tokenizer)
    assert can_attend(model) == LARGE[architecture]
    rng = np.random.default_rng(1)
    prompts = [rng.integers(2, 200, size=n).tolist() for n in (11, 4)]
    said = [[rng.integers(2, 5, size=9).tolist() for _ in range(n)] for n in (14, 9)]
    vector = SteeringVector("v", "random", {n: rng.standard_normal(model.d_model) for n in range(model.n_layers)})
    conditions = [Condition("v", "random", layer, m) for layer in range(model.n_layers) for m in (-1.0, 2.0)]
    found = Wavefront(model, prompts, said, whole=False).score({"v": vector}, conditions)
    for prompt, completions, reduced in zip(prompts, said, found, strict=True):
        want = score_plainly(model, prompt, completions, vector, conditions)
        np.testing.assert_allclose(reduced.logprob.sum(-1), want, atol=1e-8)

    tree, rows = TreeDecoder(model, prompts), RowDecoder(model, prompts)
    prompt, parent, token = [0, 1], [0, 0], [ids[-1] for ids in prompts]
    for _ in range(6):
        both = [torch.cat([x.clone() for _, x in decoder.step(prompt, parent, token)]) for decoder in (tree, rows)]
        torch.testing.assert_close(*both, atol=1e-8, rtol=0)
        kept = sorted(rng.choice(len(prompt), size=max(2, int(0.7 * len(prompt))), replace=False).tolist())
        parent = [node for node in kept for _ in range(3)]
        prompt, token = [prompt[node] for node in parent], rng.integers(2, 200, size=len(parent)).tolist()
