"""The part of this package that goes to a model server: the sources of a module and of all that it imports of ours."""

import ast
import hashlib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from completions_lp.model import landing

PACKAGE = __name__.partition(".")[0]
THERE = frozenset({"numpy", "torch", "nnsight", "transformers", "jaxtyping"})
"""What such a module may import beside the standard library and ours: it is there, or its absence does no harm."""


@dataclass(frozen=True)
class Parcel:
    """Sources by module, under a package name that no other version has, and the function that is called."""

    landing: str
    texts: Mapping[str, str]
    function: str


@cache
def pack(function: str) -> Parcel:
    """What it takes to call ``module:function`` elsewhere.

    Raises:
        ImportError: A module of ours that would have to go imports what is not there.
    """
    module, name = function.split(":")
    texts: dict[str, str] = {}
    waiting = [module]
    while waiting:
        one = waiting.pop()
        if one not in texts:
            texts[one] = _read_source(one)
            waiting += _list_imports(one, texts[one])
    digest = hashlib.sha256("".join(text for _, text in sorted(texts.items())).encode()).hexdigest()[:12]
    own = f"{PACKAGE}_{digest}"

    def rename(text: str) -> str:
        return text.replace(PACKAGE, own)

    renamed = {rename(one): rename(text) for one, text in texts.items()}
    return Parcel(inspect.getsource(landing), MappingProxyType(renamed), f"{rename(module)}:{name}")


def _read_source(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"{module} has no source to be sent")
    return Path(spec.origin).read_text(encoding="utf-8")


def _list_imports(module: str, text: str) -> list[str]:
    """Modules of ours that one imports; the package of a name is meant where it is no module itself."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else names
        for name in names:
            root = name.partition(".")[0]
            if root == PACKAGE:
                found.append(name)
            elif root not in THERE and root not in sys.stdlib_module_names:
                raise ImportError(f"{module} imports {name}, which a model server need not have")
    return found
