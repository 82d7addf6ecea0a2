"""Conditions -> what they do to the residual stream, as tensors, block by block."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from completions_lp.model.residual import Edits
from completions_lp.model.transfer import upload
from completions_lp.records import Condition, Edit, SteeringVector, find_edit


def make_edits(
    vectors: Mapping[str, SteeringVector],
    conditions: Sequence[Condition],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[int, Edits]:
    """By block, upwards, the edits of the conditions that act there, which are numbered in their order."""
    found: dict[int, list[tuple[int, Edit]]] = {}
    for number, condition in enumerate(conditions):
        for layer in condition.layers:
            edit = find_edit(vectors[condition.vector], condition, layer)
            found.setdefault(layer, []).append((number, edit))

    def stack(rows: Sequence[np.ndarray]) -> Tensor:
        return upload(np.stack(rows), device).to(dtype)

    made = {}
    for layer, rows in sorted(found.items()):
        edits = [edit for _, edit in rows]
        unit = share = None
        if any(edit.share for edit in edits):
            unit = stack([edit.unit for edit in edits])
            share = stack([np.array(edit.share, dtype=np.float64) for edit in edits])
        made[layer] = Edits(stack([edit.added for edit in edits]), unit, share, [number for number, _ in rows])
    return made
