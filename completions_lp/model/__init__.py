"""The one door to the network: only this folder knows nnsight and transformers, and every trace is made here."""

from completions_lp.checkpoint import check_conditions
from completions_lp.model.decoding import CHUNK, Decoder, RowDecoder, TreeDecoder
from completions_lp.model.engine import Engine, compare_engines, find_comparison, pick_engine
from completions_lp.model.footprint import prefill_bytes, row_bytes
from completions_lp.model.identity import hash_tokenizer
from completions_lp.model.lens import read_lens
from completions_lp.model.loading import Model, load_tokenizer, wrap_model
from completions_lp.model.memory import Room
from completions_lp.model.network import Steering, read_norms, read_residuals
from completions_lp.model.planning import CPU_TOKENS, score_trees
from completions_lp.model.precision import load_model
from completions_lp.model.reading import Watch
from completions_lp.model.rounding import draw_rounding_vector
from completions_lp.model.rows import score_rows
from completions_lp.model.sending import pack_edits, score_remotely
from completions_lp.model.specimen import copy_model, copy_wide, is_small
from completions_lp.model.spread import pick_device
from completions_lp.model.task import Reduced, Task
from completions_lp.model.usage import Usage
from completions_lp.model.warping import warp_logits

__all__ = [
    "CHUNK",
    "CPU_TOKENS",
    "Decoder",
    "Engine",
    "Model",
    "Reduced",
    "Room",
    "RowDecoder",
    "Steering",
    "Task",
    "TreeDecoder",
    "Usage",
    "Watch",
    "check_conditions",
    "compare_engines",
    "copy_model",
    "copy_wide",
    "draw_rounding_vector",
    "find_comparison",
    "hash_tokenizer",
    "is_small",
    "load_model",
    "load_tokenizer",
    "pack_edits",
    "pick_device",
    "pick_engine",
    "prefill_bytes",
    "read_lens",
    "read_norms",
    "read_residuals",
    "row_bytes",
    "score_remotely",
    "score_rows",
    "score_trees",
    "warp_logits",
    "wrap_model",
]
