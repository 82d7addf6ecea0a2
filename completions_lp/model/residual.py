"""The residual stream in what a block puts out: read, replaced, and branched into steered rows."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def residual_stream(output: Any) -> Tensor:
    """The hidden states in a block's output, which some architectures return in a tuple or a list."""
    stream: Tensor = output[0] if isinstance(output, tuple | list) else output
    return stream


def replace_stream(output: Any, stream: Tensor) -> Any:
    """A block's output with other hidden states in it."""
    return type(output)([stream, *output[1:]]) if isinstance(output, tuple | list) else stream


def add_rows(
    stream: Float[Tensor, "row token d_model"],
    added: Float[Tensor, "#row d_model"],
    acts: Bool[Tensor, "#row token"] | None = None,
) -> Float[Tensor, "row token d_model"]:
    """Hidden states with one direction added to each row, or to all: at every token, or where it ``acts``."""
    rows = added[:, None].to(stream)
    return stream + (rows if acts is None else torch.where(acts[..., None].to(stream.device), rows, 0))


def branch_rows(
    stream: Float[Tensor, "row node d_model"],
    n: int,
    added: Float[Tensor, "condition d_model"],
    acts: Bool[Tensor, "#{n} node"] | None = None,
) -> Float[Tensor, "grown node d_model"]:
    """The rows of a pass, and behind them the first ``n``, the unsteered ones, once more with each of ``added``."""
    rows = added[:, None, None].to(stream)
    steered = stream[None, :n] + (
        rows if acts is None else torch.where(acts[None, ..., None].to(stream.device), rows, 0)
    )
    return torch.cat([stream, steered.flatten(0, 1)])
