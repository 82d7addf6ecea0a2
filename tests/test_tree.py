import dataclasses
import functools
import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_module, make_prompts
from transformers.models.llama import modeling_llama

from completions_lp.model import Room, Task, caches, compare_engines, head, pick_engine, planning, wrap_model
from completions_lp.model.caches import LastPrompts, TreeCache
from completions_lp.model.head import Head
from completions_lp.model.output import find_head
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


def random_head(vocab, d_model, *, bias=False, cap=None):
    generator = torch.Generator().manual_seed(0)
    return Head(torch.randn(vocab, d_model + bias, generator=generator), bias, cap, torch.float32)


def whole_logits(some, hidden):
    """Of hidden states as they come from the network, in float64, by the definition."""
    weight = some.weight.double()
    logits = hidden.double() @ weight[:, : hidden.shape[-1]].T
    if some.has_bias:
        logits = logits + weight[:, -1]
    return some.cap * torch.tanh(logits / some.cap) if some.cap else logits


def check_reduced(reduced, logits, *, rtol, atol):
    """Against the definitions, with the whole vocabulary at hand."""
    logprob = logits.log_softmax(-1)
    p, base = logprob[0].exp(), logprob[0]
    near = {"rtol": rtol, "atol": atol}
    np.testing.assert_allclose(reduced["lse"], logits.logsumexp(-1), **near)
    np.testing.assert_allclose(reduced["entropy"], -(p * base).sum(-1), **near)
    np.testing.assert_allclose(reduced["kl"], (p * (base - logprob)).sum(-1), **near)
    np.testing.assert_allclose(reduced["kl_reverse"], (logprob.exp() * (logprob - base)).sum(-1), **near)
    assert (reduced["kl"][0] == 0).all()
    assert (reduced["kl_reverse"][0] == 0).all()


@pytest.mark.parametrize("vocab", [3, 1024, 2500])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cap", [None, 5.0])
@pytest.mark.parametrize("shape", [(1, head.ROWS + 7), (5, 211), (head.ROWS + 1, 2)])
def test_the_head_by_blocks_equals_whole_logits(vocab, bias, cap, shape):
    small = random_head(vocab, 16, bias=bias, cap=cap)
    hidden = torch.randn(*shape, 16, generator=torch.Generator().manual_seed(1))
    logits = whole_logits(small, hidden)
    hidden = small.widen(hidden)
    reduced = small.reduce(hidden, divergences=True)
    check_reduced(reduced, logits, rtol=1e-5, atol=2e-5)
    alone = small.reduce(hidden)
    np.testing.assert_allclose(alone["lse"], reduced["lse"], rtol=1e-6)
    assert list(alone) == ["lse"]
    flat, logits = hidden.flatten(0, 1), logits.flatten(0, 1)
    np.testing.assert_allclose(small.logits(flat), logits, rtol=1e-4, atol=1e-4)
    nodes, tokens = torch.tensor([0, 5, 5, len(flat) - 1]), torch.tensor([0, 2, 1, vocab - 1])
    np.testing.assert_allclose(small.read(flat, nodes, tokens), logits[nodes, tokens], rtol=1e-4, atol=1e-4)


def test_a_late_large_logit_does_not_overflow():
    large = random_head(3000, 4)
    large.weight[2900] = torch.tensor([200.0, 0, 0, 0])
    hidden = torch.tensor([[[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0.0, 1, 0, 0]], [[0.9, 0, 1, 0]] * 3])
    check_reduced(large.reduce(hidden, divergences=True), whole_logits(large, hidden), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("architecture", "finished"), [("llama", False), ("gpt2", False), ("gemma2", True)])
def test_the_head_is_verified_against_the_model(build_model, architecture, finished):
    found = find_head(build_model(architecture))
    assert (found.cap is not None) == finished


def test_an_unknown_head_is_read_from_whole_logits(tokenizer, monkeypatch):
    module = make_module("llama", dtype=torch.float64)
    known = wrap_model(module, tokenizer)
    prompts, said = [[5, 6, 7], [8]], [[[1, 2, 3], [1, 2]], [[4, 4]]]
    want = Wavefront(known, prompts, said, whole=False).score({}, [])
    forward = type(module).forward

    @functools.wraps(forward)
    def squared(self, *args, **kwargs):  # logits that no known form of head gives
        out = forward(self, *args, **kwargs)
        out.logits = out.logits * out.logits.abs()
        return out

    monkeypatch.setattr(type(module), "forward", squared)
    odd = wrap_model(make_module("llama", dtype=torch.float64), tokenizer)
    assert find_head(odd) is None
    got = Wavefront(odd, prompts, said, whole=False).score({}, [])
    assert compare_engines(odd).structure < 1e-9
    assert np.abs(got[0].logprob - want[0].logprob).max() > 0.1


def test_a_model_on_which_the_tree_is_wrong_takes_the_plain_rows_and_says_so(tokenizer, monkeypatch):
    model = wrap_model(make_module("llama"), tokenizer, name="odd")
    assert compare_engines(model).structure < model.tolerance
    monkeypatch.setattr("completions_lp.model.tree.Tree.ancestors", property(lambda tree: np.eye(len(tree.tokens)) > 0))
    with pytest.warns(UserWarning, match="odd takes the plain path, which is slower: the shared tree is .* nats off"):
        assert pick_engine(model) == "rows"
    assert pick_engine(model) == "rows"  # found once: no second warning, which would be an error here
    assert pick_engine(model, "tree") == "tree"


def test_a_model_on_which_the_tree_cannot_run_takes_the_plain_rows(tokenizer, monkeypatch):
    model = wrap_model(make_module("llama"), tokenizer, name="odd")

    def refuse(*_args, **_options):
        raise TypeError("no such argument")

    monkeypatch.setattr("completions_lp.model.caches.TreeCache.update", refuse)
    with pytest.warns(UserWarning, match="does not run on it .TypeError: no such argument"):
        assert pick_engine(model) == "rows"


@pytest.mark.parametrize("error", [KeyError("v"), IndexError("out of range"), NameError("x"), TypeError("None + 1")])
@pytest.mark.parametrize("place", ["wavefront.build_tree", "wavefront.residual_stream", "decoding.make_masks"])
def test_a_mistake_of_ours_is_not_taken_for_a_property_of_the_architecture(tokenizer, monkeypatch, error, place):
    """Before the network runs, in the block of a trace, and between passes; as raised by a function of ours."""

    def broken(*_args, **_options):
        raise error

    # As if it stood in our folder: whose error it is, is told by the file.
    broken.__code__ = broken.__code__.replace(co_filename=str(Path(planning.__file__).with_name("broken.py")))
    monkeypatch.setattr(f"completions_lp.model.{place}", broken)
    model = wrap_model(make_module("llama"), tokenizer, name="odd")
    with pytest.raises(type(error)) as caught:
        pick_engine(model)
    assert caught.value is error


def refuse_trees(rotate, error):
    """The network's own code, which does not take positions that are repeated, as those of a tree's branches are."""

    def picky(query, key, cos, sin, **options):
        repeated = (cos[:, 1:] == cos[:, :-1]).all(-1) & (cos[:, 1:] != 1).any(-1)  # padding is all at position 0
        if repeated.any():
            raise error
        return rotate(query, key, cos, sin, **options)

    return picky


@pytest.mark.parametrize("error", [KeyError("linear_attention"), TypeError("unexpected argument"), ValueError("no")])
def test_an_error_of_the_networks_own_code_means_the_plain_rows(tokenizer, monkeypatch, error):
    model = wrap_model(make_module("llama"), tokenizer, name="odd")
    monkeypatch.setattr(
        modeling_llama, "apply_rotary_pos_emb", refuse_trees(modeling_llama.apply_rotary_pos_emb, error)
    )
    with pytest.warns(UserWarning, match=rf"does not run on it .{type(error).__name__}: "):
        assert pick_engine(model) == "rows"


def test_shapes_that_do_not_go_together_mean_the_plain_rows(tokenizer, monkeypatch):
    """An operation of torch in our own code that the network calls: it is the architecture that gave the shapes."""
    update = TreeCache.update

    def narrow(self, keys, values, layer, *rest, **options):
        return update(self, keys[..., :-1], values, layer, *rest, **options)

    monkeypatch.setattr(TreeCache, "update", narrow)
    with pytest.warns(UserWarning, match="does not run on it .RuntimeError: "):
        assert pick_engine(wrap_model(make_module("llama"), tokenizer, name="odd")) == "rows"


def test_a_cache_without_keys_and_values_means_the_plain_rows(tokenizer, monkeypatch):
    bare = SimpleNamespace(cache=SimpleNamespace(layers=[SimpleNamespace(recurrent_states=None)]))
    monkeypatch.setattr(caches, "prefill", lambda *_args, **_options: bare)
    with pytest.warns(UserWarning, match="a layer remembers something else than keys and values"):
        assert pick_engine(wrap_model(make_module("llama"), tokenizer, name="odd")) == "rows"


def test_running_out_of_memory_is_no_property_of_the_architecture(tokenizer, monkeypatch):
    def refuse(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TreeCache, "update", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        pick_engine(wrap_model(make_module("llama"), tokenizer, name="odd"))


def make_task(model, prompts, said, *, vectors=(), conditions=(), budget=2**30, **options):
    """What is said, by prompt, as a task."""
    prompts = [
        dataclasses.replace(one, token_ids=tuple(ids))
        for one, ids in zip(make_prompts((1,) * len(prompts)), prompts, strict=True)
    ]
    of_prompt = np.repeat(np.arange(len(said)), [len(some) for some in said])
    flat = [ids for some in said for ids in some]
    return Task(model, prompts, of_prompt, flat, {v.name: v for v in vectors}, conditions, Room(budget), **options)


def plan(model, said, *, n_conditions=4, **options):
    task = make_task(model, [[1] * (3 + i) for i in range(len(said))], said, **options)
    return [batch for batch, _ in planning.plan_wavefronts(task, n_conditions, whole=False)]


def test_every_completion_is_planned_once_whatever_the_budget(build_model):
    model = build_model()
    rng = np.random.default_rng(0)
    said = [[rng.integers(0, 9, size=6).tolist() for _ in range(rng.integers(1, 30))] for _ in range(7)]
    for budget in (1, 2**16, 2**20, 2**40):
        for batch_size in (None, 1, 3):
            batches = plan(model, said, budget=budget, batch_size=batch_size)
            assert sorted(row for batch in batches for rows in batch for row in rows) == list(
                range(sum(map(len, said)))
            )
            assert batch_size is None or max(map(len, batches)) == batch_size
    assert max(len(rows) for batch in plan(model, said, budget=1) for rows in batch) == 1
    assert max(len(batch) for batch in plan(model, said)) > 1


def test_a_small_budget_splits_the_conditions_and_changes_no_number(build_model):
    from conftest import make_vector, random_completions

    from completions_lp.score.grid import score_tokens
    from completions_lp.steer.conditions import make_conditions

    model = build_model("llama", dtype=torch.float64)
    completions = random_completions(make_prompts(), per_prompt=6, vocab=3)
    vector = make_vector(model)
    conditions = make_conditions([vector])
    whole, split = (
        score_tokens(model, completions, [vector], conditions, memory_budget=budget, progress=False)
        for budget in (1.0, 1e-5)
    )
    np.testing.assert_allclose(split.logprob, whole.logprob, atol=1e-11)


def test_running_out_of_memory_splits_the_conditions_first(build_model, monkeypatch):
    from conftest import make_vector

    from completions_lp.steer.conditions import make_conditions

    model = build_model("llama", dtype=torch.float64)
    vector = make_vector(model)
    conditions = make_conditions([vector])
    sizes = []
    score = Wavefront.score

    def small(self, vectors, chosen):
        sizes.append(len(chosen))
        if len(chosen) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, vectors, chosen)

    task = make_task(model, [[5, 6]], [[[1, 2], [1, 3]]], vectors=[vector], conditions=conditions)
    ((_, _, want),) = planning.score_trees(task)
    monkeypatch.setattr(Wavefront, "score", small)
    parts = list(planning.score_trees(task))
    assert sizes == [12, 6, 3, 3, 3, 3]
    assert [i for _, indices, _ in parts for i in indices] == list(range(12))
    got = np.concatenate([found.logprob[1:] for _, _, found in parts])
    np.testing.assert_allclose(got, want.logprob[1:], atol=1e-11)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.usefixtures("exact_softmax")
def test_what_is_read_at_a_node_equals_its_definition(build_model, architecture, dtype, whole):
    """Answers, entropy and divergences against whole distributions of one full forward per completion and condition."""
    import reference
    from conftest import make_vector

    from completions_lp.records import Condition

    model = build_model(architecture, dtype=dtype)
    vector = make_vector(model)
    positions = "all" if whole else "completion"
    conditions = [Condition("v", "target", layer, m, positions) for layer, m in ((2, 1.0), (0, -2.0))]
    prompts, said = [[5, 6, 7], [8, 9]], [[[1, 2, 3], [1, 2]], [[4, 4]]]

    def watch(prefix):
        return np.array([3, 7, 9]), np.array([1] if prefix else [], dtype=np.int64)

    front = Wavefront(model, prompts, said, whole=whole, watch=[watch, watch], divergences=True)
    atol = 1e-9 if dtype == torch.float64 else 2e-4
    for prompt, completions, got in zip(prompts, said, front.score({"v": vector}, conditions), strict=True):
        for row, ids in enumerate(completions):
            dists = [reference.logits_of(model.module, [*prompt, *ids])]
            for c in conditions:
                added, start = c.multiplier * vector.directions[c.layer], 0 if whole else len(prompt) - 1
                dists.append(
                    reference.logits_of(model.module, [*prompt, *ids], layer=c.layer, added=added, start=start)
                )
            dists = [d[len(prompt) - 1 : -1].log_softmax(-1).numpy() for d in dists]
            p, n = dists[0], len(ids)
            np.testing.assert_allclose(got.entropy[row, :n], -(np.exp(p) * p).sum(-1), atol=atol)
            for v, q in enumerate(dists):
                np.testing.assert_allclose(got.kl[v, row, :n], (np.exp(p) * (p - q)).sum(-1), atol=atol)
                np.testing.assert_allclose(got.kl_reverse[v, row, :n], (np.exp(q) * (q - p)).sum(-1), atol=atol)
                first = np.log(np.exp(q[:, [3, 7, 9]]).sum(-1))
                np.testing.assert_allclose(got.answers[v, row, :n, 0], first, atol=atol)
                np.testing.assert_allclose(got.answers[v, row, 1:n, 1], q[1:, 1], atol=atol)
                assert np.isneginf(got.answers[v, row, 0, 1])  # no token completes the second answer at the start
            assert got.kl[1:, row, :n].min() > 1e-3


def test_a_tree_that_gives_no_number_is_not_taken_for_exact(tokenizer, monkeypatch):
    model = wrap_model(make_module("llama"), tokenizer, name="odd")
    reduce = head.Head.reduce

    def spoil(self, hidden, *, divergences=False):
        return reduce(self, hidden, divergences=divergences) | {"lse": hidden[..., 0] * float("nan")}

    monkeypatch.setattr(head.Head, "reduce", spoil)
    with pytest.warns(UserWarning, match="odd takes the plain path"):
        assert pick_engine(model) == "rows"


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_the_cache_goes_in_and_out_by_the_name_that_the_network_has_for_it(tokenizer, monkeypatch, name):
    """transformers 5.24 renames ``past_key_values``, and takes the old name with a warning until 5.40."""
    module = make_module("llama", dtype=torch.float64)
    forward = type(module).forward
    theirs = "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"
    seen = []

    def old(self, *args, past_key_values=None, **options):
        seen.append("cache" not in options)
        return rename(forward(self, *args, **{theirs: past_key_values}, **options))

    def new(self, *args, cache=None, **options):
        seen.append("past_key_values" not in options)
        return rename(forward(self, *args, **{theirs: cache}, **options))

    def rename(out):
        return SimpleNamespace(logits=out.logits, **{name: getattr(out, theirs)})

    monkeypatch.setattr(type(module), "forward", old if name == "past_key_values" else new)
    assert compare_engines(wrap_model(module, tokenizer)).structure < 1e-9
    assert len(seen) > 10
    assert all(seen)


def sum_up(task):
    """Log prob of every sequence, unsteered."""
    found = [
        (row, reduced.logprob[0, place].sum())
        for rows, _, reduced in planning.score_trees(task)
        for place, row in enumerate(rows)
    ]
    return [value for _, value in sorted(found)]


def test_parts_of_a_large_tree_read_their_prompt_once(build_model, monkeypatch):
    """Two prompts whose trees are cut, and one that is asked twice: each goes through the network once."""
    model = build_model("llama")
    rng = np.random.default_rng(0)
    said = [[rng.integers(2, 300, size=5).tolist() for _ in range(30)] for _ in range(2)]
    monkeypatch.setattr(planning, "CPU_NODES", 40)
    monkeypatch.setattr(planning, "CPU_TOKENS", 1)
    task = make_task(model, [[5, 6, 7, 8], [9, 8, 7]], said)
    asked = []
    prefill = caches.prefill

    def watched(model, past, **options):
        asked.append([tuple(ids) for ids in past])
        return prefill(model, past, **options)

    monkeypatch.setattr(caches, "prefill", watched)
    found = sum_up(task)
    assert sorted(asked) == [[(5, 6, 7)], [(9, 8)]]
    whole = make_task(model, [[5, 6, 7, 8], [9, 8, 7]], said)
    monkeypatch.setattr(planning, "CPU_NODES", 10**6)
    np.testing.assert_allclose(found, sum_up(whole), atol=1e-3)

    several = LastPrompts().find(model, [[9, 8], [5, 6, 7], [9, 8], [9, 8]])
    assert asked[-1] == [(9, 8), (5, 6, 7)]
    assert several.prompts == len(several.layers[1][0]) == 4
    for place, ids in enumerate(([9, 8], [5, 6, 7], [9, 8], [9, 8])):
        (want,) = TreeCache(model, [ids]).layers[1][0]
        torch.testing.assert_close(several.layers[1][0][place][:, -len(ids) :], want, atol=1e-5, rtol=1e-5)


def test_long_prompts_bound_a_batch_by_what_they_take_as_they_go_through_the_network(build_model):
    """One token is scored after each: the trees alone would all fit. A block at work holds 3 x 64 + 8 x 32 a token."""
    model = build_model("llama")
    block = 100 * 4 * (3 * 64 + 8 * 32)
    sizes = {}
    for budget in (2**30, 5 * block):
        task = make_task(model, [[1] * 101] * 8, [[[2]]] * 8, budget=budget)
        sizes[budget] = [len(batch) for batch, _ in planning.plan_wavefronts(task, 1, whole=False)]
    assert sizes[2**30] == [8]
    assert 2 <= max(sizes[5 * block]) <= 5
