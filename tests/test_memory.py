"""Where memory runs out, passes get smaller and no number changes; what does not fit alone is named."""

import re
from collections import namedtuple
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_module, make_prompts, make_vector, random_completions
from live import Live
from transformers.models.llama import modeling_llama

from completions_lp.model import Room, memory, pick_engine, wrap_model
from completions_lp.model.anatomy import check_anatomy
from completions_lp.model.memory import is_out_of_memory
from completions_lp.records import ContrastPair, OutOfRoom, Sampling
from completions_lp.sample import draws
from completions_lp.sample.draws import sample_completions
from completions_lp.score import choices
from completions_lp.score.grid import score_tokens
from completions_lp.steer.conditions import make_conditions
from completions_lp.steer.vectors import read_differences

ERRORS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nIncluding non-PyTorch memory"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
    "numpy": MemoryError("Unable to allocate 2.00 GiB for an array"),
}

WIDE = {"batch_size": 12, "memory_budget": 0.5}


class Small:
    """A model whose blocks run out of memory beyond so many tokens of a pass, or of a row of it."""

    def __init__(self, tokenizer, monkeypatch, error):
        self.tokens, self.longest, self.failures, self.largest = 10**9, 10**9, 0, 0
        forward = modeling_llama.LlamaDecoderLayer.forward

        def bounded(layer, hidden, *args, **options):
            size = hidden.shape[0] * hidden.shape[1]
            if size > self.tokens or hidden.shape[1] > self.longest:
                self.failures += 1
                raise error
            self.largest = max(self.largest, size)
            return forward(layer, hidden, *args, **options)

        monkeypatch.setattr(modeling_llama.LlamaDecoderLayer, "forward", bounded)
        self.model = wrap_model(make_module("llama", dtype=torch.float64), tokenizer, name="llama")


@pytest.fixture
def small(tokenizer, monkeypatch):
    return lambda error="gpu": Small(tokenizer, monkeypatch, ERRORS[error])


def draw(model, engine, **options):
    found = sample_completions(
        model, make_prompts(), sampling=Sampling(n=8, max_new_tokens=4), engine=engine, progress=False, **options
    )
    return found.token_ids, found.logprob


def score(model, engine, *, positions="completion", **options):
    vector = make_vector(model)
    conditions = make_conditions([vector], multipliers=(-1.0, 1.0), positions=positions)
    completions = random_completions(make_prompts(), per_prompt=5, longest=5)
    found = score_tokens(model, completions, [vector], conditions, engine=engine, progress=False, **options)
    return found.baseline, found.logprob


def score_whole(model, engine, **options):
    return score(model, engine, positions="all", **options)


def read_out(model, engine, **options):
    vector = make_vector(model)
    conditions = make_conditions([vector], multipliers=(-1.0, 1.0))
    found = choices.read_choices(model, make_prompts(), [vector], conditions, engine=engine, progress=False, **options)
    return found.baseline, found.logprob


def extract(model, _engine, **options):
    pairs = [ContrastPair(p.token_ids, p.token_ids[::-1], 0, len(p.token_ids) - 1) for p in make_prompts()]
    return (read_differences(model, pairs, progress=False, **options).values,)


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("work", [draw, score, score_whole, read_out, extract])
@pytest.mark.parametrize("error", ERRORS)
def test_where_memory_runs_out_passes_get_smaller_and_no_number_changes(small, work, engine, error):
    bounded = small(error)
    want = work(bounded.model, engine)
    bounded.tokens, bounded.largest = bounded.largest // 3, 0
    for options, learns in (({}, True), ({}, False), (WIDE, True), (WIDE, False)):
        bounded.failures = 0
        got = work(bounded.model, engine, **options)
        assert (bounded.failures > 0) == learns  # a second call knows what the first one learned
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("engine", ["tree", "rows"])
def test_the_size_that_fitted_is_remembered(small, engine):
    """Once it has shrunk, a call does not run out of memory again, however many passes there are."""
    bounded = small()
    vector = make_vector(bounded.model)
    conditions = make_conditions([vector], multipliers=(-1.0, 1.0))
    completions = random_completions(make_prompts((4,) * 40), per_prompt=2, longest=2)
    pick_engine(bounded.model)  # its trials are of a size of their own
    bounded.tokens = 30
    score_tokens(bounded.model, completions, [vector], conditions, engine=engine, progress=False)
    assert 1 <= bounded.failures <= 12
    assert bounded.model.usage.passes > 5 * bounded.failures


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize(
    ("work", "message"),
    [
        (draw, "prompt '(?P<id>p2)' of 12 tokens, one draw of up to 4 more, does not fit in memory"),
        (score, "prompt '(?P<id>p[0-3])' of [0-9]+ tokens, [1-5] after it, does not fit in memory"),
        (read_out, "prompt '(?P<id>p[0-3])' of [0-9]+ tokens, [0-9]+ after it, does not fit in memory"),
        (extract, "contrast pair 3 of 12 and 12 tokens does not fit in memory"),
    ],
)
def test_what_does_not_fit_alone_is_named(small, work, engine, message):
    bounded = small()
    work(bounded.model, engine)
    bounded.tokens = 0
    how = (
        r", not even alone in a pass \(CUDA out of memory. Tried to allocate 2.00 GiB.\); shorten it or leave it out, "
    )
    with pytest.raises(OutOfRoom, match=message + how + "load the model in half precision") as caught:
        work(bounded.model, engine)
    named = re.match(message, str(caught.value))
    assert caught.value.prompt_id == named.groupdict().get("id")
    assert named[0] in (f"{caught.value.item}{comma} does not fit in memory" for comma in ("", ","))


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("work", [draw, score_whole, read_out])
def test_without_the_one_that_does_not_fit_the_others_go_as_before(small, monkeypatch, engine, work):
    """What one prompt's failures seem to tell is forgotten: the others take no more passes than in a run without it."""
    prompts = [*make_prompts((4,) * 12), replace(make_prompts((110,))[0], id="long")]
    fresh, bounded = small(), small()
    monkeypatch.setitem(globals(), "make_prompts", lambda: prompts[:-1])
    want = work(fresh.model, engine)
    passes = fresh.model.usage.passes
    bounded.longest = 100
    monkeypatch.setitem(globals(), "make_prompts", lambda: prompts)
    with pytest.raises(OutOfRoom, match="prompt 'long' of 110 tokens") as caught:
        work(bounded.model, engine)
    assert caught.value.prompt_id == "long"
    monkeypatch.setitem(globals(), "make_prompts", lambda: prompts[:-1])
    before = bounded.model.usage.passes
    got = work(bounded.model, engine)
    assert bounded.model.usage.passes - before == passes
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("free", [2**20, 2**36])
def test_the_room_is_that_of_the_machine_not_of_the_moment(small, monkeypatch, free):
    told = namedtuple("Memory", "total available")(2**31, free)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: told)
    model = small().model
    assert Room.find(model, None) == Room(2**29, most_kept=2**29)
    assert Room.find(model, 0.25) == Room(2**28)
    assert Room.find(model, 0.25) is Room.find(model, 0.25)
    assert Room.find(small().model, 0.25) is not Room.find(model, 0.25)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: told._replace(total=2**40))
    assert Room.find(small().model, None) == Room(memory.CPU_CEILING, most_kept=2**38)


def test_a_graphics_card_gives_a_quarter_of_all_its_memory(small, monkeypatch):
    model = small().model
    monkeypatch.setattr(type(model), "device", torch.device("cuda", 0))
    monkeypatch.setitem(model.__dict__, "devices", (torch.device("cuda", 0),))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2**33, 2**33))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=2**33))
    assert Room.find(model, None) == Room(2**31, most_kept=2**31)


def test_other_errors_are_not_taken_for_a_lack_of_memory(small, monkeypatch):
    bounded = small()
    monkeypatch.setitem(ERRORS, "gpu", RuntimeError("shapes do not match"))
    bounded = small()
    check_anatomy(bounded.model)
    bounded.tokens = 0
    with pytest.raises(RuntimeError, match="shapes do not match"):
        score(bounded.model, "rows")
    assert bounded.failures == 1


def test_work_is_shared_by_what_fits():
    def work(items):
        if len(items) > limit:
            raise MemoryError
        return list(items)

    for limit, sizes in ((9, [4, 4, 2]), (4, [4, 4, 2]), (3, [2] * 5), (2, [2] * 5), (1, [1] * 10)):
        room = Room(50)
        parts = list(room.share(range(10), work, each=10, fixed=10))
        assert [len(items) for items, _ in parts] == sizes
        assert [i for _, found in parts for i in found] == list(range(10))
        assert room.ran_out == (limit < 4)
    limit, room = 5, Room(90)  # the caller's own size goes before what is thought to fit, until memory runs out
    assert [len(items) for items, _ in room.share(range(10), work, each=10, most=4)] == [4, 4, 2]
    assert [len(items) for items, _ in room.share(range(10), work, each=10, most=7)] == [3, 3, 3, 1]
    assert [len(items) for items, _ in room.share(range(4), work, each=10, most=7)] == [3, 1]
    assert [len(items) for items, _ in room.share(range(4), work, each=10, most=2)] == [2, 2]
    assert [len(items) for items, _ in Room(20).share(range(9), work, each=10, most=5)] == [5, 4]
    limit = 0
    with pytest.raises(MemoryError, match="MemoryError"):
        list(room.share(range(4), work, each=10))
    with pytest.raises(OutOfRoom, match=r"item 0 does not fit in memory, not even alone in a pass \(MemoryError\)"):
        list(room.share(range(4), work, each=10, name=lambda item: (None, f"item {item}")))
    assert list(Room(1).share([], work, each=1)) == []


def test_what_says_that_memory_ran_out():
    assert all(map(is_out_of_memory, ERRORS.values()))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("first", [0, 3])
def test_a_prompt_whose_draws_may_not_fit_is_drawn_in_runs_of_them(small, monkeypatch, engine, first):
    """A run's keys and values take no more than the budget; what is drawn is the same, equal ones together."""
    model, prompts, sampling = small().model, make_prompts(), Sampling(n=30, max_new_tokens=4, temperature=0.02)
    want = draws.draw_samples(model, prompts, sampling, first=first, engine=engine)
    sizes = []
    sample_batch = draws.grow_draws

    def watched(decoder, chosen, sampling, samples, *rest, layer=None):
        sizes.extend((len(prompt.token_ids), len(numbers)) for prompt, numbers in zip(chosen, samples, strict=True))
        return sample_batch(decoder, chosen, sampling, samples, *rest, layer=layer)

    monkeypatch.setattr(draws, "grow_draws", watched)
    longest = max(len(prompt.token_ids) for prompt in prompts)
    budget = draws._prompt_bytes(model, longest, 12, 4, tree=engine == "tree") / 2**30
    got = draws.draw_samples(model, prompts, sampling, first=first, engine=engine, memory_budget=budget)
    assert max(draws._prompt_bytes(model, *size, 4, tree=engine == "tree") for size in sizes) <= budget * 2**30
    assert sum(n for _, n in sizes) == len(prompts) * (30 - first)
    for one, other in zip(got, want, strict=True):
        assert [(d.token_ids, d.samples, d.ended) for d in one] == [
            (d.token_ids, list(d.samples), d.ended) for d in other
        ]
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a.logprob, b.logprob, atol=1e-9)
    assert any(d.samples[0] < 10 and d.samples[-1] > 20 for found in want for d in found)  # said in more than one run


@pytest.mark.parametrize("engine", ["tree", "rows"])
def test_where_memory_runs_out_for_one_prompt_fewer_of_its_draws_go_together(small, engine):
    bounded, prompts = small(), make_prompts((6,))
    want = draws.draw_samples(bounded.model, prompts, Sampling(n=40, max_new_tokens=3), engine=engine)
    bounded.tokens = 8  # its prompt alone takes 5
    got = draws.draw_samples(bounded.model, prompts, Sampling(n=40, max_new_tokens=3), engine=engine)
    assert bounded.failures
    assert [(d.token_ids, list(d.samples)) for d in got[0]] == [(d.token_ids, list(d.samples)) for d in want[0]]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "top_p": 0.95, "top_k": 500}], ids=["plain", "cut"])
@pytest.mark.parametrize("mib", [2, 3])
def test_all_that_a_tree_of_draws_holds_is_within_the_budget(tokenizer, options, mib):
    """Keys, values and logits with their copies: the logits of all draws of a prompt alone are 1.1 MiB."""
    model = wrap_model(make_module("llama", vocab_size=6000), tokenizer, name="llama")
    prompts, sampling = make_prompts((60, 40)), Sampling(n=50, max_new_tokens=8, **options)
    draws.draw_samples(model, prompts[:1], replace(sampling, n=2), engine="tree")  # the engine's trials go first
    with Live() as live:
        draws.draw_samples(model, prompts, sampling, engine="tree", memory_budget=mib / 1024)
    assert mib / 4 < live.peak / 2**20 <= mib
