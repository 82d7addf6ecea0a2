"""Differences of pairs where the network is served, see ``model.served``; their sums over pairs are what leaves."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from completions_lp.model.served import Site, pack_rows

PASS = 2**15
"""Tokens of a pass, about."""


def average(network: Any, told: Mapping[str, Any], work: Mapping[str, Any]) -> dict[str, Tensor]:
    """Of differences positive minus negative: ``means [mean, layer, d_model]`` by weight, in float64.

    Beside them which are ``finite [layer, pair]`` and, if asked for, ``products [layer, pair, pair]``.
    """
    site, n = Site(network, told), len(work["positive"])
    texts = [*work["positive"], *work["negative"]]
    index = [*work["index"][0], *work["index"][1]]
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    size = max(1, PASS // len(texts[order[0]]))
    read: list[Tensor] = [torch.empty(0)] * len(texts)
    for start in range(0, len(order), size):
        some = order[start : start + size]
        ids, _, _ = pack_rows([texts[i] for i in some], [0] * len(some), (True, None))
        found = site.read(ids, torch.tensor([index[i] for i in some]), work["layers"])
        for place, i in enumerate(some):
            read[i] = found[:, place]
    values = (torch.stack(read[:n], 1) - torch.stack(read[n:], 1)).to(torch.float64)
    finite = torch.isfinite(values).all(-1)
    made = {"means": torch.einsum("mp,lpd->mld", work["weights"].to(torch.float64), values), "finite": finite}
    return made | ({"products": values @ values.transpose(1, 2)} if work["products"] else {})
