"""What goes up to a device and comes down from it: in few copies, none of which the host waits for on the way up.

On a CPU there is nothing to copy, and all of these give what they are given. To a GPU, arrays go from page-locked
memory, so that the host can prepare what is next meanwhile; what a pass has found comes down in one piece, as every
copy down is a wait for all that the GPU still has to do.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor


def upload(array: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """An array on a device; the copy is queued there, and the host goes on."""
    held = torch.from_numpy(array) if isinstance(array, np.ndarray) else array
    if device.type != "cuda":
        return held.to(device)
    return held.pin_memory().to(device, non_blocking=True)


def upload_all(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Arrays of int64 on a device, in one copy."""
    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    flat = upload(np.concatenate([array.ravel() for array in arrays]), device)
    parts = torch.split(flat, [array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def download(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Arrays of one precision on the CPU, in one copy."""
    tensors = list(found.values())
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return dict(found)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).cpu()
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return {name: part.view(found[name].shape) for name, part in zip(found, parts, strict=True)}


def pad_tokens(
    sequences: Sequence[Sequence[int]], device: torch.device, *, left: bool = False
) -> tuple[Int[Tensor, "row token"], Bool[Tensor, "row token"]]:
    """Ragged token ids as one tensor, padded with 0 on the right or on the left, and the mask of what is there."""
    width = max(map(len, sequences))
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros(len(sequences), width, dtype=torch.bool)
    for i, sequence in enumerate(sequences):
        at = slice(width - len(sequence), width) if left else slice(len(sequence))
        ids[i, at] = torch.tensor(sequence, dtype=torch.long)
        mask[i, at] = True
    return upload(ids, device), upload(mask, device)
