"""Watch what really goes through the network, by hooks of torch on its blocks: whoever makes the passes, and however.

What a block puts out is seen after all that nnsight has done to it, so this is what the next block takes in.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from completions_lp.model.loading import Model
from completions_lp.model.residual import residual_stream


@dataclass
class Seen:
    """One pass: the token ids that went in, and by layer the residual stream that each block put out."""

    token_ids: Int[Tensor, "row token"]
    streams: list[Float[Tensor, "variant place d_model"]] = field(default_factory=list)
    """In the precision of log probs, on the CPU. There may be more variants than rows went in: a pass may grow."""


@contextmanager
def watch_streams(model: Model) -> Iterator[list[Seen]]:
    """Inside, every pass through the network is put on the list as it is made; hooks are gone afterwards."""
    passes: list[Seen] = []

    def begin(_: Any, args: Any, kwargs: Any) -> None:
        passes.append(Seen((args[0] if args else kwargs["input_ids"]).detach().cpu().clone()))

    def note(_: Any, __: Any, output: Any) -> None:
        passes[-1].streams.append(residual_stream(output).detach().to("cpu", model.exact_dtype, copy=True))

    handles = [model.module.register_forward_pre_hook(begin, with_kwargs=True)]
    handles += [block._module.register_forward_hook(note) for block in model.blocks]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()
