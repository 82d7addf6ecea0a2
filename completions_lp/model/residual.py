"""The residual stream in what a block puts out: read, replaced, edited, and branched into steered rows."""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Edits:
    """What is done at one block, a row each: the hidden state h becomes ``h + added - share (unit . h) unit``.

    A single row stands for all. ``unit`` and ``share`` are None where nothing is taken away. ``which`` are the numbers
    of the conditions that the rows are of.
    """

    added: Float[Tensor, "row d_model"]
    unit: Float[Tensor, "row d_model"] | None = None
    share: Float[Tensor, " row"] | None = None
    which: Sequence[int] = ()

    def apply(
        self, stream: Float[Tensor, "row *prompt token d_model"], acts: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "row *prompt token d_model"]:
        """Hidden states edited at every token, or where an edit ``acts`` (of their shape, less d_model)."""

        def spread(values: Tensor) -> Tensor:
            return values.view(len(values), *[1] * (stream.dim() - 2), -1).to(stream)

        change = spread(self.added)
        if self.unit is not None and self.share is not None:
            unit = spread(self.unit)
            along = (stream * unit).sum(-1, keepdim=True)
            change = change - spread(self.share[:, None]) * along * unit
        return stream + (change if acts is None else torch.where(acts[..., None].to(stream.device), change, 0))

    def repeat(self, times: int) -> "Edits":
        """For rows that nothing is done to, then those of each, so many of each."""

        def repeat(part: Tensor) -> Tensor:
            return torch.cat([torch.zeros_like(part[:1]), part]).repeat_interleave(times, 0)

        unit, share = (None if part is None else repeat(part) for part in (self.unit, self.share))
        return Edits(repeat(self.added), unit, share)

    def take(self, rows: Sequence[int]) -> "Edits":
        """Some of the rows."""
        at = list(rows)
        unit, share = (None if part is None else part[at] for part in (self.unit, self.share))
        return Edits(self.added[at], unit, share, [self.which[k] for k in at] if self.which else ())


def branch_rows(
    stream: Float[Tensor, "row node d_model"],
    n: int,
    edits: Edits,
    acts: Bool[Tensor, "#condition #{n} node"] | None = None,
) -> Float[Tensor, "grown node d_model"]:
    """The rows of a pass with what some conditions do at a block: variants times ``n`` rows, the unsteered ones first.

    Conditions are numbered in the order in which they enter. Those that have entered below are edited where they stand;
    those that enter here are the unsteered rows once more, edited, behind all others.
    """
    entered = len(stream) // n - 1

    def pick(rows: Sequence[int]) -> Tensor | None:
        return acts if acts is None or len(acts) == 1 else acts[[edits.which[k] for k in rows]]

    standing = [k for k, condition in enumerate(edits.which) if condition < entered]
    if standing:
        grid = stream.view(-1, n, *stream.shape[1:])
        places = torch.tensor([1 + edits.which[k] for k in standing], device=stream.device)
        stream = grid.index_copy(0, places, edits.take(standing).apply(grid[places], pick(standing))).flatten(0, 1)
    fresh = [k for k, condition in enumerate(edits.which) if condition >= entered]
    if not fresh:
        return stream
    unsteered = stream[None, :n].expand(len(fresh), -1, -1, -1)
    return torch.cat([stream, edits.take(fresh).apply(unsteered, pick(fresh)).flatten(0, 1)])
