"""Which way through the network a model takes: the shared tree where it is exact, else the plain rows.

Whether it is exact is found by trying, once per model, not by a list of names: a few random token ids are decoded and
scored both ways, with steering at the first, a middle and the last layer.
"""

import warnings
from pathlib import Path
from traceback import walk_tb
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch

from completions_lp.model.decoding import RowDecoder, TreeDecoder
from completions_lp.model.loading import Model
from completions_lp.model.memory import is_out_of_memory
from completions_lp.model.network import pad_tokens, score_next
from completions_lp.model.reading import Reader
from completions_lp.model.steering import Variants
from completions_lp.model.wavefront import Wavefront
from completions_lp.records import Condition, SteeringVector
from completions_lp.records.base import Notice

Engine = Literal["auto", "tree", "rows"]
"""``tree`` shares every common prefix and every layer below the steered one; ``rows`` shares the prompt only."""

_FOUND: "WeakKeyDictionary[Model, bool]" = WeakKeyDictionary()


def pick_engine(model: Model, engine: Engine = "auto") -> Literal["tree", "rows"]:
    """The engine asked for; for ``auto`` the tree, or the rows (with one warning) where the tree is not exact."""
    if engine != "auto":
        return engine
    if model not in _FOUND:
        tokens, passes = model.usage.tokens, model.usage.passes
        deviation, reason = compare_engines(model)
        model.usage.tokens, model.usage.passes = tokens, passes  # each process tries: no part of what a run takes
        _FOUND[model] = deviation <= model.tolerance
        if not _FOUND[model]:
            warnings.warn(f"{model.name} takes the plain path, which is slower: {reason}", Notice, stacklevel=3)
    return "tree" if _FOUND[model] else "rows"


def compare_engines(model: Model, *, seed: int = 0) -> tuple[float, str]:
    """Largest difference in nats per completion, and why; infinite where no tree can run; our own errors are raised."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(0, model.vocab_size, size=size).tolist() for size in (9, 5)]
    stem = rng.integers(0, model.vocab_size, size=6).tolist()
    said = [[stem, [*stem[:3], stem[0]], stem[:1]], [stem[::-1], stem[:2]]]
    layers = sorted({0, model.n_layers // 2, model.n_layers - 1})
    scale = 1 / np.sqrt(model.d_model)
    vector = SteeringVector("check", "random", {n: scale * rng.standard_normal(model.d_model) for n in layers})
    try:
        found = [_compare_decoding(model, prompts)]
        for positions in ("completion", "all"):
            conditions = [Condition("check", "random", layer, 1.0, positions) for layer in layers]
            found.append(_compare_scores(model, prompts, said, vector, conditions))
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        if not _lies_in_the_architecture(error):
            raise
        first = str(error).splitlines()[0] if str(error) else ""
        return float("inf"), f"the shared tree does not run on it ({type(error).__name__}: {first})"
    worst = float(np.max(found))  # NaN if any is
    return worst, f"the shared tree is {worst:.1e} nats off on it, and {model.tolerance:.0e} is allowed"


def _lies_in_the_architecture(error: Exception) -> bool:
    """Whether an error says that the tree does not run on an architecture, and not that this package is wrong.

    It does if it was raised while the network ran, by code that is not ours or by an operation of torch on shapes that
    do not go together, or if we raised it because of what we found. A mistake of ours is none of them.
    """
    if isinstance(error, NotImplementedError):
        return True
    files = [Path(frame.f_code.co_filename) for frame, _ in walk_tb(error.__traceback__)]
    ran = any(file.parts[-4:] == ("torch", "nn", "modules", "module.py") for file in files)
    ours = files[-1].is_relative_to(Path(__file__).parent.parent)
    return ran and not is_out_of_memory(error) and (not ours or isinstance(error, RuntimeError))


def _compare_decoding(model: Model, prompts: list[list[int]]) -> float:
    """Two steps with a branch in between: log probs of all tokens, both ways."""
    worst = []
    decoders = TreeDecoder(model, prompts), RowDecoder(model, prompts)
    for step in (([0, 1], [0, 0], [p[-1] for p in prompts]), ([0, 0, 1], [0, 0, 1], [1, 2, 3])):
        tree, rows = (
            torch.cat([logits for _, logits in decoder.step(*step)]).log_softmax(-1).clamp(min=-30)
            for decoder in decoders
        )
        worst.append(float((tree - rows).abs().max()))
    return float(np.max(worst))


def _compare_scores(
    model: Model,
    prompts: list[list[int]],
    said: list[list[list[int]]],
    vector: SteeringVector,
    conditions: list[Condition],
) -> float:
    """Log probs of a few completions under conditions of several layers, both ways."""
    front = Wavefront(model, prompts, said, whole=conditions[0].positions == "all")
    found = front.score({vector.name: vector}, conditions)
    worst = []
    for prompt, completions, tree in zip(prompts, said, found, strict=True):
        targets, mask = pad_tokens(completions, model.device)
        tokens = torch.cat([torch.full_like(targets[:, :1], prompt[-1]), targets[:, :-1]], 1)
        of_prompt = torch.zeros(len(completions), dtype=torch.long)
        for c, condition in enumerate(conditions):
            prefix, steering = Variants(model, [prompt], of_prompt).steer({vector.name: vector}, [condition])
            nodes = torch.arange(tokens.shape[1], device=model.device).repeat(len(tokens), 1)
            reader = Reader(len(tokens), nodes, targets, None, divergences=False)
            rows = score_next(model, prefix, tokens.repeat(2, 1), reader, steering=steering)["logprob"]
            theirs = rows.view(2, *mask.shape).masked_fill(~mask.cpu(), 0.0).sum(-1).numpy()
            ours = np.where(mask.cpu().numpy(), tree.logprob[[0, 1 + c]], 0.0).sum(-1)
            worst.append(float(np.abs(ours - theirs).max()))
    return float(np.max(worst))
