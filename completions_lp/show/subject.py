"""What a run is about, as readers are told: its model and its behaviour."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

NAMELESS = {"model", "models", "checkpoint", "final", "hf", "weights"}
"""Folders that do not say which model is in them."""
PROMPTS = "prompts"
"""What a file is called that does not say which prompts are in it; and the end of a name that does."""


def name_model(info: Mapping[str, Any]) -> str:
    """The last part of its name; the last two of a folder that is called what any model's could be; "" if not known."""
    path = PurePath(_find(info, "model", "name"))
    nameless = path.name.lower() in NAMELESS and path.parent.name
    return f"{path.parent.name}/{path.name}" if nameless else path.name


def name_behaviour(info: Mapping[str, Any]) -> str:
    """What the prompts are called after: ``caution`` of ``caution.jsonl`` and of ``caution/prompts.jsonl``.

    An end such as ``_prompts`` is left out; "" if not known.
    """
    path = PurePath(_find(info, "prompts", "path"))
    if path.stem.lower() == PROMPTS:
        return path.parent.name or path.stem
    return path.stem.removesuffix(f"_{PROMPTS}").removesuffix(f"-{PROMPTS}")


def _find(info: Mapping[str, Any], section: str, key: str) -> str:
    return str((info.get("config", {}).get(section) or {}).get(key) or "")
