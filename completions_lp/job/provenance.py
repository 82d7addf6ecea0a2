"""What each stage followed and consumed, by which its tables are valid or not; nothing else decides.

A stage followed its part of the configuration, and consumed what it read: the network, prompts as asked, pairs,
vectors, completions, each as a hash. Its tables are valid while both are what they were and no table was changed.
"""

import json
import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from completions_lp import store
from completions_lp.records import InputError, Labelling, Sampling

_MODEL = ("model.name", "model.revision", "model.dtype", "model.residual")
_DRAWN = tuple(f"sampling.{item.name}" for item in fields(Sampling) if item.name != "top_up")
_ASKED = tuple(f"prompts.{name}" for name in ("template", "system", "few_shot", "prefix"))
_LABEL = tuple(f"label.{item.name}" for item in fields(Labelling))
FOLLOWED: Mapping[str, tuple[str, ...]] = {
    "vector": (*_MODEL, *_ASKED, "vector", "further", "controls", "sampling.seed"),
    "sample": (*_MODEL, "prompts", *_DRAWN, *_LABEL),
    "score": (*_MODEL, "scoring", "sampling.top_up", "label.target", "rival"),
    "report": ("off_target",),
}
"""By stage, in their order: the sections and keys of the configuration on which its numbers depend."""
_ONCE = {"operation": "add", "unit": "vector", "dose_prompts": 8}
_ADDED: Mapping[str, Mapping[str, Any]] = {
    "scoring": {**_ONCE, "through": "end", "readings": "auto", "cue": ""},
    "prompts": {"subset": None, "system": "", "few_shot": [], "prefix": "", "fields": {}, "answers": [], "swap": False},
    "vector": {
        **{"subset": None, "split": "train", "revision": None, "fields": {}, "name": None},
        **{"format": "auto", "convention": "", "layer": None, "feature": None, "position": None},
        "method": "mean_difference",
    },
}
"""By section, keys that runs of earlier versions do not name, and what these have followed."""
_SINCE: Mapping[str, Mapping[str, Any]] = {
    "vector": {"further": []},
    "sample": {"sampling.seeds": []},
    "score": {"rival": []},
    "report": {"off_target": []},
}
"""By stage, keys and sections that runs of earlier versions do not know, and what these have followed."""
REMADE: Mapping[str, str] = {
    "figures/": "completions-lp figures {folder}",
    "validation.parquet": "completions-lp plan {folder} --validate",
}
"""What commands after the stages write anew, whatever a stage has made of it, and by which command."""
NEEDS: Mapping[str, tuple[str, ...]] = {"vector": (), "sample": (), "score": ("vector", "sample"), "report": ("score",)}
"""By stage, those whose tables it reads."""
CONSUMED = {
    "weights": "the weights of the model are not those",
    "config": "the architecture of the model is not that",
    "tokenizer": "the tokenizer is not that",
    "dtype": "the precision is not that",
    "residual": "the precision of the residual stream is not that",
    "device": "the kind of device is not that",
    "prompts": "the prompts are not those",
    "function": "the source of the label function is not that",
    "pairs": "the contrast pairs are not those",
    "vector": "the vector file is not that",
    "further": "what the further vectors are made of is not that",
    "confounds": "the vectors of [controls] orthogonal_to are not those",
    "vectors": "the vectors are not those",
    "rivals": "the prompts or the models of the rivals are not those",
    "completions": "the completions are not those",
    "kept": "the tokens to keep are not those",
    "off_target": "what the off-target sets have is not that",
}
"""What is consumed, in words."""


def describe_stage(
    stage: str, info: Mapping[str, Any], folder: Path, *, consumed: Mapping[str, str], units: Collection[str] = ()
) -> dict[str, Any]:
    """What ``run.json`` remembers of a stage: what it followed, consumed and wrote, and the units that are in it."""
    config = info["config"]
    tables = [name for name in store.list_stage(info, stage) if not name.startswith((*REMADE, "report.html"))]
    hashes = {name: store.hash_file(folder / name) for name in tables if (folder / name).is_file()}
    # A report that is saved knows but a part of its configuration.
    followed = {name: _look_up(config, name) for name in FOLLOWED[stage] if name.partition(".")[0] in config}
    return {"settings": followed, "consumed": dict(consumed), "files": hashes, "units": sorted(units)}


def find_reasons(
    stage: str,
    config: Mapping[str, Any],
    made: Mapping[str, Any],
    folder: Path,
    consumed: Mapping[str, str] | None = None,
) -> list[str]:
    """Why the tables of a stage are not valid, in words; none where they are. ``consumed`` counts where it is known."""
    if stage not in made:
        return ["it has not been made"]
    reasons = [
        f"[{key.replace('.', '] ')} is {now!r}, it followed {then!r}"
        for key, now, then in _compare(stage, config, made)
    ]
    before = made[stage].get("consumed", {})
    if consumed is not None:
        names = {*before, *consumed}
        reasons += [
            f"{words} that it used"
            for name, words in CONSUMED.items()
            if name in names and before.get(name) != consumed.get(name)
        ]
    failed = len(made[stage].get("failed", ()))
    reasons += [f"{failed} of its prompts failed, which are tried again"] * (failed > 0)
    return reasons + list_changed(stage, made, folder)


def list_changed(stage: str, made: Mapping[str, Any], folder: Path) -> list[str]:
    """Files of a stage that are not as it wrote them, in words."""
    changed = []
    for name, then in made.get(stage, {}).get("files", {}).items():
        path = folder / name
        if not os.path.isfile(path):  # noqa: PTH113  which raises for no name
            changed.append(f"{name} is missing")
        elif store.hash_file(path) != then:
            changed.append(f"{name} has been changed")
    return changed


def check_earlier(stage: str, config: Mapping[str, Any], made: Mapping[str, Any], folder: Path) -> None:
    """Raise InputError if an earlier stage, of ``made``, has followed other settings, naming it and what to do.

    What this stage follows itself, and the earlier one that it does not read followed too, it may change: see
    ``list_outdated``.
    """
    names = list(FOLLOWED)
    for earlier in names[: names.index(stage)]:
        for name, now, then in _compare(earlier, config, made):
            if earlier not in NEEDS[stage] and _follows(stage, name):
                continue
            section, _, key = name.partition(".")
            value = json.dumps(now, ensure_ascii=False)
            raise InputError(
                f"[{section}] {key} is {now!r}, but the {earlier} stage of {folder} followed {then!r}; run "
                f"`completions-lp {earlier} {folder} --set '{name}={value}'` first, or leave it as it was"
            )


def list_outdated(stage: str, config: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, str]:
    """Earlier stages that this one does not read and that followed other settings than it does, and which, in words.

    Their tables stay, and are stale: no stage that reads them begins before they are made again.
    """
    names = list(FOLLOWED)
    found: dict[str, str] = {}
    for earlier in names[: names.index(stage)]:
        for name, _, then in [] if earlier in NEEDS[stage] else _compare(earlier, config, made):
            found.setdefault(earlier, f"[{name.replace('.', '] ')} {then!r}")
    return found


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
        for what in ("weights", "config", "tokenizer"):
            then = made.get(earlier, {}).get("consumed", {}).get(what)
            if then is not None and then != model[what]:
                raise InputError(
                    f"the {what} of {model['name']} are not those that the {earlier} stage of {folder} was made with "
                    f"(sha256 {str(model[what])[:12]}, then {then[:12]}): run `completions-lp {earlier} {folder}` "
                    "again, or restore the model"
                )


def _compare(stage: str, config: Mapping[str, Any], made: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Settings that a stage has followed and that are other ones now: key, now, then."""
    found = []
    since = {name: then for name, then in _SINCE.get(stage, {}).items() if name.partition(".")[0] in config}
    settings = {**since, **made[stage].get("settings", {})} if stage in made else {}
    for name, then in settings.items():
        now = _look_up(config, name)
        added, inner = _ADDED.get(name, {}), {}
        if isinstance(then, dict) and isinstance(now, Mapping):
            now, inner = {**added, **now}, {**added, **then}
        pairs = [(f"{name}.{key}", now.get(key), value) for key, value in inner.items()] or [(name, now, then)]
        found += [pair for pair in pairs if json.dumps(pair[1]) != json.dumps(pair[2])]
    return found


def _follows(stage: str, name: str) -> bool:
    """Whether a setting, ``section.key``, or its whole section, is one that a stage follows."""
    return any(name == own or name.startswith(f"{own}.") for own in FOLLOWED[stage])


def _look_up(config: Mapping[str, Any], name: str) -> Any:
    """A section or a key of the configuration; None for one that it has not."""
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def tell_removed(stage: str, dropped: Sequence[str], again: Collection[str], folder: Path) -> str:
    """What a stage has removed and is not making ``again`` just now, and how to have it again; empty for nothing."""
    place = shlex.quote(str(folder))
    asked = {name: f"`{how.format(folder=place)}`" for name, how in REMADE.items() if _holds(dropped, name)}
    files = [name for name in dropped if name not in again and not name.startswith((*REMADE, "vectors/"))]
    if not files and not asked:
        return ""
    how = f" ({join_names([*asked.values()])} {'makes' if len(asked) == 1 else 'make'} them again)" if asked else ""
    return f"{stage}: {join_names([*files, *asked])} of an earlier {stage} stage no longer hold; removed{how}"


def _holds(names: Sequence[str], start: str) -> bool:
    return any(name.startswith(start) for name in names)


def join_names(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
