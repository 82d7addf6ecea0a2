"""Score by prefix trees: which prompts and conditions ride in one wavefront, by memory and by what fills the machine.

Rows are prompts x conditions, each as long as the widest tree. Memory is met by splitting the list of conditions, then
a tree that is too large alone; what the estimate missed is met by smaller passes from where memory ran out.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from completions_lp.model.footprint import node_bytes, prefill_bytes
from completions_lp.model.task import Pass, Task
from completions_lp.model.tree import count_nodes
from completions_lp.model.wavefront import Wavefront

CPU_TOKENS = 2048
"""Row tokens that fill a CPU: past this, texts side by side cost padding, leave the cache and gain nothing."""
CPU_NODES = 320
"""Nodes of one tree on a CPU: a larger one is cut, since its attention is dense and its arrays leave the cache."""


def score_trees(task: Task) -> Iterator[Pass]:
    """Score all sequences under all conditions, those that act on prompts by wavefronts of their own."""
    conditions = task.conditions
    for whole in dict.fromkeys(c.acts_on_prompt for c in conditions) or (False,):
        chosen = [i for i, c in enumerate(conditions) if c.acts_on_prompt == whole]
        for batch, size in plan_wavefronts(task, len(chosen), whole=whole):
            yield from _score_batch(task, batch, size, chosen, whole=whole)


def plan_wavefronts(task: Task, n_conditions: int, *, whole: bool) -> Iterator[tuple[list[list[int]], int]]:
    """Batches of sequences, by tree, with the bytes that their unsteered rows take.

    A prompt whose tree does not fit even under one condition is split. On a CPU a batch ends when it fills the cores;
    on a GPU when memory ends. Prompts of similar size ride together.
    """
    model, room = task.model, task.room
    parts: list[tuple[int, int, int, list[int]]] = []
    for i, prompt in enumerate(task.prompts):
        length = len(prompt.token_ids)
        root, past = (length, 0) if whole else (1, length - 1)
        for rows in _split_tree(task, np.flatnonzero(task.of_prompt == i).tolist(), root, past):
            parts.append((root + count_nodes([task.said[row] for row in rows]), length, i, rows))
    largest = {i: nodes for nodes, _, i, _ in sorted(parts)}
    parts.sort(key=lambda part: (-largest[part[2]], -part[1], part[2], -part[0]))  # those of a prompt together
    batch: list[list[int]] = []
    size = widest = longest = 0
    for nodes, length, _, rows in parts:
        past = 0 if whole else length - 1
        widest, longest = max(widest, nodes), max(longest, past)
        tokens = (len(batch) + 1) * widest * (1 + n_conditions)
        needed = (
            tokens * node_bytes(model, past=longest, nodes=widest),
            (len(batch) + 1) * prefill_bytes(model, longest),
        )
        full = max(needed) > room.bytes
        full = full or (model.device.type == "cpu" and tokens > CPU_TOKENS)
        if task.batch_size is not None and not room.ran_out:
            full = len(batch) == task.batch_size
        if batch and full:
            yield batch, size
            batch, widest, longest = [], nodes, past
        batch.append(rows)
        size = len(batch) * widest * node_bytes(model, past=longest, nodes=widest)
    if batch:
        yield batch, size


def _score_batch(
    task: Task, batch: Sequence[Sequence[int]], size: int, conditions: Sequence[int], *, whole: bool
) -> Iterator[Pass]:
    """Score a batch in as few passes as memory allows: fewer conditions at a time first, then fewer sequences."""
    order = sorted(conditions, key=lambda i: task.conditions[i].layer)
    items = [(tree, row) for tree, rows in enumerate(batch) for row in rows]

    def score(some: Sequence[tuple[int, int]]) -> list[Pass]:
        trees = [[row for _, row in group] for _, group in groupby(some, key=lambda item: item[0])]
        front = _make_front(task, trees, whole=whole)
        row = len(trees) * front.width * node_bytes(task.model, past=front.past, nodes=front.width)

        def run(indices: Sequence[int]) -> list[Pass]:
            found = front.score(task.vectors, [task.conditions[i] for i in indices])
            return [(rows, indices, reduced) for rows, reduced in zip(trees, found, strict=True)]

        passes = task.room.share(order, run, each=row, fixed=row) if order else [((), run(()))]
        return [one for _, several in passes for one in several]

    each, describe = max(1, 2 * size // len(items)), lambda item: task.describe(item[1])
    for _, passes in task.room.share(items, score, each=each, most=len(items), name=describe):
        yield from passes


def _make_front(task: Task, trees: Sequence[Sequence[int]], *, whole: bool) -> Wavefront:
    """The wavefront of some sequences, by tree."""
    which = [int(task.of_prompt[rows[0]]) for rows in trees]
    return Wavefront(
        task.model,
        [task.prompts[i].token_ids for i in which],
        [[task.said[row] for row in rows] for rows in trees],
        whole=whole,
        watch=None if task.watch is None else [task.watch[i] for i in which],
        divergences=task.divergences,
        last=task.last,
    )


def _split_tree(task: Task, rows: Sequence[int], root: int, past: int) -> Iterator[list[int]]:
    """Runs of a prompt's sequences, those that begin alike together, whose tree fits beside its unsteered row."""
    model = task.model
    order = sorted(rows, key=lambda row: list(task.said[row]))
    nodes = root + count_nodes([task.said[row] for row in rows])
    if not order:
        return
    pieces = 1
    while pieces < len(order):
        per_piece = root + (nodes - root) // pieces
        fits = 2 * per_piece * node_bytes(model, past=past, nodes=per_piece) <= task.room.bytes
        if fits and (model.device.type != "cpu" or per_piece - root <= CPU_NODES):
            break
        pieces *= 2
    for kept in np.array_split(np.array(order), min(pieces, len(order))):
        yield sorted(kept.tolist())
