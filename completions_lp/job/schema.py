"""What the sections and keys of a configuration are called and mean: its defaults, and what is wrong with one."""

import difflib
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

NEEDED = {
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a table, {key = value}",
    "too_short": "a list of at least one",
}
"""What is needed, where pydantic has another word for it."""


def write_defaults(config: BaseModel) -> str:
    """Every section and key with its value and what it means: TOML that reads back as this configuration.

    A section that may stand several times, and is there not once, is a comment whole.
    """
    kind = type(config)
    lines = _comment("Every key with its default, which a key that is left out keeps. Paths are relative to this file.")
    for section, values in config.model_dump().items():
        described = describe_section(kind, section)
        lines += ["", *_comment(described["description"])]
        if isinstance(values, Mapping):
            lines += [f"[{section}]", *_list_keys(described, values, "")]
        else:
            defaults = {key: told.get("default") for key, told in described["properties"].items()}
            lines += [f"# [[{section}]]", *_list_keys(described, defaults, "# ")]
    return "\n".join(lines) + "\n"


def describe_section(kind: type[BaseModel], name: str) -> dict[str, Any]:
    """What the schema says of a section: its description, and those of its keys as ``properties``."""
    schema = kind.model_json_schema()
    told = schema["properties"][name]
    section: dict[str, Any] = schema["$defs"][told.get("items", told)["$ref"].rpartition("/")[2]]
    return section


def explain(errors: Sequence[ErrorDetails], values: Mapping[str, Any], kind: type[BaseModel]) -> str:
    """The first thing that is wrong: what was got, and what is needed."""
    if errors[0]["type"] == "value_error":  # a check of our own
        return str(errors[0]["ctx"]["error"])
    section = str(errors[0]["loc"][0])
    if section not in kind.model_fields:
        return _name_nearest(section, list(kind.model_fields), "section")
    several = "items" in kind.model_json_schema()["properties"][section]
    shown = "vector" if section == "further" else section  # which is where those stand in a file
    name, given = f"[[{shown}]]" if several else f"[{shown}]", values[section]
    found: list[tuple[str, tuple[Any, ...]]] = [(error["type"], error["loc"][1:]) for error in errors]
    words = [error["msg"].removeprefix("Input should be ") for error in errors]
    if several:
        if not found[0][1]:
            return f"{name} is a section that may stand several times, got {given!r}: {words[0]}"
        given = given[found[0][1][0]]
        found = [(what, where[1:]) for what, where in found]
    what, where = found[0]
    if not where:
        return f"{name} must be a section with keys, got {given!r}"
    described = describe_section(kind, section)
    if what in ("extra_forbidden", "unexpected_keyword_argument"):
        return _name_nearest(str(where[0]), list(described["properties"]), f"key of {name}")
    key, needed = str(where[0]), dict[str, str]()  # by alternative, where a key may be of two types
    for (what, place), word in zip(found, words, strict=True):
        if place[:1] == where[:1]:
            inner = place[1:]
            word = NEEDED.get(what, word)
            word = f"a list (each entry {word})" if any(isinstance(part, int) for part in inner) else word
            needed.setdefault(str(inner[0]) if inner and isinstance(inner[0], str) else "", word)
    meaning = " ".join(described["properties"][key]["description"].split())
    return f"{name} {key} is {given[key]!r}; it must be {' or '.join(needed.values())}. {meaning}"


def _list_keys(described: Mapping[str, Any], values: Mapping[str, Any], mark: str) -> list[str]:
    lines = []
    for key, value in values.items():
        lines += _comment(described["properties"][key]["description"])
        lines += [(mark or "# " * (value is None)) + f"{key} = {json.dumps(value, ensure_ascii=False)}"]
    return lines  # TOML has no null: such a key is a comment


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")


def _name_nearest(name: str, known: Sequence[str], what: str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return f"unknown {what}: {name!r}; the nearest is {near[0]!r}. Known: {', '.join(known)}"
