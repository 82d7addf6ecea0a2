"""A tree of draws grown token by token: the samples that have said the same so far are one node."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

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
            largest = logits.amax(-1, keepdim=True)
            _check_logits(largest, nodes[piece], prompts, layer)
            drawn = _draw_tokens(logits, largest, nodes[piece], uniforms[:, :, step], sampling)
            for child in _branch(nodes[piece], piece.start, *drawn, eos_ids):
                if child.draw.ended or step == sampling.max_new_tokens - 1:
                    done[child.prompt].append(child.draw)
                else:
                    alive.append(child)
        if not alive:
            break
        nodes = alive
    return [sorted(draws, key=lambda draw: draw.samples[0]) for draws in done]


def _check_logits(
    largest: Float[Tensor, "node 1"], nodes: Sequence[_Node], prompts: Sequence[Prompt], layer: int | None
) -> None:
    """Raise NotFinite unless every node's largest logit is a number: it is not where any is NaN or all are -inf."""
    finite = torch.isfinite(largest[:, 0])
    if bool(finite.all()):
        return
    node = nodes[int(finite.to(torch.int8).argmin())]
    prompt = prompts[node.prompt]
    who = "the unsteered model" if layer is None else f"the model steered at layer {layer}"
    where = f"after {len(node.draw.token_ids)} tokens of its answer" if node.draw.token_ids else "at its end"
    raise NotFinite(
        f"prompt {prompt.id!r}: {who} gives logits that are not finite {where}, so nothing can be drawn; likely an "
        'overflow in half precision, or weights that are no numbers: use [model] dtype = "float32" or bfloat16'
        f"{'' if layer is None else ', or a smaller multiplier'}, and run completions-lp doctor",
        prompt_id=prompt.id,
    )


def _draw_tokens(
    logits: Float[Tensor, "node vocab"],
    largest: Float[Tensor, "node 1"],
    nodes: Sequence[_Node],
    uniforms: Float[np.ndarray, "prompt sample"],
    sampling: Sampling,
) -> tuple[list[int], list[float], list[float] | None]:
    """Next token of every sample, node by node, and its log probs.

    The first is under the model itself, at temperature 1; the second under what was drawn from, None where that is the
    same.
    """
    of_sample = np.repeat(np.arange(len(nodes)), [len(node.draw.samples) for node in nodes])
    rows = torch.from_numpy(of_sample).to(logits.device)
    u = np.concatenate([uniforms[node.prompt, list(node.draw.samples)] for node in nodes])
    numbers = torch.from_numpy(u).to(logits.device)
    if sampling.is_ancestral:  # one pass of exponentials gives the draw and its log prob
        weights = logits.sub_(largest).exp_()
        tokens, totals = invert_cdf(weights, rows, numbers)
        logprob = weights[rows, tokens].log() - totals.to(weights)[rows].log()
        return tokens.tolist(), logprob.tolist(), None
    if sampling.greedy:
        tokens = logits.argmax(-1)[rows]
        sampler = [0.0] * len(tokens)
    else:
        warped = warp_logits(logits, temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p)
        tokens, _ = invert_cdf(warped.softmax(-1), rows, numbers)
        sampler = (warped[rows, tokens] - warped.logsumexp(-1)[rows]).tolist()
    logprob = logits[rows, tokens] - logits.logsumexp(-1)[rows]
    return tokens.tolist(), logprob.tolist(), sampler


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
