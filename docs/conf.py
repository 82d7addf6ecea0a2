"""sphinx-build -W docs build/docs     the site; warnings are errors, and nothing is fetched."""

import ast
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "analysis" / "figures"
FLOORS = ("run", "prompts", "steer", "sample", "score", "report", "plan", "store", "show", "model", "records")
"""Folders in the order in which data flows; the reference follows it."""
sys.path.insert(0, str(ROOT))

project = "completions_lp"
author = "The completions_lp authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "completions_lp"
html_show_copyright = False
html_copy_source = False
add_module_names = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
maximum_signature_line_length = 88


def setup(app: Any) -> None:
    """Let two pages be filled in when they are read."""
    app.connect("source-read", fill_in)


def fill_in(app: Any, name: str, source: list[str]) -> None:
    """The gallery from the figures and their scripts, the reference from the public names."""
    makers = {"gallery": ("<!-- gallery -->", list_figures), "api": ("<!-- reference -->", list_names)}
    if name in makers:
        marker, make = makers[name]
        if marker not in source[0]:
            raise ValueError(f"docs/{name}.md: no {marker}, where the build fills in")
        source[0] = source[0].replace(marker, make())


def list_figures() -> str:
    """A section for each figure: the picture, its caption, and the script that makes it."""
    sections = []
    for path in sorted(path for path in FIGURES.glob("*.png") if not path.stem.startswith("papers_")):
        caption = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        part = [f"## {path.stem}", f"![{path.stem}](../analysis/figures/{path.name})", quote(caption)]
        script = ROOT / "analysis" / f"{path.stem}.py"
        if script.is_file():
            part += [f"`analysis/{script.name}`:", f"```python\n{script.read_text(encoding='utf-8').strip()}\n```"]
        sections.append("\n\n".join(part))
    return "\n\n".join(sections)


def quote(caption: str) -> str:
    """A caption as a quotation, its signs kept from meaning anything in Markdown."""
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in caption)
    return "\n".join(f"> {line}" for line in escaped.splitlines())


def list_names() -> str:
    """A directive for each public name, grouped by the folder that it lives in; then the records."""
    groups: dict[str, list[tuple[str, str]]] = {floor: [] for floor in FLOORS}
    for kind, path in find_names():
        groups.setdefault(path.split(".")[1], []).append((kind, path))
    sections = []
    for floor, entries in groups.items():
        if entries:
            about = ast.get_docstring(ast.parse((ROOT / "completions_lp" / floor / "__init__.py").read_text("utf-8")))
            directives = "\n".join(f".. auto{kind}:: {path}" for kind, path in entries)
            sections.append(f"## {floor}/\n\n{(about or '').strip()}\n\n```{{eval-rst}}\n{directives}\n```")
    return "\n\n".join(sections)


def find_names() -> list[tuple[str, str]]:
    """Class or function, and where it is defined: the public names of the package, and all records."""
    found = []
    for package in ("completions_lp", "completions_lp.records"):
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            ours = getattr(value, "__module__", "").startswith("completions_lp")  # and not another name for a text
            if ours and (inspect.isclass(value) or inspect.isfunction(value)):
                kind = "exception" if inspect.isclass(value) and issubclass(value, Exception) else "class"
                kind = "function" if inspect.isfunction(value) else kind
                found.append((kind, f"{value.__module__}.{value.__qualname__}"))
    return list(dict.fromkeys(found))
