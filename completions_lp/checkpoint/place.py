"""Where and in which precision a network can run at all, by the names of both."""

import re

from completions_lp.records import InputError

PRECISIONS = ("float64", "float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda", "mps")
NUMBER = re.compile(r"0|[1-9][0-9]?", re.ASCII)
"""Which of several devices of a kind."""


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
