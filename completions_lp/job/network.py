"""A model that a run uses: what is known of it, and its weights, loaded when a number is to be computed."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from completions_lp.job.config import ModelSection
from completions_lp.job.sources import stamp_model
from completions_lp.model import Model, load_model, load_tokenizer, pick_device
from completions_lp.work.hands import Hands, Here

_TOLD = ("weights", "config", "tokenizer", "dtype", "residual", "device")
"""What must be known of a model that is not loaded."""
PRINTED = ("weights", "config", "tokenizer", "dtype", "residual")
"""What tells one network from another, whatever it is called."""


class Network:
    """A model as a section of the configuration asks for it. ``known`` is what a run has recorded of it, if any."""

    def __init__(self, section: ModelSection, known: Mapping[str, Any] | None = None) -> None:
        self.section = section
        self._known = known or {}
        self._owner: Network | None = None

    def share(self, owner: "Network") -> None:
        """Take model and tokenizer from another one that asks for the same, and never load them twice."""
        self._owner = owner

    @cached_property
    def model(self) -> Model:
        """The model."""
        if self._owner is not None:
            return self._owner.model
        section = self.section
        return load_model(
            section.name,
            revision=section.revision,
            dtype=section.dtype,
            device=section.device,
            residual=section.residual,
            remote=section.remote,
        )

    @cached_property
    def hands(self) -> Hands:
        """Who does its work."""
        return Here(lambda: self.model) if self._owner is None else self._owner.hands

    @cached_property
    def network(self) -> Mapping[str, Any]:
        """What ``Model.describe`` says of the model, with ``files``: without loading it, where a run knows these files.

        ``known`` is what that run has recorded.
        """
        if self._owner is not None:
            return self._owner.network
        section = self.section
        asked, files = section.model_dump(), stamp_model(section.name, section.revision)
        same = files and (self._known.get("files"), self._known.get("asked")) == (files, asked)
        same = same and all(isinstance(self._known.get(name), str) for name in _TOLD)
        kind = "remote" if section.remote else pick_device(section.device).type
        if same and not self.is_open and self._known["device"].partition(":")[0] == kind:
            return self._known
        described = self.model.describe()
        return {**described, "asked": asked, "files": stamp_model(section.name, self.model.revision) or files}

    @property
    def is_open(self) -> bool:
        """Whether the weights are in memory."""
        return "model" in self.__dict__ or (self._owner is not None and self._owner.is_open)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, which needs no weights."""
        if self._owner is not None:
            return self._owner.tokenizer
        section = self.section
        return self.model.tokenizer if self.is_open else load_tokenizer(section.name, revision=section.revision)

    def describe_network(self) -> dict[str, str]:
        """What its numbers depend on, as hashes and names."""
        network = {name: str(self.network[name]) for name in PRINTED}
        return {**network, "device": str(self.network["device"]).partition(":")[0]}
