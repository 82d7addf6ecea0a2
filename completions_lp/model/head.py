"""The output head, run only where it is read and reduced at once: never a ``[row, token, vocab]`` array."""

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
    """What turns the last hidden state into logits: a matrix, perhaps a bias, perhaps a soft cap on each logit.

    A factor on the logits is in the matrix already. All methods take hidden states as ``widen`` gives them.
    """

    weight: Float[Tensor, "vocab width"]
    """The matrix; with a bias that is one more column, for which ``widen`` appends a 1 to the hidden states."""
    has_bias: bool
    cap: float | None
    exact: torch.dtype

    def widen(self, hidden: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row width"]:
        """Hidden states with a 1 for the bias, where there is one."""
        return torch.nn.functional.pad(hidden, (0, 1), value=1.0) if self.has_bias else hidden

    def logits(self, hidden: Float[Tensor, "row width"]) -> Float[Tensor, "row vocab"]:
        """All logits of some rows: for a caller that draws from them; few rows at a time."""
        return self.soften(hidden @ self.weight.T).to(self.exact)

    def read(
        self, hidden: Float[Tensor, "row width"], nodes: Int[Tensor, " edge"], tokens: Int[Tensor, " edge"]
    ) -> Float[Tensor, " edge"]:
        """Logits of given tokens at given rows."""
        return self.soften(torch.einsum("ed,ed->e", hidden[nodes], self.weight[tokens])).to(self.exact)

    def logsumexp(
        self, hidden: Float[Tensor, "row width"], *, means: bool = False
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, "row width"] | None]:
        """Log of the summed exponentials over the vocabulary and, on request, the mean row of the matrix.

        The mean is over the distribution of each row: ``hidden[j] @ mean[i]`` is the mean logit of row j under row i's
        distribution (without a soft cap), from which entropies and divergences follow without another look at the
        vocabulary. Each row is shifted by the maximum of its first block; should a later logit be so much larger (by
        88 nats in float32) that the sum overflows, the row is done again with the maximum of all.
        """
        lse = torch.empty(len(hidden), dtype=self.exact, device=hidden.device)
        mean = torch.empty(hidden.shape, dtype=self.exact, device=hidden.device) if means else None
        for start in range(0, len(hidden), ROWS):
            rows = slice(start, start + ROWS)
            self._reduce(hidden[rows], lse[rows], None if mean is None else mean[rows], None)
        if bool((~torch.isfinite(lse)).any()):
            again = ~torch.isfinite(lse)
            shift = self._largest(hidden[again])
            part, part_mean = lse[again], None if mean is None else mean[again]
            self._reduce(hidden[again], part, part_mean, shift)
            lse[again] = part
            if mean is not None and part_mean is not None:
                mean[again] = part_mean
        return lse, mean

    def diverge(
        self,
        hidden: Float[Tensor, "row width"],
        base: Float[Tensor, "row width"],
        lse: Float[Tensor, " row"],
        base_lse: Float[Tensor, " row"],
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
        """KL(base || row) and KL(row || base) by their definition, block by block: what a soft cap needs."""
        forward, reverse = torch.zeros_like(lse), torch.zeros_like(lse)
        for start in range(0, len(hidden), ROWS):
            rows = slice(start, start + ROWS)
            for at in range(0, len(self.weight), COLUMNS):
                block = self.weight[at : at + COLUMNS].T
                q = self.soften(hidden[rows] @ block).to(self.exact) - lse[rows, None]
                p = self.soften(base[rows] @ block).to(self.exact) - base_lse[rows, None]
                forward[rows] += (p.exp() * (p - q)).sum(-1)
                reverse[rows] += (q.exp() * (q - p)).sum(-1)
        return forward, reverse

    def _reduce(self, hidden: Tensor, lse: Tensor, mean: Tensor | None, shift: Tensor | None) -> None:
        """Fill ``lse`` (and ``mean``) for one block of rows."""
        total = torch.zeros_like(lse)
        buffer = torch.empty(len(hidden), COLUMNS, dtype=hidden.dtype, device=hidden.device)
        if mean is not None:
            mean.zero_()
        for start in range(0, len(self.weight), COLUMNS):
            weight = self.weight[start : start + COLUMNS]
            block = buffer if len(weight) == COLUMNS else buffer.new_empty(len(hidden), len(weight))
            logits = self.soften(torch.mm(hidden, weight.T, out=block)).to(self.exact)
            if shift is None:
                shift = logits.amax(-1, keepdim=True)
            logits.sub_(shift).exp_()
            total += logits.sum(-1)
            if mean is not None:
                mean.addmm_(logits, weight.to(self.exact))
        if mean is not None:
            mean /= total[:, None]
        lse.copy_(total.log_())
        if shift is not None:
            lse += shift[:, 0]

    def _largest(self, hidden: Tensor) -> Tensor:
        blocks = range(0, len(self.weight), COLUMNS)
        largest = [self.soften(hidden @ self.weight[at : at + COLUMNS].T).amax(-1, keepdim=True) for at in blocks]
        return torch.cat(largest, -1).amax(-1, keepdim=True).to(self.exact)

    def soften(self, logits: Tensor) -> Tensor:
        """Logits under the soft cap, if there is one."""
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


_FOUND: "WeakKeyDictionary[Model, Head | None]" = WeakKeyDictionary()


def find_head(model: Model) -> Head | None:
    """The head of a model, found once; None where no known form fits, and whole logits must be read."""
    if model not in _FOUND:
        _FOUND[model] = _verify_head(model)
    return _FOUND[model]


def _verify_head(model: Model) -> Head | None:
    """The form of the head, verified against the model's own logits on a few tokens; None where no form fits.

    The forms tried are a plain matrix with its bias, then what configurations name: a soft cap, a factor, a divisor.
    """
    layer = model.module.get_output_embeddings()
    config = model.module.config.get_text_config()
    cap, factor, divisor = (
        getattr(config, name, None) for name in ("final_logit_softcapping", "logit_scale", "logits_scaling")
    )
    bias = getattr(layer, "bias", None)
    weight = layer.weight.detach() if bias is None else torch.cat([layer.weight, bias[:, None]], 1).detach()
    forms: list[tuple[float, float | None]] = [(1.0, None)]
    forms += [(1.0, cap)] if cap else []
    forms += [(float(factor), None)] if factor else []
    forms += [(1 / float(divisor), None)] if divisor else []
    hidden, logits = _read_head(model)
    for scale, limit in forms:
        head = Head(weight if scale == 1 else weight * scale, bias is not None, limit, model.exact_dtype)
        ours = head.logits(head.widen(hidden))
        if torch.allclose(ours, logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max())):
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
