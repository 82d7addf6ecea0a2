"""The one door to the network: load it, find its layers, run it with a vector added, read it out.

Only this folder knows nnsight and transformers. Every trace is made here.
"""

from completions_lp.model.decoding import Decoder, RowDecoder, TreeDecoder
from completions_lp.model.engine import Engine, compare_engines, pick_engine
from completions_lp.model.loading import Model, Usage, load_model, wrap_model
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
from completions_lp.model.planning import plan_wavefronts, run_wavefront
from completions_lp.model.reading import Reader, Watch, stack_answers
from completions_lp.model.steering import Variants, check_conditions, group_conditions
from completions_lp.model.wavefront import Reduced

__all__ = [
    "Decoder",
    "Engine",
    "Model",
    "Prefix",
    "Reader",
    "Reduced",
    "RowDecoder",
    "Steering",
    "TreeDecoder",
    "Usage",
    "Variants",
    "Watch",
    "check_conditions",
    "compare_engines",
    "count_rows",
    "find_budget",
    "group_conditions",
    "load_model",
    "pad_right",
    "pick_engine",
    "plan_wavefronts",
    "prefill",
    "read_next",
    "read_residuals",
    "run_wavefront",
    "score_next",
    "stack_answers",
    "warp_logits",
    "wrap_model",
]
