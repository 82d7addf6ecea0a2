import numpy as np
import pytest
import torch
from conftest import make_module

from completions_lp.model import compare_engines, head, pick_engine, planning, wrap_model
from completions_lp.model.head import Head, find_head
from completions_lp.model.tree import build_tree, count_nodes
from completions_lp.model.wavefront import Wavefront


def prefixes(completions):
    """Every distinct proper prefix, the empty one included."""
    return {tuple(c[:end]) for c in completions for end in range(len(c))}


def random_sets():
    rng = np.random.default_rng(0)
    for vocab in (2, 5, 50):
        yield [rng.integers(0, vocab, size=rng.integers(1, 7)).tolist() for _ in range(30)]
    yield [[3]]


@pytest.mark.parametrize("completions", random_sets())
@pytest.mark.parametrize("root", [[9], [9, 8, 7]])
def test_a_tree_holds_each_distinct_prefix_once(completions, root):
    tree = build_tree(completions, root)
    assert len(tree.tokens) == len(root) - 1 + len(prefixes(completions)) == len(root) + count_nodes(completions)
    assert len(tree.edge_node) == len({tuple(c[:end]) for c in completions for end in range(1, len(c) + 1)})
    seen = tree.ancestors
    for row, completion in enumerate(completions):
        for t, token in enumerate(completion):
            edge = tree.paths[row, t]
            node = tree.edge_node[edge]
            assert tree.edge_token[edge] == token
            assert tree.depths[node] == len(root) - 1 + t
            assert tree.tokens[seen[node]].tolist() == root + completion[:t]  # what the node sees, in order


def random_head(vocab, d_model, *, dtype=torch.float32, bias=False, finish=None, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    weight = scale * torch.randn(vocab, d_model, generator=generator, dtype=dtype)
    return Head(weight, torch.randn(vocab, generator=generator, dtype=dtype) if bias else None, finish, dtype)


@pytest.mark.parametrize("vocab", [3, 1024, 2500])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("finish", [None, lambda x: 5 * torch.tanh(x / 5)])
def test_the_head_by_blocks_equals_whole_logits(vocab, bias, finish):
    small = random_head(vocab, 16, bias=bias, finish=finish)
    hidden = torch.randn(head.ROWS + 7, 16, generator=torch.Generator().manual_seed(1))
    logits = hidden.double() @ small.weight.double().T
    logits = logits + small.bias.double() if bias else logits
    logits = finish(logits) if finish else logits
    np.testing.assert_allclose(small.logsumexp(hidden), logits.logsumexp(-1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(small.logits(hidden), logits, rtol=1e-4, atol=1e-4)
    nodes, tokens = torch.tensor([0, 5, 5, 518]), torch.tensor([0, 2, 1, vocab - 1])
    np.testing.assert_allclose(small.read(hidden, nodes, tokens), logits[nodes, tokens], rtol=1e-4, atol=1e-4)


def test_a_late_large_logit_does_not_overflow():
    large = random_head(3000, 4)
    large.weight[2900] = torch.tensor([200.0, 0, 0, 0])
    hidden = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0.0, 1, 0, 0]])
    want = (hidden.double() @ large.weight.double().T).logsumexp(-1)
    np.testing.assert_allclose(large.logsumexp(hidden), want, rtol=1e-6)


@pytest.mark.parametrize(("architecture", "finished"), [("llama", False), ("gpt2", False), ("gemma2", True)])
def test_the_head_is_verified_against_the_model(build_model, architecture, finished):
    found = find_head(build_model(architecture))
    assert (found.finish is not None) == finished


def test_an_unknown_head_is_read_from_whole_logits(tokenizer, monkeypatch):
    module = make_module("llama", dtype=torch.float64)
    known = wrap_model(module, tokenizer)
    prompts, said = [[5, 6, 7], [8]], [[[1, 2, 3], [1, 2]], [[4, 4]]]
    want = Wavefront(known, prompts, said, whole=False).score({}, [])
    forward = type(module).forward

    def squared(self, *args, **kwargs):  # logits that no known form of head gives
        out = forward(self, *args, **kwargs)
        out.logits = out.logits * out.logits.abs()
        return out

    monkeypatch.setattr(type(module), "forward", squared)
    odd = wrap_model(make_module("llama", dtype=torch.float64), tokenizer)
    assert find_head(odd) is None
    got = Wavefront(odd, prompts, said, whole=False).score({}, [])
    assert compare_engines(odd)[0] < 1e-9
    assert np.abs(got[0] - want[0]).max() > 0.1


def test_a_model_on_which_the_tree_is_wrong_takes_the_plain_rows_and_says_so(tokenizer, monkeypatch):
    model = wrap_model(make_module("llama"), tokenizer, name="odd")
    assert compare_engines(model)[0] < model.tolerance
    monkeypatch.setattr("completions_lp.model.tree.Tree.ancestors", property(lambda tree: np.eye(len(tree.tokens)) > 0))
    with pytest.warns(UserWarning, match="odd takes the plain path, which is slower: the shared tree is .* nats off"):
        assert pick_engine(model) == "rows"
    assert pick_engine(model) == "rows"  # found once: no second warning, which would be an error here
    assert pick_engine(model, "tree") == "tree"


def test_a_model_on_which_the_tree_cannot_run_takes_the_plain_rows(tokenizer, monkeypatch):
    model = wrap_model(make_module("llama"), tokenizer, name="odd")

    def refuse(*_args, **_options):
        raise TypeError("no such argument")

    monkeypatch.setattr("completions_lp.model.masks.TreeCache.update", refuse)
    with pytest.warns(UserWarning, match="does not run on it .TypeError: no such argument"):
        assert pick_engine(model) == "rows"


def plan(model, said, *, n_conditions=4, budget=2**30, **options):
    prompts = [[1] * (3 + i) for i in range(len(said))]
    return list(planning.plan_wavefronts(model, prompts, said, n_conditions, budget=budget, whole=False, **options))


def test_every_completion_is_planned_once_whatever_the_budget(build_model):
    model = build_model()
    rng = np.random.default_rng(0)
    said = [[rng.integers(0, 9, size=6).tolist() for _ in range(rng.integers(1, 30))] for _ in range(7)]
    for budget in (1, 2**16, 2**20, 2**40):
        for batch_size in (None, 1, 3):
            batches = plan(model, said, budget=budget, batch_size=batch_size)
            pairs = sorted((i, k) for batch in batches for i, kept in batch for k in kept)
            assert pairs == [(i, k) for i, some in enumerate(said) for k in range(len(some))]
    assert max(len(kept) for batch in plan(model, said, budget=1) for _, kept in batch) == 1
    assert max(len(batch) for batch in plan(model, said)) > 1


def test_a_small_budget_splits_the_conditions_and_changes_no_number(build_model):
    from conftest import make_prompts, make_vector, random_completions

    from completions_lp.scoring import make_conditions, score_completions

    model = build_model("llama", dtype=torch.float64)
    completions = random_completions(make_prompts(), per_prompt=6, vocab=3)
    vector = make_vector(model)
    conditions = make_conditions([vector])
    whole, split = (
        score_completions(model, completions, [vector], conditions, memory_budget=budget, progress=False)
        for budget in (1.0, 1e-5)
    )
    np.testing.assert_allclose(split.logprob, whole.logprob, atol=1e-11)


def test_running_out_of_memory_halves_the_conditions(build_model, monkeypatch):
    from conftest import make_vector

    model = build_model("llama", dtype=torch.float64)
    vector = make_vector(model)
    from completions_lp.scoring import make_conditions

    conditions = make_conditions([vector])
    sizes = []
    score = Wavefront.score

    def small(self, vectors, chosen):
        sizes.append(len(chosen))
        if len(chosen) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, vectors, chosen)

    arguments = (model, [[5, 6]], [[[1, 2], [1, 3]]], {"v": vector}, conditions)
    (want,) = planning.run_wavefront(*arguments, budget=2**30, whole=False)
    monkeypatch.setattr(Wavefront, "score", small)
    parts = list(planning.run_wavefront(*arguments, budget=2**30, whole=False))
    assert sizes == [12, 6, 3, 3, 3, 3]
    assert [i for indices, _ in parts for i in indices] == list(range(12))
    got = np.concatenate([values[0][1:] for _, values in parts])
    np.testing.assert_allclose(got, want[1][0][1:], atol=1e-11)


def test_other_errors_are_not_taken_for_a_lack_of_memory(build_model, monkeypatch):
    def broken(self, vectors, chosen):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Wavefront, "score", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(planning.run_wavefront(build_model(), [[5]], [[[1]]], {}, [], budget=2**30, whole=False))
