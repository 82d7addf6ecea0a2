"""A LoRA adapter: the model that it changes, and what is wrong with it, found without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from completions_lp.checkpoint.files import Checkpoint, count_tensors, locate

SETTINGS, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
KIND = "LORA"


@dataclass(frozen=True)
class Adapter:
    """An adapter and the model under it."""

    checkpoint: Checkpoint
    base: Checkpoint
    settings: dict[str, Any]

    weights: str = WEIGHTS

    @property
    def folder(self) -> Path:
        """Where its files are."""
        path = self.checkpoint.find(WEIGHTS)
        return Path(self.checkpoint.name) if path is None else path.parent


def read_adapter(checkpoint: Checkpoint) -> Adapter | None:
    """The adapter that a checkpoint is; None where it is a model of its own.

    Its model is named by ``base_model_name_or_path``: a hub name or a folder.

    Raises:
        InputError: It is of another kind than LoRA, its weights are missing, pickled or damaged, peft is not installed,
            or its model is named nowhere or cannot be found.
    """
    settings = checkpoint.read_json(SETTINGS)
    if settings is None:
        return None
    if settings.get("peft_type") != KIND:
        raise checkpoint.error(
            f"an adapter of kind {str(settings.get('peft_type'))[:40]!r} ({SETTINGS}): only {KIND} is read; merge it "
            "into its model, and save that whole"
        )
    if settings.get("alora_invocation_tokens"):
        raise checkpoint.error("an activated LoRA acts on some tokens alone, and cannot be merged into its model")
    if checkpoint.find(WEIGHTS) is None:
        told = (
            f"; {PICKLED} is a pickle, which can run code: save it as safetensors" if checkpoint.find(PICKLED) else ""
        )
        raise checkpoint.error(f"an adapter without {WEIGHTS}{told}")
    if checkpoint.local:
        count_tensors(checkpoint, WEIGHTS)
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base.strip():
        raise checkpoint.error(f"{SETTINGS} names no model: set base_model_name_or_path to a folder or a hub name")
    if find_spec("peft") is None:
        raise checkpoint.error("a LoRA adapter takes peft, not installed here: pip install 'completions-lp[peft]'")
    found = locate(*name_base(checkpoint, settings))
    if found.find(SETTINGS) is not None:
        raise checkpoint.error(f"its model {base!r} is an adapter itself: merge that one first, and save it whole")
    return Adapter(checkpoint, found, settings)


def name_base(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> tuple[str, str | None]:
    """Name and revision of an adapter's model; a folder may be given from the adapter's own, else from where we are."""
    base, revision = str(settings.get("base_model_name_or_path")), settings.get("revision")
    inside = Path(checkpoint.name) / base
    if checkpoint.local and inside.is_dir():
        return str(inside), None
    return base, None if Path(base).is_dir() else revision


def find_tokenizer(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint whose tokenizer is meant: an adapter's own, if it has one, else that of its model."""
    adapter = read_adapter(checkpoint)
    if adapter is None or checkpoint.find("tokenizer_config.json") is not None:
        return checkpoint
    return adapter.base


def find_model(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint that holds the model: an adapter's base, else itself."""
    adapter = read_adapter(checkpoint)
    return checkpoint if adapter is None else adapter.base
