"""The logit lens: what final norm and head make of a hidden state of any layer (nostalgebraist 2020)."""

from collections.abc import Sequence

import nnsight
import torch
from jaxtyping import Float
from torch import Tensor

from completions_lp.model.loading import Model
from completions_lp.model.output import head_envoy, widen_output
from completions_lp.model.residual import replace_stream, residual_stream

HELD = 2**25
"""Logits of one pass, at most about: 128 MiB in float32."""


def read_lens(
    model: Model, states: Float[Tensor, "state d_model"], answers: Sequence[tuple[int, int]]
) -> Float[Tensor, "state 2"]:
    """Of each state, as if the last block had put it out: what the network would say next of two tokens.

    First whether the first token is the likeliest of all, as 0 or 1; then its log odds against the second one, nats.
    They go through what follows the last block in place of the one token of a pass, so no architecture need be known.
    """
    network, last, output, exact = model.network, model.blocks[-1], head_envoy(model), model.exact_dtype
    ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    tokens, found = torch.tensor(answers), []
    size = max(1, HELD // model.vocab_size)
    for start in range(0, len(states), size):
        some, pair = states[start : start + size, None], tokens[start : start + size]
        with torch.no_grad(), model.arithmetic(), network.trace(input_ids=ids, use_cache=False):
            whole = last.output
            last.output = replace_stream(whole, some.to(residual_stream(whole)))
            widen_output(model, output)
            read: Tensor = nnsight.save(weigh_answers(network.output.logits[:, 0].to(exact), pair).cpu())
        found.append(read)
        model.usage.count(ids)
    return torch.cat(found)


def weigh_answers(logits: Float[Tensor, "state vocab"], answers: Tensor) -> Float[Tensor, "state 2"]:
    """Whether the first answer's token is the likeliest, and its log odds against the second's."""
    pair = answers.to(logits.device)
    ours, theirs = logits.gather(1, pair).unbind(1)
    return torch.stack([(logits.argmax(1) == pair[:, 0]).to(logits.dtype), ours - theirs], 1)
