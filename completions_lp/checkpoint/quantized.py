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
    "compressed-tensors": "compressed-tensors",
    "hqq": "hqq",
    "quanto": "optimum-quanto",
}
"""By ``quant_method``, the package that transformers asks for; none for what it reads itself."""

MODULES = {"optimum-quanto": "optimum", "compressed-tensors": "compressed_tensors"}
"""What is imported, where a package is called otherwise."""


def name_quantization(settings: Mapping[str, Any]) -> str:
    """How a configuration says that weights are stored, as ``"bitsandbytes 4-bit nf4"``; "" where they are plain."""
    told = settings.get("quantization_config")
    if not isinstance(told, Mapping):
        return ""
    method = told.get("quant_method") or ""
    method = str(getattr(method, "value", method))  # transformers has members of an enumeration for names
    bits = told.get("bits") or (4 if told.get("load_in_4bit") else 8 if told.get("load_in_8bit") else None)
    kind = told.get("quant_type") or (told.get("bnb_4bit_quant_type") if bits == 4 else None) or told.get("fmt")
    if isinstance(kind, Mapping):  # torchao names a class and its settings
        first: Any = next(iter(kind.values()), {})
        kind = first.get("_type") if isinstance(first, Mapping) else None
    parts = [method, f"{bits}-bit" if bits else "", str(kind) if isinstance(kind, str) else ""]
    return " ".join(part for part in parts if part)[:80] or "quantised"


def check_packages(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Raise InputError where weights are quantised in a way whose packages are not installed."""
    named = name_quantization(settings)
    if not named:
        return
    package = PACKAGES.get(named.split(" ")[0])
    needed = [name for name in (package, "accelerate") if name is not None]
    missing = [name for name in needed if find_spec(MODULES.get(name, name)) is None]
    if missing:
        raise checkpoint.error(
            f"its weights are quantised ({named}), and reading them takes {' and '.join(missing)}, not installed here: "
            f"pip install {' '.join(missing)}, or take a checkpoint that is not quantised"
        )
