"""The page's scripts, ES modules that name what they need of each other -> one script that needs nothing.

Each module keeps a scope of its own; their order follows from their imports. The forms that are understood are the few
that the page uses: ``import { a, b } from "./x.js";``, and ``export`` before a function or a constant. State that
changes lives inside an exported constant, so that an import is a value and never goes stale.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.M)
_EXPORT = re.compile(r"^export (?=(?:async function|function|const) (\w+))", re.M)
_OTHER = re.compile(r"^(?:import|export)\b.*", re.M)


@dataclass(frozen=True)
class Module:
    """One script: what it needs, what it gives, and its code without the words that say so."""

    imports: Mapping[str, tuple[str, ...]]
    """Names by the module that they come from."""
    exports: tuple[str, ...]
    code: str


def parse_module(source: str, name: str) -> Module:
    """What a script imports and exports; raises ValueError for a form that is not understood."""
    imports: dict[str, tuple[str, ...]] = {}
    for names, other in _IMPORT.findall(source):
        imports[other] = (*imports.get(other, ()), *(word.strip() for word in names.split(",") if word.strip()))
    code = _EXPORT.sub("", _IMPORT.sub("", source))
    unknown = _OTHER.search(code)
    if unknown:
        known = 'write import { a } from "./x.js"; or export before a function or const'
        raise ValueError(f"{name}.js: {unknown[0]!r} is not understood: {known}")
    return Module(imports, tuple(_EXPORT.findall(source)), code.strip())


def bundle_modules(sources: Mapping[str, str], entry: str) -> str:
    """One script with the module ``entry`` and all that it needs, each after what it imports.

    Raises:
        ValueError: A module or an export is missing, modules import each other in a circle, or one is never imported.
    """
    modules = {name: parse_module(source, name) for name, source in sources.items()}
    order = _order_modules(modules, entry)
    unused = sorted(set(modules) - set(order))
    if unused:
        raise ValueError(f"{', '.join(f'{name}.js' for name in unused)}: imported by no module")
    parts = [_wrap_module(name, modules[name]) for name in order]
    return '\n(() => {\n"use strict";\n' + "\n\n".join(parts) + "\n})();\n"


def _order_modules(modules: Mapping[str, Module], entry: str) -> list[str]:
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ValueError(f"modules import each other in a circle: {' -> '.join([*path, name])}")
        if name in order:
            return
        for other, names in modules[name].imports.items():
            if other not in modules:
                raise ValueError(f"{name}.js imports from {other}.js, which is not there")
            missing = set(names) - set(modules[other].exports)
            if missing:
                raise ValueError(f"{name}.js imports {', '.join(sorted(missing))}, which {other}.js does not export")
            visit(other, (*path, name))
        order.append(name)

    visit(entry, ())
    return order


def _wrap_module(name: str, module: Module) -> str:
    """A module as a function that is called at once and gives what it exports."""
    needs = [f"const {{ {', '.join(names)} }} = module_{other};" for other, names in module.imports.items()]
    gives = f"return {{ {', '.join(module.exports)} }};"
    return "\n".join([f"const module_{name} = (() => {{", *needs, module.code, gives, "})();"])
