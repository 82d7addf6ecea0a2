"""The whole grid of conditions in one forward pass.

Each prompt's packed prefix tree enters as one row. As the pass leaves layer l, the unsteered rows are appended to the
batch once more for each condition whose lowest layer this is, edited by it (``+ m v_l``); those that act on several
layers are edited again further up. So lower layers never run again, the first rows are the unsteered model, and the
cost of a condition is that of the layers above its lowest. The prompt's keys and values are read, never written. Where
steering acts on the prompt too, the prompt is the first chain of the tree.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import nnsight
import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from completions_lp.model.attention import PART, Layout, attend_by_prompt, can_attend
from completions_lp.model.caches import LastPrompts
from completions_lp.model.edits import make_edits
from completions_lp.model.loading import Model
from completions_lp.model.masks import make_masks
from completions_lp.model.output import find_head, head_envoy, widen_output
from completions_lp.model.placement import list_copies
from completions_lp.model.reading import Reader, Watch, stack_answers
from completions_lp.model.residual import branch_rows, replace_stream, residual_stream
from completions_lp.model.task import Reduced
from completions_lp.model.transfer import upload, upload_all
from completions_lp.model.tree import build_tree
from completions_lp.records import Condition, SteeringVector


class Wavefront:
    """Prompts and completions on the device, as in ``Task``; ``whole``: the prompt is in the tree (all positions).

    ``last`` remembers the keys and values of the prompts of the wavefront before.
    """

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[Sequence[int]]],
        *,
        whole: bool,
        watch: Sequence[Watch] | None = None,
        divergences: bool = False,
        last: LastPrompts | None = None,
    ) -> None:
        self.model = model
        self.divergences = divergences
        self.head = find_head(model)
        self.trees = [
            build_tree(said, prompt if whole else prompt[-1:])
            for prompt, said in zip(prompts, completions, strict=True)
        ]
        past = [() if whole else prompt[:-1] for prompt in prompts]
        self.lengths = [len(prompt) for prompt in prompts]
        self.whole, self.past = whole, max(map(len, past))
        sizes = [len(tree.tokens) for tree in self.trees] if model.device.type == "cpu" else []
        part = max(PART, 4 * math.isqrt(self.past))  # a long prompt's keys are picked for more nodes at once
        self.layout = Layout(len(prompts), sizes=sizes, part=part) if can_attend(model) else None
        self.prefix = (last or LastPrompts()).find(model, past) if self.past else None
        self.width = max(len(tree.tokens) for tree in self.trees)
        self.ids = self._pack("tokens", self.width)
        depths = self._pack("depths", self.width)
        self.positions = depths + upload(np.array([[len(p)] for p in past]), model.device)
        self.masks = self._make_masks([len(p) for p in past])
        edges = max(len(tree.edge_node) for tree in self.trees)
        self.edge_node, self.edge_token = self._pack("edge_node", edges), self._pack("edge_token", edges)
        self.answers = None
        if watch is not None:
            roots = [len(prompt) if whole else 1 for prompt in prompts]
            said = [tree.prefixes(root) for tree, root in zip(self.trees, roots, strict=True)]
            self.answers = stack_answers(watch, said, self.width, model.device)

    def score(self, vectors: Mapping[str, SteeringVector], conditions: Sequence[Condition]) -> list[Reduced]:
        """By prompt, unsteered, then each condition: any layers, operations and positions, in any order.

        Raises:
            ValueError: A condition acts on prompts, and they are not in the wavefront's trees (``whole``).
        """
        order = sorted(range(len(conditions)), key=lambda i: conditions[i].layer)
        found = self._run(vectors, [conditions[i] for i in order])
        place = [0, *(1 + np.argsort(order))]
        n = len(self.trees)
        at = {k: v.view(v.shape[0] // n, n, *v.shape[1:]).numpy() for k, v in found.items() if v.numel()}
        reduced = []
        for i, tree in enumerate(self.trees):
            nodes = tree.edge_node[tree.paths]
            logprob = at["logprob"][place][:, i, tree.paths]
            entropy = at["entropy"][0, i, nodes] if "entropy" in at else None
            kept = {name: at[name][place][:, i, nodes] for name in ("answers", "kl", "kl_reverse") if name in at}
            reduced.append(Reduced(logprob, entropy=entropy, **kept))
        return reduced

    def _run(self, vectors: Mapping[str, SteeringVector], conditions: Sequence[Condition]) -> dict[str, Tensor]:
        """One trace. Rows are variants x prompts, the unsteered ones first."""
        model, head, n = self.model, self.head, len(self.trees)
        network, blocks, output = model.network, model.blocks, head_envoy(model)
        reader = Reader(n, self.edge_node, self.edge_token, self.answers, self.divergences)
        edits, acts = (
            make_edits(vectors, conditions, device=model.device, dtype=model.exact_dtype),
            self._act(conditions),
        )
        inputs = {"position_ids": self.positions, "attention_mask": self.masks, "use_cache": self.prefix is not None}
        if self.prefix is not None:
            inputs[model.cache_name] = self.prefix
        masks = self.masks.values() if isinstance(self.masks, dict) else (self.masks,)
        shared = [] if self.layout is None else list_copies(model.module, list(masks), model.devices)
        steps = torch.no_grad(), model.arithmetic(), attend_by_prompt(model, self.layout)
        with steps[0], steps[1], steps[2], network.trace(input_ids=self.ids, **inputs):
            variants = 1
            for layer, block in enumerate(blocks):
                if variants > 1 and n > 1:
                    block.inputs = _repeat_inputs(block.inputs, variants, n, shared)
                if layer in edits:
                    whole = block.output
                    block.output = replace_stream(whole, branch_rows(residual_stream(whole), n, edits[layer], acts))
                    variants = max(variants, 2 + max(edits[layer].which))
            if head is None:
                widen_output(model, output)
                found = nnsight.save(reader.read_logits(network.output.logits.to(model.exact_dtype)))
            else:
                hidden = output.input
                output.skip(hidden[:, :1, :1])
                found = nnsight.save(reader.read_hidden(head, hidden))
        model.usage.count(self.ids, 1 + len(conditions))
        return dict(found)

    def _act(self, conditions: Sequence[Condition]) -> Bool[Tensor, "condition prompt node"] | None:
        """Where conditions act; None for everywhere in the trees."""
        if not self.whole and any(condition.acts_on_prompt for condition in conditions):
            raise ValueError("conditions that act on prompts need a wavefront of whole texts")
        if all(c.until is None and c.acts_on_prompt == self.whole for c in conditions):
            return None
        end = np.iinfo(np.int64).max
        ranges = [[condition.find_acting(n) for n in self.lengths] for condition in conditions]
        limits = np.array([[(a, end if b is None else b) for a, b in row] for row in ranges], dtype=np.int64)
        starts, stops = upload_all([limits[..., :1], limits[..., 1:]], self.model.device)
        return (self.positions >= starts) & (self.positions < stops)

    def _pack(self, name: str, width: int) -> Int[Tensor, "prompt {width}"]:
        """One array of every tree, padded with 0 on the right."""
        packed = np.zeros((len(self.trees), width), dtype=np.int64)
        for row, tree in zip(packed, self.trees, strict=True):
            row[: len(getattr(tree, name))] = getattr(tree, name)
        return upload(packed, self.model.device)

    def _make_masks(self, past: Sequence[int]) -> Any:
        """A node sees its prompt, its ancestors and itself."""
        n, width = len(self.trees), self.width
        visible = np.zeros((n, width, self.past + width), dtype=bool)
        keys = np.zeros((n, self.past + width), dtype=np.int64)
        for i, (tree, length) in enumerate(zip(self.trees, past, strict=True)):
            size = len(tree.tokens)
            visible[i, :size, self.past - length : self.past] = True
            visible[i, :size, self.past : self.past + size] = tree.ancestors
            padding = np.arange(size, width)
            visible[i, padding, self.past + padding] = True  # padding sees itself: no row may see nothing
            keys[i, self.past - length : self.past] = np.arange(length)
            keys[i, self.past : self.past + size] = length + tree.depths
        return make_masks(self.model, visible, keys[:, self.past :], keys)


def _repeat_inputs(
    inputs: tuple[tuple[Any, ...], dict[str, Any]], variants: int, n: int, shared: Sequence[Tensor]
) -> Any:
    """A block's inputs for a batch that has grown: what has the prompts as first axis is repeated, but for ``shared``.

    Variants of a prompt stand one batch of prompts apart.
    """

    def repeat(value: Any) -> Any:
        if any(value is one for one in shared):
            return value
        if isinstance(value, Tensor) and value.dim() >= 2 and value.shape[0] == n:
            return value.repeat(variants, *[1] * (value.dim() - 1))
        return tuple(repeat(item) for item in value) if isinstance(value, tuple) else value

    args, kwargs = inputs
    return (args[0], *(repeat(a) for a in args[1:])), {name: repeat(value) for name, value in kwargs.items()}
