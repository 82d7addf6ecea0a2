"""Devices that this machine does not have, made of memory that it has: tensors on them hold tensors on the CPU.

They know what real ones would refuse: an operation on tensors of two devices raises, reading values on the host is an
operation of its own. So what follows the tensors, and how often a pass waits for its device, can be seen without any.
Numbers are those of the CPU's own operations; only attention is taken in plain steps, as no kernel knows the kind.
"""

from collections import Counter
from contextlib import contextmanager

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from completions_lp.model import wrap_model

KIND = "toy"


class Backend(_DummyBackendModule):
    """Of no random states."""

    def device_count(self):
        return 0


_setup_privateuseone_for_python_backend(KIND, Backend())
ONE, TWO = torch.device(KIND, 0), torch.device(KIND, 1)
CPU = torch.device("cpu")

aten = torch.ops.aten
CARRIES = {aten._to_copy.default, aten.copy_.default}
"""Operations that may have tensors of two devices."""
INDEXES = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
"""And those whose indices may lie on the CPU."""
READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}
"""Operations that wait for a device, as their result, or its size, is wanted on the host."""


class Placed(torch.Tensor):
    """A tensor on such a device."""

    @staticmethod
    def __new__(cls, held, device):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=device, requires_grad=False,
        )  # fmt: skip

    def __init__(self, held, device):
        self.held, self.place = held, torch.device(device)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return operate(func, args, kwargs or {}, Counter())


def operate(func, args, kwargs, waits):
    """Do an operation where its tensors are; the ``waits`` for the host are counted by name."""
    leaves, _ = tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    where = [leaf.place if isinstance(leaf, Placed) else CPU for leaf in tensors]
    checked = [
        place for leaf, place in zip(tensors, where, strict=True)
        if (leaf.dim() or place != CPU) and not (func in INDEXES and leaf is not tensors[0] and place == CPU)
    ]  # fmt: skip
    if func not in CARRIES and len(set(checked)) > 1:
        raise RuntimeError(f"{func} on tensors of {sorted(map(str, set(checked)))}")
    device = kwargs.get("device")
    target = torch.device(device) if device is not None else next((p for p in where if p != CPU), CPU)
    if func is aten.copy_.default:
        target = where[0]
    if target.type == KIND and target.index is None:
        target = ONE
    if any(place.type == KIND for place in where):
        masks = func in INDEXES and any(leaf.dtype == torch.bool for leaf in tensors[1:])
        leaves_device = func in CARRIES and target == CPU
        if func in READS or masks or leaves_device:
            waits[str(func)] += 1
    plain = {name: CPU if name == "device" and value is not None else value for name, value in kwargs.items()}
    held = tree_map(lambda leaf: leaf.held if isinstance(leaf, Placed) else leaf, (args, plain))
    found = func(*held[0], **held[1])
    if func is aten._to_copy.default and any(found is leaf for leaf in held[0]):
        found = found.clone()
    kept = {id(leaf.held): leaf for leaf in tensors if isinstance(leaf, Placed)}

    def wrap(value):
        if not isinstance(value, torch.Tensor):
            return value
        return kept[id(value)] if id(value) in kept else value if target == CPU else Placed(value, target)

    return tree_map(wrap, found)


class Emulated(TorchDispatchMode):
    """While it is entered, tensors can be made on these devices, too. ``waits`` counts how often the host waited."""

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return operate(func, args, kwargs or {}, self.waits)


def spread(module, tokenizer, places):
    """A model with its parts on these devices, by hooks as accelerate makes them: for use inside ``Emulated``."""
    first = places[next(iter(places))]
    for name, device in places.items():
        part = module.get_submodule(name)
        for owner in part.modules():
            for store in (owner._parameters, owner._buffers):
                for key, value in list(store.items()):
                    if value is not None and not isinstance(value, Placed):
                        placed = value.detach().to(device)
                        store[key] = torch.nn.Parameter(placed, False) if store is owner._parameters else placed
        keys = module._skip_keys_device_placement
        add_hook_to_module(part, Aligned(execution_device=device, skip_keys=keys))
    add_hook_to_module(module, Aligned(execution_device=first, io_same_device=True, skip_keys=keys))
    return wrap_model(module, tokenizer)


class Aligned(AlignDevicesHook):
    """Without what looks at weights: they are where they go."""

    def init_hook(self, module):
        return module


@contextmanager
def emulate():
    """Such devices are there inside; gives the mode, which counts."""
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor: made on the CPU, then moved, as fake tensors have it
    try:
        with Emulated() as mode:
            yield mode
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
