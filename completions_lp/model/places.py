"""Where hidden states are read: at one token of a text, or over a range of tokens, as their mean.

What is taken of a block is one state per place, at once: no array over all tokens is kept. It is sent to model servers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from completions_lp.model.transfer import upload

Place = int | tuple[int, int]
"""A token, or a half-open range of tokens."""


@dataclass(frozen=True)
class Places:
    """Places in the rows of a batch, as tensors where token ids are."""

    rows: Int[Tensor, "place 1"]
    columns: Int[Tensor, "place width"]
    inside: Bool[Tensor, "place width"]

    @classmethod
    def of(cls, places: Sequence[Place], rows: Sequence[int] | None = None, *, device: torch.device) -> "Places":
        """``rows`` says in which row each place is; by default one in each."""
        spans = [place if isinstance(place, tuple) else (place, place + 1) for place in places]
        width = max((stop - start for start, stop in spans), default=1)
        columns = torch.tensor([[min(start + k, stop - 1) for k in range(width)] for start, stop in spans])
        inside = torch.tensor([[start + k < stop for k in range(width)] for start, stop in spans])
        owners = torch.tensor(list(range(len(spans)) if rows is None else rows))[:, None]
        return cls(upload(owners, device), upload(columns, device), upload(inside, device))

    def take(self, stream: Float[Tensor, "row token d_model"], dtype: torch.dtype) -> Float[Tensor, "place d_model"]:
        """The residual stream there, or its mean, in the precision that is asked for."""
        rows, columns, inside = (part.to(stream.device) for part in (self.rows, self.columns, self.inside))
        states = stream[rows, columns].to(dtype)
        if states.shape[1] == 1:
            return states[:, 0]
        return states.masked_fill(~inside[..., None], 0).sum(1) / inside.sum(1, keepdim=True)
