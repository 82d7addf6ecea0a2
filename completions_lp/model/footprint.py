"""How many bytes the arrays of a pass take, estimated before it runs; what is missed is found where memory runs out."""

import torch

from completions_lp.model.loading import Model
from completions_lp.model.output import find_head


def row_bytes(model: Model, *, tokens: int, logits: int, past: int = 0) -> int:
    """Memory of a row of ``tokens`` new tokens after ``past`` ones, with logits at ``logits`` of them, estimated.

    The logits and two working copies in exact precision, about 20 arrays of the residual stream's width for a block at
    work, and the keys and values twice (attention joins the past ones with the new ones).
    """
    if model.usage.recall == "tokens":  # the past goes through again
        tokens, past = tokens + past, 0
    exact = torch.finfo(model.exact_dtype).bits // 8
    width = torch.finfo(model.dtype).bits // 8
    row = 3 * logits * model.vocab_size * exact + 20 * tokens * model.d_model * width
    return row + 2 * (past + tokens) * model.kv_bytes


def node_bytes(model: Model, *, past: int, nodes: int) -> int:
    """Memory of a node of one row at the busiest place of a block, estimated: widths, attention, keys and values."""
    config = model.module.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * model.d_model
    heads = getattr(config, "num_attention_heads", None) or 0  # state-space layers have none
    width = torch.finfo(model.dtype).bits // 8
    eager = getattr(config, "_attn_implementation", "sdpa") == "eager"
    attention = heads * (past + nodes) * (2 if eager else 0)
    keys = 4 * model.kv_bytes // model.n_layers * (past + nodes) // max(1, nodes)
    logits = 3 * model.vocab_size if find_head(model) is None else 0
    return int(width * (3 * inner + 8 * model.d_model + attention + logits) + keys)


def prefill_bytes(model: Model, past: int) -> int:
    """Memory of a prompt of ``past`` tokens that goes through the network once: a block, keys and values, the mask."""
    return past * (node_bytes(model, past=0, nodes=past) + model.kv_bytes) + 5 * past * past
