"""What runs where the network is, before anything else: it makes modules of source texts, and calls a function of one.

A model server has torch, numpy, transformers and nnsight, and neither this package nor what else it stands on. This
file goes there as text, so it imports the standard library alone. What it has loaded is gone again when it is done: the
next request of anybody finds the server as it was.
"""

import importlib
import linecache
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any


class Texts(MetaPathFinder, Loader):
    """Modules by name, each with its source; packages above them are empty where they have none of their own."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        parts = [name.split(".") for name in texts]
        self.packages = {".".join(names[:k]) for names in parts for k in range(1, len(names))}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """See ``importlib``."""
        if fullname not in self.texts and fullname not in self.packages:
            return None
        return spec_from_loader(fullname, self, is_package=fullname in self.packages)

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's source, which nnsight then reads traces from: it has to be where tracebacks look it up."""
        text = self.texts.get(module.__name__, "")
        name = f"<{module.__name__}>"
        linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
        exec(compile(text, name, "exec"), module.__dict__)  # noqa: S102  it is the text of this package


class Shapeless(type):
    """Stands for every kind of array where jaxtyping is not there to say which."""

    def __getitem__(cls, _: object) -> type:
        return cls


class _Array(metaclass=Shapeless):
    pass


@contextmanager
def _stand_in_for_jaxtyping() -> Iterator[None]:
    """Where there is no jaxtyping, one that knows no shapes."""
    try:
        importlib.import_module("jaxtyping")
    except ImportError:
        stand_in = ModuleType("jaxtyping")
        stand_in.__dict__.update(dict.fromkeys(("Bool", "Float", "Int", "Shaped"), _Array))
        sys.modules["jaxtyping"] = stand_in
        try:
            yield
        finally:
            del sys.modules["jaxtyping"]
    else:
        yield


def call(texts: Mapping[str, str], function: str, *arguments: Any) -> Any:
    """What ``module:function`` gives, made of these texts, which is then taken out of Python again."""
    finder, (module, name) = Texts(texts), function.split(":")
    sys.meta_path.insert(0, finder)
    try:
        with _stand_in_for_jaxtyping():
            return getattr(importlib.import_module(module), name)(*arguments)
    finally:
        sys.meta_path.remove(finder)
        for loaded in [*finder.texts, *finder.packages]:
            sys.modules.pop(loaded, None)
            linecache.cache.pop(f"<{loaded}>", None)
