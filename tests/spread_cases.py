"""A process of its own, as it lets torch believe in devices that are not there: a model on one of them, and on two."""

import sys

import beartype  # noqa: F401  before nnsight, which mounts a method on every object that beartype trips over
import torch
from conftest import make_prompts, make_tokenizer, make_vector, random_completions
from devices import ONE, TWO, emulate, spread
from everything import compare, make_everything, tell
from families import make_module

from completions_lp.records import Condition, Sampling
from completions_lp.sample.draws import sample_completions
from completions_lp.score.grid import score_tokens

PARTS = {
    "llama": ("model.embed_tokens", "model.rotary_emb", "model.layers.{}", "model.norm", "lm_head"),
    "gemma2": ("model.embed_tokens", "model.rotary_emb", "model.layers.{}", "model.norm", "lm_head"),
    "mistral": ("model.embed_tokens", "model.rotary_emb", "model.layers.{}", "model.norm", "lm_head"),
    "gpt2": ("transformer.wte", "transformer.wpe", "transformer.h.{}", "transformer.ln_f", "lm_head"),
}


def place(architecture, halves):
    """Parts by device: all on the first, or the embedding and the head there, and the upper blocks on the second."""
    places = {}
    for part in PARTS[architecture]:
        for name in [part.format(i) for i in range(3)] if "{}" in part else [part]:
            upper = name.endswith((".1", ".2", ".norm", ".ln_f"))
            places[name] = TWO if halves and upper else ONE
    return places


def count_waits(mode, model):
    """How often the host waits for the device: while more and more tokens are drawn, and in a pass of the grid."""
    prompts, vector = make_prompts(), make_vector(model)
    said = random_completions(prompts)
    conditions = [Condition("v", "target", layer, 1.0) for layer in range(model.n_layers)]
    draw = [Sampling(n=20, max_new_tokens=n, seed=1) for n in (2, 3, 6)]
    works = [lambda one=one: sample_completions(model, prompts, sampling=one, progress=False) for one in draw]
    works += [lambda: score_tokens(model, said, [vector], conditions, target="A", kl=True, progress=False)]
    found = []
    for work in works:
        work()  # what is found once per model
        before, passes = mode.waits.total(), model.usage.passes
        work()
        found.append((mode.waits.total() - before, model.usage.passes - passes))
    return found


def main(architecture):
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    with emulate() as mode:
        models = [spread(make_module(architecture), tokenizer, place(architecture, halves)) for halves in (False, True)]
        waits = count_waits(mode, models[0])
        devices = [len(model.devices) for model in models]
        whole, parted = (make_everything(model) for model in models)
        try:
            torch.ones(2, device=ONE) + torch.ones(2, device=TWO)
            refused = False
        except RuntimeError:
            refused = True
    tell(devices=devices, refused=refused, off=compare(whole, parted), waits=waits)


if __name__ == "__main__":
    main(sys.argv[1])
