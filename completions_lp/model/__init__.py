"""The one door to the network: load it, find its layers, run it with a vector added, read it out.

Only this folder knows nnsight and transformers. Every trace is in ``network``.
"""

from completions_lp.model.loading import Model, load_model, wrap_model
from completions_lp.model.memory import count_rows, find_budget
from completions_lp.model.network import (
    Prefix,
    Steering,
    pad_right,
    prefill,
    read_next,
    read_residuals,
    score_next,
    warp_logits,
)
from completions_lp.model.steering import Variants, check_conditions, group_conditions

__all__ = [
    "Model",
    "Prefix",
    "Steering",
    "Variants",
    "check_conditions",
    "count_rows",
    "find_budget",
    "group_conditions",
    "load_model",
    "pad_right",
    "prefill",
    "read_next",
    "read_residuals",
    "score_next",
    "warp_logits",
    "wrap_model",
]
