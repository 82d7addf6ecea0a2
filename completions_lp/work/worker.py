"""A worker: a process somewhere with models of its own, which it opens once and keeps, and what it is asked for."""

import os
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from completions_lp.model import Model, Usage
from completions_lp.records import InputError
from completions_lp.records.base import Notice
from completions_lp.store.units import hash_value
from completions_lp.work.hands import try_task
from completions_lp.work.machine import list_versions
from completions_lp.work.tasks import Task


@dataclass(frozen=True)
class Recipe:
    """How a model is opened, wherever its files are at the same place."""

    open: Callable[..., Model]
    options: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Tells one model from another."""
        return hash_value(dict(self.options))

    def settle(self, described: Mapping[str, Any]) -> "Recipe":
        """The same in the precision that was settled on, so that every worker has it and none measures it anew."""
        left_open = self.options["dtype"] == "auto" and not described.get("quantization")
        return replace(self, options={**self.options, "dtype": described["dtype"]}) if left_open else self

    def make(self) -> Model:
        """The model."""
        return self.open(**self.options)


@dataclass(frozen=True, eq=False)
class Answer:
    """What comes back from a worker."""

    result: Any = None
    error: InputError | None = None
    """What is wrong with the input, in place of a result."""
    notices: Sequence[str] = ()
    """What the user should know."""
    node: str = field(default_factory=platform.node)
    usage: Usage = field(default_factory=Usage)
    """What went through the network."""


class Worker:
    """What runs in a process of its own. Nothing in it knows who asks, or what is done with the answers."""

    def __init__(self, folder: str, threads: int) -> None:
        if Path(folder).is_dir():  # of whoever asks: names of local models may be relative to it
            os.chdir(folder)
        import torch

        torch.set_num_threads(threads)
        self._models: dict[str, Model] = {}

    def open(self, key: str, recipe: Recipe) -> Answer:
        """Open a model; what it is, where, and under which versions of the libraries."""

        def work() -> Any:
            if key not in self._models:
                self._models[key] = recipe.make()
            return {"versions": list_versions(), "model": self._models[key].describe()}

        return _answer(None, work)

    def do(self, key: str, task: Task, vectors: Any) -> Answer:
        """Do a unit; its vectors come by themselves, once for many units."""
        model = self._models[key]
        return _answer(model, lambda: try_task(model, replace(task, vectors=vectors)))

    def call(self, key: str, function: Callable[..., Any], arguments: Sequence[Any]) -> Answer:
        """What a function gives of the model."""
        model = self._models[key]
        return _answer(model, lambda: function(model, *arguments))


def _answer(model: Model | None, work: Callable[[], Any]) -> Answer:
    before = Usage() if model is None else replace(model.usage)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", Notice)
        try:
            found, error = work(), None
        except InputError as wrong:
            found, error = None, wrong
    notices = [str(one.message) for one in told if issubclass(one.category, Notice)]
    usage = Usage()
    if model is not None:
        usage = model.usage.since(before)
    return Answer(found, error, notices, usage=usage)
