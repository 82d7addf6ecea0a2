"""The plain way, by which all others are judged: one whole text a pass, torch alone; no cache, batch, tree or nnsight.

Nothing here is shared with what it checks, but for where the blocks are and in what precision a pass computes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from completions_lp.model import Model
from completions_lp.records import Condition, SteeringVector


@dataclass(frozen=True, eq=False)
class Plain:
    """What one plain pass over a prompt and a completion gives."""

    logprob: Float[np.ndarray, " token"]
    """Of each token of the completion, in nats, float64."""
    streams: Float[Tensor, "layer place d_model"]
    """What each block puts out, at every token but the last."""


def pass_plainly(
    model: Model,
    prompt: Sequence[int],
    said: Sequence[int],
    condition: Condition | None = None,
    vector: SteeringVector | None = None,
) -> Plain:
    """One pass over a whole text; under a condition, with what it does to the outputs of its blocks, where it acts."""
    logits, streams = _run(model, [*prompt, *said], len(prompt), condition, vector)
    logprob = logits[:-1].log_softmax(-1)
    found = logprob.gather(-1, torch.tensor(list(said))[:, None])[:, 0].numpy()
    return Plain(found, torch.stack([stream[:-1] for stream in streams]))


def read_plainly(
    model: Model,
    text: Sequence[int],
    n_prompt: int,
    condition: Condition | None = None,
    vector: SteeringVector | None = None,
) -> Float[np.ndarray, "token vocab"]:
    """Log probs of all tokens after the prompt, the first ``n_prompt`` of a text, and after each token behind it."""
    logits, _ = _run(model, text, n_prompt, condition, vector)
    return np.asarray(logits.log_softmax(-1).numpy())


def _run(
    model: Model, text: Sequence[int], n_prompt: int, condition: Condition | None, vector: SteeringVector | None
) -> tuple[Tensor, list[Tensor]]:
    """Logits ``[token, vocab]`` from the prompt's last token on, and what each block puts out, ``[token, d_model]``."""
    streams: list[Tensor] = []
    handles = []
    if condition is not None and vector is not None:
        start, stop = condition.find_acting(n_prompt)
        for layer in condition.layers:
            hook = partial(_edit, condition, vector, layer, slice(start, stop))
            handles.append(model.blocks[layer]._module.register_forward_hook(hook))

    def note(_: Any, __: Any, output: Any) -> None:
        stream = output[0] if isinstance(output, tuple | list) else output
        streams.append(stream[0].detach().to("cpu", model.exact_dtype, copy=True))

    handles += [block._module.register_forward_hook(note) for block in model.blocks]
    try:
        with torch.no_grad(), model.arithmetic():
            logits = model.module(torch.tensor([list(text)], device=model.device), use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return logits[n_prompt - 1 :].double().cpu(), streams


def _edit(condition: Condition, vector: SteeringVector, layer: int, where: slice, _: Any, __: Any, output: Any) -> Any:
    """What a block puts out, with what a condition does there, token by token as its definition says."""
    whole = isinstance(output, tuple | list)
    hidden = (output[0] if whole else output).clone()
    direction = torch.tensor(vector.directions[layer], dtype=torch.float64).to(hidden)
    at = hidden[:, where]
    if condition.operation == "add":
        hidden[:, where] = at + condition.multiplier * direction
    else:
        unit = direction / direction.norm()
        along = (at @ unit)[..., None]
        taken = condition.multiplier * along
        if condition.operation == "clamp":
            span = vector.spans[layer]
            taken = along - (span.centre + condition.multiplier * span.scale)
        hidden[:, where] = at - taken * unit
    return type(output)((hidden, *output[1:])) if whole else hidden
