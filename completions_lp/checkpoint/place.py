"""Where and in which precision a network can run at all, by the names of both."""

import re
from collections.abc import Mapping
from importlib.util import find_spec

from completions_lp.records import InputError

PRECISIONS = ("float64", "float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda", "mps")
NUMBER = re.compile(r"0|[1-9][0-9]?", re.ASCII)
"""Which of several devices of a kind."""
MAPS = ("auto", "balanced", "sequential")
"""Ways in which accelerate spreads a model over the devices that there are."""
DeviceMap = str | Mapping[str, str | int]
"""Where the parts of a network go: "" for one device, one of ``MAPS``, or part by part."""


def check_place(dtype: str, device: str) -> None:
    """Raise InputError where a precision or a device has no such name; whether this machine has it is another matter.

    ``dtype`` is ``"auto"`` or one of ``PRECISIONS``; ``device`` ``"auto"`` or one of ``DEVICES``, maybe with a number,
    as in ``"cuda:1"``.
    """
    if dtype != "auto" and dtype not in PRECISIONS:
        raise InputError(f"dtype {dtype!r} is none of auto, {', '.join(PRECISIONS)}")
    kind, colon, number = device.partition(":")
    if device != "auto" and (kind not in DEVICES or (colon and not NUMBER.fullmatch(number))):
        raise InputError(f"device {device!r} is none of auto, cpu, cuda, cuda:N, mps")
    if kind == "mps" and dtype == "float64":
        raise InputError("device 'mps' has no float64: take dtype float32, or device cpu")


def check_map(device_map: DeviceMap, device: str = "auto") -> None:
    """Raise InputError where a device map has no such form, ``device`` is given beside it, or accelerate is missing.

    Whether the network has these parts, and this machine these devices, is another matter.
    """
    if device_map == "":
        return
    if device != "auto":
        raise InputError(f"device is {device!r} and device_map {device_map!r}; give one of the two: the map says where")
    if isinstance(device_map, str) and device_map not in MAPS:
        raise InputError(
            f"device_map {device_map!r} is none of {', '.join(MAPS)}, and no table of parts and devices, for example "
            '{"model.embed_tokens" = 0, "model.layers" = 1, "model.norm" = 1, "lm_head" = "cpu"}'
        )
    if not isinstance(device_map, str):
        if not device_map:
            raise InputError(
                "device_map is an empty table; name parts of the network and their devices, or leave it out"
            )
        for part, place in device_map.items():
            kind, colon, number = str(place).partition(":")
            named = isinstance(place, str) and kind in (*DEVICES, "disk") and (not colon or NUMBER.fullmatch(number))
            if not named and not (isinstance(place, int) and 0 <= place < 100):
                raise InputError(
                    f"device_map puts {part!r} on {place!r}; it must be the number of a GPU, cuda:N, mps, cpu or disk"
                )
    if find_spec("accelerate") is None:
        raise InputError("device_map needs the package accelerate: pip install 'completions-lp[large]'")
