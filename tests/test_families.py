"""Every family of transformers' causal models: which way it takes, and that its numbers are those of plain passes."""

import os

import numpy as np
import pytest
import reference
import torch
from conftest import make_prompts, make_vector, random_completions
from families import CORE, find_path, list_families, make_family
from test_docs import load_script

from completions_lp.doctor import examine_model
from completions_lp.job.config import PromptsSection
from completions_lp.model import wrap_model
from completions_lp.prompts import load_prompts
from completions_lp.records import Sampling
from completions_lp.sample.draws import sample_completions
from completions_lp.score.grid import score_tokens
from completions_lp.steer.conditions import make_conditions

KNOWN = list_families()
TAIL = [family for family in KNOWN if family not in CORE]
FULL = os.environ.get("FULL") == "1"
TRIED = TAIL if FULL else TAIL[::40]
FAST = (
    "cohere",
    "falcon",
    "gemma3",
    "gpt_oss",
    "gptj",
    "granite",
    "mixtral",
    "olmo2",
    "opt",
    "phi",
    "phi3",
    "qwen3_moe",
)
"""Families that must stay on trees, whatever else changes."""

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers has much to say of tiny sizes


@pytest.fixture(scope="module")
def page():
    """What docs/models.md says, by family."""
    return load_script("models").read_page()


def build(family, tokenizer, **options):
    if family not in KNOWN:
        pytest.skip(f"this transformers has no {family}")
    return wrap_model(make_family(family, **options), tokenizer, name=family)


def list_failed(family, tokenizer):
    """What the doctor finds wrong with a family, steered by a vector; a plain Llama tells whether trees are right."""
    model = build(family, tokenizer)
    prompts = load_prompts(PromptsSection().path, tokenizer, limit=3)
    options = {"control": lambda: build("llama", tokenizer), "n_prompts": 2}
    diagnosis = examine_model(model, prompts, [make_vector(model, size=0.5)], **options)
    return [(finding.name, finding.value) for finding in diagnosis.failed]


@pytest.mark.parametrize("family", CORE)
def test_a_family_takes_the_way_that_the_documentation_says(family, page, tokenizer):
    if family not in KNOWN:
        pytest.skip(f"this transformers has no {family}")
    found = find_path(family, tokenizer)
    assert (found.path, found.reason[:40]) == (page[family].path, page[family].reason[:40])


def test_families_that_many_use_are_fast(page):
    assert {page[family].path for family in FAST} == {"trees"}
    assert {page[family].path for family in ("llama", "gpt2", "gpt_neox", "qwen2", "gemma2", "mistral")} == {"trees"}


@pytest.mark.parametrize("family", [family for family in CORE if family not in ("bert", "mllama")])
def test_scores_of_a_family_are_those_of_one_full_pass_for_each_text(family, tokenizer):
    model = build(family, tokenizer)
    completions = random_completions(make_prompts((9, 4)), per_prompt=2)
    vector = make_vector(model, size=0.5)
    for positions in ("completion", "all"):
        layers = [0, model.n_layers - 1]
        conditions = make_conditions([vector], layers=layers, multipliers=(1.0,), positions=positions)
        scores = score_tokens(model, completions, [vector], conditions, progress=False)
        for row, (ids, i) in enumerate(zip(completions.token_ids, completions.prompt_index, strict=True)):
            prompt, said = completions.prompts[i].token_ids, ids[: completions.lengths[row]].tolist()
            truth = reference.score(model.module, prompt, said)
            np.testing.assert_allclose(scores.baseline[row, : len(said)], truth, atol=5e-4)
            for c, condition in enumerate(conditions):
                added = vector.directions[condition.layer]
                truth = reference.score(
                    model.module, prompt, said, layer=condition.layer, added=added, positions=positions
                )
                np.testing.assert_allclose(scores.logprob[c, row, : len(said)], truth, atol=5e-4)
        assert np.nanmax(np.abs(scores.increase)) > 1e-4  # Mamba's streams are long


@pytest.mark.parametrize(
    "family", ["bloom", "gpt_neo", "llama4_text", "mamba", "mpt", "qwen2_5_vl", "qwen3_moe", "zamba2"]
)
def test_a_family_passes_the_doctor(family, tokenizer):
    assert list_failed(family, tokenizer) == []


@pytest.mark.parametrize("family", ["bloom", "mamba", "qwen3_next", "falcon_h1", "gemma3", "qwen3_moe"])
def test_a_family_says_the_same_by_every_way(family, tokenizer):
    """Draws of the way that is taken and of plain rows, at the same random numbers, and their log probs."""
    model = build(family, tokenizer)
    prompts = make_prompts((6, 3))
    sampling = Sampling(n=4, max_new_tokens=5, seed=0)
    ways = [
        sample_completions(model, prompts, sampling=sampling, engine=way, progress=False) for way in ("auto", "rows")
    ]
    np.testing.assert_array_equal(ways[0].token_ids, ways[1].token_ids)
    np.testing.assert_allclose(ways[0].logprob, ways[1].logprob, atol=5e-4)
    for row, ids in enumerate(ways[0].token_ids):
        said = ids[: ways[0].lengths[row]].tolist()
        truth = reference.score(model.module, prompts[ways[0].prompt_index[row]].token_ids, said)
        np.testing.assert_allclose(ways[0].logprob[row, : len(said)], truth, atol=5e-4)


@pytest.mark.parametrize("positions", ["completion", "all"])
@pytest.mark.parametrize("family", ["zamba2", "falcon_h1", "bloom"])
def test_a_steered_family_is_steered_at_every_token_that_it_says(family, positions, tokenizer):
    """Also where a whole text goes through again for each token: what it has said is steered each time."""
    model = build(family, tokenizer)
    vector, layer = make_vector(model, size=0.5), 1
    (condition,) = make_conditions([vector], layers=[layer], multipliers=(1.0,), positions=positions)
    options = {"sampling": Sampling(n=2, max_new_tokens=5, seed=0), "vectors": [vector], "progress": False}
    drawn = sample_completions(model, make_prompts((6, 3)), condition=condition, **options)
    for row, ids in enumerate(drawn.token_ids):
        prompt, said = drawn.prompts[drawn.prompt_index[row]].token_ids, ids[: drawn.lengths[row]].tolist()
        added = vector.directions[layer]
        truth = reference.score(model.module, prompt, said, layer=layer, added=added, positions=positions)
        np.testing.assert_allclose(drawn.logprob[row, : len(said)], truth, atol=5e-4)


@pytest.mark.parametrize("family", ["bloom", "falcon", "mamba", "qwen3_next", "gpt_oss"])
def test_a_family_keeps_a_wide_residual_stream_beside_half_precision(family, tokenizer):
    model = build(family, tokenizer, dtype=torch.bfloat16)
    seen = []
    handles = [
        block._module.register_forward_hook(lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out))
        for block in model.blocks
    ]
    with torch.no_grad(), model.arithmetic():
        model.module(torch.arange(2, 9)[None], use_cache=False)
    for handle in handles:
        handle.remove()
    assert {stream.dtype for stream in seen} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("family", TRIED)
def test_every_other_family_takes_the_way_that_the_documentation_says(family, page, tokenizer):
    found = find_path(family, tokenizer)
    assert family in page, "python docs/models.py"
    assert found.path == page[family].path
    if FULL and found.path in ("trees", "rows", "whole texts"):
        assert list_failed(family, tokenizer) == []
