"""Weights stored in fewer bits than they compute in: how a configuration says so, and what reading them takes."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from completions_lp.checkpoint.files import Checkpoint

PACKAGES = {
    "bitsandbytes": "bitsandbytes",
    "torchao": "torchao",
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "compressed-tensors": "compressed_tensors",
    "hqq": "hqq",
    "quanto": "optimum.quanto",
}
"""By ``quant_method``, the package that transformers asks for; none for what it reads itself."""


def name_quantization(settings: Mapping[str, Any]) -> str:
    """How a configuration says that weights are stored, as ``"bitsandbytes 4-bit nf4"``; "" where they are plain."""
    told = settings.get("quantization_config")
    if not isinstance(told, Mapping):
        return ""
    method = str(told.get("quant_method") or "")
    bits = told.get("bits") or (4 if told.get("load_in_4bit") else 8 if told.get("load_in_8bit") else None)
    kind = told.get("quant_type") or (told.get("bnb_4bit_quant_type") if bits == 4 else None) or told.get("fmt")
    if isinstance(kind, Mapping):  # torchao names a class and its settings
        first: Any = next(iter(kind.values()), {})
        kind = first.get("_type") if isinstance(first, Mapping) else None
    parts = [method.rsplit(".", 1)[-1], f"{bits}-bit" if bits else "", str(kind) if isinstance(kind, str) else ""]
    return " ".join(part for part in parts if part)[:80] or "quantised"


def check_packages(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Raise InputError where weights are quantised in a way whose package is not installed."""
    named = name_quantization(settings)
    package = PACKAGES.get(named.split(" ")[0]) if named else None
    if package is not None and find_spec(package.split(".")[0]) is None:
        raise checkpoint.error(
            f"its weights are quantised ({named}), and reading them takes {package}, which is not installed: "
            f"pip install {package.split('.')[0].replace('_', '-')}, or take a checkpoint that is not quantised"
        )
