"""Half precision: products in it, all else in float32; against float32 arithmetic on the very same weights."""

import copy

import nnsight
import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, make_module, make_prompts, make_vector, random_completions
from torch.nn import functional

from completions_lp.model import RowDecoder, TreeDecoder, wrap_model
from completions_lp.model.arithmetic import Promoted, multiply, multiply_change
from completions_lp.model.head import Head
from completions_lp.model.output import find_head
from completions_lp.model.residual import residual_stream
from completions_lp.records import InputError
from completions_lp.score.grid import score_tokens
from completions_lp.steer.conditions import make_conditions

HALVES = (torch.bfloat16, torch.float16)
GAIN = {"gemma2": 1.05}
"""Part of the plain way's error that may be left; Gemma rounds the factor of its embedding, whatever comes after."""


@pytest.fixture(scope="module")
def trio(tokenizer):
    """A function that gives a half-precision model three times: float32 arithmetic, ours, and the plain way."""
    made = {}

    def build(architecture, dtype=torch.bfloat16):
        if (architecture, dtype) not in made:
            module = make_module(architecture, dtype=dtype, scale=4.0)
            exact = copy.deepcopy(module).float()
            made[architecture, dtype] = [
                wrap_model(exact, tokenizer, name=architecture),
                wrap_model(module, tokenizer, name=architecture),
                wrap_model(copy.deepcopy(module), tokenizer, name=architecture, residual="weights"),
            ]
        return made[architecture, dtype]

    return build


def sums(model, completions, vectors, conditions, **options):
    """[1 + condition, completion] log probs."""
    scores = score_tokens(model, completions, vectors, conditions, progress=False, **options)
    return np.nansum(np.concatenate([scores.baseline[None], scores.logprob]), -1, dtype=np.float64)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_nearer_to_float32_arithmetic_than_the_plain_way(trio, architecture, engine, dtype):
    models = trio(architecture, dtype)
    completions = random_completions(make_prompts(), per_prompt=40)
    vector = make_vector(models[0])
    conditions = make_conditions([vector], layers=[0, 1], multipliers=(-0.5, 0.5))
    exact, ours, plain = (sums(model, completions, [vector], conditions, engine=engine) for model in models)
    increases = [values[1:] - values[:1] for values in (exact, ours, plain)]
    error, plainly = (np.sqrt(((values - increases[0]) ** 2).mean()) for values in increases[1:])
    assert increases[0].std() > 0.05  # steering does something
    assert error < GAIN.get(architecture, 0.8) * plainly
    unsteered, plainly = (np.square(values[0] - exact[0]).mean() for values in (ours, plain))
    assert unsteered < GAIN.get(architecture, 0.9) * plainly


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_residual_stream_is_float32_and_the_weights_are_not(trio, architecture):
    _, model, _ = trio(architecture)
    network, found = model.network, []
    with torch.no_grad(), model.arithmetic(), network.trace(input_ids=torch.arange(2, 9)[None]):
        for block in model.blocks:
            found.append(nnsight.save(residual_stream(block.output)))
    assert {stream.dtype for stream in found} == {torch.float32}
    assert {p.dtype for p in model.module.parameters()} == {torch.bfloat16}
    assert (model.dtype, model.residual_dtype, model.exact_dtype) == (torch.bfloat16, torch.float32, torch.float32)


def test_a_vector_below_the_rounding_of_half_precision_is_still_added(trio):
    """At a ten-thousandth of the stream the plain way adds nothing that is right; float32 adds it whole."""
    exact, ours, plain = trio("llama")
    network, block = exact.network, exact.blocks[1]
    with torch.no_grad(), network.trace(input_ids=torch.arange(2, 9)[None]):
        stream = nnsight.save(block.output)
    direction = torch.randn(exact.d_model, generator=torch.Generator().manual_seed(0))
    direction *= 1e-4 * float(stream.norm(dim=-1).mean()) / float(direction.norm())
    added = {}
    for name, model in (("ours", ours), ("plain", plain)):
        network, block = model.network, model.blocks[1]
        with torch.no_grad(), model.arithmetic(), network.trace(input_ids=torch.arange(2, 9)[None]):
            before = nnsight.save(block.output.clone())
            block.output[:] += direction.to(block.output)
            after = nnsight.save(block.output.clone())
        added[name] = (after.double() - before.double() - direction.double()).norm(dim=-1) / direction.double().norm()
    assert float(added["ours"].max()) < 0.01
    assert float(added["plain"].min()) > 0.5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("decoder", [TreeDecoder, RowDecoder])
def test_decoders_give_logits_as_exact(trio, architecture, decoder):
    prompts = [list(prompt.token_ids) for prompt in make_prompts() if len(prompt.token_ids) > 1]
    last = [prompt[-1] for prompt in prompts]
    step = list(range(len(prompts))), [0] * len(prompts), last
    exact, ours, plain = (
        torch.cat([logits.clone() for _, logits in decoder(model, prompts).step(*step)]) for model in trio(architecture)
    )
    assert ours.dtype == torch.float32
    assert (ours - exact).square().mean() < GAIN.get(architecture, 0.8) * (plain - exact).square().mean()


@pytest.mark.parametrize("cap", [None, 8.0])
@pytest.mark.parametrize("bias", [False, True])
def test_a_head_rounds_in_proportion_to_the_change(cap, bias):
    """Logits of half-precision weights: the unsteered row as in float32, the others off by a part of their change."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(900, 64 + bias, generator=generator).bfloat16()
    head = Head(weight, bias, cap, torch.float32, 0.5)
    base = torch.randn(1, 20, 64, generator=generator)
    for size in (1.0, 1e-2, 1e-4):
        hidden = torch.cat([base, base + size * torch.randn(2, 20, 64, generator=generator)])
        found = head.reduce(head.widen(hidden), divergences=True)
        wide = torch.cat([hidden, torch.ones(3, 20, 1)], -1) if bias else hidden
        logits = 0.5 * wide.double() @ weight.double().T
        logits = cap * torch.tanh(logits / cap) if cap else logits
        lse = logits.logsumexp(-1)
        assert float((found["lse"][0] - lse[0]).abs().max()) < 5e-6
        change, truth = found["lse"][1:] - found["lse"][:1], lse[1:] - lse[:1]
        assert float((change - truth).abs().max()) < 0.05 * size + 5e-6  # of a change of about 4 * size
        logprob = logits.log_softmax(-1)
        kl = (logprob[0].exp() * (logprob[0] - logprob)).sum(-1)
        np.testing.assert_allclose(found["kl"], kl, rtol=0.02, atol=3e-6)
        tokens = torch.arange(20)
        read = head.read(head.widen(hidden).flatten(0, 1), torch.arange(20, 40), tokens)
        np.testing.assert_allclose(read, logits[1, tokens, tokens], atol=2e-5)
        np.testing.assert_allclose(head.logits(head.widen(hidden[1])), logits[1], atol=2e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_form_of_the_head_is_found_in_half_precision(trio, architecture):
    exact, ours, plain = (find_head(model) for model in trio(architecture))
    assert None not in (exact, ours, plain)
    assert exact.cap == ours.cap == plain.cap
    assert exact.scale == ours.scale == plain.scale


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_functions_are_promoted_by_what_they_are(dtype):
    generator = torch.Generator().manual_seed(0)
    states, weight = torch.randn(5, 8, generator=generator), torch.randn(6, 8, generator=generator).to(dtype)
    heads = states.view(1, 1, 5, 8)
    with Promoted():
        for product in (
            functional.linear(states, weight),
            states @ weight.T,
            torch.matmul(states, weight.T),
            torch.addmm(weight[:, 0], states, weight.T),
            torch.einsum("ab,cb->ac", states, weight),
            functional.linear(states, weight, bias=weight[:, 0]),
        ):
            assert product.dtype == dtype
        assert torch.equal(functional.linear(states, weight), functional.linear(states.to(dtype), weight))
        attended = functional.scaled_dot_product_attention(heads, heads.to(dtype), heads.to(dtype))
        assert attended.dtype == dtype
        assert functional.scaled_dot_product_attention(heads, heads, heads).dtype == torch.float32
        ones = torch.ones(8, dtype=dtype)
        assert torch.equal(functional.layer_norm(states, (8,), ones), functional.layer_norm(states, (8,)))
        assert functional.rms_norm(states, (8,), ones).dtype == torch.float32
        assert functional.embedding(torch.arange(3), weight).dtype == torch.float32
        assert (states + weight[:5]).dtype == torch.float32
        assert (states @ states.T).dtype == torch.float32
        assert functional.linear(states.to(dtype), weight).dtype == dtype


def test_states_that_were_changed_in_place_are_rounded_anew():
    states, weight = torch.ones(2, 4), torch.ones(3, 4).bfloat16()
    with Promoted():
        first = functional.linear(states, weight)
        states += 1
        second = functional.linear(states, weight)
    assert (first == 4).all()
    assert (second == 8).all()


def test_products_of_wide_states_with_half_weights_stay_wide():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(7, 33, generator=generator)
    weight = torch.randn(9, 33, generator=generator).bfloat16()
    truth = states.double() @ weight.double().T
    room = torch.empty(7, 9)
    assert multiply(states, weight, out=room) is room
    np.testing.assert_allclose(room, truth, atol=1e-5)
    np.testing.assert_allclose(multiply_change(states, weight).float(), truth, atol=0.1)
    assert float((multiply_change(states, weight) - truth).abs().max()) > 1e-3


def test_a_residual_stream_that_is_neither_is_refused(tokenizer):
    from completions_lp.model import load_model

    with pytest.raises(InputError, match="residual 'half' is none of float32, weights"):
        load_model("nowhere", residual="half")


def test_both_ways_are_recorded(trio):
    exact, ours, plain = (model.describe() for model in trio("llama"))
    assert [model["residual"] for model in (exact, ours, plain)] == ["float32", "float32", "bfloat16"]
    assert [model["dtype"] for model in (exact, ours, plain)] == ["float32", "bfloat16", "bfloat16"]
