"""What the benchmark measures on: models of four sizes, their prompts, vectors and conditions.

The random models are of the Llama architecture. Their weights say nothing, so their heads are scaled until the
distributions have the entropy that is asked for: 9.9 nats a token is flat (no two samples share a second token), 0.8
and 0.4 are as peaked as trained models are on short answers.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import transformers

from completions_lp.job.config import DATA
from completions_lp.model import Model, load_model, wrap_model
from completions_lp.prompts import load_prompts
from completions_lp.records import Condition, Prompt, Sampling, SteeringVector
from completions_lp.steer.conditions import make_conditions

EMBEDDED = "embedded"


@dataclass(frozen=True)
class Setting:
    """One model and how much is asked of it."""

    name: str
    d: int = 0
    layers: int = 0
    heads: int = 0
    kv_heads: int = 0
    ffn: int = 0
    vocab: int = 0
    entropies: tuple[float, ...] = (9.9, 0.8, 0.4)
    prompts: int = 8
    """Prompts that are sampled together."""
    scored: int = 2
    """Those of them that are scored and read out."""
    samples: int = 100
    new_tokens: int = 10
    lengths: tuple[int, int] = (60, 150)
    """Shortest and longest prompt, in tokens."""
    multipliers: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0)
    peer_samples: int = 25
    """Samples on which the peers are measured; the rest is scaled."""
    peer_prompts: int = 1


SETTINGS = {
    "15M": Setting("15M", 288, 6, 6, 6, 768, 32000, peer_samples=50),
    "125M": Setting("125M", 768, 12, 12, 12, 2048, 50257, prompts=6, scored=1),
    "500M": Setting("500M", 896, 24, 14, 2, 4864, 151936, entropies=(0.8,), prompts=2, scored=1, peer_samples=5),
    EMBEDDED: Setting(EMBEDDED, entropies=(0.0,), prompts=24, scored=24, peer_samples=100, peer_prompts=3),
}


def shrink(setting: Setting) -> Setting:
    """A toy of the same shape, to see that everything runs; its numbers mean nothing."""
    small = replace(
        setting, prompts=2, scored=1, samples=8, new_tokens=4, peer_samples=4, entropies=setting.entropies[-1:]
    )
    return (
        small if setting.name == EMBEDDED else replace(small, d=64, layers=3, heads=4, kv_heads=2, ffn=128, vocab=2000)
    )


class NumberTokenizer:
    """A stand-in for a tokenizer: the text of a token is its number. Nothing ends a text."""

    eos_token_id = None
    unk_token_id = None

    def __init__(self, vocab: int) -> None:
        self.vocab = vocab

    def __len__(self) -> int:
        return self.vocab

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Any:
        """Token ids of a text of numbers; any other word is token 0."""
        return transformers.BatchEncoding(
            {"input_ids": [int(word) if word.isdecimal() else 0 for word in text.split()]}
        )

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> str:
        """The numbers, with spaces between them."""
        return " ".join(map(str, token_ids))


@dataclass(frozen=True, eq=False)
class Case:
    """A model and everything that is asked of it."""

    setting: Setting
    model: Model
    plain: Any
    """The same weights in a module that nnsight never wrapped: what the peers run."""
    prompts: tuple[Prompt, ...]
    vector: SteeringVector
    conditions: tuple[Condition, ...]
    sampling: Sampling

    @property
    def scored(self) -> list[int]:
        """Indices of the prompts that are scored, spread over all lengths."""
        return _spread(len(self.prompts), self.setting.scored)

    @property
    def measured(self) -> list[int]:
        """Indices of the prompts on which the peers are measured."""
        return [self.scored[i] for i in _spread(len(self.scored), self.setting.peer_prompts)]


def _spread(total: int, kept: int) -> list[int]:
    """``kept`` of ``total`` indices: the middles of as many equal parts."""
    kept = min(total, kept)
    return [int((i + 0.5) * total / kept) for i in range(kept)]


def make_case(setting: Setting, *, device: str = "cpu", dtype: str = "float32", seed: int = 0) -> Case:
    """The model of a setting, in memory, with its prompts, a random vector and the whole grid of conditions."""
    if setting.name == EMBEDDED:
        model = load_model(DATA / "tiny-chooser", device=device, dtype=dtype)
        plain = transformers.AutoModelForCausalLM.from_pretrained(model.name, dtype=model.dtype).to(device).eval()
        prompts = load_prompts(DATA / "prompts" / "cautious.jsonl", model.tokenizer, limit=setting.prompts)
    else:
        plain = make_module(setting, seed=seed).to(device, getattr(torch, dtype))
        model = wrap_model(share_weights(plain), NumberTokenizer(setting.vocab), name=setting.name)
        prompts = make_prompts(setting, seed=seed)
    rng = np.random.default_rng(seed)
    size = float(plain.get_input_embeddings().weight.detach().std())
    vector = SteeringVector(
        "v", "random", {n: size * rng.standard_normal(model.d_model) for n in range(model.n_layers)}
    )
    sampling = Sampling(n=setting.samples, max_new_tokens=setting.new_tokens, seed=seed)
    conditions = make_conditions([vector], multipliers=setting.multipliers)
    return Case(setting, model, plain, tuple(prompts), vector, conditions, sampling)


def share_weights(module: Any) -> Any:
    """Another module around the same weights."""
    return copy.deepcopy(module, {id(p): p for p in module.parameters()})


def make_module(setting: Setting, *, seed: int = 0) -> Any:
    """A random Llama whose texts never end."""
    config = transformers.LlamaConfig(
        vocab_size=setting.vocab,
        hidden_size=setting.d,
        intermediate_size=setting.ffn,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.heads,
        num_key_value_heads=setting.kv_heads,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.AutoModelForCausalLM.from_config(config).eval()


def make_prompts(setting: Setting, *, seed: int = 0) -> tuple[Prompt, ...]:
    """Prompts of random ids with evenly spread lengths; the two answers are the tokens 1 and 2."""
    rng = np.random.default_rng(seed)
    n, (low, high) = setting.prompts, setting.lengths
    prompts = []
    for i, length in enumerate(np.linspace(low, high, n) if n > 1 else [(low + high) / 2]):
        ids = tuple(map(int, rng.integers(3, setting.vocab, size=round(length))))
        text = " ".join(map(str, ids))
        prompts.append(Prompt(f"p{i}", text, ids, ("1", "2"), "1", "2", f"p{i}", answer_format=" {letter}"))
    return tuple(prompts)


@torch.no_grad()
def sharpen(case: Case, entropy: float, *, seed: int = 0) -> None:
    """Scale the head of a random model until its mean entropy on random texts is ``entropy`` nats a token."""
    head, plain = case.plain.get_output_embeddings(), case.plain
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, case.model.vocab_size, (64, 16), generator=generator).to(plain.device)
    logits = (
        plain.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[:, -1].float() @ head.weight.T.float()
    )
    scale = logits.std()
    logits /= scale
    low, high = 0.0, 100.0
    for _ in range(30):
        middle = (low + high) / 2
        logprob = (logits * middle).log_softmax(-1)
        found = float(-(logprob.exp() * logprob).sum(-1).mean())
        low, high = (middle, high) if found > entropy else (low, middle)
    head.weight.mul_(middle / scale)
