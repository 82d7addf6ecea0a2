"""How many bytes of tensors are alive at once: what a pass holds, to the byte, whatever the allocator keeps."""

import weakref
from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Live(TorchDispatchMode):
    """Counts the storages of all tensors that are made while it is on, as long as a tensor holds them."""

    def __init__(self):
        super().__init__()
        self.holders, self.sizes, self.seen = Counter(), {}, set()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor) and id(tensor) not in self.seen:
                self._hold(tensor)
        return found

    def _hold(self, tensor):
        place = tensor.untyped_storage()._cdata
        if not self.holders[place]:
            self.sizes[place] = tensor.untyped_storage().nbytes()
            self.now += self.sizes[place]
            self.peak = max(self.peak, self.now)
        self.holders[place] += 1
        self.seen.add(id(tensor))
        weakref.finalize(tensor, self._let_go, place, id(tensor))

    def _let_go(self, place, name):
        self.seen.discard(name)
        self.holders[place] -= 1
        if not self.holders[place]:
            self.now -= self.sizes.pop(place)
