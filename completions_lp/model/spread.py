"""How a model is spread as it is loaded: part by part over devices, memory and disk, or each part over processes."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from completions_lp.checkpoint import DeviceMap, check_map, check_place, check_ranks
from completions_lp.records import InputError

WHOLE = "replicated_with_grad_allreduce"
"""What transformers calls it where every process has all of a part."""


@dataclass(frozen=True)
class Spread:
    """What ``load_model`` is told of it; by default the model is whole, on one device."""

    device_map: DeviceMap = ""
    folder: str | None = None
    """Where weights go that lie on disk and cannot be read from the checkpoint's own files as they are."""
    tp_size: int = 1
    """Processes that share every block (tensor parallelism)."""

    def __post_init__(self) -> None:
        check_map(self.device_map)
        if self.tp_size > 1:
            check_ranks(self.tp_size)
        if self.tp_size > 1 and self.device_map != "":
            raise InputError(
                f"device_map is {self.device_map!r} and tp_size {self.tp_size}; give one of the two: blocks go to "
                "devices whole, or each is shared by processes"
            )

    @property
    def parted(self) -> bool:
        """Whether weights go where they stay as they are read."""
        return self.device_map != "" or self.tp_size > 1

    def list_options(self, outline: Callable[[], Any]) -> dict[str, Any]:
        """What transformers is told of a module, whose ``outline`` is made where a map names its parts.

        Raises:
            InputError: A map by parts names no parts of it, or not all of it, or devices that this machine has not.
        """
        if self.tp_size > 1:
            return {"distributed_config": self._plan(outline())}
        if not self.parted:
            return {}
        given: Any = self.device_map
        if self.by_part:
            module = outline()
            self._check(module)
            given = {}
            self._expand("", module, None, given)
        return {"device_map": given, **({"offload_folder": self.folder} if self.folder else {})}

    def _plan(self, outline: Any) -> Any:
        """How transformers shards the model: as the family plans it, but for what we read ourselves, which is whole."""
        from transformers.distributed import DistributedConfig

        family, config = type(outline).__name__, outline.config.get_text_config()
        if not outline.tp_plan:
            raise InputError(f"{family} has no plan for tensor parallelism; leave tp_size out, or take device_map")
        for kind in ("num_attention_heads", "num_key_value_heads"):
            heads = getattr(config, kind, None)
            if isinstance(heads, int) and heads % self.tp_size:
                shares = [n for n in range(2, heads + 1) if heads % n == 0]
                raise InputError(
                    f"tp_size is {self.tp_size}, and {family} has {heads} {'key and value ' * ('key' in kind)}heads, "
                    f"which so many processes cannot share evenly: {', '.join(map(str, shares)) or 'none'} can"
                )
        whole = {id(part) for part in (outline.get_input_embeddings(), outline.get_output_embeddings())}
        names = [name for name, part in outline.named_modules() if id(part) in whole]
        return DistributedConfig(tp_size=self.tp_size, tp_plan=dict.fromkeys(names, WHOLE))

    def _expand(self, name: str, part: Any, place: str | int | None, found: dict[str, str | int]) -> None:
        """The map with no part inside another one, as accelerate needs it: the rest of a part is named, too."""
        place = self.by_part.get(name, place)
        if all(other == name or not _holds(name, other) for other in self.by_part):
            if place is not None:
                found[name] = place
            return
        start = f"{name}." if name else ""
        for child, inner in part.named_children():
            self._expand(start + child, inner, place, found)
        for own, _ in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            if place is not None:
                found[start + own] = place

    @property
    def by_part(self) -> Mapping[str, str | int]:
        """Parts and their devices; none where accelerate is to find them."""
        return {} if isinstance(self.device_map, str) else self.device_map

    def _check(self, outline: Any) -> None:
        parts = {name for name, _ in outline.named_modules()}
        for part, place in self.by_part.items():
            if part not in parts:
                near = difflib.get_close_matches(part, sorted(parts), 1)
                raise InputError(
                    f"device_map names {part!r}, which {type(outline).__name__} has not"
                    f"{f'; did you mean {near[0]!r}?' if near else ''}: it has {_list_parts(outline)}"
                )
            kind, _, number = str(place).partition(":")
            gpu = place if isinstance(place, int) else int(number or 0) if kind == "cuda" else -1
            if gpu >= torch.cuda.device_count():
                raise InputError(
                    f"device_map puts {part!r} on {place!r}: this machine has {torch.cuda.device_count()} CUDA devices"
                )
        names = [name for name, _ in outline.named_parameters()]
        missing = [name for name in names if not any(_holds(part, name) for part in self.by_part)]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise InputError(
                f'device_map has no device for the weights {missing[0]!r}{more}: name every part, or "" for the rest'
            )


def _holds(part: str, weights: str) -> bool:
    return not part or weights == part or weights.startswith(f"{part}.")


def _list_parts(outline: Any) -> str:
    """The largest parts, by name."""
    shown = []
    for name, child in outline.named_children():
        inner = [f"{name}.{of}" for of, _ in child.named_children()]
        shown += inner or [name]
    return ", ".join(shown)


def pick_device(device: str) -> torch.device:
    """The device of a name, ``"auto"`` being a GPU where there is one; raises InputError where it is none."""
    check_place("auto", device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place = torch.device(device)
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"device {device!r}: this machine has no MPS device; take device auto or cpu")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {device!r}: this machine has {torch.cuda.device_count()} CUDA devices; take device auto or cpu"
        )
    return place
