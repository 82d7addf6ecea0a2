"""The output head, run only where it is read and reduced at once: never a ``[row, token, vocab]`` array."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import nnsight
import torch
from jaxtyping import Float, Int
from torch import Tensor

from completions_lp.model.loading import Model

ROWS, COLUMNS = 512, 1024
"""Hidden states x vocabulary entries of one block: the product stays in the processor's cache while it is reduced."""


@dataclass(frozen=True)
class Head:
    """What turns the last hidden state into logits: a matrix, perhaps a bias, perhaps a function of each logit."""

    weight: Float[Tensor, "vocab d_model"]
    bias: Float[Tensor, " vocab"] | None
    finish: Callable[[Tensor], Tensor] | None
    exact: torch.dtype

    def read(
        self, hidden: Float[Tensor, "row d_model"], nodes: Int[Tensor, " edge"], tokens: Int[Tensor, " edge"]
    ) -> Float[Tensor, " edge"]:
        """Logits of given tokens at given rows."""
        logits = torch.einsum("ed,ed->e", hidden[nodes], self.weight[tokens])
        if self.bias is not None:
            logits = logits + self.bias[tokens]
        return self._end(logits).to(self.exact)

    def logsumexp(self, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        """Log of the summed exponentials over the vocabulary, block by block.

        Each row is shifted by the maximum of its first block. Should a later logit be so much larger (by 88 nats in
        float32) that the sum overflows, the row is done again with a running maximum.
        """
        sums = torch.empty(len(hidden), dtype=self.exact, device=hidden.device)
        for start in range(0, len(hidden), ROWS):
            sums[start : start + ROWS] = self._logsumexp_block(hidden[start : start + ROWS])
        again = ~torch.isfinite(sums)
        if bool(again.any()):
            sums[again] = self._logsumexp_running(hidden[again])
        return sums

    def _logsumexp_block(self, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        shift: Tensor | None = None
        total = torch.zeros(len(hidden), dtype=self.exact, device=hidden.device)
        buffer = torch.empty(len(hidden), COLUMNS, dtype=hidden.dtype, device=hidden.device)
        for start in range(0, len(self.weight), COLUMNS):
            logits = self._logits(hidden, start, buffer)
            if shift is None:
                shift = logits.amax(-1, keepdim=True)
            total += logits.sub_(shift).exp_().sum(-1)
        return total.log_() + shift[:, 0] if shift is not None else total

    def _logsumexp_running(self, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, " row"]:
        total = torch.full((len(hidden),), float("-inf"), dtype=self.exact, device=hidden.device)
        buffer = torch.empty(len(hidden), COLUMNS, dtype=hidden.dtype, device=hidden.device)
        for start in range(0, len(self.weight), COLUMNS):
            total = torch.logaddexp(total, self._logits(hidden, start, buffer).logsumexp(-1))
        return total

    def logits(self, hidden: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """All logits of some rows: for a caller that draws from them; few rows at a time."""
        logits = torch.nn.functional.linear(hidden, self.weight, self.bias)
        return self._end(logits).to(self.exact)

    def _logits(self, hidden: Float[Tensor, "row d_model"], start: int, buffer: Tensor) -> Tensor:
        """Logits of one block of the vocabulary, in ``buffer`` where the precision allows; free to be overwritten."""
        weight = self.weight[start : start + COLUMNS]
        out = buffer if len(weight) == COLUMNS else buffer.new_empty(len(hidden), len(weight))
        torch.mm(hidden, weight.T, out=out)
        if self.bias is not None:
            out += self.bias[start : start + COLUMNS]
        return self._end(out).to(self.exact)

    def _end(self, logits: Tensor) -> Tensor:
        return logits if self.finish is None else self.finish(logits)


_FOUND: "WeakKeyDictionary[Model, Head | None]" = WeakKeyDictionary()


def find_head(model: Model) -> Head | None:
    """The head of a model, found once; None where no known form fits, and whole logits must be read."""
    if model not in _FOUND:
        _FOUND[model] = _verify_head(model)
    return _FOUND[model]


def _verify_head(model: Model) -> Head | None:
    """The form of the head, verified against the model's own logits on a few tokens; None where no form fits.

    The forms tried are a plain matrix with its bias, then the finishing functions that configurations name:
    soft-capping, a factor, a divisor.
    """
    layer = model.module.get_output_embeddings()
    config = model.module.config.get_text_config()
    cap, scale, divide = (
        getattr(config, name, None) for name in ("final_logit_softcapping", "logit_scale", "logits_scaling")
    )
    forms: list[Callable[[Tensor], Tensor] | None] = [None]
    forms += [lambda x: torch.tanh(x / cap) * cap] if cap else []
    forms += [lambda x: x * scale] if scale else []
    forms += [lambda x: x / divide] if divide else []
    bias = None if getattr(layer, "bias", None) is None else layer.bias.detach()
    hidden, logits = _read_head(model)
    for finish in forms:
        head = Head(layer.weight.detach(), bias, finish, model.exact_dtype)
        if torch.allclose(head.logits(hidden), logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max())):
            return head
    return None


def head_envoy(model: Model) -> Any:
    """The nnsight envoy of the output head, whose input is the last hidden state after the final norm."""
    layer = model.module.get_output_embeddings()
    path = next(name for name, child in model.module.named_modules() if child is layer)
    envoy = model.network
    for part in path.split("."):
        envoy = getattr(envoy, part)
    return envoy


def _read_head(model: Model) -> tuple[Tensor, Tensor]:
    """What goes into the head and the logits that come out of the model, on a few tokens."""
    ids = torch.arange(min(8, model.vocab_size), device=model.device)[None]
    network, envoy, exact = model.network, head_envoy(model), model.exact_dtype
    with torch.no_grad(), network.trace(input_ids=ids, use_cache=False):
        hidden = nnsight.save(envoy.input[0])
        logits = nnsight.save(network.output.logits[0].to(exact))
    return hidden, logits
