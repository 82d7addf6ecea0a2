"""What a run directory holds, what is stale and why, what a run would do; and which units no table needs any more."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from completions_lp import store
from completions_lp.job.config import Config, make_config
from completions_lp.job.nested import find_lacking
from completions_lp.job.off_target import FOLDER
from completions_lp.job.provenance import FOLLOWED, NEEDS, find_reasons
from completions_lp.job.sources import hash_sources, list_replaced, stamp_model
from completions_lp.records import InputError

_KINDS = {"sample": ("draws",), "score": ("choices", "scores", "draws")}
"""By stage, the kinds of its units."""


@dataclass(frozen=True)
class StageStatus:
    """A stage of a run directory."""

    stage: str
    made: bool
    reasons: tuple[str, ...]
    """Why its tables are not valid; or, where they are, what of its sources is not what it was."""
    units: int
    """Finished units of its kinds that are in no table yet."""


def find_status(folder: Path, asked: Config | None = None) -> list[StageStatus]:
    """The stages of a run directory in their order, as a run would find them that is ``asked`` for, by default its own.

    Needs no model: files are told by their hashes and time stamps.
    """
    info = store.read_info(folder)
    asked = asked or make_config(info["config"])
    config, made = asked.model_dump(), info["stages"]
    sources, replaced = hash_sources(asked), _is_replaced(info)
    waiting = _list_unused(folder, info)
    found: list[StageStatus] = []
    todo: set[str] = set()
    for stage in FOLLOWED:
        reasons = find_reasons(stage, config, made, folder)
        valid = not reasons and todo.isdisjoint(NEEDS[stage])
        if valid:
            reasons = list_replaced(made[stage].get("sources", {}), sources.get(stage, {}))
            reasons += ["the files of the model have been changed"] * (replaced and stage != "report")
        elif not reasons:
            reasons = ["an earlier stage is to be made first"]
        todo |= set() if valid else {stage}
        kinds = _KINDS.get(stage, ())
        units = sum(name.split("/")[1] in kinds for name in waiting) if not valid else 0
        found.append(StageStatus(stage, valid, tuple(reasons), units))
    cell = info.get("best") if todo <= {"report"} else None
    for one in asked.off_target:
        reasons = find_lacking(folder, asked, one, cell)
        found.append(StageStatus(f"{FOLDER}/{one.name}", not reasons, tuple(reasons), 0))
    return found


def measure_units(folder: Path) -> tuple[int, int, int]:
    """How many units the directory has, their bytes, and how many of them are in no table."""
    units = store.list_units(folder)
    return len(units), sum(units.values()), len(_list_unused(folder, store.read_info(folder)))


def measure_store(folder: Path) -> tuple[str, int, int] | None:
    """The store of a run: where it is, and how many units are there, of whichever runs, with their bytes."""
    given = make_config(store.read_info(folder)["config"]).run.store
    if given is None:
        return None
    units = store.list_units(store.open_place(given))
    return given, len(units), sum(units.values())


def clean_run(folder: Path) -> tuple[int, int]:
    """Remove the units that no table needs any more; returns how many, and the bytes that this frees.

    Raises:
        InputError: A stage is not finished, whose units may be among them; or another process is at work there.
    """
    with store.hold_run(folder):
        for stage in find_status(folder):
            if stage.stage in _KINDS and not stage.made:
                raise InputError(
                    f"{folder}: the {stage.stage} stage is not finished, or stale, and units may be of use to it; "
                    f"finish it with `completions-lp run --out {folder}` first, or start afresh with --overwrite"
                )
        unused = _list_unused(folder, store.read_info(folder))
        removed, freed = len(unused), store.remove_units(folder, unused)
        for place in sorted(path.parent for path in (folder / FOLDER).glob("*/run.json")):
            more, bytes_freed = clean_run(place)
            removed, freed = removed + more, freed + bytes_freed
        return removed, freed


def _list_unused(folder: Path, info: Mapping[str, Any]) -> list[str]:
    used = {name for stage in info["stages"].values() for name in stage.get("units", ())}
    return [name for name in store.list_units(folder) if name not in used]


def _is_replaced(info: Mapping[str, Any]) -> bool:
    """Whether the files of the model that a run used are not what they were."""
    asked_for = {rival["name"] for rival in info["config"].get("rival", ()) if rival.get("model") is not None}
    rivals = [model for name, model in info.get("rivals", {}).items() if name in asked_for]
    told = [(model.get("asked"), model.get("files")) for model in (info.get("model", {}), *rivals)]
    return any(
        bool(files and asked) and stamp_model(asked["name"], asked["revision"]) != files for asked, files in told
    )
