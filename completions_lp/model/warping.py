"""What logits become before a token is drawn from them."""

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper


def warp_logits(
    logits: Float[Tensor, "row vocab"], *, temperature: float, top_k: int, top_p: float
) -> Float[Tensor, "row vocab"]:
    """Temperature, then top-k, then top-p, by transformers' own logits processors; cut tokens get -inf."""
    none = torch.empty(0, dtype=torch.long)
    if temperature != 1:
        logits = TemperatureLogitsWarper(temperature)(none, logits)
    if top_k:
        logits = TopKLogitsWarper(min(top_k, logits.shape[-1]))(none, logits)
    if top_p < 1:
        logits = TopPLogitsWarper(top_p)(none, logits)
    return logits
