"""In which precision a pass computes: half precision that small effects survive, and plain half precision beside it.

With weights in half precision, the products with them take most of the time and gain most of the speed; what ruins
small numbers is to round the residual stream after every block, and the logits. So products have their operands in half
precision, and all else is in float32: what the embedding puts out, so by PyTorch's promotion the residual stream, then
norms, attention's softmax, what is added to steer, logits. Megatron's fp32_residual_connection is the heart of it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

HALF = (torch.bfloat16, torch.float16)

_PRODUCTS = {
    functional.linear, functional.conv1d, functional.scaled_dot_product_attention, functional.bilinear,
    torch.matmul, torch.mm, torch.bmm, torch.mv, torch.addmm, torch.baddbmm, torch.addbmm, torch.einsum, torch.conv1d,
    Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.mm, Tensor.bmm, Tensor.mv, Tensor.addmm,
    Tensor.baddbmm, Tensor.addbmm, getattr(functional, "grouped_mm", None), getattr(torch, "_grouped_mm", None),
}  # fmt: skip
_NORMS = {
    functional.layer_norm, functional.rms_norm, functional.group_norm, torch.layer_norm, torch.rms_norm,
    torch.group_norm,
}  # fmt: skip


class Promoted(TorchFunctionMode):
    """While it is entered, a product of float32 with half precision has both as half, and an embedding is float32.

    It acts by the kind of function that is called, through PyTorch's own protocol for that, so it knows no
    architecture. A norm whose weights are in half precision is taken in the precision of what is normed; all other
    functions follow PyTorch's promotion, which leaves float32 as float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last: tuple[Tensor, int, Tensor] | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """See ``torch.overrides``."""
        named = kwargs or {}
        if func in _PRODUCTS:
            kinds = _list_dtypes((args, named))
            if len(kinds) > 1:
                half = next((dtype for dtype in HALF if dtype in kinds), None)
                if half is not None:
                    if func is functional.linear and args:
                        args = (self._halve(args[0], half), *args[1:])
                    args, named = _cast((args, named), half)
        elif func in _NORMS:
            wide = (args[0] if args else named["input"]).dtype
            if wide not in HALF:
                args, named = _cast((args, named), wide)
        found = func(*args, **named)
        if func is functional.embedding and found.dtype in HALF:
            return found.float()
        return found

    def _halve(self, states: Tensor, half: torch.dtype) -> Tensor:
        """States in half precision; those that go into several products one after the other are rounded once."""
        if self.last is None or self.last[0] is not states or self.last[1] != states._version:
            self.last = states, states._version, states.to(half)
        return self.last[2]


def compute_in(weights: torch.dtype, residual: torch.dtype) -> AbstractContextManager[Any]:
    """What a pass is made in, for weights and a residual stream of these precisions: they may be the same."""
    return nullcontext() if weights == residual else Promoted()


def _list_dtypes(values: Any) -> set[torch.dtype]:
    """Precisions of the tensors of a call."""
    if isinstance(values, Tensor):
        return {values.dtype} if values.is_floating_point() else set()
    if isinstance(values, dict):
        values = list(values.values())
    return set().union(*map(_list_dtypes, values)) if isinstance(values, list | tuple) else set()


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """The arguments of a call with all their floating-point tensors in one precision."""
    if isinstance(values, Tensor):
        return values.to(dtype) if values.is_floating_point() else values
    if isinstance(values, dict):
        return {name: _cast(value, dtype) for name, value in values.items()}
    return type(values)(_cast(value, dtype) for value in values) if type(values) in (list, tuple) else values


def multiply(states: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """``states @ weight.T`` in the precision of the states ``[row, width]``, which half-precision weights do not lower.

    On CUDA, states go in as the sum of two halves, and both products accumulate in float32; elsewhere the weights
    ``[entry, width]``, a block of a few hundred entries at best, are made as wide as the states.
    """
    if states.dtype == weight.dtype:
        return torch.mm(states, weight.T, out=out)
    if states.device.type != "cuda":
        return torch.mm(states, weight.to(states.dtype).T, out=out)
    high = states.to(weight.dtype)
    low = (states - high).to(weight.dtype)
    found = torch.mm(high, weight.T, out_dtype=states.dtype) + torch.mm(low, weight.T, out_dtype=states.dtype)
    return found if out is None else out.copy_(found)


def multiply_change(change: Tensor, weight: Tensor) -> Tensor:
    """``change @ weight.T`` for a small difference of states, rounded in proportion to what it is: half will do."""
    half = change.to(weight.dtype)
    if half.device.type == "cuda" and weight.dtype in HALF:
        return torch.mm(half, weight.T, out_dtype=torch.float32)
    return torch.mm(half, weight.T)
