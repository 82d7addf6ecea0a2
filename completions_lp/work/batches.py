"""Which prompts go together in a unit: by the work and the network alone, not by memory or what is there."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from completions_lp.records import Prompt

UNIT = 2**18
"""Tokens times conditions of a unit, at most about."""
WORK = {"cpu": 2e12, "cuda": 2e15, "remote": 2e15}
"""Floating-point operations of a unit, about, by kind of device: half a minute, which is lost when a run is stopped."""


def measure_unit(model: Mapping[str, Any]) -> int:
    """Tokens times conditions of a unit, by the size of the network and the kind of its device."""
    work = WORK.get(str(model["device"]).partition(":")[0], WORK["cpu"])
    return int(min(UNIT, work / (2 * count_weights(model))))


def count_weights(model: Mapping[str, Any]) -> int:
    """Parameters of a network that its tokens go through, about."""
    return int(12 * model["n_layers"] * model["d_model"] ** 2 + model["vocab_size"] * model["d_model"])


def split_work(prompts: Sequence[Prompt], sizes: Sequence[int], unit: int) -> Iterator[list[int]]:
    """Batches of prompts, by their numbers, whose sizes add up to about a ``unit``; long prompts first.

    The order is the prompts' own, not that of the file, so that the same ones go together however it is sorted.
    """
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i].token_ids), prompts[i].id))
    batch: list[int] = []
    held = 0
    for i in order:
        if batch and held + sizes[i] > unit:
            yield batch
            batch, held = [], 0
        batch.append(i)
        held += sizes[i]
    if batch:
        yield batch
