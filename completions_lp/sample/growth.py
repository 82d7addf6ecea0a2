"""A tree of draws grown token by token: the samples that have said the same so far are one node."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from completions_lp.model.transfer import upload
from completions_lp.model.warping import warp_logits
from completions_lp.records import Draw, NotFinite, Prompt, Sampling
from completions_lp.sample.streams import invert_cdf


@runtime_checkable
class Stepper(Protocol):
    """Prompts that went through a network, wherever it is, growing their completions a token at a time."""

    def step(
        self, prompt: Sequence[int], parent: Sequence[int], token: Sequence[int]
    ) -> Iterator[tuple[slice, Float[Tensor, "node vocab"]]]:
        """Logits after each new node, in pieces; see ``model.RowDecoder``."""


@dataclass
class _Node:
    """A distinct prefix that is still growing: its last token, and the node of the step before that it follows."""

    prompt: int
    parent: int
    token: int
    draw: Draw


def grow_draws(
    decoder: Stepper,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    samples: Sequence[Sequence[int]],
    uniforms: Float[np.ndarray, "prompt sample step"],
    eos_ids: frozenset[int],
    *,
    layer: int | None = None,
) -> list[list[Draw]]:
    """Distinct completions that each prompt's ``samples``, by number, draw, in the order of the first.

    ``layer`` is where the model is steered that draws; None: it is not.

    Raises:
        NotFinite: Logits are no numbers after a prompt.
    """
    nodes = [_Node(i, 0, prompt.token_ids[-1], Draw([], [], samples[i])) for i, prompt in enumerate(prompts)]
    done: list[list[Draw]] = [[] for _ in prompts]
    for step in range(sampling.max_new_tokens):
        alive: list[_Node] = []
        pieces = decoder.step([n.prompt for n in nodes], [n.parent for n in nodes], [n.token for n in nodes])
        for piece, logits in pieces:
            drawn = _draw_tokens(logits, nodes[piece], uniforms[:, :, step], sampling)
            unsound, tokens, logprob, sampler = drawn
            if unsound is not None:
                raise _tell_unsound(nodes[piece][unsound], prompts, layer)
            for child in _branch(nodes[piece], piece.start, tokens, logprob, sampler, eos_ids):
                if child.draw.ended or step == sampling.max_new_tokens - 1:
                    done[child.prompt].append(child.draw)
                else:
                    alive.append(child)
        if not alive:
            break
        nodes = alive
    return [sorted(draws, key=lambda draw: draw.samples[0]) for draws in done]


def _tell_unsound(node: _Node, prompts: Sequence[Prompt], layer: int | None) -> NotFinite:
    prompt = prompts[node.prompt]
    who = "the unsteered model" if layer is None else f"the model steered at layer {layer}"
    where = f"after {len(node.draw.token_ids)} tokens of its answer" if node.draw.token_ids else "at its end"
    return NotFinite(
        f"prompt {prompt.id!r}: {who} gives logits that are not finite {where}, so nothing can be drawn; likely an "
        'overflow in half precision, or weights that are no numbers: use [model] dtype = "float32" or bfloat16'
        f"{'' if layer is None else ', or a smaller multiplier'}, and run completions-lp doctor",
        prompt_id=prompt.id,
    )


def _draw_tokens(
    logits: Float[Tensor, "node vocab"],
    nodes: Sequence[_Node],
    uniforms: Float[np.ndarray, "prompt sample"],
    sampling: Sampling,
) -> tuple[int | None, list[int], list[float], list[float] | None]:
    """Next token of every sample, node by node, and its log probs, once it is known that logits are numbers.

    The first is the number of the first node whose largest logit is none: any is NaN then, or all are -inf. Of the log
    probs the first is under the model itself, at temperature 1; the second under what was drawn from, None where that
    is the same. All of it comes from the device in one copy, the only wait of a step.
    """
    of_sample = np.repeat(np.arange(len(nodes)), [len(node.draw.samples) for node in nodes])
    u = np.concatenate([uniforms[node.prompt, list(node.draw.samples)] for node in nodes])
    rows, numbers = upload(of_sample, logits.device), upload(u, logits.device)
    largest = logits.amax(-1, keepdim=True)
    sound = torch.isfinite(largest[:, 0])[rows]
    if sampling.is_ancestral:  # one pass of exponentials gives the draw and its log prob
        weights = logits.sub_(largest).exp_()
        tokens, totals = invert_cdf(weights, rows, numbers)
        logprob = weights[rows, tokens].log() - totals.to(weights)[rows].log()
        return _bring(of_sample, sound, tokens, logprob)
    if sampling.greedy:
        tokens = logits.argmax(-1)[rows]
        sampler = torch.zeros_like(tokens, dtype=logits.dtype)
    else:
        warped = warp_logits(logits, temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p)
        tokens, _ = invert_cdf(warped.softmax(-1), rows, numbers)
        sampler = warped[rows, tokens] - warped.logsumexp(-1)[rows]
    logprob = logits[rows, tokens] - logits.logsumexp(-1)[rows]
    return _bring(of_sample, sound, tokens, logprob, sampler)


def _bring(
    of_sample: Int[np.ndarray, " sample"], sound: Bool[Tensor, " sample"], *drawn: Shaped[Tensor, " sample"]
) -> tuple[int | None, list[int], list[float], list[float] | None]:
    """What was drawn, from the device in one copy: in float64, which holds token ids and log probs exactly."""
    found = torch.stack([sound.double(), *(one.double() for one in drawn)]).cpu().numpy()
    unsound = None if found[0].all() else int(of_sample[found[0].argmin()])
    tokens, logprob, *sampler = found[1:]
    return unsound, tokens.astype(int).tolist(), logprob.tolist(), sampler[0].tolist() if sampler else None


def _branch(
    nodes: Sequence[_Node],
    first: int,
    tokens: Sequence[int],
    logprob: Sequence[float],
    sampler: Sequence[float] | None,
    eos_ids: frozenset[int],
) -> Iterator[_Node]:
    """Split every node by the token that its samples drew; ``first`` is the number of the first node."""
    at = 0
    for number, node in enumerate(nodes, start=first):
        groups: dict[int, tuple[int, list[int]]] = {}
        for place, sample in enumerate(node.draw.samples, start=at):
            groups.setdefault(tokens[place], (place, []))[1].append(sample)
        at += len(node.draw.samples)
        for token, (place, samples) in groups.items():
            ids, values = [*node.draw.token_ids, token], [*node.draw.logprob, logprob[place]]
            own = None if sampler is None else [*(node.draw.sampler_logprob or ()), sampler[place]]
            yield _Node(node.prompt, number, token, Draw(ids, values, samples, token in eos_ids, own))
