"""Pairs of texts where the network is served, see ``model.served``: what leaves are sums over pairs, and few numbers.

The vector, by whatever method, and its quality are made there, of what was read there.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from completions_lp.model.places import Places
from completions_lp.model.residual import replace_stream, residual_stream
from completions_lp.model.served import Site, as_it_is
from completions_lp.model.transfer import pad_tokens
from completions_lp.steer.estimates import Estimate, estimate

PASS = 2**15
"""Tokens of a pass, about."""
HELD = 2**25
"""Logits that are held at once, at most about."""
MEASURES = ("norm", "norm_se", "split_half_cosine", "pair_cosine", "d_prime")
"""Numbers of an estimate, in their order."""


def contrast(network: Any, told: Mapping[str, Any], work: Mapping[str, Any]) -> dict[str, Tensor]:
    """What pairs say, in float64: ``directions [layer, d_model]`` by ``method``, ``sides [2, layer, d_model]``, means.

    Beside them ``measures [layer, 5]``, what the logit lens says of the answers, ``lens [layer, pair, 2]`` (NaN where a
    pair has none), and which pairs are ``finite [layer, pair]``; where one is not, this is all.
    """
    site = Site(network, told)
    sides, before = _read(site, work)
    finite = torch.isfinite(sides).all(-1).all(0)
    if not bool(finite.all()):
        return {"finite": finite}
    both = sides.numpy()
    found: list[Estimate] = [estimate(*layer, method=work["method"]) for layer in np.swapaxes(both, 0, 1)]
    measures = np.array([[getattr(one, name) for name in MEASURES] for one in found], dtype=np.float64)
    return {
        "directions": torch.from_numpy(np.stack([one.direction for one in found])).to(torch.float64),
        "sides": sides.mean(2, dtype=torch.float64),
        "measures": torch.from_numpy(measures),
        "lens": _look(site, before, work),
        "finite": finite,
    }


def average(network: Any, told: Mapping[str, Any], work: Mapping[str, Any]) -> dict[str, Tensor]:
    """Of differences positive minus negative: ``means [mean, layer, d_model]`` by weight, in float64.

    Beside them which are ``finite [layer, pair]``.
    """
    sides, _ = _read(Site(network, told), work)
    values = (sides[0] - sides[1]).to(torch.float64)
    means = torch.einsum("mp,lpd->mld", work["weights"].to(torch.float64), values)
    return {"means": means, "finite": torch.isfinite(sides).all(-1).all(0)}


def _read(site: Site, work: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """``[side, layer, pair, d_model]`` where texts are read, and ``[layer, pair, d_model]`` before the answers.

    The latter is 0 of pairs without answers.
    """
    texts, n = [*work["positive"], *work["negative"]], len(work["positive"])
    spans, asked = [tuple(span) for span in work["spans"]], work["answers"]
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    size = max(1, PASS // len(texts[order[0]]))
    read: list[Tensor] = [torch.empty(0)] * len(texts)
    before: list[Tensor] = [torch.empty(0)] * n
    for start in range(0, len(order), size):
        some = order[start : start + size]
        looked = [row for row, i in enumerate(some) if i < n and asked[i]]
        places = [spans[i] for i in some] + [asked[some[row]][0] for row in looked]
        ids, _ = pad_tokens([texts[i] for i in some], site.device)
        at = Places.of(places, [*range(len(some)), *looked], device=site.device)
        found = _pass(site, ids, at, work["layers"])
        for place, i in enumerate(some):
            read[i] = found[:, place]
        for place, row in enumerate(looked, start=len(some)):
            before[some[row]] = found[:, place]
    none = torch.zeros_like(read[0])
    seen = torch.stack([one if asked[i] else none for i, one in enumerate(before)], 1)
    return torch.stack([torch.stack(read[:n], 1), torch.stack(read[n:], 1)]), seen


def _pass(site: Site, ids: Tensor, at: Places, layers: list[int]) -> Tensor:
    """The residual stream ``[layer, place, d_model]`` of texts, padded on the right."""
    network, blocks, exact = site.network, site.blocks, site.exact
    positions, found = torch.arange(ids.shape[1])[None].expand(len(ids), -1), []
    with torch.no_grad(), network.trace(input_ids=ids, position_ids=positions, use_cache=False) as tracer:
        for layer in layers:
            found.append(at.take(residual_stream(blocks[layer].output), exact).cpu())
        tracer.stop()
    return torch.stack(found)


def _look(site: Site, before: Tensor, work: Mapping[str, Any]) -> Tensor:
    """As ``model.lens.read_lens``: of each layer and pair, whether the answer is the likeliest, and its log odds."""
    asked = [i for i, answers in enumerate(work["answers"]) if answers]
    lens = torch.full((*before.shape[:2], 2), float("nan"), dtype=torch.float64)
    if not asked:
        return lens
    network, last, output = site.network, site.blocks[-1], site.output
    ids, pairs = torch.zeros(1, 1, dtype=torch.long), torch.tensor([work["answers"][i][1:] for i in asked])
    size = max(1, HELD // len(site.head.weight))
    for layer, states in enumerate(before[:, asked]):
        for start in range(0, len(asked), size):
            some = states[start : start + size, None]
            with torch.no_grad(), network.trace(input_ids=ids, use_cache=False):
                whole = last.output
                last.output = replace_stream(whole, some.to(residual_stream(whole)))
                hidden = output.input
                output.skip(hidden[:, :1, :1])
            normed, rows = hidden[:, 0].to(site.exact), torch.tensor(asked[start : start + size])
            with torch.no_grad(), as_it_is(normed):
                logits = site.head.logits(site.head.widen(normed))
            pair = pairs[start : start + size].to(logits.device)
            odds = logits.gather(1, pair)
            hit = (logits.argmax(1) == pair[:, 0]).to(logits.dtype)
            lens[layer, rows] = torch.stack([hit, odds[:, 0] - odds[:, 1]], 1).cpu().to(torch.float64)
    return lens
