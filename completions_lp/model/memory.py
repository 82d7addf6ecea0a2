"""How much memory a pass may take: the budget, and how many rows fit in it."""

import os

import torch

from completions_lp.model.loading import Model

CPU_CEILING = 2**30
"""On a CPU a pass over 1 GiB gains nothing: the arithmetic is bound by the cores, and fresh pages cost time."""


def find_budget(model: Model, memory_budget: float | None) -> int:
    """Bytes that the arrays of one pass may take: ``memory_budget`` in GiB, or by default a quarter of what is free."""
    if memory_budget is not None:
        return int(memory_budget * 2**30)
    if model.device.type == "cuda":
        return torch.cuda.mem_get_info(model.device)[0] // 4
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # a system that does not tell, such as macOS
        free = 4 * CPU_CEILING
    return min(free // 4, CPU_CEILING)


def count_rows(model: Model, budget: int, *, tokens: int, logits: int, past: int = 0) -> int:
    """Rows of ``tokens`` new tokens after ``past`` ones, with logits at ``logits`` of them, that fit; at least 1.

    Per row: the logits and two working copies in exact precision, about 20 arrays of the residual stream's width for a
    block at work, and the keys and values twice (attention joins the past ones with the new ones).
    """
    exact = torch.finfo(model.exact_dtype).bits // 8
    width = torch.finfo(model.dtype).bits // 8
    row = 3 * logits * model.vocab_size * exact + 20 * tokens * model.d_model * width
    row += 2 * (past + tokens) * model.kv_bytes
    return max(1, budget // row)
