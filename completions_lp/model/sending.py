"""Work for a model on a server: how it is put, request by request, and what is made of the answers.

Each request is one session: all passes that a unit of work takes are made there, and what comes back are token ids, log
probs of tokens and other numbers per token. See ``served`` for what runs there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from completions_lp.model.edits import make_edits
from completions_lp.model.footprint import node_bytes
from completions_lp.model.head import Head
from completions_lp.model.loading import Model
from completions_lp.model.pieces import Piece
from completions_lp.model.task import Pass, Task
from completions_lp.model.transfer import pad_tokens
from completions_lp.records import Condition, SteeringVector

SESSION = 2**22
"""Tokens times variants of one request, at most about."""
SERVED = "completions_lp.model.served"
"""What runs on the server."""


def shape_head(model: Model) -> Head:
    """The head as far as it is known without weights: how large it is."""
    layer = model.module.get_output_embeddings()
    return Head(layer.weight, getattr(layer, "bias", None) is not None, None, model.exact_dtype)


def read_norms_remotely(
    model: Model, sequences: Sequence[Sequence[int]], index: Sequence[int], layers: Sequence[int]
) -> Float[np.ndarray, "layer row"]:
    """As ``network.read_norms``, in one request."""
    ids = pad_tokens(sequences, model.device)[0]
    work = {"ids": ids, "index": torch.tensor(list(index)), "layers": sorted(layers)}
    norms: Float[np.ndarray, "layer row"] = model.server.call(f"{SERVED}:read_norms", work).numpy()
    model.usage.count(ids)
    return norms


def score_remotely(task: Task) -> Iterator[Pass]:
    """Score all sequences of a task, those of several prompts in one request."""
    reaches = [(c.acts_on_prompt, c.until) for c in task.conditions]
    for reach in dict.fromkeys(reaches) or [(False, None)]:
        chosen = [i for i, one in enumerate(reaches) if one == reach]
        chosen.sort(key=lambda i: task.conditions[i].layer)
        yield from _score(task, chosen, reach)


def _score(task: Task, conditions: Sequence[int], reach: tuple[bool, int | None]) -> Iterator[Pass]:
    model = task.model
    rows: list[list[int]] = [[] for _ in task.prompts]
    for row, prompt in enumerate(task.of_prompt.tolist()):
        rows[prompt].append(row)
    pieces = {
        i: Piece(
            task.prompts[i].token_ids,
            [task.said[row] for row in some],
            reach=reach,
            rows=model.server.told["rows"],
            watch=None if task.watch is None else task.watch[i],
            divergences=task.divergences,
            exact=task.exact,
        )
        for i, some in enumerate(rows)
        if some
    }

    def send(some: Sequence[int]) -> list[Pass]:
        groups = [_split(task, pieces[i], conditions) for i in some]
        # The same object for all prompts, which goes once.
        done = {
            tuple(group): pack_edits(task.vectors, [task.conditions[c] for c in group])
            for several in groups
            for group in several
        }
        asked = [
            pieces[i].ask([done[tuple(group)] for group in several]) for i, several in zip(some, groups, strict=True)
        ]
        found = model.server.call(f"{SERVED}:score", asked)
        made: list[Pass] = []
        for i, several, got in zip(some, groups, found, strict=True):
            for group, arrays in zip(several, got, strict=True):
                model.usage.tokens += pieces[i].size * (1 + len(group))
                model.usage.passes += 1
                made.append((rows[i], group, pieces[i].read(arrays)))
        return made

    def describe(i: int) -> tuple[str, str]:
        return task.describe(rows[i][0])

    variants = 1 + len(conditions)
    for batch in _split_requests({i: piece.size * variants for i, piece in pieces.items()}):
        for _, passes in task.room.share(batch, send, each=1, most=len(batch), name=describe):
            yield from passes


def _split(task: Task, piece: Piece, conditions: Sequence[int]) -> list[Sequence[int]]:
    """Conditions by pass, as many as the budget of memory lets ride together; none: one pass without any."""
    row = piece.size * node_bytes(task.model, past=0, nodes=piece.size)
    most = max(1, task.room.bytes // row - 1)
    return [conditions[k : k + most] for k in range(0, len(conditions), most)] or [()]


def pack_edits(vectors: Mapping[str, SteeringVector], conditions: Sequence[Condition]) -> dict[int, dict[str, Any]]:
    """What conditions, in the order of their layers, do by block: as ``residual.Edits``, for the way to a server."""
    edits = make_edits(vectors, conditions, device=torch.device("cpu"), dtype=torch.float32)
    return {layer: dict(vars(edit)) for layer, edit in edits.items()}


def _split_requests(sizes: Mapping[int, int]) -> Iterator[list[int]]:
    """Runs of prompts that go in one request."""
    batch: list[int] = []
    held = 0
    for i, size in sizes.items():
        if batch and held + size > SESSION:
            yield batch
            batch, held = [], 0
        batch.append(i)
        held += size
    if batch:
        yield batch
