"""Which prompts and conditions ride in one wavefront: by memory first, then by what fills the machine.

Rows are prompts x conditions, each as long as the widest tree. Memory is met by splitting the list of conditions, then
a tree that is too large alone; whatever the estimate missed is met by halving and trying again when memory runs out.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from completions_lp.model.head import find_head
from completions_lp.model.loading import Model
from completions_lp.model.reading import Watch
from completions_lp.model.tree import count_nodes
from completions_lp.model.wavefront import Reduced, Wavefront
from completions_lp.records import Condition, SteeringVector

CPU_TOKENS = 2048
"""Row tokens that fill a CPU: past this, prompts side by side cost padding and gain nothing."""
CPU_NODES = 320
"""Nodes of one tree on a CPU: a larger one is cut, since its attention is dense and its arrays leave the cache."""


def node_bytes(model: Model, *, past: int, nodes: int) -> int:
    """Memory of a node of one row at the busiest place of a block, estimated: widths, attention, keys and values."""
    config = model.module.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * model.d_model
    heads = config.num_attention_heads
    width = torch.finfo(model.dtype).bits // 8
    eager = getattr(config, "_attn_implementation", "sdpa") == "eager"
    attention = heads * (past + nodes) * (2 if eager else 0)
    keys = 4 * model.kv_bytes // model.n_layers * (past + nodes) // max(1, nodes)
    logits = 3 * model.vocab_size if find_head(model) is None else 0
    return int(width * (3 * inner + 8 * model.d_model + attention + logits) + keys)


def plan_wavefronts(
    model: Model,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[Sequence[int]]],
    n_conditions: int,
    *,
    budget: int,
    whole: bool,
    batch_size: int | None = None,
    keep_together: bool = False,
) -> Iterator[list[tuple[int, list[int]]]]:
    """Batches of (prompt, which of its completions).

    A prompt whose tree does not fit even under one condition is split by completions, unless they are to be kept
    together. On a CPU a batch ends when it fills the cores; on a GPU when memory ends. Prompts of similar size ride
    together.
    """
    parts: list[tuple[int, list[int], int]] = []
    for i, (prompt, said) in enumerate(zip(prompts, completions, strict=True)):
        root, past = (len(prompt), 0) if whole else (1, len(prompt) - 1)
        whole_tree = [list(range(len(said)))]
        for kept in whole_tree if keep_together else _split_tree(model, said, root, past, budget):
            parts.append((i, kept, root + count_nodes([said[k] for k in kept])))
    parts.sort(key=lambda part: (-part[2], -len(prompts[part[0]])))
    batch: list[tuple[int, list[int]]] = []
    widest = longest = 0
    for i, kept, nodes in parts:
        past = 0 if whole else len(prompts[i]) - 1
        widest, longest = max(widest, nodes), max(longest, past)
        tokens = (len(batch) + 1) * widest * (1 + n_conditions)
        full = tokens * node_bytes(model, past=longest, nodes=widest) > budget
        full = full or (model.device.type == "cpu" and tokens > CPU_TOKENS)
        if batch and (full if batch_size is None else len(batch) == batch_size):
            yield batch
            batch, widest, longest = [], nodes, past
        batch.append((i, kept))
    if batch:
        yield batch


def run_wavefront(
    model: Model,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[Sequence[int]]],
    vectors: Mapping[str, SteeringVector],
    conditions: Sequence[Condition],
    *,
    budget: int,
    whole: bool,
    watch: Sequence[Watch] | None = None,
    divergences: bool = False,
) -> Iterator[tuple[list[int], list[Reduced]]]:
    """Score a batch under all conditions, in as few passes as memory allows.

    Yields the indices of a pass's conditions and, by prompt, what it left: unsteered first, then those conditions.
    ``watch`` and ``divergences`` are those of ``Wavefront``.
    """
    front = Wavefront(model, prompts, completions, whole=whole, watch=watch, divergences=divergences)
    row = len(prompts) * front.width * node_bytes(model, past=front.past, nodes=front.width)
    size = max(1, budget // row - 1)
    order = sorted(range(len(conditions)), key=lambda i: conditions[i].layer)
    start = 0
    while start < len(order) or not conditions:
        indices = order[start : start + size]
        try:
            values = front.score(vectors, [conditions[i] for i in indices])
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error) or size == 1:
                raise
            size = max(1, min(size, len(indices)) // 2)
            continue
        yield indices, values
        start += size
        if not conditions:
            return


def _split_tree(
    model: Model, completions: Sequence[Sequence[int]], root: int, past: int, budget: int
) -> Iterator[list[int]]:
    """Runs of completions, those that begin alike together, whose tree fits beside its unsteered row."""
    order = sorted(range(len(completions)), key=lambda k: list(completions[k]))
    nodes = root + count_nodes(completions)
    if not order:
        return
    pieces = 1
    while pieces < len(order):
        per_piece = root + (nodes - root) // pieces
        fits = 2 * per_piece * node_bytes(model, past=past, nodes=per_piece) <= budget
        if fits and (model.device.type != "cpu" or per_piece - root <= CPU_NODES):
            break
        pieces *= 2
    for kept in np.array_split(np.array(order), min(pieces, len(order))):
        yield sorted(kept.tolist())


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
