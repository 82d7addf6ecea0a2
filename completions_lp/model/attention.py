"""Attention of packed trees, each prompt's nodes against its own keys and values; the rest of a block knows no prompts.

Where a model attends through transformers' interface for attention, a pass of trees takes ours in place of ``sdpa``:

- *Packed nodes.* New nodes of all prompts stand in one row, so that no product is spent on padding. Only here are they
  dealt out to their prompts, padded, and gathered again.
- *Shared masks.* Rows of one prompt under several conditions see the same: they go in as more heads of one row, and
  its mask is neither repeated nor read from memory again.
- *Few keys.* Of a large tree some nodes at a time attend to what any of them sees.
- *Grouped queries.* Heads that share their keys go in as more queries of one head; the keys are not repeated.

It is the same arithmetic: ``engine`` compares it with transformers' own on every model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from completions_lp.model.loading import Model

NAME = "completions_lp"
"""Of our attention, among those that transformers knows."""
PART = 32
"""Nodes of a tree that attend together on a CPU: neighbours see nearly the same keys, and few of the tree's."""
CALL = 2**21
"""Operations that a CPU could do in the time that it takes to call for a part of the work."""


@dataclass(frozen=True, eq=False)
class Layout:
    """How the rows of a pass belong to prompts: a row per prompt, or per variant and prompt, or one of packed nodes."""

    prompts: int
    row: Int[Tensor, " node"] | None = None
    """Of every packed node its prompt; None where nodes are not packed."""
    column: Int[Tensor, " node"] | None = None
    """And its place among the nodes of its prompt."""
    width: int = 0
    """The most nodes that a prompt has."""
    sizes: Sequence[int] = ()
    """The nodes of every prompt, to attend a few at a time to the keys that they see; none: all at once to all keys."""
    part: int = PART
    """How many of them."""
    _made: dict[tuple[int, int], Any] = field(default_factory=dict)
    _places: dict[Any, Any] = field(default_factory=dict)

    def spread(self, packed: Float[Tensor, "1 head node size"]) -> Float[Tensor, "prompt head column size"]:
        """Packed nodes dealt out to their prompts, with zeros where a prompt has fewer than another."""
        _, heads, _, size = packed.shape
        dealt = packed.new_zeros(self.prompts, self.width, heads, size)
        dealt[self._find_places(packed)] = packed[0].transpose(0, 1)
        return dealt.transpose(1, 2)

    def gather(self, dealt: Float[Tensor, "prompt column head size"]) -> Float[Tensor, "1 node head size"]:
        """The nodes in one row again."""
        return dealt[self._find_places(dealt)][None]

    def _find_places(self, beside: Tensor) -> Any:
        """Prompt and column of every packed node, where a layer is."""
        if beside.device not in self._places:
            self._places[beside.device] = [x if x is None else x.to(beside.device) for x in (self.row, self.column)]
        return tuple(self._places[beside.device])

    def repeat_mask(self, mask: Tensor, groups: int) -> Tensor:
        """The mask of queries that stand for several heads each, made once for all layers."""
        key = id(mask), groups
        if key not in self._made:
            self._made[key] = mask, mask.repeat(1, 1, groups, 1)
        found: Tensor = self._made[key][1]
        return found

    def split(self, mask: Tensor, groups: int) -> "list[_Part]":
        """Some nodes of one prompt after the other, with the keys that any of them sees; made once for all layers."""
        key = id(mask), groups
        if key not in self._made:
            self._made[key] = mask, list(_split(mask, self.sizes, self.part, groups))
        found: list[_Part] = self._made[key][1]
        return found


@dataclass(frozen=True, eq=False)
class _Part:
    """Neighbouring nodes of one prompt."""

    prompt: int
    nodes: slice
    keys: Int[Tensor, " key"]
    """Those that any of them sees."""
    mask: Float[Tensor, "1 1 query key"]
    """Queries are groups x nodes."""


def _split(mask: Float[Tensor, "prompt 1 node key"], sizes: Sequence[int], part: int, groups: int) -> Iterator[_Part]:
    for prompt, size in enumerate(sizes):
        for start in range(0, size, part):
            nodes = slice(start, min(start + part, size))
            seen = mask[prompt, 0, nodes]
            keys = (seen > float("-inf")).any(0).nonzero()[:, 0]
            yield _Part(prompt, nodes, keys, seen[:, keys].repeat(groups, 1)[None, None])


_LAYOUTS: list[Layout] = []
"""That of the pass which runs, last."""


_OWN: "WeakSet[Model]" = WeakSet()
"""Models that work on keys or values between their cache and their attention, as those with latent ones do."""


def leave_attention(model: Model) -> None:
    """Let a model attend by its own attention from now on, as a trial has found that it does not go with ours."""
    _OWN.add(model)


def pick_sizes(model: Model, sizes: Sequence[int], *, keys: int, seen: int) -> Sequence[int]:
    """The ``sizes`` for a layout where parts, whose nodes see ``seen`` of the ``keys``, save more than they cost."""
    if model.device.type != "cpu":
        return ()
    saved = len(sizes) * max(sizes) * keys - sum(sizes) * min(seen, keys)
    calls = sum(-(-size // PART) for size in sizes)
    return sizes if saved * 4 * model.d_model > calls * CALL else ()


def can_attend(model: Model) -> bool:
    """Whether a model's attention may be ours: it takes transformers' interface, and ``sdpa`` there."""
    if model in _OWN:
        return False
    kind = getattr(model.module.config.get_text_config(), "_attn_implementation", None)
    return kind == "sdpa" and bool(model.module.is_backend_compatible())


@contextmanager
def attend_by_prompt(model: Model, layout: Layout | None) -> Iterator[None]:
    """Let the passes inside attend by a layout; None: as the model does by itself."""
    if layout is None:
        yield
        return
    from transformers import AttentionInterface  # with it comes all that loads models: seconds that a report can spare

    AttentionInterface.register(NAME, _attend)
    config = model.module.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = NAME
    _LAYOUTS.append(layout)
    try:
        yield
    finally:
        _LAYOUTS.pop()
        config._attn_implementation = before


def _attend(
    module: Any,
    query: Float[Tensor, "row head node size"],
    key: Float[Tensor, "keyrow keyhead key size"],
    value: Float[Tensor, "keyrow keyhead key vsize"],
    attention_mask: Float[Tensor, "prompt 1 column key"],
    scaling: float | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "row node head vsize"], None]:
    """As transformers calls it; see the module's head. Keys and values may be by prompt already, see ``TreeCache``."""
    if others.get("position_bias") is not None:
        raise NotImplementedError("attention with a position bias")
    layout = _LAYOUTS[-1]
    if layout.row is not None:
        query = layout.spread(query)
    rows, heads, width, size = query.shape
    n = layout.prompts
    variants = rows // n
    if len(key) != n:
        key, value = (x.reshape(variants, n, *x.shape[1:]).transpose(0, 1).flatten(1, 2) for x in (key, value))
    kinds = key.shape[1]  # variants x heads of keys
    groups = variants * heads // kinds
    asked = query.reshape(variants, n, heads, width, size).transpose(0, 1).reshape(n, kinds, groups, width, size)
    if layout.sizes:
        found = asked.new_zeros(*asked.shape[:-1], value.shape[-1])
        for part in layout.split(attention_mask, groups):
            there = part.prompt, slice(None), slice(None), part.nodes
            some = asked[there].flatten(1, 2)[None]
            keys, values = (x[part.prompt].index_select(1, part.keys)[None] for x in (key, value))
            read = scaled_dot_product_attention(some, keys, values, attn_mask=part.mask, scale=scaling)
            found[there] = read.reshape(kinds, groups, -1, read.shape[-1])
    else:
        mask = layout.repeat_mask(attention_mask, groups)
        read = scaled_dot_product_attention(asked.flatten(2, 3), key, value, attn_mask=mask, scale=scaling)
        found = read.reshape(n, kinds, groups, width, -1)
    found = found.view(n, variants, -1, *found.shape[2:]).permute(1, 0, 4, 2, 3, 5).reshape(rows, width, heads, -1)
    return (found if layout.row is None else layout.gather(found)), None
