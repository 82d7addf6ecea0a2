"""Where a network puts its logits out: the form of its head, found by trying, and how exact it is within a trace."""

from typing import Any
from weakref import WeakKeyDictionary

import nnsight
import torch
from jaxtyping import Float
from torch import Tensor

from completions_lp.model.head import Head
from completions_lp.model.loading import Model
from completions_lp.model.parts import find_envoy
from completions_lp.model.placement import fetch_weight, find_device

_FOUND: "WeakKeyDictionary[Model, Head | None]" = WeakKeyDictionary()
_FETCHED: "WeakKeyDictionary[Model, list[Tensor]]" = WeakKeyDictionary()


def find_head(model: Model) -> Head | None:
    """The head of a model, found once; None where no known form fits, and whole logits must be read."""
    if model.is_remote:
        from completions_lp.model.sending import shape_head  # which is above this module, and rarely needed

        return shape_head(model)
    if model not in _FOUND:
        _FOUND[model] = _verify_head(model)
    return _FOUND[model]


def weigh_head(model: Model) -> tuple[Float[Tensor, "vocab d_model"], Float[Tensor, " vocab"] | None]:
    """The head's own matrix and bias.

    Weights that are fetched for each pass are kept from here on: they are read at every step, by us and not by the
    network.
    """
    layer = model.module.get_output_embeddings()
    if layer.weight.device.type != "meta":
        return layer.weight.detach(), None if getattr(layer, "bias", None) is None else layer.bias.detach()
    if model not in _FETCHED:
        names = [name for name in ("weight", "bias") if getattr(layer, name, None) is not None]
        _FETCHED[model] = [fetch_weight(layer, name).to(find_device(layer)) for name in names]
    weight, *bias = _FETCHED[model]
    return weight, bias[0] if bias else None


def _verify_head(model: Model) -> Head | None:
    """The form of the head that gives the model's own logits on a few tokens; None where no form fits."""
    weight, bias = weigh_head(model)
    config = model.module.config.get_text_config()
    weight = weight if bias is None else torch.cat([weight, bias[:, None]], 1)
    hidden, logits = _read_head(model)
    for scale, cap in list_forms(config):
        head = Head(weight, bias is not None, cap, model.exact_dtype, scale)
        ours = head.logits(head.widen(hidden)).to(logits.device)
        if torch.allclose(ours, logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max())):
            return head
    return None


def list_forms(config: Any) -> list[tuple[float, float | None]]:
    """Scale and soft cap that a head may have by its model's configuration, the plain one first."""
    cap, factor, divisor = (
        getattr(config, name, None) for name in ("final_logit_softcapping", "logit_scale", "logits_scaling")
    )
    forms: list[tuple[float, float | None]] = [(1.0, None)]
    forms += [(1.0, float(cap))] if cap else []
    forms += [(float(factor), None)] if factor else []
    return forms + ([(1 / float(divisor), None)] if divisor else [])


def head_envoy(model: Model) -> Any:
    """The nnsight envoy of the output head, whose input is the last hidden state after the final norm."""
    return find_envoy(model.network, model.module.get_output_embeddings())


def widen_output(model: Model, envoy: Any) -> None:
    """In a trace, let the output head be as exact as the hidden states that go into it, where it would round them."""
    if model.residual_dtype != model.dtype:
        weight, bias = weigh_head(model)
        states = envoy.input.to(weight.device)
        raw = Head(weight, False, None, model.exact_dtype).logits(states.flatten(0, -2))
        raw = raw if bias is None else raw + bias
        envoy.skip(raw.view(*states.shape[:-1], -1))


def _read_head(model: Model) -> tuple[Tensor, Tensor]:
    """What goes into the head and the logits that come out of the model, on a few tokens."""
    ids = torch.arange(min(8, model.vocab_size), device=model.device)[None]
    network, envoy, exact = model.network, head_envoy(model), model.exact_dtype
    with torch.no_grad(), model.arithmetic(), network.trace(input_ids=ids, use_cache=False):
        hidden = nnsight.save(envoy.input[0])
        widen_output(model, envoy)
        logits = nnsight.save(network.output.logits[0].to(exact))
    return hidden, logits
