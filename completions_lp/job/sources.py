"""The files that a run reads, and whether they are still what they were, without opening a model."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from completions_lp.checkpoint import Checkpoint, name_base
from completions_lp.job.config import Config
from completions_lp.job.toml import is_local
from completions_lp.records import InputError
from completions_lp.steer.formats.registry import list_parts
from completions_lp.store import hash_file

WEIGHTS = (".safetensors", ".json", ".model", ".txt", ".jinja")
"""Endings of the files of a model folder that can change a number."""
ADAPTER = "adapter_config.json"


def stamp_model(name: str, revision: str | None) -> dict[str, list[int]]:
    """Size and times, in nanoseconds, of every file of a model folder or of the hub's cache; empty where there is none.

    As long as these are the same, so is the model: time stamps of changes (ctime) cannot be set back.
    """
    folder = Path(os.path.expanduser(name))  # noqa: PTH111  which raises for no name, as isdir does not
    if folder.suffix.lower() == ".gguf" and folder.is_file():
        return _stamp([folder])
    if not os.path.isdir(folder):  # noqa: PTH112
        if is_local(name) or name.count("/") > 1:
            return {}
        from huggingface_hub import try_to_load_from_cache

        try:
            cached = try_to_load_from_cache(name, "config.json", revision=revision)
        except ValueError:  # no name that a hub can have
            return {}
        if not isinstance(cached, str):
            return {}
        folder = Path(cached).parent
    found = _stamp(sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS and path.is_file()))
    if ADAPTER not in found:
        return found
    under = _stamp_base(folder)
    return found | under if under else {}


def _stamp_base(folder: Path) -> dict[str, list[int]]:
    """Of an adapter's folder, the files of the model that it changes; empty where they are not known."""
    checkpoint = Checkpoint(str(folder), None, local=True)
    try:
        found = stamp_model(*name_base(checkpoint, checkpoint.read_json(ADAPTER) or {}))
    except InputError:
        return {}
    return {f"base/{file}": stamp for file, stamp in found.items()}


def _stamp(files: Sequence[Path]) -> dict[str, list[int]]:
    found = {path.name: path.stat() for path in files}
    return {file: [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for file, stat in found.items()}


def hash_sources(config: Config) -> dict[str, dict[str, str]]:
    """By stage, sha256 of the local files that it reads, by path; what is on a hub has none."""
    finished = [one.path for one in config.vectors if one.path is not None] + [*config.controls.orthogonal_to]
    parts = [str(part) for path in finished for part in list_parts(Path(path))]
    vector = [*(one.pairs for one in config.vectors if one.path is None), *parts]
    named = {"vector": vector, "sample": [config.prompts.path]}
    if any(rival.asks for rival in config.rival):
        named["score"] = [config.prompts.path]
    return {
        stage: {source: hash_file(Path(source)) for source in sources if os.path.isfile(source)}  # noqa: PTH113
        for stage, sources in named.items()
    }


def list_replaced(before: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """Files that were read and are others now, in words."""
    return [f"{source} has been changed" for source, then in before.items() if now.get(source) != then]
