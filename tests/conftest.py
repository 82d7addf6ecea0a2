"""Tiny random models of several architectures, a tiny tokenizer, prompts and completions made by hand."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach a hub
os.environ["COLUMNS"] = "120"  # what is printed has one width, whichever terminal the tests run in

import beartype  # noqa: F401  before nnsight, which mounts a method on every object that beartype trips over
import numpy as np
import pytest
import torch
import transformers
from families import ARCHITECTURES, CONFIGS, make_module  # noqa: F401  tests have them from here
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from completions_lp.model import wrap_model
from completions_lp.records import Completions, Labelling, Prompt, Sampling, SteeringVector

torch.set_num_threads(1)  # the models are tiny: more threads cost more than they bring


@pytest.fixture
def exact_softmax(monkeypatch):
    """Let eager attention, which takes its softmax in float32 whatever the model's precision, take it in float64."""
    softmax = torch.nn.functional.softmax

    def patched(values, dim=None, dtype=None, **options):
        return softmax(values, dim=dim, dtype=None if values.dtype == torch.float64 else dtype, **options)

    monkeypatch.setattr(torch.nn.functional, "softmax", patched)


@pytest.fixture(scope="session")
def tokenizer():
    """As ``make_tokenizer``."""
    return make_tokenizer()


def make_tokenizer():
    """A byte-level BPE with the tokens that label tests need."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<end>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["The answer is (A). I choose (B). As an AI, Yes No Question: Answer:"] * 8, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<pad>")


@pytest.fixture(scope="session")
def build_model(tokenizer):
    """A function that wraps a tiny random model; equal arguments give the same model."""
    made = {}

    def build(architecture="llama", **options):
        key = (architecture, *sorted(options.items(), key=str))
        if key not in made:
            made[key] = wrap_model(make_module(architecture, **options), tokenizer, name=architecture)
        return made[key]

    return build


@pytest.fixture
def prompts():
    return make_prompts()


def make_prompts(lengths=(5, 1, 12, 9), vocab=320, seed=0):
    """Prompts of random token ids, ragged."""
    rng = np.random.default_rng(seed)
    return tuple(
        Prompt(
            id=f"p{i}",
            text=f"prompt {i}",
            token_ids=tuple(int(t) for t in rng.integers(2, vocab, size=length)),
            letters=("A", "B"),
            matching="A" if i % 2 else "B",
            not_matching="B" if i % 2 else "A",
            cluster=f"p{i}",
        )
        for i, length in enumerate(lengths)
    )


def make_completions(prompts, rows, *, labels=None, answers=None, counts=None, within=10):
    """Completions by hand: ``rows`` are (prompt index, token ids)."""
    width = max(len(ids) for _, ids in rows)
    token_ids = np.full((len(rows), width), -1, dtype=np.int32)
    for i, (_, ids) in enumerate(rows):
        token_ids[i, : len(ids)] = ids
    return Completions(
        prompts=tuple(prompts),
        prompt_index=np.array([i for i, _ in rows], dtype=np.int32),
        token_ids=token_ids,
        lengths=np.array([len(ids) for _, ids in rows], dtype=np.int32),
        counts=np.array(counts or [1] * len(rows), dtype=np.int32),
        ended=np.zeros(len(rows), dtype=bool),
        label=np.array(labels or [""] * len(rows)),
        answer_index=np.array(answers or [-1] * len(rows), dtype=np.int32),
        logprob=np.where(token_ids >= 0, 0.0, np.nan),
        text=("",) * len(rows),
        pieces=(("",),) * len(rows),
        sampling=Sampling(n=max(1, len(rows)), max_new_tokens=width),
        labelling=Labelling(within=within),
    )


def random_completions(prompts, *, per_prompt=3, longest=7, vocab=320, seed=1):
    """Completions of random token ids, ragged."""
    rng = np.random.default_rng(seed)
    rows = [
        (i, rng.integers(0, vocab, size=rng.integers(1, longest + 1)).tolist())
        for i in range(len(prompts))
        for _ in range(per_prompt)
    ]
    return make_completions(prompts, rows)


def make_vector(model, *, name="v", seed=0, size=2.0):
    """A random vector at every layer of a model."""
    rng = np.random.default_rng(seed)
    return SteeringVector(
        name, "target", {layer: size * rng.standard_normal(model.d_model) for layer in range(model.n_layers)}
    )
