"""Random numbers -> tokens: every prompt has its own stream of uniform numbers, and one number draws one token.

The stream is named by the seed, the prompt's id and, where the model is steered, the condition; every sample has its
own number per step, and the token is found by inverting the distribution function at that number. So a completion does
not depend on the batch, on the other prompts or on how many draws are made, and draws under different conditions are
independent.
"""

import hashlib
import json

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from completions_lp.records import BASELINE, Condition, Sampling

CDF_BLOCK = 256


def draw_uniforms(
    prompt_id: str, sampling: Sampling, condition: Condition = BASELINE
) -> Float[np.ndarray, "sample step"]:
    """The uniform random numbers, in [0, 1), of one prompt: a stream of its own.

    It is named by the seed and the prompt's id and, under a condition, by the vector's name, the layer, the multiplier,
    the positions, and what else is done than adding at one layer; numbers of different names are independent. Fewer
    draws are the first of more.
    """
    names = [prompt_id]
    if condition != BASELINE:
        multiplier = float(condition.multiplier) + 0.0  # -0.0 is the same condition as 0.0
        further = [] if condition.is_plain else [condition.operation, *map(int, condition.beyond)]
        names.append(json.dumps([condition.vector, int(condition.layer), multiplier, condition.positions, *further]))
    words = [np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype=np.uint32) for name in names]
    rng = np.random.default_rng(np.random.SeedSequence([sampling.seed, *map(int, np.concatenate(words))]))
    return rng.random((sampling.draws, sampling.max_new_tokens))


def invert_cdf(
    weights: Float[Tensor, "node vocab"], nodes: Int[Tensor, " sample"], uniforms: Float[Tensor, " sample"]
) -> tuple[Int[Tensor, " sample"], Float[Tensor, " node"]]:
    """The first token at which the cumulative weight of a sample's node exceeds its uniform number times the total.

    ``weights`` are probabilities up to a factor per node. In two levels, so that no ``[sample, vocab]`` array is made:
    the block of 256 tokens first, then the token in it. Positions are in float64. A token of weight 0 is never drawn.

    Returns:
        The tokens, and the total weight of every node.
    """
    vocab = weights.shape[1]
    whole = vocab - vocab % CDF_BLOCK
    sums = weights[:, :whole].unflatten(1, (-1, CDF_BLOCK)).sum(-1)  # type: ignore[no-untyped-call]
    if whole < vocab:
        sums = torch.cat([sums, weights[:, whole:].sum(-1, keepdim=True)], 1)
    edges = sums.double().cumsum(-1)  # double after the sum: before it, all of the weights would be copied
    goal = uniforms.to(torch.float64) * edges[nodes, -1]
    block = (edges[nodes] <= goal[:, None]).sum(-1).clamp(max=edges.shape[1] - 1)
    rest = goal - torch.where(block > 0, edges[nodes, (block - 1).clamp(min=0)], 0.0)
    tokens = block[:, None] * CDF_BLOCK + torch.arange(CDF_BLOCK, device=weights.device)
    inside = weights[nodes[:, None], tokens.clamp(max=vocab - 1)].to(torch.float64).masked_fill_(tokens >= vocab, 0.0)
    place = (inside.cumsum(-1) <= rest[:, None]).sum(-1)
    # Rounding may leave nothing past the goal; the last token that can be drawn is then the answer.
    last = CDF_BLOCK - 1 - (inside.flip(-1) > 0).to(torch.int8).argmax(-1)
    return block * CDF_BLOCK + torch.minimum(place, last), edges[:, -1]
