"""Where things are: the run directory, the files that a run reads. Checked before anything slow is imported."""

import difflib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from completions_lp.job.config import EMBEDDED, Config, is_local, load_config, make_config
from completions_lp.records import InputError, describe_cause
from completions_lp.records.sources import find_file
from completions_lp.store import read_info


def name_folder(config: Path | None) -> Path:
    """A run directory that is not there yet, under ``runs/``, called after the configuration file."""
    stem = "tiny-chooser" if config is None else config.stem
    return Path("runs") / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def open_run(config: Path | None, folder: Path, overrides: Sequence[str], *, overwrite: bool) -> Config:
    """The configuration of a whole run that is to go into ``folder``; without a file that of the embedded model.

    Raises:
        InputError: The configuration is wrong, the folder holds a run already or can be none, or a file is missing.
    """
    opened = load_config(config or EMBEDDED, overrides)
    check_folder(folder)
    if (folder / "run.json").exists() and not overwrite:
        raise InputError(f"{folder} already holds a run; give another --out, or --overwrite to replace it")
    for stage in ("vector", "sample"):
        check_files(opened, stage)
    return opened


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
    return opened


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


def check_files(config: Config, stage: str) -> None:
    """Raise InputError for a local file that a stage reads and that is not there; what is on a hub is not asked for."""
    vector = [config.vector.path or config.vector.pairs, *config.controls.orthogonal_to]
    for source in {"vector": vector, "sample": [config.prompts.path]}.get(stage, []):
        if is_local(source) or source == config.vector.path:
            find_file(source)
