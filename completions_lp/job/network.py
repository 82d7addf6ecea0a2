"""A model that a run uses: what is known of it, and its weights, loaded when a number is to be computed."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from completions_lp.job.resources import ModelSection
from completions_lp.job.sources import stamp_model
from completions_lp.model import Model, load_model, load_tokenizer, pick_device
from completions_lp.work.crew import Crew, CrewHands
from completions_lp.work.hands import Hands, Here
from completions_lp.work.ranks import Together
from completions_lp.work.worker import Recipe

_TOLD = ("weights", "config", "tokenizer", "dtype", "residual", "device")
"""What must be known of a model that is not loaded."""
PLACED = {"device_map", "offload_folder", "tp_size"}
"""What a section says of where weights lie, which is nothing of what they are."""
PRINTED = ("weights", "config", "tokenizer", "dtype", "residual")
"""What tells one network from another, whatever it is called."""


class Network:
    """A model as a section of the configuration asks for it. ``known`` is what a run has recorded of it, if any."""

    def __init__(
        self, section: ModelSection, known: Mapping[str, Any] | None = None, *, lead: "Network | None" = None
    ) -> None:
        self.section = section
        self._known = known or {}
        self._owner: Network | None = None
        self._lead = lead
        """Whose workers have this model, too."""

    def share(self, owner: "Network") -> None:
        """Take model and tokenizer from another one that asks for the same, and never load them twice."""
        self._owner = owner

    @cached_property
    def model(self) -> Model:
        """The model."""
        if self._owner is not None:
            return self._owner.model
        if self.section.tp_size > 1:
            together: Any = self.hands
            return together.model  # type: ignore[no-any-return]
        model = load_model(**self._options)
        if model.is_remote:
            model.server.tell = self.say
        return model

    def say(self, text: str) -> None:
        """Gets what a server says while one waits for it: by default, nobody hears it."""

    @property
    def _options(self) -> dict[str, Any]:
        """What ``load_model`` is told."""
        return self.section.model_dump()

    @property
    def crew(self) -> Crew | None:
        """The workers who do the work; None where this process does it."""
        lead = self._owner or self._lead
        return None if lead is None else lead.crew

    @cached_property
    def hands(self) -> Hands:
        """Who does its work."""
        if self._owner is not None:
            return self._owner.hands
        if self.section.tp_size > 1:
            return Together(self._options)
        crew = self.crew
        if crew is None:
            return Here(lambda: self.model)
        hands, known = CrewHands(crew, Recipe(load_model, self._options)), self._recall()
        if known is not None:
            crew.known[hands.recipe.key] = known
        return hands

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives of the model and these arguments, wherever the model is.

        The weights of one on a server are not here, and what is asked of it may ask again: workers are not needed.
        """
        return function(self.model, *arguments) if self.section.remote else self.hands.call(function, *arguments)

    def join(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives of the model and these arguments in this process, which opens the model if need be.

        Processes that share the model do the same along with it.
        """
        hands = self.hands
        return hands.call(function, *arguments) if isinstance(hands, Together) else function(self.model, *arguments)

    @cached_property
    def network(self) -> Mapping[str, Any]:
        """What ``Model.describe`` says of the model, with ``files``: without loading it, where a run knows these files.

        ``known`` is what that run has recorded.
        """
        if self._owner is not None:
            return self._owner.network
        known = self._recall()
        if known is not None and not self.is_open:
            return known
        described, section = self.ask(_describe), self.section
        files = stamp_model(section.name, described["revision"]) or stamp_model(section.name, section.revision)
        return {**described, "asked": section.model_dump(exclude=PLACED), "files": files}

    def _recall(self) -> Mapping[str, Any] | None:
        """What is known, if it is of these files, asked for in this way; else None."""
        section, known = self.section, self._known
        asked, files = section.model_dump(exclude=PLACED), stamp_model(section.name, section.revision)
        same = files and (known.get("files"), known.get("asked")) == (files, asked)
        same = same and all(isinstance(known.get(name), str) for name in _TOLD)
        kind = "remote" if section.remote else pick_device(section.device).type
        return known if same and known["device"].partition(":")[0] == kind else None

    @property
    def is_open(self) -> bool:
        """Whether the weights are in memory."""
        return "model" in {**vars(self), **vars(vars(self).get("hands", self))} or (
            self._owner is not None and self._owner.is_open
        )

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


def _describe(model: Model) -> dict[str, Any]:
    return model.describe()
