"""Configuration files and overrides -> nested values, as they stand there; what they mean is the configuration's."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from completions_lp.records import InputError, describe_cause, read_text

LOCAL = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".safetensors", ".gguf")
"""Endings that no name on a hub has."""
PATHS = (
    *(("model", "name"), ("prompts", "path"), ("vector", "pairs"), ("vector", "path"), ("controls", "orthogonal_to")),
    *(("rival", "model"), ("off_target", "path"), ("model", "offload_folder"), ("run", "store")),
)
"""Keys whose values may be paths."""
MADE = ("offload_folder", "store")
"""Keys of paths that need not be there, and of no names; a store may have a URL."""
NAMED = (("vector", "path"),)
"""Keys of paths whose own names tell what they are: a hub's cache has links to files whose names are hashes."""
REPEATED = ("rival", "off_target", "further")
"""Sections that may stand several times, each under [[name]]."""
EITHER = ("vector",)
"""Sections that may stand once or several times."""
LARGEST = 2**20
"""Bytes of a configuration file."""


def read_toml(path: Path) -> dict[str, Any]:
    """The sections and keys of a file, its paths made absolute; InputError where it is missing or no TOML."""
    values = _parse_toml(read_text(path, largest=LARGEST), f"{path}")
    for section, key in PATHS:
        given = values.get(section)
        for one in given if isinstance(given, list) else [given]:
            if isinstance(one, dict) and key in one:
                named = (section, key) in NAMED
                certain = named or (key in MADE and "://" not in str(one[key]))
                one[key] = _resolve(one[key], path.parent, certain=certain, follow=not named)
    _check_seeds(values.get("sampling"))
    return values


def _parse_toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{where}: not a TOML file that can be read: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and Python's own limit on the digits of an integer
        raise InputError(f"{where}: not a TOML file: {describe_cause(error)}") from None


def _resolve(given: Any, folder: Path, *, certain: bool = False, follow: bool = True) -> Any:
    """A path, or a list of them, relative to the configuration file; a hub name stays as it is, if it can be one."""
    if isinstance(given, list):
        return [_resolve(item, folder, certain=certain, follow=follow) for item in given]
    if not isinstance(given, str) or "\0" in given:
        return given  # which is told when values are checked
    candidate = os.path.join(folder, os.path.expanduser(given))  # noqa: PTH111, PTH118  pathlib's raise for a strange name
    if not (certain or is_local(given) or os.path.exists(candidate)):  # noqa: PTH110
        return given
    return os.path.realpath(candidate) if follow else os.path.abspath(candidate)  # noqa: PTH100


def is_local(source: str) -> bool:
    """Whether a name can only be a path: no dataset or model of a hub looks like it."""
    return source.startswith((".", "/", "~")) or source.endswith(LOCAL)


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Put what ``section.key=value`` of the command line say into nested values, in place of what stands there.

    Raises:
        InputError: One names no key, or two exclude each other.
    """
    given: dict[str, Any] = {}
    for override in overrides:
        _apply_override(given, override)
    for name, section in given.items():
        values[name] = replace_keys(values.get(name, {}), section)


def replace_keys(section: Any, changes: Any) -> Any:
    """A section with some keys changed; one seed takes the place of several, and several that of one.

    A section that may stand several times is a list, and gives way as a whole; keys of a section that may stand once
    or several times change in all of them.

    Raises:
        InputError: Both are given.
    """
    if not isinstance(changes, Mapping):
        return changes
    _check_seeds(changes)
    if isinstance(section, list):
        return [replace_keys(one, changes) for one in section]
    if not isinstance(section, Mapping):
        return section  # which is told when values are checked
    gone = {"seeds"} if "seed" in changes else {"seed"} if changes.get("seeds") else set()
    return {key: value for key, value in section.items() if key not in gone} | dict(changes)


def _check_seeds(section: Any) -> None:
    """Raise InputError where a [sampling] section has one seed and several."""
    if isinstance(section, Mapping) and "seed" in section and section.get("seeds"):
        raise InputError(
            f"[sampling] seed is {section['seed']!r} and seeds is {section['seeds']!r}; give one of the two: seed for "
            "one seed, seeds for several"
        )


def _apply_override(values: dict[str, Any], override: str) -> None:
    name, found, text = override.partition("=")
    section, dot, key = name.strip().partition(".")
    whole = section in (*REPEATED, *EITHER) and not dot
    if section in REPEATED and dot:
        raise InputError(
            f"--set {override!r}: [[{section}]] may stand several times; give all of them at once, for example --set "
            f"'{section}=[{{name = \"one\", ...}}]'"
        )
    if not (found and section and (whole or key)):
        raise InputError(f"--set {override!r}: write section.key=value, for example --set sampling.n=50")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except RecursionError:
        raise InputError(f"--set {name[:80]}: nested too deeply") from None
    except ValueError:
        parsed = {}
    value = parsed["value"] if parsed.keys() == {"value"} else text.strip()
    if whole:
        values[section] = value
        return
    values.setdefault(section, {})[key] = value
