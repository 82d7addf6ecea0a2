"""Where things are: the run directory, the files that a run reads. Checked before anything slow is imported."""

import difflib
import os
import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from completions_lp.job.config import EMBEDDED, Config, find_function, load_config, make_config
from completions_lp.job.outset import check_input
from completions_lp.job.toml import is_local
from completions_lp.records import InputError, Labelling, describe_cause
from completions_lp.records.sources import find_file
from completions_lp.sample.functions import load_function
from completions_lp.store import Place, check_owned, check_place, list_units, open_place, read_info

GIVEN = ("weights", "config", "tokenizer", "prompts", "function", "pairs", "vector", "further", "confounds", "rivals")
"""What a run is given and does not make, of all that its stages consume."""


def name_folder(config: Path | None) -> Path:
    """A run directory that is not there yet, under ``runs/``, called after the configuration file."""
    stem = "tiny-chooser" if config is None else config.stem
    return Path("runs") / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def open_run(config: Path | None, folder: Path, overrides: Sequence[str], *, stored: Path | None = None) -> Config:
    """The configuration of a whole run that is to go into ``folder``.

    That of the file which is named, or of the run that is ``stored``, its ``run.json`` or the folder of it; else what
    the folder's own run was made with, if it holds one, or that of the embedded model.

    Raises:
        InputError: The configuration is wrong, a file is missing, or the folder can be no run directory.
    """
    if config is not None and stored is not None:
        raise InputError(f"{config} and --from {stored} are two configurations; give one")
    check_folder(folder)
    if stored is not None:
        opened = load_config(None, overrides, base=read_stored(stored).model_dump())
    elif config is None and (folder / "run.json").is_file():
        opened = load_config(None, overrides, base=make_config(read_info(folder)["config"]).model_dump())
    else:
        opened = load_config(config or EMBEDDED, overrides)
    check_owned(folder)
    for stage in ("vector", "sample"):
        check_files(opened, stage)
    check_input(opened, ("vector", "sample"))
    check_store(opened)
    return opened


def open_examined(place: Path | None, overrides: Sequence[str]) -> Config:
    """The configuration that the doctor examines: a file's, a run's by its folder, or that of the embedded model.

    Raises:
        InputError: The configuration is wrong, or a file is missing.
    """
    opened = _open_any(place, overrides)
    for stage in ("vector", "sample"):
        check_files(opened, stage)
    check_input(opened, ("vector", "sample"))
    return opened


def open_measured(place: Path | None, overrides: Sequence[str]) -> Config:
    """The configuration whose model and prompts a vector is measured on: as ``open_examined`` finds it.

    Raises:
        InputError: The configuration is wrong, or a file is missing.
    """
    opened = _open_any(place, overrides)
    check_files(opened, "sample")
    check_input(opened, ("sample",))
    return opened


def _open_any(place: Path | None, overrides: Sequence[str]) -> Config:
    """The configuration of a file, of a run by its folder, or that of the embedded model."""
    if place is not None and (place.is_dir() or place.name == "run.json"):
        return load_config(None, overrides, base=read_stored(place).model_dump())
    return load_config(place or EMBEDDED, overrides)


def read_stored(place: Path) -> Config:
    """The configuration of a stored run, by its folder or ``run.json``; a hub's model at the commit that it used."""
    folder = place.parent if place.name == "run.json" else place
    check_run(folder)
    info = read_info(folder)
    values = make_config(info["config"]).model_dump()
    if values["model"]["revision"] is None:
        values["model"]["revision"] = info.get("model", {}).get("revision")
    for rival in values["rival"]:
        if rival["model"] is not None and rival["revision"] is None:
            rival["revision"] = info.get("rivals", {}).get(rival["name"], {}).get("revision")
    return make_config(values)


def keeps_all(place: Path) -> bool:
    """Whether a stored run kept the tokens of every condition."""
    info = read_info(place.parent if place.name == "run.json" else place)
    return bool(info["stages"].get("score", {}).get("consumed", {}).get("kept") == "all")


def read_expected(place: Path) -> dict[str, dict[str, str]]:
    """By stage, what a stored run was given: weights, prompts, pairs, each as a hash."""
    info = read_info(place.parent if place.name == "run.json" else place)
    return {
        stage: {name: value for name, value in made.get("consumed", {}).items() if name in GIVEN}
        for stage, made in info["stages"].items()
    }


def open_stage(stage: str, folder: Path, config: Path | None, overrides: Sequence[str]) -> Config:
    """The configuration of one stage: the file that is named, else what the run directory was made with.

    Raises:
        InputError: No file is named and the folder holds no run; or as for ``open_run``.
    """
    if config is None or stage == "report":
        check_run(folder, *["--config CONFIG.toml starts a new run there"] * (stage in ("vector", "sample")))
    if config is None:
        opened = load_config(None, overrides, base=make_config(read_info(folder)["config"]).model_dump())
    else:
        opened = load_config(config, overrides)
    check_folder(folder)
    check_files(opened, stage)
    if stage != "report":
        check_input(opened, (stage,))
        check_store(opened)
    return opened


def open_rule(folder: Path, overrides: Sequence[str]) -> Labelling | None:
    """The label rule that overrides of ``label`` keys ask for, in the window of the folder's run; None without any.

    Raises:
        InputError: Another key is named, or the rule is wrong.
    """
    if not overrides:
        return None
    for override in overrides:
        if not override.strip().startswith("label."):
            raise InputError(f"--set {override}: only keys of [label] say how completions are labelled")
    within = read_info(folder)["config"].get("label", {}).get("within", 10)
    labelling = load_config(None, overrides, base={"label": {"within": within}}).labelling
    named = find_function(None, overrides)
    return replace(labelling, function=load_function(named)) if named else labelling


def check_run(folder: Path, *advice: str) -> None:
    """Raise InputError unless a folder holds a run; it names a run directory beside it whose name is close."""
    if not (folder / "run.json").is_file():
        beside = [path.parent.name for path in folder.parent.glob("*/run.json")]
        near = [f"did you mean {folder.parent / name}?" for name in difflib.get_close_matches(folder.name, beside, n=1)]
        raise InputError("; ".join([f"{folder}: not a run directory (no run.json)", *advice, *near]))


def check_folder(folder: Path) -> None:
    """Raise InputError where no run directory can be; makes none."""
    try:
        folder.exists()
    except (OSError, ValueError) as error:  # a name that is too long
        raise InputError(f"{folder}: cannot be made a run directory: {describe_cause(error)}") from None
    if "\0" in str(folder):
        raise InputError(f"{folder}: cannot be made a run directory: it has a NUL character")
    place = next(path for path in (folder, *folder.absolute().parents) if os.access(path, os.F_OK))
    if not place.is_dir():
        raise InputError(f"{folder}: cannot be made a run directory: {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot be made a run directory: no permission to write in {place}")
    try:
        tempfile.TemporaryFile(dir=place).close()  # a file system may be read-only for those who may do anything
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made a run directory: nothing can be written in {place}: {describe_cause(error)}"
        ) from None


def find_place(config: Config, folder: Path | None) -> Place | None:
    """Where the units of a run are: in its store, else in its folder; None where there is neither."""
    return folder if config.run.store is None else open_place(config.run.store)


def check_store(config: Config) -> None:
    """Raise InputError where the store of a run cannot be opened, or not be written to."""
    if config.run.store is not None:
        check_place(open_place(config.run.store))


def check_files(config: Config, stage: str) -> None:
    """Raise InputError for a local file that a stage reads and that is not there; what is on a hub is not asked for."""
    vector = [*(one.path or one.pairs for one in config.vectors), *config.controls.orthogonal_to]
    asked = [config.prompts.path] if any(rival.asks for rival in config.rival) else []
    sets = [one.path for one in config.off_target]
    for source in {"vector": vector, "sample": [config.prompts.path, *sets], "score": asked}.get(stage, []):
        finished = [one.path for one in config.vectors]
        if source in (*finished, *config.controls.orthogonal_to) and Path(source).expanduser().is_dir():
            continue  # files of another tool, which its reader looks for
        if is_local(source) or source in finished:
            find_file(source)


def tell_rest(folder: Path, asked: Sequence[str]) -> str:
    """Of a command, by its words, that was stopped on the way: what is kept, and how it goes on."""
    words = [word for word in asked if word != "--overwrite"]  # which would start afresh
    if words[0] == "run" and not any(word.partition("=")[0] == "--out" for word in words):
        words += ["--out", str(folder)]
    units, shared = len(list_units(folder)), None
    if (folder / "run.json").is_file():
        shared = read_info(folder)["config"].get("run", {}).get("store")
    kept = f"; {units} finished units are kept" if units else ""
    kept = f"; finished units are kept in {shared}" if shared is not None else kept
    return f"{kept}; go on with: completions-lp {shlex.join(words)}"
