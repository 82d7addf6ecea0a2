"""Which prompts go together in a unit: by the work and the network alone, not by memory or what is there."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from completions_lp.records import Prompt

UNIT = 2**18
"""Tokens times conditions of a unit, at most about."""
LARGE = 2**20
"""The same on a GPU, which does so many in half a minute: each unit is a file, of which few are better."""
WORK = {"cpu": 2e12, "cuda": 1e16, "remote": 2e15}
"""Floating-point operations of a unit, about, by kind of device: half a minute, which is lost when a run is stopped."""
SPREAD = 2**17
"""Tokens times conditions of a unit on GPUs, at least: a model too large for one is on several, which take as long
for these, however large it is."""


def measure_unit(model: Mapping[str, Any]) -> int:
    """Tokens times conditions of a unit, by the size of the network and the kind of its device."""
    kind = str(model["device"]).partition(":")[0]
    unit = WORK.get(kind, WORK["cpu"]) / (2 * count_weights(model))
    return int(max(SPREAD, min(LARGE, unit)) if kind == "cuda" else min(UNIT, unit))


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
