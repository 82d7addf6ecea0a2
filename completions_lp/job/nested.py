"""The off-target sets of a run: runs of their own inside its directory, with its model and its vector."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from completions_lp import store
from completions_lp.job.config import Config
from completions_lp.job.off_target import FOLDER, OffTargetSection
from completions_lp.job.outset import make_set, naming
from completions_lp.job.provenance import find_reasons
from completions_lp.records import Report
from completions_lp.report.off_target import compare_sets
from completions_lp.work.hashes import hash_vectors


def check_sets(run: Any) -> None:
    """Raise InputError where the prompts of a set do not fit, or do not tell their answers apart."""
    for one in run.config.off_target:
        nested = type(run)(make_set(run.config, one), None, options=run.options)
        nested.share(run)
        with naming(one):
            nested.check_prompts()


def run_sets(run: Any, report: Report) -> tuple[dict[str, Report], bool]:
    """Do, or find, the runs of all sets; their reports by name, and whether anything was done.

    Where no cell is the best, there is nothing to do.
    """
    if report.best is None:
        run.options.tell("off-target sets are left out: no cell of the vector has a value")
        return {}, False
    cell, found, worked = vars(report.best.condition), {}, False
    with _find_vector(run) as vector:
        for one in run.config.off_target:
            place = None if run.folder is None else run.folder / FOLDER / one.name
            options = replace(run.options, expected={})
            nested = type(run)(make_set(run.config, one, vector=vector, cell=cell), place, options=options)
            nested.share(run)
            with naming(one):
                found[one.name] = nested.all()
            worked |= nested.has_worked
    return found, worked


def read_sets(
    folder: Path, config: Config, report: Report, load: Callable[[Path], Report]
) -> tuple[dict[str, Report], list[str]]:
    """The reports of the sets that are there and made as is asked for now, by name; and what the others lack."""
    found: dict[str, Report] = {}
    told = []
    cell = None if report.best is None else vars(report.best.condition)
    for one in config.off_target:
        reasons = find_lacking(folder, config, one, cell)
        if reasons:
            told.append(
                f"off-target set {one.name} is left out: {reasons[0]}; `completions-lp run --out {folder}` makes it"
            )
        else:
            found[one.name] = load(folder / FOLDER / one.name)
    return found, told


def find_lacking(folder: Path, config: Config, one: OffTargetSection, cell: Any) -> list[str]:
    """Why the tables of a set are not valid, in words; none where they are. ``cell`` is the run's best, if known."""
    place = folder / FOLDER / one.name
    if not (place / "run.json").is_file():
        return ["it has not been made"]
    if cell is None:
        return ["the best cell of the run is not known yet"]
    info = store.read_info(place)
    vector = _find_file(folder)
    asked = make_set(config, one, vector=vector, cell=cell).model_dump()
    # Which file the vector is in says nothing: its bytes are what was consumed.
    asked["vector"] = info["config"].get("vector", asked["vector"])
    then = info["stages"].get("vector", {}).get("consumed", {}).get("vector")
    reasons = [reason for stage in ("sample", "score") for reason in find_reasons(stage, asked, info["stages"], place)]
    if vector is not None and then is not None and then != hash_target(vector):
        reasons.append("the vector is not that which it was made with")
    return reasons


def hash_sets(report: Report) -> dict[str, str]:
    """Stands for what a report has of off-target sets; nothing where it has none."""
    return {"off_target": store.hash_value(repr(report.off_target))} if report.off_target else {}


def join_sets(report: Report, sets: dict[str, Report]) -> Report:
    """A report with what its vector does to off-target sets, and what these took."""
    if not sets:
        return report
    took = {name: {key: other.info.get(key, {}) for key in ("timings", "token_counts")} for name, other in sets.items()}
    return replace(report, off_target=compare_sets(report, sets), info={**report.info, "off_target": took})


def hash_target(path: Path) -> str:
    """Stands for the vector in a file as a run that reads it consumes it."""
    return hash_vectors([replace(store.read_vector(path), kind="target")])


def _find_file(folder: Path) -> Path | None:
    """The file of a run's own vector."""
    for path in sorted((folder / "vectors").glob("*.safetensors")):
        if store.read_vector(path).kind == "target":
            return path
    return None


@contextmanager
def _find_vector(run: Any) -> Iterator[Path]:
    """The file of the run's vector; a passing one where the run keeps none."""
    path = None if run.folder is None else _find_file(run.folder)
    if path is not None:
        yield path.resolve()
        return
    with tempfile.TemporaryDirectory() as place:
        target = next(vector for vector in run.vectors_made if vector.kind == "target")
        yield store.write_vector(Path(place), target)
