"""Every kind of number that a model gives, for comparing two ways to run it: draws, scores, choices, vectors."""

import json
import sys

import numpy as np
from conftest import make_prompts, make_vector, random_completions

from completions_lp.model import check_conditions, read_lens, read_residuals
from completions_lp.records import Condition, Sampling
from completions_lp.sample.draws import sample_completions
from completions_lp.score.choices import read_choices
from completions_lp.score.grid import score_tokens

ENGINES = ("tree", "rows")
SAMPLED = (
    Sampling(n=12, max_new_tokens=5, seed=3),
    Sampling(n=6, max_new_tokens=4, seed=3, temperature=0.7, top_p=0.8, top_k=20),
    Sampling(n=2, max_new_tokens=4, greedy=True),
)


def make_everything(model, *, engines=ENGINES, kinds=("draws", "scores", "choices", "vectors")):
    """Arrays by name: made of the same prompts, completions and vectors for every model of one width and vocabulary."""
    prompts, vector = make_prompts(vocab=model.vocab_size), make_vector(model)
    said = random_completions(prompts, vocab=model.vocab_size)
    layers = sorted({0, model.n_layers // 2, model.n_layers - 1})
    found = {}
    for positions in ("completion", "all"):
        conditions = [Condition("v", "target", layer, m, positions) for layer in layers for m in (-1.0, 1.5)]
        check_conditions(model, [vector], conditions)
        for engine in engines:
            options = {"engine": engine, "progress": False}
            name = f"{engine} {positions}"
            if "scores" in kinds:
                scores = score_tokens(model, said, [vector], conditions, target="A", kl=True, **options)
                arrays = {key: value for key, value in vars(scores).items() if isinstance(value, np.ndarray)}
                found |= {f"scores {name} {key}": value for key, value in arrays.items()}
            if "choices" in kinds:
                choices = read_choices(model, prompts, [vector], conditions, **options)
                arrays = {key: value for key, value in vars(choices).items() if isinstance(value, np.ndarray)}
                found |= {f"choices {name} {key}": value for key, value in arrays.items()}
            for i, sampling in enumerate(SAMPLED) if "draws" in kinds else ():
                for condition in (None, conditions[1]):
                    drawn = sample_completions(
                        model, prompts, sampling=sampling, vectors=[vector], condition=condition, **options
                    )
                    which = f"draws {name} {i} {'plain' if condition is None else 'steered'}"
                    found |= {f"{which} {key}": getattr(drawn, key) for key in ("token_ids", "counts", "logprob")}
    if "vectors" in kinds:
        ids = [prompt.token_ids for prompt in prompts]
        read = read_residuals(model, ids, [len(i) - 1 for i in ids], range(model.n_layers))
        means = read_residuals(model, ids, [(0, len(i)) for i in ids], range(model.n_layers))
        found["vectors"], found["means"] = read.numpy(), means.numpy()
        found["lens"] = read_lens(model, read.flatten(0, 1), [(3, 5)] * (len(ids) * model.n_layers)).numpy()
    return {name: value for name, value in found.items() if value.dtype.kind in "fiub"}


def compare(one, other):
    """By name, the largest difference; infinite where shapes, whole numbers or what is missing differ."""
    assert one.keys() == other.keys()
    off = {}
    for name, ours in one.items():
        theirs = other[name]
        if ours.shape != theirs.shape or (ours.dtype.kind != "f" and not np.array_equal(ours, theirs)):
            off[name] = float("inf")
        elif ours.dtype.kind == "f":
            gone = np.isnan(ours) != np.isnan(theirs)
            away = np.abs(np.nan_to_num(ours) - np.nan_to_num(theirs))
            away[~np.isfinite(away)] = 0  # both -inf
            off[name] = float("inf") if gone.any() else float(away.max(initial=0))
    return off


def tell(**found):
    """One line for the process that asked."""
    json.dump(found, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()
