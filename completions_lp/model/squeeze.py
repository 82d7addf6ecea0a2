"""Numbers per token as they travel: rounded where nobody would see it, and laid out so that they compress.

Log probs of tokens go to a grid of 2⁻¹⁸ nats: a completion of twenty tokens is off by 5e-6 nats, as float32 itself is
where logits are large. Those of answers, of which the probabilities are summed, go to one of 2⁻¹⁷, and to a coarser one
where a probability is under 2e-5. Divergences, which are averaged over tokens, keep 12 binary digits each, without
bias: small ones stay as exact as large ones, and a mean over a hundred tokens is off by 1e-5 of itself. What the
two-choice read-out is made of is sent as it is.

Rows of a pass are sent as differences from its first, the unsteered one, which are small; then the first bytes of all
numbers, the second bytes, and so on: the higher ones are nearly all alike.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

STEPS = {"logprob": 2.0**18, "answers": 2.0**17}
"""To a nat, by name."""
RARE, COARSE = -11.0, 512
"""Nats under which an answer adds nothing to a sum, and steps of the grid that are one there."""
DIGITS = 12
"""Binary digits of a divergence."""
ROUNDED = frozenset({"kl", "kl_reverse"})
_NEVER, _UNDEFINED = -(2**31), 1 - 2**31
"""Stand for a log prob of minus infinity, and for none."""


def squeeze(found: Mapping[str, Tensor], *, whole: bool = False) -> dict[str, Any]:
    """What ``Reader`` reads, by name, to travel; the first axis of each has the unsteered row first.

    ``whole``: every number as it is, in float32.
    """
    packed = {}
    for name, values in found.items():
        steps = 0.0 if whole else STEPS.get(name, 0.0)
        wide = values.float().contiguous()
        rounded = _cut(wide) if name in ROUNDED and not whole else wide.view(torch.int32)
        rare = RARE if name == "answers" else float("-inf")
        packed[name] = _split_bytes(_to_grid(values, steps, rare) if steps else rounded), list(values.shape), steps
    return packed


def expand(packed: Mapping[str, Any]) -> dict[str, Tensor]:
    """The numbers again, in float32."""
    found = {}
    for name, (planes, shape, steps) in packed.items():
        numbers = _join_bytes(planes).reshape(shape)
        found[name] = _from_grid(numbers, steps) if steps else numbers.view(torch.float32)
    return found


def _to_grid(values: Tensor, steps: float, rare: float) -> Tensor:
    places = (values.double() * steps).round()
    places = torch.where(values < rare, (places / COARSE).round() * COARSE, places)
    whole = torch.nan_to_num(places, nan=0.0, neginf=0.0).to(torch.int64)
    change = torch.cat([whole[:1], whole[1:] - whole[:1]])
    change = change.masked_fill(torch.isneginf(values), _NEVER).masked_fill(values.isnan(), _UNDEFINED)
    return change.to(torch.int32)


def _from_grid(change: Tensor, steps: float) -> Tensor:
    never, undefined = change == _NEVER, change == _UNDEFINED
    known = change.masked_fill(never | undefined, 0).to(torch.int64)
    whole = torch.cat([known[:1], known[1:] + known[:1]])
    values = (whole.double() / steps).float()
    return values.masked_fill(never, float("-inf")).masked_fill(undefined, float("nan"))


def _cut(values: Tensor) -> Tensor:
    """The bits of numbers of which the last digits are rounded to zero, half of them up."""
    bits, left = values.view(torch.int32), 24 - DIGITS
    rounded = (bits + (1 << (left - 1))) >> left << left
    return torch.where(values.isfinite(), rounded, bits)


def _split_bytes(numbers: Tensor) -> Tensor:
    planes: Tensor = numbers.contiguous().reshape(-1).cpu().view(torch.uint8).reshape(-1, 4).T.contiguous()
    return planes


def _join_bytes(planes: Tensor) -> Tensor:
    numbers: Tensor = planes.T.contiguous().reshape(-1).view(torch.int32)
    return numbers
