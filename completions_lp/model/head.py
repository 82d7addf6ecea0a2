"""The output head, run only where it is read and reduced at once: never a ``[row, token, vocab]`` array."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from completions_lp.model.arithmetic import multiply, multiply_change

ROWS, COLUMNS = 2048, 512
"""Hidden states x vocabulary entries of one block: the product stays in the processor's cache while it is reduced."""
GPU_BLOCK = 4096, 4096
"""The same on a GPU, where small blocks would spend their time on being launched; 64 MiB in float32."""
WIDENED = 4096
"""Vocabulary entries whose half-precision weights are made as wide as the hidden states at once."""


@dataclass(frozen=True)
class Head:
    """Hidden states from ``widen`` -> logits: a matrix, perhaps a factor, a bias, a soft cap.

    Where hidden states are wider than the matrix, so are the logits. Those of the unsteered row are then as exact as
    that; those of the others are that row's plus the product of what changed, whose rounding is as small as the change.
    """

    weight: Float[Tensor, "vocab width"]
    """The matrix; with a bias that is one more column, for which ``widen`` appends a 1 to the hidden states."""
    has_bias: bool
    cap: float | None
    exact: torch.dtype
    scale: float = 1.0

    @property
    def block(self) -> tuple[int, int]:
        """Hidden states, vocabulary entries."""
        return (ROWS, COLUMNS) if self.weight.device.type == "cpu" else GPU_BLOCK

    def widen(self, hidden: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row width"]:
        """Hidden states, where the matrix is, with a 1 for the bias, where there is one, times the factor."""
        states = hidden.to(self.weight.device)
        wide = torch.nn.functional.pad(states, (0, 1), value=1.0) if self.has_bias else states
        return wide if self.scale == 1 else wide * self.scale

    def logits(
        self, hidden: Float[Tensor, "row width"], out: Float[Tensor, "row vocab"] | None = None
    ) -> Float[Tensor, "row vocab"]:
        """All logits of some rows: for a caller that draws from them; few rows at a time, into ``out`` if given."""
        if hidden.dtype == self.weight.dtype:
            return self.soften(torch.mm(hidden, self.weight.T, out=out)).to(self.exact)
        found = hidden.new_empty(len(hidden), len(self.weight)) if out is None else out
        for start in range(0, len(self.weight), WIDENED):
            at = slice(start, start + WIDENED)
            found[:, at] = multiply(hidden, self.weight[at])
        return self.soften(found).to(self.exact)

    def read(
        self, hidden: Float[Tensor, "row width"], nodes: Int[Tensor, " edge"], tokens: Int[Tensor, " edge"]
    ) -> Float[Tensor, " edge"]:
        """Logits of given tokens at given rows."""
        states, weight = hidden[nodes].to(self.exact), self.weight[tokens].to(self.exact)
        return self.soften(torch.einsum("ed,ed->e", states, weight))

    def reduce(self, hidden: Float[Tensor, "variant node width"], *, divergences: bool = False) -> dict[str, Tensor]:
        """Reduce every row's distribution over the vocabulary, block by block, each while it is in the cache.

        In nats, variant 0 being unsteered: ``lse [variant, node]``, the log of the summed exponentials of the logits;
        with ``divergences`` also ``entropy [node]`` (unsteered), ``kl [variant, node]`` = KL(unsteered || variant) and
        ``kl_reverse``, the other way.

        A block has all variants of a few nodes, so that each row is compared with its unsteered one by dot products of
        what is there anyway: the network's numbers are multiplied by the matrix once, with divergences or without.

        Exponentials are of logits less the maximum of the row's first block; should a later logit be so much larger (by
        88 nats in float32) that the sum overflows, the row is done again with the maximum of all; the other rows of its
        node stay as they were.
        """
        variants, nodes, _ = hidden.shape
        empty = torch.empty(variants, nodes, dtype=self.exact, device=hidden.device)
        found = {"lse": empty}
        if divergences:
            found |= {"entropy": empty[0].clone(), "kl": empty.clone(), "kl_reverse": empty.clone()}
        size = max(1, self.block[0] // variants)
        for start in range(0, nodes, size):
            self._reduce(hidden, slice(start, start + size), found)
        overflown = ~torch.isfinite(found["lse"])
        if bool(overflown.any()):
            overflown = overflown | overflown[:1]
            sound = {name: values.clone() for name, values in found.items()}
            again = overflown.any(0).nonzero()[:, 0]
            for start in range(0, len(again), size):
                at = again[start : start + size]
                self._reduce(hidden, at, found, self._largest(hidden[:, at]))
            for name, values in found.items():
                redo = overflown[0] if name == "entropy" else overflown
                found[name] = torch.where(redo, values, sound[name])
        return found

    def _reduce(
        self, hidden: Tensor, at: slice | Tensor, found: dict[str, Tensor], shift: Tensor | None = None
    ) -> None:
        """Fill in what is found at some nodes."""
        states = hidden[:, at]
        shape, product = states.shape[:2], _Product(states, self.block[1])
        total = torch.zeros(shape, dtype=self.exact, device=hidden.device)
        level, forward, reverse = total[:1].clone(), total.clone(), total.clone()
        for weight in torch.split(self.weight, self.block[1]):
            logits = self.soften(product.take(weight)).to(self.exact).view(*shape, -1)
            if shift is None:
                shift = logits.amax(-1, keepdim=True)
            if "kl" not in found:
                total += logits.sub_(shift).exp_().sum(-1)
                continue
            weights = (logits - shift).exp_()
            total += weights.sum(-1)
            level += _dot(weights[:1], logits[:1] - shift[:1])
            logits -= logits[:1].clone()
            forward += _dot(weights[:1], logits)
            reverse += _dot(weights, logits)
        lse = total.log()
        found["lse"][:, at] = lse if shift is None else lse + shift[..., 0]
        if "kl" in found:
            change = found["lse"][:, at] - found["lse"][0, at]
            found["entropy"][at] = lse[0] - level[0] / total[0]
            found["kl"][:, at] = change - forward / total[0]
            found["kl_reverse"][:, at] = reverse / total - change

    def _largest(self, hidden: Float[Tensor, "variant node width"]) -> Float[Tensor, "variant node 1"]:
        blocks = torch.split(self.weight, self.block[1])
        flat = hidden.flatten(0, 1)
        largest = [self.soften(multiply(flat, weight)).amax(-1, keepdim=True) for weight in blocks]
        return torch.cat(largest, -1).view(*hidden.shape[:2], -1).amax(-1, keepdim=True).to(self.exact)

    def soften(self, logits: Tensor) -> Tensor:
        """Logits under the soft cap, if there is one."""
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


class _Product:
    """Products of hidden states with one block of the matrix after the other, in memory that is taken once."""

    def __init__(self, states: Float[Tensor, "variant node width"], columns: int) -> None:
        self.flat = states.flatten(0, 1)
        self.change = (states[1:] - states[:1]).flatten(0, 1)
        self.base = states[0]
        self.room = self.flat.new_empty(len(self.flat), columns)

    def take(self, weight: Float[Tensor, "entry width"]) -> Float[Tensor, "row entry"]:
        """Good until the next."""
        room = self.room if len(weight) == self.room.shape[1] else self.flat.new_empty(len(self.flat), len(weight))
        if self.flat.dtype == weight.dtype:
            return torch.mm(self.flat, weight.T, out=room)
        n = len(self.base)
        first = multiply(self.base, weight, out=room[:n])
        if len(self.change):
            change = multiply_change(self.change, weight).view(-1, n, len(weight))
            torch.add(first, change, out=room[n:].view(change.shape))
        return room


def _dot(one: Float[Tensor, "#variant node entry"], other: Float[Tensor, "variant node entry"]) -> Tensor:
    return (one * other).sum(-1)
