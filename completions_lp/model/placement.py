"""Where the parts of a network compute, and its weights as they really are, wherever they lie.

A module may be whole on one device, or spread by accelerate's hooks: blocks on several devices, weights that lie in
memory or on disk and are fetched for each pass (their parameters are on the meta device meanwhile). Nothing here moves
a weight; whoever works on hidden states, keys, values or masks asks the tensor at hand where it is, and the few who
need to know before a pass ask here.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from nnsight import NNsight
from nnsight.intervention.source import BODY_FORWARD
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


def find_device(part: torch.nn.Module) -> torch.device:
    """The device on which a part of a network computes: where its hooks bring weights and inputs, else its weights'."""
    for module in part.modules():
        for hook in _list_hooks(module):
            device = getattr(hook, "execution_device", None)
            if device is not None:
                return torch.device(device)
    tensors = (*part.parameters(), *part.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


def list_devices(module: Any, blocks: Sequence[Any]) -> tuple[torch.device, ...]:
    """All devices on which a network computes, each once: that of its embedding, of its blocks, of its head."""
    parts = (module.get_input_embeddings(), *blocks, module.get_output_embeddings())
    return tuple(dict.fromkeys(find_device(part) for part in parts))


def is_offloaded(module: torch.nn.Module) -> bool:
    """Whether weights are fetched for each pass."""
    return any(parameter.device.type == "meta" for parameter in module.parameters())


class Fetching(NNsight):  # type: ignore[misc]
    """One whose weights are fetched for each pass: inputs go where it computes, not where its first weights lie."""

    @property
    def device(self) -> torch.device:
        """Where a trace puts what goes in."""
        return find_device(self._module)


def wrap_network(module: Any) -> Any:
    """The nnsight wrapper of a module, however its weights are spread.

    Of a part that several processes share, what goes in and comes out in a trace is what its caller gives and gets: its
    exchange with the other processes is within. That of blocks and of the head, all that we read, is whole.
    """
    if is_offloaded(module):
        return Fetching(module)
    for part in module.modules() if getattr(module, "_device_mesh", None) is not None else ():
        if "forward" in vars(part):  # which transformers has put there, and nnsight would take away
            vars(part)[BODY_FORWARD] = True
    return NNsight(module)


def fetch_weight(part: torch.nn.Module, name: str) -> Tensor:
    """A weight or buffer of a part, by its name there: where it lies, or on the CPU where it is offloaded.

    Of one that several processes share, each gets the whole, and all of them have to ask.

    Raises:
        LookupError: It is on the meta device, and no hook knows its values.
    """
    owner_name, _, leaf = name.rpartition(".")
    tensor: Any = getattr(part.get_submodule(owner_name), leaf).detach()
    if tensor.device.type != "meta":
        whole: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        return whole
    names = name.split(".")
    for depth in range(len(names) - 1, -1, -1):  # the hook may be of a part around the weight's own
        owner = part.get_submodule(".".join(names[:depth]))
        for hook in _list_hooks(owner):
            held = getattr(hook, "weights_map", None)
            if held is not None:
                found: Tensor = held[".".join(names[depth:])]
                return found.detach().to(tensor.dtype)
    raise LookupError(f"weights {name!r} are on the meta device, and nothing holds their values")


def list_tensors(
    module: torch.nn.Module, wanted: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[str, Tensor, bool]]:
    """Every wanted weight and stored buffer by name, with its values, and whether it was fetched for this.

    One at a time: what is offloaded is let go when the next is asked for. What a state holds that is no tensor (the
    settings of quantised layers) is left out.
    """
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor) and wanted(name):
            fetched = value.device.type == "meta" or hasattr(value, "full_tensor")
            yield name, fetch_weight(module, name) if fetched else value, fetched


def count_bytes(module: torch.nn.Module) -> dict[torch.device, int]:
    """Bytes of the weights that stay on each device; those that are fetched for a pass count nowhere."""
    found: dict[torch.device, int] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device.type != "meta":
            found[tensor.device] = found.get(tensor.device, 0) + tensor.numel() * tensor.element_size()
    return found


class Carrier:
    """Brings what all blocks share (masks, positions) to each further device once, not once for each block there.

    Then it is the same tensor for all blocks of a device, by which attention knows what it has made of a mask. The
    hidden states themselves are each block's own, and accelerate brings them.
    """

    def __init__(self) -> None:
        self._sent: dict[torch.device, WeakTensorKeyDictionary] = {}

    def send(self, value: Any, device: torch.device) -> Any:
        """The value with all its tensors on the device."""
        if isinstance(value, Tensor):
            if value.device == device:
                return value
            sent = self._sent.setdefault(device, WeakTensorKeyDictionary())
            if value not in sent or sent[value][0] != value._version:
                sent[value] = value._version, value.to(device)
            return sent[value][1]
        if isinstance(value, tuple):
            return tuple(self.send(item, device) for item in value)
        if type(value) is dict:
            return {name: self.send(item, device) for name, item in value.items()}
        return value


CARRIERS: "WeakKeyDictionary[torch.nn.Module, Carrier]" = WeakKeyDictionary()
"""Of modules that are spread over devices."""


def carry_inputs(module: Any, blocks: Sequence[torch.nn.Module]) -> None:
    """Let a ``Carrier`` bring the inputs of blocks that are on another device than the first one."""
    spread = [block for block in blocks if find_device(block) != find_device(blocks[0])]
    if module in CARRIERS or not spread:
        return
    carrier = Carrier()
    CARRIERS[module] = carrier

    def bring(block: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        device, own = find_device(block), ("hidden_states", "cache", "past_key_values")
        return args, {k: v if k in own else carrier.send(v, device) for k, v in kwargs.items()}

    for block in spread:
        block.register_forward_pre_hook(bring, with_kwargs=True)


def list_copies(module: torch.nn.Module, shared: Sequence[Tensor], devices: Sequence[torch.device]) -> list[Tensor]:
    """Tensors that all blocks share, as blocks get them: themselves, and their copies on further devices."""
    carrier = CARRIERS.get(module)
    copies = [] if carrier is None else [carrier.send(one, device) for device in devices for one in shared]
    return [*shared, *copies]


def _list_hooks(module: torch.nn.Module) -> Sequence[Any]:
    """Accelerate's hooks on a module itself."""
    hook = getattr(module, "_hf_hook", None)
    return () if hook is None else getattr(hook, "hooks", (hook,))
