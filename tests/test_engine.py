"""The self-check of the engine in half precision: rounding is let pass, a wrong tree is not."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, make_module

from completions_lp.model import compare_engines, decoding, pick_engine, planning, tree, wavefront, wrap_model
from completions_lp.model.specimen import copy_wide

HALVES = (torch.bfloat16, torch.float16)


def make_half(tokenizer, architecture="llama", dtype=torch.bfloat16, **options):
    return wrap_model(make_module(architecture, dtype=dtype, scale=4.0), tokenizer, name="half", **options)


@pytest.mark.parametrize("residual", ["float32", "weights"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rounding_does_not_send_a_model_to_the_plain_rows(tokenizer, architecture, dtype, residual):
    model = make_half(tokenizer, architecture, dtype, residual=residual)
    compared = compare_engines(model)
    assert compared.structure < 5e-5  # in float32
    assert 0 < compared.noise < 1
    assert compared.rounding < 2 * compared.noise + 1e-4
    assert pick_engine(model) == "tree"
    assert model.usage.engine == "tree"


def wrong_token(build):
    def built(completions, root):
        made = build(completions, root)
        tokens = made.tokens.copy()
        tokens[-1] = (tokens[-1] + 1) % 320
        return dataclasses.replace(made, tokens=tokens)

    return built


def wrong_position(build):
    def built(completions, root):
        made = build(completions, root)
        return dataclasses.replace(made, depths=np.where(made.depths > len(root), made.depths - 1, made.depths))

    return built


def wrong_edge(build):
    def built(completions, root):
        made = build(completions, root)
        edges = made.edge_node.copy()
        edges[-1] = max(0, edges[-1] - 1)
        return dataclasses.replace(made, edge_node=edges)

    return built


def lost_ancestor(ancestors):
    def changed(made):
        seen = ancestors.fget(made)
        seen[-1, 0] = False
        return seen

    return property(changed)


def seen_sibling(ancestors):
    def changed(made):
        seen = ancestors.fget(made)
        seen[-1, -2] = True
        return seen

    return property(changed)


def lost_prompt(make):
    def made(model, visible, *positions):
        visible = visible.copy()
        visible[0, -1, 0] = False
        return make(model, visible, *positions)

    return made


MUTATIONS = {
    "a token": (wavefront, "build_tree", wrong_token),
    "a position": (wavefront, "build_tree", wrong_position),
    "the node of an edge": (wavefront, "build_tree", wrong_edge),
    "an ancestor that is not seen": (tree.Tree, "ancestors", lost_ancestor),
    "a sibling that is seen": (tree.Tree, "ancestors", seen_sibling),
    "a token of the prompt that is not seen": (wavefront, "make_masks", lost_prompt),
    "the same where it is decoded": (decoding, "make_masks", lost_prompt),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_tree_that_is_wrong_by_one_thing_fails(tokenizer, monkeypatch, mutation, dtype):
    model = make_half(tokenizer, dtype=dtype)
    owner, name, change = MUTATIONS[mutation]
    before = vars(owner)[name] if isinstance(owner, type) else getattr(owner, name)
    monkeypatch.setattr(owner, name, change(before))
    compared = compare_engines(model)
    assert not compared.exact
    assert compared.structure > 10 * compared.tolerance
    with pytest.warns(UserWarning, match="half takes the plain path, which is slower: the shared tree is .* nats off"):
        assert pick_engine(model) == "rows"
    assert model.usage.engine == "rows"


def test_rounding_that_only_trees_have_is_too_much(tokenizer, monkeypatch):
    """Right in float32, but in half precision far worse than plain rows: a kernel of its own, say."""
    model = make_half(tokenizer)
    score = planning.Wavefront.score

    def noisy(self, vectors, conditions):
        found = score(self, vectors, conditions)
        if self.model.dtype == torch.float32:
            return found
        rng = np.random.default_rng(0)
        return [dataclasses.replace(f, logprob=f.logprob + 0.1 * rng.standard_normal(f.logprob.shape)) for f in found]

    monkeypatch.setattr(wavefront.Wavefront, "score", noisy)
    compared = compare_engines(model)
    assert compared.structure < compared.tolerance
    assert compared.rounding > 3 * compared.noise
    assert not compared.exact
    assert "where plain rows round by" in compared.describe()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_specimen_has_the_ends_of_a_model_that_is_too_large(tokenizer, architecture):
    depth = {"n_layer": 6} if architecture == "gpt2" else {}
    module = deepen(architecture, 6, depth)
    model = wrap_model(module, tokenizer, name="deep", residual="weights")
    wide, own = copy_wide(model, largest=0)
    assert (wide.n_layers, own.n_layers, model.n_layers) == (4, 4, 6)
    assert (wide.dtype, own.dtype, own.residual_dtype) == (torch.float32, torch.bfloat16, torch.bfloat16)
    for new, old in enumerate((0, 1, 4, 5)):
        theirs = dict(model.blocks[old]._module.named_parameters())
        for name, value in own.blocks[new]._module.named_parameters():
            assert torch.equal(value, theirs[name])
            assert torch.equal(dict(wide.blocks[new]._module.named_parameters())[name], theirs[name].float())
    assert torch.equal(own.module.get_output_embeddings().weight, module.get_output_embeddings().weight)
    whole, same = copy_wide(model)
    assert same is model
    assert whole.n_layers == 6
    assert compare_engines(model).exact


def deepen(architecture, n, changes):
    """A model of n blocks, with whatever its configuration lists by layer."""
    import transformers
    from conftest import CONFIGS

    config = CONFIGS[architecture]()
    kind = type(config)
    settings = {k: v for k, v in config.to_dict().items() if k not in ("layer_types", "transformers_version")}
    settings |= changes or {"num_hidden_layers": n}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(kind(**settings)).to(torch.bfloat16)


def test_the_global_generator_is_left_alone(tokenizer):
    model = make_half(tokenizer)
    before = torch.get_rng_state()
    compare_engines(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_model_is_left_alone(tokenizer):
    model = make_half(tokenizer)
    before = copy.deepcopy(model.module.state_dict())
    compare_engines(model)
    after = model.module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert model.module.dtype == torch.bfloat16
