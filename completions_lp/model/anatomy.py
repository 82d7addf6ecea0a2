"""What must hold of a network for a vector to land where it is meant: found by trying, once per model, before any work.

A model is refused, in one line, where no numbers of it would mean what they say: its texts are read in both directions,
a block runs twice or not at all, what a block puts out is no single residual stream or not what the next one takes in,
or what one text gets depends on the others beside it. Where only the cache cannot be trusted (a state-space layer
remembers something else than keys and values), prompts go through the network again with all that follows them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_tb
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from completions_lp.model.arithmetic import HALF
from completions_lp.model.loading import Model
from completions_lp.model.memory import is_out_of_memory
from completions_lp.model.network import score_next
from completions_lp.model.reading import Reader
from completions_lp.model.residual import residual_stream
from completions_lp.model.specimen import copy_wide
from completions_lp.model.steering import Variants
from completions_lp.model.transfer import pad_tokens
from completions_lp.model.usage import RECALLS, Recall
from completions_lp.records import Condition, InputError, SteeringVector

SAME, WIDTH = 7, 12
"""Tokens of a trial text, of which the first ones are those of the other."""

FOREIGN = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)
"""What networks were seen to raise over inputs that they do not take."""


@dataclass(frozen=True)
class Anatomy:
    """What was found."""

    recall: Recall
    reason: str = ""
    """Why prompts are not remembered by keys and values."""


_FOUND: "WeakKeyDictionary[Model, Anatomy]" = WeakKeyDictionary()


def check_anatomy(model: Model) -> Anatomy:
    """What the network is like, found once per model in a few small passes; ``model.usage`` is told of its memory.

    Half precision is checked as a copy in float32, so that what it rounds is no fault.

    Raises:
        InputError: The network is not one whose residual stream can be steered, or not with right numbers.
    """
    if model not in _FOUND:
        tokens, passes = model.usage.tokens, model.usage.passes
        wide = copy_wide(model)[0] if model.dtype in HALF and not model.packed else model
        try:
            _check_passes(wide)
            _FOUND[model] = _find_recall(wide)
        except _Unfit as error:
            raise InputError(f"model {model.name!r}: {type(model.module).__name__} {error}") from None
        finally:
            model.usage.tokens, model.usage.passes = tokens, passes
    model.usage.recall = _FOUND[model].recall
    return _FOUND[model]


class _Unfit(Exception):  # noqa: N818  it becomes an InputError
    """What is wrong with a network, as a predicate of its name."""


@dataclass
class _Seen:
    """What a block was given and put out, call by call."""

    taken: list[Any] = field(default_factory=list)
    put_out: list[Any] = field(default_factory=list)


def _check_passes(model: Model) -> None:
    """Raise _Unfit unless blocks run once, hand on one stream, and texts that begin alike have the same beginnings."""
    ids = torch.arange(WIDTH, device=model.device)[None].repeat(2, 1) % model.vocab_size
    ids[1, SAME:] = (ids[1, SAME:] + WIDTH) % model.vocab_size
    seen = [_Seen() for _ in model.blocks]
    handles = []
    for block, notes in zip(model.blocks, seen, strict=True):

        def take(_: Any, args: Any, kwargs: Any, notes: _Seen = notes) -> None:
            given = args[0] if args else kwargs.get("hidden_states")
            notes.taken.append(given.clone() if isinstance(given, Tensor) else None)

        def put(_: Any, __: Any, output: Any, notes: _Seen = notes) -> None:
            stream = residual_stream(output)
            notes.put_out.append(stream.clone() if isinstance(stream, Tensor) else None)

        handles += [
            block._module.register_forward_pre_hook(take, with_kwargs=True),
            block._module.register_forward_hook(put),
        ]
    try:
        logits = _run(model, ids)
    except FOREIGN as error:
        if not lies_in_the_architecture(error):
            raise
        raise _Unfit(f"does not run on text alone ({tell_error(error)})") from None
    finally:
        for handle in handles:
            handle.remove()
    _check_blocks(model, seen, tuple(ids.shape))
    if tuple(logits.shape) != (*ids.shape, model.vocab_size):
        raise _Unfit(f"gives logits {list(logits.shape)} for {list(ids.shape)} tokens of {model.vocab_size} each")
    ahead = float((logits[0, :SAME] - logits[1, :SAME]).abs().max())
    if not ahead <= model.tolerance:
        raise _Unfit(
            f"reads ahead: log probs change by {ahead:.1e} nats with the tokens that come after. It is no causal "
            "language model as its configuration has it, and what it says of a token is no probability of saying it"
        )


def _check_blocks(model: Model, seen: list[_Seen], shape: tuple[int, ...]) -> None:
    for layer, notes in enumerate(seen):
        if len(notes.put_out) != 1:
            raise _Unfit(
                f"runs block {layer} {len(notes.put_out)} times in a pass over text, not once: what is added there "
                "would be lost, or come in more than once"
            )
        (stream,) = notes.put_out
        if stream is None or tuple(stream.shape) != (*shape, model.d_model):
            found = "no tensor" if stream is None else f"an array {list(stream.shape)}"
            raise _Unfit(
                f"has no single residual stream: block {layer} puts out {found} for {list(shape)} tokens, where "
                f"{[*shape, model.d_model]} is needed to add a vector to"
            )
        following = seen[layer + 1].taken[0] if layer + 1 < len(seen) and seen[layer + 1].taken else None
        if (
            following is not None
            and following.shape == stream.shape
            and not torch.equal(following.to(stream.device), stream)
        ):
            raise _Unfit(
                f"changes the residual stream between blocks {layer} and {layer + 1}: a vector that is added to what "
                "one puts out is not what the next one takes in"
            )


def _find_recall(model: Model) -> Anatomy:
    """``cache`` where a prompt's keys and values, kept, give what whole texts give; else ``tokens`` where that does."""
    trial = _Trial.draw(model)
    why, told = "", ""
    for recall in RECALLS:
        why = told
        model.usage.recall = recall
        try:
            off = trial.find_error()
        except FOREIGN as error:
            if not lies_in_the_architecture(error):
                raise
            told = f"does not run on a batch of texts with a cache ({tell_error(error)})"
            told = told if recall == "cache" else f"does not run on a batch of texts ({tell_error(error)})"
            continue
        if off <= model.tolerance:
            return Anatomy(recall, why)
        told = (
            f"gives a text other log probs, {off:.1e} nats off, when it is computed beside others than it has alone: "
            "its numbers depend on the batch or on padding"
        )
    raise _Unfit(told)


@dataclass(frozen=True)
class _Trial:
    """Random ragged texts, and a vector at the first layer."""

    model: Model
    prompts: list[list[int]]
    said: list[list[int]]
    of_prompt: list[int]
    vector: SteeringVector

    @classmethod
    def draw(cls, model: Model) -> "_Trial":
        rng = np.random.default_rng(0)
        prompts = [rng.integers(0, model.vocab_size, size=size).tolist() for size in (9, 4)]
        said = [rng.integers(0, model.vocab_size, size=size).tolist() for size in (5, 2, 3)]
        vector = SteeringVector("check", "random", {0: rng.standard_normal(model.d_model) / np.sqrt(model.d_model)})
        return cls(model, prompts, said, [0, 0, 1], vector)

    def find_error(self) -> float:
        """Nats by which batches are off from full passes of one text each.

        A prompt serves two batches, one after the other, so that what the first leaves behind shows.
        """
        model, condition = self.model, Condition("check", "random", 0, 1.0)
        targets, _ = pad_tokens(self.said, model.device)
        last = torch.tensor([self.prompts[i][-1] for i in self.of_prompt], device=model.device)
        tokens = torch.cat([last[:, None], targets[:, :-1]], 1)
        variants = Variants(model, self.prompts, torch.tensor(self.of_prompt))
        nodes = torch.arange(tokens.shape[1], device=model.device).repeat(len(tokens), 1)
        reader = Reader(len(tokens), nodes, targets, None, divergences=False)
        off = 0.0
        for conditions in ([condition], []):
            prefix, steering = variants.steer({"check": self.vector}, conditions)
            rows = tokens.repeat(1 + len(conditions), 1)
            found = score_next(model, prefix, rows, reader, steering=steering)["logprob"][-len(tokens) :]
            for row, ids in enumerate(self.said):
                truth = self._score_alone(row, steering=None if steering is None else condition)
                off = float(np.maximum(off, np.abs(found[row, : len(ids)].double().numpy() - truth).max()))
        return off

    def _score_alone(self, row: int, *, steering: Condition | None) -> Float[np.ndarray, " token"]:
        """Log probs by one full pass without any cache, by plain hooks."""
        model, prompt, said = self.model, self.prompts[self.of_prompt[row]], self.said[row]
        handle = None
        if steering is not None:
            added = torch.tensor(self.vector.directions[steering.layer])

            def add(_: Any, __: Any, output: Any) -> Any:
                stream = residual_stream(output)
                stream[:, len(prompt) - 1 :] += added.to(stream)
                return output

            handle = model.blocks[steering.layer]._module.register_forward_hook(add)
        try:
            logprob = _run(model, torch.tensor([[*prompt, *said]], device=model.device))[0, len(prompt) - 1 : -1]
        finally:
            if handle is not None:
                handle.remove()
        found: Float[np.ndarray, " token"] = logprob[torch.arange(len(said)), torch.tensor(said)].numpy()
        return found


def _run(model: Model, ids: Tensor) -> Float[Tensor, "row token vocab"]:
    """Log probs of all tokens, by the network itself."""
    with torch.no_grad(), model.arithmetic():
        logits: Tensor = model.module(ids, use_cache=False).logits
    return logits.double().log_softmax(-1).cpu()


def tell_error(error: Exception) -> str:
    """What a network raised, or we over it, on one line."""
    line = (str(error).splitlines() or [""])[0][:200]
    return line if isinstance(error, NotImplementedError) else f"{type(error).__name__}: {line}"


def lies_in_the_architecture(error: Exception) -> bool:
    """Whether an error says that a way does not run on an architecture, and not that this package is wrong.

    It does if it was raised while the network ran, by code that is not ours or by an operation of torch on shapes that
    do not go together, or if we raised it because of what we found. A mistake of ours is none of them.
    """
    if isinstance(error, NotImplementedError):
        return True
    files = [Path(frame.f_code.co_filename) for frame, _ in walk_tb(error.__traceback__)]
    ran = any(file.parts[-4:] == ("torch", "nn", "modules", "module.py") for file in files)
    ours = files[-1].is_relative_to(Path(__file__).parent.parent)
    return ran and not is_out_of_memory(error) and (not ours or isinstance(error, RuntimeError))
