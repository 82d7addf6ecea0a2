"""Keys and values that packed trees read: those of prompts, which went through the network once, and of nodes."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from completions_lp.model.attention import can_attend
from completions_lp.model.loading import Model
from completions_lp.model.network import Steering, prefill


class TreeCache:
    """Keys and values of prompts, ``[prompt, head, token, d_head]`` a layer, which packed trees read.

    New ones are joined to them and forgotten, so any number of passes read the prompts' own. ``steering`` acts on the
    prompts where it acts at all positions. ``by_prompt``: see ``join``.
    """

    is_compileable = False

    def __init__(
        self,
        model: Model,
        past: Sequence[Sequence[int]],
        *,
        steering: Steering | None = None,
        by_prompt: bool = False,
    ) -> None:
        prefix = prefill(model, past, steering=steering, keep_all=True)
        layers = [] if prefix.cache is None else getattr(prefix.cache, "layers", [prefix.cache])
        if not all(hasattr(layer, "keys") for layer in layers):
            raise NotImplementedError("a layer remembers something else than keys and values")
        self.dtype = model.attention_dtype
        self.by_prompt = by_prompt
        self.prompts, self.width = len(past), max(map(len, past))
        self.layers = [(layer.keys.to(self.dtype), layer.values.to(self.dtype)) for layer in layers]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """All keys and values that a pass may see: the kept ones, then the new ones."""
        new = keys.to(self.dtype), values.to(self.dtype)
        if not self.layers:
            return new
        return self.join(self.layers[layer][0], new[0]), self.join(self.layers[layer][1], new[1])

    def get_seq_length(self, *_: object) -> int:
        """Tokens that are kept, padding included."""
        return self.width

    def pick(self, prompts: Sequence[int]) -> "TreeCache":
        """The same of some of its prompts, by number and in this order; one may be named several times."""
        if list(prompts) == list(range(self.prompts)):
            return self
        picked, at = copy.copy(self), list(prompts)
        picked.prompts, picked.layers = len(at), [(keys[at], values[at]) for keys, values in self.layers]
        return picked

    def join(self, past: Float[Tensor, "prompt head past _"], new: Float[Tensor, "row head node _"]) -> Tensor:
        """The new ones behind the prompts', which are repeated to as many rows: variants x prompts.

        ``by_prompt``, for an attention that takes it, the variants of a prompt are more heads of one row.
        """
        n = len(past)
        variants = len(new) // n
        grown = new.reshape(variants, n, *new.shape[1:])
        kept = past.expand(variants, -1, -1, -1, -1)
        if self.by_prompt:
            grown, kept = grown.transpose(0, 1), kept.transpose(0, 1)
            return torch.cat([kept, grown], 3).flatten(1, 2)
        return torch.cat([kept, grown], 3).flatten(0, 1)


class LastPrompts:
    """The keys and values of the prompts that were asked for last: parts of one large tree follow each other."""

    def __init__(self) -> None:
        self.kinds: list[tuple[int, ...]] = []
        self.cache: TreeCache | None = None

    def find(self, model: Model, past: Sequence[Sequence[int]]) -> TreeCache:
        """Those of some prompts, each of which goes through the network once; only the last ones are kept."""
        each = [tuple(ids) for ids in past]
        kinds = list(dict.fromkeys(each))
        if self.cache is None or kinds != self.kinds:
            self.cache = None  # before the others take their place
            self.cache, self.kinds = TreeCache(model, kinds, by_prompt=can_attend(model)), kinds
        return self.cache.pick([kinds.index(ids) for ids in each])


class GrowingCache(TreeCache):
    """One that keeps the new ones, whose places are told before: nodes of a prompt stand behind it without a gap."""

    places: dict[torch.device, tuple[Tensor, Tensor, Tensor]]
    """By device: layers may be on several."""
    packed: bool

    def place(self, places: tuple[Tensor, Tensor, Tensor], length: int, *, packed: bool) -> None:
        """Say of each node of the next pass its prompt, its column there, and where among its prompt's keys it goes.

        Nodes come in a row per prompt, at these columns, or ``packed``, one after the other. ``length`` is the most
        that is then kept of a prompt.
        """
        self.places, self.width, self.packed = {places[0].device: places}, length, packed

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """All that are kept, the new ones with them."""
        if layer == len(self.layers):
            none = [x.new_zeros(self.prompts, x.shape[1], 0, x.shape[3], dtype=self.dtype) for x in (keys, values)]
            self.layers.append((none[0], none[1]))
        kept, read = self.layers[layer]
        self.layers[layer] = self._keep(kept, keys), self._keep(read, values)
        kept, read = self.layers[layer]
        return kept[:, :, : self.width], read[:, :, : self.width]

    def _keep(self, room: Tensor, new: Tensor) -> Tensor:
        """The room with the new ones in it; a larger one where it is too small, so most steps copy nothing."""
        n, heads, size, width = room.shape
        if size < self.width:
            grown = room.new_zeros(n, heads, self.width + self.width // 2, width)  # zeros: masked is not unread
            grown[:, :, :size] = room
            room = grown
        if room.device not in self.places:
            one, two, three = next(iter(self.places.values()))
            self.places[room.device] = one.to(room.device), two.to(room.device), three.to(room.device)
        prompt, column, slot = self.places[room.device]
        nodes = new[0].transpose(0, 1) if self.packed else new[prompt, :, column]
        room[prompt, :, slot] = nodes.to(self.dtype)
        return room
