"""What each stage followed: settings and weights by which it made its tables, and what a later stage may change.

A stage may differ from what later stages followed, whose tables then go, but not from what an earlier one followed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from completions_lp.records import InputError, Sampling

_MODEL = ("model.name", "model.revision", "model.dtype")
_DRAWN = tuple(f"sampling.{item.name}" for item in fields(Sampling) if item.name != "top_up")
FOLLOWED: Mapping[str, tuple[str, ...]] = {
    "vector": (*_MODEL, "prompts.template", "vector", "controls", "sampling.seed"),
    "sample": (*_MODEL, "prompts", *_DRAWN, "label.rule", "label.within", "label.pattern"),
    "score": (*_MODEL, "scoring", "sampling.top_up", "label.target"),
    "report": (),
}
"""By stage, in their order: the sections and keys of the configuration on which its numbers depend."""
NEEDS: Mapping[str, tuple[str, ...]] = {"vector": (), "sample": (), "score": ("vector", "sample"), "report": ("score",)}
"""By stage, those whose tables it reads."""


def describe_stage(stage: str, config: Mapping[str, Any], model: Mapping[str, Any] | None) -> dict[str, Any]:
    """What ``run.json`` remembers of a stage: its part of the configuration, and of the model, if it needed one."""
    followed = {name: _look_up(config, name) for name in FOLLOWED[stage]}
    hashes = {} if model is None else {name: model[name] for name in ("weights", "tokenizer")}
    return {"settings": followed, **hashes}


def check_earlier(stage: str, config: Mapping[str, Any], made: Mapping[str, Any], folder: Path) -> None:
    """Raise InputError if an earlier stage, of ``made``, has followed other settings, naming it and what to do."""
    names = list(FOLLOWED)
    for earlier in names[: names.index(stage)]:
        for name, now, then in _compare(earlier, config, made):
            section, _, key = name.partition(".")
            value = json.dumps(now, ensure_ascii=False)
            raise InputError(
                f"[{section}] {key} is {now!r}, but the {earlier} stage of {folder} followed {then!r}; run "
                f"`completions-lp {earlier} {folder} --set '{name}={value}'` first, or leave it as it was"
            )


def list_stale(stage: str, config: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    """Later stages whose tables a new run of this one makes stale: they read its tables, or followed other settings."""
    names = list(FOLLOWED)
    stale = {stage}
    for later in names[names.index(stage) + 1 :]:
        if stale & {*NEEDS[later]} or any(True for _ in _compare(later, config, made)):
            stale.add(later)
    return [name for name in names if name in stale and name != stage]


def check_model(stage: str, model: Mapping[str, Any], made: Mapping[str, Any], folder: Path) -> None:
    """Raise InputError if a stage whose tables are read was made with other weights, or another tokenizer."""
    for earlier in NEEDS[stage]:
        for what in ("weights", "tokenizer"):
            then = made.get(earlier, {}).get(what)
            if then is not None and then != model[what]:
                raise InputError(
                    f"the {what} of {model['name']} are not those that the {earlier} stage of {folder} was made with "
                    f"(sha256 {model[what][:12]}, then {then[:12]}): run `completions-lp {earlier} {folder}` again, "
                    "or restore the model"
                )


def _compare(stage: str, config: Mapping[str, Any], made: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Settings that a stage has followed and that are other ones now: key, now, then."""
    found = []
    for name, then in made.get(stage, {}).get("settings", {}).items():
        now = _look_up(config, name)
        inner = then if isinstance(then, dict) else {}
        pairs = [(f"{name}.{key}", now.get(key), value) for key, value in inner.items()] or [(name, now, then)]
        found += [pair for pair in pairs if json.dumps(pair[1]) != json.dumps(pair[2])]
    return found


def _look_up(config: Mapping[str, Any], name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = value[part]
    return value


def join_names(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
