"""Which way through the network a model takes: the shared tree where it is exact, else the plain rows.

Whether it is exact is found by trying, once per model, not by a list of names: a few random token ids are decoded and
scored both ways, with steering at the first, a middle and the last layer. In half precision the two differ by rounding,
as two layouts of the plain rows do; so there a copy in float32 tells whether the tree is right, and what the tree's own
rounding may be is measured, not set.
"""

import warnings
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float

from completions_lp.model.anatomy import check_anatomy, lies_in_the_architecture, tell_error
from completions_lp.model.arithmetic import HALF
from completions_lp.model.attention import can_attend, leave_attention
from completions_lp.model.decoding import Decoder, RowDecoder, TreeDecoder
from completions_lp.model.loading import TOLERANCES, Model
from completions_lp.model.network import score_next
from completions_lp.model.reading import Reader
from completions_lp.model.specimen import copy_wide
from completions_lp.model.steering import Variants
from completions_lp.model.transfer import pad_tokens
from completions_lp.model.wavefront import Wavefront
from completions_lp.records import Condition, InputError, Positions, SteeringVector
from completions_lp.records.base import Notice

Engine = Literal["auto", "tree", "rows", "server"]
"""``tree`` shares every common prefix and every layer below the steered one; ``rows`` shares the prompt only; a model
on a server goes the way that was found when it was opened."""

MOST_NOISE = 3.0
"""How far trees may round off from plain rows, in units of what plain rows round by: 1.4 where both do it alike."""

NO_CACHE = "prompts go through it again with each completion, as keys and values alone do not continue them"

_FOUND: "WeakKeyDictionary[Model, Comparison]" = WeakKeyDictionary()


@dataclass(frozen=True)
class Comparison:
    """How far shared trees are from plain rows, in nats per completion."""

    structure: float
    """The largest difference where rounding is out of the way: in float32 or better. Infinite where no tree runs."""
    rounding: float = float("nan")
    """In half precision, root mean square: trees off from plain rows."""
    noise: float = float("nan")
    """In half precision, root mean square: plain rows off from float32, or from themselves one by one, if that is more.
    """
    tolerance: float = 0.0
    """Allowed of ``structure``."""
    reason: str = ""
    """Why no tree runs."""

    @property
    def exact(self) -> bool:
        """Whether trees give what plain rows give, but for rounding."""
        if not self.structure <= self.tolerance:  # NaN, too
            return False
        return bool(np.isnan(self.noise)) or bool(self.rounding <= MOST_NOISE * self.noise + self.tolerance)

    def describe(self) -> str:
        """In words: what was found, and what is allowed."""
        if self.reason:
            return self.reason
        if not self.structure <= self.tolerance or np.isnan(self.noise):
            return f"the shared tree is {self.structure:.1e} nats off on it, and {self.tolerance:.0e} is allowed"
        allowed = MOST_NOISE * self.noise + self.tolerance
        return (
            f"the shared tree is {self.structure:.1e} nats off in float32; in its own precision {self.rounding:.1e}, "
            f"where plain rows round by {self.noise:.1e} and {allowed:.1e} is allowed"
        )


def pick_engine(model: Model, engine: Engine = "auto") -> Literal["tree", "rows", "server"]:
    """The engine asked for; for ``auto`` the tree, or the rows (with one warning) where the tree is not exact.

    A model on a server has been tried when it was opened, and goes the way that was found then.

    Raises:
        InputError: The network is none that can be steered with right numbers (``check_anatomy``), or is asked for
            trees and has no keys and values to share.
    """
    if engine != "auto" and model.is_remote != (engine == "server"):
        where = "on a server" if model.is_remote else "here"
        raise InputError(f"engine {engine!r}: {model.name} is {where}; leave it at auto")
    if model.is_remote:
        return "server"
    if check_anatomy(model).recall == "tokens" and engine == "tree":
        raise InputError(
            f"engine 'tree': {model.name} has no keys and values that a tree could share; take auto or rows"
        )
    if engine == "auto":
        known, compared = model in _FOUND, find_comparison(model)
        engine = "tree" if compared.exact else "rows"
        if not known and not compared.exact:
            reason = compared.describe()
            warnings.warn(f"{model.name} takes the plain path, which is slower: {reason}", Notice, stacklevel=3)
    elif engine == "tree":
        find_comparison(model)  # tells which attention its trees go with
    model.usage.engine = engine
    return engine


def find_comparison(model: Model) -> Comparison:
    """What ``compare_engines`` says, found once per model and process; its passes are no part of what a run takes."""
    if model not in _FOUND:
        tokens, passes = model.usage.tokens, model.usage.passes
        _FOUND[model] = compare_engines(model)
        model.usage.tokens, model.usage.passes = tokens, passes
    return _FOUND[model]


def compare_engines(model: Model, *, seed: int = 0) -> Comparison:
    """Compare both ways on a few random tokens; our own errors are raised.

    A model whose trees are not exact with our attention is tried with its own, which it then keeps.
    """
    anatomy = check_anatomy(model)
    if anatomy.recall == "tokens":
        return Comparison(float("inf"), reason=f"{NO_CACHE}: {anatomy.reason}")
    compared = _compare(model, seed)
    if compared.exact or not can_attend(model):
        return compared
    leave_attention(model)
    return _compare(model, seed)


def _compare(model: Model, seed: int) -> Comparison:
    """What ``compare_engines`` says, with the attention that the model has now."""
    try:
        if model.dtype not in HALF or model.packed:
            tree, rows = _try_tree(model, seed), _try_rows(model, seed)
            return Comparison(_find_largest(tree, rows), tolerance=model.tolerance)
        wide, own = copy_wide(model)
        for copied in (wide, own):
            if not can_attend(model):
                leave_attention(copied)
        tolerance = TOLERANCES[torch.float32]
        rows = _try_rows(wide, seed)
        structure = _find_largest(_try_tree(wide, seed), rows)
        ours, alone = _try_rows(own, seed), _try_rows(own, seed, alone=True)
        noise = np.maximum(_find_typical(ours, rows), _find_typical(ours, alone))
        rounding = _find_typical(_try_tree(own, seed), ours)
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        if not lies_in_the_architecture(error):
            raise
        reason = f"the shared tree does not run on it ({tell_error(error)})"
        return Comparison(float("inf"), reason=reason)
    worst = int(np.argmax(rounding / np.maximum(noise, 1e-12)))
    return Comparison(structure, float(rounding[worst]), float(noise[worst]), tolerance)


@dataclass(frozen=True)
class _Trial:
    """Random prompts and completions, and a vector at the first, a middle and the last layer, and at all three."""

    prompts: list[list[int]]
    said: list[list[list[int]]]
    vector: SteeringVector
    conditions: list[list[Condition]]
    """By positions."""

    @classmethod
    def draw(cls, model: Model, seed: int) -> "_Trial":
        rng = np.random.default_rng(seed)
        prompts = [rng.integers(0, model.vocab_size, size=size).tolist() for size in (9, 5)]
        stem = rng.integers(0, model.vocab_size, size=6).tolist()
        said = [[stem, [*stem[:3], stem[0]], stem[:1]], [stem[::-1], stem[:2]]]
        layers = sorted({0, model.n_layers // 2, model.n_layers - 1})
        scale = 1 / np.sqrt(model.d_model)
        vector = SteeringVector("check", "random", {n: scale * rng.standard_normal(model.d_model) for n in layers})
        places: tuple[Positions, ...] = ("completion", "all")
        above = tuple(layers[1:])
        conditions = [
            [
                *(Condition("check", "random", layer, 1.0, place) for layer in layers),
                Condition("check", "random", layers[0], 1.0, place, "ablate", above),
            ]
            for place in places
        ]
        return cls(prompts, said, vector, conditions)


_Found = tuple[Float[np.ndarray, " token"], Float[np.ndarray, " completion"]]
"""Log probs of every token where two steps are decoded, and of completions under all conditions."""


def _try_tree(model: Model, seed: int) -> _Found:
    """By trees."""
    trial = _Trial.draw(model, seed)
    scores = []
    for conditions in trial.conditions:
        front = Wavefront(model, trial.prompts, trial.said, whole=conditions[0].acts_on_prompt)
        found = front.score({trial.vector.name: trial.vector}, conditions)
        for completions, reduced in zip(trial.said, found, strict=True):
            there = pad_tokens(completions, torch.device("cpu"))[1].numpy()
            scores.append(np.where(there, reduced.logprob, 0.0).sum(-1).ravel())
    alone = Wavefront(model, trial.prompts[:1], trial.said[:1], whole=False)
    (reduced,) = alone.score({trial.vector.name: trial.vector}, trial.conditions[0])
    there = pad_tokens(trial.said[0], torch.device("cpu"))[1].numpy()
    scores.append(np.where(there, reduced.logprob, 0.0).sum(-1).ravel())
    return _decode(TreeDecoder(model, trial.prompts), trial.prompts), np.concatenate(scores)


def _try_rows(model: Model, seed: int, *, alone: bool = False) -> _Found:
    """By plain rows: completions are scored side by side, or ``alone``, each in passes of its own."""
    trial = _Trial.draw(model, seed)
    scores = []
    for conditions in trial.conditions:
        for prompt, completions in zip(trial.prompts, trial.said, strict=True):
            batches = [[one] for one in completions] if alone else [completions]
            sums = [score_plainly(model, prompt, batch, trial.vector, conditions) for batch in batches]
            scores.append(np.concatenate(sums, -1).ravel())
    scores.append(scores[0])  # a tree of the first prompt alone
    return _decode(RowDecoder(model, trial.prompts), trial.prompts), np.concatenate(scores)


def _decode(decoder: Decoder, prompts: list[list[int]]) -> Float[np.ndarray, " token"]:
    """Two steps with a branch in between: log probs of all tokens."""
    steps = ([0, 1], [0, 0], [prompt[-1] for prompt in prompts]), ([0, 0, 1], [0, 0, 1], [1, 2, 3])
    found = [logits.log_softmax(-1).clamp(min=-30) for step in steps for _, logits in decoder.step(*step)]
    return torch.cat(found).flatten().cpu().numpy()


def score_plainly(
    model: Model,
    prompt: list[int],
    completions: list[list[int]],
    vector: SteeringVector,
    conditions: list[Condition],
) -> Float[np.ndarray, "variant completion"]:
    """Log probs of a prompt's completions, in nats, unsteered and under each condition, by plain rows."""
    targets, mask = pad_tokens(completions, model.device)
    tokens = torch.cat([torch.full_like(targets[:, :1], prompt[-1]), targets[:, :-1]], 1)
    variants = Variants(model, [prompt], torch.zeros(len(completions), dtype=torch.long))
    nodes = torch.arange(tokens.shape[1], device=model.device).repeat(len(tokens), 1)
    reader = Reader(len(tokens), nodes, targets, None, divergences=False)
    found = []
    for condition in conditions:
        prefix, steering = variants.steer({vector.name: vector}, [condition])
        rows = score_next(model, prefix, tokens.repeat(2, 1), reader, steering=steering)["logprob"]
        found.append(rows.view(2, *mask.shape).masked_fill(~mask.cpu(), 0.0).sum(-1).numpy())
    return np.stack([found[0][0], *(both[1] for both in found)])


def _find_largest(one: _Found, other: _Found) -> float:
    """The largest difference; NaN if any is."""
    return float(np.max([np.abs(a - b).max() for a, b in zip(one, other, strict=True)]))


def _find_typical(one: _Found, other: _Found) -> Float[np.ndarray, " 2"]:
    """Root mean square of the differences, of what is decoded and of what is scored."""
    return np.array([np.sqrt(np.mean(np.square((a - b).astype(np.float64)))) for a, b in zip(one, other, strict=True)])
