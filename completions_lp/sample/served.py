"""Draws where the network is served: the random numbers, the passes and the choice of every token, in one session.

This module is sent to the server, see ``model.served``. What comes back are token ids, log probs, and which samples
drew what.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from completions_lp.model.served import Growing, Site
from completions_lp.records import Condition, Draw, NotFinite, Prompt, Sampling
from completions_lp.sample.growth import grow_draws
from completions_lp.sample.streams import draw_uniforms


def grow(network: Any, told: Mapping[str, Any], work: Mapping[str, Any]) -> dict[str, Any]:
    """The draws of some prompts, by prompt, as ``pack_draws`` packs them; or ``broken``: a prompt, and what is wrong.

    ``work`` has ``ids``, ``names`` and ``samples`` by prompt, ``sampling`` and ``condition`` as keywords, what is
    ``done`` by layer, ``eos_ids``, the prompts of a pass (``most``) and how many logits are held at once.
    """
    site, sampling, condition = Site(network, told), Sampling(**work["sampling"]), Condition(**work["condition"])
    prompts = [
        Prompt(name, "", tuple(ids), ("A", "B"), "A", "B", name)
        for name, ids in zip(work["names"], work["ids"], strict=True)
    ]
    found: list[dict[str, Any]] = []
    for start in range(0, len(prompts), work["most"]):
        some = prompts[start : start + work["most"]]
        grower = Growing(
            site,
            [prompt.token_ids for prompt in some],
            done=work["done"],
            reach=(condition.acts_on_prompt, condition.until),
            held=work["held"],
        )
        uniforms = np.stack([draw_uniforms(prompt.id, sampling, condition) for prompt in some])
        samples = work["samples"][start : start + work["most"]]
        try:
            drawn = grow_draws(
                grower,
                some,
                sampling,
                samples,
                uniforms,
                frozenset(work["eos_ids"]),
                layer=condition.layer if work["done"] else None,
            )
        except NotFinite as error:
            return {"broken": (error.prompt_id, str(error))}
        found += [pack_draws(draws) for draws in drawn]
    return {"draws": found, "tokens": site.tokens, "passes": site.passes}


def pack_draws(draws: Sequence[Draw]) -> dict[str, Any]:
    """Draws of a prompt as a few tensors: what is ragged one after the other, with the lengths."""
    sampler = None
    if any(draw.sampler_logprob is not None for draw in draws):
        sampler = torch.tensor([x for draw in draws for x in draw.sampler_logprob or ()], dtype=torch.float64)
    return {
        "token_ids": torch.tensor([x for draw in draws for x in draw.token_ids], dtype=torch.int32),
        "lengths": torch.tensor([len(draw.token_ids) for draw in draws], dtype=torch.int32),
        "logprob": torch.tensor([x for draw in draws for x in draw.logprob], dtype=torch.float64),
        "sampler": sampler,
        "samples": torch.tensor([x for draw in draws for x in draw.samples], dtype=torch.int32),
        "counts": torch.tensor([len(draw.samples) for draw in draws], dtype=torch.int32),
        "ended": torch.tensor([draw.ended for draw in draws], dtype=torch.bool),
    }


def unpack_draws(packed: Mapping[str, Any]) -> list[Draw]:
    """The draws again."""
    lengths, counts = packed["lengths"].tolist(), packed["counts"].tolist()
    pieces: dict[str, list[Any]] = {}
    for name, sizes in (("token_ids", lengths), ("logprob", lengths), ("sampler", lengths), ("samples", counts)):
        values = packed[name]
        pieces[name] = [None] * len(sizes) if values is None else [part.tolist() for part in torch.split(values, sizes)]
    rows = zip(*pieces.values(), packed["ended"].tolist(), strict=True)
    return [Draw(ids, logprob, samples, ended, sampler) for ids, logprob, sampler, samples, ended in rows]
