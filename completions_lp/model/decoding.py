"""Decode the prefix trees of many prompts side by side: one pass per step over the distinct prefixes still alive.

Both decoders take the new nodes of each step as (parent in the last step, token) and give the logits after them. The
rows decoder is the plain way: each node is a row with its own copy of the keys and values. The tree decoder packs all
nodes into one row; in attention, those of a prompt read its keys and values once, through an ancestor mask.

Both grow the completions of the steered model where they are given a ``Steering`` of one condition: it acts on every
new node, the prompt's last token being the first, or on so many steps, and before on the prompt where it does.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import nnsight
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from completions_lp.model.attention import PART, Layout, attend_by_prompt, can_attend, pick_sizes
from completions_lp.model.caches import GrowingCache
from completions_lp.model.head import Head
from completions_lp.model.loading import Model
from completions_lp.model.masks import make_masks
from completions_lp.model.network import Steering, prefill, read_next, steer_blocks
from completions_lp.model.output import find_head, head_envoy, widen_output
from completions_lp.model.transfer import upload_all

CHUNK = 2**24
"""Logits held at once, in numbers: 64 MiB in float32."""


class RowDecoder:
    """A row per node, with its own copy of the keys and values."""

    def __init__(self, model: Model, prompts: Sequence[Sequence[int]], *, steering: Steering | None = None) -> None:
        self.model = model
        self.steering = steering
        self.prefix = prefill(model, [prompt[:-1] for prompt in prompts], steering=steering)
        self.first = True

    def step(
        self, prompt: Sequence[int], parent: Sequence[int], token: Sequence[int]
    ) -> Iterator[tuple[slice, Float[Tensor, "node vocab"]]]:
        """Logits after each new node, in pieces, each good until the next: a piece may lie where the last one was.

        A node is given as its prompt (nodes of a prompt stand together, prompts in order), the node of the last step
        that it follows (in the first step: ignored) and its token.
        """
        rows = prompt if self.first else parent
        self.first = False
        chosen, ids = upload_all([np.array(rows, dtype=np.int64), np.array(token, dtype=np.int64)], self.model.device)
        prefix, ids = self.prefix.select(chosen), ids[:, None]
        logits, self.prefix = read_next(self.model, prefix, ids, steering=self.steering)
        yield slice(0, len(token)), logits


class TreeDecoder:
    """New nodes see their prompt, their ancestors and themselves.

    All of them go in as one row where the model's attention can be told whose they are; else in a row per prompt, as
    wide as the most that any prompt has. ``held`` is how many logits are held at once, in numbers: those of one node
    even where they are more.
    """

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Sequence[int]],
        *,
        steering: Steering | None = None,
        held: int = CHUNK,
    ) -> None:
        self.model, self.steering, self.head = model, steering, find_head(model)
        self.size = max(1, held // model.vocab_size)
        self.packed = can_attend(model)
        self.room: Tensor | None = None
        past = [len(prompt) - 1 for prompt in prompts]
        self.past = max(past)
        self.cache = GrowingCache(model, [prompt[:-1] for prompt in prompts], steering=steering)
        self.depth, self.begin = np.array(past), past[0]
        self.nodes = np.zeros(len(prompts), dtype=np.int64)  # kept so far, of every prompt
        self.key_position = np.zeros((len(prompts), self.past), dtype=np.int64)
        # What the nodes of the last step see; before the first step, one node per prompt that sees its prompt.
        self.visible = np.zeros((len(prompts), 1, self.past), dtype=bool)
        self.start = np.arange(len(prompts))
        for i, n in enumerate(past):
            self.key_position[i, self.past - n :] = np.arange(n)
            self.visible[i, 0, self.past - n :] = True

    def step(
        self, prompt: Sequence[int], parent: Sequence[int], token: Sequence[int]
    ) -> Iterator[tuple[slice, Float[Tensor, "node vocab"]]]:
        """See ``RowDecoder``."""
        row, depth = np.asarray(prompt), self.depth
        column, slot, length = self._place(row, np.asarray(parent))
        n, width = self.visible.shape[:2]
        mask = make_masks(self.model, self.visible, np.repeat(depth[:, None], width, 1), self.key_position)
        if self.packed:
            ids, positions = np.array([token], dtype=np.int64), depth[row][None]
        else:
            ids, positions = np.zeros((n, width), dtype=np.int64), np.repeat(depth[:, None], width, 1)
            ids[row, column] = token
        arrays = [ids, positions, row, column, slot]
        tokens, depths, rows, columns, slots = upload_all(arrays, self.model.device)
        self.cache.place((rows, columns, slots), length, packed=self.packed)
        seen = self.past + PART * (int(depth[0]) - self.begin + 1)
        sizes = pick_sizes(self.model, np.bincount(row, minlength=n).tolist(), keys=self.visible.shape[2], seen=seen)
        layout = Layout(n, rows, columns, width, sizes, PART) if self.packed else None
        with attend_by_prompt(self.model, layout):
            states = self._run(tokens, depths, mask)
        states = states[0] if self.packed else states[rows.to(states.device), columns.to(states.device)]
        self.depth = depth + 1
        for start in range(0, len(token), self.size):
            piece = slice(start, min(start + self.size, len(token)))
            yield piece, states[piece] if self.head is None else self._read(self.head, states[piece])

    def _read(self, head: Head, states: Float[Tensor, "node d_model"]) -> Float[Tensor, "node vocab"]:
        """Logits, in memory that is taken a few times: taking it anew for each piece costs as much as filling it."""
        if self.room is None or len(self.room) < len(states):
            self.room = None  # before the larger one takes its place
            self.room = head.weight.new_empty(min(self.size, 2 * len(states)), len(head.weight), dtype=states.dtype)
        return head.logits(head.widen(states), self.room[: len(states)])

    def _place(
        self, prompt: Int[np.ndarray, " node"], parent: Int[np.ndarray, " node"]
    ) -> tuple[Int[np.ndarray, " node"], Int[np.ndarray, " node"], int]:
        """Column and place among its prompt's keys of every new node, once what is seen and kept has grown by them.

        And the most that is then kept of a prompt.
        """
        n, before = len(self.depth), self.visible.shape[2]
        counts = np.bincount(prompt, minlength=n)
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        column: Int[np.ndarray, " node"] = np.arange(len(prompt)) - first[prompt]
        slot = self.past + self.nodes[prompt] + column
        self.nodes += counts
        length = self.past + int(self.nodes.max())
        visible = np.zeros((n, int(counts.max()), length), dtype=bool)
        visible[:, :, 0] = True  # of an empty column, which has to see something; nodes' own are set below
        mother = np.zeros(len(prompt), dtype=np.int64) if self.visible.shape[1] == 1 else parent - self.start[prompt]
        visible[prompt, column, 0] = False
        visible[prompt, column, :before] = self.visible[prompt, mother]
        visible[prompt, column, slot] = True
        self.key_position = np.pad(self.key_position, ((0, 0), (0, length - before)))
        self.key_position[prompt, slot] = self.depth[prompt]
        self.visible, self.start = visible, first
        return column, slot, length

    def _run(self, ids: Tensor, positions: Tensor, mask: Any) -> Tensor:
        """Hidden states before the head, or logits where the head has no known form."""
        network, output, exact = self.model.network, head_envoy(self.model), self.model.exact_dtype
        blocks, steering, step = self.model.blocks, self.steering, int(self.depth[0]) - self.begin
        if steering is not None and steering.until is not None and step >= steering.until:
            steering = None
        inputs = {"position_ids": positions, "attention_mask": mask, self.model.cache_name: self.cache}
        states: Tensor
        with torch.no_grad(), self.model.arithmetic(), network.trace(input_ids=ids, use_cache=True, **inputs):
            steer_blocks(blocks, steering)
            if self.head is None:
                widen_output(self.model, output)
                states = nnsight.save(network.output.logits.to(exact))
            else:
                states = nnsight.save(output.input)
                output.skip(states[:, :1, :1])
        self.model.usage.count(ids)
        return states


Decoder = RowDecoder | TreeDecoder
"""Prompts that went through the network once, growing their completions a token at a time."""
